"""The committed figures: one function each, rebuilt by ``lkm figures`` with captions and the tables they draw.

A figure that shows trained networks takes them from ``runs/`` when they are there, and trains them when they are not:
the same configs as in chapter 08, so that either of the two finds what the other one made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path
from lkm_kit.plots.style import figure_folder, save_figure, use_style
from lkm_kit.profiles import profile

ARMS = {"LKM-UNet": {}, "no Mamba": {"pim": False, "pam": False}}


class Built(NamedTuple):
    """What a figure function returns.

    Args:
        figure: the picture.
        text: its caption, one or two sentences.
        config: what was run, as plain values.
        profile, seed: None for a figure that depends on neither.
        tables: name -> the numbers behind the picture, written as CSV.
    """

    figure: Figure
    text: str
    config: dict[str, Any]
    profile: str | None = None
    seed: int | None = None
    tables: dict[str, pd.DataFrame] = {}  # noqa: RUF012  never changed


def token_orders() -> Built:
    """The three readings of "a 4×4 kernel", pixel by pixel."""
    import torch

    from lkm_kit.blocks import to_tokens
    from lkm_kit.plots.networks import plot_token_orders

    size, window = 12, 4
    titles = {
        "contiguous": "paper: windows of 4×4",
        "dilated": "released code: a grid of stride 4",
        "count": "authors' answer: 4×4 windows",
    }
    orders = {}
    for partition, title in titles.items():
        index = to_tokens(torch.arange(size * size).reshape(1, 1, size, size), window, partition)[..., 0]
        sequence, place = torch.empty(2, size * size, dtype=torch.long)
        sequence[index] = torch.arange(index.shape[0])[:, None].expand_as(index)
        place[index] = torch.arange(index.shape[1]).expand_as(index)
        orders[title] = sequence.reshape(size, size).numpy(), place.reshape(size, size).numpy()
    text = (
        "One colour is one sequence of tokens; numbers follow the scan through the first one. The paper's text, its "
        "released code and its authors' answer to a reader give the same number three meanings."
    )
    return Built(plot_token_orders(orders), text, {"map": size, "window": window})


def tokens_per_stage() -> Built:
    """How long the sequences are at every stage of the paper's and of the released 2D network."""
    import torch

    from lkm_kit.networks import build_network, describe
    from lkm_kit.plots.networks import plot_tokens_per_stage

    tables = {}
    for reading in ("paper", "released"):
        with torch.device("meta"):  # counting needs no memory
            network = build_network(f"lkm-unet/{reading}-2d", input_channels=1, num_classes=14)
        tables[reading] = describe(network, (320, 320))
    text = (
        "Tokens in one sequence, stage by stage, for a 320×320 image: windows as the paper describes them, and the "
        "grid that the released code makes. At the last stage a sequence of the released network has one token."
    )
    return Built(
        plot_tokens_per_stage(tables), text, {"image_size": [320, 320]}, tables={"tokens_per_stage": pd.concat(tables)}
    )


def training_history() -> Built:
    """Loss and validation DSC of LKM-UNet and its control."""
    from lkm_kit.plots.training import plot_history

    results = _trained()
    histories = {arm: result.history for arm, result in results.items()}
    text = (
        "Training of the small LKM-UNet and of the same network without its Mamba blocks: same first weights of the "
        "convolutions, same slices in the same order. The DSC is that of warps of the training patient."
    )
    tables = {"training_history": pd.concat(histories, names=["arm", "mark"])}
    return _of_the_runs(plot_history(histories), text, tables)


def organ_scores() -> Built:
    """DSC and NSD per organ: on held-out warps, and on a patient that was never seen."""
    from lkm_kit.plots.training import plot_organ_scores

    warps, stranger = _scores()
    cases = len(_test_warps())
    titles = {
        f"{cases} held-out warps of the training patient": warps,
        "ct_b: another patient, silver labels": stranger,
    }
    text = (
        "Every dot is one organ of one network; a line joins the two networks. One training each: a difference says "
        "nothing before it is compared with the spread between seeds."
    )
    return _of_the_runs(plot_organ_scores(titles), text, {"organ_scores_warps": warps, "organ_scores_ct_b": stranger})


def held_out_patient() -> Built:
    """Slices of the held-out patient with the labels and both predictions."""
    import numpy as np

    from lkm_kit.data import load_sample, normalize
    from lkm_kit.plots.training import plot_predictions

    case, table = load_sample("ct_b"), _config().table
    present = [len(np.unique(case.label[..., z])) for z in range(case.shape[2])]
    heights = sorted({int(np.argmax(present)), case.shape[2] // 4})
    grey = normalize(case.image, case.modality)

    def upright(volume, z):
        return np.asarray(volume[::2, ::2, z])[::-1, ::-1].T

    maps = {arm: table.to_classes(labels) for arm, labels in _segmented().items()}
    figure = plot_predictions(
        [upright(grey, z) for z in heights],
        [upright(table.to_classes(case.label), z) for z in heights],
        {arm: [upright(volume, z) for z in heights] for arm, volume in maps.items()},
        table.names,
        titles=[f"ct_b, slice {z}" for z in heights],
    )
    text = (
        "A patient that no network has seen, with contrast agent that no training image had. Left the silver labels, "
        "then two networks trained on warps of one other patient."
    )
    return _of_the_runs(figure, text, {})


def cost_against_length() -> Built:
    """Time and memory of BiM against self-attention as sequences grow (the argument of the paper's Fig. 2a)."""
    from lkm_kit.bench.growth import table
    from lkm_kit.plots.overview import plot_cost

    measured = table(repeats=profile().repeats)
    text = (
        "One sequence, forward and backward, 32 channels: BiM's cost grows with the number of tokens, self-attention's "
        "with its square. Measured on the machine that built this figure; the slopes are the message."
    )
    config = {"channels": 32, "repeats": profile().repeats, "machine": _machine()}
    return Built(plot_cost(measured), text, config, profile().name, tables={"cost_against_length": measured})


FIGURES: dict[str, Callable[[], Built]] = {
    function.__name__: function
    for function in (
        token_orders,
        tokens_per_stage,
        cost_against_length,
        training_history,
        organ_scores,
        held_out_patient,
    )
}


def build_figures(names: Sequence[str] = (), folder: str | Path | None = None) -> list[Path]:
    """Build figures and write, for each, the picture, its caption and its tables (below ``data/``).

    Args:
        names: keys of :data:`FIGURES`; empty for all.
        folder: default :func:`lkm_kit.plots.style.figure_folder`.

    Returns:
        paths of the pictures.

    Raises:
        KitError: a name that is not a figure's.

    >>> import tempfile
    >>> [path.name for path in build_figures(["token_orders"], tempfile.mkdtemp())]
    ['token_orders.png']
    """
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        raise KitError(f"there is no figure {unknown[0]!r}", remedy=f"choose from {', '.join(FIGURES)}")
    folder = figure_folder() if folder is None else Path(folder)
    use_style()
    written = []
    for name in names or FIGURES:
        built = FIGURES[name]()
        caption = {"text": built.text, "config": built.config, "profile": built.profile, "seed": built.seed}
        written.append(save_figure(built.figure, name, caption, folder=folder)[0])
        for table_name, table in built.tables.items():
            with atomic_path(folder / "data" / f"{table_name}.csv") as temporary:
                table.to_csv(temporary, float_format="%.6g")
    return written


def _machine() -> str:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _config():
    from lkm_kit.training import TrainConfig

    return TrainConfig.from_profile(profile())


def _of_the_runs(figure: Figure, text: str, tables: dict[str, pd.DataFrame]) -> Built:
    config = _config()
    return Built(figure, text, config.to_dict(), profile().name, config.seed, tables)


@functools.cache
def _trained() -> dict[str, Any]:
    """Arm -> finished training, found in ``runs/`` or made now."""
    from lkm_kit.training import TrainConfig, run_folder, train

    configs = {arm: TrainConfig.from_profile(profile(), network_overrides=how) for arm, how in ARMS.items()}
    return {
        arm: train(config, run_folder(config, "chapter-08"), workers=profile().workers)
        for arm, config in configs.items()
    }


@functools.cache
def _test_warps():
    from lkm_kit.data import CohortSlices

    config = _config()
    return CohortSlices(
        "test",
        length=profile().test_slices,
        size=config.image_size,
        spacing_mm=config.spacing_mm,
        table=config.table,
        seed=config.data_seed,
    )


@functools.cache
def _segmented() -> dict[str, Any]:
    """Arm -> labels of ct_b on its own grid."""
    from lkm_kit.data import load_sample
    from lkm_kit.devices import resolve_device
    from lkm_kit.evaluation import predict_case

    config, case = _config(), load_sample("ct_b")
    how = {"table": config.table, "spacing_mm": config.spacing_mm, "window": config.image_size}
    return {arm: predict_case(r.network, case, device=resolve_device(), **how) for arm, r in _trained().items()}


@functools.cache
def _scores() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of both arms: on the held-out warps, and on ct_b."""
    from lkm_kit.data import load_sample
    from lkm_kit.devices import resolve_device
    from lkm_kit.evaluation import compare, evaluate_case, score_slices

    config, case = _config(), load_sample("ct_b")
    how = {"table": config.table, "spacing_mm": config.spacing_mm, "device": resolve_device()}
    warps = {arm: score_slices(result.network, _test_warps(), **how) for arm, result in _trained().items()}
    stranger = {
        arm: evaluate_case(labels, case.label, case.spacing, config.table, case=case.name)
        for arm, labels in _segmented().items()
    }
    return compare(warps), compare(stranger)
