"""From an image of any size to a segmentation on its own grid: resample, normalise, sliding window, and back again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lkm_kit.data.labels import LabelTable
from lkm_kit.errors import KitError

if TYPE_CHECKING:
    from lkm_kit.data.case import Case


@torch.no_grad()
def predict_volume(
    network: nn.Module,
    image: Tensor,
    *,
    window: Sequence[int],
    overlap: float = 0.5,
    batch_size: int = 4,
) -> Tensor:
    """Logits of images larger (or smaller) than the network was trained on, by MONAI's sliding window.

    Args:
        network: (b, c, *window) -> logits (b, classes, *window), or a list of them from full resolution down.
        image: (b, c, *spatial) on the network's device; a 2D network gets its slices as the batch.
        window: size of one tile in pixels, the training size.
        overlap: share that neighbouring tiles have in common; their logits are averaged with Gaussian weights, for
            a tile knows least at its border.
        batch_size: tiles at a time.

    Returns:
        logits (b, classes, *spatial), float32.

    Raises:
        KitError: image and window differ in their number of axes.

    Source: nnU-Net's inference, as MONAI's ``sliding_window_inference(mode="gaussian")``.

    >>> predict_volume(nn.Conv2d(1, 3, 1), torch.zeros(2, 1, 20, 50), window=(16, 16)).shape
    torch.Size([2, 3, 20, 50])
    """
    from monai.inferers import sliding_window_inference

    if image.ndim != len(window) + 2:
        raise KitError(
            f"the image has shape {tuple(image.shape)}, the window {len(window)} axes",
            remedy="give (batch, channels, *spatial) with as many spatial axes as the window",
        )

    def full_resolution(tiles: Tensor) -> Tensor:
        logits = network(tiles)
        return (logits[0] if isinstance(logits, (list, tuple)) else logits).float()

    was_training = network.training
    network.eval()
    try:
        return sliding_window_inference(
            image, tuple(window), batch_size, full_resolution, overlap=overlap, mode="gaussian"
        )
    finally:
        network.train(was_training)


def predict_case(
    network: nn.Module,
    case: Case,
    *,
    table: LabelTable,
    spacing_mm: float | Sequence[float],
    window: Sequence[int],
    device: torch.device | str = "cpu",
    overlap: float = 0.5,
    batch_size: int = 4,
) -> np.ndarray:
    """Segment a case on its own grid.

    Args:
        network: 2D (runs slice by slice, slices keep their distance) or 3D, chosen by ``len(window)``.
        case: any spacing; its label is not looked at.
        table: the network's organs.
        spacing_mm: pixel size the network was trained at; one number, or one for each axis of the window.
        window: training size in pixels, (x, y) or (z, x, y).

    Returns:
        (x, y, z) uint8 kit ids on the case's grid.

    Raises:
        KitError: the network's classes are not the table's.

    Source: nnU-Net's order of steps: normalise, resample, predict, resample the *logits* back, then argmax (resampling
    a label map instead would give staircases).
    """
    from lkm_kit.data import normalize

    image = torch.from_numpy(np.ascontiguousarray(normalize(case.image, case.modality), dtype=np.float32))
    planar = len(window) == 2
    slices = to_slices(image)
    volume = slices[:, None] if planar else slices[None, None]
    size = volume.shape[2:]
    spacing = case.spacing[:2] if planar else (case.spacing[2], *case.spacing[:2])
    targets = np.broadcast_to(np.asarray(spacing_mm, dtype=float), len(size))
    small_size = [max(1, round(n * s / target)) for n, s, target in zip(size, spacing, targets)]
    network = network.to(device)
    found = []
    # slices go one chunk at a time, so that the logits of a long scan never lie in memory all at once
    for chunk in volume.split(batch_size):
        small = _resize(chunk.to(device), small_size)
        logits = predict_volume(network, small, window=window, overlap=overlap, batch_size=batch_size)
        if logits.shape[1] != table.num_classes:
            raise KitError(
                f"the network has {logits.shape[1]} classes, the label table {table.num_classes}",
                remedy="use the table of the network's own run (weights.json)",
            )
        found.append(_classes(logits, size).cpu())
    classes = torch.cat(found)
    return table.to_kit(from_slices(classes if planar else classes[0]).numpy())


def to_slices(volume: Tensor) -> Tensor:
    """(x, y, z) -> one image (x, y) per axial slice: (z, x, y), as the cohort's slices are laid out."""
    return volume.movedim(2, 0)


def from_slices(slices: Tensor) -> Tensor:
    """Undo :func:`to_slices`."""
    return slices.movedim(0, 2)


def _resize(image: Tensor, size: Sequence[int]) -> Tensor:
    if list(image.shape[2:]) == list(size):
        return image
    if image.ndim == 4:  # with anti-aliasing: from 1 to 3 mm, picking single pixels would bring their noise along
        return functional.interpolate(image, size=tuple(size), mode="bilinear", antialias=True)
    return functional.interpolate(image, size=tuple(size), mode="trilinear")


def _classes(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Class of the largest logit after resampling to ``size``, class by class: memory for two maps, not for all."""
    best = classes = None
    for index in range(logits.shape[1]):
        one = functional.interpolate(
            logits[:, index : index + 1], size=tuple(size), mode="bilinear" if logits.ndim == 4 else "trilinear"
        )[:, 0]
        if best is None:
            best, classes = one, torch.zeros_like(one, dtype=torch.uint8)
        else:
            classes[one > best] = index
            best = torch.maximum(best, one)
    return classes
