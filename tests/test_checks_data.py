"""The checks of chapter 07: the solution passes; nothing, and a typical mistake, fail with the right words."""

from math import ceil, prod

import numpy as np
import pytest

from lkm_kit.course import check_box_dice, check_slice_gap, check_to_mm, check_translate
from lkm_kit.data.phantom import make_phantom
from lkm_kit.widgets.slice_browser import SliceBrowser


def to_mm(affine, indices):
    return np.stack([(affine @ [*index, 1.0])[:3] for index in indices])


def translate(label, source, target):
    names = {number: name for name, number in source.items()}
    return np.vectorize(lambda v: target.get(names.get(v), 0))(label)


def twice(label, source, target):
    label = label.copy()
    for name, number in source.items():
        label[label == number] = target.get(name, 0)
    return label


def box(size, shift):
    return prod(max(0, s - abs(d)) / s for s, d in zip(size, shift))


CASES = [
    (check_to_mm, to_mm, lambda a, i: i @ a[:3, :3] + a[:3, 3], "transpose"),
    (check_to_mm, to_mm, lambda a, i: i @ a[:3, :3].T, "last column"),
    (check_to_mm, to_mm, lambda a, i: i * np.linalg.norm(a[:3, :3], axis=0) + a[:3, 3], "no directions"),
    (check_translate, translate, twice, "translated twice"),
    (check_slice_gap, lambda g, s: max(0, ceil(g / s) - 1), lambda g, s: ceil(g / s), "one too many"),
    (check_slice_gap, lambda g, s: max(0, ceil(g / s) - 1), lambda g, s: int(g / s) - 1, "round up"),
    (check_box_dice, box, lambda size, shift: box(size, shift) / (2 - box(size, shift)), "Jaccard"),
    (check_box_dice, box, lambda size, shift: prod((s - d) / s for s, d in zip(size, shift)), "negative"),
]


@pytest.mark.parametrize(("check", "right", "wrong", "hint"), CASES)
def test_checks(check, right, wrong, hint):
    assert check(right).ok, check(right).message
    assert not check(lambda *a: None).ok
    result = check(wrong)
    assert not result.ok and hint in result.message, result.message


def test_the_browser_shows_a_patient_upright():
    """RAS: the liver on the patient's right comes out on the left of an axial picture, the head on top of a coronal."""
    case = make_phantom()
    browser = SliceBrowser(case)
    label = browser.label()
    liver = np.argwhere(label == 1)[:, 1].mean()
    spleen_or_rest = np.argwhere(label > 1)[:, 1].mean()
    assert liver < spleen_or_rest
    before = browser.figure
    browser.view.value = "coronal"
    assert browser.figure is not before and "coronal" in browser.figure.axes[0].get_title()
    assert browser.label().shape == (case.shape[2], case.shape[0])
    browser.labels.value = False
    assert browser.figure.legends == []


def test_the_slider_follows_the_view():
    case = make_phantom(shape=(40, 36, 12))
    browser = SliceBrowser(case)
    assert browser.slice.max == 11
    browser.view.value = "sagittal"
    assert browser.slice.max == 39 and 0 <= browser.slice.value <= 39
