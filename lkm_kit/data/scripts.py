"""What the scripts in ``data_scripts`` share: their options, the way they end, what they say at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from lkm_kit.data.manifest import Manifest
from lkm_kit.data.nnunet_raw import Written
from lkm_kit.data.releases import Release, obtain
from lkm_kit.errors import KitError


def script_parser(doc: str) -> argparse.ArgumentParser:
    """A parser whose ``--help`` is the script's docstring, line by line, with the options below it."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def preparing_parser(doc: str, release: Release, number: int | None) -> argparse.ArgumentParser:
    """The options of a script that prepares a published data set.

    Args:
        doc: the script's docstring.
        release: what it prepares.
        number: nnU-Net's data set id, or None where it cannot be chosen.
    """
    parser = script_parser(doc)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--archive", type=Path, help="the archive, or the folder it was unpacked into")
    given.add_argument("--url", help="download the archive from this address first (goes on where it stopped)")
    if release.url is not None:
        given.add_argument("--download", action="store_true", help=f"the same from {release.url}")
    parser.add_argument("--sha256", help="expected checksum of the download; 'none' to take whatever comes")
    parser.add_argument(
        "--out", type=Path, help="the nnUNet_raw folder (default: $nnUNet_raw, else LKM_DATA/nnUNet_raw)"
    )
    if number is not None:
        parser.add_argument("--number", type=int, default=number, help=f"nnU-Net's data set id (default: {number})")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="CASE", help="cases to go on without")
    parser.add_argument(
        "--trust-modality", action="store_true", help="do not check that intensities look like the modality"
    )
    return parser


def chosen_input(options: argparse.Namespace, release: Release) -> Path:
    """The archive or folder that the options name, downloaded if need be; says the licence first."""
    print(f"{release.name} ({release.version})\nlicence: {release.licence}\ncite: {release.citation}", flush=True)
    return obtain(release, options.archive, url=options.url, sha256=options.sha256)


def closing_words(written: Written, release: Release, published: dict[str, int]) -> str:
    """What was done, how it compares with what was published, and what to do next.

    Args:
        written: result of the preparation.
        release: what was prepared.
        published: number of cases of each split in the complete release.
    """
    manifest = Manifest.read(written.folder)
    about = manifest.about
    counts = {split: sum(c["split"] == split for c in manifest.cases.values()) for split in published}
    found = " + ".join(f"{count} {split}" for split, count in counts.items())
    lines = [str(written), f"folder: {written.folder}", f"cases: {found}", f"split: {about['split']}"]
    if counts != published:
        complete = " + ".join(f"{count} {split}" for split, count in published.items())
        lines.append(f"note: the complete data set has {complete} cases; say so beside any score")
    checksum = about["source"].get("sha256")
    if release.sha256 is not None and checksum not in (None, release.sha256):
        lines.append(
            f"note: the archive's sha256 is {checksum}, not the one that is known for {release.version}; "
            "its members were checked one by one"
        )
    number = int(written.folder.name[7:10])
    lines.append(f"check it:  python data_scripts/check_dataset.py {written.folder}")
    lines.append(
        f"then:      nnUNetv2_plan_and_preprocess -d {number} -c {about['configuration']} --verify_dataset_integrity"
    )
    return "\n".join(lines)


def ending(work: Callable[[], int]) -> int:
    """Run ``work`` and return the exit status: its own, 1 after an error the user can act on, 130 after Ctrl-C."""
    try:
        return work()
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a folder without permission, a disk that went away: the system's message names the file
        print(f"error: {error}\n  -> check that the file or folder can be read and written", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
