"""The scan inside torch's compilers: a block in one graph, a network exported, autocast without NaN."""

import pytest
import torch
from combinations import first

from lkm_kit.blocks import ORDERS, LMBlock
from lkm_kit.networks import build_network
from lkm_kit.ssm import Mamba


def rings(spatial, window):
    """Windows from their first pixel outwards, by a loop that no tracer could follow."""
    windows = ORDERS["contiguous"](spatial, window).reshape(-1, *window)
    places = sorted(torch.cartesian_prod(*(torch.arange(k) for k in window)).tolist(), key=lambda p: (max(p), p))
    return torch.stack([windows[(slice(None), *place)] for place in places], 1)


@pytest.mark.parametrize(
    "directions",
    first([pytest.param([(None, False), ("rings", True)], id="an order of its own"), pytest.param(None, id="two")]),
)
def test_lm_block_compiles_into_one_graph(directions, monkeypatch):
    """fullgraph: a break at the scan would be an error. aot_eager traces both passes without a C++ compiler."""
    monkeypatch.setitem(ORDERS, "rings", rings)
    torch.manual_seed(0)
    block = LMBlock(8, window=4, directions=directions)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 8, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    torch.testing.assert_close(compiled(x), block(x))
    parameters = [x, *block.parameters()]
    ours = torch.autograd.grad(compiled(x).square().sum(), parameters)
    theirs = torch.autograd.grad(block(x).square().sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_one_graph_serves_maps_of_any_size():
    torch.manual_seed(0)
    block, graphs = LMBlock(8, window=4).eval(), []

    def count(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend=count)
    for size in (16, 24, 32):
        x = torch.randn(2, 8, size, size + 8)
        torch.testing.assert_close(compiled(x), block(x), atol=1e-5, rtol=1e-4)
    assert len(graphs) == 1


def test_tiny_network_exports():
    """torch.export keeps the scan as one operator; the exported program gives the same logits."""
    torch.manual_seed(0)
    network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3).eval()
    image = torch.randn(1, 1, 96, 96)
    exported = torch.export.export(network, (image,))
    graphs = [module for module in exported.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    operators = {
        str(node.target) for graph in graphs for node in graph.graph.nodes
    }  # the block leaves autocast: a subgraph
    assert any("lkm_kit.mamba_mix_cpu" in name for name in operators)
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(image), network(image))


def test_autocast_trains_without_nan():
    torch.manual_seed(0)
    network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(10 * torch.randn(1, 1, 96, 96))
    assert logits.dtype == torch.bfloat16 and torch.isfinite(logits).all()
    logits.float().square().mean().backward()
    gradients = [p.grad for name, p in network.named_parameters() if "seg_layers" not in name]  # lower heads rest
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def layouts(batch, channels, length):
    """(batch, channels, length) in every layout that tokens come in."""
    shape = batch, channels, length
    return {
        "contiguous": torch.randn(shape),
        "rows of channels": torch.randn(batch, length, channels).transpose(1, 2),
        "batch inside": torch.randn(length, batch, channels).permute(1, 2, 0),
        "slice": torch.randn(batch, length, 2 * channels)[..., channels:].transpose(1, 2),
        "every second": torch.randn(batch, channels, 2 * length)[..., ::2],
        "expanded": torch.randn(1, channels, length).expand(shape),
    }


LAYOUTS = list(layouts(1, 1, 1))


def same_strides(operator, arguments, differentiate=False):
    """The fake implementation against the real one, in shape, dtype and strides."""

    def leaf(t):
        if isinstance(t, list):
            return [leaf(x) for x in t]
        return t.detach().requires_grad_(differentiate) if isinstance(t, torch.Tensor) else t

    torch.library.opcheck(operator, tuple(leaf(t) for t in arguments), test_utils="test_faketensor")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_fakes_of_scan_and_convolution_have_the_real_strides(layout, dtype):
    torch.manual_seed(0)
    wide, narrow = ({k: t.to(dtype) for k, t in layouts(3, c, 6).items()} for c in (16, 2))
    u, vector = wide[layout], torch.randn(32)[::2]
    for other in ("contiguous", layout):
        for A in (-torch.rand(16, 2), -torch.rand(2, 16).t()):
            scan = (u, wide[other], A, narrow[other], narrow[layout], vector, wide[other], vector)
            _, _, kept = torch.ops.lkm_kit.selective_scan_cpu(*scan, True, False, True)
            same_strides(torch.ops.lkm_kit.selective_scan_cpu, (*scan, True, False, True), True)
            same_strides(torch.ops.lkm_kit.selective_scan_cpu_backward, (wide[other], kept, *scan, True, False))
        for weight in (torch.randn(16, 4), torch.randn(4, 16).t(), torch.randn(16, 8)[:, ::2]):
            convolution = (u, weight.to(dtype), vector.to(dtype), True)
            same_strides(torch.ops.lkm_kit.causal_conv_silu_cpu, convolution, True)
            same_strides(torch.ops.lkm_kit.causal_conv_silu_cpu_backward, (wide[other], *convolution))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fakes_of_the_fused_mixer_have_the_real_strides(layout):
    torch.manual_seed(0)
    weights = [w.detach() for _ in range(2) for w in Mamba(8)._fused_parameters()]
    transposed = [w.t().contiguous().t() if w.ndim == 2 else w.repeat_interleave(2)[::2] for w in weights]
    tokens = layouts(3, 8, 6)[layout].transpose(1, 2)
    for parameters in (weights, transposed):
        mixer = (tokens, parameters, [False, True])
        same_strides(torch.ops.lkm_kit.mamba_mix_cpu, (*mixer, True, None), True)
        same_strides(torch.ops.lkm_kit.mamba_mix_cpu, (*mixer, False, None))
        _, saved = torch.ops.lkm_kit.mamba_mix_cpu(*mixer, True, None)
        for dy in layouts(3, 16, 6).values():
            backward = (dy.transpose(1, 2), tokens, parameters, saved, [False, True], None)
            same_strides(torch.ops.lkm_kit.mamba_mix_cpu_backward, backward)


@pytest.mark.thorough  # the map alone: test_lm_block_compiles_into_one_graph
def test_a_channels_last_map_compiles():
    torch.manual_seed(0)
    block = LMBlock(8, window=4).to(memory_format=torch.channels_last)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 8, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    leaves = [x, *block.parameters()]
    for a, b in zip(*(torch.autograd.grad(f(x).square().sum(), leaves) for f in (compiled, block)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
