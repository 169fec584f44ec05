"""The project's own files: versions agree, everything is pinned, nothing names a machine, README's table is true."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lkm_kit import __version__
from lkm_kit.commands import doctor
from lkm_kit.figures.registry import DRAWINGS
from lkm_kit.plots.style import dark_form

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"torch": "pytorch"}  # where conda-forge calls a package by another name


def pyproject():
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(*extras):
    """What the kit asks for with these extras; an extra that is made of others is opened."""
    project, found, wanted = pyproject(), {}, list(extras)
    lines = list(project["dependencies"])
    while wanted:
        lines += project["optional-dependencies"][wanted.pop()]
        for line in [line for line in lines if line.startswith("lkm-kit[")]:
            lines.remove(line)
            wanted += Requirement(line).extras
    for line in lines:
        found.setdefault(line, Requirement(line))
    return list(found.values())


def constraints():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def environment(name):
    """Packages of a conda file: name -> specifier; and the lines of its pip section."""
    parsed = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    conda = [Requirement(line) for line in parsed["dependencies"] if isinstance(line, str)]
    (section,) = (entry["pip"] for entry in parsed["dependencies"] if isinstance(entry, dict))
    return parsed, {r.name: r for r in conda}, section


@pytest.mark.parametrize(
    ("name", "extras"), [("environment.yml", ("notebooks",)), ("environment-gpu.yml", ("notebooks", "gpu"))]
)
def test_conda_files_have_every_package_at_the_same_floor(name, extras):
    parsed, conda, pip = environment(name)
    assert parsed["channels"][0] == "conda-forge"
    assert str(conda["python"].specifier) == pyproject()["requires-python"]
    assert pip[-1] == "-e ."  # the kit itself
    listed = {**{n: r for n, r in conda.items()}, **{r.name: r for r in map(Requirement, pip[:-1])}}
    for wanted in requirements(*extras):
        there = listed.pop(CONDA_NAMES.get(wanted.name, wanted.name))
        assert there.specifier == wanted.specifier, f"{name}: {there}, pyproject: {wanted}"
    build = "pytorch-gpu" if "gpu" in extras else "pytorch-cpu"
    assert listed[build].specifier == conda["pytorch"].specifier
    assert set(listed) == {"python", "pip", build}  # and nothing that pyproject does not ask for


def test_the_ways_to_a_gpu_agree_with_the_project():
    """What docs/install.md tells to type: packages and extras that pyproject names, a torch that it takes."""
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    own = requirements("gpu", "notebooks")
    floors = {canonicalize_name(wanted.name): wanted.specifier for wanted in own}
    (torch,) = re.findall(r"pip install 'torch==([\d.]+)\.\*'", page)
    assert floors["torch"].contains(f"{torch}.0")
    pinned = next(pin for pin in constraints() if pin.name == "torch")
    assert not pinned.specifier.contains(f"{torch}.0") and "Not with `constraints.txt`" in page
    gpu = {canonicalize_name(wanted.name): wanted.specifier for wanted in requirements("gpu")}
    line = re.search(r"(MAMBA_KEEP_CUDA_BUILD=TRUE pip install --no-build-isolation (.+))$", page, re.MULTILINE)
    for wanted in map(Requirement, line[2].replace("'", "").split()):
        assert all(gpu[wanted.name].contains(str(one.version).replace("*", "0")) for one in wanted.specifier)
    assert doctor.BRINGING["cuda"].startswith(line[1])
    for extra in re.findall(r"'?\.\[(\w+)\]", page):
        assert extra in pyproject()["optional-dependencies"]
    dates = [(ROOT / "environment-gpu.yml").read_text(encoding="utf-8"), page]
    assert re.search(r"Checked on \d{4}-\d\d-\d\d", dates[0]) and re.search(r"checked on \d+ \w+ \d{4}", dates[1])


def test_the_cpu_environment_asks_for_nothing_that_needs_cuda():
    _, conda, pip = environment("environment.yml")
    assert not {"mamba-ssm", "causal-conv1d", "pytorch-gpu", "triton"} & set(conda)
    assert not any("mamba" in line for line in pip)


@pytest.mark.parametrize("python", ["3.10.12", "3.11.2", "3.12.1", "3.13.0"])
def test_every_requirement_is_pinned_once_and_the_pin_satisfies_it(python):
    environment = {"python_version": python.rpartition(".")[0], "python_full_version": python, "extra": ""}
    pins = {}
    for pin in constraints():
        if pin.marker is None or pin.marker.evaluate(environment):
            assert canonicalize_name(pin.name) not in pins, f"{pin.name} is pinned twice on {python}"
            assert re.fullmatch(r"==[^,*+]+", str(pin.specifier)), f"{pin} is no exact public version"
            pins[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
    for wanted in requirements("dev"):
        if wanted.marker is None or wanted.marker.evaluate(environment):
            assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), wanted
    # together: PyPI's torch for Linux, built with CUDA, asks for exactly one triton, and the CPU build for none
    assert (pins["torch"], pins["triton"]) == ("2.13.0", "3.7.1")
    assert "lkm-kit" not in pins


def tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    files = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in files if path.is_file()]


def text_of(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def test_no_registry_host_and_no_folder_of_this_machine_in_tracked_files():
    registries = [
        "py" + "pi.org",
        "pytho" + "nhosted",
        "test." + "pypi",
        "download." + "pytorch",
        "conda." + "anaconda",
    ]
    registries += ["/opt/" + "pypi", "file:" + "///opt"]
    folders = [str(ROOT) + "/", "/".join(["", "work", "main"]), "/".join(["", "work", "shared"])]
    for path in tracked():
        text = text_of(path)
        for word in registries + folders:
            assert word not in text, f"{path.relative_to(ROOT)} names {word}"


def test_nothing_is_left_unfinished():
    words = re.compile(r"\b({})\b".format("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "raise NotImplemented"])))
    for path in tracked():
        if path.relative_to(ROOT).parts[0] in ("lkm_kit", "data_scripts", "notebooks") and path.suffix == ".py":
            assert not words.search(text_of(path)), path


def test_no_two_places_share_ten_lines():
    """Blank lines and comments apart. mamba_ssm's signature is repeated where it must be the same to the letter."""
    places = {}
    for path in sorted((ROOT / "lkm_kit").rglob("*.py")):
        lines = [" ".join(line.split()) for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        for i in range(len(lines) - 9):
            places.setdefault(tuple(lines[i : i + 10]), []).append(path.relative_to(ROOT / "lkm_kit").as_posix())
    assert len(places) > 20000
    shared = {tuple(where) for where in places.values() if len(where) > 1}
    assert shared <= {("compat/mamba2.py", "ssm/mamba2.py")}, shared


def test_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__ == pyproject()["version"]
    assert citation["license"] == pyproject()["license"]["text"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    (paper,) = citation["references"]
    assert "2403.07332" in str(paper) and [a["family-names"] for a in paper["authors"]] == [
        "Wang",
        "Chen",
        "Chen",
        "Wu",
    ]


def test_licence_and_changelog():
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in licence and "END OF TERMS AND CONDITIONS" in licence
    assert re.search(
        rf"^## \[(Unreleased|{re.escape(__version__)})\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )


def test_readme_tells_the_chapters_that_are_there():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(notebooks/(\d\d_\w+)\.ipynb\)", readme))
    assert linked == {path.stem for path in (ROOT / "notebooks" / "src").glob("[0-9][0-9]_*.py")}
    numbers = re.findall(r"^\| (\d\d) \|", readme, re.MULTILINE)
    assert numbers == sorted(set(numbers)) and {stem[:2] for stem in linked} <= set(numbers)


def _docs():
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md"))]


def test_readme_is_read_in_minutes():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 120
    assert all(f"]({page})" in readme for page in _docs()), "a page of docs/ that README does not lead to"


def test_local_links_and_pictures_lead_somewhere():
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "notebooks/README.md", *_docs()):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)\)", text) + re.findall(r'src(?:set)?="([^"]+)"', text):
            if not target.startswith(("http:", "https:", "mailto:")):
                assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_readme_names_targets_that_make_has():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "CONTRIBUTING.md", ".ci/run"))
    named = set(re.findall(r"`make ([a-z]+)|^(?:    )?make ([a-z]+)", text, re.MULTILINE))
    assert {"tutorial", "test", "lab", "notebooks", "figures", "lint"} <= targets
    assert {a or b for a, b in named} <= targets


def test_every_committed_figure_has_a_caption_and_a_reader():
    dark = {dark_form(ROOT / "figures" / f"{name}.png") for name in DRAWINGS}
    pictures = {*(ROOT / "figures").glob("*.png")} - dark
    assert all(path.is_file() for path in dark)
    for picture in pictures:
        caption = yaml.safe_load(picture.with_suffix(".json").read_text(encoding="utf-8"))
        assert {"text", "config", "profile", "seed", "version"} <= set(caption)
    captions = {path.stem for path in (ROOT / "figures").glob("*.json")}
    assert captions == {path.stem for path in pictures}


def test_ci_checks_style_and_then_calls_the_readme_s_test_command():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert [line for line in script.read_text(encoding="utf-8").splitlines() if line.startswith("make ")] == [
        "make lint",
        "make test",
    ]
    (lint,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][1]["hooks"]
    before_a_commit = {Path(hook["entry"].split()[0]).name for hook in hooks}
    assert set(re.findall(r"\$\(BIN\)/(\w+) ", lint)) == before_a_commit == {"ruff", "basedpyright", "lkm"}
    assert subprocess.run(["bash", "-n", script]).returncode == 0


def test_make_reuses_an_environment_and_remakes_a_stale_one(tmp_path):
    """With a stand-in for Python that only notes its calls: the first call installs, the second one does not."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    stand_in = tmp_path / "python"
    stand_in.write_text(
        "#!/bin/sh\n"
        'echo "$@" >> calls.txt\n'
        'if [ "$2" = venv ]; then for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python"; fi\n'
    )
    stand_in.chmod(0o755)

    # what the make that runs these tests was told, its VENV above all, is not for this one
    chosen = re.findall(r"^([A-Z_]+) \?=", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    env = {name: value for name, value in os.environ.items() if name not in {*chosen, "MAKEFLAGS", "MFLAGS"}}

    def make():
        (tmp_path / "calls.txt").write_text("")
        subprocess.run(["make", "test", f"PYTHON={stand_in}"], cwd=tmp_path, env=env, check=True, capture_output=True)
        return (tmp_path / "calls.txt").read_text()

    first, second = make(), make()
    assert "-m pip install -c constraints.txt -e" in first and "-m venv" in first
    assert "install" not in second and "-m pytest" in second
    later = (tmp_path / ".venv" / ".installed").stat().st_mtime + 5
    os.utime(tmp_path / "constraints.txt", (later, later))
    third = make()
    assert "-m pip install" in third and "-m venv" not in third


def test_workflows_call_targets_that_make_has_and_more_than_its_default():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
    marks = re.search(r"^MARKS \?= (.+)$", makefile, re.MULTILINE)[1]
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    called = set(re.findall(r"\bmake ([a-z-]+)", text.partition("jobs:")[2]))
    assert called == {"lint", "test"} and called <= targets
    of_all_systems = marks.removesuffix(" and not thorough")
    assert jobs["tests"]["env"]["MARKS"] == of_all_systems != marks and '-m "$MARKS"' in text
    wanted = pyproject()["requires-python"].removeprefix(">=")
    assert min(jobs["tests"]["strategy"]["matrix"]["python"], key=lambda v: int(v.partition(".")[2])) == wanted


def test_issue_forms_ask_for_what_is_needed():
    forms = {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in ROOT.glob(".github/ISSUE_TEMPLATE/*")
    }
    required = {
        name: {field["id"] for field in form["body"] if field.get("validations", {}).get("required")}
        for name, form in forms.items()
        if name != "config"
    }
    assert required == {"bug": {"what", "doctor"}, "chapter": {"where", "stumble"}, "claim": {"claim", "evidence"}}


def test_no_tracked_file_is_larger_than_the_hook_allows():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    (most,) = (int(h["args"][0].removeprefix("--maxkb=")) for h in hooks if h["id"] == "check-added-large-files")
    assert not [path for path in tracked() if path.stat().st_size > 1000 * most and path.suffix != ".ipynb"]
