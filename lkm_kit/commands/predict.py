"""``lkm predict``: segment a scan of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = (
    "Examples:  lkm predict scan.nii.gz -o seg.nii.gz --run tiny-2d  |  lkm predict dicom_folder -o seg.nii.gz "
    "--mirror  |  lkm predict image.nii.gz -o seg.nii.gz --run runs/train/lkm-unet-tiny-2d-0123456789"
)


def predict(
    image: Annotated[Path, typer.Argument(help="NIfTI scan, or folder of one DICOM series; any spacing, any order.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="NIfTI segmentation to write, on the scan's grid.")],
    run: Annotated[
        str | None,
        typer.Option(help="Folder of a finished run, or a checkpoint that comes with the kit; default the newest run."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="CT or MR; default what DICOM says, else what the network was trained on.")
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Average with the mirrored scan's prediction: twice the time.")
    ] = False,
    overlap: Annotated[float, typer.Option(help="Share that neighbouring windows have in common, 0 to 0.9.")] = 0.5,
    picture: Annotated[bool, typer.Option(help="Write OUTPUT.png, a picture to check the result by.")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
) -> None:
    """Segment a scan. Writes the organs' kit ids on the scan's own grid; beside it the label table and a picture."""
    from lkm_kit.commands.runs import newest_run
    from lkm_kit.data import LabelTable, organs_present
    from lkm_kit.data.scan import doubts_about, read_scan
    from lkm_kit.devices import resolve_device
    from lkm_kit.errors import KitError
    from lkm_kit.evaluation import predict_case
    from lkm_kit.training import load_checkpoint

    if not output.name.endswith((".nii", ".nii.gz")):
        raise KitError(
            f"{output} does not end in .nii or .nii.gz", remedy=f"write to {output.name}.nii.gz, for instance"
        )
    if output.exists() and image.exists() and output.samefile(image):
        raise KitError(f"{output} is the scan itself", remedy="give another name: the scan would be overwritten")
    if not 0 <= overlap <= 0.9:
        raise KitError(f"--overlap {overlap}", remedy="give a share from 0 to 0.9; 0.5 is usual")
    where = resolve_device(device)
    source = run or newest_run()
    network, record = load_checkpoint(source)
    about, table = record["preprocessing"], LabelTable.from_json(record["label_table"])
    case = read_scan(image, modality=modality, default=about["modality"])
    for doubt in doubts_about(case, about["modality"]):
        print(f"note: {doubt}")
    try:
        labels = predict_case(
            network, case, table=table, spacing_mm=about["spacing_mm"], window=about["image_size"], device=where,
            overlap=overlap, mirror=mirror, progress=True,
        )  # fmt: skip
        written = _write(output, labels, case, table, picture)
    except KeyboardInterrupt:
        raise KitError(f"stopped; {output} was not written", remedy="run the same command again") from None
    found = organs_present(labels, table)
    print(f"run {source}\nwrote {', '.join(map(str, written))}")
    for organ in table.names:
        print(f"  {organ:22s} {found.get(organ, 0) * case.voxel_ml:9.1f} ml")


def _write(output: Path, labels, case, table, picture: bool) -> list[Path]:
    """Segmentation, label table and picture, all of them or none that was not there before."""
    from lkm_kit.data import write_segmentation
    from lkm_kit.files import atomic_path
    from lkm_kit.plots.volumes import grey_range, plot_orthogonal

    stem = output.name.split(".nii")[0]
    files = [output, output.with_name(f"{stem}.labels.json"), *([output.with_name(f"{stem}.png")] if picture else [])]
    new = [file for file in files if not file.exists()]
    try:
        if picture:
            figure = plot_orthogonal(
                {case.name: labels}, case.image, case.spacing, table.by_id,
                grey=grey_range(case.image, case.modality),
            )  # fmt: skip
            with atomic_path(files[2]) as temporary:
                figure.savefig(temporary, format="png", dpi=120)
        write_segmentation(output, labels, like=case, table=table)
    except BaseException:
        for file in new:
            file.unlink(missing_ok=True)
        raise
    return files
