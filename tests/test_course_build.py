"""The notebook builder on a small chapter: solutions, outputs, errors, paths, and what survives a rebuild."""

import base64
import io
import re
import signal
import sys
from pathlib import Path

import archives
import nbformat
import numpy as np
import psutil
import pytest
from machine_paths import machine_paths
from PIL import Image

from lkm_kit.course import build as builder
from lkm_kit.course import site_pages
from lkm_kit.course.outputs import LARGE, clean, lighter
from lkm_kit.course.sources import chapters, read_source, source_lines, student_copy
from lkm_kit.course.student import hand_out
from lkm_kit.devices import available_cpus
from lkm_kit.errors import KitError

CHAPTER = '''# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
# ---

# %% [markdown]
# # A chapter

# %%
import os, sys, warnings
print(sys.executable)
warnings.warn("look here")

# %%
def f(x):
    """Twice x."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION

# %%
f(4)

# %%
f(4)
'''


@pytest.fixture
def root(tmp_path):
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    (tmp_path / "notebooks" / "src" / "00_first.py").write_text(CHAPTER)
    return tmp_path


def read(root, *parts):
    return nbformat.read(root.joinpath("notebooks", *parts), as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    (folder / "notebooks" / "src").mkdir(parents=True)
    (folder / "notebooks" / "src" / "00_first.py").write_text(CHAPTER)
    builder.build(folder, execute=True)
    return folder


def test_executed_and_student_copies(executed):
    main, student = read(executed, "00_first.ipynb"), read(executed, "student", "00_first.ipynb")
    code = [cell for cell in main.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4, 5]
    assert code[3].outputs[0].data["text/plain"] == "8"
    stripped = [cell for cell in student.cells if cell.cell_type == "code"]
    assert stripped[2].source == 'def f(x):\n    """Twice x."""\n    ...  # YOUR CODE HERE'
    assert all(cell.outputs == [] and cell.execution_count is None for cell in stripped)
    assert builder.out_of_step(executed) == []


def test_kernel_is_this_python_and_no_path_leaks(executed):
    text = (executed / "notebooks" / "00_first.ipynb").read_text()
    assert str(executed) not in text and sys.prefix not in text and str(Path.home()) not in text
    assert "<venv>/bin/python" in text or "<python>/bin/python" in text
    assert "UserWarning: look here" in text and "ipykernel_" not in text


def test_ids_are_valid_unique_and_stable(root):
    source = root / "notebooks" / "src" / "00_first.py"
    ids = [cell.id for cell in read_source(source).cells]
    assert len(set(ids)) == len(ids)  # although two cells have the same text
    source.write_text(CHAPTER.replace("# # A chapter", "# # Another title"))
    assert [cell.id for cell in read_source(source).cells][1:] == ids[1:]


def test_a_rebuild_keeps_outputs_of_unchanged_cells(executed):
    source = executed / "notebooks" / "src" / "00_first.py"
    before = (executed / "notebooks" / "00_first.ipynb").read_text()
    try:
        builder.build(executed)
        assert (executed / "notebooks" / "00_first.ipynb").read_text() == before
        source.write_text(CHAPTER.replace('warnings.warn("look here")', "pass"))
        assert builder.out_of_step(executed) == [
            "notebooks/00_first.ipynb differs from notebooks/src/00_first.py",
            "notebooks/student/00_first.ipynb differs from notebooks/src/00_first.py",
        ]
        builder.build(executed)
        code = [cell for cell in read(executed, "00_first.ipynb").cells if cell.cell_type == "code"]
        assert code[1].outputs == [] and code[1].execution_count is None
        assert code[3].outputs[0].data["text/plain"] == "8"
    finally:
        source.write_text(CHAPTER)
        (executed / "notebooks" / "00_first.ipynb").write_text(before)
        builder.build(executed)


def test_a_failing_cell_is_named_with_its_line_and_nothing_is_written(root):
    source = root / "notebooks" / "src" / "00_first.py"
    source.write_text(CHAPTER.replace("# %%\nf(4)\n\n# %%\nf(4)\n", "# %%\nundefined + 1\n"))
    with pytest.raises(KitError, match=r"cell 5, notebooks/src/00_first.py line 23 raised NameError"):
        builder.build(root, execute=True)
    assert source.read_text().splitlines()[22:24] == ["# %%", "undefined + 1"]
    assert not list((root / "notebooks").glob("*.ipynb"))


def test_a_killed_kernel_is_reported(root):
    source = root / "notebooks" / "src" / "00_first.py"
    source.write_text("# %%\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(KitError, match="kernel died"):
        builder.build(root, execute=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_in_one_sentence_that_names_the_chapter(root, number, status, monkeypatch, capfd):
    source = root / "notebooks" / "src" / "00_first.py"
    wait = "import os, time\nprint(os.getpid(), file=open('kernel.txt', 'w'))\n"
    source.write_text(f"# %%\n{wait}os.kill(os.getppid(), {int(number)})\ntime.sleep(60)\n")
    monkeypatch.chdir(root)
    before = signal.getsignal(number)
    assert archives.lkm("course", "build", "--execute") == status
    said = capfd.readouterr()
    again = "the same command starts anew; nothing half-written is left"
    assert said.err.strip().splitlines()[-1] == f"stopped while 00_first ran; {again}"
    assert "Error" not in said.err + said.out and "Traceback" not in said.err
    assert not list(root.rglob("*.ipynb")) and signal.getsignal(number) == before
    assert not psutil.pid_exists(int(next(root.rglob("kernel.txt")).read_text()))


def test_out_folder_leaves_the_committed_notebooks_alone(root, tmp_path, capsys):
    code = "open('here.txt', 'w').close()\nlen(b'1' * 500_000_000)  # half a GB, for a moment"
    (root / "notebooks" / "src" / "00_first.py").write_text(f"# %%\n{code}\n")
    written = builder.build(root, execute=True, out=tmp_path / "build")
    assert written == [tmp_path / "build" / "00_first.ipynb"]
    assert (tmp_path / "build" / "here.txt").is_file()  # the notebook's folder was its working folder
    assert not list((root / "notebooks").glob("*.ipynb"))
    said = capsys.readouterr().out
    assert "[1/1] 00_first" in said
    peak = float(re.search(r"([\d.]+) GB of memory at most", said)[1])
    assert 0.5 <= peak < 2 and f"memory of the largest chapter: {peak} GB" in said
    assert "peak_gb" not in written[0].read_text()  # it differs from run to run


@pytest.mark.thorough
def test_two_at_a_time_begin_with_the_long_wait_for_what_they_need_and_report_what_fails(root, tmp_path, capsys):
    """08 writes a file late, which 11 reads; 12, as long as 08, raises when all before it are written."""
    sources = {
        "07_short": "None",
        "08_writes": "import os, time\ntime.sleep(2)\n"
        "open('trained.txt', 'w').write('weights')\nos.environ['OMP_NUM_THREADS']",
        "11_reads": "open('trained.txt').read()",
        "12_fails": "1 / 0",
    }
    for name, code in sources.items():
        begins = f"open('order.txt', 'a').write('{name[:2]} ')"
        (root / "notebooks" / "src" / f"{name}.py").write_text(f"# %%\n{begins};\n\n# %%\n{code}\n")
    out = tmp_path / "build"
    with pytest.raises(KitError, match=r"12_fails: cell 3.* raised ZeroDivisionError"):
        builder.build(root, ["07", "08", "11", "12"], execute=True, out=out, jobs=2)
    results = [nbformat.read(path, 4).cells[-1].outputs for path in sorted(out.glob("*.ipynb"))]
    shown = [output.data["text/plain"] for outputs in results for output in outputs]
    assert shown == [repr(str(max(1, available_cpus() // 2))), "'weights'"]
    order = (out / "order.txt").read_text().split()
    assert sorted(order[:2]) == ["08", "12"] and sorted(order[2:]) == ["07", "11"]  # 12 ends first, then 07 begins
    assert "2 chapters at a time" in capsys.readouterr().out


@pytest.mark.parametrize("body", ["### BEGIN SOLUTION\nx = 1", "x = 1\n### END SOLUTION"])
def test_unpaired_solution_markers(body):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(body)])
    with pytest.raises(KitError, match="03_x"):
        student_copy(notebook, "03_x")


def test_choosing_chapters(root, monkeypatch, capsys):
    assert [path.stem for path in chapters(root, ["00"])] == ["00_first"]
    with pytest.raises(KitError, match="no chapter is called '7'"):
        chapters(root, ["7"])
    with pytest.raises(KitError, match="no chapters"):
        chapters(root / "notebooks")
    monkeypatch.chdir(root)
    assert archives.lkm("course", "build", "--check") == 1
    assert "notebooks/00_first.ipynb is missing" in capsys.readouterr().out
    assert archives.lkm("course", "build") == 0 and archives.lkm("course", "build", "--check") == 0
    (root / "notebooks" / "09_old.ipynb").write_text("{}")
    assert archives.lkm("course", "build", "--check") == 1
    assert "09_old.ipynb has no source" in capsys.readouterr().out
    assert archives.lkm("course", "build", "nothing") == 2


def test_source_lines_point_at_the_cells(root):
    source = root / "notebooks" / "src" / "00_first.py"
    lines = source.read_text().splitlines()
    starts = source_lines(source)
    assert len(starts) == len(read_source(source).cells)
    assert all(lines[start - 1].startswith("# %%") for start in starts)


def test_cleaning_outputs():
    new = nbformat.v4.new_output
    widget = "application/vnd.jupyter.widget-view+json"
    outputs = [
        new("stream", name="stderr", text="\r  0%|   | 0/9 [00:00<?, ?it/s]\r100%|###| 9/9 [00:01<00:00, 8.1it/s]\n"),
        new("stream", name="stdout", text=f"{Path.home()}/data/x.nii.gz\nobject at 0x7f00aa\x1b[31m!\x1b[0m\n"),
        new("display_data", data={widget: {}, "text/plain": "  0%|          | 0/10 [00:00<?, ?it/s]"}),
        new("display_data", data={widget: {}, "text/plain": "interactive(children=(IntSlider(value=3),))"}),
        new("execute_result", data={"text/plain": "keep 50% | of this"}),
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=outputs)])
    kept = clean(notebook).cells[0].outputs
    assert [output.output_type for output in kept] == ["stream", "display_data", "execute_result"]
    assert kept[0].text == "~/data/x.nii.gz\nobject at 0x…!\n"
    assert kept[1].data == {"text/plain": "(an interactive widget: run this cell to use it)"}
    assert kept[2].data["text/plain"] == "keep 50% | of this"


def test_machine_paths_are_seen():
    assert machine_paths("in /home/ana/x.py:3") and machine_paths(r"C:\Users\ana")
    assert not machine_paths("https://example.org/home/ana ~/home/x <repository>/usr/x and/or")


LAST = {"ends": "1", "hangs": "import time; time.sleep(60)", "fails": "1 / 0"}
KERNELS = {"fresh": False, "forked": True}


@pytest.mark.parametrize(
    ("last", "ahead"),
    [
        pytest.param(
            code,
            ahead,
            id=f"{last}-{kernel}",
            marks=() if (last, kernel) == ("fails", "forked") else pytest.mark.thorough,
        )
        for last, code in LAST.items()
        for kernel, ahead in KERNELS.items()
    ],
)
def test_no_kernel_outlives_its_chapter(root, last, ahead, monkeypatch):
    """Kernels hold a gigabyte with torch in them: after the chapter, whatever became of it, none is left."""
    from lkm_kit.course import execute, warm

    monkeypatch.setenv("LKM_PROFILE", "smoke")
    monkeypatch.setitem(execute.PATIENCE_S, "smoke", 3)
    source = root / "notebooks" / "src" / "00_first.py"
    made = "import tempfile; folder = tempfile.mkdtemp(); print(folder, file=open('folder.txt', 'w'))"
    source.write_text(f"# %%\n{made}\n\n# %%\n{last}\n")
    if ahead:
        warm._server("0")  # which serves the next chapter, too
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    if last == "1":
        builder.run_chapter(source, root, root, ahead=ahead)
    else:
        with pytest.raises(KitError, match="ZeroDivisionError" if "/" in last else "did not end in 3 s"):
            builder.run_chapter(source, root, root, ahead=ahead)
    after = {child.pid for child in psutil.Process().children(recursive=True) if child.status() != "zombie"}
    assert after <= before
    folder = Path(next(root.rglob("folder.txt")).read_text().strip())
    assert folder.is_absolute() and not folder.exists()  # nor what it put aside


def test_a_student_s_answers_are_kept_and_the_checkout_is_left_alone(root, tmp_path_factory):
    (root / "notebooks" / "GLOSSARY.md").write_text("words")
    links = "\n# %% [markdown]\n# [w](GLOSSARY.md), [own data](../docs/own_data.md#check)\n"
    for number in ("00_first", "01_second"):
        (root / "notebooks" / "src" / f"{number}.py").write_text(CHAPTER + links)
    builder.build(root)
    assert "](../../docs/own_data.md#check)" in (root / "notebooks" / "student" / "00_first.ipynb").read_text()
    work, elsewhere = root / "work", tmp_path_factory.mktemp("elsewhere")
    assert hand_out(root, work).new == ["00_first", "01_second"]
    first, second = work / "00_first.ipynb", work / "01_second.ipynb"
    assert "return 2 * x" not in first.read_text() and (work / "GLOSSARY.md").read_text() == "words"
    assert "[w](GLOSSARY.md), [own data](../docs/own_data.md#check)" in first.read_text()
    hand_out(root, elsewhere)
    assert "[w](GLOSSARY.md), own data" in (elsewhere / "00_first.ipynb").read_text()
    assert hand_out(root, work) == ([], [], [], [])
    first.write_text(answers := first.read_text().replace("...  # YOUR CODE HERE", "return x + x"))
    assert hand_out(root, work) == ([], [], ["00_first"], [])
    for number in ("00_first", "01_second"):
        (root / "notebooks" / "src" / f"{number}.py").write_text(CHAPTER.replace("A chapter", "A better chapter"))
    builder.build(root)
    before = {path: path.read_bytes() for path in (root / "notebooks").rglob("*") if path.is_file()}
    again = hand_out(root, work)
    assert again == ([], ["01_second"], ["00_first"], ["00_first"])
    assert first.read_text() == answers and "A better chapter" in second.read_text()
    assert again.text(work).splitlines()[:2] == [f"2 chapters in {work}", "your own answers are kept in: 00_first"]
    assert before == {path: path.read_bytes() for path in (root / "notebooks").rglob("*") if path.is_file()}


def test_a_picture_goes_into_every_copy_of_the_notebook_and_onto_its_pages(root, monkeypatch):
    pixel = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    )
    source = root / "notebooks" / "src" / "00_first.py"
    source.write_text(CHAPTER.replace("# # A chapter", "# # A chapter\n#\n# ![a dot](../figures/dot.png)"))
    with pytest.raises(KitError, match=r"00_first.py shows figures/dot.png"):
        read_source(source)
    (root / "figures").mkdir()
    (root / "figures" / "dot.png").write_bytes(pixel)
    builder.build(root)
    for copy in ("00_first.ipynb", "student/00_first.ipynb"):
        cell = read(root, copy).cells[0]
        assert cell.source.endswith("![a dot](attachment:dot.png)")
        assert base64.b64decode(cell.attachments["dot.png"]["image/png"]) == pixel
    for path in site_pages.OTHER_PAGES:
        (root / path).write_text("# A page\n")
    (root / "pages").mkdir()
    monkeypatch.setattr(site_pages, "write_api", lambda folder: {})
    site_pages.write_sources(root, root / "pages")
    assert [path.read_bytes() for path in (root / "pages" / "pictures").iterdir()] == [pixel]
    cell = nbformat.read(root / "pages" / "00_first.ipynb", as_version=4).cells[0]
    assert cell.source.endswith("![a dot](pictures/dot.png)") and "attachments" not in cell
    assert "![a dot](pictures/dot.png)" in (root / "pages" / "handout_00_first.md").read_text()
    (root / "figures" / "dot-dark.png").write_bytes(pixel[:-1])
    (root / "notebooks" / "README.md").write_text("[![](../figures/dot.png)](00_first.ipynb)")
    site_pages.write_sources(root, root / "pages")
    both = "![a dot](pictures/dot.png){.only-light}![a dot](pictures/dot-dark.png){.only-dark}"
    assert nbformat.read(root / "pages" / "00_first.ipynb", as_version=4).cells[0].source.endswith(both)
    both = "[![](pictures/figures-dot.png){.only-light}![](pictures/dot-dark.png){.only-dark}](00_first.ipynb)"
    assert (root / "pages" / "chapters.md").read_text() == both
    assert (root / "pages" / "pictures" / "dot-dark.png").read_bytes() == pixel[:-1]
    assert "dot-dark" not in (root / "pages" / "handout_00_first.md").read_text()  # to print


def test_a_large_picture_gets_lighter_once_and_looks_the_same():
    random = np.random.default_rng(0).integers(0, 200, 300 * 300) // 2  # a hundred colours
    pixels = np.stack([random, 255 - random, random], -1).reshape(300, 300, 3).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    before = base64.b64encode(file.getvalue()).decode()
    after = lighter(before)
    assert len(before) > LARGE > 0 and len(after) < len(before) / 2 and lighter(after) == after
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(after))).convert("RGB"))
    assert np.array_equal(shown, pixels)


def test_a_lighter_picture_keeps_the_colours_of_its_legend():
    random = np.random.default_rng(0)
    shades = random.integers(0, 256, (300, 300, 1))
    tinted = np.where(random.random((300, 300, 1)) < 0.5, shades, shades * 0.4 + 0.6 * np.array([213, 94, 0]))
    pixels, legend = tinted.astype(np.uint8), [(0, 114, 178), (204, 121, 167), (0, 158, 115), (86, 180, 233)]
    for k, colour in enumerate(legend):
        pixels[290:296, 20 * k : 20 * k + 10] = colour
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    shown = Image.open(io.BytesIO(base64.b64decode(lighter(base64.b64encode(file.getvalue()).decode()))))
    assert shown.mode == "P"
    for k, colour in enumerate(legend):
        assert np.abs(np.subtract(shown.convert("RGB").getpixel((20 * k + 5, 293)), colour)).max() <= 3
