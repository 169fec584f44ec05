"""The exercise checks on volumes: the solution passes, each known mistake gets its own hint, nothing ever raises."""

import math

import pytest

from lkm_kit.course import checks_volumes as checks


def window_mm(window, strides, spacing, count=None):
    used = strides[count:] if count else strides
    return tuple(w * math.prod(s[i] for s in used) * mm for i, (w, mm) in enumerate(zip(window, spacing)))


def tiles(size, window, overlap, keep=True, join=math.prod):
    counts = []
    for n, w in zip(size, window):
        step = int(w * (1 - (overlap if keep else 0)))
        counts.append(1 if n <= w else math.ceil((n - w) / step) + 1)
    return join(counts)


def mirrored(network, image, axis=2, back=True, by=2):
    second = network(image.flip(axis))
    return (network(image) + (second.flip(axis) if back else second)) / by


def logits_gib(size, classes, number=4, gib=2**30):
    return math.prod(size) * classes * number / gib


SOLUTIONS = {
    "check_window_mm": window_mm,
    "check_tiles": tiles,
    "check_mirrored": mirrored,
    "check_logits_gib": logits_gib,
}
MISTAKES = [
    ("check_window_mm", lambda w, t, s: tuple(a * b for a, b in zip(w, s)), "stage 0 only"),
    ("check_window_mm", lambda w, t, s: window_mm(w, t, s, -1), "all stages count"),
    ("check_tiles", lambda n, w, o: tiles(n, w, o, keep=False), "overlap"),
    ("check_tiles", lambda n, w, o: tiles(n, w, o, join=sum), "multiply"),
    ("check_mirrored", lambda f, x: mirrored(f, x, back=False), "flip them back"),
    ("check_mirrored", lambda f, x: mirrored(f, x, by=1), "divide"),
    ("check_mirrored", lambda f, x: mirrored(f, x, axis=3), "second spatial axis"),
    ("check_logits_gib", lambda n, c: logits_gib(n, c, number=1), "four bytes"),
    ("check_logits_gib", lambda n, c: logits_gib(n, 1), "every class"),
    ("check_logits_gib", lambda n, c: logits_gib(n, c, gib=1e9), "10\\*\\*9"),
]


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_solution_passes_and_an_empty_cell_does_not(name):
    check = getattr(checks, name)
    assert check(SOLUTIONS[name]).ok, check(SOLUTIONS[name]).message
    for unsolved in (lambda *a: None, lambda *a: ..., lambda *a: 1 / 0, lambda *a: -1.0, ...):
        assert not check(unsolved).ok


@pytest.mark.parametrize(("name", "wrong", "words"), MISTAKES)
def test_a_typical_mistake_gets_its_hint(name, wrong, words):
    result = getattr(checks, name)(wrong)
    assert not result.ok and words.replace("\\", "") in result.message, result.message
