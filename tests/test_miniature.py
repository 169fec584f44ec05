"""The miniature archives: the published layouts, the same bytes each time, and a clear word for an unknown name."""

import gzip
import zipfile

import nibabel
import numpy as np
import pytest

from lkm_kit.data.miniature import BLADDER, miniature_members, write_zip
from lkm_kit.data.releases import RELEASES
from lkm_kit.errors import KitError


def labels(members):
    """Path -> label array, of every label in an archive."""
    return {
        path: np.asarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(content)).dataobj)
        for path, content in members.items()
        if "/labels" in path
    }


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_has_a_miniature_that_is_the_same_each_time(release, tmp_path):
    members = miniature_members(release)
    paths = [
        write_zip(tmp_path / name, given) for name, given in (("a.zip", members), ("b.zip", miniature_members(release)))
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert zipfile.ZipFile(paths[0]).namelist() == list(members)
    images = [path for path in members if "/images" in path]
    assert len(images) > len(labels(members)) or release != "amos22", "AMOS22 has scans without labels"
    assert paths[0].stat().st_size < 500_000


def test_amos_is_numbered_otherwise_than_the_kit():
    ours = labels(miniature_members("flare22"))["FLARE22Train/labels/FLARE22_Tr_0001.nii.gz"]
    theirs = labels(miniature_members("amos22"))["amos22/labelsTr/amos_0001.nii.gz"]
    # one phantom: the liver is 1 here and 6 there, and the bladder exists there only
    assert ours.shape == theirs.shape and (theirs[ours == 1] == 6).mean() > 0.95
    assert BLADDER in theirs and ours.max() < BLADDER


def test_an_unknown_release():
    with pytest.raises(KitError, match="no miniature of 'amos23'") as error:
        miniature_members("amos23")
    assert "flare22" in error.value.remedy
