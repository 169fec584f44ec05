"""Checks of the exercises on the blocks and the network (chapter ``06_lkm_unet``)."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lkm_kit.blocks import BiM, LMBlock
from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.course.check_class import check_class
from lkm_kit.networks import LKMUNet


def check_network(cls: Callable) -> CheckResult:
    """``cls(input_channels, num_classes, ..., windows=)``: the learner's LKM-UNet, parameters first, then outputs."""
    if cls is None or cls is ... or isinstance(cls, nn.Module):
        return check_class(cls, LKMUNet, [], hints=())

    def built(kind: Callable) -> Callable:
        @functools.wraps(kind, updated=())
        def network(*windows: int) -> nn.Module | None:
            n = len(windows)
            sizes = {"features_per_stage": [4, 8, 8][:n], "strides": ([(1, 1)] + [(2, 2)] * 2)[:n]}
            return kind(1, 3, windows=list(windows), **sizes, n_blocks_per_stage=1, n_blocks_decoder=1)

        return network

    def with_blocks(block: Callable[[LMBlock], nn.Module], stages: slice = slice(None)) -> Callable:
        def output(network: LKMUNet, image: Tensor) -> Tensor:
            network = copy.deepcopy(network)
            mixers = network.encoder.mixers
            for stage in range(len(mixers))[stages]:
                mixers[stage] = block(mixers[stage])
            return network(image)

        return output

    def first_window(network: LKMUNet, image: Tensor) -> Tensor:
        blocks = [block for block in network.encoder.mixers if isinstance(block, LMBlock)]
        for block in blocks:
            block.pim.window, block.pam.pool = blocks[0].pim.window, blocks[0].pam.pool
        return network(image)

    random = torch.Generator().manual_seed(0)
    return check_class(
        built(cls),
        built(LKMUNet),
        [
            ((4, 2), torch.randn(1, 1, 8, 8, generator=random)),
            ((6, 2, 3), torch.randn(2, 1, 12, 24, generator=random)),
        ],
        begun=lambda network: any("bim." in name for name, _ in network.named_parameters()),
        names=(
            "self.encoder.mixers is an nn.ModuleList with one LM block per stage, the bottleneck's included",
            "an LM block holds self.pim and self.pam, each made with its stage's channels and window",
        ),
        hints=(
            "in which order do PiM and PaM come in an LM block?",
            "the block returns self.pam(self.pim(x)); both have their residual connection inside",
        ),
        mistakes=[
            (with_blocks(lambda block: nn.Sequential(block.pam, block.pim)), "PiM comes first, then PaM"),
            (with_blocks(lambda block: block.pim), "PaM is made and never called"),
            (with_blocks(lambda block: block.pam), "PiM is made and never called"),
            (
                with_blocks(lambda block: _Added(block)),
                "PiM and PaM add their input themselves: the block adds nothing more",
            ),
            (
                with_blocks(lambda block: _Beside(block)),
                "PaM reads what PiM returns: they stand one behind the other, not side by side",
            ),
            (with_blocks(lambda block: nn.Sequential(block.pim, block.pam, block.pam)), "each is called once"),
            (with_blocks(lambda block: nn.Sequential(block.pim, block.pim, block.pam)), "each is called once"),
            (first_window, "each stage has a window of its own, not the first stage's"),
            (with_blocks(lambda block: nn.Identity()), "the block returns its input: call PiM, then PaM"),
        ],
        atol=1e-4,
    )


class _Added(nn.Module):
    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class _Beside(_Added):
    def forward(self, x: Tensor) -> Tensor:
        return self.block.pim(x) + self.block.pam(x)


def check_bim_parameters(fn: Callable) -> CheckResult:
    """``fn(d)``: number of parameters of ``BiM(d)``."""

    @functools.cache
    def target(d: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in BiM(d).parameters())

    def one_mamba(d: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in BiM(d, bidirectional=False).parameters())

    return check_function(
        fn,
        target,
        [(16,), (40,), (512,)],
        hints=(
            "list the layers of a BiM: which of them does each direction have for itself, and which are shared?",
            "with e = 2d and r = ceil(d / 16), one Mamba has in_proj 2ed, conv1d 5e, x_proj e(r + 32), "
            "dt_proj e(r + 1), A_log 16e and D e; BiM has two of them, out_proj ed once, and LayerNorm 2d",
        ),
        mistakes=[
            (one_mamba, "that is BiM(d, bidirectional=False): count two Mambas"),
            (lambda d: target(d) + 2 * d * d, "out_proj is shared: count it once"),
            (lambda d: target(d) - 2 * d, "LayerNorm has a weight and a bias, 2d parameters"),
            (lambda d: target(d) - d, "LayerNorm has a weight and a bias, 2d parameters"),
            (lambda d: target(d) + 2 * d, "the tokens are normed once, before both Mambas: 2d parameters"),
            (lambda d: target(d) - 2 * d * d, "out_proj is missing, ed parameters"),
            (lambda d: target(d) + d, "out_proj has no bias"),
            (lambda d: target(d) + 8 * d, "in_proj has no bias"),
            (lambda d: target(d) - 4 * d, "one vector is missing in both Mambas: a bias, or D"),
            (lambda d: target(d) - 8 * d, "two vectors are missing in both Mambas: biases, or D"),
            (lambda d: target(d) - 64 * d, "A_log has 16 numbers for each of e channels, in both Mambas"),
            (lambda d: target(d) - 60 * d, "A_log has 16 numbers for each of e channels, in both Mambas"),
            (lambda d: target(d) - 2 * d * d - 2 * d, "out_proj and LayerNorm are missing: these are the two Mambas"),
            (lambda d: target(d) - 8 * d * (math.ceil(d / 16) - d // 16), "r is rounded up"),
            (lambda d: target(d) - 8 * d * d, "in_proj makes x and z: 2e numbers of d"),
            (lambda d: target(d) - 4 * d * d, "in_proj makes x and z: 2e numbers of d"),
        ],
    )


def check_supervision_weights(fn: Callable) -> CheckResult:
    """``fn(n)``: n weights 1, 1/2, 1/4, ..., the last set to 0, scaled to add up to 1."""

    def target(n: int, drop_last: bool = True) -> Tensor:
        weights = 0.5 ** torch.arange(n, dtype=torch.float64)
        if drop_last:
            weights[-1] = 0
        return weights / weights.sum()

    return check_function(
        fn,
        target,
        [(3,), (6,)],
        hints=(
            "write the list for n = 3 by hand; what must its sum be?",
            "halve from output to output, set the last to 0, then divide by the sum",
        ),
        mistakes=[
            (lambda n: target(n, drop_last=False), "the coarsest output gets no weight at all: set the last one to 0"),
            (lambda n: target(n) / target(n)[0], "divide by the sum, so that they add up to 1"),
            (
                lambda n: torch.cat([target(n, drop_last=False)[:-1], torch.zeros(1)]),
                "first the 0, then the division: they add up to less than 1 here",
            ),
            (lambda n: target(n).flip(0), "the first output, at full size, has the largest weight"),
            (
                lambda n: torch.cat([torch.ones(n - 1), torch.zeros(1)]) / (n - 1),
                "each weighs half of the one before",
            ),
            (lambda n: target(n - 1, drop_last=False), "n weights: the last of them is 0"),
            (lambda n: target(n + 1), "n weights: the last of them is 0"),
            (lambda n: target(n).square() / target(n).square().sum(), "each weighs half of the one before"),
            (
                lambda n: torch.cat([1 / torch.arange(1.0, n), torch.zeros(1)]) / (1 / torch.arange(1.0, n)).sum(),
                "1, 1/2, 1/4: each weighs half of the one before",
            ),
            (lambda n: 0.5 ** torch.arange(n), "the last one is 0, and the sum is 1"),
            (lambda n: target(n) / n, "divide by the sum, so that they add up to 1"),
            (lambda n: target(n).softmax(0), "no softmax: divide by the sum"),
        ],
    )
