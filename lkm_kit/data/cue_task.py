"""The cue task: which sign has the one bright square in a field of noise? Every pixel must say, near it and far away.

Where the answer is right, the network has looked as far as the cue: nothing else in the image tells. White noise says
nothing about its neighbours. The square's place is drawn without regard to its sign, and its square value is the same
for both signs. Images come as *twins*, the same in every pixel but the cue's, where one has +a and the other -a. So an
answer that does not depend on the cue is right on exactly one of the two: chance is 0.5 without any scatter.

Distance is counted as windows and kernels are: the larger of the vertical and the horizontal step (Chebyshev), from the
pixel to the nearest pixel of the cue. A network whose receptive field ends r - 1 pixels from its centre is at 0.5 at
distance r.

What can leak is the normalisation. InstanceNorm subtracts each feature's mean over the *whole* map, and a feature that
answers to the cue moves this mean: a stack of 3x3 convolutions then knows the sign everywhere. Batches are half
positive and half negative, so that the statistics of BatchNorm do not tell in training, and are constants in a test.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from lkm_kit.errors import KitError


@dataclasses.dataclass(frozen=True)
class CueBatch:
    """Twins: the first half of the batch has positive cues, the second half the same images with negative ones.

    Args:
        image: (2 pairs, 1, H, W), float32.
        label: (2 pairs, H, W), int64: 1 everywhere in an image with a positive cue, 0 in its twin.
        offset: (2 pairs, 2, H, W), int64: steps from a pixel to the nearest pixel of the cue, down and right; a
            negative number means up or left.
    """

    image: Tensor
    label: Tensor
    offset: Tensor

    @property
    def distance(self) -> Tensor:
        """(2 pairs, H, W), int64: Chebyshev distance of each pixel to the cue, 0 on it."""
        return self.offset.abs().amax(1)


@dataclasses.dataclass(frozen=True)
class CueTask:
    """Images of white noise with one square of constant value, +amplitude or -amplitude.

    Args:
        size: height and width of an image in pixels.
        cue: side of the square in pixels.
        amplitude: its absolute value; the noise has standard deviation 1.

    Raises:
        KitError: a cue that does not fit, or an amplitude that is not positive.

    Source: ours; the causal partner of the effective receptive field, which measures gradients.

    >>> task = CueTask((24, 24))
    >>> batch = task.batch(4, 0)
    >>> batch.image.shape, batch.label[:, 0, 0].tolist(), task.farthest
    (torch.Size([8, 1, 24, 24]), [1, 1, 1, 1, 0, 0, 0, 0], 21)
    """

    size: tuple[int, int]
    cue: int = 3
    amplitude: float = 3.0

    def __post_init__(self):
        if not 1 <= self.cue < min(self.size):
            raise KitError(
                f"a cue of {self.cue} pixels in an image of {self.size[0]}x{self.size[1]}",
                remedy=f"choose 1 to {min(self.size) - 1}",
            )
        if not self.amplitude > 0:
            raise KitError(f"the cue's amplitude is {self.amplitude}", remedy="choose a positive number, such as 3")

    @property
    def farthest(self) -> int:
        """The largest distance that occurs: from one corner of the image to a cue in the opposite one."""
        return max(self.size) - self.cue

    def batch(self, pairs: int, *seed: int) -> CueBatch:
        """Draw twins.

        Args:
            pairs: how many; the batch has twice as many images.
            *seed: integers not below 0, for instance a run's seed and a step's number; equal ones give equal images.

        Raises:
            KitError: no pair asked for, or no seed or a negative one given.
        """
        if pairs < 1 or not seed or min(seed) < 0:
            raise KitError(
                f"{pairs} pairs of images with seed {seed}", remedy="ask for 1 or more, with seeds not below 0"
            )
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((pairs, 1, *self.size), dtype=np.float32)
        # (pairs, 2): the cue's first row and column, anywhere in the image
        first = rng.integers(0, np.array(self.size) - self.cue + 1, (pairs, 2))
        down, right = (self.steps(first[:, axis], axis) for axis in (0, 1))
        offset = np.stack(np.broadcast_arrays(down[:, :, None], right[:, None, :]), axis=1)
        on_cue = (offset == 0).all(1)[:, None]
        image = np.concatenate([np.where(on_cue, sign * np.float32(self.amplitude), noise) for sign in (1, -1)])
        label = np.repeat([1, 0], pairs)[:, None, None] * np.ones((1, *self.size), np.int64)
        return CueBatch(
            torch.from_numpy(image), torch.from_numpy(label), torch.from_numpy(np.tile(offset, (2, 1, 1, 1)))
        )

    def steps(self, first: np.ndarray, axis: int) -> np.ndarray:
        """Steps along one axis from every pixel to the nearest pixel of a cue.

        Args:
            first: (cues,) the first row (axis 0) or column (axis 1) of each cue.

        Returns:
            (cues, H) or (cues, W); 0 where the cue lies, negative where it lies before.

        >>> CueTask((8, 8)).steps(np.array([2]), 0).tolist()
        [[2, 1, 0, 0, 0, -1, -2, -3]]
        """
        here = np.arange(self.size[axis])[None]
        ahead, behind = first[:, None] - here, here - (first[:, None] + self.cue - 1)
        return np.maximum(ahead, 0) - np.maximum(behind, 0)
