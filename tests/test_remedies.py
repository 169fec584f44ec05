"""Remedies are true: what they offer exists, command lines parse, and who does as they say gets past the mistake."""

import ast
import contextlib
import importlib
import re
import shlex
from pathlib import Path

import nibabel
import numpy as np
import pytest
import typer
from own_data import make_data
from typer.testing import CliRunner

from lkm_kit import cli
from lkm_kit.errors import KitError
from lkm_kit.studies import study_names

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


OFFER = re.compile(r"\blkm |--[a-z]|'\.\[|pip install|\bmake |\bLKM_|\.(?:py|toml|txt)\b|\blkm_kit\.")
TEXTS = set(said())
SAID = sorted((place, text) for place, text in TEXTS if OFFER.search(text))
"""Those that offer anything: a command, an option, an extra, a package, a target, a variable, a file, a name."""
ROOT_COMMAND = typer.main.get_command(cli.app)


def options(command):
    """All options of a command and of those below it."""
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*(options(below) for below in getattr(command, "commands", {}).values()), {"--help"})


def commands_in(text):
    """The commands of ``lkm`` that a text names: their words."""
    for match in re.finditer(r"\blkm ((?:[a-z0-9-]+ ?)+)", text):
        yield match[1].split()


def parse(line):
    """Read a command line as ``lkm`` would, and do nothing; a gap is some value."""
    command, words = ROOT_COMMAND, shlex.split(line.replace(GAP, "1"))
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if words:  # else it is a command's name alone
        with contextlib.suppress(typer.Exit):  # of --help
            command.make_context("lkm", words)


@pytest.mark.parametrize(("place", "text"), SAID, ids=[place for place, _ in SAID])
def test_what_a_message_offers_exists(place, text):
    for words in commands_in(text):
        command = ROOT_COMMAND
        for word in words:
            if not hasattr(command, "commands") or (command.name == "study" and word in study_names()):
                break  # what follows are a command's own words
            assert word in command.commands, f"there is no command lkm {' '.join(words)}"
            command = command.commands[word]
    for line in re.findall(r"`lkm ([^`]+)`", text):
        parse(line)
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


@pytest.mark.parametrize("text", ["run `lkm data sampel`", "lkm data sampel, once", "`lkm study tabel3`", "lkm trian"])
def test_a_command_that_does_not_exist_is_noticed(text):
    with pytest.raises(AssertionError, match="there is no command lkm"):
        test_what_a_message_offers_exists("here", text)


@pytest.mark.parametrize("page", ["docs/own_data.md"])
def test_what_a_page_quotes_and_tells_to_type_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    joined = re.sub(r" \\\n +", " ", text)  # a command over several lines
    commands = re.sub(r"^    (lkm .*?)(?: +#.*)?$", r"`\1`", joined, flags=re.MULTILINE)
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
    assert len(TEXTS) > 300 and len(SAID) > 100
    assert any("lkm data sample" in text for _, text in SAID) and any("--leave-out" in text for _, text in SAID)


class Arrived(Exception):
    """A command has understood everything, and would begin to compute."""


OFFERED = r"did you mean '([^']+)'\?"
SMOKE = "--profile smoke"
FOLLOWED = [
    ("train --profile smok", OFFERED, "train --profile {}"),
    (f"train {SMOKE} --set iteration=3", OFFERED, f"train {SMOKE} --set {{}}=3"),
    (f"train {SMOKE} --set optimizer=adam", r"one of (\w+),", f"train {SMOKE} --set optimizer={{}}"),
    (f"train {SMOKE} --set batch_size", r"for instance (--set \S+)", f"train {SMOKE} {{}}"),
    (f"train {SMOKE} --freeze-encoder", r"add (--start) RUN", f"train {SMOKE} --freeze-encoder {{}} tiny-2d"),
    (f"train {SMOKE} --fold 1", r"lkm (train --data) FOLDER", f"{{}} mine {SMOKE} --fold 1"),
    (f"study run tabel3 {SMOKE}", OFFERED, f"study run {{}} {SMOKE}"),
    (f"study run table3 {SMOKE} --arms pimm", OFFERED, f"study run table3 {SMOKE} --arms {{}}"),
    (f"study run table3 {SMOKE} --folds 0", r"with (--data)", f"study run table3 {SMOKE} --folds 0 {{}} mine"),
    (
        f"study run table3 {SMOKE} --data mine --folds a",
        r"(--folds \S+);",
        f"study run table3 {SMOKE} --data mine {{}}",
    ),
    (f"study run table3 {SMOKE} --seeds 0", r"(--seeds \d)", f"study run table3 {SMOKE} {{}}"),
    (f"study report table3 {SMOKE}", r"lkm (study run .*)", "{}"),
    (f"study status {SMOKE}", r"lkm (study list)", "{}"),
    ("erf tiny-2e --noise", OFFERED, "erf {} --noise"),
    ("erf tiny-2d --noise --position centre", OFFERED, "erf tiny-2d --noise --position {}"),
    ("erf tiny-2d --noise --rule sun", OFFERED, "erf tiny-2d --noise --rule {}"),
    ("erf tiny-2d --noise --cls livver", OFFERED, "erf tiny-2d --noise --cls {}"),
    ("erf tiny-2d --noise --size 96", r"(--size \d+,\d+)", "erf tiny-2d --noise {}"),
    ("erf tiny-2d --noise --protocol lou", OFFERED, "erf tiny-2d --noise --protocol {}"),
    ("evaluate tiny-2d --rule plane", OFFERED, "evaluate tiny-2d --rule {}"),
    ("evaluate nowhere", r"one of ([\w-]+),", "evaluate {}"),
    ("predict scan.nii.gz -o seg.nii.gz", r"run `lkm (train)` first", f"{{}} {SMOKE}"),
    ("predict scan.nii.gz -o seg.png --run tiny-2d", r"write to (\S+),", "predict scan.nii.gz -o {} --run tiny-2d"),
    ("predict scans -o s.nii.gz --run tiny-2d", r"a folder: (-o \S+)", "predict scans {} --run tiny-2d"),
    (
        "predict scan.nii.gz -o s.nii --overlap 2",
        r"(0\.5)",
        "predict scan.nii.gz -o s.nii --run tiny-2d --overlap {}",
    ),
    ("data check nowhere", r"`lkm (data hippocampus)`", "{} --help"),
    ("figures token_order", r"choose from (\w+),", "figures {} --help"),
]


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = make_data(tmp_path_factory.mktemp("remedies") / "mine", cases=5, test=1)
    (folder.parent / "scans").mkdir()
    scan = np.arange(4096, dtype=np.int16).reshape(16, 16, 16)
    for path in ("scan.nii.gz", "scans/a.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(scan, np.diag([3.0, 3, 3, 1])), folder.parent / path)
    return folder.parent


def outcome(line):
    """The KitError that a command line ends in; None where it ends well, or would begin to compute."""
    error = CliRunner().invoke(cli.app, shlex.split(line)).exception
    if error is None or isinstance(error, (KitError, Arrived)) or (isinstance(error, SystemExit) and not error.code):
        return error if isinstance(error, KitError) else None
    raise error


@pytest.mark.parametrize(("mistake", "offer", "mended"), FOLLOWED, ids=[mistake for mistake, *_ in FOLLOWED])
def test_who_follows_a_remedy_gets_past_the_mistake(mistake, offer, mended, mine, tmp_path, monkeypatch):
    def arrived(*_args, **_how):
        raise Arrived

    monkeypatch.chdir(mine)
    for name in ("LKM_RUNS", "LKM_DATA"):
        monkeypatch.setenv(name, str(tmp_path))
    for place in ("data.sample_source", "training.make_datasets", "erf.erf", "evaluation.predict_case"):
        monkeypatch.setattr(f"lkm_kit.{place}", arrived)
    monkeypatch.setattr("lkm_kit.studies.runner.run_study", arrived)
    error = outcome(mistake)
    assert error is not None and error.remedy, "it is no mistake"
    found = re.search(offer, str(error))
    assert found, str(error)
    line = mended.format(*found.groups())
    parse(line)
    assert outcome(line) is None, line
