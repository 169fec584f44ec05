"""The scan inside torch's compilers: a block in one graph, a network exported, autocast without NaN."""

import pytest
import torch

from lkm_kit.blocks import ORDERS, LMBlock
from lkm_kit.networks import build_network


def rings(spatial, window):
    """Windows from their first pixel outwards, by a loop that no tracer could follow."""
    windows = ORDERS["contiguous"](spatial, window).reshape(-1, *window)
    places = sorted(torch.cartesian_prod(*(torch.arange(k) for k in window)).tolist(), key=lambda p: (max(p), p))
    return torch.stack([windows[(slice(None), *place)] for place in places], 1)


@pytest.mark.parametrize("directions", [None, [(None, False), ("rings", True)]], ids=["two", "an order of its own"])
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
