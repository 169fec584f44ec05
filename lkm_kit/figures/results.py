"""Figures of the trained pair: how it learnt, its scores, and what it makes of a patient it has never seen."""

from __future__ import annotations

import pandas as pd

from lkm_kit.figures.built import Built
from lkm_kit.figures.pair import of_the_runs, pair_config, pair_scores, segmented_stranger, test_warps, trained_pair


def training_history() -> Built:
    """Loss and validation DSC of LKM-UNet and its control."""
    from lkm_kit.plots.training import plot_history

    results = trained_pair()
    histories = {arm: result.history for arm, result in results.items()}
    text = (
        "Training of the small LKM-UNet and of the same network without its Mamba blocks: same first weights of the "
        "convolutions, same slices in the same order. The DSC is that of deformed copies of the training patient."
    )
    tables = {"training_history": pd.concat(histories, names=["arm", "mark"])}
    return of_the_runs(plot_history(histories), text, tables)


def organ_scores() -> Built:
    """Every metric per organ: on held-out deformed copies, and on a patient that was never seen."""
    from lkm_kit.data import load_sample
    from lkm_kit.plots.training import plot_organ_scores

    warps, stranger = pair_scores()
    cases, source = len(test_warps()), load_sample("ct_b").source
    titles = {
        f"{cases} held-out deformed copies of the training {source.subject}": warps,
        f"ct_b: another {source.subject}, {source.labels} labels": stranger,
    }
    text = (
        "Every dot is one organ of one network; a line joins the two networks. The HD95 of an organ that a network "
        "does not find is the image's diagonal. One training each: a difference says "
        "nothing before it is compared with the spread between seeds."
    )
    return of_the_runs(plot_organ_scores(titles), text, {"organ_scores_warps": warps, "organ_scores_ct_b": stranger})


def held_out_patient() -> Built:
    """Slices of the held-out patient with the labels and both predictions."""
    import numpy as np

    from lkm_kit.data import load_sample, normalize
    from lkm_kit.plots.training import plot_predictions

    case, table = load_sample("ct_b"), pair_config().table
    present = [len(np.unique(case.label[..., z])) for z in range(case.shape[2])]
    heights = sorted({int(np.argmax(present)), case.shape[2] // 4})
    grey = normalize(case.image, case.modality)

    def upright(volume, z):
        return np.asarray(volume[::2, ::2, z])[::-1, ::-1].T

    maps = {arm: table.to_classes(labels) for arm, labels in segmented_stranger().items()}
    figure = plot_predictions(
        [upright(grey, z) for z in heights],
        [upright(table.to_classes(case.label), z) for z in heights],
        {arm: [upright(volume, z) for z in heights] for arm, volume in maps.items()},
        table.names,
        titles=[f"ct_b, slice {z}" for z in heights],
    )
    text = (
        f"A {case.source.subject} that no network has seen, with contrast agent that no training image had. Left the "
        "silver labels, then two networks trained on deformed copies of one other patient."
    )
    return of_the_runs(figure, text, {})
