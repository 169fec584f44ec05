"""``lkm data amos|flare|umamba``: published archives as raw data sets of nnU-Net."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lkm_kit.commands.options import ManyValues, RawFolder

if TYPE_CHECKING:
    from lkm_kit.data.nnunet_raw import Written
    from lkm_kit.data.releases import Release

Archive = Annotated[Path | None, typer.Option(help="The archive, or the folder it was unpacked into.")]
Url = Annotated[str | None, typer.Option(help="Download it from this address first (goes on where it stopped).")]
Download = Annotated[bool, typer.Option("--download", help="The same from the publisher's address.")]
Sha256 = Annotated[str | None, typer.Option(help="Expected checksum of the download; 'none' to take whatever comes.")]
Number = Annotated[int | None, typer.Option(help="nnU-Net's data set id; default the one above.")]
LeaveOut = Annotated[list[str] | None, typer.Option(metavar="CASE", help="Cases to go on without.")]
Trust = Annotated[bool, typer.Option("--trust-modality", help="Do not check that intensities look like the modality.")]
AGAIN = "Running it again skips what is done, writes anew what has changed, and goes on after an interruption."


def add_published(app: typer.Typer) -> None:
    """Add the three commands to ``lkm data``."""
    _add(
        app,
        "amos",
        "Make Dataset722_AMOS22MR of AMOS22's labelled MR scans (amos22.zip, 24.2 GB): 40 to train on, 20 to test on.",
    )
    _add(
        app,
        "flare",
        "Make Dataset721_FLARE22CT of FLARE22's labelled CT scans (FLARE22Train.zip): 40 to train on, 10 to test on.",
    )
    app.command(cls=ManyValues, epilog="Example:  lkm data umamba --archive downloaded-folder/")(umamba)


def _add(app: typer.Typer, name: str, text: str) -> None:
    def command(
        archive: Archive = None,
        url: Url = None,
        download: Download = False,
        sha256: Sha256 = None,
        out: RawFolder = None,
        number: Number = None,
        leave_out: LeaveOut = None,
        trust_modality: Trust = False,
    ) -> None:
        from lkm_kit.data import RELEASES
        from lkm_kit.data.amos import AMOS_MR_COUNTS, prepare_amos_mr
        from lkm_kit.data.flare import FLARE_CT_COUNTS, prepare_flare_ct

        key, prepare, counts = {
            "amos": ("amos22", prepare_amos_mr, AMOS_MR_COUNTS),
            "flare": ("flare22", prepare_flare_ct, FLARE_CT_COUNTS),
        }[name]
        given = _input(RELEASES[key], archive, url, download, sha256)
        chosen = {} if number is None else {"number": number}
        written = prepare(given, out, without=leave_out or (), check_modality=not trust_modality, **chosen)
        print(closing_words(written, RELEASES[key], counts))

    example = f"Examples:  lkm data {name} --download  |  lkm data {name} --archive FILE_OR_FOLDER --out nnUNet_raw"
    split = "Not the paper's split: its test scans are only in the folders that lkm data umamba takes."
    text = f"{text}\n\nImages are copied byte by byte, labels get the kit's ids. {split} {AGAIN}"
    app.command(name, cls=ManyValues, help=text, epilog=example)(command)


def umamba(
    archive: Archive = None,
    url: Url = None,
    sha256: Sha256 = None,
    out: RawFolder = None,
    only: Annotated[int | None, typer.Option(help="701 or 702; default those that are in the archive.")] = None,
    leave_out: LeaveOut = None,
    trust_modality: Trust = False,
) -> None:
    """Check and copy the U-Mamba authors' Dataset701_AbdomenCT and Dataset702_AbdomenMR: the paper's split.

    Only with these folders can scores be compared with the paper's Tables 1 to 3. Fetch them with a browser: the link
    is in the README of github.com/bowang-lab/U-Mamba, in data/. Running it again goes on after an interruption.
    """
    from lkm_kit.data import RELEASES, prepare_umamba
    from lkm_kit.data.umamba_folders import UMAMBA_FOLDERS
    from lkm_kit.errors import one_of

    release = RELEASES["u-mamba"]
    published = {about.number: about.counts for about in UMAMBA_FOLDERS}
    numbers = published if only is None else [one_of(only, published, "folder of U-Mamba's with the number")]
    given = _input(release, archive, url, False, sha256)
    results = prepare_umamba(given, out, numbers=numbers, without=leave_out or (), check_modality=not trust_modality)
    for written in results:
        print(closing_words(written, release, published[written.number]))


def _input(release: Release, archive: Path | None, url: str | None, download: bool, sha256: str | None) -> Path:
    """The archive or folder that the options name, downloaded if need be; says the licence first."""
    from lkm_kit.data import obtain
    from lkm_kit.errors import KitError

    if [archive is not None, url is not None, download].count(True) != 1:
        ways = "--archive and --url" if release.url is None else "--archive, --url and --download"
        raise KitError(f"where {release.name} is to come from is not said, or twice", remedy=f"give one of {ways}")
    print(f"{release.name} ({release.version})\nlicence: {release.licence}\ncite: {release.citation}", flush=True)
    return obtain(release, archive, url=url, sha256=sha256)


def closing_words(written: Written, release: Release, published: dict[str, int]) -> str:
    """What was done, how it compares with what was published, and what to do next.

    Args:
        written: result of the preparation.
        release: what was prepared.
        published: number of cases of each split in the complete release.
    """
    from lkm_kit.data.manifest import Manifest

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
    lines.append(f"check it:  lkm data check {written.folder}")
    plan = f"nnUNetv2_plan_and_preprocess -d {written.number} -c {about['configuration']} --verify_dataset_integrity"
    return "\n".join([*lines, f"then:      {plan}"])
