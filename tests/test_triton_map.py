"""The map-aware mixer of the triton backend: what tokens cut out of the map would give, without cutting them out.

Without a GPU the kernels run in Triton's interpreter: the same arithmetic, program by program; hence tiny sizes.
"""

from functools import partial

import pytest
import torch
from combinations import first
from torch.utils._python_dispatch import TorchDispatchMode

from lkm_kit.bench import gpu as benchmark
from lkm_kit.bench import roofline
from lkm_kit.bench.kernels import kernels_of
from lkm_kit.blocks import PaM, PiM, to_tokens
from lkm_kit.blocks.orders import order_table
from lkm_kit.errors import KitError
from lkm_kit.ssm import Mamba, mix
from lkm_kit.ssm.backends import mixer as mixers_of
from lkm_kit.ssm.backends import triton as scan
from lkm_kit.ssm.backends import triton_mixer
from lkm_kit.ssm.backends.operators import Scan
from lkm_kit.ssm.causal_conv import causal_conv_silu

pytest.importorskip("triton")
from lkm_kit.ssm.backends import triton_conv_kernels, triton_kernels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHANNELS = 3
SIZES = {"d_state": 2}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Several tiles in sizes that the interpreter does quickly; test_triton.py has the sizes of the GPU."""
    monkeypatch.setattr(scan, "TILE", 8)
    monkeypatch.setattr(scan, "THREADS", 16)


def twins(kind, **options):
    """The same layer on the triton backend and on the reference."""
    torch.manual_seed(0)
    layers = [kind(CHANNELS, **options, **SIZES, backend=name).to(DEVICE) for name in ("triton", "reference")]
    layers[1].load_state_dict(layers[0].state_dict())
    return layers


def compare(layers, shape, atol=1e-5, rtol=1e-4):
    """Values, and the gradients of the map and of every parameter."""
    random = torch.Generator().manual_seed(1)
    x, weight = (torch.randn(shape, generator=random).to(DEVICE) for _ in range(2))
    results = []
    for layer in layers:
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        results.append([y, *torch.autograd.grad((y * weight).sum(), [leaf, *layer.parameters()])])
    names = ["y", "x", *(name for name, _ in layers[0].named_parameters())]
    for name, ours, true in zip(names, *results, strict=True):
        assert true.abs().max() > 0, f"{name} says nothing"
        torch.testing.assert_close(ours, true, atol=atol, rtol=rtol, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(
    ("partition", "window", "bidirectional", "shape"),
    first(
        [
            ("dilated", (2, 1), True, (1, 4, 6)),
            ("count", (2, 1, 3), False, (1, 2, 4, 6)),
            ("contiguous", (4, 2), False, (1, 4, 6)),
            ("contiguous", (2, 6), True, (2, 4, 6)),
            ("count", (1, 2), True, (1, 4, 6)),
            ("contiguous", (1, 4, 3), True, (1, 2, 4, 6)),
            ("dilated", (1, 2, 3), False, (1, 2, 4, 6)),
        ],
        few=3,
    ),
)
def test_pim(partition, window, bidirectional, shape):
    layers = twins(PiM, window=window, partition=partition, bidirectional=bidirectional)
    compare(layers, (shape[0], CHANNELS, *shape[1:]))


@pytest.mark.parametrize(
    ("pool", "bidirectional", "shape"),
    first([(2, False, (1, 4, 6)), ((2, 3), True, (2, 4, 6)), ((1, 2, 3), True, (1, 2, 4, 6))], few=2),
)
def test_pam(pool, bidirectional, shape):
    compare(twins(PaM, pool=pool, bidirectional=bidirectional), (shape[0], CHANNELS, *shape[1:]))


@pytest.mark.parametrize(("kind", "options"), first([(PaM, {"pool": (2, 3)}), (PiM, {"window": (2, 3)})]))
def test_padded_maps(kind, options):
    compare(twins(kind, pad=True, **options), (1, CHANNELS, 3, 5))


def test_directions_of_several_orders():
    directions = [(None, False), ("shuffled", True), (None, True)]
    compare(twins(PiM, window=(2, 3), directions=directions), (1, CHANNELS, 4, 6))


def test_a_layer_that_was_replaced_is_called_and_its_map_cut():
    layers = twins(PiM, window=(2, 3), partition="dilated")
    for layer in layers:
        projection = layer.bim.mamba_backward.in_proj
        layer.bim.mamba_backward.in_proj = torch.nn.Sequential(projection, torch.nn.Tanh())
    compare(layers, (1, CHANNELS, 4, 6))


@pytest.mark.thorough  # chunks without a table: test_triton.py
@pytest.mark.parametrize(("partition", "window"), [("dilated", (1, 2)), ("contiguous", (7, 5))])
def test_long_sequences_are_cut_into_chunks(partition, window):
    """Tables and chunks together: 35 tokens, of every second pixel or of a window half as wide as the map."""
    assert scan.plan(2, 2 * CHANNELS, 35, 2).chunks == 2
    compare(twins(PiM, window=window, partition=partition), (1, CHANNELS, 7, 10))


@pytest.mark.parametrize("programs", first([4, 1]))
def test_any_order_of_pixels_and_several_blocks(programs, monkeypatch):
    """A table that no partition gives, and channels, states and tokens that fill no block, no tile, no power of two;
    five blocks in one part, that adds their dB and dC, or in two."""
    monkeypatch.setattr(scan, "WANTED_PROGRAMS", programs)
    assert scan.plan(2, 18, 11, 3)[2:] == (1, 5, {1: 1, 4: 2}[programs])
    torch.manual_seed(0)
    mixers = [Mamba(9, d_state=3, out_proj=False, backend="triton").to(DEVICE) for _ in range(2)]
    assert mixers[0].d_inner == 18 > 2 * scan.tile(3).channels and 11 % scan.tile(3).tokens
    pixels = torch.randn(1, 22, 9, device=DEVICE, requires_grad=True)
    order = torch.randperm(22, device=DEVICE).int().view(2, 11)
    dy = torch.randn(1, 22, 18, device=DEVICE)
    leaves = [pixels, *(p for mixer in mixers for p in mixer.parameters())]
    ours = mix(mixers, pixels, [True, False], order)
    gradients = torch.autograd.grad(ours, leaves, dy)
    for mixer in mixers:
        mixer.backend = "reference"
    true = torch.cat([mix(mixers, pixels[:, row], [True, False]) for row in order.long()], dim=1)
    order = order.long().flatten()
    torch.testing.assert_close(ours[:, order], true, atol=1e-5, rtol=1e-4)
    for a, b in zip(gradients, torch.autograd.grad(true, leaves, dy[:, order]), strict=True):
        torch.testing.assert_close(a, b, atol=5e-5, rtol=5e-4)


def test_autocast_does_not_reach_the_mixer():
    layer, _ = twins(PiM, window=2)
    x = torch.randn(1, CHANNELS, 2, 4, device=DEVICE)
    with torch.no_grad():
        plain = layer(x)
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            assert torch.equal(layer(x), plain)


def test_half_precision_parameters():
    layer, reference = twins(PiM, window=(2, 4))
    x = torch.randn(1, CHANNELS, 4, 4, device=DEVICE, dtype=torch.bfloat16)
    with torch.no_grad():
        ours, true = layer.bfloat16()(x), reference(x.float())
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - true).abs().max() < 0.03 * true.abs().max()


def test_nothing_is_made_on_the_default_device():
    """Which is not the tensors' here: what forgets to say where it belongs would meet them as a stranger."""
    layer, _ = twins(PiM, window=(3, 1), partition="dilated")
    x = torch.randn(1, CHANNELS, 3, 2, device=DEVICE, requires_grad=True)
    with torch.device("meta"):
        y = layer(x)
        gradients = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
    assert all(t.device.type == DEVICE and torch.isfinite(t).all() for t in (y, *gradients))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("channels", "length", "taps"), [(3, 70, 4), (20, 2, 4), (1, 5, 2)])
def test_convolution(channels, length, taps, reverse):
    torch.manual_seed(0)
    xz = torch.randn(2, length, 2 * channels, device=DEVICE)  # x is a strided half, as in the mixer
    weight, bias = torch.randn(channels, taps, device=DEVICE), torch.randn(channels, device=DEVICE)
    dy = torch.randn(2, channels, length, device=DEVICE)
    results = []
    for backend in ("triton", "reference"):
        leaves = [t.clone().requires_grad_() for t in (xz, weight, bias)]
        y = causal_conv_silu(leaves[0][..., :channels].transpose(1, 2), leaves[1], leaves[2], reverse, backend)
        results.append([y, *torch.autograd.grad(y, leaves, dy)])
    for name, ours, true in zip(("y", "x", "weight", "bias"), *results, strict=True):
        torch.testing.assert_close(ours, true, atol=2e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


def test_opcheck_of_the_convolution():
    x, weight, bias = torch.randn(2, 3, 2).transpose(1, 2), torch.randn(2, 4), torch.randn(2)
    leaves = [t.to(DEVICE).requires_grad_() for t in (x, weight, bias)]
    torch.library.opcheck(torch.ops.lkm_kit.causal_conv_silu_triton, (*leaves, True))


@pytest.mark.parametrize("with_order", first([True, False]))
def test_opcheck_of_the_mixer(with_order):
    torch.manual_seed(0)
    mixer = Mamba(2, expand=1, d_state=2, out_proj=False).to(DEVICE)
    weights = [w.detach().requires_grad_() for w in mixer._fused_parameters()]
    pixels = torch.randn(1, 4, 2, device=DEVICE, requires_grad=True)
    order = torch.tensor([[0, 2], [3, 1]], dtype=torch.int32, device=DEVICE) if with_order else None
    arguments = (pixels, weights, [True], True, order)
    torch.library.opcheck(torch.ops.lkm_kit.mamba_mix_triton, arguments)


MOVES = ("clone", "copy_", "_to_copy", "cat", "stack", "flip", "index", "index_select", "gather", "index_put_")
INSIDE = {
    "mamba_mix_triton": partial(mixers_of.forward, triton_mixer.Engine()),
    "mamba_mix_triton_backward": partial(mixers_of.backward, triton_mixer.Engine()),
}


class Copies(TorchDispatchMode):
    """Lists operations that only move numbers, from a size on; looks inside the mixer's operators, too."""

    def __init__(self, least):
        super().__init__()
        self.least, self.found, self.entered = least, [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in INSIDE:
            self.entered.add(name)
            with self:
                return INSIDE[name](*args)
        result = func(*args, **(kwargs or {}))
        if name in MOVES and result.numel() >= self.least:
            self.found.append(name)
        return result


class Unlaunched:
    """Stands for a kernel that is called and does nothing."""

    def __getitem__(self, grid):
        return lambda *operands, **flags: None


@pytest.fixture
def unlaunched(monkeypatch):
    """Everything but the kernels runs: the interpreter copies operands by itself, and needs time."""
    for module, kernels in (
        (triton_kernels, ("forward", "carry", "state_gradient", "backward")),
        (triton_conv_kernels, ("forward", "backward")),
    ):
        for kernel in kernels:
            monkeypatch.setattr(module, kernel, Unlaunched())


@pytest.mark.parametrize("partition", ["contiguous", "dilated"])
def test_nothing_is_permuted_or_flipped(partition, unlaunched):
    """Forward and backward of both directions copy no tensor of the size of the tokens; the way through tokens does."""
    layer, reference = twins(PiM, window=(2, 4), partition=partition)
    x = torch.randn(1, CHANNELS, 4, 8, device=DEVICE).to(memory_format=torch.channels_last).requires_grad_()
    counts = []
    for each in (layer, reference):
        order_table((4, 8), (2, 4), partition, x.device)  # is made once, of 4 bytes a pixel
        with Copies(least=x.numel()) as copies:
            each(x).square().sum().backward()
        counts.append(copies)
    ours, through_tokens = counts
    assert ours.entered == set(INSIDE)
    assert ours.found == []
    assert len(through_tokens.found) > 5


class Made(TorchDispatchMode):
    """Lists how large each tensor is that an operation returns, views apart."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if torch.is_tensor(result) and not func.is_view:
            self.sizes.append(result.numel())
        return result


@pytest.mark.parametrize(("sequences", "parts"), [(1024, 1), (256, 2)])
def test_scans_need_little_beside_what_they_write(sequences, parts, unlaunched):
    """No states of zero that are overwritten or never read, and dB and dC once for each part of the blocks at most."""
    channels, rows, n = 32, 64, 16

    def tokens(width):
        return torch.empty(sequences, rows, width, device="meta").transpose(1, 2)

    per_channel = torch.empty(channels, device="meta")
    A = torch.empty(channels, n, device="meta")
    given = Scan(
        tokens(channels), tokens(channels), A, tokens(n), tokens(n), per_channel, None, per_channel, True, False
    )
    assert scan.plan(sequences, channels, rows, n)[2:] == (1, channels, parts)
    kept = torch.empty(scan.kept_shape(given.u, n, True), device="meta")
    y, du, ddelta = (tokens(channels) for _ in range(3))
    dBC = torch.empty(1, sequences, rows, 2 * n, device="meta")
    with Made() as forward:
        scan.run_forward(given, None, kept, y, None)
    assert max(forward.sizes) <= channels * n
    with Made() as backward:
        scan.run_backward(given, None, y, kept, du, ddelta, None, dBC)
    large = sorted(size for size in backward.sizes if size > channels * n)
    sums = [] if parts == 1 else [dBC.numel(), parts * dBC.numel()]  # where they are added up, and what is added
    assert large == sorted([sequences * channels] * 2 + [sequences * channels * n] + sums)


def test_parts_of_gradients_are_kept_where_the_gradient_of_the_convolution_will_lie():
    """Else the parts of dB and dC would take 0.88 GB more at the first stage of paper-3d, which has two as well."""
    layer, lies = PiM(32, window=(1, 64), bidirectional=False, backend="triton").to("meta"), []
    x = torch.empty(1, 32, 256, 64, device="meta", requires_grad=True)
    assert scan.plan(256, 2 * 32, 64, 16)[2:] == (1, 64, 2)

    def note(kernel, arguments, flags):
        if kernel == "triton_kernels.backward":
            lies.append([arguments[at].untyped_storage()._cdata for at in (14, 16)])  # dz; sums of dB and dC

    with scan.listening(note):
        kernels_of(lambda: layer(x).sum().backward())
    ((dxz, sums),) = lies
    assert sums == dxz


def test_the_mixer_keeps_only_what_its_backward_pass_reads():
    """Common input product, and a direction: x, its projection, Δ, states between tiles; the table, 4 bytes a pixel."""
    layer, _ = twins(PiM, window=(2, 4))
    kept = {}
    x = torch.randn(2, CHANNELS, 4, 8, device=DEVICE)
    known = {p.data_ptr() for p in layer.parameters()}

    def pack(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = layer(x.requires_grad_())
    size = sum(nbytes for pointer, nbytes in kept.items() if pointer not in known)
    inner, projected, states, pixels = 2 * CHANNELS, 1 + 2 * 2, 2 / 8, 2 * 4 * 8  # windows of one tile, 8 tokens
    per_direction = 2 * inner + inner + projected + inner + inner * states
    floats = pixels * (2 * per_direction + 2 * CHANNELS + inner)  # and x, LN(x), the mixers' sum
    weights = 4 * sum(p.numel() for p in layer.parameters())  # conv1d's view, A, LayerNorm's statistics: small
    assert 4 * floats <= size <= 4 * floats + 4 * 4 * 8 + weights + 4 * 2 * pixels
    assert y.shape == x.shape


@pytest.mark.parametrize("partition", ["contiguous", "dilated", "count", "shuffled", "local"])
@pytest.mark.parametrize(("window", "shape"), [((2, 3), (4, 6)), ((1, 2, 3), (2, 4, 6))])
def test_the_table_is_the_order_of_the_tokens(partition, window, shape):
    x = torch.randn(2, CHANNELS, *shape)
    table = order_table(shape, window, partition)
    assert table.dtype == torch.int32
    tokens = x.flatten(2).transpose(1, 2)[:, table.long()].flatten(0, 1)
    assert torch.equal(tokens, to_tokens(x, window, partition))


def test_tables_are_made_once_and_serve_training_after_inference():
    layer, _ = twins(PiM, window=(1, 2), bidirectional=False)
    x = torch.randn(1, CHANNELS, 1, 4, device=DEVICE)
    with torch.inference_mode():
        layer(x)
        table = order_table((1, 4), (1, 2), "contiguous", x.device)
    assert order_table((1, 4), (1, 2), "contiguous", x.device) is table
    layer(x).sum().backward()
    assert layer.bim.out_proj.weight.grad.abs().sum() > 0


def test_fake_tensors_leave_no_table_behind():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        assert type(order_table((7, 11), (7, 1), "contiguous")) is not torch.Tensor
    table = order_table((7, 11), (7, 1), "contiguous")
    assert type(table) is torch.Tensor and table.shape == (11, 7)


def test_torch_compile_takes_the_whole_layer():
    layer, _ = twins(PiM, window=(1, 2), bidirectional=False)
    x = torch.randn(1, CHANNELS, 1, 4, device=DEVICE)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (torch.tensor([[0, 1], [2, 3]]), "torch.int64"),
        (torch.tensor([0, 1, 2, 3], dtype=torch.int32), r"shape \(4,\)"),
        (torch.tensor([[0, 1, 2]], dtype=torch.int32), "4 pixels"),
        (torch.tensor([[0, 2], [1, 3]], dtype=torch.int32).t(), "contiguous"),
        (torch.tensor([[0, 1], [2, 4]], dtype=torch.int32), "each of the pixels 0 to 3 once"),
        (torch.tensor([[0, 1], [-1, 3]], dtype=torch.int32), "each of the pixels 0 to 3 once"),
        (torch.tensor([[0, 1], [2, 2]], dtype=torch.int32), "each of the pixels 0 to 3 once"),
    ],
)
def test_a_wrong_table_is_refused(order, message):
    mixer = Mamba(CHANNELS, out_proj=False, backend="triton", **SIZES).to(DEVICE)
    with pytest.raises(KitError, match=message):
        mix([mixer], torch.zeros(1, 4, CHANNELS, device=DEVICE), [False], order.to(DEVICE))


def test_a_wrong_shape_is_refused():
    mixer = Mamba(5, out_proj=False, backend="triton").to(DEVICE)
    with pytest.raises(KitError, match="needs \\(batch, length, 5\\)"):
        mix([mixer], torch.zeros(1, 4, CHANNELS, device=DEVICE), [False])


@pytest.mark.parametrize(
    ("kind", "options"), [(PiM, {"window": (2, 1), "partition": "dilated"}), (PaM, {"pool": (2, 1)})]
)
def test_the_benchmark_compares_the_same_function(kind, options):
    layer, reference = twins(kind, **options)
    x = torch.randn(1, CHANNELS, 4, 2, device=DEVICE)
    ways = benchmark.contestants(layer, "reference")
    benchmark.check(ways, x)
    torch.testing.assert_close(ways["released"](x), reference(x), atol=1e-5, rtol=1e-4)
    with torch.no_grad(), pytest.raises(AssertionError, match="tokens"):
        benchmark.check({**ways, "tokens": lambda x: ways["tokens"](x) + 0.1}, x)


def test_the_benchmark_visits_every_layer_and_adds_them_up(unlaunched, monkeypatch):
    """Everything but the clock and the kernels, on a network that is tiny."""
    clock = {"map": 2.0, "tokens": 3.0, "released": 7.0, "copy": 1.0}

    def milliseconds(runs, repeats):
        for run in runs.values():
            run()
        return {name: clock[name] for name in runs}

    fakes = {"PAPER": {"tiny-2d": ((96, 96), 1)}, "DEVICE": DEVICE, "milliseconds": milliseconds}
    fakes |= {"mebibytes": lambda run: 5, "check": lambda ways, x: None}
    fakes |= {"this_card": lambda repeats: roofline.Card(1e9, float("inf"), float("inf"), 1.0)}
    for name, fake in fakes.items():
        monkeypatch.setattr(benchmark, name, fake)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    table = benchmark.table(["tiny-2d"])
    assert list(table["stage"]) == [f"{s} {part}" for s in range(4) for part in ("PiM", "PaM") for _ in range(2)]
    assert list(table["map"].unique()) == ["96×96", "48×48", "24×24", "12×12"]
    assert (table["released / map"] == 3.5).all() and (table["map MiB"] == 5).all()
    first = roofline.mamba_layers("tiny-2d", (96, 96), backend="triton")[0][1]
    moved = sum(k.bytes for part in roofline.layer_kernels(first, (1, 8, 96, 96)).values() for k in part)
    assert table["predicted ms"][1] == pytest.approx(1e3 * moved / 1e9, rel=1e-3)
    assert table["predicted / map, %"][1] == pytest.approx(100 * table["predicted ms"][1] / 2, rel=1e-3)
    sums = benchmark.whole_networks(table).iloc[0]
    assert (sums["map ms"], sums["tokens / map"], sums["map MiB"]) == (16, 1.5, 5)
    assert "copies 1 GB/s" in table.attrs["note"]
