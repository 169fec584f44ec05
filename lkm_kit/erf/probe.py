"""The probe: which number inside a network we ask about when we ask what it sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from operator import index

import torch
from torch import Tensor

from lkm_kit.errors import KitError, one_of

RULES = ("sum", "relu", "margin", "rademacher")
PLACES = ("center", "window:center", "window:border", "window:corner")


@dataclasses.dataclass(frozen=True)
class Probe:
    """One scalar s(x) of a network: a layer, a place on its map, and a rule that makes its channels one number.

    Args:
        layer: name of a module as in ``network.named_modules()``, or ``"logit"``, the network's output (the first one
            where it returns several).
        position: pixel of the layer's own map, one index per axis; ``"center"`` (size // 2); or a place in the window
            that holds the map's centre: ``"window:center"``, ``"window:border"`` (first row, middle column),
            ``"window:corner"`` (its first pixel).
        cls: take this channel alone, the logit z_k; ``None`` takes all of them.
        rule: ``"sum"`` Σ_c f_c; ``"relu"`` Σ_c relu(f_c); ``"margin"`` z_k − max_{j≠k} z_j (needs ``cls``);
            ``"rademacher"`` vᵀf with random signs v, for which E‖vᵀJ‖² = ‖J‖²_F: channels do not cancel.
        window: side of a window of the layer's map in pixels, one number or one per axis; windows start at the map's
            origin. Needed for ``"window:..."``; measures and figures use it too.
        stride: of a dilated grid, in pixels of the layer's map; only measures use it.
        channel_axis: 1 for maps (batch, channels, *spatial); -1 for tokens (batch, length, channels) and other layouts
            with channels last.

    Raises:
        KitError: an unknown rule or place, a margin without ``cls``, a place in a window without ``window``.

    >>> Probe(position="window:corner", window=24).locate((96, 96))
    (48, 48)
    """

    layer: str = "logit"
    position: str | Sequence[int] = "center"
    cls: int | None = None
    rule: str = "sum"
    window: int | Sequence[int] | None = None
    stride: int | Sequence[int] | None = None
    channel_axis: int = 1

    def __post_init__(self):
        one_of(self.rule, RULES, "channel rule")
        if isinstance(self.position, str):
            remedy = f"choose {', '.join(PLACES)}, or give one index per axis such as (48, 48)"
            one_of(self.position, PLACES, "probe position", remedy=remedy)
        if self.rule == "margin" and self.cls is None:
            raise KitError("a margin is that of a class, but cls is None", remedy="say which one: Probe(cls=1, ...)")
        if self.rule == "rademacher" and self.cls is not None:
            raise KitError(
                "rule 'rademacher' is for all channels, but cls chooses one", remedy="leave out cls, or take rule='sum'"
            )
        if isinstance(self.position, str) and self.position.startswith("window") and self.window is None:
            raise KitError(
                f"position {self.position!r} needs the window's size",
                remedy="give it in pixels of the layer's map: Probe(..., window=24)",
            )

    def locate(self, size: Sequence[int]) -> tuple[int, ...]:
        """The pixel that is meant on a map of this size.

        Raises:
            KitError: outside the map, or of another rank.
        """
        if isinstance(self.position, str):
            middle = tuple(s // 2 for s in size)
            window = self.window_sides(size)
            if self.position == "center" or window is None:
                return middle
            start = [q // k * k for q, k in zip(middle, window)]
            # The last window of a map that windows do not divide is a smaller one.
            inside = [min(k, s - a) // 2 for k, s, a in zip(window, size, start)]
            if self.position == "window:corner":
                inside = [0] * len(start)
            elif self.position == "window:border":
                inside[0] = 0
            return tuple(a + i for a, i in zip(start, inside))
        try:
            place = tuple(index(i) for i in self.position)
        except TypeError:
            place = ()
        if len(place) != len(size) or any(not 0 <= i < s for i, s in zip(place, size)):
            raise KitError(
                f"probe position {self.position} is outside the map of layer {self.layer!r}, {_text(size)}",
                remedy=f"give {len(size)} indices from 0 to {', '.join(str(s - 1) for s in size)} on the layer's own "
                'map (deeper layers have smaller maps), or "center"',
            )
        return place

    def window_sides(self, size: Sequence[int]) -> tuple[int, ...] | None:
        """The window's side on every axis of a map of this size, or None.

        Raises:
            KitError: larger than the map.
        """
        if self.window is None:
            return None
        window = sides(self.window, len(size), "window")
        if any(k > s for k, s in zip(window, size)):
            raise KitError(
                f"a window of {_text(window)} does not fit the map of layer {self.layer!r}, {_text(size)}",
                remedy=f"give a window of at most {min(size)} pixels of that map",
            )
        return window

    def select(self, output: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """The channels at the probe: a layer's output (batch, channels, *spatial) → ((batch, channels), place).

        Raises:
            KitError: place or class outside the output.
        """
        output = output.movedim(self.channel_axis, -1)
        place = self.locate(output.shape[1:-1])
        channels = output[(slice(None), *place)]
        if self.cls is not None and not 0 <= self.cls < channels.shape[1]:
            raise KitError(
                f"class {self.cls} is outside layer {self.layer!r}, which has {channels.shape[1]} channels",
                remedy=f"choose 0 to {channels.shape[1] - 1}",
            )
        return channels, place

    def scalar(self, channels: Tensor, signs: Tensor | None = None) -> Tensor:
        """s of every sample: (batch, channels) → (batch,); ``signs`` is v of the rule "rademacher"."""
        if signs is not None:
            return (channels * signs).sum(1)
        if self.rule == "margin":
            others = torch.arange(channels.shape[1], device=channels.device) != self.cls
            return channels[:, self.cls] - channels[:, others].max(1).values
        chosen = channels if self.cls is None else channels[:, self.cls : self.cls + 1]
        return (chosen.relu() if self.rule == "relu" else chosen).sum(1)


def sides(value: int | Sequence[int], dims: int, name: str) -> tuple[int, ...]:
    """One positive whole number per axis; a single number serves all axes."""
    try:
        values = tuple(index(v) for v in value) if isinstance(value, Iterable) else (index(value),) * dims
    except TypeError:
        values = ()
    if len(values) != dims or min(values) < 1:
        raise KitError(f"{name} {value} does not suit {dims} spatial axes", remedy="give one whole number ≥ 1 per axis")
    return values


def _text(size: Sequence[int]) -> str:
    return "×".join(str(s) for s in size)
