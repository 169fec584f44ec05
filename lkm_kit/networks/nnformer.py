"""nnFormer (Zhou et al. 2023, arXiv 2109.03201): a U-shape of transformers with attention inside local volumes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from lkm_kit.blocks.token_order import to_map, to_tokens
from lkm_kit.errors import KitError
from lkm_kit.monai_parts import monai_part
from lkm_kit.networks.convolutions import CONV, CONV_TRANSPOSE, Size
from lkm_kit.networks.segmentation import SegmentationNetwork, Stage
from lkm_kit.networks.sizes import Demand, per_stage


class NNFormer(SegmentationNetwork):
    """Convolutional embedding, transformer stages with window attention, and attention in place of skip connections.

    Args:
        input_channels, num_classes, deep_supervision, pad: see :class:`lkm_kit.networks.SegmentationNetwork`.
        patch: pixels per token of the finest stage, per axis: 2 or 4.
        windows: side of the attention windows of each stage, in tokens. A window as large as the map is the paper's
            *global* attention, which it takes for the two coarsest stages.
        features: channels of the finest stage; doubled at every stage.
        num_heads: attention heads of each stage.
        depth: transformer layers of each stage; every second one shifts its windows by half their side.
        drop_path: chance of leaving a residual branch out during training, rising linearly from 0 in both halves.

    Shapes and errors: see :class:`lkm_kit.networks.SegmentationNetwork`; patches, the strides of 2 and the windows must
    divide the image.

    Sizes: at the authors' settings (features 192, four stages of two layers) 150.5 million parameters in 3D, as
    published. In 2D at 320×320 it has 114.3 million and 51.1 G multiply-adds. Swin-UMamba's table, which has Table 1's
    MR score, gives 60 million and 50.2 G without the settings. The operations fit these settings (as those of that
    table's six other networks fit ours); the parameters fit features of 140, which need 28 G. No width meets both. The
    released code has two other settings, both 3D with 96 features: 38 million.

    Source: the paper's Section III; settings of nnFormer_synapse.py in the released code. Its embedding, strided and
    transposed convolutions and skip attention (queries from below without a projection, keys and values from the
    encoder) are kept. Deviations: written for 2D as well. Maps that windows do not divide are an error, or padded as a
    whole; the released code pads inside the attention without a mask. The bias table is indexed by the relative
    position itself, where the released code's index lets positions of unequal offset share an entry.

    >>> network = NNFormer(1, 3, patch=(4, 4), windows=[4, 2], features=12, num_heads=[2, 4])
    >>> network(torch.zeros(1, 1, 32, 32)).shape
    torch.Size([1, 3, 32, 32])
    """

    last_map_needs_two_pixels = False

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        patch: Sequence[int],
        windows: Sequence,
        features: int = 192,
        num_heads: Sequence[int] = (6, 12, 24, 48),
        depth: int = 2,
        drop_path: float = 0.2,
        pad: bool = False,
    ):
        patch, n, dims = tuple(patch), len(windows), len(patch)
        sides = per_stage(list(windows), n, dims, "windows")
        counts = per_stage(list(num_heads), n, 1, "num_heads")
        if dims not in CONV or any(p not in (2, 4) for p in patch):
            raise KitError(f"patch is {patch}", remedy="give 2 or 4 pixels for each of 2 or 3 axes")
        channels = [features * 2**s for s in range(n)]
        for stage, (width, (heads,)) in enumerate(zip(channels, counts)):
            if width % heads:
                raise KitError(f"stage {stage}: {heads} heads cannot share {width} channels evenly")
        strides = [patch] + [(2,) * dims] * (n - 1)
        super().__init__(input_channels, num_classes, deep_supervision, strides=strides, pad=pad)
        self.channels, self.windows = channels, sides
        down_rates = torch.linspace(0, drop_path, n * depth, device="cpu").tolist()
        up_rates = torch.linspace(0, drop_path, (n - 1) * depth, device="cpu").tolist()

        def layer(stage: int, index: int, rate: float, kind: type[AttentionLayer]) -> AttentionLayer:
            return kind(channels[stage], counts[stage][0], sides[stage], shifted=index % 2 == 1, drop_path=rate)

        self.embedding = _embedding(input_channels, features, patch)
        self.stages = nn.ModuleList(
            nn.ModuleList(layer(s, i, down_rates[s * depth + i], TransformerLayer) for i in range(depth))
            for s in range(n)
        )
        self.norms = nn.ModuleList(ChannelNorm(width) for width in channels)
        self.downsamplings = nn.ModuleList(
            nn.Sequential(nn.GELU(), ChannelNorm(width), CONV[dims](width, 2 * width, 3, 2, 1))
            for width in channels[:-1]
        )
        self.upsamplings = nn.ModuleList(
            nn.Sequential(ChannelNorm(2 * width), CONV_TRANSPOSE[dims](2 * width, width, 2, 2))
            for width in reversed(channels[:-1])
        )
        self.decoder_stages = nn.ModuleList(
            nn.ModuleList(
                layer(s, i, up_rates[level * depth + i], SkipAttentionLayer if i == 0 else TransformerLayer)
                for i in range(depth)
            )
            for level, s in enumerate(reversed(range(n - 1)))
        )
        self.seg_layers = nn.ModuleList(
            CONV_TRANSPOSE[dims](width, num_classes, patch, patch) for width in reversed(channels[:-1])
        )

    def size_demands(self) -> list[Demand]:
        return [Demand(stage, "attention windows", window) for stage, window in enumerate(self.windows)]

    def stage_parts(self) -> list[Stage]:
        up = [*zip(self.upsamplings, self.decoder_stages, self.seg_layers)][::-1]
        down = [self.embedding, *self.downsamplings]
        return [
            Stage(width, [down[s], self.stages[s], self.norms[s], *(up[s] if s < len(up) else ())])
            for s, width in enumerate(self.channels)
        ]

    def heads(self, x: Tensor) -> list[Tensor]:
        x = self.embedding(x)
        skips = []
        for stage, layers in enumerate(self.stages):
            for layer in layers.children():
                x = layer(x)
            skips.append(self.norms[stage](x))
            if stage < len(self.downsamplings):
                x = self.downsamplings[stage](x)
        x = skips.pop()
        logits = []
        for up, layers, seg_layer in zip(self.upsamplings, self.decoder_stages, self.seg_layers):
            first, *further = layers.children()
            x = first(up(x), skips.pop())
            for layer in further:
                x = layer(x)
            if self.deep_supervision or not skips:
                logits.append(seg_layer(x))
        return logits[::-1]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map (batch, channels, *spatial)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class AttentionLayer(nn.Module):
    """The parts of a layer with attention inside windows, and what comes behind the attention."""

    projected_query = True

    def __init__(self, channels: int, num_heads: int, window: Size, shifted: bool, drop_path: float = 0.0):
        super().__init__()
        self.shifted = shifted
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.attention = WindowAttention(channels, num_heads, window, self.projected_query)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.drop_path = monai_part("networks.layers").DropPath(drop_path)

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.drop_path(attended)
        return x + self.drop_path(self.mlp(self.norm2(x).movedim(1, -1)).movedim(-1, 1))


class TransformerLayer(AttentionLayer):
    """x + attention(LN(x)) inside windows, then x + MLP(LN(x)); the paper's (shifted) local volume attention.

    >>> TransformerLayer(8, 2, (2, 4), shifted=True)(torch.zeros(1, 8, 4, 8)).shape
    torch.Size([1, 8, 4, 8])
    """

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, *spatial) → same."""
        normed = self.norm1(x)
        return self._finish(x, self.attention(normed, normed, self.shifted))


class SkipAttentionLayer(AttentionLayer):
    """The map from below asks, the encoder's map answers: skip attention, nnFormer's place for a skip connection."""

    projected_query = False

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Two maps (batch, channels, *spatial) → one."""
        return self._finish(below + skip, self.attention(self.norm1(below), self.norm1(skip), self.shifted))


class WindowAttention(nn.Module):
    """Multi-head attention among the tokens of a window, with a learnt bias for each relative position.

    Args:
        channels, num_heads: see :class:`NNFormer`.
        window: side per axis, in tokens.
        projected_query: False uses the query map as it is (skip attention).

    Shapes: query and memory maps (batch, channels, *spatial) → (batch, channels, *spatial). With ``shifted`` the
    windows lie half a window further, around the map's edge. Pixels that meet only there do not see each other, and
    axes with a single window are not shifted.
    """

    bias_index: Tensor

    def __init__(self, channels: int, num_heads: int, window: Size, projected_query: bool = True):
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.query = nn.Linear(channels, channels) if projected_query else nn.Identity()
        self.key_value = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.empty(num_heads, prod(2 * w - 1 for w in window)))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.register_buffer("bias_index", relative_positions(window).to(self.bias.device), persistent=False)

    def forward(self, query: Tensor, memory: Tensor, shifted: bool) -> Tensor:
        size, axes = query.shape[2:], tuple(range(2, query.ndim))
        shift = tuple(w // 2 if shifted and n > w else 0 for n, w in zip(size, self.window))
        if any(shift):
            query, memory = (x.roll([-s for s in shift], axes) for x in (query, memory))
        q = self._heads(self.query(to_tokens(query, self.window)))
        k, v = (self._heads(x) for x in self.key_value(to_tokens(memory, self.window)).chunk(2, dim=-1))
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + self.bias[:, self.bias_index]
        if any(shift):
            hidden = strangers(tuple(size), self.window, shift).to(scores.device)  # (windows, tokens, tokens)
            by_map = scores.unflatten(0, (-1, hidden.shape[0]))
            scores = by_map.masked_fill(hidden[:, None], float("-inf")).flatten(0, 1)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        out = to_map(self.project(mixed), query.shape, self.window)
        return out.roll(shift, axes) if any(shift) else out

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def relative_positions(window: Size) -> Tensor:
    """Number of the relative position of each pair of tokens in a window, (tokens, tokens).

    >>> relative_positions((2,))
    tensor([[1, 0],
            [2, 1]])
    """
    places = torch.cartesian_prod(*(torch.arange(w, device="cpu") for w in window)).reshape(prod(window), len(window))
    apart = places[:, None] - places[None]
    index = torch.zeros(apart.shape[:2], dtype=torch.long, device="cpu")
    for axis, w in enumerate(window):
        index = index * (2 * w - 1) + apart[..., axis] + w - 1
    return index


def strangers(size: Size, window: Size, shift: Size) -> Tensor:
    """Pairs of tokens that share a shifted window only because the map was rolled, (windows, tokens, tokens) bool.

    >>> strangers((4, 2), (2, 2), (1, 0))[:, 0].tolist()  # the second window joins the last row and the first one
    [[False, False, False, False], [False, False, True, True]]
    """
    torn = torch.zeros(1, 1, *size, device="cpu")
    for axis, (n, s) in enumerate(zip(size, shift)):
        wrapped = (torch.arange(n, device="cpu") >= n - s).float()
        torn = 2 * torn + wrapped.reshape([-1 if a == axis else 1 for a in range(len(size))])
    regions = to_tokens(torn, window)[..., 0]
    return regions[:, :, None] != regions[:, None, :]


def _embedding(input_channels: int, channels: int, patch: Size) -> nn.Sequential:
    """Four convolutions; the first halves every axis, the third those whose patch has 4 pixels."""
    dims, half = len(patch), channels // 2
    conv = CONV[dims]
    return nn.Sequential(
        *(conv(input_channels, half, 3, 2, 1), nn.GELU(), ChannelNorm(half)),
        *(conv(half, half, 3, 1, 1), nn.GELU(), ChannelNorm(half)),
        *(conv(half, channels, 3, tuple(p // 2 for p in patch), 1), nn.GELU(), ChannelNorm(channels)),
        *(conv(channels, channels, 3, 1, 1), ChannelNorm(channels)),
    )
