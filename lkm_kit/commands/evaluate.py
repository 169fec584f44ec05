"""``lkm evaluate``: every metric per organ, of a trained run or of a folder of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lkm_kit.commands.options import Phantoms

EPILOG = (
    "Examples:  lkm evaluate  |  lkm evaluate runs/train/lkm-unet-tiny-2d-0123456789 --rule official  |  "
    "lkm evaluate RUN --data hippocampus --split validation  |  "
    "lkm evaluate tiny-2d --image scan.nii.gz --label truth.nii.gz  |  "
    "lkm evaluate --predictions pred --labels labelsTs --images imagesTs -o scores.csv"
)


def evaluate(
    run: Annotated[
        str | None, typer.Argument(help="Folder of a finished run, or a packaged checkpoint; default the newest run.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Score this scan instead of the sample data (with --label).")
    ] = None,
    label: Annotated[Path | None, typer.Option(help="Label map on the scan's grid.")] = None,
    modality: Annotated[
        str | None, typer.Option(help="CT or MR, of --image; default what the network was trained on.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Score the cases of this data set (folder, or name in nnUNet_raw), each whole.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of the data set: test, validation or train.")] = "test",
    predictions: Annotated[
        Path | None, typer.Option(help="Score this folder of segmentations (with --labels); no network runs.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Folder of label maps with the predictions' names.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the scans, for the pictures of the worst cases.")
    ] = None,
    label_ids: Annotated[str, typer.Option(help="Numbering of the labels: kit, amos, total or total_mr.")] = "kit",
    worst: Annotated[int, typer.Option(min=0, help="With folders: how many of the worst cases to picture.")] = 3,
    case: Annotated[
        str | None, typer.Option(help="Sample case: ct_a, ct_b or mr_d; default one that the training has not seen.")
    ] = None,
    slices: Annotated[
        int | None,
        typer.Option(min=0, help="Held-out deformed copies to score; default from the profile, 0 for none."),
    ] = None,
    rule: Annotated[
        str, typer.Option(help="plain or official (the paper's script); deformed copies are always plain.")
    ] = "plain",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Rows as CSV; default per_case.csv in the run's or predictions' folder."),
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Average with the mirrored case's prediction: twice the time.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    phantoms: Phantoms = False,
) -> None:
    """Print every metric per organ, and write every row: the cohort's and a held-out patient's, or folders'."""
    from lkm_kit.commands.runs import data_of_run
    from lkm_kit.errors import KitError, one_of
    from lkm_kit.evaluation import RULES

    one_of(rule, RULES, "scoring rule")
    if (image is None) != (label is None):
        raise KitError("--image and --label belong together", remedy="give both, or neither for the sample data")
    if (predictions is None) != (labels is None):
        raise KitError("--predictions and --labels belong together", remedy="give both folders")
    if predictions is not None:
        if mirror:
            raise KitError("--mirror beside --predictions", remedy="give --mirror to `lkm predict`, which made them")
        _folders(predictions, labels, images, label_ids, rule, worst, output)
    elif (data := data or (None if image else data_of_run(run))) is not None:
        _data(run, data, split, rule, worst, output, mirror, device)
    else:
        _run(run, image, label, modality, label_ids, case, slices, rule, output, mirror, device)


def _run(run, image, label, modality, label_ids, case, slices, rule, output, mirror, device) -> None:
    """Let a network segment, then score it."""
    import pandas as pd

    from lkm_kit.commands.runs import newest_run
    from lkm_kit.data import load_sample, organs_present, read_case, sample_source, training_case
    from lkm_kit.data.case import require_contrast
    from lkm_kit.data.geometry import require_one_geometry
    from lkm_kit.data.scan import doubts_about
    from lkm_kit.devices import resolve_device
    from lkm_kit.evaluation import organ_table, score_case, score_slices, settings_of
    from lkm_kit.files import require_writable
    from lkm_kit.profiles import profile
    from lkm_kit.training import TrainConfig, load_checkpoint
    from lkm_kit.training.batches import cohort_items
    from lkm_kit.training.record import PACKAGED, checkpoint_folder

    folder = checkpoint_folder(run or newest_run())
    # the kit's own folder may belong to somebody else: rows of its checkpoints go to the working folder
    output = output or (Path() if folder.parent == PACKAGED else folder) / "per_case.csv"
    require_writable(output)
    network, record = load_checkpoint(folder)
    about = record["preprocessing"]
    how = {**settings_of(record), "device": resolve_device(device)}
    table, where = how["table"], how["device"]
    print(f"run {folder}")
    rows = {}
    if image is not None:
        ids = table if label_ids == "kit" else label_ids
        patient = read_case(image, label, modality=modality or about["modality"], label_ids=ids)
        require_contrast(patient.image, str(image))
        require_one_geometry(patient.header, image)
        title = f"{patient.name}: {patient.source.text}"
    else:
        print(sample_source())
        trained_on = training_case(about["modality"])
        count = profile().test_slices if slices is None else slices
        if count and len(about["image_size"]) == 2:
            warps = cohort_items(TrainConfig.from_json(record["training"]["config"]), "test", count)
            scored = score_slices(network, warps, table=table, spacing_mm=about["spacing_mm"], device=where)
            kind = f"{count} held-out deformed copies of the training {warps.source.subject}, {trained_on.name} (plain)"
            rows[f"{kind}: {warps.source.text}"] = scored.assign(source=warps.source.text)
        patient = load_sample(case or ("ct_b" if about["modality"] == "CT" else trained_on.name))
        which = "the training" if patient.name == trained_on.name else "another"
        title = f"{patient.name}, {which} {patient.source.subject}: {patient.source.text}"
    for doubt in doubts_about(patient, about["modality"]):
        print(f"note: {doubt}")
    scored = score_case(network, patient, rule=rule, mirror=mirror, **how)
    rows[title] = scored.assign(source=patient.source.text)
    _write(output, pd.concat(rows.values()))
    _say_rule(rule)
    for title, scored in rows.items():
        print(f"\n{title}\n{organ_table(scored).round(4).to_string()}")
    if absent := [organ for organ in table.names if organ not in organs_present(patient.label, table)]:
        print(f"\n{patient.name} has no {', '.join(absent)} in its labels; one that is found all the same counts 0")


def _data(run, folder, side, rule, worst, output, mirror, device) -> None:
    """Score the cases of one side of a data set's split, in 3D."""
    from lkm_kit.commands.runs import newest_run
    from lkm_kit.data import find_dataset
    from lkm_kit.devices import resolve_device
    from lkm_kit.evaluation import organ_table, score_dataset, trained_cases
    from lkm_kit.evaluation.folders import case_table
    from lkm_kit.files import require_writable
    from lkm_kit.training import load_checkpoint
    from lkm_kit.training.record import PACKAGED, checkpoint_folder

    place = checkpoint_folder(run or newest_run())
    data = find_dataset(folder)
    output = output or (Path() if place.parent == PACKAGED else place) / f"per_case_{data.name}_{side}.csv"
    require_writable(output)
    network, record = load_checkpoint(place)
    names, notes = trained_cases(record, data, side)
    print(f"run {place}\n{data}\n{side}: {len(names)} cases")
    for note in notes:
        print(f"note: {note}")
    how = {"rule": rule, "device": resolve_device(device), "mirror": mirror}
    rows = score_dataset(network, record, data, names, progress=True, **how)
    _write(output, rows)
    _say_rule(rule)
    cases = case_table(rows)
    scores = list(cases.columns)
    print(f"\n{data.source.text}\n{organ_table(rows).round(4).to_string()}")
    print(f"median of the cases: {', '.join(f'{name} {cases[name].median():.4f}' for name in scores)}")
    print(f"worst cases\n{cases.head(worst).round(4).to_string()}")


def _folders(predictions: Path, labels: Path, images, label_ids, rule, worst, output) -> None:
    """Score what lies in two folders: rows, a summary beside them, and pictures of the worst cases."""
    from lkm_kit.data import LabelTable
    from lkm_kit.evaluation import organ_table
    from lkm_kit.evaluation.folders import case_table, nifti_files, pair_files, read_pair, score_folders, table_of
    from lkm_kit.files import atomic_path, require_writable

    scans = nifti_files(images) if images is not None else {}
    pairs = pair_files(predictions, labels)
    target = require_writable(output or predictions / "per_case.csv")
    table = table_of([found for found, _ in pairs.values()]) or LabelTable()
    rows = score_folders(predictions, labels, table=table, rule=rule, label_ids=label_ids, progress=True)
    summary, cases = organ_table(rows), case_table(rows)
    _write(target.with_name(f"{target.stem}_summary.csv"), summary.reset_index())
    _write(target, rows)
    _say_rule(rule)
    print(
        f"{len(cases)} cases\n{summary.round(4).to_string()}\n\nworst cases\n{cases.head(worst).round(4).to_string()}"
    )
    for place, name in enumerate(cases.index[:worst], start=1):
        case = read_pair(name, *pairs[name], table=table, label_ids=label_ids)
        figure = _picture(case, scans.get(name), table)
        path = target.with_name(f"{target.stem}_worst_{place}_{name}.png")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
        print(f"picture: {path}")


def _picture(case, scan: Path | None, table):
    """Truth above prediction, the scored organs of both; ``case`` holds the prediction as its image."""
    import numpy as np

    from lkm_kit.data import read_image
    from lkm_kit.data.geometry import require_same_geometry
    from lkm_kit.data.preprocess import looks_like
    from lkm_kit.plots.volumes import grey_range, middle_of, plot_orthogonal

    image, grey = np.zeros(case.shape, np.float32), (0.0, 1.0)
    if scan is not None:
        image, affine, _ = read_image(scan)
        require_same_geometry(image.shape, affine, case.shape, case.affine, str(scan), f"the label of {case.name}")
        grey = grey_range(image, looks_like(image))
    rows = {f"{case.name}, label": case.label, "prediction": case.image}
    at = middle_of(case.label if case.label.any() else rows["prediction"])
    return plot_orthogonal(rows, image, case.spacing, table.by_id, grey=grey, at=at)


def _say_rule(rule: str) -> None:
    from lkm_kit.evaluation import RULES

    print(f"rule {rule}: {RULES[rule]}")


def _write(path: Path, rows) -> None:
    from lkm_kit.files import ESCAPED, atomic_path

    with atomic_path(path) as temporary:
        rows.to_csv(temporary, index=False, errors=ESCAPED)
    print(f"table: {path}")
