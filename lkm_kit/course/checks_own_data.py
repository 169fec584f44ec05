"""Checks of the exercises on one's own data (chapter ``16_your_own_data``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lkm_kit.course.check import CheckResult, check_function


def check_leaked(fn: Callable) -> CheckResult:
    """``fn(train, test, person)``: how many test cases show somebody of the training; person: case -> person."""

    def target(train: Sequence[str], test: Sequence[str], person: Mapping[str, str]) -> int:
        known = {person[name] for name in train}
        return sum(person[name] in known for name in test)

    person = {name: name[0] for name in ("a1", "a2", "a3", "b1", "c1", "c2", "c3", "c4", "d1")}
    return check_function(
        fn,
        target,
        [(["a1", "b1"], ["d1"], person), (["a1", "b1", "c1", "c2", "c4"], ["a2", "a3", "d1", "c3"], person)],
        hints=(
            "what is it that must not be in both lists: cases or persons?",
            "collect the persons of the training, then ask of every test case whether its person is among them",
        ),
        mistakes=[
            (lambda a, b, p: len(set(a) & set(b)), "no case is in both lists: ask for its person"),
            (lambda a, b, p: len({p[n] for n in a} & {p[n] for n in b}), "those are persons: count their test cases"),
            (lambda a, b, p: target(b, a, p), "those are training cases: it is the test that is spoilt"),
            (lambda a, b, p: target(a, b, p) / len(b), "this is the share: give the number"),
        ],
    )


def check_pair_gap(fn: Callable) -> CheckResult:
    """``fn(alike, person)``: mean likeness of two cases of one person, minus that of two cases of two persons."""

    def target(alike: np.ndarray, person: np.ndarray) -> float:
        same, own = person[:, None] == person, np.eye(len(person), dtype=bool)
        return float(alike[same & ~own].mean() - alike[~same].mean())

    def with_itself(alike: np.ndarray, person: np.ndarray) -> float:
        same = person[:, None] == person
        return float(alike[same].mean() - alike[~same].mean())

    def to_all(alike: np.ndarray, person: np.ndarray) -> float:
        same, own = person[:, None] == person, np.eye(len(person), dtype=bool)
        return float(alike[same & ~own].mean() - alike[~own].mean())

    rng = np.random.default_rng(0)
    cases = []
    for names in (["a", "a", "b"], ["a", "b", "a", "c", "b", "b"]):
        alike = rng.uniform(0, 0.8, (len(names), len(names)))
        alike = (alike + alike.T) / 2
        np.fill_diagonal(alike, 1.0)
        cases.append((alike, np.array(names)))
    return check_function(
        fn,
        target,
        cases,
        hints=(
            "which entries of the table belong to pairs of one person, and which to none?",
            "person[:, None] == person says which pairs show one person; a case with itself is no pair",
        ),
        mistakes=[
            (with_itself, "the diagonal is in it: a case is like itself by 1, and no second case of its person"),
            (to_all, "compare with pairs of two persons, not with all pairs"),
            (lambda a, p: -target(a, p), "the other way round: one person's pairs first"),
            (
                lambda a, p: target(a, p) + float(a[p[:, None] != p].mean()),
                "the first mean alone: subtract the other",
            ),
        ],
    )


def check_case_dsc(fn: Callable) -> CheckResult:
    """``fn(prediction, truth)``: DSC of a whole case; bool arrays (slices, rows, columns)."""

    def overlap(p: np.ndarray, t: np.ndarray) -> float:
        return float(2 * (p & t).sum() / (p.sum() + t.sum()))

    def slices(p: np.ndarray, t: np.ndarray) -> list[float]:
        return [overlap(a, b) for a, b in zip(p, t) if (a | b).any()]

    def empty_is_one(p: np.ndarray, t: np.ndarray) -> float:
        return (sum(slices(p, t)) + sum(not (a | b).any() for a, b in zip(p, t))) / len(p)

    rng = np.random.default_rng(0)
    truth = rng.random((5, 6, 6)) < np.array([0.0, 0.05, 0.4, 0.8, 0.0])[:, None, None]
    truth[1, 0, 0] = True
    found = truth ^ (rng.random(truth.shape) < 0.15)
    found[4] = truth[4] = False
    return check_function(
        fn,
        overlap,
        [(truth, truth), (found, truth)],
        hints=(
            "does a slice with three voxels weigh as much as one with three hundred?",
            "count the voxels of the case, all slices together, then divide once",
        ),
        mistakes=[
            (
                lambda p, t: float(np.mean(slices(p, t))),
                "this is the mean over slices: a slice with three voxels weighs as much as one with thirty",
            ),
            (empty_is_one, "this is the mean over slices, and empty ones are praised with 1"),
            (lambda p, t: float((p & t).sum() / (p | t).sum()), "this is the Jaccard index"),
            (lambda p, t: float((p == t).mean()), "this is the share of right voxels, and most of them are background"),
        ],
    )


def check_worst(fn: Callable) -> CheckResult:
    """``fn(scores, n)``: the n cases with the lowest mean, the worst first; scores: case -> DSC of its labels."""
    nan = float("nan")

    def ranked(key: Callable[[Sequence[float]], float]) -> Callable:
        return lambda scores, n: sorted(scores, key=lambda name: key(scores[name]))[:n]

    target = ranked(np.nanmean)
    two = {"a": [0.9, 0.8], "b": [0.5, 0.7], "c": [0.8, 0.6]}
    holes = {"a": [0.9, nan, 0.8], "b": [0.55, 0.7, 0.7], "c": [0.6, 0.6, 0.7], "d": [0.2, 0.95, 0.95]}
    return check_function(
        fn,
        target,
        [(two, 1), (holes, 2)],
        hints=(
            "by which number do you sort, and what happens to nan?",
            "sort the names by the mean of their scores that are numbers (np.nanmean), and take the first n",
        ),
        mistakes=[
            (lambda s, n: ranked(lambda v: -np.nanmean(v))(s, n), "those are the best"),
            (ranked(np.nanmin), "those have the lowest single label: take the mean over the labels"),
            (
                ranked(lambda v: float(np.nan_to_num(v).mean())),
                "nan is a label that is in neither truth nor prediction: leave it out, it is no 0",
            ),
            (lambda s, n: target(s, len(s))[::-1][-n:], "the worst comes first"),
        ],
    )
