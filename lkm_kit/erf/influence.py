"""The Jacobian norm by input pixel: what the whole output depends on; an ERF asks for one output pixel."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lkm_kit.erf.taps import LOGIT, backward, check_network, like_weights, run
from lkm_kit.errors import KitError


def influence_map(
    network: nn.Module,
    images: Tensor,
    layer: str = LOGIT,
    *,
    draws: int = 32,
    seed: int = 0,
    norm_stats: Literal["frozen", "live"] = "frozen",
    batch_size: int = 8,
) -> Tensor:
    """I(p) = Σ_q ‖J_{q,p}‖² of every pixel p, q over the whole output, averaged over images.

    Estimated without the Jacobian: for random signs v over all numbers of the output, E‖vᵀJ_{·,p}‖² = I(p). The
    relative error falls as 1/√draws; a sum over q hides no sign, since squares are added.

    Args:
        network, images, norm_stats, batch_size: see :func:`lkm_kit.erf.erf`.
        layer: name of a module, or "logit".
        draws: random signs per image.
        seed: of them.

    Returns:
        float64 (*spatial).

    Raises:
        KitError: see :func:`lkm_kit.erf.erf`.

    Source: the paper's claim (Section 3.2; in our words) that with both directions a window's centre is not forgotten
    is about this map.

    >>> influence_map(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2)).unique().numel()
    1
    """
    check_network(network, images, {layer})
    if draws < 1:
        raise KitError(f"draws is {draws}", remedy="take at least 1; 32 give a relative error of about a quarter")
    images = like_weights(network, images)
    generator = torch.Generator().manual_seed(seed)
    rows = [i for i in range(len(images)) for _ in range(draws)]
    total: Any = 0.0  # a tensor from the first draw on
    for start in range(0, len(rows), batch_size):
        with torch.inference_mode(False), torch.enable_grad():
            x = images[rows[start : start + batch_size]].clone().requires_grad_()
            output = run(network, x, {layer}, norm_stats)[layer]
            signs = (torch.randint(0, 2, output.shape, generator=generator) * 2 - 1).to(output)
            gradient = backward((output * signs).flatten(1).sum(1), x)
        total = total + gradient.double().square().sum((0, 1)).cpu()
    return total / len(rows)
