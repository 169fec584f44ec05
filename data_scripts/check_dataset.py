"""Look an nnU-Net data set over before days of training go into it; exit status 0: no errors, 1: errors.

What it needs: a folder nnUNet_raw/DatasetXXX_Name with one channel in .nii.gz files, of this kit's scripts or any other
origin; memory for one scan. Disk: about 1 MB. Time: every file is read once.

Looks at: dataset.json; images and labels without their partner; files that cannot be read; image and label that lie
apart; spacing, orientation, intensities that do not fit the modality; label values outside the table; empty labels and
organs that are nowhere; organs on the wrong side; one scan in two cases or in two splits (by content, not by name);
files that differ from the manifest.

Writes to: REPORT (default: check/ in the data set's folder): cases.csv, findings.csv, contact_sheet.png
(nnU-Net ignores that folder). The data themselves are only read; what holds for them holds for the picture too: it
shows patients' scans, keep it as private as they are.
"""

from lkm_kit.cli import script

if __name__ == "__main__":
    script("data check", __doc__)
