"""The exact Jacobian of a small network: every output number against every pixel."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lkm_kit.erf.taps import LOGIT, backward, check_network, like_weights, run
from lkm_kit.errors import KitError

LARGEST = 2**26  # numbers; half a gigabyte in float64


def jacobian(
    network: nn.Module,
    image: Tensor,
    layer: str = LOGIT,
    *,
    norm_stats: Literal["frozen", "live"] = "frozen",
    batch_size: int = 64,
) -> Tensor:
    """∂output/∂image of one image, exactly: one backward pass per output number, ``batch_size`` of them at a time.

    Args:
        network, norm_stats: see :func:`lkm_kit.erf.erf`.
        image: (1, channels, *spatial).
        layer: name of a module, or "logit".
        batch_size: output numbers per pass.

    Returns:
        the output without its batch, then (channels, *spatial), in the network's dtype, on the CPU.

    Raises:
        KitError: see :func:`lkm_kit.erf.erf`; several images, or a Jacobian above 2²⁶ numbers.

    >>> J = jacobian(nn.Conv2d(1, 2, 1), torch.zeros(1, 1, 3, 3))
    >>> J.shape
    torch.Size([2, 3, 3, 1, 3, 3])
    """
    check_network(network, image, {layer})
    if len(image) != 1:
        raise KitError(f"a Jacobian is that of one image, these are {len(image)}", remedy="pass image[:1]")
    image = like_weights(network, image)
    with torch.inference_mode(False), torch.enable_grad():
        shape = run(network, image.clone().requires_grad_(), {layer}, norm_stats)[layer].shape[1:]
    outputs = shape.numel()
    if outputs * image.numel() > LARGEST:
        raise KitError(
            f"the Jacobian of {outputs} outputs and {image.numel()} inputs has more than {LARGEST} numbers",
            remedy="crop the image, or estimate with influence_map or the rule 'rademacher'",
        )
    rows = []
    for start in range(0, outputs, batch_size):
        chosen = torch.arange(start, min(start + batch_size, outputs), device=image.device)
        with torch.inference_mode(False), torch.enable_grad():
            x = image.expand(len(chosen), *image.shape[1:]).clone().requires_grad_()
            output = run(network, x, {layer}, norm_stats)[layer].flatten(1)
            rows.append(backward(output.gather(1, chosen[:, None])[:, 0], x).cpu())
    return torch.cat(rows).reshape(*shape, *image.shape[1:])
