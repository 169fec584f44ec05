"""Dice plus cross-entropy, summed over the heads of a deeply supervised network: nnU-Net's loss, from MONAI's parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from lkm_kit.errors import KitError
from lkm_kit.monai_parts import monai_part

SMOOTH = 1e-5
"""Added to both sides of Dice's fraction."""


def deep_supervision_weights(heads: int) -> list[float]:
    """Weights of the heads, highest resolution first: 1, 1/2, 1/4, ..., the last one 0, scaled to sum 1.

    Source: nnU-Net's trainer, which the released code keeps.

    >>> deep_supervision_weights(3)
    [0.6666666666666666, 0.3333333333333333, 0.0]
    >>> deep_supervision_weights(1)
    [1.0]
    """
    weights = [0.5**i for i in range(heads)]
    if heads > 1:
        weights[-1] = 0.0
    total = sum(weights)
    return [w / total for w in weights]


class DeepSupervision(nn.Module):
    """Apply one loss to every head against the label at that head's size, and add up with the weights above.

    Args:
        loss: takes logits (b, classes, *spatial) and label (b, 1, *spatial).

    Shapes: logits (b, classes, *spatial), or a list of them from full resolution down; label (b, *spatial) int64,
    network classes. Returns a scalar.

    Raises:
        KitError: logits and label of different size, or a label outside the network's classes.

    Deviation from nnU-Net: a label is shrunk by ``nearest-exact`` instead of by nearest neighbour of each class map.
    The last head has weight 0 but is still computed, so that its parameters get a gradient (multi-process training
    asks for one).

    >>> loss = make_loss()
    >>> import torch
    >>> label = torch.zeros(1, 8, 8, dtype=torch.long)
    >>> heads = [torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)]
    >>> bool(torch.isclose(loss(heads, label), loss(heads[0], label)))   # two heads: the second has weight 0
    True
    """

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor | Sequence[Tensor], label: Tensor) -> Tensor:
        heads = list(logits) if isinstance(logits, (list, tuple)) else [logits]
        _check(heads[0], label)
        weighted = monai_part("losses").DeepSupervisionLoss(self.loss, weights=deep_supervision_weights(len(heads)))
        # MONAI shrinks the label by interpolation, which exists for floats only
        return weighted(heads, label.unsqueeze(1).float())


def make_loss(batch_dice: bool = True) -> DeepSupervision:
    """Soft Dice of the organs plus cross-entropy of all classes, with equal weights.

    Args:
        batch_dice: count over the whole batch before dividing, over all processes that share it. A slice shows few of
            the organs, and the Dice of an organ that is not there is an all-or-nothing number; over the batch it is
            steadier.

    Source: paper Section 4.2 (through nnU-Net): ``DiceCE``, background left out of Dice, smoothing 1e-5.
    """
    return DeepSupervision(_DiceCE(batch_dice))


class _DiceCE(nn.Module):
    def __init__(self, batch_dice: bool):
        super().__init__()
        self.batch_dice = batch_dice

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        one_hot = monai_part("networks").one_hot(label, logits.shape[1])
        found, truth = torch.softmax(logits, 1)[:, 1:], one_hot[:, 1:]
        axes = list(range(0 if self.batch_dice else 2, logits.ndim))
        if self.batch_dice:
            axes.remove(1)
        count = monai_part("losses.utils").compute_tp_fp_fn
        counts = count(found, truth, axes, 1, False)  # true and false positives, false negatives
        both, invented, missed = _over_processes(counts) if self.batch_dice else counts
        dice = (2 * both + SMOOTH) / (2 * (both + 0.5 * invented + 0.5 * missed) + SMOOTH)
        return torch.mean(1 - dice) + F.cross_entropy(logits, label.squeeze(1).long())


def _over_processes(counts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Sums over the processes that share the batch; gradients flow back to all of them (as nnU-Net's AllGatherGrad)."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return counts
    return _Sum.apply(torch.stack(counts)).unbind()


class _Sum(torch.autograd.Function):
    """Each process's share moves the loss of all of them, so that its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, share: Tensor) -> Tensor:
        total = share.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient.contiguous())


def _check(logits: Tensor, label: Tensor) -> None:
    if logits.shape[0] != label.shape[0] or logits.shape[2:] != label.shape[1:]:
        raise KitError(
            f"logits {tuple(logits.shape)} and label {tuple(label.shape)} do not belong together",
            remedy="logits are (batch, classes, *spatial), the label (batch, *spatial) with the same batch and size",
        )
    if label.device.type != "cpu":  # to read two numbers, all work on the device would have to end first
        torch._assert_async(((label >= 0) & (label < logits.shape[1])).all(), "the label holds a class of no output")
        return
    low, high = int(label.min()), int(label.max())
    if low < 0 or high >= logits.shape[1]:
        raise KitError(
            f"the label holds class {high if low >= 0 else low}, the network has classes 0..{logits.shape[1] - 1}",
            remedy="build the network with LabelTable.num_classes, and translate labels with LabelTable.to_classes",
        )
