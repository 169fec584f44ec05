"""One vocabulary: the field's words in every text that a reader meets, and quotations only of what was really said."""

import ast
import doctest
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

# A word to avoid (as a regular expression) and the field's term.
INSTEAD_OF = {
    r"influences?": "Jacobian norm",
    r"(?:exact|gradient|pixel's|probe's|layer's) support": "theoretical receptive field",
    r"warps?": "deformed copy",
    r"swings? and d(?:ie|ies) away": "oscillate and decay",
    r"put(?:s|ting)? (?:it |the recurrence )?into itself": "unroll",
    r"equal diagonals": "Toeplitz",
    r"chain that can be a tree|(?:run|runs) (?:it |the scan )?as a tree": "parallel prefix scan",
    r"can speak": "has output heads",
    r"(?:silent(?:ly)? |released |its )?ways? out": "(silent) fallback, or remedy",
    r"chance (?:in|of) a single run": "run-to-run variation",
    r"(?:hold|holds|holding|held) the truth": "covers the true value",
    r"knows? little": "wide because there are few seeds",
    r"lotter(?:y|ies)": "false positive, or a mean over learnt and unlearnt runs",
    r"laws?": "symmetry",
    r"strangers?": "the other patient, or what does not belong",
    r"gravely|surely|provably": "say what was measured",
    r"tokens in a row": "tokens per sequence",
    r"released weights|authors' weights": "state dicts of the released code (no weights were published)",
}
PARSER = doctest.DocTestParser()
PATTERNS = {re.compile(rf"(?<![\w./-])(?:{word})(?![\w/-])", re.IGNORECASE): term for word, term in INSTEAD_OF.items()}


def prose(text):
    """A text without its code, its doctests and the addresses of its links."""
    told = "".join(part for part in PARSER.parse(text) if isinstance(part, str))
    return re.sub(r"``[^`]*``|`[^`]*`|\]\([^)]*\)", "", told)


def texts():
    """(where, text) of every text: pages, the chapters' Markdown, every string of package and chapters but names."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "notebooks" / "GLOSSARY.md"]
    for path in [*pages, *sorted((ROOT / "notebooks" / "src").glob("*.py"))]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if path.suffix == ".md" or line.startswith("#"):
                yield f"{path.relative_to(ROOT)}:{number}", prose(line)
    for path in [*sorted((ROOT / "lkm_kit").rglob("*.py")), *sorted((ROOT / "notebooks" / "src").glob("*.py"))]:
        if path.parent.name == "backends":
            continue  # a GPU's warps are warps
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.strip().isidentifier():
                yield f"{path.relative_to(ROOT)}:{node.lineno}", prose(node.value)


def test_texts_use_the_fields_words():
    found = [
        f"{where}: {match.group()!r}: rather {term}"
        for where, text in texts()
        for pattern, term in PATTERNS.items()
        for match in pattern.finditer(text)
    ]
    assert not found, "\n".join(found)


def test_the_list_finds_what_it_names():
    said = "Its influence, the exact support, warps; a silent way out, two ways out; a law, a lottery; tokens in a row."
    found = {match.group().lower() for pattern in PATTERNS for match in pattern.finditer(said)}
    assert {"influence", "exact support", "warps", "silent way out", "law", "lottery", "tokens in a row"} <= found
    code = prose("`influence` and ``warps``\n\n>>> warps(1)\n'warp'\n\n[a](../warps.md)")
    assert not any(pattern.search(code) for pattern in PATTERNS)


PAGES = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")


def sentences(text):
    """Sentences of a page or of a chapter's Markdown, without code, formulas, tables, headings and links' addresses."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$|^(?: {4}|\||#|!\[).*?$", "\n\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "x", re.sub(r"\]\([^)]*\)", "", text))
    for part in re.split(r"\n\s*\n|\n\s*(?:[*>-]|\d+\.) ", text):
        yield from re.split(r"(?<=[.!?:])[)*\"]*\s+", " ".join(part.split()))


def test_sentences_are_short():
    folders = (ROOT / "docs", ROOT / "notebooks")
    read = [*(ROOT / name for name in PAGES), *(path for folder in folders for path in folder.glob("*.md"))]
    pages = {path: path.read_text(encoding="utf-8") for path in read}
    for path in (ROOT / "notebooks" / "src").glob("*.py"):
        cells = re.findall(r"^# %% \[markdown\]\n((?:#.*\n)*)", path.read_text(encoding="utf-8"), re.MULTILINE)
        pages[path] = "\n\n".join(re.sub(r"^# ?", "", cell, flags=re.MULTILINE) for cell in cells)
    for path in (ROOT / "figures").glob("*.json"):
        pages[path] = json.loads(path.read_text(encoding="utf-8"))["text"]
    assert len(pages) > 50
    told = [(path.name, sentence) for path, text in pages.items() for sentence in sentences(text)]
    counted = [(len(re.findall(r"[^\W_]\S*", sentence)), name, sentence) for name, sentence in told]
    assert sum(words > 5 for words, *_ in counted) > 2500
    assert [row for row in counted if row[0] > 25] == []
