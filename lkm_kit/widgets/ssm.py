"""Sliders over the figures of the state-space chapters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import ipywidgets as widgets
import torch
from IPython.display import display
from matplotlib.figure import Figure

from lkm_kit.plots.lines import plot_lines
from lkm_kit.plots.ssm import selective_walk
from lkm_kit.ssm import convolution_kernel, discretize


class KernelExplorer(widgets.VBox):
    """Turn Δ and the eigenvalue of a system and see its memory: the kernel K̄, on an axis that stands still.

    The eigenvalue is complex: its real part makes the kernel fade, its imaginary part makes it oscillate.

    Args:
        length: tokens shown.

    >>> explorer = KernelExplorer()
    >>> explorer.delta.value = 0.5
    >>> round(explorer.half_life, 2)
    1.39
    """

    def __init__(self, length: int = 64):
        self.length = length
        self.delta = widgets.FloatLogSlider(0.1, base=10, min=-3, max=0, step=0.05, description="Δ")
        self.rate = widgets.FloatSlider(-1.0, min=-4.0, max=-0.05, step=0.05, description="real part")
        self.frequency = widgets.FloatSlider(0.0, min=0.0, max=12.0, step=0.25, description="imaginary")
        self.fixed = widgets.Checkbox(True, description="fixed axis")
        self.output = widgets.Output()
        self.figure: Figure | None = None
        self.half_life = float("nan")
        for control in (self.delta, self.rate, self.frequency, self.fixed):
            control.observe(self._draw, names="value")
        rows = [widgets.HBox([self.delta, self.fixed]), widgets.HBox([self.rate, self.frequency])]
        super().__init__([*rows, self.output])
        self._draw()

    def _draw(self, _change=None) -> None:
        A, first = _rotating(self.rate.value, self.frequency.value)
        A_bar, B_bar = discretize(A, first, self.delta.value)
        self.half_life = math.log(0.5) / (self.delta.value * self.rate.value)
        kernel = convolution_kernel(A_bar, B_bar, first, self.length)
        title = (
            f"|Ā| = {math.exp(self.delta.value * self.rate.value):.3f}: after {self.half_life:.1f} tokens half is left"
        )
        name = f"Δ = {self.delta.value:.3g}, A = {self.rate.value:.2f} + {self.frequency.value:.2f}i"
        # the largest kernel that the sliders can make is Δ = 1 at its first token
        limits = (-0.6, 1.0) if self.fixed.value else None
        how = {"levels": {"": 0}, "title": title, "ylim": limits}
        self.figure = plot_lines({name: kernel}, "tokens ago", "weight in the output", **how)
        self.output.clear_output(wait=True)
        with self.output:
            display(self.figure)


class SelectionExplorer(widgets.VBox):
    """A scan whose Δ you choose for every token: what the state takes in, keeps and drops, on axes that stand still.

    One state with a complex eigenvalue. Both bars are those of Eq. 2, with B as large as the eigenvalue. So a token
    with a large Δ replaces the state, and one with a small Δ leaves it as it was.

    Args:
        tokens: the input of each, between -1 and 1.

    ``states`` is the output after each token, ``weights`` what each token contributes to the last one, per unit of
    input.

    >>> explorer = SelectionExplorer()
    >>> explorer.preset.value = "keep the third"
    >>> [round(w, 2) for w in explorer.weights.tolist()[:4]]
    [0.0, 0.0, 0.89, 0.01]
    """

    PRESETS: ClassVar[dict[str, dict[int, float]]] = {
        "all alike": {},
        "keep the third": {2: 3.0},
        "start anew at the seventh": {6: 3.0},
    }
    """Name -> Δ of single tokens; the others get 0.3, or 0.01 where one is to be kept."""

    def __init__(self, tokens: Sequence[float] = (0.5, -0.4, 1.0, 0.3, -0.8, 0.6, -1.0, 0.2, -0.3, 0.4)):
        self.tokens = torch.tensor(tokens, dtype=torch.float64)
        self.preset = widgets.Dropdown(options=list(self.PRESETS), description="Δ")
        self.rate = widgets.FloatSlider(-1.0, min=-4.0, max=-0.1, step=0.1, description="real part")
        self.frequency = widgets.FloatSlider(0.0, min=0.0, max=6.0, step=0.25, description="imaginary")
        self.deltas = [
            widgets.FloatLogSlider(
                0.3, base=10, min=-2, max=0.5, step=0.05, description=f"Δ{t + 1}", readout_format=".2f",
                orientation="vertical", layout=widgets.Layout(width="52px", height="150px"),
            )
            for t in range(len(tokens))
        ]  # fmt: skip
        self.output = widgets.Output()
        self.figure: Figure | None = None
        self.states = self.weights = torch.zeros_like(self.tokens)
        self._held = False
        self.preset.observe(self._choose, names="value")
        for control in (self.rate, self.frequency, *self.deltas):
            control.observe(self._draw, names="value")
        rows = [widgets.HBox([self.preset, self.rate, self.frequency]), widgets.HBox(self.deltas)]
        super().__init__([*rows, self.output])
        self._draw()

    def _choose(self, _change=None) -> None:
        others = 0.01 if self.preset.value.startswith("keep") else 0.3
        self._held = True  # one picture for all sliders
        for t, slider in enumerate(self.deltas):
            slider.value = self.PRESETS[self.preset.value].get(t, others)
        self._held = False
        self._draw()

    def _draw(self, _change=None) -> None:
        if self._held:
            return
        A, first = _rotating(self.rate.value, self.frequency.value)
        B = abs(complex(self.rate.value, self.frequency.value)) * first
        bars = [discretize(A, B, slider.value) for slider in self.deltas]
        h, outputs = torch.zeros(2, dtype=torch.float64), []
        for (A_bar, B_bar), u in zip(bars, self.tokens):
            h = A_bar @ h + B_bar * u
            outputs.append(h[0])
        after, weights = torch.eye(2, dtype=torch.float64), []
        for A_bar, B_bar in reversed(bars):
            weights.append((after @ B_bar)[0])
            after = after @ A_bar
        self.states, self.weights = torch.stack(outputs), torch.stack(weights[::-1])
        deltas = [slider.value for slider in self.deltas]
        self.figure = selective_walk(
            deltas, self.tokens.numpy(), self.states.numpy(), self.weights.numpy()
        )  # fmt: skip
        self.output.clear_output(wait=True)
        with self.output:
            display(self.figure)


def _rotating(rate: float, frequency: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A real system (2, 2) with the eigenvalues rate ± i frequency, and the vector that is its B and C."""
    A = torch.tensor([[rate, -frequency], [frequency, rate]], dtype=torch.float64)
    return A, torch.tensor([1.0, 0.0], dtype=torch.float64)


class MemoryExplorer(widgets.VBox):
    """Turn Δ and the side of a window and see what is left of the window's first pixel at its end.

    >>> explorer = MemoryExplorer()
    >>> explorer.side.value, explorer.delta.value = 20, 0.01
    >>> round(explorer.left, 3)  # exp(-0.01 * 400) of the slowest state, A = -1
    0.018
    """

    def __init__(self):
        self.delta = widgets.FloatLogSlider(0.01, base=10, min=-4, max=0, step=0.05, description="Δ")
        self.side = widgets.IntSlider(40, min=5, max=40, step=5, description="window side")
        self.output = widgets.Output()
        self.figure: Figure | None = None
        self.left = float("nan")
        for slider in (self.delta, self.side):
            slider.observe(self._draw, names="value")
        super().__init__([widgets.HBox([self.delta, self.side]), self.output])
        self._draw()

    def _draw(self, _change=None) -> None:
        tokens = self.side.value**2
        steps = torch.arange(int(1.1 * tokens) + 1)
        curves = {f"A = -{rate}": torch.exp(-rate * self.delta.value * steps) for rate in (1, 4, 16)}
        self.left = curves["A = -1"][tokens].item()
        title = f"{tokens} tokens: {self.left:.2g} of the first pixel is left at the last"
        marks = {"at": {"window": tokens}, "levels": {"1/e": math.exp(-1)}}
        how = {"title": title, "ylim": (0, 1.02), "xlim": (0, len(steps)), **marks}
        self.figure = plot_lines(curves, "tokens later", "share that is left", **how)
        self.output.clear_output(wait=True)
        with self.output:
            display(self.figure)
