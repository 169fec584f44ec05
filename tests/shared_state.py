"""What all tests of a process share: changed by one test, it is put back before the next, so that no order matters."""

import contextlib
import os
import sys

import torch

TABLES = {
    "lkm_kit.blocks.mixers": ("MIXERS",),
    "lkm_kit.blocks.orders": ("ORDERS",),
    "lkm_kit.evaluation.metrics": ("METRICS",),
    "lkm_kit.networks.registry": ("_NETWORKS",),
    "lkm_kit.ssm.backends.kernel_cache": ("_troubles",),
}
"""Dicts and lists that anybody may add to, by the module that holds them."""


@contextlib.contextmanager
def put_back():
    """Environment, working folder, torch's settings and the kit's tables are afterwards what they were before."""
    environment, folder = dict(os.environ), os.getcwd()
    threads, dtype, grad = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    tables = [(table, table.copy()) for table in _tables()]
    try:
        yield
    finally:
        for name in {*os.environ, *environment} - {"PYTEST_CURRENT_TEST"}:
            if name not in environment:
                del os.environ[name]
            elif os.environ.get(name) != environment[name]:
                os.environ[name] = environment[name]
        os.chdir(folder)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        for table, before in tables:
            if table != before:
                table.clear()
                table.update(before) if isinstance(table, dict) else table.extend(before)


def _tables():
    """Those of modules that are imported: the others hold what they will be imported with."""
    return [getattr(sys.modules[module], name) for module in TABLES if module in sys.modules for name in TABLES[module]]
