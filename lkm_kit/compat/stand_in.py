"""``import mamba_ssm`` and ``import causal_conv1d`` where these packages are absent."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

from lkm_kit.errors import note
from lkm_kit.ssm.backends.cuda import STAND_IN

_SCAN = ("selective_scan_fn", "selective_scan_ref", "mamba_inner_fn", "mamba_inner_ref")
_FORKS = ("mamba_inner_fn_no_out_proj", "bimamba_inner_fn")
_CONVOLUTION = ("causal_conv1d_fn", "causal_conv1d_ref")
MODULES = {
    "mamba_ssm": ("Mamba", "Mamba2", "selective_scan_fn", "mamba_inner_fn"),
    "mamba_ssm.ops": (),
    "mamba_ssm.ops.selective_scan_interface": (*_SCAN, *_FORKS),
    "mamba_ssm.modules": (),
    "mamba_ssm.modules.mamba_simple": ("Mamba",),
    "mamba_ssm.modules.mamba2": ("Mamba2",),
    "causal_conv1d": ("causal_conv1d_fn",),
    "causal_conv1d.causal_conv1d_interface": _CONVOLUTION,
}
"""The modules that are put into ``sys.modules``, and what is in them."""


def install() -> tuple[str, ...]:
    """Let code that imports mamba_ssm or causal_conv1d find the kit's functions and layers, in this process.

    A package that is installed stays what it is; a note says which it was. A second call changes nothing.

    Returns:
        the packages that the kit now stands in for.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     _ = install()
    >>> from mamba_ssm.modules.mamba_simple import Mamba
    >>> sum(p.numel() for p in Mamba(8).parameters())
    1296
    >>> uninstall()
    """
    packages = [name for name in MODULES if "." not in name]
    stands_in = tuple(name for name in packages if is_stand_in(name) or not _there(name))
    for name, contents in MODULES.items():
        if name.partition(".")[0] in stands_in and name not in sys.modules:
            _add(name, contents)
    said = [f"{name} is installed and stays" for name in packages if name not in stands_in]
    said += [f"{name} is lkm_kit.compat's, as it is not installed" for name in stands_in]
    note("; ".join(said))
    return stands_in


def uninstall() -> None:
    """Undo :func:`install`: later imports do not find the kit's stand-ins.

    >>> uninstall()
    >>> is_stand_in("mamba_ssm")
    False
    """
    for name in MODULES:
        if is_stand_in(name):
            del sys.modules[name]


def is_stand_in(name: str) -> bool:
    """Whether a package of this name is the kit's.

    >>> is_stand_in("torch")
    False
    """
    return getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None) == STAND_IN


def _there(name: str) -> bool:
    return name in sys.modules or find_spec(name) is not None


def _add(name: str, contents: tuple[str, ...]) -> None:
    module = ModuleType(name, f"Stands in for {name}: see {STAND_IN}.")
    is_package = any(other.startswith(f"{name}.") for other in MODULES)
    module.__spec__ = ModuleSpec(name, None, origin=STAND_IN, is_package=is_package)
    if is_package:
        module.__path__ = []
    own = import_module(STAND_IN)
    for attribute in contents:
        setattr(module, attribute, getattr(own, attribute))
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
