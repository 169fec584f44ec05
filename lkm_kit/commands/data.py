"""``lkm data``: fetch and show data."""

from __future__ import annotations

import typer

app = typer.Typer(help="Fetch and show data.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps ``sample`` a subcommand while it is the only one."""


@app.command(epilog="Example:  lkm data sample")
def sample() -> None:
    """Fetch the real sample scans (once, checked by sha256) and say what they are, where from, under which licence."""
    from lkm_kit.data import load_sample, organs_present, sample_names, sample_source

    source = sample_source()
    if source is not None:
        print(source)
    for name in sample_names():
        case = load_sample(name)
        grid = "x".join(map(str, case.shape))
        spacing = "x".join(f"{s:g}" for s in case.spacing)
        print(f"\n{case.name}: {case.modality}, {grid} voxels of {spacing} mm")
        if case.label is not None:
            print("  " + ", ".join(f"{organ} {count}" for organ, count in organs_present(case.label).items()))
