"""``lkm predict``: segment a scan of your own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

EPILOG = (
    "Examples:  lkm predict scan.nii.gz -o seg.nii.gz --run tiny-2d  |  lkm predict dicom_folder -o seg.nii.gz "
    "--mirror  |  lkm predict imagesTs -o segmentations --run runs/train/lkm-unet-tiny-2d-0123456789"
)

OTHER_FORMATS = (".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".hdr", ".img", ".nii.bz2", ".nii.zst", ".nii.zip")


def predict(
    image: Annotated[Path, typer.Argument(help="NIfTI scan, folder of NIfTI scans, or folder of one DICOM series.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="NIfTI segmentation to write, on the scan's grid; of a folder of scans, a folder."
        ),
    ],
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
    """Segment a scan, or many. Writes ids on each scan's own grid; beside it the label table and a picture."""
    from lkm_kit.commands.runs import newest_run
    from lkm_kit.data import organs_present
    from lkm_kit.data.scan import doubts_about, read_scan
    from lkm_kit.devices import resolve_device
    from lkm_kit.errors import KitError
    from lkm_kit.evaluation import predict_case, settings_of
    from lkm_kit.training import load_checkpoint

    if not 0 <= overlap <= 0.9:
        raise KitError(f"--overlap {overlap}", remedy="give a share from 0 to 0.9; 0.5 is usual")
    _require_output(image, output)
    where = resolve_device(device)
    source = run or newest_run()
    network, record = load_checkpoint(source)
    modality_there, how = record["preprocessing"]["modality"], settings_of(record)
    table = how["table"]
    jobs = _jobs(image, output, record["network"]["input_channels"])
    for scan, target in jobs:
        if target.exists() and any(target.samefile(path) for path in scan):
            raise KitError(f"{target} is a channel of the scan", remedy="give another name: it would be overwritten")
    print(f"run {source}")
    failed = []
    for scan, target in jobs:
        try:
            case = read_scan(scan, modality=modality, default=modality_there)
            for doubt in doubts_about(case, modality_there):
                print(f"note: {doubt}")
            labels = predict_case(network, case, **how, device=where, overlap=overlap, mirror=mirror, progress=True)
            written = _write(target, labels, case, table, picture)
        except KitError as error:
            if len(jobs) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)  # the other scans are predicted all the same
            failed.append(scan[0].name)
            continue
        found = organs_present(labels, table)
        print(f"wrote {', '.join(map(str, written))}")
        for organ in table.names:
            print(f"  {organ:22s} {found.get(organ, 0) * case.voxel_ml:9.1f} ml")
    if failed:
        raise KitError(
            f"{len(failed)} of {len(jobs)} scans were not segmented: {', '.join(failed[:8])}",
            remedy="what is wrong with each is said above; the others are done",
        )


def _require_output(image: Path, output: Path) -> None:
    """The output can be written, is named for what it is, and does not lie over the scans."""
    from lkm_kit.data.dicom_slices import dicom_files
    from lkm_kit.errors import KitError
    from lkm_kit.evaluation.folders import nifti_files
    from lkm_kit.files import require_writable

    scans = nifti_files(image) if image.is_dir() else {}
    if scans and (slices := dicom_files(image)):
        raise KitError(
            f"{image} holds NIfTI scans ({next(iter(scans.values())).name}) and DICOM files ({slices[0].name})",
            remedy="give the NIfTI file itself, or move one of the two kinds into a folder of its own",
        )
    if image.is_dir() and not any(path.is_file() for path in image.glob("[!.]*")):
        below = sorted(path.name for path in image.glob("[!.]*"))
        remedy = f"give one of the folders in it: {', '.join(below[:5])}" if below else "give the folder of the scans"
        raise KitError(f"{image} holds no file, neither a NIfTI scan nor a DICOM slice", remedy=remedy)
    named = output.name.endswith((".nii", ".nii.gz"))
    if scans and named:
        raise KitError(
            f"{image} holds {len(scans)} NIfTI scans, {output} is one file",
            remedy="give a folder: -o segmentations",
        )
    if not scans and not named:
        raise KitError(
            f"{output} does not end in .nii or .nii.gz", remedy=f"write to {output.name}.nii.gz, for instance"
        )
    require_writable(output, folder=bool(scans))
    if output.exists() and image.exists() and output.samefile(image):
        what = "the scans' own folder" if scans else "the scan itself"
        raise KitError(f"{output} is {what}", remedy="give another name: what is there would be overwritten")


def _jobs(image: Path, output: Path, channels: int) -> list[tuple[list[Path], Path]]:
    """Scans, each a file or one for each channel (CASE_0000, CASE_0001, ...), and where their segmentations go."""
    from lkm_kit.evaluation.folders import nifti_files

    files = nifti_files(image) if image.is_dir() else {}
    if not files:
        return [(_channels(image, channels), output)]
    if strangers := sorted(path.name for path in image.iterdir() if path.name.lower().endswith(OTHER_FORMATS)):
        print(f"note: skipped beside the scans, convert them to .nii.gz: {', '.join(strangers)}")
    scans = {name: _channels(path, channels) for name, path in files.items()}
    others = {path for paths in scans.values() for path in paths[1:]}
    return [(paths, output / f"{name}.nii.gz") for name, paths in scans.items() if paths[0] not in others]


def _channels(path: Path, count: int) -> list[Path]:
    beside = [path.with_name(path.name.replace("_0000.nii", f"_{i:04d}.nii")) for i in range(1, count)]
    return [path, *beside] if "_0000.nii" in path.name and all(p.is_file() for p in beside) else [path]


def _write(output: Path, labels, case, table, picture: bool) -> list[Path]:
    """Segmentation, label table and picture, all of them or none that was not there before."""
    from lkm_kit.data import write_segmentation
    from lkm_kit.data.nifti import case_name
    from lkm_kit.files import atomic_path

    drawn = _drawn(labels, case, table) if picture else None
    stem = case_name(output)
    files = [output, output.with_name(f"{stem}.labels.json"), *([output.with_name(f"{stem}.png")] if drawn else [])]
    new = [file for file in files if not file.exists()]
    try:
        if drawn:
            with atomic_path(files[2]) as temporary:
                temporary.write_bytes(drawn)
        write_segmentation(output, labels, like=case, table=table)
    except BaseException:
        for file in new:
            file.unlink(missing_ok=True)
        raise
    return files


def _drawn(labels, case, table) -> bytes | None:
    """The picture as PNG; None where it cannot be drawn: that must not cost the segmentation."""
    import io

    from lkm_kit.plots.volumes import grey_range, plot_orthogonal

    drawn = io.BytesIO()
    image = case.image if case.image.ndim == 3 else case.image[0]
    try:
        grey = grey_range(image, case.modality)
        figure = plot_orthogonal({case.name: labels}, image, case.spacing, table.by_id, grey=grey)
        figure.savefig(drawn, format="png", dpi=120)
    except Exception as error:
        print(f"note: no picture could be drawn ({error})")
        return None
    return drawn.getvalue()
