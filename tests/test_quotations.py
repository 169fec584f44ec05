"""What stands between quotation marks was said: by the paper, its authors, its code, or by whom this list names."""

import ast
import re
from pathlib import Path

import pytest
from quotations import SAID, quoted_from

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "notebooks" / "GLOSSARY.md"]
CHAPTERS = sorted((ROOT / "notebooks" / "src").glob("*.py"))

# Quotations of two words and more that are not the paper's sentences.
OTHERS = {
    "terms of the field": {"batch dice", "silver standard", "one direction"},
    "words of the paper's tables and headings": {"kernel size", "large kernels"},
    "names and messages of programs": {"not a number", "device-side assert", "label 1", "not the paper's split"},
    "readings and columns that the text around them names": {
        "larger kernel", "longer sequences are better", "shorter sequences are better", "kernel size 40",
        "as the code only", "in the kit", "by chance", "not shown", "not there", "no difference shown",
        "everything else equal", "which field is larger?", "cnn against mamba",
        "network a is better than network b", "more careful", "over organs", "knows nothing", "the spread",
    },
}  # fmt: skip
IN_THE_PACKAGE = {"bag of tricks", "stage 2", "0 pim"}  # a title; what messages and tables print


def quotations(text):
    """(line, words) between quotation marks; code, formulas and the attributes of HTML are left out."""
    text = re.sub(r"```.*?```", lambda code: "\n" * code.group().count("\n"), text, flags=re.DOTALL)
    text = re.sub(r'``[^`]*``|`[^`\n]*`|\$[^$\n]*\$|(?<=[\w-]=)"[^"\n]*"(?=[^<\n]*>)', "", text)
    for match in re.finditer(r'"([^"]{1,300})"', text):
        words = " ".join(match.group(1).split()).rstrip(".,;")
        if " " in words:
            yield text.count("\n", 0, match.start()) + 1, words


def markdown(path):
    """The text of a page, or of a chapter without its code; lines keep their numbers."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix == ".py":
        lines = [line.removeprefix("#").removeprefix(" ") if line.startswith("#") else "" for line in lines]
    return "\n".join(lines)


def unsaid(text, *known):
    known = set().union(*known)
    return [f"{n}: {q!r}" for n, q in quotations(text) if quoted_from(q) is None and q.lower() not in known]


@pytest.mark.parametrize("path", [*PAGES, *CHAPTERS], ids=lambda path: path.name)
def test_every_quotation_was_said(path):
    wrong = unsaid(markdown(path), *OTHERS.values())
    assert not wrong, f"{path.name} quotes what nobody has said: quote exactly, or tell it in your own words: {wrong}"


def test_every_string_that_names_the_paper_quotes_what_was_said():
    """Docstrings, captions, messages and tables of the package, as far as they speak of paper, abstract or authors."""
    speaks = re.compile(r"\b(paper|abstract|authors?)\b")
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}, line {found}"
        for path in sorted((ROOT / "lkm_kit").rglob("*.py"))
        if speaks.search(source := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and speaks.search(node.value)
        for found in unsaid(re.sub(r">>>.*", "", node.value, flags=re.DOTALL), IN_THE_PACKAGE, *OTHERS.values())
    ]
    assert not wrong, f"quote exactly, or tell it in your own words: {wrong}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_what_the_paper_claims_is_quoted_or_told_in_our_words(path):
    """A chapter's claims stand under one of three heads; each says whose words they are."""
    for part in markdown(path).split("\n\n"):
        if re.match(r"\*\*(The paper's claim|The claims)|> \*Paper", part):
            theirs = any(quoted_from(words) for _, words in quotations(part))
            assert theirs or "in our words" in " ".join(part.split()) or "$" in part, part


def test_the_list_names_what_is_quoted():
    quoted = {words.lower() for path in [*PAGES, *CHAPTERS] for _, words in quotations(markdown(path))}
    assert set().union(*OTHERS.values()) <= quoted
    sources = {quoted_from(words) for words in quoted}
    assert {"paper, abstract", "paper, Section 3.2", "authors, issue 5", "released code, a comment"} <= sources
    assert all(quoted_from(part) == source for source, said in SAID.items() for part in said)
