"""``lkm predict``: segment a scan of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example:  lkm predict image.nii.gz -o seg.nii.gz --run runs/train/lkm-unet-tiny-2d-0123456789"


def predict(
    image: Annotated[Path, typer.Argument(help="NIfTI scan, any spacing and orientation.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="NIfTI segmentation to write, on the scan's grid.")],
    run: Annotated[Path | None, typer.Option(help="Folder of a finished run; default the newest one.")] = None,
    modality: Annotated[str | None, typer.Option(help="CT or MR; default what the network was trained on.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
) -> None:
    """Segment a scan. Writes the organs' kit ids on the scan's own grid, and the label table beside it as JSON."""
    from lkm_kit.commands.runs import newest_run
    from lkm_kit.data import LabelTable, organs_present, read_case, write_segmentation
    from lkm_kit.devices import resolve_device
    from lkm_kit.errors import KitError
    from lkm_kit.evaluation import predict_case
    from lkm_kit.training import load_checkpoint

    if not output.name.endswith((".nii", ".nii.gz")):
        raise KitError(
            f"{output} does not end in .nii or .nii.gz", remedy=f"write to {output.name}.nii.gz, for instance"
        )
    where = resolve_device(device)
    run = run or newest_run()
    network, record = load_checkpoint(run)
    about, table = record["preprocessing"], LabelTable.from_json(record["label_table"])
    case = read_case(image, modality=modality or about["modality"])
    if case.modality != about["modality"]:
        print(f"note: the network was trained on {about['modality']}, this is {case.modality}: expect little")
    labels = predict_case(
        network, case, table=table, spacing_mm=about["spacing_mm"], window=about["image_size"], device=where
    )
    write_segmentation(output, labels, like=case, table=table)
    voxel_ml = case.spacing[0] * case.spacing[1] * case.spacing[2] / 1000
    found = organs_present(labels)
    print(f"run {run}\nwrote {output} and {output.name.split('.nii')[0]}.labels.json")
    for organ in table.names:
        print(f"  {organ:22s} {found.get(organ, 0) * voxel_ml:9.1f} ml")
