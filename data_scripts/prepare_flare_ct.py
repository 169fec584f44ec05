"""Make an nnU-Net data set of FLARE22's labelled CT scans: Dataset721_FLARE22CT, 40 cases to train on, 10 to test on.

What it needs: FLARE22Train.zip (50 cases), or the folder it was unpacked into. It is read without being unpacked.
Disk: about 2 GB for the result, and as much again if the archive is downloaded here (kept in LKM_DATA/downloads).

Writes to: OUT/Dataset721_FLARE22CT/{dataset.json, manifest.json, imagesTr, labelsTr, imagesTs, labelsTs}
Images are copied byte by byte; labels have the kit's ids already (they are FLARE22's) and are checked.
For the paper's 3D network, nnU-Net's configuration 3d_fullres.
manifest.json has the sha256 of every file, the source, its version and the split.

Source: Ma et al., FLARE22, Zenodo record 7860267. Licence: sources disagree (CC BY 4.0 or CC BY-NC-SA 4.0): treat as
non-commercial, and never redistribute.
This is NOT the paper's split: its 50 test scans are only in the U-Mamba authors' folder (prepare_umamba.py). Here every
fifth labelled case is tested on.

Running it again skips what is done, writes anew what has changed, and goes on after an interruption.
"""

from lkm_kit.cli import script

if __name__ == "__main__":
    script("data flare", __doc__)
