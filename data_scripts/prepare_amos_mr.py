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

from __future__ import annotations

import sys

from lkm_kit.data import RELEASES, prepare_amos_mr
from lkm_kit.data.amos import AMOS_MR_COUNTS, AMOS_MR_NUMBER
from lkm_kit.data.scripts import chosen_input, closing_words, ending, preparing_parser


def main(arguments: list[str] | None = None) -> int:
    """Prepare the data set; returns the exit status."""
    release = RELEASES["amos22"]
    options = preparing_parser(__doc__, release, AMOS_MR_NUMBER).parse_args(arguments)

    def work() -> int:
        written = prepare_amos_mr(
            chosen_input(options, release),
            options.out,
            number=options.number,
            without=options.leave_out,
            check_modality=not options.trust_modality,
        )
        print(closing_words(written, release, AMOS_MR_COUNTS))
        return 0

    return ending(work)


if __name__ == "__main__":
    sys.exit(main())
