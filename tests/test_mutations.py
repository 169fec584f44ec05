"""Small mistakes, put into the kit one at a time, in a process of its own: for each, a test must fail.

A mutation that no test notices shows a line that nothing checks. Each was once such a line.
"""

import os
import re
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from toy_training import in_a_process

ROOT = Path(__file__).parents[1]
MARKS = re.search(r"^MARKS \?= (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1]
"""What ``make test`` chooses: no mistake waits for CI to be noticed."""
pytestmark = [pytest.mark.mutation, pytest.mark.timeout(240)]


class Mutation(NamedTuple):
    """``old`` in ``file`` becomes ``new``; one of ``tests`` (pytest's names) must fail then."""

    file: str
    old: str
    new: str
    tests: str


MUTATIONS = {
    "a coarser grid is not smoothed first": Mutation(
        "data/preprocess.py",
        "ndimage.gaussian_filter(case.image, np.maximum(0, (scale - 1) / 2)) if (scale > 1).any() else case.image",
        "case.image",
        "tests/test_case.py::test_a_coarser_grid_is_smoothed_first",
    ),
    "an MR is scaled between its extremes": Mutation(
        "data/preprocess.py",
        "np.percentile(image, (0.5, 99.5))",
        "np.percentile(image, (0, 100))",
        "tests/test_case.py::test_an_mr_is_scaled_between_its_percentiles",
    ),
    "a slice's own scale is ignored": Mutation(
        "data/dicom_slices.py",
        "stored * np.float32(slope)",
        "stored * np.float32(1)",
        "tests/test_dicom.py::test_every_slice_has_its_own_scale",
    ),
    "the cohort is filled with soft tissue": Mutation(
        "data/cohort.py",
        'mode="constant", cval=self._outside',
        'mode="constant", cval=0',
        "tests/test_cohort.py::test_beyond_the_scan_there_is_air",
    ),
    "the cohort has no noise": Mutation(
        "data/cohort.py",
        "rng.normal(0, rng.uniform(5, 25), image.shape)",
        "0 * rng.normal(0, rng.uniform(5, 25), image.shape)",
        "tests/test_cohort.py::test_items_have_the_stated_noise",
    ),
    "prediction mirrors front and back": Mutation(
        "evaluation/inference.py",
        "return (0 if planar else 1,), None",
        "return (1 if planar else 2,), None",
        "tests/test_predict.py::test_mirroring_turns_left_and_right_alone",
    ),
    "scores of another number of test items pass for these": Mutation(
        "studies/job.py",
        'asked = scores.get("test_cases") == self.test_cases',
        "asked = True",
        "tests/test_studies_runner.py::test_more_test_items_are_scored_without_training_again",
    ),
    "gradients are not clipped": Mutation(
        "training/loop.py",
        "max_norm=config.clip_norm",
        "max_norm=1e9",
        "tests/test_training.py::test_gradients_are_clipped",
    ),
    "AdamW decays everything": Mutation(
        "training/optim.py",
        '{"params": groups[False], "weight_decay": 0.0}',
        '{"params": groups[False], "weight_decay": weight_decay}',
        "tests/test_training.py::test_adamw_decays_matrices_alone",
    ),
    "p is not corrected for the number of comparisons": Mutation(
        "studies/statistics.py",
        'holm(frame.loc[known, "p"])',
        'frame.loc[known, "p"]',
        "tests/test_studies_statistics.py::test_p_is_corrected_for_all_comparisons_of_the_study",
    ),
}


def mutate(module, old, new):
    """Give the functions of an imported module the code that they have with ``new`` for ``old``.

    Whoever imported such a function by its name calls the new code, too.
    """
    text = Path(module.__file__).read_text(encoding="utf-8")
    found = text.count(old)
    assert found == 1, f"{module.__name__} has changed: {old!r} is there {found} times"
    fresh = {"__name__": module.__name__, "__file__": module.__file__}
    exec(compile(text.replace(old, new), module.__file__, "exec"), fresh)
    changed = [(f, g) for f, g in _functions(vars(module), fresh, module.__name__) if f.__code__ != g.__code__]
    assert len(changed) == 1, f"{old!r} is in no function, or in {changed}"
    changed[0][0].__code__ = changed[0][1].__code__


def _functions(names, fresh, module):
    """Functions and methods that a module defines, each with the one made anew."""
    for name, thing in list(names.items()):
        if getattr(thing, "__module__", None) != module:
            continue
        if isinstance(thing, type):
            yield from _functions(vars(thing), vars(fresh[name]), module)
        elif isinstance(thing, types.FunctionType):
            yield thing, fresh[name]


def pass_then_fail(mutation, folder):
    """In a process of its own: pytest must pass, and fail once the mistake is there."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.chdir(folder)
    os.environ["LKM_RUNS"] = str(folder / "runs")
    options = ["-x", "-q", "-m", MARKS, "-p", "no:cacheprovider"]
    options += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    command = [*options, *(str(ROOT / test) for test in mutation.tests.split())]
    status = pytest.main(command)
    assert status == 0, f"without a mistake, pytest ended with {status}"
    mutate(import_module(f"lkm_kit.{mutation.file[:-3].replace('/', '.')}"), mutation.old, mutation.new)
    status = pytest.main(command)
    assert status == 1, f"no test noticed it (pytest ended with {status})"


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_is_noticed(name, tmp_path):
    process = in_a_process(pass_then_fail, MUTATIONS[name], tmp_path, said=tmp_path / "said")
    process.join(220)
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 0, said[-3000:]
    assert re.search(r"^FAILED ", said, re.MULTILINE), said[-2000:]  # by a test, not by a broken import
