"""Chapter 02's copying tasks are what its text says, and the layer beside Mamba is a fixed system."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lkm_kit.course import check_mamba
from lkm_kit.course.sources import read_source
from lkm_kit.ssm import Mamba, selective_scan

SOURCE = Path(__file__).parents[1] / "notebooks" / "src" / "02_selective_scan.py"
NOISE, MARKS = 8, [9, 10, 11, 12]


@pytest.fixture(scope="module")
def chapter():
    """Names of the chapter's cells that define the exercise's layer, the tasks and the networks."""
    cells = [cell.source for cell in read_source(SOURCE).cells if cell.cell_type == "code"]
    space = {"math": math, "torch": torch, "nn": nn, "F": F, "selective_scan": selective_scan}
    space |= {"Mamba": Mamba, "check_mamba": check_mamba, "__name__": "cell"}
    for first in ("class MyMamba", "def copying", "class Constant"):
        (cell,) = (cell for cell in cells if first in cell)
        exec(compile(cell, first, "exec"), space)
    return space


@pytest.mark.parametrize("selective", [False, True])
def test_data_tokens_stand_in_order_among_noise_and_recall_marks_follow(chapter, selective):
    torch.manual_seed(0)
    tokens, data = chapter["copying"](500, selective)
    assert tokens.shape == (500, 20) and data.shape == (500, 4)
    assert tokens[:, 16:].tolist() == [MARKS] * 500
    for context, wanted in zip(tokens[:, :16], data):
        assert context[context != NOISE].tolist() == wanted.tolist()  # so twelve are noise
    assert data.unique().tolist() == list(range(NOISE))


def test_places_are_fixed_in_copying_and_uniform_in_selective_copying(chapter):
    torch.manual_seed(0)
    plain, _ = chapter["copying"](200, False)
    assert ((plain[:, :16] != NOISE) == (torch.arange(16) < 4)).all()
    tokens, _ = chapter["copying"](8000, True)
    at = (tokens[:, :16] != NOISE).double().mean(0)
    assert (at - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 8000)


def scanned(monkeypatch, space, net, tokens):
    """Δ, B and C of every call of the scan while ``net`` reads ``tokens``; the chapter's layer or the library's."""
    seen = []

    def record(u, delta, A, B, C, **more):
        seen.append((delta, B, C))
        return selective_scan(u, delta, A, B, C, **more)

    monkeypatch.setitem(space, "selective_scan", record)
    monkeypatch.setattr("lkm_kit.ssm.mamba.selective_scan", record)
    with torch.no_grad():
        net(tokens)
    return seen


@pytest.mark.parametrize("make", ["MyMamba", "Mamba"])
@pytest.mark.parametrize("fixed", [False, True])
def test_no_token_changes_the_fixed_layer_s_step_B_and_C(chapter, monkeypatch, make, fixed):
    torch.manual_seed(0)
    monkeypatch.setitem(chapter, "make", chapter[make])
    net = chapter["network"](fixed)
    seen = scanned(monkeypatch, chapter, net, chapter["copying"](8, True)[0])
    if make == "Mamba" and not fixed:
        assert not seen  # one fused operator
        return
    ((delta, B, C),) = seen
    for each in (delta, B, C):
        same = torch.equal(each, each[:1, :, :1].expand_as(each))
        assert same == fixed


def test_both_layers_give_the_same_numbers_and_have_as_many(chapter, monkeypatch):
    tokens = chapter["copying"](8, True)[0]
    sizes = set()
    for fixed in (False, True):
        nets = []
        for make in ("MyMamba", "Mamba"):
            monkeypatch.setitem(chapter, "make", chapter[make])
            nets.append(chapter["network"](fixed))
            sizes.add(sum(p.numel() for p in nets[-1].parameters()))
        nets[1].load_state_dict(nets[0].state_dict())
        torch.testing.assert_close(nets[0](tokens), nets[1](tokens), atol=1e-5, rtol=1e-4)
    assert len(sizes) == 1


def test_both_kinds_start_from_the_same_weights_but_for_x_proj(chapter):
    states = []
    for fixed in (False, True):
        torch.manual_seed(0)
        states.append(chapter["network"](fixed).state_dict())
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == ["1.x_proj.weight"]
