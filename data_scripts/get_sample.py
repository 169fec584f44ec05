"""Fetch the three real sample scans of the kit, check them and say what they are.

What it needs: a network connection, or the archive in a file (--archive); pip in this Python.
Download: 38 MB, once. Disk: about 6 MB in the cache stay, about 100 MB are used while it runs.
Writes to: the folder in LKM_DATA, else the user's cache folder; nothing else. The archive is dropped afterwards.

Source: test files in the source distribution of TotalSegmentator 2.18.0, which is downloaded and never installed.
Licence: Apache-2.0; its text is kept beside the scans. The labels are predictions of TotalSegmentator's own models
("silver"), not a human's. That the scans show different people is inferred, not documented.

Layout of the cache:
  totalsegmentator-2.18.0/example_ct.nii.gz, example_seg_fast_force_split.nii.gz    ct_a and its label
  totalsegmentator-2.18.0/example_ct_dicom/ (20 files), example_seg_dicom.nii.gz    ct_b and its label
  totalsegmentator-2.18.0/example_mr_sm.nii.gz, example_seg_mr.nii.gz               mr_d and its label
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lkm_kit.data import fetch_sample, load_sample, organs_present, sample_names, sample_source
from lkm_kit.errors import KitError


def main(arguments: list[str] | None = None) -> int:
    """Fetch, check and describe; returns the exit status. Unlike the tutorial it never falls back to phantoms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, help="totalsegmentator-2.18.0.tar.gz, if you have it already")
    options = parser.parse_args(arguments)
    try:
        folder = fetch_sample(options.archive)
        print(sample_source())
        print(f"folder: {folder}")
        for name in sample_names():
            case = load_sample(name)
            grid = " x ".join(map(str, case.shape))
            millimetres = " x ".join(f"{s:.3g}" for s in case.spacing)
            print(
                f"{name}: {case.modality}, {grid} voxels of {millimetres} mm; {len(organs_present(case.label))} organs"
            )
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
