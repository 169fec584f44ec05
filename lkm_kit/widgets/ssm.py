"""Sliders over the figures of the state-space chapters."""

from __future__ import annotations

import ipywidgets as widgets
import torch
from IPython.display import display
from matplotlib.figure import Figure

from lkm_kit.plots import ssm as plots
from lkm_kit.ssm import convolution_kernel, discretize


class KernelExplorer(widgets.VBox):
    """Turn Δ and the eigenvalue of a one-state system and see its memory: the kernel K̄ and its half-life.

    Args:
        length: tokens shown.

    >>> explorer = KernelExplorer()
    >>> explorer.delta.value = 0.5
    >>> round(explorer.half_life, 2)
    1.39
    """

    def __init__(self, length: int = 64):
        self.length = length
        self.delta = widgets.FloatLogSlider(0.1, base=10, min=-3, max=0.5, step=0.05, description="Δ")
        self.rate = widgets.FloatSlider(-1.0, min=-4.0, max=-0.05, step=0.05, description="eigenvalue A")
        self.output = widgets.Output()
        self.figure: Figure | None = None
        self.half_life = float("nan")
        for slider in (self.delta, self.rate):
            slider.observe(self._draw, names="value")
        super().__init__([widgets.HBox([self.delta, self.rate]), self.output])
        self._draw()

    def _draw(self, _change=None) -> None:
        A = torch.tensor([self.rate.value], dtype=torch.float64)
        one = torch.ones_like(A)
        A_bar, B_bar = discretize(A, one, self.delta.value)
        self.half_life = (torch.log(torch.tensor(0.5)) / torch.log(A_bar)).item()
        kernel = convolution_kernel(A_bar, B_bar, one, self.length)
        title = f"Ā = {A_bar.item():.3f}: after {self.half_life:.1f} tokens half is forgotten"
        self.figure = plots.kernels({f"Δ = {self.delta.value:.3g}, A = {self.rate.value:.2f}": kernel.numpy()}, title)
        self.output.clear_output(wait=True)
        with self.output:
            display(self.figure)


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
        self.figure = plots.decays({name: curve.numpy() for name, curve in curves.items()}, tokens, title)
        self.output.clear_output(wait=True)
        with self.output:
            display(self.figure)
