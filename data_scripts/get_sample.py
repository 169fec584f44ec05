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

from lkm_kit.cli import script

if __name__ == "__main__":
    script("data sample", __doc__)
