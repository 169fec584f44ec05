"""Backends of the selective scan: one signature, several machines. See :mod:`lkm_kit.ssm.selective_scan`."""
