"""The debug mode of the CPU kernels: what they are given lies in the memory of its tensor, or they are not called."""

import pytest
import torch

from lkm_kit.blocks import BiM
from lkm_kit.ssm import selective_scan
from lkm_kit.ssm.backends import cpu, cpu_conv, cpu_kernels, kernel_call
from lkm_kit.ssm.backends.kernel_call import flat_operand, rows_operand
from lkm_kit.ssm.causal_conv import causal_conv_silu


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    """Count what is checked: the mode must be on, and every operand pass through it."""
    monkeypatch.setenv("LKM_CHECK_KERNELS", "1")
    seen, check = [], kernel_call._check

    def counted(what, operand):
        seen.append(what)
        check(what, operand)

    monkeypatch.setattr(kernel_call, "_check", counted)
    return seen


def layouts(batch, channels, length):
    shape = batch, channels, length
    yield torch.randn(shape)
    yield torch.randn(batch, length, channels).transpose(1, 2)
    yield torch.randn(batch, length, 2 * channels)[..., channels:].transpose(1, 2)
    yield torch.randn(batch, channels, 2 * length)[..., ::2]
    yield torch.randn(1, channels, length).expand(shape)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("batch", "channels", "length"), [(2, 32, 37), (3, 16, 1), (1, 20, 16), (0, 16, 5)])
def test_kernels_stay_inside_their_tensors(checked, batch, channels, length, reverse):
    for u, B in zip(layouts(batch, channels, length), layouts(batch, 3, length), strict=True):
        u.requires_grad_()
        A = -torch.rand(channels, 3)
        for z in (u, None):
            y = selective_scan(u, u, A, B, B, z=z, delta_softplus=True, reverse=reverse, backend="cpu")
            y.sum().backward()
        causal_conv_silu(u, torch.ones(channels, 4), torch.ones(channels), reverse, "cpu").sum().backward()
    operands = {what.rsplit(" ", 1)[1] for what in checked}
    assert {"u", "delta", "z", "B", "C", "A2", "y", "kept", "last_state", "dA", "dB", "x", "weight", "dx"} <= operands


def test_the_fused_mixer_stays_inside_its_tensors(checked):
    BiM(8)(torch.randn(2, 21, 8)).sum().backward()
    assert len(checked) > 50


@pytest.mark.parametrize("reverse", [False, True])
def test_an_operand_that_is_too_small_stops_the_call(reverse):
    u = torch.randn(2, 9, 16)
    columns = u.transpose(1, 2)
    call = cpu.ScanCall(columns, columns, -torch.ones(16, 3), columns[:, :3], columns[:, :3], None, None, None, reverse)
    kept = torch.zeros(cpu.kept_shape((2, 16, 9), 3, True))
    with pytest.raises(IndexError, match=r"forward: y of shape \(2, 8, 16\)"):
        cpu.run_forward(call, True, kept, torch.zeros(2, 8, 16))
    with pytest.raises(IndexError, match="forward: kept"):
        cpu.run_forward(call, True, kept[:, :, :, :2].clone(), torch.zeros(2, 9, 16))
    with pytest.raises(IndexError, match="backward: ddelta"):
        cpu.run_backward(call, True, kept, u, torch.zeros(2, 9, 16), torch.zeros(2, 9, 8), None)
    convolution = cpu_conv.ConvCall(columns, torch.ones(16, 4), torch.ones(16), reverse)
    with pytest.raises(IndexError, match="backward: dx"):
        cpu_conv.run_backward(convolution, u, torch.zeros(1, 9, 16))


def test_operands_go_by_name():
    """A kernel's thirty numbers in a wrong order would be a silent error of memory."""
    u = torch.zeros(1, 4, 16)
    call = cpu.ScanCall(
        *[u.transpose(1, 2)] * 2, -torch.ones(16, 4), *[u.transpose(1, 2)[:, :4]] * 2, *[None] * 3, False
    )
    inputs = {**call.inputs(True, None), "y": call.rows(u), "add": 0, "last_state": flat_operand(u, 64)}
    swapped = {**inputs, "A2": inputs["u"], "u": inputs["A2"]}
    for wrong in ({**inputs, "why": inputs["y"]}, {k: v for k, v in inputs.items() if k != "y"}, swapped):
        with pytest.raises(Exception, match=r"argument|unpack|iter|Typing"):
            kernel_call.call_kernel(cpu_kernels.forward, call.kind, 1, **wrong)
    assert rows_operand(u, True, 1, 4, 16).place == (u.data_ptr() + 3 * 64, 4 * 64, -64)
