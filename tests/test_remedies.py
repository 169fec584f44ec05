"""Remedies are true: every command, option, package, target, variable and name that an error offers exists."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import typer

from lkm_kit import cli

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "lkm_kit").rglob("*.py"))}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = {
    re.split(r"[<>=;\[ ]", text)[0]
    for texts in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for text in texts
}
OTHERS_OPTIONS = {"--verify_dataset_integrity"}  # of nnU-Net
GAP = "\0"


def text_of(node):
    """A literal's text; what an f-string fills in is a gap."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    if isinstance(node, ast.IfExp):
        return f"{text_of(node.body)} {GAP} {text_of(node.orelse)}"
    return GAP


def said():
    """(place, text) of every literal that errors can print: remedies, and what they are put together from."""
    for path, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            texts = []
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
                "KitError", "one_of", "Busy", "Unreachable", "read_json",
            ):  # fmt: skip
                texts = [*node.args, *(keyword.value for keyword in node.keywords)]
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("remedy", "message", "hint"):
                texts = [node.value]
            for text in filter(lambda text: text.strip(GAP), map(text_of, texts)):
                yield f"{path.relative_to(ROOT).as_posix()}:{node.lineno}", text


SAID = sorted(set(said()))
ROOT_COMMAND = typer.main.get_command(cli.app)


def options(command):
    """All options of a command and of those below it."""
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*(options(below) for below in getattr(command, "commands", {}).values()), {"--help"})


def commands_in(text):
    """The commands of ``lkm`` that a text names: their words."""
    for match in re.finditer(r"\blkm ((?:[a-z0-9-]+ ?)+)", text):
        yield match[1].split()


@pytest.mark.parametrize(("place", "text"), SAID, ids=[place for place, _ in SAID])
def test_what_a_message_offers_exists(place, text):
    for words in commands_in(text):
        command = ROOT_COMMAND
        for word in words:
            if not hasattr(command, "commands") or (command is not ROOT_COMMAND and word not in command.commands):
                break
            assert word in command.commands, f"there is no command lkm {' '.join(words)}"
            command = command.commands[word]
    for line in re.findall(r"`lkm ([^`]+)`", text):
        command = ROOT_COMMAND
        for word in line.split():
            command = getattr(command, "commands", {}).get(word, command)
            assert not word.startswith("--") or word in options(command), f"lkm {line} has no option {word}"
    for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", text):
        assert option in options(ROOT_COMMAND) | OTHERS_OPTIONS, f"no command has the option {option}"
    for extra in re.findall(r"'\.\[(\w+)\]'", text):
        assert extra in PROJECT["optional-dependencies"]
    for package in re.findall(r"pip install (?:-c \S+ )?([a-z][\w-]*)", text):
        assert package in PACKAGES, f"{package} is no package of this project"
    for target in re.findall(r"\bmake ([a-z]+)\b(?! *sure)", text):
        if re.search(rf"(run: |`)make {target}", text):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for variable in re.findall(r"\bLKM_[A-Z_]+", text):
        assert any(f'"{variable}"' in source for source in SOURCES.values()), f"nobody reads {variable}"
    for file in re.findall(r"\b[\w/]+\.(?:py|toml|txt)\b", text):
        assert (ROOT / file).exists(), f"there is no file {file}"
    for name in re.findall(r"\blkm_kit(?:\.\w+)+", text):
        module, _, attribute = name.rpartition(".")
        found = importlib.import_module(module)
        assert hasattr(found, attribute) or importlib.util.find_spec(name), name


@pytest.mark.parametrize("page", ["docs/own_data.md"])
def test_what_a_page_quotes_and_tells_to_type_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    commands = re.sub(r"^    (lkm .*?)(?: +#.*)?$", r"`\1`", text, flags=re.MULTILINE)
    assert commands.count("`lkm ") >= 10
    test_what_a_message_offers_exists(page, commands)
    literals = GAP.join(
        text_of(node) for source in SOURCES.values() for node in ast.walk(ast.parse(source)) if text_of(node) != GAP
    )
    quoted = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert len(quoted) >= 8
    for fragment in (part.strip(" ,") for line in quoted for part in line.split("...")):
        assert fragment in literals, f"{page} quotes what no message says: {fragment}"


def test_the_collection_finds_what_it_is_for():
    assert len(SAID) > 300
    assert any("lkm data sample" in text for _, text in SAID) and any("--leave-out" in text for _, text in SAID)
