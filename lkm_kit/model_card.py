"""A model card: what a trained network is, what it learnt from, how well it does, and what it is not for.

Every number is read from the run's own record (``weights.json``), so that a card cannot say more than the run did.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lkm_kit.data.sample import TOTALSEGMENTATOR
from lkm_kit.data.source import GIVEN, Source
from lkm_kit.training.checkpoint import load_checkpoint
from lkm_kit.training.config import OF_THE_FILES, TrainConfig
from lkm_kit.training.record import PACKAGED, checkpoint_folder

CARD = "model_card.md"
FITTED = ("axis", "batch_size", "image_size", "modality", "network_overrides", "organs", "spacing_mm", "train_slices")
"""Fields that a data set changes, where the command line does not say them."""
LEARNT = 0.1
"""A label with a DSC below this is said not to be learnt."""


def model_card(run_dir: str | Path) -> str:
    """The card of a finished run, as markdown.

    Args:
        run_dir: a run's folder, or a name of :func:`lkm_kit.training.packaged_checkpoints`.

    Raises:
        KitError: see :func:`lkm_kit.training.load_checkpoint`.

    >>> model_card("tiny-2d").splitlines()[0]
    '# Model card: tiny-2d'
    """
    folder = checkpoint_folder(run_dir)
    network, record = load_checkpoint(folder)
    config = TrainConfig.from_json(record["training"]["config"])
    parts = {
        "": _network(folder, record, sum(p.numel() for p in network.parameters())),
        "Data": _data(record, config),
        "Training": _training(record, config),
        "Scores": _scores(record, config),
        "Limits": _limits(record, config),
    }
    sections = [f"## {title}\n\n{text}" if title else text for title, text in parts.items()]
    return "\n\n".join([f"# Model card: {folder.name}", *sections]) + "\n"


def training_command(config: TrainConfig) -> str:
    """The call of ``lkm train`` that asks for this config, on top of the profile ``laptop``.

    >>> training_command(TrainConfig.from_profile("laptop", seed=3, iterations=9, train_slices=72))
    'lkm train --profile laptop --set iterations=9 --set seed=3 --set train_slices=72'
    """
    usual, asked = TrainConfig.from_profile("laptop").to_dict(), config.to_dict()
    words = ["lkm", "train", "--profile", "laptop"]
    own = config.data != "cohort"
    words += ["--data", Path(config.data).name] if own else []
    for field in sorted(set(asked) - set(OF_THE_FILES)):
        if asked[field] != usual[field] or (own and field in FITTED):
            words += ["--set", f"{field}={_json(asked[field])}"]
    return shlex.join(words)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _network(folder: Path, record: Mapping[str, Any], parameters: int) -> str:
    about, network = record["preprocessing"], record["network"]
    size = "×".join(map(str, about["image_size"]))
    spacing = about["spacing_mm"]
    pixel = "×".join(f"{mm:g}" for mm in (spacing if isinstance(spacing, list) else [spacing]))
    kind = "slices" if len(about["image_size"]) == 2 else "patches"
    channels = network["input_channels"]
    overrides = ", ".join(f"{k}={_json(v)}" for k, v in network["overrides"].items())
    packaged = folder.parent == PACKAGED
    rows = {
        "network": f"`{network['name'] or network['class']}`" + (f" with `{overrides}`" if overrides else ""),
        "parameters": f"{parameters:,}".replace(",", " "),
        "input": f"{about['modality']}, {channels} channel{'s' * (channels > 1)}, {kind} of {size} at {pixel} mm",
        "output": f"background, {', '.join(TrainConfig.from_json(record['training']['config']).table.names)}",
        "file": f"`weights.safetensors`, sha256 `{record['sha256'][:16]}…`; the record is `weights.json`",
        "licence": "Apache-2.0, as the kit's" if packaged else "whatever the one who trained it says",
    }
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
    run = folder.name if packaged else "FOLDER"
    return f"{table}\n\n    lkm predict scan.nii.gz -o labels.nii.gz --run {run}"


def _source(record: Mapping[str, Any], config: TrainConfig) -> Source:
    """Records of the first format do not name it: all of them are of the sample scans."""
    if said := record["training"].get("source"):
        return Source.from_json(said)
    return TOTALSEGMENTATOR if config.data == "cohort" else GIVEN


def _data(record: Mapping[str, Any], config: TrainConfig) -> str:
    source, data = _source(record, config), record["training"].get("data")
    if data is None:
        again = "once at most" if config.iterations * config.batch_size <= config.train_slices else "several times"
        what = f"Seeded deformed copies of one {source.subject}: {config.train_slices} items, each seen {again}."
    else:
        cases = ", ".join(f"{len(names)} {side}" for side, names in data["split"].items())
        what = f"{data['name']} (content {data['digest'][:12]}…), cases: {cases}; their names are in the record."
    terms = [f"Licence of the data: {source.licence or 'not said'}", *filter(None, [source.citation])]
    return f"{source.text[0].upper()}{source.text[1:]}. {what}\n{'. '.join(terms)}."


def _training(record: Mapping[str, Any], config: TrainConfig) -> str:
    training = record["training"]
    start = training.get("start")
    software = f"kit {training.get('kit_version', record['kit_version'])}"
    software += f" (sources {training['code']})" if "code" in training else ""
    told = [
        f"{training['steps']} steps in {training['seconds'] / 60:.1f} minutes on {training['device']},"
        f" {software}, torch {training['torch']}, seed {config.seed}.",
        f"It began with the weights of another run: `{_json(start)}`." if start else "",
        "The same numbers need the same software too.",
    ]
    return f"    {training_command(config)}\n\n{' '.join(filter(None, told))}"


def _scores(record: Mapping[str, Any], config: TrainConfig) -> str:
    last, names = record["training"]["last"], config.table.names
    where = (
        f"{config.validation_slices} further deformed copies of the {_source(record, config).subject} it was trained on"
        if record["training"].get("data") is None
        else f"{config.validation_slices} items of the validation cases"
    )
    rows = [f"| {name} | {_score(last.get(f'DSC {name}'))} |" for name in names]
    table = "\n".join(["| label | DSC |", "|---|---|", *rows, f"| mean | {_score(last.get('DSC'))} |"])
    return f"At the last validation (step {last['step']}), over {where}:\n\n{table}"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _limits(record: Mapping[str, Any], config: TrainConfig) -> str:
    source, last = _source(record, config), record["training"]["last"]
    missed = [name for name in config.table.names if (last.get(f"DSC {name}") or 0) < LEARNT]
    told = ["No medical device: made to learn from and to test the kit with, not to read scans."]
    if record["training"].get("data") is None:
        told.append(f"It knows one {source.subject}. The scores show that it learnt, not how it does on other people.")
    if source.labels != "human":
        told.append(f"{source.text}: an error of the labels is learnt as if it were true.")
    if missed:
        told.append(f"Not learnt: {', '.join(missed)}.")
    told.append(f"Made for {config.modality}; scans of another kind get an answer without meaning.")
    told.append("One seed: a difference from another network says nothing before it is held against other seeds.")
    return "\n".join(f"* {line[0].upper()}{line[1:]}" for line in told)
