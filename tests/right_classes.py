"""Right answers to the exercises that ask for a class, written unlike the chapters'. By their check's name."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from lkm_kit.networks import UNet
from lkm_kit.ssm import selective_scan


class LoopMamba(nn.Module):
    """Channels last all the way, and the scan as a loop."""

    def __init__(self, d_model, d_state=16):
        super().__init__()
        inner = 2 * d_model
        self.sizes = [max(1, -(-d_model // 16)), d_state, d_state]
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, kernel_size=4, groups=inner, padding=3)
        self.x_proj = nn.Linear(inner, sum(self.sizes), bias=False)
        self.dt_proj = nn.Linear(self.sizes[0], inner)
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        numbers = torch.linspace(1, d_state, d_state).expand(inner, -1)
        self.A_log, self.D = nn.Parameter(numbers.log()), nn.Parameter(torch.ones(inner))

    def forward(self, u):
        x, z = self.in_proj(u).chunk(2, -1)
        x = F.silu(rearrange(self.conv1d(rearrange(x, "b l d -> b d l"))[:, :, :-3], "b d l -> b l d"))
        step, write, read = self.x_proj(x).split(self.sizes, -1)
        step = F.softplus(self.dt_proj(step))
        h, ys = x.new_zeros(len(u), x.shape[2], self.sizes[1]), []
        for t in range(x.shape[1]):
            decay = torch.exp(-step[:, t, :, None] * self.A_log.exp())
            h = decay * h + (step * x)[:, t, :, None] * write[:, t, None]
            ys.append(torch.einsum("bdn,bn->bd", h, read[:, t]) + self.D * x[:, t])
        return self.out_proj(torch.stack(ys, 1) * z * z.sigmoid())


class BufferedMamba(LoopMamba):
    """A buffer of its own, a convolution padded by hand, and the library's scan with D and gate inside."""

    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("powers", torch.arange(16))

    def forward(self, tokens):
        x, z = self.in_proj(tokens).mT.chunk(2, 1)
        x = F.pad(x, (3, 0))
        x = nn.SiLU()(F.conv1d(x, self.conv1d.weight, self.conv1d.bias, groups=x.shape[1]))
        step, write, read = (part.mT for part in self.x_proj(x.mT).split(self.sizes, -1))
        step = torch.log1p(self.dt_proj(step.mT).exp()).mT
        return self.out_proj(selective_scan(x, step, -self.A_log.exp(), write, read, D=self.D, z=z).mT)


def without_projection(channels):
    mamba = LoopMamba(channels)
    mamba.out_proj = nn.Identity()
    return mamba


class IndexedBiM(nn.Module):
    """Turned by an index; each answer projected by itself."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.out_proj = nn.LayerNorm(channels), nn.Linear(2 * channels, channels, bias=False)
        for name in ("mamba_forward", "mamba_backward"):
            self.add_module(name, without_projection(channels))

    def forward(self, tokens):
        back = torch.arange(tokens.shape[1]).flip(0)
        x = self.norm(tokens)
        return self.out_proj(self.mamba_forward(x)) + self.out_proj(self.mamba_backward(x[:, back])[:, back])


class StackedBiM(IndexedBiM):
    """``F.layer_norm``, ``torch.stack`` and a product with the weight."""

    def forward(self, tokens):
        x = F.layer_norm(tokens, tokens.shape[-1:], self.norm.weight, self.norm.bias)
        both = [self.mamba_forward(x), torch.flip(self.mamba_backward(torch.flip(x, [-2])), [-2])]
        return torch.stack(both).sum(0) @ self.out_proj.weight.T


class EinopsPiM(nn.Module):
    def __init__(self, channels, window):
        super().__init__()
        self.k, self.bim = window, IndexedBiM(channels)

    def forward(self, x):
        b, _, height, _ = x.shape
        tokens = self.bim(rearrange(x, "b c (h i) (w j) -> (b h w) (i j) c", i=self.k, j=self.k))
        sizes = {"b": b, "h": height // self.k, "i": self.k}
        return rearrange(tokens, "(b h w) (i j) c -> b c (h i) (w j)", **sizes) + x


class FoldPiM(EinopsPiM):
    def forward(self, x):
        k, (b, c, *size) = self.k, x.shape
        tokens = F.unfold(x, k, stride=k).view(b, c, k * k, -1).permute(0, 3, 2, 1)
        mixed = self.bim(tokens.flatten(0, 1)).view_as(tokens).permute(0, 3, 2, 1)
        return x + F.fold(mixed.reshape(b, c * k * k, -1), size, k, stride=k)


class WindowByWindowPiM(EinopsPiM):
    def forward(self, x):
        out = x.clone()
        for row in range(0, x.shape[2], self.k):
            for column in range(0, x.shape[3], self.k):
                at = ..., slice(row, row + self.k), slice(column, column + self.k)
                out[at] += self.bim(x[at].flatten(2).mT).mT.reshape(x[at].shape)
        return out


class RepeatingPaM(nn.Module):
    """A mean over axes of its own, and ``repeat_interleave``, in any number of dimensions."""

    def __init__(self, channels, pool):
        super().__init__()
        self.pool, self.bim = pool, IndexedBiM(channels)

    def forward(self, x):
        coarse = x
        for axis in range(2, x.ndim):
            coarse = coarse.unflatten(axis, (-1, self.pool)).mean(axis + 1)
        mixed = self.bim(coarse.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(coarse)
        for axis in range(2, x.ndim):
            mixed = mixed.repeat_interleave(self.pool, axis)
        return x + mixed


class UpsamplingPaM(RepeatingPaM):
    def forward(self, x):
        size = [n // self.pool for n in x.shape[2:]]
        coarse = (F.adaptive_avg_pool2d if x.ndim == 4 else F.adaptive_avg_pool3d)(x, size)
        mixed = torch.movedim(self.bim(torch.movedim(coarse, 1, -1).flatten(1, -2)), 1, -1).reshape(coarse.shape)
        return nn.Upsample(scale_factor=self.pool, mode="nearest-exact")(mixed) + x


class SequentialNetwork(UNet):
    def __init__(self, *channels, windows, **sizes):
        super().__init__(*channels, **sizes)
        for stage, (c, k) in enumerate(zip(self.features, windows, strict=True)):
            block = OrderedDict(pim=FoldPiM(c, k), pam=RepeatingPaM(c, k))
            self.encoder.mixers[stage] = nn.Sequential(block)


class Block(nn.Module):
    def __init__(self, width, side):
        super().__init__()
        self.pam, self.pim = UpsamplingPaM(width, pool=side), EinopsPiM(width, window=side)

    def forward(self, x):
        x = self.pim(x)
        return self.pam(x)


class OtherSignature(UNet):
    def __init__(self, inputs, outputs, windows, **others):
        super().__init__(inputs, outputs, **others)
        self.encoder.mixers = nn.ModuleList(map(Block, self.features, windows))


RIGHT_CLASSES = {
    "check_mamba": [LoopMamba, BufferedMamba],
    "check_bim": [IndexedBiM, StackedBiM],
    "check_pim": [EinopsPiM, FoldPiM, WindowByWindowPiM],
    "check_pam": [RepeatingPaM, UpsamplingPaM],
    "check_network": [SequentialNetwork, OtherSignature],
}
