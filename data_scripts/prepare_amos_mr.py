"""Make an nnU-Net data set of AMOS22's labelled MR scans: Dataset722_AMOS22MR, 40 cases to train on, 20 to test on.

What it needs: amos22.zip (24.2 GB; CT and MR together), or the folder it was unpacked into. It is read without being
unpacked. Disk: about 2 GB for the result, and 24.2 GB more if it is downloaded here (kept in LKM_DATA/downloads).

Writes to: OUT/Dataset722_AMOS22MR/{dataset.json, manifest.json, imagesTr, labelsTr, imagesTs, labelsTs}
Images are copied byte by byte; labels get the kit's ids (= FLARE22's), bladder and prostate/uterus become background.
Volumes stay whole: the paper's 2D network gets its slices from nnU-Net's configuration 2d while it trains.
manifest.json has the sha256 of every file, the source, its version and the split.

Source: Ji et al., AMOS, Zenodo record 7155725 (also cited: 7262581). Licence: users of the record say CC BY 4.0, the
paper's review page names a non-commercial one: treat as non-commercial, and never redistribute.
This is NOT the paper's split: its 50 test scans are only in the U-Mamba authors' folder (prepare_umamba.py).

Running it again skips what is done, writes anew what has changed, and goes on after an interruption.
"""

from lkm_kit.cli import script

if __name__ == "__main__":
    script("data amos", __doc__)
