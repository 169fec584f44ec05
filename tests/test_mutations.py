"""Small mistakes, put into a copy of the kit one at a time: for each, a test must fail.

A mutation that no test notices shows a line that nothing checks. Each was once such a line.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
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


def run(tests, package, folder):
    """pytest on the copy: its exit status and output."""
    environment = {**os.environ, "PYTHONPATH": str(package), "LKM_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
    options = ["-x", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    # from the copy's folder: `-m` puts the working folder in front, and the copy is to be imported
    command = [sys.executable, "-m", "pytest", *options, *(str(ROOT / test) for test in tests.split())]
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, timeout=220)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_is_noticed(name, tmp_path):
    mutation = MUTATIONS[name]
    package = tmp_path / "copy"
    shutil.copytree(ROOT / "lkm_kit", package / "lkm_kit", ignore=shutil.ignore_patterns("__pycache__"))
    path = package / "lkm_kit" / mutation.file
    text = path.read_text()
    found = text.count(mutation.old)
    assert found == 1, f"{mutation.file} has changed: {mutation.old!r} is there {found} times"
    path.write_text(text.replace(mutation.old, mutation.new))
    status, said = run(mutation.tests, package, tmp_path)
    assert status == 1, f"no test noticed it (pytest ended with {status}):\n{said[-2000:]}"
    # the mutated copy was tested, and by a test, not by a broken import
    assert re.search(r"^FAILED ", said, re.MULTILINE), said[-2000:]
