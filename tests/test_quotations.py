"""What stands between quotation marks was said: by the paper, or by whom this list names."""

import re
from pathlib import Path

import pytest

from lkm_kit.studies.quotations import PAPER, quoted_from

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "notebooks" / "GLOSSARY.md"]
CHAPTERS = sorted((ROOT / "notebooks" / "src").glob("*.py"))

# Quotations of two words and more that are not the paper's sentences.
OTHERS = {
    "terms of the field": {"batch dice", "silver standard", "one direction"},
    "words of the paper's tables and headings": {"kernel size", "large kernel", "large kernels"},
    "names and messages of programs": {"not a number", "device-side assert", "label 1", "not the paper's split"},
    "readings and columns that the text around them names": {
        "larger kernel", "longer sequences are better", "shorter sequences are better", "kernel size 40",
        "as the code only", "in the kit", "by chance", "not shown", "not there", "no difference shown",
        "everything else equal", "which field is larger?", "cnn against mamba",
        "network a is better than network b", "more careful", "over organs", "knows nothing", "the spread",
    },
}  # fmt: skip


def quotations(path):
    """(line, words) between quotation marks in a page or a chapter's Markdown; code is left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix == ".py":
        lines = [line.lstrip("# ") if line.startswith("#") else "" for line in lines]
    text = re.sub(r"```.*?```", lambda code: "\n" * code.group().count("\n"), "\n".join(lines), flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`|\$[^$\n]*\$", "", text)
    for match in re.finditer(r'"([^"]{1,300})"', text):
        words = " ".join(match.group(1).split()).rstrip(".,;")
        if " " in words:
            yield text.count("\n", 0, match.start()) + 1, words


@pytest.mark.parametrize("path", [*PAGES, *CHAPTERS], ids=lambda path: path.name)
def test_every_quotation_was_said(path):
    known = set().union(*OTHERS.values())
    wrong = [f"{n}: {q!r}" for n, q in quotations(path) if quoted_from(q) is None and q.lower() not in known]
    assert not wrong, f"{path.name} quotes what nobody has said: quote exactly, or tell it in your own words: {wrong}"


def test_the_list_names_what_is_quoted():
    quoted = {words.lower() for path in [*PAGES, *CHAPTERS] for _, words in quotations(path)}
    assert set().union(*OTHERS.values()) <= quoted
    assert any(quoted_from(words) == "abstract" for words in quoted)
    assert all(quoted_from(sentence) == part for part, said in PAPER.items() for sentence in said)
