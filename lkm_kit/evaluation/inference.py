"""From an image of any size to a segmentation on its own grid: resample, normalise, sliding window, and back again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lkm_kit.data.labels import LabelTable
from lkm_kit.data.prepared import Channel, Recipe
from lkm_kit.errors import KitError
from lkm_kit.monai_parts import monai_part

if TYPE_CHECKING:
    from lkm_kit.data.case import Case


@contextmanager
def on_device(network: nn.Module, device: torch.device | str | None) -> Iterator[torch.device]:
    """Keep a network on a device for a while; afterwards it is where its owner had it.

    Args:
        network: any.
        device: None: where the network is.

    >>> with on_device(nn.Linear(1, 1), None) as where:
    ...     where
    device(type='cpu')
    """
    home = next((p.device for p in network.parameters()), torch.device("cpu"))
    where = home if device is None else torch.device(device)
    if where == home:
        yield home
        return
    network.to(where)
    try:
        yield where
    finally:
        network.to(home)


@torch.no_grad()
def predict_volume(
    network: nn.Module,
    image: Tensor,
    *,
    window: Sequence[int],
    overlap: float = 0.5,
    batch_size: int = 4,
    mirror_axes: Sequence[int] = (),
    exchange: Sequence[int] | None = None,
    background: float = 0.0,
    progress: bool = False,
) -> Tensor:
    """Logits of images larger (or smaller) than the network was trained on, by MONAI's sliding window.

    Args:
        network: (b, c, *window) -> logits (b, classes, *window), or a list of them from full resolution down.
        image: (b, c, *spatial); a 2D network gets its slices as the batch. The tiles go to the network's device, the
            logits are put together where the image lies.
        window: size of one tile in pixels, the training size.
        overlap: share that neighbouring tiles have in common; their logits are averaged with Gaussian weights, for
            a tile knows least at its border.
        batch_size: tiles at a time.
        mirror_axes: spatial axes to mirror at test time; the logits of all combinations are averaged, which takes
            2**len(mirror_axes) times as long. Sensible for axes that the training mirrored.
        exchange: class of each class in a mirrored image, where left and right have their own classes.
        background: value that fills up an image smaller than the window.
        progress: draw a progress bar of the tiles.

    Returns:
        logits (b, classes, *spatial), float32.

    Raises:
        KitError: image and window differ in their number of axes; a logit is NaN.

    Source: nnU-Net's inference, as MONAI's ``sliding_window_inference(mode="gaussian")``.

    >>> predict_volume(nn.Conv2d(1, 3, 1), torch.zeros(2, 1, 20, 50), window=(16, 16)).shape
    torch.Size([2, 3, 20, 50])
    """
    if image.ndim != len(window) + 2:
        raise KitError(
            f"the image has shape {tuple(image.shape)}, the window {len(window)} axes",
            remedy="give (batch, channels, *spatial) with as many spatial axes as the window",
        )

    axes = [axis + 2 for axis in mirror_axes]
    flips = [part for n in range(len(axes) + 1) for part in combinations(axes, n)]

    def full_resolution(tiles: Tensor) -> Tensor:
        total = 0
        for flip in flips:
            logits = network(tiles.flip(flip) if flip else tiles)
            logits = (logits[0] if isinstance(logits, (list, tuple)) else logits).float()
            if flip:
                logits = logits.flip(flip)
                logits = logits if exchange is None else logits[:, list(exchange)]
            total = total + logits
        return total / len(flips)

    was_training = network.training
    network.eval()
    try:
        logits = monai_part("inferers").sliding_window_inference(
            image,
            tuple(window),
            batch_size,
            full_resolution,
            overlap=overlap,
            mode="gaussian",
            cval=background,
            sw_device=next((p.device for p in network.parameters()), image.device),
            device=image.device,
            progress=progress,
        )
        if not logits.is_meta and logits.amax().isnan():  # amax is NaN where one is, and needs no second volume
            raise KitError(
                "the network gives NaN instead of logits",
                remedy="see that its weights are finite, and the image's values of the size that it was trained on",
            )
        return logits
    finally:
        network.train(was_training)


def settings_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of :func:`predict_case` that a checkpoint's record (its weights.json) decides.

    >>> from lkm_kit.training import load_checkpoint
    >>> settings_of(load_checkpoint("tiny-2d")[1])["window"]
    [96, 96]
    """
    about = record["preprocessing"]
    recipe = Recipe.from_json(about["recipe"]) if "recipe" in about else None
    table = LabelTable.from_json(record["label_table"])
    return {"table": table, "spacing_mm": about["spacing_mm"], "window": about["image_size"], "recipe": recipe}


def predict_case(
    network: nn.Module,
    case: Case,
    *,
    table: LabelTable,
    spacing_mm: float | Sequence[float],
    window: Sequence[int],
    device: torch.device | str | None = None,
    overlap: float = 0.5,
    batch_size: int = 4,
    mirror: bool = False,
    recipe: Recipe | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Segment a case on its own grid.

    Args:
        network: 2D (runs slice by slice, slices keep their distance) or 3D, chosen by ``len(window)``.
        case: any spacing; its label is not looked at.
        table: the network's organs.
        spacing_mm: pixel size the network was trained at; one number, or one for each axis of the window.
        window: training size in pixels, (x, y) or (z, x, y); with a recipe, in its order of axes.
        device: to compute on; default where the network is. It is put back afterwards.
        mirror: average with the prediction of the case mirrored left to right, which the training saw. The cohort's
            with the labels' names kept, a data set's (with a recipe) with those of partners exchanged.
        recipe: how the data set that the network was trained on was prepared; default as the cohort, by the case's
            modality and slices along z.
        progress: draw a progress bar.

    Returns:
        (x, y, z) the table's ids on the case's grid.

    Raises:
        KitError: the network's classes are not the table's, or the case's channels not the recipe's. Mirroring where
            slices are cut across the left-right axis, or a label's partner is not learnt.

    Memory: of the scan's own grid, only ``case.image`` and the result exist whole; logits at that size exist for
    ``batch_size`` slices at a time. A 3D network's logits exist whole at its own spacing, on the CPU.

    Source: nnU-Net's order of steps: normalise, resample, predict, resample the *logits* back, then argmax (resampling
    a label map instead would give staircases).
    """
    from tqdm.auto import tqdm

    planar = len(window) == 2
    image = case.image if case.image.ndim == 4 else case.image[None]
    channels = recipe.channels if recipe else (Channel(case.modality),)
    if len(image) != len(channels):
        raise KitError(
            f"case {case.name} has {len(image)} channels, the network was trained on {len(channels)}",
            remedy=f"give {', '.join(channel.name for channel in channels)}, in this order",
        )
    depth_axis, *plane = recipe.order if recipe else (2, 0, 1)
    image = image.transpose(0, *(1 + axis for axis in plane), 1 + depth_axis)  # slices lie along the last axis
    size, depth = image.shape[1:3], image.shape[3]
    spacing = [case.spacing[axis] for axis in (*plane, depth_axis)]
    targets = np.broadcast_to(np.asarray(spacing_mm, dtype=float), len(window))
    small = [max(1, round(n * s / target)) for n, s, target in zip(size, spacing, targets[-2:])]
    normal = [channel.normalizer(own) for channel, own in zip(channels, image)]
    axes, exchange = _mirroring(mirror, planar, table, recipe)
    how = {
        "window": window,
        "overlap": overlap,
        "batch_size": batch_size,
        "mirror_axes": axes,
        "exchange": exchange,
        "background": min(float(of(own.min())) for of, own in zip(normal, image)),
    }

    def resampled(chunk: slice) -> Tensor:
        """(slices, channels, *pixels) of some slices, normalised."""
        pixels = np.stack([np.moveaxis(of(own[..., chunk]), 2, 0) for of, own in zip(normal, image)], axis=1)
        return _resize(torch.from_numpy(np.ascontiguousarray(pixels)), small)

    chunks = [slice(first, min(first + batch_size, depth)) for first in range(0, depth, batch_size)]
    with on_device(network, device) as where:
        if planar:

            def logits_of(chunk: slice) -> Tensor:
                return predict_volume(network, resampled(chunk).to(where), **how)
        else:
            volume = torch.cat([resampled(chunk) for chunk in chunks])
            volume = _resize_depth(volume, max(1, round(depth * spacing[2] / targets[0]))).movedim(1, 0)
            whole = predict_volume(network, volume[None], progress=progress, **how)[0].movedim(1, 0)

            def logits_of(chunk: slice) -> Tensor:
                return _slices_between(whole, chunk, depth)

        labels = np.empty((*size, depth), dtype=table.dtype)
        bar = tqdm(total=depth, desc=case.name, unit="slice", disable=not (progress and planar))
        with bar:
            for chunk in chunks:
                logits = logits_of(chunk)
                if logits.shape[1] != table.num_classes:
                    raise KitError(
                        f"the network has {logits.shape[1]} classes, the label table {table.num_classes}",
                        remedy="use the table of the network's own run (weights.json)",
                    )
                labels[..., chunk] = table.to_kit(_classes(logits, size).movedim(0, 2).cpu().numpy())
                bar.update(chunk.stop - chunk.start)
    return np.ascontiguousarray(labels.transpose(np.argsort([*plane, depth_axis])))


def _mirroring(
    mirror: bool, planar: bool, table: LabelTable, recipe: Recipe | None
) -> tuple[tuple[int, ...], np.ndarray | None]:
    """Axis of an item that runs from left to right, and class of each class in a mirrored image (None: the same)."""
    if not mirror:
        return (), None
    if recipe is None:
        return (0 if planar else 1,), None  # x is the first axis of a slice
    axis, exchange = recipe.order.index(0) - planar, table.mirrored_classes()
    if axis < 0 or exchange is None:
        why = "its slices are cut across the left-right axis" if axis < 0 else "the partner of a label is not learnt"
        raise KitError(f"this network saw nothing mirrored: {why}", remedy="leave --mirror out")
    return (axis,), exchange


def _resize(slices: Tensor, size: Sequence[int]) -> Tensor:
    """(z, c, x, y) to another pixel size; with anti-aliasing: from 1 to 3 mm, single pixels would bring their noise."""
    if list(slices.shape[2:]) == list(size):
        return slices
    return functional.interpolate(slices, size=tuple(size), mode="bilinear", antialias=True)


def _resize_depth(volume: Tensor, depth: int) -> Tensor:
    """(z, c, x, y) to another number of slices, each pixel's column for itself."""
    if len(volume) == depth:
        return volume
    columns = volume.reshape(1, 1, len(volume), -1)
    size = (depth, columns.shape[3])
    return functional.interpolate(columns, size=size, mode="bilinear", antialias=True).reshape(depth, *volume.shape[1:])


def _slices_between(whole: Tensor, chunk: slice, depth: int) -> Tensor:
    """Slices ``chunk`` of ``depth`` ones, linear between those of ``whole`` (z, classes, x, y)."""
    if len(whole) == depth:
        return whole[chunk]
    at = (torch.arange(chunk.start, chunk.stop) + 0.5) * len(whole) / depth - 0.5  # voxel centres, as interpolate has
    at = at.clamp(0, len(whole) - 1)
    below = at.floor().long()
    above = (below + 1).clamp(max=len(whole) - 1)
    share = (at - below)[:, None, None, None]
    return torch.lerp(whole[below], whole[above], share)


def _classes(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Class of the largest logit after resampling to ``size``, class by class: memory for two maps, not for all."""
    best = classes = None
    for index in range(logits.shape[1]):
        one = functional.interpolate(logits[:, index : index + 1], size=tuple(size), mode="bilinear")[:, 0]
        if best is None:
            best, classes = one, torch.zeros_like(one, dtype=torch.int32)
        else:
            classes[one > best] = index
            best = torch.maximum(best, one)
    return classes
