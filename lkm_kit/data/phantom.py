"""A synthetic abdomen: ellipsoids where the organs lie, for tests and for machines without a network."""

from __future__ import annotations

import numpy as np

from lkm_kit.data.case import Case
from lkm_kit.data.organs import organ
from lkm_kit.data.source import PHANTOM

# Centre (x to the patient's right, y to anterior, z up) and half axes, as shares of the body's half axes; value in HU.
_SHAPES = {
    "liver": ((0.42, 0.10, 0.25), (0.40, 0.55, 0.35), 60),
    "stomach": ((-0.30, 0.30, 0.25), (0.28, 0.28, 0.25), 30),
    "spleen": ((-0.62, -0.30, 0.25), (0.17, 0.28, 0.22), 52),
    "right kidney": ((0.38, -0.50, -0.02), (0.15, 0.18, 0.28), 33),
    "left kidney": ((-0.40, -0.50, 0.03), (0.15, 0.18, 0.28), 33),
    "aorta": ((-0.05, -0.38, 0.0), (0.07, 0.09, 2.0), 42),
    "inferior vena cava": ((0.12, -0.36, 0.0), (0.07, 0.07, 2.0), 38),
    "gallbladder": ((0.22, 0.30, -0.05), (0.09, 0.12, 0.12), 8),
    "pancreas": ((-0.05, 0.0, 0.0), (0.28, 0.09, 0.07), 40),
    "duodenum": ((0.16, 0.02, -0.15), (0.10, 0.09, 0.15), 35),
}


def make_phantom(
    name: str = "phantom",
    *,
    shape: tuple[int, int, int] = (112, 96, 48),
    spacing: tuple[float, float, float] = (3.0, 3.0, 5.0),
    seed: int = 0,
    modality: str = "CT",
) -> Case:
    """Draw a phantom whose organs vary in place and size with the seed.

    Args:
        name: of the case.
        shape: voxels along x, y, z.
        spacing: mm.
        seed: of the organs' jitter and of the noise.
        modality: MR phantoms have other intensities.

    >>> case = make_phantom(shape=(40, 36, 12))
    >>> case.label.shape, int(case.label.max())
    ((40, 36, 12), 13)
    """
    rng = np.random.default_rng([11, seed])
    axes = [np.linspace(-1.15, 1.15, n) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    body = x**2 + y**2 < 1
    image = np.where(body, -90.0, -1000.0)  # fat in air
    image[(x**2 + y**2 < 0.86**2)] = 25.0  # soft tissue inside the fat
    label = np.zeros(shape, np.uint8)
    for key, (centre, half, value) in _SHAPES.items():
        c = np.asarray(centre) + rng.normal(0, 0.02, 3)
        h = np.asarray(half) * rng.uniform(0.9, 1.1, 3)
        inside = ((x - c[0]) / h[0]) ** 2 + ((y - c[1]) / h[1]) ** 2 + ((z - c[2]) / h[2]) ** 2 < 1
        inside &= body
        label[inside], image[inside] = organ(key).label, value
    if modality == "MR":
        image = np.where(image < -500, 0, 300 + 2.0 * image)
    image = image + rng.normal(0, 8, shape)
    affine = np.diag([*spacing, 1.0])
    spacing = tuple(map(float, spacing))
    return Case(image.astype(np.float32), label, spacing, affine, name, modality, source=PHANTOM)
