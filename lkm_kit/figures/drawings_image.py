"""Drawings of chapters 03 to 05: two directions, three readings of a kernel size, and the way through an LM block."""

from __future__ import annotations

import numpy as np

from lkm_kit.figures.built import Built
from lkm_kit.figures.drawings import Sheet
from lkm_kit.figures.theme import LIGHT, Theme


def _places(size: int, window: int, partition: str) -> np.ndarray:
    """Row and column of every token: (sequences, tokens, 2)."""
    import torch

    from lkm_kit.blocks import to_tokens

    numbers = to_tokens(torch.arange(size * size).reshape(1, 1, size, size), window, partition)[..., 0].numpy()
    return np.stack([numbers // size, numbers % size], axis=-1)


def two_directions(theme: Theme = LIGHT) -> Built:
    """Which pixels of a window one output hears: forward, backward, and with the sum of both."""
    import torch

    from lkm_kit.blocks import PiM
    from lkm_kit.erf import Probe, support

    side, asked = 4, (1, 2)
    numbers = np.arange(1, side * side + 1).reshape(side, side)
    ways = {
        "forward": [("contiguous", False)],
        "backward": [("contiguous", True)],
        "BiM: the sum": [("contiguous", False), ("contiguous", True)],
    }
    read = f"read from 1 to {side * side}", f"read from {side * side} to 1", "both, added"
    page = Sheet(3.2, theme)
    heard = {}
    for number, (name, directions) in enumerate(ways.items()):
        corner, square = (0.3 + number * 2.55, 2.5), 0.45
        layer, image = PiM(4, side, directions=directions, backend="reference"), torch.randn(1, 4, side, side)
        seen = support(layer, image, Probe(position=asked)).numpy()
        color = (theme.blue, theme.orange, theme.green)[number]
        colors = np.where(seen[..., None], theme.tint(color, 0.35), theme.tint(theme.faint, 1))
        page.squares(corner, colors, square, numbers, 10)
        page.frame(corner, (*asked, 1, 1), square, theme.ink, linewidth=2.2)
        page.say((corner[0] + 0.9, 2.95), name, theme.ink, weight="bold")
        page.say((corner[0] + 0.9, 2.69), read[number], letters=9.5)
        heard[name] = int(seen.sum())
        page.say((corner[0] + 0.9, 0.4), f"output {numbers[asked]} depends on\n{heard[name]} of {side * side} pixels")
    page.say((2.47, 1.6), "+", theme.ink, 18)
    page.say((5.02, 1.6), "=", theme.ink, 18)
    text = (
        "A window of 4×4 pixels, numbered in the order in which a scan reads them. Coloured are the pixels on which "
        "the output at the framed pixel depends; both directions read the framed pixel itself."
    )
    return Built(page.figure, text, {"window": side, "pixel": list(asked), "heard": heard})


def readings_of_k(theme: Theme = LIGHT) -> Built:
    """Three readings of one kernel size: what a sequence is, and how long it gets when the number grows."""
    import torch

    from lkm_kit.blocks import to_tokens

    size, k, image, kernels = 12, 4, 320, (10, 20, 40)
    readings = {
        "contiguous": ("paper: windows", f"of {k}×{k} neighbours"),
        "dilated": ("released code: a grid", f"every {k}th pixel"),
        "count": ("authors' answer: a count", f"{k} windows per axis"),
    }
    stage = torch.empty(1, 1, image, image, device="meta")
    page = Sheet(4.4, theme)
    lengths = {}
    for number, (partition, titles) in enumerate(readings.items()):
        left, square = 0.45 + number * 2.45, 0.15
        colors, corner = np.tile(theme.tint(theme.faint, 1), (size, size, 1)), (left, 3.75)
        one = _places(size, k, partition)[0]
        colors[one[:, 0], one[:, 1]] = theme.tint(theme.orange, 0.6)
        page.squares(corner, colors, square)
        for other in _places(size, k, partition) if partition != "dilated" else ():
            tall, wide = np.ptp(other, axis=0) + 1
            page.frame(corner, (*other[0], tall, wide), square, theme.tint(theme.grey, 0.55), linewidth=0.8)
        page.path(corner, one, square, theme.ink)
        page.say((left + 0.9, 4.22), titles[0], theme.ink, weight="bold")
        page.say((left + 0.9, 3.93), titles[1])
        lengths[partition] = [to_tokens(stage, kernel, partition).shape[1] for kernel in kernels]
        page.say((left + 0.9, 1.72), f"k = {k}: {len(one)} tokens a sequence", theme.brown, 9.5)
        for row, (kernel, length) in enumerate(zip(kernels, lengths[partition])):
            y = 1.05 - 0.32 * row
            width = 1.15 * np.log(length) / np.log(1600)
            page.ax.barh(y, width, 0.22, left=left + 0.05, color=theme.tint(theme.blue, 0.5))
            page.say((left - 0.02, y), f"{kernel}", ha="right")
            page.say((left + width + 0.12, y), f"{length}", theme.ink, ha="left")
    page.say(
        (3.75, 1.4),
        f"tokens in one sequence of a {image}×{image} map, for k = 10, 20 and 40 (bars: logarithmic)",
        theme.ink,
    )
    page.say((0.45 + 0.9, 0.14), "larger k: longer", theme.green, weight="bold")
    page.say((0.45 + 4.575, 0.14), "larger k: shorter", theme.brown, weight="bold")
    text = (
        "One number, three meanings. Orange: the first sequence of a 12×12 map for k = 4. Below: tokens in a sequence "
        "(logarithmic bars) of the paper's first stage. In two of the readings a larger kernel is a shorter sequence."
    )
    return Built(page.figure, text, {"k": k, "map": size, "image": image, "tokens": lengths})


def lm_block(theme: Theme = LIGHT) -> Built:
    """A map through PiM and PaM: windows, scan, pool, scan over the representatives, unpool, add."""
    import torch
    import torch.nn.functional as F

    from lkm_kit.blocks import to_map, to_tokens

    size, k = 8, 4
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    image = torch.exp(-((row - 1.5) ** 2 + (column - 2.0) ** 2) / 3)[None, None]

    def both_ways(tokens, decay):
        """A decaying sum in both directions: (batch, tokens, 1) → same."""
        steps = torch.arange(tokens.shape[1])
        weights = decay ** (steps[:, None] - steps).abs().float()
        return torch.einsum("ts,bsc->btc", weights / weights.sum(1, keepdim=True), tokens)

    scanned = to_map(both_ways(to_tokens(image, k), 0.7), image.shape, k)
    after = image + scanned
    pooled = F.avg_pool2d(after, k)
    told = to_map(both_ways(to_tokens(pooled, size // k), 0.6), pooled.shape, size // k)
    spread = F.interpolate(told, scale_factor=k)
    maps = {"image": image, "after": after, "pooled": pooled, "told": told, "spread": spread, "out": after + spread}
    colors = {name: theme.shades(m[0, 0].numpy() / float(maps["out"].max()), theme.blue) for name, m in maps.items()}
    page = Sheet(4.0, theme)
    cell, big, top, low = 0.18, 0.55, 3.6, 1.5
    lefts = {"image": 0.3, "after": 3.0, "out": 5.75}
    for name, title in (("image", "F"), ("after", "F after PiM"), ("out", "F′")):
        page.squares((lefts[name], top), colors[name], cell)
        page.say((lefts[name] + 4 * cell, top + 0.2), title, theme.ink, weight="bold")
    windows = _places(size, k, "contiguous")
    for left in lefts.values():
        for first in windows[:, 0]:
            page.frame((left, top), (*first, k, k), cell)
    page.path((lefts["image"], top), windows[0], cell, theme.brown)
    middle, gap = top - 4 * cell, 8 * cell + 0.08
    page.arrow((lefts["image"] + gap, middle), (lefts["after"] - 0.08, middle))
    page.say((2.37, middle + 0.25), "PiM", theme.brown, weight="bold")
    page.say((2.37, middle - 0.35), "a scan in\neach window,\nplus F")
    plus = lefts["out"] - 0.36
    page.arrow((lefts["after"] + gap, middle), (plus - 0.16, middle))
    page.ring((plus, middle), "+")
    page.arrow((plus + 0.16, middle), (lefts["out"] - 0.03, middle), mutation_scale=9)
    page.say((plus - 0.52, middle + 0.2), "residual", theme.green)
    for name, left in (("pooled", lefts["after"]), ("told", lefts["out"])):
        numbers = np.vectorize("{:.2f}".format)(maps[name][0, 0].numpy())
        page.squares((left + 4 * cell - big, low), colors[name], big, numbers, 10)
        page.frame((left + 4 * cell - big, low), (0, 0, 2, 2), big, theme.tint(theme.grey, 0.5), linewidth=0.8)
    x = {name: left + 4 * cell for name, left in lefts.items()}
    bottom = top - 8 * cell
    page.arrow((x["after"], bottom - 0.06), (x["after"], low + 0.06))
    page.say((x["after"] + 0.1, (bottom + low) / 2), "Pool: the mean\nof each window", ha="left")
    turn = (bottom + low) / 2
    page.ax.plot((x["out"], x["out"], plus), (low + 0.06, turn, turn), color=theme.grey, linewidth=1.3)
    page.arrow((plus, turn), (plus, middle - 0.16))
    page.say((plus + 0.12, turn + 0.17), "Unpool: copied", ha="left")
    page.say((x["after"] - big - 0.12, low - big), "one representative\na window", ha="right")
    page.arrow((x["after"] + big + 0.06, low - big), (x["out"] - big - 0.06, low - big))
    page.say((5.1, low - big + 0.2), "BiM", theme.brown, weight="bold")
    page.say((5.1, low - big - 0.3), "a scan over\nall of them")
    page.say((5.1, 0.16), "PaM: Pool, BiM, Unpool, and the sum", theme.brown, weight="bold")
    text = (
        "A map through the LM block. PiM scans every window on its own; Pool, a scan over the representatives and "
        "Unpool (PaM, Eq. 6) carry the bright spot's message to the other windows. For the picture a decaying sum in "
        "both directions stands in for BiM."
    )
    return Built(page.figure, text, {"map": size, "window": k})
