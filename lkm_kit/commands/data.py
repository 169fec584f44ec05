"""``lkm data``: fetch, prepare, check and show data. Each script in ``data_scripts`` is one of these commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lkm_kit.commands.data_own import add_own
from lkm_kit.commands.data_published import add_published
from lkm_kit.commands.options import ManyValues, RawFolder

app = typer.Typer(
    help="Fetch, prepare, check and show data.",
    epilog="Examples:  lkm data sample  |  lkm data amos --download  |  lkm data check nnUNet_raw/Dataset722_AMOS22MR",
    no_args_is_help=True,
)


@app.command(epilog="Examples:  lkm data sample  |  lkm data sample --archive totalsegmentator-2.18.0.tar.gz")
def sample(
    archive: Annotated[Path | None, typer.Option(help="The source archive, if you have it already.")] = None,
) -> None:
    """Fetch the real sample scans (38 MB, once, checked by sha256) and say what they are, where from, which licence.

    Exit status 1 where they are not there and cannot be fetched.
    """
    from lkm_kit.data import fetch_sample, load_sample, organs_present, sample_names, sample_source
    from lkm_kit.data.sample import Unreachable

    if archive is not None:
        fetch_sample(archive)
    try:
        print(sample_source())
    except Unreachable as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    for name in sample_names():
        case = load_sample(name)
        grid = "x".join(map(str, case.shape))
        spacing = "x".join(f"{s:.3g}" for s in case.spacing)
        print(f"\n{case.name}: {case.modality}, {grid} voxels of {spacing} mm")
        print("  " + ", ".join(f"{organ} {count}" for organ, count in organs_present(case.label).items()))


@app.command(cls=ManyValues, epilog="Examples:  lkm data cohort  |  lkm data cohort --dimensions 3 --size 32 96 96")
def cohort(
    out: RawFolder = None,
    number: Annotated[int | None, typer.Option(help="nnU-Net's data set id; default 731, of volumes 732.")] = None,
    dimensions: Annotated[int, typer.Option(min=2, max=3, help="2: slices, 3: volumes.")] = 2,
    size: Annotated[list[int] | None, typer.Option(help="Pixels X Y or Z X Y; default 128 128, 32 128 128.")] = None,
    spacing: Annotated[float, typer.Option(help="In-plane size of a pixel in mm.")] = 3.0,
    train: Annotated[int, typer.Option(min=1, help="Number of items to train on.")] = 200,
    validation: Annotated[int, typer.Option(min=0, help="Number of items to validate on.")] = 40,
    test: Annotated[int, typer.Option(min=0, help="Number of items to test on.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of the cohort.")] = 0,
) -> None:
    """Write the kit's cohort, seeded deformed copies of one real scan, as an nnU-Net data set: Dataset731_CohortSlices.

    All splits come from one anatomy: scores show learning, not generalisation to other people.
    """
    from lkm_kit.data import fetch_sample, sample_source, write_cohort

    fetch_sample()  # without the real scan there is no cohort: phantoms would pass for it on the disk
    print(sample_source())
    written = write_cohort(
        out,
        size=size or {2: (128, 128), 3: (32, 128, 128)}[dimensions],
        spacing_mm=spacing,
        lengths={"train": train, "validation": validation, "test": test},
        seed=seed,
        number=number,
    )
    print(f"{written}\nfolder: {written.folder}")


@app.command(cls=ManyValues, epilog="Example:  lkm data check nnUNet_raw/Dataset702_AbdomenMR")
def check(
    dataset: Annotated[Path, typer.Argument(help="Folder of a data set, or its name in nnUNet_raw.")],
    report: Annotated[Path | None, typer.Option(help="Where to write; default check/ in that folder.")] = None,
    accept: Annotated[list[str] | None, typer.Option(metavar="CASE", help="Cases whose errors are known.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 for warnings too.")] = False,
) -> None:
    """Look a data set over before days of training go into it: exit status 0 without errors, 1 with errors.

    The report (cases.csv, findings.csv, contact_sheet.png) shows patients' scans: keep it as private as they are.
    """
    from lkm_kit.data import check_dataset, find_dataset
    from lkm_kit.files import atomic_path, require_writable

    place = find_dataset(dataset).folder
    folder = require_writable(report or place / "check", folder=True)
    found = check_dataset(place, accept=accept or ())
    print(found)
    paths = found.write(folder)
    if found.previews:
        from lkm_kit.plots.contact_sheet import plot_contact_sheet

        marked = {f.case: f.level for f in reversed(found.findings) if f.level in ("error", "warning")}
        paths.append(folder / "contact_sheet.png")
        with atomic_path(paths[-1]) as temporary:
            plot_contact_sheet(found.previews, found.names, marked=marked).savefig(temporary, format="png", dpi=110)
    print("written: " + ", ".join(str(path) for path in paths))
    warned = any(finding.level == "warning" for finding in found.findings)
    if not found.ok or (strict and warned):
        raise typer.Exit(1)


add_published(app)
add_own(app)
