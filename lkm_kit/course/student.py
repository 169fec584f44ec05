"""A student's own copies of the chapters: ``make student``, or ``lkm course student``.

They lie in ``work/``, which git ignores. What a student has changed there is never written over.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from lkm_kit.course.sources import chapters
from lkm_kit.errors import KitError
from lkm_kit.files import read_json, sha256, write_json, write_text

GLOSSARY = "GLOSSARY.md"
OUTSIDE = re.compile(r"\[([^\[\]]+)\]\(\.\./\.\./([^)\s]+)\)")
"""A link of a student copy to a file of the checkout that lies above the chapters."""
RECORD = ".handed_out.json"
"""In the folder: chapter -> digest of the copy as it was handed out, so that an untouched one can be renewed."""


class HandedOut(NamedTuple):
    """Names of chapters: copied for the first time, renewed because only the course's text had changed, left alone
    because the student's copy has changed. Then those of the last kind for which the course has a newer text."""

    new: list[str]
    renewed: list[str]
    kept: list[str]
    behind: list[str]

    def text(self, folder: Path) -> str:
        """What happened, for the terminal."""
        lines = [f"{len(list(folder.glob('*.ipynb')))} chapters in {folder}"]
        lines += [f"your own answers are kept in: {', '.join(self.kept)}"] * bool(self.kept)
        lines += [f"renewed: {', '.join(self.renewed)}"] * bool(self.renewed)
        if self.behind:
            lines.append(f"a newer text than yours lies in notebooks/student: {', '.join(self.behind)}")
        return "\n".join(lines)


def hand_out(root: Path, folder: Path) -> HandedOut:
    """Copy the chapters without solutions into ``folder``, and keep what a student has changed there.

    Args:
        root: of the checkout; its files stay as they are.
        folder: of the copies; the glossary lies beside them. Links to other files of the checkout stay links where
            the folder lies in the checkout, and become plain text elsewhere.

    Raises:
        KitError: a chapter's student copy was not built.
    """
    done = HandedOut([], [], [], [])
    record = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    for source in chapters(root):
        built, own = root / "notebooks" / "student" / f"{source.stem}.ipynb", folder / f"{source.stem}.ipynb"
        if not built.is_file():
            raise KitError(f"there is no student copy of {source.stem}", remedy="run: make notebooks")
        text = _relink(built.read_text(encoding="utf-8"), root, folder)
        if own.is_file() and sha256(own) != record.get(own.name):
            done.kept.append(source.stem)
            if record.get(f"{own.name} of the course") != sha256(built):
                done.behind.append(source.stem)
            continue
        known = own.is_file()
        if not known or own.read_text(encoding="utf-8") != text:
            write_text(own, text)
            (done.renewed if known else done.new).append(source.stem)
        record |= {own.name: sha256(own), f"{own.name} of the course": sha256(built)}
    write_text(folder / GLOSSARY, (root / "notebooks" / GLOSSARY).read_text(encoding="utf-8"))
    write_json(folder / RECORD, record)
    return done


def _relink(text: str, root: Path, folder: Path) -> str:
    text = text.replace(f"](../{GLOSSARY})", f"]({GLOSSARY})")
    if not folder.resolve().is_relative_to(root.resolve()):
        return OUTSIDE.sub(r"\1", text)
    up = Path(os.path.relpath(root.resolve(), folder.resolve())).as_posix()
    return OUTSIDE.sub(rf"[\1]({up}/\2)", text)
