"""``lkm data hippocampus|init``: human-labelled scans for everybody, and loose pairs of one's own as a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lkm_kit.commands.options import ManyValues, RawFolder


def add_own(app: typer.Typer) -> None:
    """Add the two commands to ``lkm data``."""
    example = "Examples:  lkm data hippocampus  |  lkm data hippocampus --archive Task04_Hippocampus.tar"
    app.command(epilog=example)(hippocampus)
    example = (
        "Example:  lkm data init mine --images scans --labels masks --label prostate=1 --label lesion=2 --channel T2"
    )
    app.command(cls=ManyValues, epilog=example)(init)


def hippocampus(
    archive: Annotated[
        Path | None, typer.Option(help="Task04_Hippocampus.tar, or its folder; default LKM_HIPPOCAMPUS_ARCHIVE.")
    ] = None,
    out: RawFolder = None,
    number: Annotated[int, typer.Option(help="nnU-Net's data set id.")] = 4,
) -> None:
    """Make Dataset004_Hippocampus: 260 MR crops labelled by humans, split by person into 160, 20 and 80 cases.

    The archive (28 MB) is fetched once. Running it again skips what is done.
    """
    from lkm_kit.data.hippocampus import CITATION, LICENCE, TASK, prepare_hippocampus
    from lkm_kit.data.manifest import Manifest

    print(f"Medical Segmentation Decathlon, {TASK}\nlicence: {LICENCE}\ncite: {CITATION}", flush=True)
    written, left_out = prepare_hippocampus(archive, out, number=number)
    print(written)
    for case, why in left_out.items():
        print(f"left out: {case}: {why}")
    print(f"folder: {written.folder}\nsplit {Manifest.read(written.folder).about['split']}")
    print(f"then:  lkm data check {written.folder}  |  lkm train --data {written.folder}")


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make, in nnU-Net's raw layout.")],
    images: Annotated[Path, typer.Option(help="Folder of the scans, a NIfTI file a case (with channels: a channel).")],
    labels: Annotated[Path, typer.Option(help="Folder of the label maps, named as their scans.")],
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=ID", help="Name of an id; default 'label ID' of each id found.")
    ] = None,
    channel: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Name of each channel; CT is normalised as one.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Terms of use, for the record.")] = "",
    reference: Annotated[str, typer.Option(help="Whom to cite, for the record.")] = "",
    label_source: Annotated[str, typer.Option(help="Who labelled: human, silver, phantom or unknown.")] = "unknown",
) -> None:
    """Write a data set of loose pairs of files: links (or copies) of them, and the dataset.json that describes them."""
    from lkm_kit.data.dataset_init import init_dataset
    from lkm_kit.files import require_writable

    require_writable(folder, folder=True)
    data = init_dataset(
        folder,
        images,
        labels,
        names=label or (),
        channels=channel or (),
        about={"licence": licence, "reference": reference, "label_source": label_source},
    )
    shape, spacing = data.median
    print(f"{data.folder}: {len(data.training)} cases, channels {', '.join(data.channels)}")
    print(f"labels: {', '.join(f'{each.name} = {each.id}' for each in data.table)}")
    print(f"median: {'x'.join(map(str, shape))} voxels of {'x'.join(f'{s:g}' for s in spacing)} mm")
    people = len(set(data.persons.values()))
    print(f"persons: {people}, by the names; if that is wrong, write persons.csv (case,person) into the folder")
    print(f"then:  lkm data check {data.folder}  |  lkm train --data {data.folder}")
