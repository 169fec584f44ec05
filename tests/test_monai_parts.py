"""MONAI is imported through one function, which leaves out what takes most of the time and serves nothing here."""

import re
import sys
from pathlib import Path

import pytest

from lkm_kit import monai_parts
from lkm_kit.monai_parts import DETOURS, monai_part


def test_the_detours_are_hidden_while_monai_is_imported_and_only_then(monkeypatch):
    for name in ("monai", *DETOURS[1:]):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, DETOURS[0], sys)  # there already: it costs nothing more, and stays
    asked = []

    def import_module(name):
        asked.append(name)
        if name == "monai":
            assert sys.modules[DETOURS[0]] is sys
            for detour in DETOURS[1:]:
                with pytest.raises(ModuleNotFoundError):
                    __import__(detour)
            raise KeyboardInterrupt

    monkeypatch.setattr(monai_parts.importlib, "import_module", import_module)
    with pytest.raises(KeyboardInterrupt):
        monai_part("losses")
    assert asked == ["monai"] and not set(DETOURS[1:]) & set(sys.modules) and sys.modules[DETOURS[0]] is sys
    monkeypatch.setitem(sys.modules, "monai", sys)
    monai_part("losses")
    assert asked[1:] == ["monai.losses"], "a MONAI that is there is left as it is"


def test_the_kit_has_no_other_way_to_monai():
    package = Path(monai_parts.__file__).parent
    direct = re.compile(r"^\s*(from|import) monai\b", re.MULTILINE)
    assert [path.name for path in package.rglob("*.py") if direct.search(path.read_text(encoding="utf-8"))] == []
