"""Check and copy the U-Mamba authors' ready folders: Dataset701_AbdomenCT and Dataset702_AbdomenMR, the paper's split.

What it needs: the authors' shared folder, fetched with a browser (its link is in the README of github.com/bowang-lab/
U-Mamba, in data/). Browsers may get it in several zips: unpack them into one folder and give that. A single zip is read
without being unpacked. Disk: about 5 GB for the result (CT and MR).

Expects:   ARCHIVE/.../Dataset702_AbdomenMR/{dataset.json, imagesTr, labelsTr, imagesTs, labelsTs}, and 701 likewise
Writes to: OUT/Dataset701_AbdomenCT and OUT/Dataset702_AbdomenMR, the same with manifest.json
Images are copied byte by byte; labels are checked (values, geometry) and written as whole numbers.
manifest.json has the sha256 of every file: the folders come without a version and without checksums, so it is the only
record of what was used. OUT must not be the folder that is read.

Source: Ma et al., U-Mamba; the scans are AMOS22's and FLARE22's and others, the labels of the 50 test MRs the authors'
own. 60 + 50 MRs exceed AMOS22's 100: where some are from is not known. Licence: not stated; the terms of AMOS22 and
FLARE22 hold at least: treat as non-commercial, and never redistribute.
Only with these folders can scores be compared with the paper's Tables 1 to 3.

Running it again skips what is done, writes anew what has changed, and goes on after an interruption.
"""

from lkm_kit.cli import script

if __name__ == "__main__":
    script("data umamba", __doc__)
