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

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lkm_kit.data import fetch_sample, sample_source, write_cohort
from lkm_kit.data.scripts import ending, script_parser


def main(arguments: list[str] | None = None) -> int:
    """Write the cohort; returns the exit status."""
    parser = script_parser(__doc__)
    parser.add_argument("--out", type=Path, help="the nnUNet_raw folder (default: $nnUNet_raw, else LKM_DATA's)")
    parser.add_argument("--number", type=int, help="nnU-Net's data set id (default: 731 for slices, 732 for volumes)")
    parser.add_argument("--dimensions", type=int, choices=(2, 3), default=2, help="slices or volumes (default: 2)")
    parser.add_argument("--size", type=int, nargs="+", help="pixels: X Y or Z X Y (default: 128 128, 32 128 128)")
    parser.add_argument("--spacing", type=float, default=3.0, help="in-plane size of a pixel in mm (default: 3)")
    for split, length in (("train", 200), ("validation", 40), ("test", 40)):
        parser.add_argument(f"--{split}", type=int, default=length, help=f"number of items (default: {length})")
    parser.add_argument("--seed", type=int, default=0, help="of the cohort (default: 0)")
    options = parser.parse_args(arguments)
    return ending(lambda: _work(options))


def _work(options: argparse.Namespace) -> int:
    fetch_sample()  # without the real scan there is no cohort: phantoms would pass for it on the disk
    print(sample_source())
    written = write_cohort(
        options.out,
        size=options.size or {2: (128, 128), 3: (32, 128, 128)}[options.dimensions],
        spacing_mm=options.spacing,
        lengths={split: getattr(options, split) for split in ("train", "validation", "test")},
        seed=options.seed,
        number=options.number,
    )
    print(f"{written}\nfolder: {written.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
