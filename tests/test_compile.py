"""The scan inside torch's compilers: a block in one graph, a network exported, autocast without NaN."""

import torch

from lkm_kit.blocks import LMBlock
from lkm_kit.networks import build_network


def test_lm_block_compiles_into_one_graph():
    """fullgraph: a break at the scan would be an error. aot_eager traces both passes without a C++ compiler."""
    torch.manual_seed(0)
    block = LMBlock(8, window=4)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 8, 8, 8, requires_grad=True)
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
