"""Every size and budget of the kit in one place: ``smoke``, ``laptop``, ``gpu`` and ``paper``.

Notebooks and commands take their numbers from here. So the same chapter runs in seconds in a test, in minutes on a
student's laptop and in hours on a cluster. ``LKM_PROFILE`` chooses; without it the machine does.
"""

from __future__ import annotations

import dataclasses
import math
import os

from lkm_kit.errors import one_of

LARGE_ORGANS = ("liver", "right kidney", "spleen", "aorta", "stomach", "left kidney")
ALL_ORGANS = (
    "liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava", "right adrenal gland",
    "left adrenal gland", "gallbladder", "esophagus", "stomach", "duodenum", "left kidney",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Reach:
    """Sizes and budgets of the functional receptive field, :mod:`lkm_kit.studies.functional`.

    Args:
        size: height and width of an image in pixels; the windows are a quarter of it.
        pairs, iterations: twins per step, and steps.
        test_pairs: twins that a trained network answers.
        probes: pixels whose theoretical receptive field is computed, for each run.
        seeds: training seeds.
    """

    size: tuple[int, int] = (48, 48)
    pairs: int = 4
    iterations: int = 200
    test_pairs: int = 256
    probes: int = 16
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Profile:
    """Sizes and budgets of one way to run the kit.

    Args:
        name: ``smoke``, ``laptop``, ``gpu`` or ``paper``.
        network: preset of :func:`lkm_kit.networks.build_network`, without its ``lkm-unet/`` prefix.
        image_size: height and width of a training slice, in pixels.
        spacing_mm: in-plane size of a pixel the network sees, in mm.
        organs: the organs that are learnt; the network has ``len(organs) + 1`` classes.
        batch_size, iterations: slices per step, and steps.
        optimizer: ``"adamw"`` (one-cycle) or ``"sgd"`` (Nesterov 0.99, poly decay, as in nnU-Net).
        learning_rate: peak of one-cycle, or start of poly.
        validate_every: steps between validations.
        validation_slices, test_slices: how many warped slices each split holds.
        test_cases: how many whole deformed copies a study on the cohort is scored on.
        workers: DataLoader processes.
        seeds: training seeds of a comparison.
        repeats: timed repetitions of a measurement.
        reach: of the cue task's study.
        warmup: share of the steps in which one-cycle rises.
    """

    name: str
    network: str
    image_size: tuple[int, int]
    spacing_mm: float
    organs: tuple[str, ...]
    batch_size: int
    iterations: int
    optimizer: str
    learning_rate: float
    validate_every: int
    validation_slices: int
    test_slices: int
    workers: int
    seeds: tuple[int, ...]
    repeats: int
    reach: Reach = Reach()
    warmup: float = 0.3
    test_cases: int = 12


PROFILES = {
    "smoke": Profile(
        "smoke",
        "tiny-2d",
        (96, 96),
        3.0,
        LARGE_ORGANS,
        2,
        6,
        "adamw",
        3e-3,
        3,
        4,
        4,
        0,
        (0,),
        2,
        Reach((24, 24), 2, 3, 8, 2, (0,)),
        test_cases=1,
    ),
    "laptop": Profile(
        "laptop", "tiny-2d", (96, 96), 3.0, LARGE_ORGANS, 8, 400, "adamw", 1e-2, 50, 48, 64, 1, (0,), 5, warmup=0.1
    ),
    "gpu": Profile(
        "gpu", "paper-2d", (320, 320), 1.0, ALL_ORGANS, 12, 4000, "adamw", 1e-3, 250, 96, 128, 8, (0, 1, 2), 20
    ),
    "paper": Profile(
        "paper", "paper-2d", (320, 320), 1.0, ALL_ORGANS, 24, 250_000, "sgd", 1e-2, 250, 96, 128, 12, (0, 1, 2), 20
    ),
}


def profile(name: str | None = None) -> Profile:
    """Return the profile called ``name``, else the one in ``LKM_PROFILE``, else ``gpu`` with CUDA, ``laptop`` without.

    Raises:
        KitError: the name is not a profile (the closest one is offered).

    >>> profile("smoke").iterations
    6
    """
    asked = name if name is not None else os.environ.get("LKM_PROFILE", "").strip()
    if not asked:
        import torch

        asked = "gpu" if torch.cuda.is_available() else "laptop"
    message = f"there is no profile {asked!r} (LKM_PROFILE)"
    return PROFILES[one_of(asked, PROFILES, "profile", message=message)]


def in_3d(size: Profile) -> Profile:
    """A profile for patches instead of slices: the 3D preset of the same scale, at the size it was made for.

    A batch has about as many voxels as it had pixels, and two patches at least.

    >>> in_3d(profile("smoke")).network, in_3d(profile("paper")).image_size, in_3d(profile("paper")).batch_size
    ('tiny-3d', (40, 224, 192), 2)
    """
    from lkm_kit.networks.fitting import MADE_FOR

    network = size.network.replace("2d", "3d")
    image_size = MADE_FOR[network.removeprefix("paper-")]
    batch = max(2, size.batch_size * math.prod(size.image_size) // math.prod(image_size))
    return dataclasses.replace(size, network=network, image_size=image_size, batch_size=batch)
