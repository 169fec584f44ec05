"""Write the kit's cohort, seeded warps of one real scan, as an nnU-Net data set: slices (2D) or volumes (3D).

What it needs: the sample scan ct_a (38 MB are fetched on the first use, see get_sample.py).
Disk: about 40 kB a slice of 128 x 128 pixels, 1 MB a volume of 32 x 128 x 128.

Writes to: OUT/Dataset731_CohortSlices or OUT/Dataset732_CohortVolumes, each {dataset.json, manifest.json, imagesTr,
labelsTr, imagesTs, labelsTs}; cases are called train_0000, validation_0000 (both in imagesTr) and test_0000.
Intensities are normalised already (nnU-Net: noNorm); labels are the kit's ids. Every second item is mirrored left to
right with the organs' names kept.

Source: ct_a of TotalSegmentator 2.18.0's test files, Apache-2.0; its labels are a model's predictions ("silver").
All splits come from one anatomy: scores show learning, not generalisation to other people.

Running it again skips what is done. Item i depends on the seed, the split and i alone: a longer cohort holds the
shorter one.
"""

from lkm_kit.cli import script

if __name__ == "__main__":
    script("data cohort", __doc__)
