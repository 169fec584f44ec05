"""nnU-Net's own check of the data sets that the commands make of the miniature archives."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import archives
import nibabel
import numpy as np
import pytest

MADE = {
    "amos": (archives.amos22, ["Dataset722_AMOS22MR"]),
    "flare": (archives.flare22, ["Dataset721_FLARE22CT"]),
    "umamba": (
        lambda: {**archives.umamba(701), **archives.umamba(702)},
        ["Dataset701_AbdomenCT", "Dataset702_AbdomenMR"],
    ),
}
pytestmark = [
    pytest.mark.nnunet,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        find_spec("nnunetv2") is None, reason="nnU-Net is not installed: pip install -c constraints.txt -e '.[nnunet]'"
    ),
]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """All data sets that the commands make of the miniature archives, in one nnUNet_raw."""
    root = tmp_path_factory.mktemp("integrity")
    for command, (members, folders) in MADE.items():
        archive = archives.write_zip(root / f"{command}.zip", members())
        assert archives.lkm("data", command, "--archive", archive, "--out", root / "raw") == 0
        assert all((root / "raw" / folder / "dataset.json").is_file() for folder in folders)
    return root / "raw"


# What the option --verify_dataset_integrity of nnUNetv2_plan_and_preprocess calls first of all. The command itself also
# takes fingerprints and plans: 90 s for the four data sets on two cores. test_nnunet.py runs it on one of them.
CHECK = """
import sys
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

if __name__ == "__main__":  # it starts processes
    for folder in sys.argv[1:]:
        verify_dataset_integrity(folder, num_processes=1)
"""


def verify(work, *folders):
    """nnU-Net's check of some data sets: exit status and output."""
    script = work / "check.py"
    script.write_text(CHECK)
    done = subprocess.run(
        [sys.executable, str(script), *map(str, folders)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "nnUNet_raw": str(work)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )
    return done.returncode, done.stdout


def test_nnunet_accepts_what_the_commands_make(raw, tmp_path):
    status, said = verify(tmp_path, *(raw / folder for _, folders in MADE.values() for folder in folders))
    assert status == 0, said
    assert said.count("verify_dataset_integrity Done") == 4, said
    # geometry that differs is only a warning there, and nobody reads it: none is wanted
    for word in ("mismatch", "Unexpected", "Warning:", "WARNING", "Error:"):
        assert word not in said, said


def test_nnunet_s_check_would_have_found_a_fault(raw, tmp_path):
    broken = tmp_path / "Dataset722_AMOS22MR"
    shutil.copytree(raw / broken.name, broken)
    path = sorted((broken / "labelsTr").glob("*.nii.gz"))[0]
    image = nibabel.load(path)
    label = np.asarray(image.dataobj).copy()
    label[0, 0, 0] = 14
    nibabel.save(nibabel.Nifti1Image(label, image.affine, image.header), path)
    status, said = verify(tmp_path, broken)
    assert status != 0 and "Unexpected labels" in said, said
