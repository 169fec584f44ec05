"""``lkm evaluate``: DSC and NSD per organ of a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = (
    "Examples:  lkm evaluate  |  lkm evaluate runs/train/lkm-unet-tiny-2d-0123456789 --rule official  |  "
    "lkm evaluate RUN --image scan.nii.gz --label truth.nii.gz"
)


def evaluate(
    run: Annotated[Path | None, typer.Argument(help="Folder of a finished run; default the newest one.")] = None,
    image: Annotated[
        Path | None, typer.Option(help="Score this scan instead of the sample data (with --label).")
    ] = None,
    label: Annotated[Path | None, typer.Option(help="Label map with kit ids on the scan's grid.")] = None,
    case: Annotated[str, typer.Option(help="Held-out sample case.")] = "ct_b",
    slices: Annotated[
        int | None, typer.Option(help="Held-out warps of the cohort to score; default from the profile, 0 for none.")
    ] = None,
    rule: Annotated[
        str, typer.Option(help="plain or official (the paper's script); warps are always plain.")
    ] = "plain",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Rows as CSV; default per_case.csv in the run's folder.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
) -> None:
    """Print DSC and NSD per organ on the cohort's test warps and on a held-out patient, and write every row."""
    import pandas as pd

    from lkm_kit.commands.runs import newest_run
    from lkm_kit.data import CohortSlices, LabelTable, load_sample, read_case, sample_source
    from lkm_kit.devices import resolve_device
    from lkm_kit.errors import KitError
    from lkm_kit.evaluation import RULES, organ_table, score_case, score_slices
    from lkm_kit.files import atomic_path
    from lkm_kit.profiles import profile
    from lkm_kit.training import load_checkpoint

    if rule not in RULES:
        raise KitError(f"there is no scoring rule {rule!r}", remedy=f"choose one of {', '.join(RULES)}")
    if (image is None) != (label is None):
        raise KitError("--image and --label belong together", remedy="give both, or neither for the sample data")
    run = run or newest_run()
    network, record = load_checkpoint(run)
    table, about, config = (
        LabelTable.from_json(record["label_table"]),
        record["preprocessing"],
        record["training"]["config"],
    )
    where = resolve_device(device)
    how = {"spacing_mm": about["spacing_mm"], "window": about["image_size"], "device": where}
    print(f"run {run}\nrule {rule}: {RULES[rule]}")
    rows = {}
    if image is not None:
        patient = read_case(image, label, modality=about["modality"])
        rows[f"{patient.name}"] = score_case(network, patient, table=table, rule=rule, **how)
    else:
        sample_source()
        count = profile().test_slices if slices is None else slices
        if count and len(about["image_size"]) == 2:
            warps = CohortSlices(
                "test", size=tuple(about["image_size"]), spacing_mm=about["spacing_mm"], table=table, length=count,
                seed=config["data_seed"],
            )  # fmt: skip
            rows[f"{count} held-out warps of the training patient (plain)"] = score_slices(
                network, warps, table=table, spacing_mm=about["spacing_mm"], device=where
            )
        patient = load_sample(case)
        title = f"{case}, another patient; its labels are a model's predictions, not a human's"
        rows[title] = score_case(network, patient, table=table, rule=rule, **how)
    for title, scored in rows.items():
        print(f"\n{title}\n{organ_table(scored).round(4).to_string()}")
    target = output or run / "per_case.csv"
    with atomic_path(target) as temporary:
        pd.concat(rows.values(), ignore_index=True).to_csv(temporary, index=False)
    print(f"\nall rows: {target}")
