"""Theoretical receptive field: which pixels a probe depends on at all, by sending a NaN backwards."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from typing import Literal

import torch
from torch import Tensor, nn

from lkm_kit.erf.gradient import gradients
from lkm_kit.erf.probe import Probe
from lkm_kit.erf.taps import check_network
from lkm_kit.errors import KitError


def support(
    network: nn.Module,
    image: Tensor,
    probe: Probe = Probe(),  # noqa: B008  frozen
    *,
    norm_stats: Literal["frozen", "live"] = "frozen",
) -> Tensor:
    """The pixels with a path to the probe: True where a NaN, sent backwards from the probe, arrives.

    A gradient can underflow to 0 far from the probe (a Mamba forgets exponentially). So "gradient > 0" gives an answer
    that depends on the number format. A NaN times anything is NaN: it arrives wherever there is a path, however weak. A
    path through a weight that happens to be 0 counts. One through a ReLU that is off for this image, or through a pixel
    that max pooling did not choose, does not.

    Args:
        network, norm_stats: see :func:`lkm_kit.erf.erf`.
        image: (1, channels, *spatial).
        probe: see :class:`Probe`; for the rule "rademacher" all channels.

    Returns:
        bool (*spatial).

    Raises:
        KitError: see :func:`lkm_kit.erf.erf`; or several images.

    >>> mask = support(nn.Conv2d(1, 1, 3, padding=2, dilation=2), torch.zeros(1, 1, 9, 9))
    >>> int(mask.sum())
    9
    """
    check_network(network, image, {probe.layer})
    if len(image) != 1:
        raise KitError(
            f"support is that of one image, these are {len(image)}", remedy="call it for each: support(network, x[:1])"
        )
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="TF32 acceleration")  # oneDNN, when its flags are put back
        # Fast convolutions (Winograd, FFT) compute neighbours together, and a NaN would leak to them.
        for library in (torch.backends.mkldnn, torch.backends.cudnn, torch.backends.nnpack):
            stack.enter_context(library.flags(enabled=False))
        ((_, gradient, _),) = gradients(
            network, image, [probe], n_draws=[1], norm_stats=norm_stats, seed_gradient=float("nan")
        )
    return gradient.isnan().any(0).cpu()
