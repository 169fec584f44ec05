"""LKM-UNet (paper Section 3.1): the residual U-Net with an LM block after every encoder stage, and its presets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from lkm_kit.blocks import LMBlock
from lkm_kit.blocks.orders import unit_of
from lkm_kit.networks.sizes import Demand, per_stage, stage_choices
from lkm_kit.networks.unet import UNet, with_stages


class LKMUNet(UNet):
    """Residual U-Net whose encoder stages end in an LM block: large windows read by Mamba, then exchange between them.

    Args:
        input_channels, num_classes, deep_supervision: see :class:`UNet`.
        features_per_stage, strides, kernel_sizes, n_blocks_per_stage, n_blocks_decoder: see :class:`UNet`.
        windows: PiM's window of each stage, in pixels of that stage's map; per axis where they differ.
        pools: PaM's patch of each stage; ``None`` takes the windows, as the paper does.
        partition: "contiguous" (paper), "dilated" (released code), "count", "shuffled" (a control: PiM reads each
            window in a random order, PaM as ever) or another name of :data:`lkm_kit.blocks.ORDERS`; or a list with one
            for each stage.
        pim, pam, bidirectional: the switches of Table 3. With ``pim=False, pam=False`` this *is* the residual
            :class:`UNet`: the same parameters under the same names.
        pad: append zeros to images and maps that strides, windows or pools do not divide, and crop. Otherwise an image
            that does not fit is an error.
        mixer: what reads the tokens, BiM or anything else; see :class:`lkm_kit.blocks.PiM`. Or a list with one for each
            stage, where None leaves the stage without an LM block.
        activation_checkpointing: of :class:`lkm_kit.blocks.LMBlock`: less memory, the same numbers.
        directions, d_state, d_conv, expand: of :class:`lkm_kit.blocks.BiM`.
        backend: of the scan, see :func:`lkm_kit.ssm.selective_scan`.

    Shapes: image (batch, input_channels, *spatial) → logits (batch, num_classes, *spatial), or with deep supervision a
    list [full, 1/2, ...].

    The convolutions are made and initialised before any LM block: after one ``torch.manual_seed``, all arms of an
    ablation start from the same convolutions.

    Source: paper Section 3.1, Fig. 1; the released LKMUNet.py. Followed from the code where the paper's text differs:
    the LM block comes after the strided residual blocks and before the skip connection, at the bottleneck too. The stem
    is an ordinary convolution (for a one-channel image the paper's "depth-wise" one is the same thing). Weights of the
    released network load through :func:`lkm_kit.networks.from_official`.

    >>> import torch
    >>> network = LKMUNet(1, 3, features_per_stage=[4, 8], strides=[(1, 1), (2, 2)], windows=[8, 4])
    >>> network(torch.zeros(1, 1, 16, 16)).shape
    torch.Size([1, 3, 16, 16])
    """

    @with_stages
    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        windows: int | Sequence,
        pools: int | Sequence | None = None,
        partition: str | Sequence[str] = "contiguous",
        pim: bool = True,
        pam: bool = True,
        bidirectional: bool = True,
        activation_checkpointing: bool = False,
        mixer: str | Callable[[int], nn.Module] | Sequence[str | Callable[[int], nn.Module] | None] = "bim",
        directions: str | Sequence[tuple[str | None, bool]] | None = None,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        backend: str = "auto",
        **stages: Any,
    ):
        super().__init__(input_channels, num_classes, deep_supervision, block="residual", **stages)
        n = len(self.features)
        self.windows = per_stage(windows, n, self.dims, "windows")
        self.pools = None if pools is None else per_stage(pools, n, self.dims, "pools")
        self.partitions, mixers = stage_choices(partition, n, "partition"), stage_choices(mixer, n, "mixer")
        self.pim, self.pam = ([wanted and mixer is not None for mixer in mixers] for wanted in (pim, pam))
        self.encoder.mixers = nn.ModuleList(
            LMBlock(
                channels,
                window,
                None if self.pools is None else self.pools[stage],
                self.pim[stage],
                self.pam[stage],
                bidirectional,
                self.partitions[stage],
                self.pad,
                activation_checkpointing=activation_checkpointing,
                where=f"stage {stage}",
                mixer=mixers[stage],
                directions=directions,
                d_state=d_state,
                d_conv=d_conv,
                expand=expand,
                backend=backend,
            )
            for stage, (channels, window) in enumerate(zip(self.features, self.windows))
        )

    def size_demands(self) -> list[Demand]:
        """The windows and pools that must divide the map of each stage; with ``pad`` the blocks pad their own maps."""
        if self.pad:
            return []
        demands = []
        for stage, window in enumerate(self.windows):
            if self.pim[stage]:
                demands.append(Demand(stage, f"PiM {unit_of(self.partitions[stage])}", window))
            if self.pam[stage]:
                demands.append(Demand(stage, "PaM patches", self.pools[stage] if self.pools else window))
        return demands


def released_pools(n_stages: int) -> list[int]:
    """PaM's patch side of each stage in the released code: a power of two that halves every second stage.

    >>> released_pools(7)
    [8, 4, 4, 2, 2, 1, 1]
    """
    return [2 ** ((n_stages - stage + 1) // 2 - 1) for stage in range(n_stages)]


def released_windows(n_stages: int, dims: int) -> list[tuple[int, ...]]:
    """PiM's window of each stage in the released code: 5 in 2D, (5, 7, 6) in 3D, times the same powers of two.

    They are the kernel sizes of the paper's Section 4.2 for 7 stages in 2D and 6 in 3D.

    >>> [side for side, _ in released_windows(7, 2)]
    [40, 20, 20, 10, 10, 5, 5]
    >>> released_windows(6, 3)[0]
    (20, 28, 24)
    """
    base = (5, 5) if dims == 2 else (5, 7, 6)
    return [tuple(b * scale for b in base) for scale in released_pools(n_stages)]


# nnU-Net's plans for 320×320 slices and 40×224×192 patches: the paper's Section 4.2 and the released network.
PAPER_2D = {
    "features_per_stage": [32, 64, 128, 256, 512, 512, 512],
    "strides": [(1, 1)] + [(2, 2)] * 6,
    "kernel_sizes": 3,
}
PAPER_3D = {
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "strides": [(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)],
    "kernel_sizes": [(1, 3, 3)] + [(3, 3, 3)] * 5,
}
# For 96×96 slices and 32×64×64 patches on two cores. One block per stage instead of two: that halves the time of the
# convolutions (the no-Mamba control's whole step) and leaves every part of the architecture in place. As in the paper,
# windows halve every second stage and the last one is the whole map.
_ONE_BLOCK = {"n_blocks_per_stage": 1, "n_blocks_decoder": 1}
TINY_2D = {
    **_ONE_BLOCK,
    "features_per_stage": [8, 16, 32, 64],
    "strides": [(1, 1)] + [(2, 2)] * 3,
    "kernel_sizes": 3,
}
TINY_3D = {
    **_ONE_BLOCK,
    "features_per_stage": [8, 16, 32, 64],
    "strides": [(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)],
    "kernel_sizes": [(1, 3, 3)] + [(3, 3, 3)] * 3,
}

PRESETS = {
    "paper-2d": {**PAPER_2D, "windows": [40, 20, 20, 10, 10, 5, 5]},
    "paper-3d": {**PAPER_3D, "windows": [(20, 28, 24)] * 2 + [(10, 14, 12)] * 2 + [(5, 7, 6)] * 2},
    "released-2d": {
        **PAPER_2D, "windows": released_windows(7, 2), "pools": released_pools(7), "partition": "dilated"
    },
    "released-3d": {
        **PAPER_3D, "windows": released_windows(6, 3), "pools": released_pools(6), "partition": "dilated"
    },
    "tiny-2d": {**TINY_2D, "windows": [24, 24, 12, 12]},
    "tiny-3d": {**TINY_3D, "windows": [(8, 16, 16)] * 2 + [(4, 8, 8)] * 2},
}  # fmt: skip
# Designs of others, built of this network's parts: whole maps as windows, PiM alone. They are not the papers' networks;
# docs/scans.md says how they differ.
LIKE = {
    "vm-unet-like": {
        "tiny-2d": {**TINY_2D, "windows": [96, 48, 24, 12], "pam": False, "directions": "cross-scan"},
    },
    "segmamba-like": {
        "tiny-3d": {
            **TINY_3D, "windows": [(32, 64, 64), (32, 32, 32), (16, 16, 16), (8, 8, 8)], "pam": False,
            "directions": "tri-orientated", "mixer": [None, "bim", "bim", "bim"],
        },
    },
}  # fmt: skip
