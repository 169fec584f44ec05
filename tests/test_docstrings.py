"""Every example in a docstring runs and prints what it says; every public thing has a docstring."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import lkm_kit

MODULES = sorted(module.name for module in pkgutil.walk_packages(lkm_kit.__path__, "lkm_kit."))


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    if "triton" in name:
        pytest.importorskip("triton", reason="Triton is published for Linux alone")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LKM_RUNS", str(tmp_path / "runs"))
    module = importlib.import_module(name)
    if hasattr(module, "display"):  # outside a notebook it prints
        monkeypatch.setattr(module, "display", lambda *_: None)
        monkeypatch.setattr("ipywidgets.Output.clear_output", lambda *_, **__: None)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(module, optionflags=flags).failed == 0
    assert module.__doc__, f"{name} does not say what it is for"


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_and_classes_say_what_they_do(name):
    if "triton" in name:
        pytest.importorskip("triton", reason="Triton is published for Linux alone")
    module = importlib.import_module(name)
    for attribute, thing in vars(module).items():
        own = getattr(thing, "__module__", None) == name and not attribute.startswith("_")
        if own and (inspect.isfunction(thing) or inspect.isclass(thing)):
            assert (thing.__doc__ or "").strip(), f"{name}.{attribute} has no docstring"
