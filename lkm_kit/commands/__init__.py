"""The subcommands of ``lkm``, one file each; imports that take time stand inside the functions."""
