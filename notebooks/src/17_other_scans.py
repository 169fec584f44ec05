# %% [markdown]
# # 17 · Other scans: order, mixer, window
#
# *30 minutes to read, 35 for the exercises, about a minute to run.* Before: [04_pixel_level_ssm](04_pixel_level_ssm.ipynb)
# and [11_effective_receptive_field](11_effective_receptive_field.ipynb). After: a scan of your own.
#
# **Goals.** After this chapter you can
# * draw the orders in which published networks read an image, and say from a table alone which pixels meet in a sequence;
# * predict what one block sees through an order, and check it exactly and by gradient;
# * say what selection adds to a scan, and compute Mamba-2's scan as a recurrence and as products of matrices;
# * put a convolution, a mean or attention where the scan was, and compare costs by counting;
# * exchange order, mixer and window of a network one at a time, and say what a study of them has to hold equal.
#
# | symbol | meaning | shape here |
# |---|---|---|
# | $k$ | side of a window | pixels |
# | $L$, $d$, $n$ | tokens of a sequence, channels, size of a channel's state | numbers |
# | $\Delta_t$, $A$, $B_t$, $C_t$ | step, decay, how a token enters the state and how the state is read | [chapter 02](02_selective_scan.ipynb) |
# | $p$ | channels of a head of Mamba-2, which share one decay | number |
# | $M_{ts}$ | weight of token $s$ in output $t$ | (L, L) |
#
# **The claims** (in our words). Several papers put a scan of their own forward as a reason for their scores: LKM-UNet large
# windows, VMamba four directions, SegMamba three orientations of a volume, LocalMamba windows that follow each other. From paper
# to paper networks, data and training differ as well, so that their tables do not say together what a scan alone is worth. Here
# all of them run in one network.

# %%
import math
import time

import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Image, display
from torch.utils.flop_counter import FlopCounterMode

from lkm_kit.bench.mixers import table as mixer_table
from lkm_kit.blocks import DIRECTIONS, MIXERS, ORDERS, PiM
from lkm_kit.blocks.locality import places
from lkm_kit.blocks.locality import table as locality_table
from lkm_kit.course import (
    check_cross_scan,
    check_never_joined,
    check_snake,
    check_ssd_attention,
)
from lkm_kit.erf import Change, Probe, measures, support
from lkm_kit.figures.erf_maps import asked
from lkm_kit.figures.erf_maps import orders as fields_of_orders
from lkm_kit.networks import build_network, describe
from lkm_kit.plots.lines import MARKED, plot_lines
from lkm_kit.plots.maps import TOKENS, plot_maps
from lkm_kit.plots.orders import plot_orders
from lkm_kit.plots.style import use_style
from lkm_kit.profiles import profile
from lkm_kit.ssm import S4D, Mamba, gated_average, selective_scan, ssd
from lkm_kit.studies.reference import reference_results
from lkm_kit.studies.render import p_text
from lkm_kit.studies.scans import scans
from lkm_kit.widgets.scan_explorer import ScanExplorer
from lkm_kit.widgets.token_order import token_places

use_style()
torch.manual_seed(0)
settings = profile()
print("profile:", settings.name)

# %% [markdown]
# ## 1. Three choices
#
# A block of LKM-UNet makes three choices, and none of them needs the others. The **window**: which pixels come together. The
# **order**: one after the other, but along which path? The **mixer**: what reads the sequence. In the kit each is a word:

# %%
x = torch.randn(1, 8, 16, 16)
block = PiM(8, window=8, partition="hilbert", mixer="mamba2")  # window, order, mixer
assert block(x).shape == x.shape
print("orders:    ", ", ".join(ORDERS))
print("mixers:    ", ", ".join(MIXERS))
print("directions:", ", ".join(DIRECTIONS))

# %% [markdown]
# An order is a table of pixel numbers: a row a sequence, its tokens from left to right. Hilbert's curve sounds
# difficult and is four smaller copies of itself: turned, as it is, as it is, turned the other way.


# %%
def curve(side):
    """Side 1, 2, 4, ... → (side, side): the place of every pixel on Hilbert's curve."""
    if side == 1:
        return torch.zeros(1, 1, dtype=torch.long)
    quarter = curve(side // 2)
    k = quarter.numel()
    upper = torch.cat([quarter.T, quarter + k], 1)
    lower = torch.cat([quarter.T.flip(0, 1) + 3 * k, quarter + 2 * k], 1)
    return torch.cat([upper, lower])


sequence, place = places((8, 8), 8, "hilbert")
assert torch.equal(curve(8), place) and not sequence.any()  # one sequence
curve(4)

# %% [markdown]
# All orders, for a map of 16×16 pixels and `window=8`. Coloured is the sequence of one pixel (red ring), from its first token
# to its last; the other sequences are grey. One colour scale.

# %%
size, k = 16, 8
pixel = asked(k)
drawn = {name: [token_places((size, size), k, name)] for name in ORDERS}
plot_orders(drawn, pixel)

# %% [markdown]
# | order | as in |
# |---|---|
# | contiguous | LKM-UNet's text; with one window over the whole map U-Mamba's raster scan |
# | dilated, count | LKM-UNet's code (with stride 2 the four grids of EfficientVMamba's atrous scan); the authors' answer to a reader |
# | first-axis, second-axis | columns: VMamba's second path; in a volume through the slices: SegMamba |
# | snake | PlainMamba, one of its four paths: each step goes to a neighbour |
# | diagonal | RS-Mamba, here in zigzag |
# | hilbert | PointMamba, for points in space; here the curve fills the window square by square |
# | local, local-first-axis | LocalMamba: one sequence over the map, window after window |
# | shuffled | nobody: a control, one random order for all windows |
#
# In 2D the second axis is row by row, so that two panels are the same; in a volume they are not.
#
# ### What follows from the table alone
#
# *Together*: the share of neighbouring pixels that are in one sequence. *Distance*: how far apart they then are in it, on
# average. No network is needed for either.

# %%
facts = locality_table((size, size), k)
for name in ("contiguous", "snake", "first-axis", "second-axis"):
    assert facts.loc[name, "distance"] == (1 + k) / 2  # 1 along a path's axis, k across
assert facts.loc["dilated", "together"] == 0 and facts.loc["local", "together"] == 1
facts

# %% [markdown]
# A snake and Hilbert's curve bring neighbours of the image no nearer together than rows do. `count` looks best, and only
# because the same number gives it windows of 2×2. What Hilbert's curve is good at is the reverse question: a mixer remembers
# the last $r$ tokens of its *sequence*; how far from the present one do they lie in the *image*?


# %%
def spread_of_memory(order, r):
    """Mean distance in pixels from a token to the r read before it; 16×16 window."""
    path = ORDERS[order]((16, 16), (16, 16))[0]
    at = torch.stack([path // 16, path % 16], -1).double()
    before = at.unfold(0, r + 1, 1)  # (tokens, 2, r + 1), the present one last
    return (before[..., :-1] - before[..., -1:]).norm(dim=1).mean().item()


names = ["contiguous", "snake", "diagonal", "hilbert", "shuffled"]
memories = [1, 4, 16, 64]
near = pd.DataFrame(
    {o: [spread_of_memory(o, r) for r in memories] for o in names}, memories
)
assert (near["hilbert"] == near.min(axis=1)).all()
near.rename_axis("tokens remembered").round(1)

# %% [markdown]
# Along Hilbert's curve a memory is a compact patch, along rows a strip as wide as the window. Which of the two a network
# wants is not a matter of the table.
#
# ## 2. What one block sees
#
# **Predict** first: with BiM, a forward and a backward scan, how many pixels have a path to the ringed one in each
# order? And with the forward scan alone?

# %%
image, probe = torch.randn(1, 8, size, size), Probe(position=pixel)


def pixels_seen(both, **how):
    layer = PiM(8, k, bidirectional=both, **how)
    return int(support(Change(layer), image, probe).sum())


seen = pd.DataFrame(
    {
        "both ways": {o: pixels_seen(True, partition=o) for o in ORDERS},
        "forward": {o: pixels_seen(False, partition=o) for o in ORDERS},
    }
)
for name in ORDERS:
    assert seen.loc[name, "both ways"] == facts.loc[name, "tokens"]
    assert seen.loc[name, "forward"] == places((size, size), k, name)[1][pixel] + 1
seen.T

# %% [markdown]
# Exactly its sequence, and forward what was read before it: the table of an order is its *theoretical* receptive field.
# (`Change` leaves out the input, which PiM adds to its result. With it every map is one bright pixel.) The gradient of an
# untrained block says which part of that field counts at the start:

# %%
fields = fields_of_orders(size, k, seeds=1 if settings.name == "smoke" else 3)
drawn["cross-scan"] = [*drawn["contiguous"], *drawn["first-axis"]]
plot_orders(drawn, pixel, fields)

# %%
found = measures(fields)[["own_pixel", "n_eff", "area_90"]]
found.round(3)

# %% [markdown]
# The bright pixels are the seven tokens that the two convolutions of four taps reach, wherever the order has put them. That is a
# bar along the row or down the column, a stair along the diagonal, a clump on Hilbert's curve. Where the order is random, it is a
# scatter. The scan's own share is the dim rest. `n_eff` ($1/\sum m^2$, pixels that share the mass) therefore hardly depends on
# the window. What training makes of the rest is a question for a study, not for this picture.
#
# ## 3. Several directions
#
# Why choose? VMamba reads rows and columns, both ways, and adds. In the kit each direction is a pair of an order and whether it
# is reversed, and each has a Mamba of its own:

# %%
rows = {}
for name, pairs in DIRECTIONS.items():
    layer = PiM(8, k, directions=name)
    reads = ", ".join(f"{order or 'rows'}{' back' * back}" for order, back in pairs)
    parameters = sum(p.numel() for p in layer.parameters())
    one = pixels_seen(False, directions=name)
    rows[name] = {"reads": reads, "parameters": parameters, "forward": one}
pd.set_option("display.max_colwidth", 120)
pd.DataFrame(rows).T

# %% [markdown]
# *Forward*: pixels seen when only the forward directions are there. Rows and columns each pass on what lies before the pixel in
# their own order; together that is all but the lower right rectangle. In both directions everything in the window is seen
# anyway. What cross-scan adds is not reach but *shortness*: the pixel below is one token away in one of the orders.
#
# It is not free. Twice as many directions are twice the scans and nearly twice the parameters. A comparison of two directions
# with four must say what it holds equal; the study of section 8 halves the inner width of the four:

# %%
widths = {
    "both ways": PiM(32, k),
    "cross-scan": PiM(32, k, directions="cross-scan"),
    "cross-scan, half as wide": PiM(32, k, directions="cross-scan", expand=1),
}
counts = {name: sum(p.numel() for p in m.parameters()) for name, m in widths.items()}
pd.Series(counts, name="parameters").to_frame()

# %% [markdown]
# ### What a dilated grid never joins
#
# In the released code's grid of stride $k$ a pixel meets those whose row and column differ from its own by multiples of $k$.
# More layers of the same stride add nothing: the same pixels meet again. A convolution between them does:


# %%
def grids(*strides, between=torch.nn.Identity):
    layers = [m for s in strides for m in (PiM(8, s, "dilated"), between())]
    return torch.nn.Sequential(*layers)


def conv():
    return torch.nn.Conv2d(8, 8, 3, padding=1)


map_24 = torch.randn(1, 8, 24, 24)
stacks = {
    "one of stride 4": grids(4),
    "three of stride 4": grids(4, 4, 4),
    "one of stride 4, a convolution of 3×3": grids(4, between=conv),
    "two of each": grids(4, 4, between=conv),
}
for name, stack in stacks.items():
    joined = int(support(stack, map_24, Probe(position=(9, 9))).sum())
    print(f"{name:>38}: {joined} of 576 pixels")

# %% [markdown]
# So inside the whole network the holes are filled, by convolutions and by PaM. What stays true is that PiM of the released
# code mixes no neighbours. Exercise 3 asks what two *different* strides join.
#
# ## 4. Mixers: what selection adds
#
# Now the order stays and the mixer changes. Take Mamba's block and make the system in its middle the same for all tokens: $\Delta$,
# $B$ and $C$ become parameters. That is S4D (Gu et al., 2022), here in Mamba's block, with a complex $A$ instead.
# Such a scan is a long convolution ([chapter 01](01_state_space_models.ipynb), Eq. 4): the weight of token $s$ in output $t$ depends
# on $t-s$ alone. Here are the weights of both systems, and what one changed token does to them:


# %%
def s6_weights(mamba, tokens, channel):
    """|M[t, s]| of one channel of Mamba's scan: each token's 1 goes in alone."""
    length, x = tokens.shape[1], mamba.in_proj(tokens).mT.chunk(2, 1)[0]
    u = F.silu(mamba.conv1d(x)[..., :length])
    sizes = [mamba.dt_rank, mamba.d_state, mamba.d_state]
    step, B, C = mamba.x_proj(u.mT).split(sizes, -1)
    delta = F.softplus(mamba.dt_proj(step)).mT[:, [channel]]
    delta, B, C = (part.expand(length, -1, -1) for part in (delta, B.mT, C.mT))
    A = -torch.exp(mamba.A_log[[channel]])
    return selective_scan(torch.eye(length)[:, None], delta, A, B, C)[:, 0].T.abs()


def s4d_weights(layer, tokens, channel):
    kernel = layer.kernel(tokens.shape[1])[channel]
    lag = torch.arange(len(kernel))[:, None] - torch.arange(len(kernel))
    return torch.where(lag >= 0, kernel[lag.clamp(min=0)], 0).abs()


# %%
torch.manual_seed(1)
tokens = torch.randn(1, 24, 16)
loud = tokens.clone()
loud[:, 8] *= 3  # one token changes
mamba, s4d = Mamba(16), S4D(16)
fast = int(mamba.dt_proj.bias.argmax()), int(s4d.log_dt.argmax())  # those that forget
with torch.no_grad():
    weights = {
        "S4D": s4d_weights(s4d, tokens, fast[1]),
        "S4D, token 8 louder": s4d_weights(s4d, loud, fast[1]),
        "S6": s6_weights(mamba, tokens, fast[0]),
        "S6, token 8 louder": s6_weights(mamba, loud, fast[0]),
    }
shown = {name: m.numpy() for name, m in weights.items()}
plot_maps(shown, "weight of token s in output t", scale="log", **TOKENS)

# %%
for name in ("S4D", "S6"):
    before, after = weights[name], weights[f"{name}, token 8 louder"]
    change = ((after - before).norm() / before.norm()).item()
    print(f"{name}: the weights change by {100 * change:.0f} %")
assert torch.equal(weights["S4D"], weights["S4D, token 8 louder"])

# %% [markdown]
# S4D's matrix is Toeplitz, the same along every diagonal, and deaf to what the tokens say. In S6 rows and columns differ:
# a token decides by its $B$ and $\Delta$ how much of it enters, and by its $C$ what it asks for. With fixed parameters a scan
# cannot copy some tokens and skip others: [chapter 02](02_selective_scan.ipynb) trains both on such a task. Whether a
# *segmentation* needs it is another question. The gates of the block, the convolutions around it and the depth of the network choose, too.
#
# ## 5. Mamba-2: the same scan as products of matrices
#
# Mamba keeps $n$ decays for every channel. Mamba-2 (Dao and Gu, 2024) keeps one number for a *head* of $p$ channels. One step
# for one head, with a state $h$ of shape (p, n):
#
# $$h_t = e^{\Delta_t A}\,h_{t-1} + \Delta_t\,x_t B_t^\top, \qquad y_t = h_t C_t.$$
#
# Unrolled, that is attention with a mask that decays, and without a softmax. With $\Delta x$ for the rows $\Delta_s x_s$:
#
# $$y = (L \circ C B^\top)\,(\Delta x), \qquad L_{ts} = e^{A(\Delta_{s+1} + \dots + \Delta_t)} \text{ for } s \le t, \text{ else } 0.$$


# %%
def one_head(x, delta, A, B, C, h=0):
    """x (l, p), delta (l,), A a number, B and C (l, n) → y (l, p), h."""
    y = []
    for t in range(len(x)):
        h = torch.exp(delta[t] * A) * h + delta[t] * torch.outer(x[t], B[t])
        y.append(h @ C[t])
    return torch.stack(y), h


# %%
def as_batch(x, delta, A, B, C):  # the library: (batch, tokens, heads or groups, ...)
    return (
        x[None, :, None],
        delta[None, :, None],
        A[None],
        B[None, :, None],
        C[None, :, None],
    )


double = {"dtype": torch.float64}
length, p, n = 50, 4, 8
operands = torch.randn(length, p, **double), torch.rand(length, **double)
operands += (torch.tensor(-1.0, **double), *torch.randn(2, length, n, **double))
by_hand, last = one_head(*operands)
for chunk in (1, 16, 64):  # 64: one product for all 50 tokens
    y, h = ssd(*as_batch(*operands), chunk=chunk)
    torch.testing.assert_close(y[0, :, 0], by_hand)
    torch.testing.assert_close(h[0, 0], last)
print("recurrence = chunks of 1, 16 and 64 tokens, to the precision of float64")

# %% [markdown]
# In between lies the form that runs: *inside* a chunk of tokens the product as it stands, *between* chunks the state alone. A
# chunk's result is what it would give from an empty state, plus what is left of the state before it:


# %%
def by_chunks(x, delta, A, B, C, size):
    state, y = torch.zeros(x.shape[1], B.shape[1], **double), []
    for part in torch.arange(len(x)).split(size):
        now = x[part], delta[part], A, B[part], C[part]
        alone, added = (r.squeeze(0) for r in ssd(*as_batch(*now), chunk=len(part)))
        left = torch.exp(A * delta[part].cumsum(0))  # of what was there when it began
        y.append(alone[:, 0] + left[:, None] * (C[part] @ state.T))
        state = left[-1] * state + added[0]
    return torch.cat(y)


torch.testing.assert_close(by_chunks(*operands, size=16), by_hand)

# %% [markdown]
# The sum is the same for every chunk; the work is not. Products inside grow with the chunk's length, steps between chunks become
# fewer. Counted for 1024 tokens, four heads of 16 channels, $n = 16$:

# %%
batch = torch.randn(1, 1024, 4, 16), torch.rand(1, 1024, 4), -torch.rand(4)
batch += tuple(torch.randn(2, 1, 1024, 1, 16))
work = {}
for chunk in (8, 16, 32, 64, 128, 256, 512, 1024):
    with FlopCounterMode(display=False) as counter:
        ssd(*batch, chunk=chunk)
    work[chunk] = {"operations a token": counter.get_total_flops() / 1024}
costs = {"looks": MARKED, "log": "xy", "beside": True}
plot_lines(
    pd.DataFrame(work).T,
    "tokens of a chunk",
    "operations of a token,\nforward",
    ticks=list(work),
    **costs,
)

# %% [markdown]
# One chunk for all tokens is attention, a chunk for each token the recurrence. The kit takes 64. Matrix products are what GPUs do
# best, and that is the paper's argument for this form; what it takes on this machine, section 7 times.
#
# ## 6. The smallest gate, and mixers without a scan
#
# **minGRU** (Feng et al., 2024) has one state for a channel: $h_t = (1 - z_t)\,h_{t-1} + z_t\,c_t$ with gate $z$ and
# candidate $c$ made of the token alone. It is a selective scan with $A = -1$ and $B = C = 1$: a decay of $e^{-\Delta}$ with
# $\Delta = \mathrm{softplus}(\cdot)$ is exactly $1 - \sigma(\cdot)$.

# %%
candidate, gate = torch.randn(2, 1, 3, 40)
h, states = torch.zeros(1, 3), []
for t in range(40):
    z = torch.sigmoid(gate[..., t])
    h = (1 - z) * h + z * candidate[..., t]
    states.append(h)
torch.testing.assert_close(gated_average(candidate, gate), torch.stack(states, -1))

# %% [markdown]
# **No scan at all.** What if the window is what counts, and not what happens in it? Three mixers keep Mamba's projections and
# gate and put something else in the middle: a depth-wise convolution of 7×7, the mean of the window, softmax attention. Which
# pixels does each see, and does it notice when the pixels come in random order? (The same weights read rows, then the shuffled
# order.)

# %%
rows = {}
for name in MIXERS:
    torch.manual_seed(0)
    in_rows, shuffled = (
        PiM(8, (k, k), mixer=name),
        PiM(8, (k, k), "shuffled", mixer=name),
    )
    shuffled.load_state_dict(in_rows.state_dict())
    with torch.no_grad():
        a, b = Change(in_rows)(image), Change(shuffled)(image)
    rows[name] = {
        "pixels seen": int(support(Change(in_rows), image, probe).sum()),
        "changes with the order (%)": 100 * ((a - b).norm() / a.norm()).item(),
        "parameters": sum(p.numel() for p in in_rows.parameters()),
    }
counts = {"pixels seen": int, "parameters": int}
orders_matter = pd.DataFrame(rows).T.astype(counts).round(1)
assert orders_matter.loc["mean", "changes with the order (%)"] < 0.1
orders_matter

# %% [markdown]
# The mean does not care: it is the control for *context without place*. Attention knows places by rotary embedding, the
# convolution by its kernel, the scans by their order. A gain that the mean has, too, is not due to a scan.
#
# ## 7. What a token costs
#
# Counted operations of one block on one sequence, 32 channels. (S4D's FFT is not counted, so its row is its projections alone.)

# %%
sides = (8, 16) if settings.name == "smoke" else (8, 16, 32, 64)


def operations(mixer, side):
    with torch.device("meta"):
        layer = PiM(32, (side, side), mixer=mixer)
    return int(describe(layer, (side, side), 32)["flops"].sum()) / side**2


counted = pd.DataFrame({m: [operations(m, s) for s in sides] for m in MIXERS})
counted.index = pd.Index([s**2 for s in sides], name="tokens of the sequence")
assert counted["bim"].nunique() == 1 and counted["attention"].is_monotonic_increasing
(counted / 1000).round(1).rename(columns=lambda c: f"{c} (k)")

# %% [markdown]
# Only attention's cost of a token grows with the sequence. Operations are not seconds: products of matrices run near a
# processor's peak, scans and FFTs do not. The same blocks, timed here, forward and backward:

# %%
timed = mixer_table(sides=sides[:3], repeats=settings.repeats)
per_token = timed.assign(us=1e6 / timed["tokens/s"]).pivot(
    index="tokens", columns="mixer", values="us"
)
plot_lines(
    per_token,
    "tokens of the sequence",
    "µs a token,\nforward and backward",
    ticks=per_token.index,
    **costs,
)

# %% [markdown]
# Read ratios, and those to a factor of two: another program on this machine moves them. `bim` and `mingru` run on the kit's fused
# kernels, the others are plain torch. `lkm bench mixers` measures longer sequences and the memory kept for the backward pass;
# [its table](../docs/scans.md#mixers) is in the documentation.
#
# ## 8. Networks, and the study
#
# The choices are arguments of every LKM-UNet, and may differ from stage to stage:

# %%
network = build_network(
    "lkm-unet/tiny-2d",
    input_channels=1,
    num_classes=3,
    windows=[24, 24, 12, 12],
    partition=["snake", "snake", "hilbert", "hilbert"],
    mixer=["bim", "bim", "mamba2", None],
)
describe(network, 96)[["window", "sequences", "tokens", "parameters", "mixer_flops"]]

# %% [markdown]
# Some combinations stand for published designs. "-like" is meant: they read their maps as those papers do, and are not the
# papers' networks.
#
# | name | reads as | how it differs from the paper's network |
# |---|---|---|
# | `umamba-enc/tiny-2d` | U-Mamba: whole maps, row by row, forward | size alone |
# | `vm-unet-like/tiny-2d` | VM-UNet: whole maps, cross-scan at each stage of the encoder | residual convolutions beside the scans, where VM-UNet has a depth-wise one in front of each. No patches of 4×4 pixels. Its decoder scans, this one convolves. Each of the four Mambas has a projection in of its own |
# | `segmamba-like/tiny-3d` | SegMamba: whole volumes forward, backward and through the slices | the kit's residual encoder and decoder for its 7×7×7 stem, gated convolutions, MLPs and UNETR blocks; each Mamba has a projection in of its own |
# | `lkm-unet/tiny-2d` | LKM-UNet's text: windows, and PaM | size alone |

# %%
images = {
    "umamba-enc/tiny-2d": 96,
    "vm-unet-like/tiny-2d": 96,
    "lkm-unet/tiny-2d": 96,
    "segmamba-like/tiny-3d": (32, 64, 64),
}
rows = {}
for name, image_size in images.items():
    with torch.device("meta"):
        stages = describe(
            build_network(name, input_channels=1, num_classes=3), image_size
        )
    rows[name] = {
        "tokens of the longest sequence": stages["tokens"].max(),
        "parameters": stages["parameters"].sum(),
        "in scans (%)": 100 * stages["mixer_flops"].sum() / stages["flops"].sum(),
    }
whole = {"tokens of the longest sequence": int, "parameters": int}
pd.DataFrame(rows).T.astype(whole).round(1)

# %% [markdown]
# The study `scans` asks the field's question at small scale: **does the order matter, does selection matter, or the window?** Its arms
# are one mixer in several orders, and several mixers in one order. PiM stands alone in them, so that nothing but the scan carries
# from pixel to pixel. Two controls have no Mamba. One of them is wider: as large as the whole LKM-UNet, and so 39 % larger than `rows`. Slices, batches and seeds are the same.

# %%
study = scans(settings)
rows = []
for arm in study.arms:
    with torch.device("meta"):
        how = {"input_channels": 1, "num_classes": 3, **arm.overrides}
        net = build_network(arm.network, **how)
    rows.append((arm.name, arm.title, sum(q.numel() for q in net.parameters())))
print(study.question)
pd.DataFrame(rows, columns=["arm", "what it is", "parameters"]).set_index("arm")

# %% [markdown]
# **Predict** before you read on: which arms will be within one standard deviation of `rows`? Is `mean` among them?
#
# Here is an answer on patients: MSD Task04 Hippocampus, 80 test cases of 51 people whom no training saw (as inferred in [chapter 16](16_your_own_data.ipynb)).
# 600 steps at a rate of 0.01, five seeds ([commands](../docs/studies.md#8-the-reference-results)). `difference` is against the network without Mamba.


# %%
def table_of(found):
    shown = ["seeds", "DSC", "DSC sd", "difference", "low", "high"]
    shown += ["p_holm", "detectable"]
    corrected = [p_text(p) for p in found.table["p_holm"]]
    return found.table.set_index("title")[shown].round(2).assign(p_holm=corrected)


reference = reference_results("scans", data="hippocampus")
display(table_of(reference))
Image(reference.picture, width=900)

# %% [markdown]
# No order and no mixer is shown to differ from the network without Mamba, nor from `rows`
# ([report](../figures/studies/scans-laptop-hippocampus/report.md)). The intervals of minGRU and of the wider network leave zero out.
# Among 31 comparisons that is expected now and then, and `p_holm` is for all of them together. And *not shown* is not *equal*: `detectable` says how large a difference would have to be. What makes the
# intervals so long? Look at the seeds, one by one:

# %%
by_seed = reference.per_case.groupby(["arm", "seed"])["DSC"].mean().unstack("seed")
by_seed = 100 * by_seed.loc[reference.table.index].set_index(reference.table["title"])
low = by_seed[1] - by_seed.drop(columns=1).mean(axis=1)
history = pd.read_csv(reference.folder / "history.csv").set_index(["arm", "seed"])
lowest = {}
for step in (50, 100, 150, 200, 400, 600):
    scores = history.query("step == @step")["DSC"].unstack("seed")
    lowest[f"validation, step {step}"] = scores.idxmin(axis=1).value_counts()
lowest["test cases"] = by_seed.idxmin(axis=1).value_counts()
print(f"how many of {len(by_seed)} arms are lowest with a seed:")
lowest = pd.DataFrame(lowest).T.reindex(columns=by_seed.columns)
display(lowest.fillna(0).astype(int))
mean_falls = low.filter(like="mean").item()
print(f"seed 1 costs the window's mean {-mean_falls:.1f} points of DSC")
by_seed.assign(**{"seed 1 minus the others": low}).round(2)

# %% [markdown]
# Seed 3 starts latest, and catches up. Seed 1 falls behind between steps 100 and 150, and most arms end lowest with it. Why, we have
# not found. The mean over a window falls behind, too. It has no order and selects nothing, so the scan cannot be
# the whole cause. Orders that are read both ways suffer alike, so that their intervals against `rows` are shorter than against the
# network without a block.
#
# **What do they see?** Gradients of the trained networks, at the middle of a window
# ([chapter 11](11_effective_receptive_field.ipynb) explains such maps, and frozen and live statistics):
#
# ![Receptive fields of PiM in several orders and with several mixers, frozen and live](../figures/erf_scans_trained.png)
#
# ![Receptive fields of PiM in further orders and with further mixers, frozen and live](../figures/erf_more_scans_trained.png)
#
# Frozen, the grid and the window's mean spread 90 % of the mass over nearly half of the image. Rows spread it over a
# quarter, and so does the network without a block. Live, as the networks are used, all cover more than half
# ([numbers](../docs/scans.md#what-the-trained-networks-see)). Width and score are not related here: over 16 networks the rank
# correlation is near zero, frozen and live.
#
# **And how far do they look, when looking far is all that helps?** In the cue task of chapter 11 every pixel has to
# tell the sign of one far square. The networks have two stages, and a window is 12 pixels wide. Predict: which
# two arms look farther than their window?

# %%
looks = pd.read_csv(reference.folder.with_name("functional-scans-laptop") / "reach.csv")
looks = looks.query("cue == 'anywhere'").set_index("arm")
display(looks[["reach", "low", "high", "possible", "seeds"]].round(1))
table_of(reference_results("scans", data="cohort"))

# %% [markdown]
# The second table is the same study on deformed copies of one patient (CT, six organs, [commands](../docs/studies.md#8-the-reference-results)).
# Four differences are shown there. The wider network leads the control, and the dilated grid is behind it. Hilbert's curve and attention
# are half a point behind `rows`. So on one patient an order can cost a little; on many none is shown to.
# As on patients the convolution and S4D have higher means than `rows`.
#
# `reach` is the distance in pixels up to which three quarters of the answers are right. It is the mean of the seeds, and `low` to
# `high` is their range. `possible` is what the theoretical receptive field would allow
# ([report](../figures/studies/functional-scans-laptop/report.md)). The grid's sequences span the image, and `local` reads window after
# window in one sequence. All others stop at their window, as they must, and use nearly all of it. Reading forward only
# loses what comes later. No order inside a window and no mixer looks farther than another.
#
# Two papers asked parts of the question at full scale, and an answer has to stand beside theirs.
# [arXiv 2503.19308](https://arxiv.org/abs/2503.19308) finds (in our words) that simple scans often suffice and that three axes
# help in the hardest cases. [arXiv 2503.01306](https://arxiv.org/abs/2503.01306) trains Mamba, Transformer and CNN alike inside nnU-Net.
#
# On your own data: `lkm study scans --profile laptop --seeds 5 --data FOLDER`.
#
# ## 9. Explore
#
# Order, mixer, window and pixel, each on its own. The block is untrained; *random start* makes another one. Try `shuffled` with `mean`;
# `local` both ways and forward alone; `dilated` with a window of 12; `attention` with `local`, and read what is said.

# %%
explorer = ScanExplorer((24, 24), window=8)
began = time.perf_counter()
explorer.order.value, explorer.mixer.value = "hilbert", "s4d"
print(f"two new blocks, their fields and pictures: {time.perf_counter() - began:.1f} s")
explorer

# %% [markdown]
# The same as a picture and a row, for readers on paper:

# %%
explorer.figure

# %%
explorer.table

# %% [markdown]
# ## Exercises
#
# **1. A snake** (★, 5 minutes). The numbers of a map's pixels, row by row, every second row from right to left.


# %%
def snake(height, width):
    """Returns (height · width) pixel numbers in the order of the walk."""
    ### BEGIN SOLUTION
    numbers = torch.arange(height * width).reshape(height, width)
    numbers[1::2] = numbers[1::2].flip(1)
    return numbers.flatten()
    ### END SOLUTION


# %%
check_snake(snake)

# %% [markdown]
# **2. Cross-scan in five lines** (★★, 10 minutes). `scan` reads tokens (channels, length) from the first to the last. Read a map
# along rows and along columns, both ways, and add the four results where their pixels lie. (VMamba has four scans; one for all will
# do.)


# %%
def cross_scan(x, scan):
    """(channels, H, W) → (channels, H, W)."""
    ### BEGIN SOLUTION
    total = torch.zeros_like(x)
    for m, out in ((x, total), (x.mT, total.mT)):  # out is a view of total
        tokens = m.flatten(1)
        out += (scan(tokens) + scan(tokens.flip(1)).flip(1)).reshape(m.shape)
    return total
    ### END SOLUTION


# %%
check_cross_scan(cross_scan)

# %% [markdown]
# **3. Never joined** (★★, 10 minutes). Dilated grids of several strides follow each other, all on one map whose side they
# divide, as often as you like. Mark the pixels from which nothing ever reaches `(row, column)`. Predict the picture for
# strides 4 and 6 first.


# %%
def never_joined(size, strides, row, column):
    """strides: one whole number for each layer. Returns a boolean map (size, size)."""
    ### BEGIN SOLUTION
    step = math.gcd(*strides)
    index = torch.arange(size)
    other_row, other_column = (index - row) % step != 0, (index - column) % step != 0
    return other_row[:, None] | other_column
    ### END SOLUTION


# %%
check_never_joined(never_joined)

# %% [markdown]
# **4. Mamba-2 as attention** (★★, 10 minutes). Turn the recurrence of section 5 into one product: a mask, $C B^\top$, and what
# enters. No loop.


# %%
def ssd_attention(x, delta, A, B, C):
    """x (l, p), delta (l,), A a number, B and C (l, n) → y (l, p)."""
    ### BEGIN SOLUTION
    time = (A * delta).cumsum(0)
    mask = torch.exp(time[:, None] - time).tril()
    return (mask * (C @ B.T)) @ (delta[:, None] * x)
    ### END SOLUTION


# %%
check_ssd_attention(ssd_attention)

# %% [markdown]
# **Open question.** A paper reports that its scan order gains 0.4 DSC over a raster scan, in one training each. Write down the arms,
# the controls and the number of seeds with which you would ask that again. What would you conclude if `shuffled` gained as much,
# and what if `mean` did?
#
# ## Summary
#
# | what we measured | what the papers say | what is still open |
# |---|---|---|
# | an order's table is the exact receptive field of one block: its sequence, or forward what came before | several papers name their order as a reason for their scores | whether an order matters after training: section 8 shows no difference on patients and two on one patient, of half a point; it would have shown no small one |
# | a snake and Hilbert's curve bring neighbours no nearer than rows; Hilbert's curve keeps what is near in the sequence near in the image | continuity helps a scan | – |
# | at the start a block is the seven taps of its convolutions, laid along the order; after training fields differ with frozen statistics, hardly with live ones | – | whether a wide field helps: in section 8 width and score are unrelated |
# | grids of stride $k$ join no neighbours, however many | large kernels see locally (LKM-UNet's text) | – |
# | with fixed parameters the weights do not depend on the tokens; with selection they do | selection is what Mamba adds to S4 | whether segmentation needs it |
# | SSD's chunks give the recurrence's numbers; counted work grows with the chunk | Mamba-2 is faster on GPUs | – |
# | attention's cost of a token grows with the sequence, the others' does not | linear cost | at which window it starts to matter |
#
# ## Further reading
#
# * Y. Liu et al., [VMamba](https://arxiv.org/abs/2401.10166): cross-scan; J. Ruan et al., [VM-UNet](https://arxiv.org/abs/2402.02491):
#   a segmentation network of it.
# * Z. Xing et al., [SegMamba](https://arxiv.org/abs/2401.13560): three orientations of a volume. T. Huang et al.,
#   [LocalMamba](https://arxiv.org/abs/2403.09338): windows one after the other.
# * C. Yang et al., [PlainMamba](https://arxiv.org/abs/2403.17695): snakes. X. Pei et al.,
#   [EfficientVMamba](https://arxiv.org/abs/2403.09977): atrous scans.
# * T. Dao and A. Gu, [Transformers are SSMs](https://arxiv.org/abs/2405.21060): Mamba-2 and the duality of section 5.
# * A. Gu et al., [On the Parameterization and Initialization of Diagonal State Space Models](https://arxiv.org/abs/2206.11893): S4D.
# * L. Feng et al., [Were RNNs All We Needed?](https://arxiv.org/abs/2410.01201): minGRU.
# * The kit's page on [orders, mixers and designs](../docs/scans.md), with sources and deviations of each.
