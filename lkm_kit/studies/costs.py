"""What an arm costs: parameters, operations of a forward pass, memory of a step, tokens that Mamba reads in a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from lkm_kit.blocks import MIXERS
from lkm_kit.networks import UNet, build_network, describe
from lkm_kit.networks.registry import network_recipe
from lkm_kit.studies.arms import Arm


def cost(arm: Arm, image_size: Sequence[int], num_classes: int, input_channels: int = 1) -> dict[str, Any]:
    """Parameters, GFLOPs of one image and tokens per sequence of an arm.

    Args:
        arm: of a study.
        image_size: (H, W) or (D, H, W).
        num_classes: background included.
        input_channels: of an image.

    Returns:
        ``parameters``; ``gflops``, counted as in :func:`lkm_kit.networks.describe`; ``tokens``,
        the tokens of one sequence, stage by stage, for each kind of Mamba layer: "PiM", "PaM", or "Mamba".

    >>> from lkm_kit.studies import study
    >>> plan = study("table3", "smoke")
    >>> cost(plan.arm("pim"), (96, 96), 7)["tokens"]
    {'PiM': [576, 576, 144, 144]}
    """
    return dict(_cost(_Built.of(arm), tuple(image_size), num_classes, input_channels))


@dataclasses.dataclass(frozen=True)
class _Built:
    """An arm's network as a key: its class and arguments, so that what several reports ask is counted once."""

    kind: type
    arguments: str
    arm: Arm = dataclasses.field(compare=False)

    @classmethod
    def of(cls, arm: Arm) -> _Built:
        kind, arguments = network_recipe(arm.network)
        mixer = {**arguments, **arm.overrides}.get("mixer")
        stands_there = MIXERS.get(mixer) if isinstance(mixer, str) else None
        return cls(kind, f"{arguments} {arm.overrides} {stands_there}", arm)


@lru_cache(maxsize=128)
def _cost(built: _Built, image_size: tuple[int, ...], num_classes: int, input_channels: int) -> dict[str, Any]:
    arm = built.arm
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = build_network(arm.network, input_channels=input_channels, num_classes=num_classes, **arm.overrides)
    table = describe(network, image_size, input_channels=input_channels)
    pixels = "PiM" if isinstance(network, UNet) else "Mamba"
    tokens = {pixels: table["tokens"], "PaM": table["pam_tokens"]}
    return {
        "parameters": int(table["parameters"].sum()),
        "gflops": int(table["flops"].sum()) / 1e9,
        "tokens": {name: [n for n in lengths.tolist() if n] for name, lengths in tokens.items() if lengths.any()},
    }


def training_memory(
    arm: Arm, image_size: Sequence[int], num_classes: int, batch_size: int, input_channels: int = 1
) -> int:
    """Bytes that a training step cannot do without: what the backward pass needs, and four numbers a parameter.

    The four are weight, gradient and AdamW's two moments. A device's peak lies above this sum by the largest
    temporaries of a single layer. Nothing is computed or allocated: the network runs on tensors that have shapes only.

    Args:
        arm: of a study.
        image_size: (H, W) or (D, H, W).
        num_classes: background included.
        batch_size: images a step.
        input_channels: of an image.

    >>> from lkm_kit.studies import study
    >>> plan = study("table3", "smoke")
    >>> pim, control = (training_memory(plan.arm(n), (96, 96), 7, 2) for n in ("pim", "residual-unet"))
    >>> pim > 2 * control
    True
    """
    return _memory(_Built.of(arm), tuple(image_size), num_classes, batch_size, input_channels)


@lru_cache(maxsize=128)
def _memory(built: _Built, image_size: tuple[int, ...], num_classes: int, batch_size: int, input_channels: int) -> int:
    arm = built.arm
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = build_network(
            arm.network, input_channels=input_channels, num_classes=num_classes, **arm.overrides
        ).train()
    with FakeTensorMode():  # on the CPU by name, where kernels of the kit have their shapes, but with shapes only
        tensors = {
            name: torch.empty(t.shape, dtype=t.dtype, requires_grad=t.requires_grad)
            for name, t in (*network.named_parameters(), *network.named_buffers())
        }
        stand_in = partial(torch.func.functional_call, network, tensors)
        kept = kept_for_backward(stand_in, torch.zeros(batch_size, input_channels, *image_size), tensors.values())
    return kept + 4 * sum(p.numel() * p.element_size() for p in network.parameters())


@lru_cache(maxsize=8)
def parameter_matched_features(preset: str) -> tuple[int, ...]:
    """Features per stage that give the residual U-Net as many parameters as LKM-UNet has at ``preset``.

    All features are multiplied by one factor, the one whose count comes closest.

    >>> parameter_matched_features("tiny-2d")[0] > 8
    True
    """

    def count(name: str, **overrides) -> int:
        with torch.device("meta"):  # counting needs no memory
            network = build_network(name, input_channels=1, num_classes=14, **overrides)
        return sum(p.numel() for p in network.parameters())

    with torch.device("meta"):
        features = build_network(f"lkm-unet/{preset}", input_channels=1, num_classes=14).features
    target, control = count(f"lkm-unet/{preset}"), f"residual-unet/{preset.removeprefix('paper-')}"
    low, high = 1.0, 2.0  # the number of parameters grows with the factor, about as its square
    tried = {}
    for _ in range(12):
        factor = (low + high) / 2
        widened = tuple(round(f * factor) for f in features)
        tried[widened] = count(control, features_per_stage=widened)
        low, high = (factor, high) if tried[widened] < target else (low, factor)
    return min(tried, key=lambda widened: abs(tried[widened] - target))


def kept_for_backward(
    network: Callable[[torch.Tensor], Any], image: torch.Tensor, weights: Iterable[torch.Tensor]
) -> int:
    """Bytes of all tensors that a forward pass keeps for the backward one; a shared one counts once.

    Args:
        network: module or function.
        image: its input.
        weights: tensors that are there anyway and are not counted.

    >>> layer = torch.nn.Conv2d(1, 5, 3)
    >>> kept_for_backward(layer, torch.zeros(2, 1, 8, 8), layer.parameters())  # its input
    512
    """
    own = {t.untyped_storage()._cdata for t in weights}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no later one gets its address
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(image)  # noqa: F841  (its graph holds what was kept)
    return sum(storage.nbytes() for storage in kept.values())
