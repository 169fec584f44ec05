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
        [
            (["a1", "b1"], ["d1"], person),
            (["a1", "b1", "c1", "c2", "c4"], ["a2", "a3", "d1", "c3"], person),
            (["x", "y"], ["v", "w", "u"], {"x": "eve", "v": "eve", "w": "ann", "y": "bob", "u": "ada"}),
        ],
        hints=(
            "what is it that must not be in both lists: cases or persons?",
            "collect the persons of the training, then ask of every test case whether its person is among them",
        ),
        mistakes=[
            (lambda a, b, p: len(set(a) & set(b)), "no case is in both lists: ask for its person"),
            (lambda a, b, p: len({p[n] for n in a} & {p[n] for n in b}), "those are persons: count their test cases"),
            (lambda a, b, p: target(b, a, p), "those are training cases: it is the test that is spoilt"),
            (lambda a, b, p: target(a, b, p) / len(b), "this is the share: give the number"),
            (lambda a, b, p: len(b) - target(a, b, p), "those are the test cases of new persons"),
            (
                lambda a, b, p: sum(p[n] == p[m] for n in b for m in a),
                "those are pairs: a test case counts once, however often its person was seen",
            ),
            (lambda a, b, p: any(p[n] in {p[m] for m in a} for n in b), "how many, not whether there is one"),
            (lambda a, b, p: [n for n in b if p[n] in {p[m] for m in a}], "how many they are, not their names"),
            (
                lambda a, b, p: sum(n[0] in {m[0] for m in a} for n in b),
                "a name says nothing of the person: look it up in `person`",
            ),
            (lambda a, b, p: sum(p[n] in {p[m] for m in b} for n in b), "the persons of the training, not of the test"),
            (
                lambda a, b, p: len({p[n] for n in b}),
                "those are the persons of the test: how many cases are of known ones?",
            ),
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

    def means(alike: np.ndarray, person: np.ndarray, mean: Callable) -> float:
        same, own = person[:, None] == person, np.eye(len(person), dtype=bool)
        return float(mean(alike[same & ~own]) - mean(alike[~same]))

    def per_person(alike: np.ndarray, person: np.ndarray) -> float:
        blocks = [alike[np.ix_(person == name, person == name)] for name in np.unique(person)]
        own = [block[~np.eye(len(block), dtype=bool)].mean() for block in blocks if len(block) > 1]
        return float(np.mean(own) - alike[person[:, None] != person].mean())

    def per_case(alike: np.ndarray, person: np.ndarray) -> float:
        same, own = person[:, None] == person, np.eye(len(person), dtype=bool)
        rows = [row[mask].mean() for row, mask in zip(alike, same & ~own) if mask.any()]
        return float(np.mean(rows) - np.mean([row[mask].mean() for row, mask in zip(alike, ~same)]))

    def neighbours(alike: np.ndarray, person: np.ndarray) -> float:
        next_to, same = np.diagonal(alike, 1), person[1:] == person[:-1]
        return float((next_to[same].sum() / max(1, same.sum())) - next_to[~same].mean())

    rng = np.random.default_rng(0)
    cases = []
    for names in (["a", "a", "b"], ["a", "b", "a", "c", "b", "b"]):
        alike = rng.uniform(-0.4, 0.8, (len(names), len(names)))
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
            (lambda a, p: means(a, p, np.median), "the mean of the pairs, not their median"),
            (lambda a, p: means(a, p, np.sum), "the mean of the pairs, not their sum"),
            (lambda a, p: means(np.abs(a), p, np.mean), "signed numbers: two cases may be unlike"),
            (
                lambda a, p: float(
                    a[(p[:, None] == p) & ~np.eye(len(p), dtype=bool)].mean() / a[p[:, None] != p].mean()
                ),
                "the difference of the two means, not their ratio",
            ),
            (per_person, "one mean over all pairs: persons with many cases have many pairs"),
            (per_case, "one mean over all pairs, not a mean of the cases' means"),
            (
                lambda a, p: (
                    float((a * ((p[:, None] == p) & ~np.eye(len(p), dtype=bool))).mean())
                    - float((a * (p[:, None] != p)).mean())
                ),
                "divide by the number of those pairs: a product with the mask leaves zeros in the mean",
            ),
            (neighbours, "every two cases are a pair, not neighbours in the list alone"),
            (
                lambda a, p: with_itself(a, p) - float(a[p[:, None] == p].mean()) + 1.0,
                "a case with itself is no pair: leave out the diagonal",
            ),
            (
                lambda a, p: float(a[p[:, None] == p].max() - a[p[:, None] != p].max()),
                "means, not the largest",
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
        [(truth, truth), (found, truth), (found[1:3, :4] & truth[1:3, :4], found[1:3, :4]), (truth & ~truth, truth)],
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
            (
                lambda p, t: float(np.median(slices(p, t))),
                "not by slices: count the voxels of the case, all slices together",
            ),
            (lambda p, t: float(max(slices(p, t))), "not by slices: count the voxels of the case, all slices together"),
            (lambda p, t: overlap(p.any(0), t.any(0)), "voxels, not what is seen from one side"),
            (lambda p, t: overlap(p.any((1, 2)), t.any((1, 2))), "voxels, not slices that have any"),
            (
                lambda p, t: float((p & t).sum() / max(1, t.sum())),
                "this is the recall; what is found too much must count",
            ),
            (lambda p, t: float((p & t).sum() / max(1, p.sum())), "this is the precision; what is missed must count"),
            (lambda p, t: overlap(p, t) / 2, "twice the intersection: two equal masks score 1"),
            (lambda p, t: 1 - overlap(p, t), "two equal masks score 1"),
            (lambda p, t: 100 * overlap(p, t), "a number from 0 to 1, not in percent"),
            (
                lambda p, t: float(2 * (p & t).sum() / (p + t).sum()),
                "of bool arrays, p + t is the union: add the two sums",
            ),
        ],
    )


def check_worst(fn: Callable) -> CheckResult:
    """``fn(scores, n)``: the n cases with the lowest mean, the worst first; scores: case -> DSC of its labels."""
    nan = float("nan")

    def ranked(key: Callable[[Sequence[float]], float]) -> Callable:
        return lambda scores, n: sorted(scores, key=lambda name: key(scores[name]))[:n]

    target = ranked(np.nanmean)
    few = {
        "p2": [0.7, nan, nan],
        "p10": [0.95, 0.2, 0.9],
        "p1": [nan, 0.6, 0.5],
        "p3": [0.75, 0.74, nan],
        "p4": [0.8] * 3,
    }
    many = {
        "u": [0.9, 0.1, 0.8, 0.85],
        "z": [0.7, 0.7, 0.65, 0.7],
        "t": [0.4, 0.8, 0.8, nan],
        "y": [0.95, nan, nan, 0.3],
        "x": [0.05, 1.0, 1.0, 0.9],
        "w": [nan, 0.6, 0.62, 0.1],
    }
    two = {"a": [0.9, 0.8], "b": [0.5, 0.7], "c": [0.8, 0.6]}
    holes = {"a": [0.9, nan, 0.8], "b": [0.55, 0.7, 0.7], "c": [0.6, 0.6, 0.7], "d": [0.2, 0.95, 0.95]}
    return check_function(
        fn,
        target,
        [(two, 1), (holes, 2), (few, 3), (many, 5)],
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
            (ranked(np.nanmedian), "those have the lowest median: one label that fails must count, take the mean"),
            (ranked(np.nanmax), "those have the lowest best label: take the mean over the labels"),
            (
                ranked(lambda v: float(np.nan_to_num(v, nan=1.0).mean())),
                "nan is a label that is in neither truth nor prediction: leave it out, it is no 1",
            ),
            (ranked(lambda v: v[0] if v[0] == v[0] else 1.0), "the mean over all labels, not the first one alone"),
            (ranked(lambda v: v[-1] if v[-1] == v[-1] else 1.0), "the mean over all labels, not the last one alone"),
            (ranked(np.mean), "one nan makes the whole mean nan, and nan cannot be sorted: np.nanmean"),
            (
                lambda s, n: target({k: v for k, v in s.items() if not np.isnan(v).any()}, n),
                "no case is left out for a nan",
            ),
            (lambda s, n: sorted(s)[:n], "by their scores, not by their names"),
            (lambda s, n: list(s)[:n], "sort by the mean of the scores first"),
            (lambda s, n: target(s, 1)[0], "a list of n names"),
            (lambda s, n: target(s, n + 1), "off by one: n names"),
            (lambda s, n: target(s, len(s)), "n of them, not all"),
            (lambda s, n: target(s, len(s))[-n:], "those are the best"),
            (lambda s, n: sorted(target(s, n)), "the worst comes first: not sorted by name again"),
            (
                lambda s, n: [float(np.nanmean(s[name])) for name in target(s, n)],
                "the names of the cases, not their means",
            ),
        ],
    )
