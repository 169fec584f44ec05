# %% [markdown]
# # 05 · Patch-level SSM: how windows talk to each other
#
# *15 minutes to read, 35 for the exercises, under a minute to run.* Before: [04_pixel_level_ssm](04_pixel_level_ssm.ipynb).
# After: [06_lkm_unet](06_lkm_unet.ipynb).
#
# **Goals.** After this chapter you can
# * write PaM: pool, scan, unpool, add;
# * say what PiM cannot do however many of it you stack, and measure what PaM adds;
# * see the seams that windows and patches leave in a map, and put a number on them;
# * count what a patch saves, against pixels and against self-attention.
#
# | symbol | meaning | shape here |
# |---|---|---|
# | $F$ | feature map | (batch, channels, H, W) |
# | $m$ | side of a patch in pixels (`pool`); the paper takes PiM's window, $m = k$ | a number |
# | Pool, Unpool | patch → its mean; mean → copied over its patch | – |
# | $F'$ | $\mathrm{Unpool}(\mathrm{BiM}(\mathrm{Pool}(F))) + F$, the paper's Eq. 6 | as $F$ |
#
# **The paper's claim** (Section 3.2, in our words). Windows see nothing of each other. So pool every window to one
# representative, let the SSM run over all representatives, and put the result back on the windows' pixels. Windows then
# exchange information at the price of a short sequence.

# %%
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from lkm_kit.bench.growth import Attention
from lkm_kit.bench.timing import medians
from lkm_kit.blocks import BiM, LMBlock, PaM, PiM, to_map, to_tokens
from lkm_kit.course import (
    check_attention_cost,
    check_pam,
    check_reached,
    check_way,
    keep,
    kept,
)
from lkm_kit.erf import Probe, erf, measures, support
from lkm_kit.errors import KitError
from lkm_kit.networks import build_network, describe
from lkm_kit.plots.erf import erf_grid
from lkm_kit.plots.lines import MARKED, plot_lines
from lkm_kit.plots.maps import plot_maps
from lkm_kit.plots.style import use_style
from lkm_kit.profiles import profile
from lkm_kit.widgets.erf_explorer import ErfExplorer

use_style()
torch.manual_seed(0)
settings = profile()
print("profile:", settings.name)

# %% [markdown]
# ## 1. What PiM cannot do
#
# Two pixels on the two sides of a border never meet in PiM. Stacking does not help, because the windows stand still.
# The **theoretical receptive field** shows it: the set of input pixels that have any path to an output pixel. One
# finds it with a NaN. Give the output pixel the gradient NaN and go backward. Whatever lies on a path gets NaN,
# because NaN times anything is NaN, even NaN · 0. An ordinary gradient would not do: a scan that forgets can make it
# so small that it is rounded to 0. (A ReLU that is off for this image stops a NaN, too: PyTorch writes 0 there and
# does not multiply. PiM and PaM have none.) In five lines:
#
#     x = image.clone().requires_grad_()
#     seed = torch.zeros_like(x)
#     seed[0, :, 11, 12] = float("nan")      # the output pixel that is asked
#     layer(x).backward(seed)
#     seen = x.grad[0].isnan().any(0)        # the pixels with a path to it
#
# `support` does that for any network. A `Probe` names the output pixel that is asked:

# %%
side, window = 24, 8
image = torch.randn(1, 8, side, side)
probe = Probe(position=(11, 12), window=window)
for n in (1, 2, 4):
    stacked = torch.nn.Sequential(*[PiM(8, window) for _ in range(n)])
    print(
        f"{n} PiM: {int(support(stacked, image, probe).sum())} pixels"
        " have a path to (11, 12)"
    )

# %% [markdown]
# (Swin Transformers meet the same wall and shift every second layer's windows. LKM-UNet does not; its convolutions carry
# a little across, and PaM the rest.)
#
# ## 2. PaM by hand
#
# *Why pool?* A scan over all pixels of the map would connect the windows, too, but its sequences would be as long as the
# map. One mean per window keeps them short.
#
# ![A map through PiM, Pool, PaM and Unpool](../figures/lm_block.png)
#
# Pool:


# %%
def pool_by_hand(x, m):
    """(1, c, H, W) → (1, patches, c): the mean of every patch, row by row."""
    return torch.stack(
        [
            x[0, :, i : i + m, j : j + m].mean((1, 2))
            for i in range(0, x.shape[2], m)
            for j in range(0, x.shape[3], m)
        ]
    )[None]


# %%
m = 4
pooled = F.avg_pool2d(image, m)  # (1, c, H/m, W/m): the library's way
torch.testing.assert_close(pool_by_hand(image, m), to_tokens(pooled, pooled.shape[2:]))
print(f"{side}×{side} pixels → {pool_by_hand(image, m).shape[1]} representatives")

# %% [markdown]
# Scan, copy back, add:


# %%
def pam_by_hand(x, bim, m):
    tokens = bim(pool_by_hand(x, m))
    coarse = tokens.mT.reshape(1, -1, x.shape[2] // m, x.shape[3] // m)
    return x + coarse.repeat_interleave(m, 2).repeat_interleave(m, 3)


def pam_in_one_call(x, bim, m):
    coarse = F.avg_pool2d(x, m)
    whole = coarse.shape[2:]  # one window as large as the map
    mixed = to_map(bim(to_tokens(coarse, whole)), coarse.shape, whole)
    # mode="nearest" misses pixels for some m
    return x + F.interpolate(mixed, size=x.shape[2:], mode="nearest-exact")


# %%
pam = PaM(channels=8, pool=m)
with torch.no_grad():
    torch.testing.assert_close(
        pam_by_hand(image, pam.bim, m), pam(image), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        pam_in_one_call(image, pam.bim, m), pam(image), atol=1e-5, rtol=1e-4
    )
print(
    "by hand = in one call = the library's PaM;",
    int(support(pam, image, probe).sum()),
    "pixels have a path",
)

# %% [markdown]
# The paper says neither how to pool nor how to unpool; mean and copy are the released code's. What does a mean keep?
# A line through a patch becomes a faint grey, wherever in the patch it ran:

# %%
lines = torch.zeros(3, 1, 4, 4)
lines[0, 0, 1], lines[1, 0, :, 2], lines[2, 0, 3, 3] = 1.0, 1.0, 4.0
print(
    "a row, a column, one bright pixel → representatives",
    F.avg_pool2d(lines, 4).flatten().tolist(),
)

# %% [markdown]
# So PaM tells a window *how much* there is elsewhere, not where exactly. PiM comes first in the LM block for that reason:
# it may gather what matters before the mean is taken.
#
# ## 3. The LM block
#
# PiM, then PaM. What one output pixel hears, in the middle of its window and at its corner. `erf` is the instrument of
# chapter 03 as a map, the **effective receptive field**. It is the size of the gradient of that output with respect
# to every input pixel. It is scaled so that the whole map, its *mass*, adds up to 1.
# `Probe(position="window:center", window=8)` asks the middle pixel of one of the windows of 8, `"window:corner"` one
# of its corner pixels. In the figure, a ring marks the pixel that is asked, dashes PiM's window around it, and white
# means: no path at all. PaM gets patches of half the window here, so that one can tell them apart.
#
# The table below has three numbers for each map. `own_pixel` is the share of the mass on the pixel that is asked,
# `locality` the share of the *rest* that lies inside its window. `area_90` is the smallest share of the image that
# holds 90 % of the mass.

# %%
torch.manual_seed(1)
blocks = {
    "PiM": PiM(8, window),
    "PaM": PaM(8, m),
    "LM block: PiM, then PaM": LMBlock(8, window, pool=m),
    "PaM, then PiM": torch.nn.Sequential(PaM(8, m), PiM(8, window)),
}
middle, corner = (
    Probe(position=f"window:{where}", window=window) for where in ("center", "corner")
)
rows = {
    where: {name: erf(block, image, p) for name, block in blocks.items()}
    for where, p in {"mid-window": middle, "corner": corner}.items()
}
erf_grid(rows, curves=False)

# %%
table = measures(
    {f"{name}, {where}": m for where, maps in rows.items() for name, m in maps.items()}
)
table[["own_pixel", "locality", "area_90"]].round(3)

# %% [markdown]
# Ask other pixels: click, or move row and column. Where does PaM's share of a pixel's own patch end, and what changes
# when you cross a border of PiM's windows?

# %%
ErfExplorer(blocks, image, windows={"logit": window})

# %% [markdown]
# Both orders see the whole map, and they are different layers: in the paper's order a pixel receives other windows'
# *gathered* content in coarse blocks. In the other order PaM's blocks come first, and the scan that follows reads
# them together with the window's own pixels. It can weigh what came from outside pixel by pixel.
#
# ## 4. Seams
#
# PaM gives all pixels of a patch the same message. Feed it a smooth map: where does the output jump?

# %%
size = 32
row, column = torch.meshgrid(
    torch.linspace(0, 3, size), torch.linspace(0, 3, size), indexing="ij"
)
smooth = torch.stack([(row + k * column / 4).sin() for k in range(8)])[None]
torch.manual_seed(0)
with torch.no_grad():
    changes = {f"PaM, patches of {m}": PaM(8, m)(smooth) - smooth for m in (2, 8)}
    changes["PiM, windows of 8"] = PiM(8, 8)(smooth) - smooth


def roughness(change):
    """Mean jump between neighbours in a row, at every column border: (columns - 1,)."""
    return change.diff(dim=3).abs().mean((0, 1, 2))


plot_maps(
    {name: change[0].abs().mean(0).numpy() for name, change in changes.items()},
    "change (mean over channels)",
)

# %%
found = {}
for name, change in changes.items():
    jumps, k = roughness(change), int(name.split()[-1])
    at_border = torch.arange(1, size) % k == 0
    found[name] = {
        "jump across a border": jumps[at_border].mean().item(),
        "elsewhere": jumps[~at_border].mean().item(),
    }
seams = pd.DataFrame(found).T
assert (seams["elsewhere"].iloc[:2] < 1e-6).all()  # inside a patch PaM is constant
seams.round(5)

# %% [markdown]
# (PiM's first column is dark because of the input, which we made up. At column 0 all eight channels are equal, so
# LayerNorm turns that pixel into zeros, and Mamba's gate closes.)
#
# PaM jumps *only* at borders; its change is a staircase. PiM's change is rough everywhere, and rougher still
# where one window ends and the next begins. The 3×3 convolutions that follow in the network can smooth this; whether they
# do after training, no table of the paper says.
#
# ## 5. What it costs
#
# Tokens per sequence, stage by stage, in the paper's network:

# %%
with torch.device("meta"):  # counting needs no memory
    paper = build_network("lkm-unet/paper-2d", input_channels=1, num_classes=14)
    released = build_network("lkm-unet/released-2d", input_channels=1, num_classes=14)
stages = {
    name: describe(net, (320, 320))
    for name, net in {"paper": paper, "released": released}.items()
}
columns = [
    c
    for c in stages["paper"].columns
    if "tokens" in c or c in ("map", "window", "pool")
]
pd.concat({name: t[columns] for name, t in stages.items()}, axis=1)

# %% [markdown]
# > **Paper ≠ code.** In the paper PaM pools PiM's window, 40×40 pixels, and reads 64 representatives. The released code pools
# > 8×8 at the first stage and not at all in the last two, and reads 1600: there the *patch* level has the long sequence.
#
# Would one need an SSM for 64 tokens? Self-attention's cost is quadratic, but in few tokens. Measured, forward, one
# sequence:

# %%
lengths = [64, 256] if settings.name == "smoke" else [64, 256, 1024]
runs = {}
for length in lengths:
    tokens = torch.randn(1, length, 32)
    runs["BiM", length] = partial(BiM(32), tokens)
    runs["self-attention", length] = partial(Attention(32), tokens)
threads = torch.get_num_threads()
torch.set_num_threads(1)  # tokens this few lose more by sharing work than they gain
with torch.no_grad():
    times = 1e3 * pd.Series(medians(runs, 2 * settings.repeats)).unstack(0)
torch.set_num_threads(threads)
print(times.round(1).rename_axis("tokens").add_suffix(" (ms)"))
plot_lines(
    times,
    "tokens in the sequence",
    "forward, 32 channels (ms)",
    looks=MARKED,
    log="xy",
    ticks=times.index,
    beside=True,
)

# %% [markdown]
# Where the lines cross depends on the machine, and times this short are noisy. BiM's has a share that does not depend on
# the length: the calls of PyTorch around its scans. At 64 representatives attention is cheap. The paper has no arm
# with attention in PaM's place: that there is an SSM at the patch level is a choice its tables do not test.
#
# Sizes that do not fit are an error here, as in chapter 04 (the released code silently leaves the pooling out):

# %%
try:
    PaM(8, pool=5)(image)
except KitError as error:
    print(error)

# %% [markdown]
# ## Exercises
#
# **1. Predict, then run** (★★, 10 minutes). One pixel of a `size`×`size` map is changed. At how many pixels does the
# *output* change? Through PiM with windows of side `k`; through PaM with patches of side `k` and a forward scan only;
# through PaM. And last, a trap: through PaM, where `(row, column)` gains 1 and its right neighbour in the same patch
# loses 1.


# %%
def pixels_reached(size, k, row, column):
    """Four whole numbers: PiM; PaM, forward only; PaM; PaM, where a pair changes."""
    ### BEGIN SOLUTION
    per_row = size // k
    before = row // k * per_row + column // k  # patches that have been read already
    return k * k, (per_row**2 - before) * k * k, size * size, 2
    ### END SOLUTION


# %%
check_reached(pixels_reached)

# %% [markdown]
# Measured, on the map of section 1. In 64 bits, because a change may be far smaller than what 32 bits round away. (The
# change is made in one channel. Added to all of them alike, LayerNorm would remove it.)


# %%
def count_changes(layer, changes):
    """Pixels of the output that change when channel 0 of some pixels does."""
    changed = image.double()
    for row, column, by in changes:
        changed[0, 0, row, column] += by
    with torch.no_grad():
        difference = layer.double()(changed) - layer(image.double())
    return int((difference.abs().amax((0, 1)) > 1e-12).sum())


at, pair = [(11, 12, 1.0)], [(11, 12, 1.0), (11, 13, -1.0)]
forward_only = PaM(8, window, bidirectional=False)
tried = [
    (PiM(8, window), at),
    (forward_only, at),
    (PaM(8, window), at),
    (PaM(8, window), pair),
]
print("pixels that change:", [count_changes(*one) for one in tried])

# %% [markdown]
# **2. PaM out of your own parts** (★★, 15 minutes). A module with your BiM of chapter 03 in `bim` (the library's, if you
# kept none). It must take maps *and* volumes, so nothing may count on two axes.

# %%
MyBiM = kept("MyBiM", BiM)


# %%
class MyPaM(nn.Module):
    """(batch, channels, H, W) or (batch, channels, D, H, W) → same; pool: a number."""

    def __init__(self, channels, pool):
        super().__init__()
        ### BEGIN SOLUTION
        self.pool, self.bim = pool, MyBiM(channels)
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        average = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
        coarse = average(x, self.pool)
        mixed = self.bim(coarse.flatten(2).mT).mT.reshape(coarse.shape)
        return x + F.interpolate(mixed, size=x.shape[2:], mode="nearest-exact")
        ### END SOLUTION


# %%
check_pam(MyPaM)

# %%
keep(MyPaM, check_pam)

# %% [markdown]
# **3. How many blocks?** (★, 5 minutes). After how many LM blocks *can* pixel `a` have reached pixel `b`? `pam` says
# whether the blocks have a PaM. No convolutions; `math.inf` (or `float("inf")`) for never. (The surprise is how few
# different answers there are.)


# %%
def blocks_needed(size, window, a, b, pam):
    """size: (H, W); a, b: (row, column). Returns 1, 2, ... or inf."""
    ### BEGIN SOLUTION
    same_window = all(p // window == q // window for p, q in zip(a, b))
    return 1 if pam or same_window else float("inf")
    ### END SOLUTION


# %%
check_way(blocks_needed)

# %% [markdown]
# **4. Pairs** (★, 5 minutes). Self-attention compares every token with every one. How many times more pairs are there
# among all pixels of a `side`×`side` map than among its representatives?


# %%
def saving(side, pool):
    """Returns a whole number; pool divides side."""
    ### BEGIN SOLUTION
    return side**4 // (side // pool) ** 4
    ### END SOLUTION


# %%
check_attention_cost(saving)

# %% [markdown]
# **Open question.** PaM's message is the same for all pixels of a patch. Design an unpooling that tells them apart
# without a longer sequence. What would you train to see whether it is worth its parameters?
#
# ## Summary
#
# | what we measured | what the paper says | what is still open |
# |---|---|---|
# | PiM alone never crosses a border, stacked or not; one PaM connects every pixel with every other | PaM lets sub-kernels communicate | how much of what organs need crosses borders: [chapter 10](10_table3_ablation.ipynb) |
# | PaM's change is constant on each patch and jumps at its borders | – | whether the convolutions behind it smooth that after training |
# | per axis, the released code pools 5 times less than the window, and not at all in the last two stages | one representative a window | which of the two Table 3 used |
# | 64 representatives are few enough for attention | "superior efficiency in global modeling" (abstract) | attention at the patch level as an arm |
#
# ## Further reading
#
# * Z. Liu et al., [Swin Transformer](https://arxiv.org/abs/2103.14030): the other way across a border, shifted
#   windows.
# * J. Hu, L. Shen, G. Sun, [Squeeze-and-Excitation](https://arxiv.org/abs/1709.01507): what a mean over a map can
#   tell its pixels.
# * W. Luo et al., [Understanding the Effective Receptive Field](https://arxiv.org/abs/1701.04128): what can be
#   reached, and what is.
# * A. Odena, V. Dumoulin, C. Olah, [Deconvolution and Checkerboard
#   Artifacts](https://distill.pub/2016/deconv-checkerboard/): another seam that an upsampling leaves.
