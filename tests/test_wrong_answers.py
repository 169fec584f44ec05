"""Natural wrong answers, made from the chapters' own solutions one slip at a time: no check accepts one.

A slip is what a hand does: off by one, the other rounding, a limit or an absolute value forgotten, the mean for the
sum, the other axis, a whole number not made, no copy made. Some slips change nothing for any argument that an exercise
allows; these are listed, with the reason. A second table has answers that readers gave and a check once let pass.
"""

import ast
import itertools
import math
import re
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lkm_kit.course as course
from lkm_kit.blocks import BiM, LMBlock, PaM, PiM, to_tokens
from lkm_kit.course.sources import BEGIN, chapters
from lkm_kit.networks import UNet
from lkm_kit.ssm import Mamba, selective_scan

ROOT = Path(__file__).resolve().parents[1]
OTHER = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.FloorDiv: ast.Mod, ast.Mod: ast.FloorDiv}
OTHER |= {ast.LtE: ast.Lt, ast.Lt: ast.LtE, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.BitAnd: ast.BitOr}
NAMES = {
    "ceil": "floor",
    "floor": "ceil",
    "mean": "sum",
    "sum": "mean",
    "nanmean": "nansum",
    "any": "all",
    "all": "any",
}
SIDES = {"height": "width", "width": "height"}
LEFT_OUT = ("abs", "max", "int", "min", "sorted", "exp", "log", "sqrt", "flip", "clone", "copy")


SAME = {
    "memory_length": {"other comparison": "a decay of exactly 1/e is decided by rounding"},
    "holm_by_hand": {"0.0 one more": "the list is filled anew"},
    "area_holding": {"other comparison": "the last bits decide", "share - 1e-09": "the last bits decide"},
    "mended_tree": {"other comparison": "a round beyond the first token changes nothing"},
    "erf_by_hand": {"x.clone(): without clone": "x keeps its numbers"},
    "put_together_rightly": {"2 one more": "any batch", "9 one more": "any length"},
    "": {"without int": "a whole number already"},
}
"""Slips that change no answer, by function ("": all) and what they say; the reason."""


class Slip(ast.NodeTransformer):
    """Changes the ``wanted``-th thing that can be got wrong; ``said`` names it, and is empty when there is none."""

    def __init__(self, wanted):
        self.wanted, self.count, self.said = wanted, 0, ""

    def due(self, said):
        self.count += 1
        if self.count - 1 == self.wanted:
            self.said = said
        return self.count - 1 == self.wanted

    def visit_BinOp(self, node):
        if type(node.op) in OTHER and self.due(f"{ast.unparse(node)}: other operator"):
            node.op = OTHER[type(node.op)]()
            return node
        return self.generic_visit(node)

    def visit_Compare(self, node):
        if type(node.ops[0]) in OTHER and self.due(f"{ast.unparse(node)}: other comparison"):
            node.ops[0] = OTHER[type(node.ops[0])]()
            return node
        return self.generic_visit(node)

    def visit_Constant(self, node):
        number = isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
        return ast.Constant(node.value + 1) if number and self.due(f"{node.value} one more") else node

    def visit_Name(self, node):
        side = node.id in SIDES and isinstance(node.ctx, ast.Load)
        return ast.Name(SIDES[node.id], node.ctx) if side and self.due(f"{node.id}: other side") else node

    def visit_Attribute(self, node):
        if node.attr in NAMES and self.due(f"{ast.unparse(node)}: {NAMES[node.attr]}"):
            node.attr = NAMES[node.attr]
            return node
        return self.generic_visit(node)

    def visit_Call(self, node):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        of_object = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") not in (
            "math",
            "np",
            "torch",
        )
        left = node.func.value if of_object else node.args[-1] if node.args else None
        if name in LEFT_OUT and left is not None and self.due(f"{ast.unparse(node)}: without {name}"):
            return left
        return self.generic_visit(node)


def solved_exercises():
    for chapter in chapters(ROOT):
        cells = jupytext.read(chapter, fmt="py:percent").cells
        for number, cell in enumerate(cells):
            if cell.cell_type == "code" and BEGIN in cell.source:
                below = "\n".join(c.source for c in cells[number + 1 : number + 4])
                check, function = re.search(r"^(?:course\.)?(check_\w+)\((\w+)\)", below, re.MULTILINE).groups()
                yield pytest.param(cell.source, check, function, id=f"{chapter.stem[:2]}-{function}")


def answer(tree, function):
    space = {
        "torch": torch,
        "np": np,
        "math": math,
        "itertools": itertools,
        "F": F,
        "nn": nn,
        "selective_scan": selective_scan,
        "MyMamba": Mamba,
        "MyBiM": BiM,
        "MyPiM": PiM,
        "MyPaM": PaM,
        "UNet": UNet,
        "cut_windows": to_tokens,
        "__name__": "cell",
    }
    exec(compile(ast.fix_missing_locations(tree), "<cell>", "exec"), space)
    return space[function]


@pytest.mark.parametrize(("source", "check", "function"), list(solved_exercises()))
def test_no_slip_of_the_hand_is_accepted(source, check, function):
    checked = getattr(course, check)
    assert checked(answer(ast.parse(source), function)).ok
    accepted, wanted, same = [], 0, {**SAME[""], **SAME.get(function, {})}
    while True:
        slip = Slip(wanted)
        tree = slip.visit(ast.parse(source))
        if not slip.said:
            break
        if checked(answer(tree, function)).ok and not any(words in slip.said for words in same):
            accepted.append(slip.said)
        wanted += 1
    assert accepted == []


def test_slips_are_made():
    """The instrument itself: what it changes in a line, and that a check with one case would be found out."""
    said = []
    for wanted in range(6):
        slip = Slip(wanted)
        tree = slip.visit(ast.parse("y = max(0, math.ceil(a // 2))"))
        said.append((slip.said, ast.unparse(tree)))
    assert ("max(0, math.ceil(a // 2)): without max", "y = math.ceil(a // 2)") in said
    assert ("math.ceil: floor", "y = max(0, math.floor(a // 2))") in said
    assert ("a // 2: other operator", "y = max(0, math.ceil(a % 2))") in said
    assert ("2 one more", "y = max(0, math.ceil(a // 3))") in said and said[-1][0] == ""


def _tree_in_place(a, b):
    reach = 1
    while reach < a.shape[-1]:
        b[..., reach:] = a[..., reach:] * b[..., :-reach] + b[..., reach:]
        a[..., reach:] = a[..., reach:] * a[..., :-reach]
        reach *= 2
    return b


def _translated_in_place(label, source, target):
    read = label.copy()
    for name, number in source.items():
        label[read == number] = target.get(name, 0)
    return label


def _cut(x, k, rows, columns):
    blocks = x.reshape(*x.shape[:2], rows // k, k, columns // k, k)
    return blocks.permute(0, 2, 4, 3, 5, 1).reshape(-1, k * k, x.shape[1])


def _always_halved(size, strides, most):
    sides = [(size[0] // 2**i, size[1] // 2**i) for i in range(len(strides))]
    return [max(k for k in range(1, most + 1) if a % k == b % k == 0) for a, b in sides]


def _near(size, window, a, b, pam):
    return 1 if pam or all(p // window == q // window for p, q in zip(a, b)) else "inf"


def _holm_by_value(p):
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, value in enumerate(sorted(p)):
        largest = max(largest, min(1.0, value * (len(p) - rank)))
        adjusted[p.index(value)] = largest
    return adjusted


def _by_place_unsorted(differences, draws):
    means = differences[draws].mean(1)
    return means[int(0.025 * len(means))], means[int(0.975 * len(means))]


class _NotBegun(UNet):
    def __init__(self, *channels, windows, **sizes):
        super().__init__(*channels, **sizes)
        raise NotImplementedError


class _Misspelt(UNet):
    def __init__(self, *channels, windows, **sizes):
        super().__init__(*channels, **sizes)
        self.encoder.mixers = nn.ModuleList(LMBloc(c) for c in self.features)  # noqa: F821


class _Elsewhere(UNet):
    def __init__(self, *channels, windows, **sizes):
        super().__init__(*channels, **sizes)
        self.mixers = nn.ModuleList(LMBlock(c, k) for c, k in zip(self.features, windows))


class _PiMInPlace(PiM):
    def forward(self, x):
        before = x.clone()
        return x.add_(super().forward(before) - before)


class _DeltaLast(Mamba):
    def forward(self, tokens):
        x, z = self.in_proj(tokens).mT.chunk(2, dim=1)
        x = F.silu(self.conv1d(x)[..., : tokens.shape[1]])
        B, C, narrow = self.x_proj(x.mT).split([self.d_state, self.d_state, self.dt_rank], dim=-1)
        y = selective_scan(x, F.softplus(self.dt_proj(narrow)).mT, -torch.exp(self.A_log), B.mT, C.mT)
        return self.out_proj(((y + self.D[:, None] * x) * F.silu(z)).mT)


class _FirstWindow(UNet):
    def __init__(self, *channels, windows, **sizes):
        super().__init__(*channels, **sizes)
        self.encoder.mixers = nn.ModuleList(LMBlock(c, windows[0]) for c in self.features)


def _mates_from(start):
    def mates(size, row, column, k, partition):
        shared = torch.zeros(size, size, dtype=torch.bool)
        if partition == "dilated":
            shared[start(row) :: k, start(column) :: k] = True
        else:
            shared[row // k * k :, column // k * k :][:k, :k] = True
        return shared

    return mates


def _fits_rounded_down(strides, windows):
    totals = np.cumprod(strides)
    return next(n for n in range(1, 1000) if all(n // t % k == 0 for t, k in zip(totals, windows)))


GIVEN = [
    ("check_pim", _PiMInPlace, "overwritten (x)"),
    ("check_pim", PiM(4, 2), "give the class itself, PiM"),
    ("check_network", _NotBegun, "… _NotBegun: not yet."),
    ("check_network", _Misspelt, "✗ _Misspelt: your code raised NameError"),
    ("check_network", _Elsewhere, "; has mixers.0.pam.bim"),
    ("check_holm", _holm_by_value, "p.index finds the first"),
    ("check_interval", _by_place_unsorted, "the value is not right yet"),
    (
        "check_way",
        lambda size, w, a, b, pam: 1 if pam or sum(p // w for p in a) == sum(p // w for p in b) else math.inf,
        "the value is not right yet",
    ),
    (
        "check_way",
        lambda s, w, a, b, pam: 1 if pam or len({p // w * (s[0] // w) + q // w for p, q in (a, b)}) == 1 else math.inf,
        "the value is not right yet",
    ),
    (
        "check_windows_for",
        lambda size, strides, most: [
            max(k for k in range(1, most + 1) if size[0] // t * (size[1] // t) % k**2 == 0) for t in np.cumprod(strides)
        ],
        "the value is not right yet",
    ),
    (
        "check_windows_for",
        lambda size, strides, most: [
            max(k for k in range(1, most + 1) if math.gcd(*(n // t for n in size)) % k == 0)
            for t in np.cumprod([1, *strides[1:]])
        ],
        "the first stage has a stride, too",
    ),
    (
        "check_image_multiple",
        lambda strides, windows: math.lcm(*(int(t) * k for t, k in zip(np.cumprod([1, *strides[1:]]), windows))),
        "the first stage has a stride, too",
    ),
    ("check_image_multiple", _fits_rounded_down, "// rounds down"),
    ("check_mamba", _DeltaLast, "x_proj's result is Δ's part, then B, then C"),
    ("check_network", _FirstWindow, "each stage has a window of its own"),
    ("check_mates", _mates_from(lambda place: place), "the grid has pixels before this one"),
    ("check_mates", _mates_from(lambda place: 0), "that is the grid of pixel (0, 0)"),
    ("check_slice_gap", lambda gap, spacing: max(0, int((gap - 0.5) // spacing)), "the value is not right yet"),
    (
        "check_surface_dice",
        lambda a, b, t: sum(d <= t for part in (a, b) for d in set(part)) / sum(len(set(part)) for part in (a, b)),
        "the value is not right yet",
    ),
    ("check_same_length", lambda side, k: min(k, side // k), "the value is not right yet"),
    (
        "check_never_joined",
        lambda size, s, row, column: (
            np.add.outer(
                (np.arange(size) - row) % math.gcd(s[0], s[-1]), (np.arange(size) - column) % math.gcd(s[0], s[-1])
            )
            > 0
        ),
        "the values are not yet",
    ),
    (
        "check_causal",
        lambda x, k: torch.fft.ifft(torch.fft.fft(x, 2 * len(x)) * torch.fft.fft(k, 2 * len(x)))[: len(x)],
        "take .real",
    ),
    ("check_tree", _tree_in_place, "overwritten (a and b)"),
    ("check_translate", _translated_in_place, "overwritten (label)"),
    ("check_cut_windows", lambda x, k: _cut(x, k, x.shape[2], x.shape[2]), "RuntimeError (case 2 of 2)"),
    ("check_cut_windows", lambda x, k: _cut(x, k, x.shape[3], x.shape[2]), "a map need not be square"),
    ("check_windows_for", _always_halved, "take the strides that are given"),
    ("check_way", _near, "expected numbers, yours is a str"),
    (
        "check_way",
        lambda size, w, a, b, pam: (
            0 if a == b else 1 if pam or [p // w for p in a] == [p // w for p in b] else math.inf
        ),
        "count blocks from 1 on",
    ),
    (
        "check_causal",
        lambda x, k: torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(k, len(x)), len(x)),
        "before the first token there is nothing",
    ),
    ("check_half_life", lambda A, delta: math.ceil(math.log(2) / (-A * delta)), "not rounded"),
    (
        "check_memory_length",
        lambda delta, A: min(len(delta), int((-A * delta.cumsum(0) < 1).sum())),
        "these tokens leave more than 1/e",
    ),
    (
        "check_window_mm",
        lambda w, t, s: tuple(a * math.prod(axis[1:]) * c for a, axis, c in zip(w, zip(*t), s)),
        "the first stage has a stride, too",
    ),
    ("check_slice_gap", lambda gap, spacing: max(0, math.floor(gap / spacing) - 1), "round up"),
]
"""Check, an answer that a reader gave, and what the check says to it now."""


@pytest.mark.parametrize(("check", "wrong", "said"), GIVEN)
def test_an_answer_that_was_given_is_refused_with_a_fitting_hint(check, wrong, said):
    result = getattr(course, check)(wrong)
    assert not result.ok and said in result.message, result.message
