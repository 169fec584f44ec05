"""Run any network and keep the outputs of named layers, after checking that a gradient through it means something."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from lkm_kit.erf.norms import norm_context
from lkm_kit.errors import KitError, one_of

LOGIT = "logit"


def check_network(network: nn.Module, images: Tensor, layers: Collection[str]) -> None:
    """Refuse what would give numbers without meaning, before any time is spent.

    Raises:
        KitError: unknown layer (the closest names are listed), BatchNorm or dropout in training mode, weights that are
            not finite, images that are no batch of finite real numbers.
    """
    names = dict(network.named_modules())
    for layer in layers:
        remedy = f'choose "{LOGIT}" or one of the names of named_modules()'
        one_of(
            layer, [LOGIT, *filter(None, names)], "layer", message=f"the network has no layer {layer!r}", remedy=remedy
        )
    for name, module in names.items():
        what = f"{type(module).__name__} {name!r}" if name else type(module).__name__
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise KitError(
                f"{what} takes its statistics from the batch, so that every image depends on all others in it (and a "
                "forward pass changes the network)",
                remedy="call network.eval() first"
                if module.running_mean is not None
                else "build it with track_running_stats=True",
            )
        if isinstance(module, _DropoutNd) and module.training and module.p > 0:
            raise KitError(f"{what} is in training mode: it cuts random paths", remedy="call network.eval() first")
    for name, values in [*network.named_parameters(), *network.named_buffers()]:
        if values.is_floating_point() and not torch.isfinite(values).all():
            raise KitError(
                f"weights {name!r} hold NaN or infinite values",
                remedy="load the weights again; if training made them, restart from the last good checkpoint",
            )
    if not isinstance(images, Tensor) or images.ndim < 3 or images.numel() == 0 or not images.is_floating_point():
        what = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise KitError(
            f"images are {what}; needed is a floating-point tensor (batch, channels, *spatial)",
            remedy="normalise them, convert with torch.as_tensor(...).float(), add the batch axis with image[None]",
        )
    if not torch.isfinite(images).all():
        raise KitError("the images hold NaN or infinite values", remedy="normalise them without dividing by zero")


def like_weights(network: nn.Module, images: Tensor) -> Tensor:
    """The images with dtype and device of the network's weights."""
    first = next((p for p in network.parameters() if p.is_floating_point()), images)
    return images.detach().to(first)


def run(network: nn.Module, x: Tensor, layers: Collection[str], norm_stats: str) -> dict[str, Tensor]:
    """Forward pass with gradients: the outputs (batch, ...) of the named layers.

    A layer that is called several times gives its last output; one that returns several tensors, its first.

    Args:
        x: a leaf with ``requires_grad``.
        layers: names, or "logit" for the network's own output.

    Raises:
        KitError: the network cannot take the image, a layer was not called, or its output has no gradient.
    """
    kept: dict[str, Tensor] = {}

    def keep(layer: str):
        def hook(_module, _inputs, output):
            kept[layer] = first_tensor(output, layer)
            # What follows may be a ReLU that works in place; it gets a copy.
            return kept[layer].clone() if isinstance(output, Tensor) else None

        return hook

    modules = dict(network.named_modules())
    handles = [modules[layer].register_forward_hook(keep(layer)) for layer in layers if layer != LOGIT]
    try:
        with norm_context(norm_stats):
            output = network(x.clone())  # a copy, as a network may begin with a step in place
    except torch.OutOfMemoryError as error:
        raise KitError(
            f"no memory for {x.shape[0]} copies of the image", remedy="pass batch_size=1, or a smaller image"
        ) from error
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        if isinstance(error, KitError):
            raise
        raise KitError(
            f"the network cannot take images of shape {tuple(x.shape)}: {str(error).strip().splitlines()[0]}"
            if str(error).strip()
            else f"the network cannot take images of shape {tuple(x.shape)} ({type(error).__name__})",
            remedy="pass (batch, channels, *spatial) of a size that the network's strides and windows divide",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if LOGIT in layers:
        kept[LOGIT] = first_tensor(output, LOGIT)
    for layer in layers:
        _check_output(kept.get(layer), layer, x.shape[0])
    return kept


def first_tensor(output: Any, layer: str) -> Tensor:
    """The tensor, or the first of a list, tuple or mapping of them (the finest of deep supervision)."""
    if isinstance(output, Mapping):
        output = list(output.values())
    while isinstance(output, list | tuple) and len(output):
        output = output[0]
    if not isinstance(output, Tensor):
        raise KitError(
            f"layer {layer!r} returns {type(output).__name__}, no tensor", remedy="choose a layer that returns a map"
        )
    return output


def backward(scalars: Tensor, x: Tensor, seed: float = 1.0) -> Tensor:
    """Gradient of every sample's scalar with respect to its image: ((batch,), (batch, c, *spatial)) → like ``x``.

    One backward pass serves all samples because none depends on another.
    """
    (gradient,) = torch.autograd.grad(scalars, x, torch.full_like(scalars, seed), allow_unused=True)
    if gradient is None:
        raise KitError(
            "the probed layer does not depend on the image", remedy="choose a layer that the image flows through"
        )
    return gradient


def _check_output(output: Tensor | None, layer: str, batch: int) -> None:
    if output is None:
        raise KitError(
            f"the network has layer {layer!r} but did not call it", remedy="choose a layer that its forward() uses"
        )
    if not output.requires_grad:
        raise KitError(
            f"the output of layer {layer!r} is not differentiable ({str(output.dtype).removeprefix('torch.')}): an "
            "argmax, detach() or no_grad() lies between image and probe",
            remedy="probe a layer before it, or let the network return logits",
        )
    if output.ndim < 3 or output.shape[0] != batch:
        raise KitError(
            f"the output of layer {layer!r} has shape {tuple(output.shape)} for {batch} images; needed is "
            "(batch, channels, *spatial)",
            remedy="choose a layer that keeps the batch axis and at least one spatial axis",
        )
