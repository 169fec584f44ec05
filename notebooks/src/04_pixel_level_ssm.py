# %% [markdown]
# # 04 · Pixel-level SSM: an image as a sequence
#
# *25 minutes to read, 45 for the exercises, under a minute to run.* Before:
# [03_bidirectional_mamba](03_bidirectional_mamba.ipynb). After: [05_patch_level_ssm](05_patch_level_ssm.ipynb).
#
# **Goals.** After this chapter you can
# * turn a feature map into token sequences in four ways, and draw the order in which each is read;
# * measure what an order does to neighbours: how far apart in the sequence, and whether they meet at all;
# * write PiM, and say what a window costs and what it does not;
# * predict which maps a window fits, and what happens to the others here and in the released code.
#
# | symbol | meaning | shape here |
# |---|---|---|
# | $F$ | feature map | (batch, channels, H, W) or (batch, channels, D, H, W) |
# | $k$ | side of a window in pixels (the paper's "kernel size") | one number, or one per axis |
# | $L$ | tokens in one sequence | $k^2$ for a square window |
#
# **The paper's claim.** From the abstract: "A distinguishing feature of our LKM-UNet is its utilization of large Mamba
# kernels, excelling in locally spatial modeling compared to small kernel-based CNNs and Transformers". Section 3.2 says
# how. PiM cuts the map into windows of up to 40×40 pixels that do not overlap, its sub-kernels (in our words). And
# "when these sub-kernels are sent into a Mamba layer, the local adjacent pixels will be input continuously into SSM."

# %%
import math
from functools import partial

import pandas as pd
import torch
from torch import nn

from lkm_kit.bench.timing import medians
from lkm_kit.blocks import BiM, PiM, to_map, to_tokens
from lkm_kit.course import (
    check_cut_windows,
    check_mates,
    check_pim,
    check_place_in_window,
    check_tokens_apart,
    keep,
    kept,
)
from lkm_kit.errors import KitError
from lkm_kit.plots.lines import MARKED, plot_lines
from lkm_kit.plots.maps import plot_maps
from lkm_kit.plots.networks import plot_token_orders
from lkm_kit.plots.sequences import distances
from lkm_kit.plots.style import use_style
from lkm_kit.profiles import profile
from lkm_kit.widgets.mates import MatesExplorer
from lkm_kit.widgets.token_order import TokenOrderExplorer, animation, token_places

use_style()
torch.manual_seed(0)
settings = profile()
print("profile:", settings.name)

# %% [markdown]
# ## 1. The whole map, row by row
#
# Text comes as a sequence, an image does not. The simplest order is that of the pixels in memory, the *raster*: first
# row, second row, … It is one sequence over the whole map. U-Mamba, for one, reads it like that. A map whose pixels
# are their own numbers shows what it does to neighbours:

# %%
size = 12
numbers = torch.arange(size * size).reshape(
    1, 1, size, size
)  # every pixel is its own number
raster = numbers.flatten(2).mT  # (1, H·W, 1): one sequence over the whole map
assert torch.equal(
    raster, to_tokens(numbers, size)
)  # a single window as large as the map
row, column = 5, 6
here = numbers[0, 0, row, column].item()
for name, (i, j) in {"right": (row, column + 1), "below": (row + 1, column)}.items():
    print(f"the pixel {name} is {numbers[0, 0, i, j].item() - here} tokens away")

# %% [markdown]
# The neighbour below is a whole row away: 12 tokens here, 320 at the paper's first stage. And the last pixel of a row
# is followed at once by the first of the next. In the image that one is at the other side.
#
# ## 2. Windows, grids and counts
#
# ![Three readings of one number k: windows, a dilated grid, a count of windows](../figures/readings_of_k.png)
#
# The paper cuts the map into windows of $k\times k$ neighbours, a sequence each. The released code cuts it into *dilated
# grids*: every $k$-th pixel of the whole map is a sequence. And the authors told a reader that the number *counts* the
# windows along an axis. Three readings of one number, each in two lines:


# %%
def windows_by_hand(x, k):
    """Contiguous: (1, 1, H, W) → (windows, k·k)."""
    corners = [(i, j) for i in range(0, x.shape[2], k) for j in range(0, x.shape[3], k)]
    return torch.stack([x[0, 0, i : i + k, j : j + k].flatten() for i, j in corners])


def grids_by_hand(x, k):
    """Dilated: (1, 1, H, W) → (k·k grids, tokens)."""
    return torch.stack(
        [x[0, 0, i::k, j::k].flatten() for i in range(k) for j in range(k)]
    )


# %%
k = 4
assert torch.equal(
    windows_by_hand(numbers, k), to_tokens(numbers, k, "contiguous")[..., 0]
)
assert torch.equal(grids_by_hand(numbers, k), to_tokens(numbers, k, "dilated")[..., 0])
assert torch.equal(
    windows_by_hand(numbers, size // k), to_tokens(numbers, k, "count")[..., 0]
)
cuts = {
    "raster: the whole map": (size, "contiguous"),
    "paper: windows of side 4": (k, "contiguous"),
    "released code: stride 4": (k, "dilated"),
    "authors' answer: 4 per axis": (k, "count"),
}
for name, cut in cuts.items():
    sequences, length, _ = to_tokens(numbers, *cut).shape
    print(f"{name:>28}: {sequences:2d} sequences of {length} tokens")

# %% [markdown]
# One colour is one sequence; the numbers follow the first one.

# %%
plot_token_orders(
    {name: token_places((size, size), *cut) for name, cut in list(cuts.items())[1:]}
)

# %% [markdown]
# The same as a walk: orange is the token being read, blue its sequence so far. (A still image? Then your viewer shows
# the first frame only; the explorer below works in a running notebook.)

# %%
walk = {
    "raster": (8, "contiguous"),
    "windows of 4": (4, "contiguous"),
    "stride 4": (4, "dilated"),
}
animation((8, 8), walk, every=8 if settings.name == "smoke" else 1)

# %%
TokenOrderExplorer((size, size), window=k)

# %% [markdown]
# The other way round: choose a pixel (click, or move the sliders). Who shares its sequence, how many tokens before or
# after it is each read, and how far away does it lie? Look for a direct neighbour that it never meets.

# %%
MatesExplorer((size, size), window=k)

# %% [markdown]
# In 3D a window is a box, and its slices are read one after the other. Here a volume of 4 slices of 8×8; move the step,
# or press play:

# %%
explorer = TokenOrderExplorer((4, 8, 8), window=4)
explorer.step.value = 21
print(
    f"token {explorer.token + 1} of sequence {explorer.number + 1}:"
    f" slice, row, column = {explorer.pixel}"
)
explorer

# %% [markdown]
# The same moment as a picture, for readers on paper: the first window's second slice has just been entered.

# %%
explorer.figure

# %% [markdown]
# ## 3. Distance in the image, distance in the sequence
#
# Now measure it. For a pair of pixels $r$ apart, along a row or down a column: are they in one sequence, and if so, how
# many tokens apart? `places` holds, for every pixel, the number of its sequence and its place there. Two copies of each
# map, shifted by $r$ along an axis, put the two pixels of every pair on top of each other.
# `narrow(axis, start, length)` cuts the copies out:


# %%
def pairs(places, r):
    """Share of pairs r pixels apart that meet in a sequence; how far apart there."""
    apart = []
    for axis in (0, 1):
        (first, a), (second, b) = (
            [m.narrow(axis, start, m.shape[axis] - r) for m in places]
            for start in (0, r)
        )
        apart.append(
            torch.where(first == second, (b - a).abs().double(), torch.nan).flatten()
        )
    apart = torch.cat(apart)
    return 1 - apart.isnan().double().mean().item(), apart.nanmean().item()


# %%
side, k = 32, 8
orders = {
    "raster": (side, "contiguous"),
    f"windows of {k}": (k, "contiguous"),
    f"dilated, stride {k}": (k, "dilated"),
    f"{k} windows per axis": (k, "count"),
}
radii = range(1, 17)
found = {
    name: [
        pairs([torch.from_numpy(m) for m in token_places((side, side), *cut)], r)
        for r in radii
    ]
    for name, cut in orders.items()
}
meeting, apart = (
    pd.DataFrame({n: [v[i] for v in f] for n, f in found.items()}, index=radii)
    for i in (0, 1)
)
distances(apart, meeting)

# %% [markdown]
# Left: distance in the sequence, on average over both directions; a point is missing where no pair meets. Right: how
# many pairs meet at all. (A pair *meets* when both pixels are in one sequence.) The raster lets all pairs meet, at the
# price of long ways. Windows shorten the way: a neighbour is $(1 + k)/2$ tokens away on average, not $(1 + W)/2$ with
# $W$ columns. They lose the pairs on both sides of a border: one in $k$ on a large map, here 3 of 31 along each axis.
# Windows by count are the same, here with a smaller side. The dilated grid does the opposite of what Section 3.2 of the
# paper says: direct neighbours *never* meet, and pixels 8 apart become neighbours.

# %%
assert meeting.loc[1, f"windows of {k}"] == 1 - (side // k - 1) / (side - 1)
assert (
    meeting.loc[1, f"dilated, stride {k}"] == 0
    and meeting.loc[k, f"dilated, stride {k}"] == 1
)
pd.DataFrame(
    {"pairs that meet (%)": 100 * meeting.loc[1], "tokens apart": apart.loc[1]}
).round(1)

# %% [markdown]
# Is a shorter way worth anything? At the start of training a Mamba's scan hardly takes in what lies more than three
# tokens back ([chapter 03](03_bidirectional_mamba.ipynb), section 2). A trained one may remember a whole window. The
# curve says what an order *asks* of the memory.
#
# ### In 3D
#
# The paper's 3D network reads boxes of 20×28×24 voxels out of maps of 40×224×192 at its first stage. How far is the
# next voxel along each axis?

# %%
volume = {"raster": (40, 224, 192), "windows": (20, 28, 24)}
rows = {
    name: [box[1] * box[2], box[2], 1, math.prod(box)] for name, box in volume.items()
}
columns = ["next slice", "next row", "next column", "tokens in the sequence"]
pd.DataFrame(rows, index=columns).T.rename_axis("tokens to the voxel in the ...")

# %% [markdown]
# ## 4. PiM
#
# *Why windows?* So that neighbours in the image are near in the sequence, and a large one costs no more than a small one
# (section 5). Cut, let BiM read every sequence on its own, put back, add the input. By hand, window by window:


# %%
def pim_by_hand(x, bim, k):
    """(b, c, H, W) → same: every window's pixels through ``bim``, plus the input."""
    out = x.clone()
    for i in range(0, x.shape[2], k):
        for j in range(0, x.shape[3], k):
            window = x[:, :, i : i + k, j : j + k]
            tokens = window.flatten(2).mT  # (b, k·k, c)
            out[:, :, i : i + k, j : j + k] += bim(tokens).mT.reshape(window.shape)
    return out


# %% [markdown]
# The windows know nothing of each other, so they may as well lie in the batch, and one call does all of them:


# %%
def pim_in_one_call(x, bim, k, partition="contiguous"):
    tokens = to_tokens(x, k, partition)  # (b · windows, k·k, c)
    return x + to_map(bim(tokens), x.shape, k, partition)


x = torch.randn(2, 8, 24, 24)
with torch.no_grad():
    pim = PiM(channels=8, window=6)
    torch.testing.assert_close(pim_by_hand(x, pim.bim, 6), pim(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        pim_in_one_call(x, pim.bim, 6), pim(x), atol=1e-5, rtol=1e-4
    )
    dilated = PiM(channels=8, window=6, partition="dilated")
    torch.testing.assert_close(
        pim_in_one_call(x, dilated.bim, 6, "dilated"), dilated(x), atol=1e-5, rtol=1e-4
    )
print("window by window = all windows in the batch = the library's PiM")

# %% [markdown]
# **Who is read by whom?** The instrument of chapter 03, on a map: the Jacobian norm of one output pixel, for every
# pixel of the input. It is the root of the sum of squares over channels. Of twelve fresh networks we take the root
# mean square. A PiM adds its input to the output, so the pixel's own value tells little about the scan. We subtract
# that identity by looking at `layer(x) - x`.


# %%
def influence_map(layer, x, row, column):
    """Jacobian norm of ``layer``'s change at one pixel: (1, c, H, W) → (H, W)."""
    x = x.clone().requires_grad_()
    change = (layer(x) - x)[0, :, row, column]
    rows = [torch.autograd.grad(value, x, retain_graph=True)[0][0] for value in change]
    return torch.stack(rows).square().sum((0, 1)).sqrt()


def averaged(make_layer, row, column, side=24, networks=12):
    maps = []
    for seed in range(networks):
        torch.manual_seed(seed)
        layer, x = make_layer(), torch.randn(1, 8, side, side)
        maps.append(influence_map(layer, x, row, column).square())
    return torch.stack(maps).mean(0).sqrt()


# %%
layers = {
    "raster: one sequence": partial(PiM, 8, 24),
    "paper: windows of 8": partial(PiM, 8, 8),
    "released code: stride 8": partial(PiM, 8, 8, "dilated"),
}
maps = {name: averaged(make, 11, 12) for name, make in layers.items()}
plot_maps(
    {name: m.numpy() for name, m in maps.items()},
    "Jacobian norm of pixel (11, 12)",
    scale="log",
)

# %%
shares = {}
for name, influence in maps.items():
    others = influence.square()
    others[11, 12] = 0  # without the pixel itself
    row, column = others[11].sum() / others.sum(), others[:, 12].sum() / others.sum()
    shares[name] = {
        "pixels seen": int((influence > 0).sum()),
        "from its row": row,
        "from its column": column,
    }
pd.DataFrame(shares).T.astype(
    {"pixels seen": int, "from its row": float, "from its column": float}
).round(4)

# %% [markdown]
# The bright bar is the convolution of four taps, three pixels along the *row* in both directions; nothing comparable
# points down the column. The order of the tokens makes a layer that prefers rows to columns. At the start its
# "kernel" of 8×8 is a kernel of 1×7. In the dilated grid the same bar stands on pixels 8 apart; a row of that grid
# has three pixels only. So the bar's ends wrap into the rows above and below, and the column gets its share.
#
# ## 5. What a window costs
#
# All windows together hold each pixel once, whatever $k$ is, and a scan's work is the same for every token. So a larger
# window should cost nothing more, and a kernel of 40×40 as much as one of 5×5. (A convolution of 40×40 has 64 times the
# products of one of 5×5.) Measured, forward only, on one map:

# %%
side = 32 if settings.name == "smoke" else 96
x = torch.randn(1, 16, side, side)
runs = {("PiM", k): partial(PiM(16, k), x) for k in (4, 8, 16, 32)}
for k in (4, 8, 16, 32):  # a convolution with a centre has odd sides
    convolution = torch.nn.Conv2d(16, 16, k + 1, padding=k // 2, groups=16)
    runs["depth-wise convolution", k] = partial(convolution, x)
with torch.no_grad():
    times = 1e3 * pd.Series(medians(runs, 2 * settings.repeats)).unstack(0)
plot_lines(
    times,
    "side of the window (pixels)",
    f"forward of {side}×{side} pixels,\n16 channels (ms)",
    looks=MARKED,
    log="xy",
    ticks=times.index,
    beside=True,
)

# %% [markdown]
# PiM's line is flat, up to what else the machine does; the convolution's is not. (Small convolutions are far cheaper
# than any scan: PiM pays for its state. And not all of the convolution's rise is arithmetic: from 8 to 16 it has 3.6
# times the products. Where the time jumps, PyTorch has no fast program on this processor for sides that large.) This much
# of the claim, "large kernels" without their cost, is true of any window. What it does *not* show is that a large one
# is better. For that, look at what "larger" means in the three readings, at the paper's first stage of 320×320:

# %%
stage_0 = torch.empty(1, 1, 320, 320)
readings = {
    "paper: side": "contiguous",
    "released code: stride": "dilated",
    "authors' answer: count": "count",
}
lengths = {
    name: [to_tokens(stage_0, k, p).shape[1] for k in (10, 20, 40)]
    for name, p in readings.items()
}
assert lengths["paper: side"] == [100, 400, 1600] and lengths[
    "released code: stride"
] == [1024, 256, 64]
pd.DataFrame(lengths, index=pd.Index([10, 20, 40], name="kernel size")).T.rename_axis(
    "tokens per sequence"
)

# %% [markdown]
# Table 2 of the paper compares these settings and 40 wins. In the paper's reading that is the longest sequence, in the
# other two the shortest. [Chapter 06](06_lkm_unet.ipynb) follows this through the whole network.
#
# ## 6. A window that does not fit
#
# $k$ must divide the map. If it does not, the library says so, and what would do:

# %%
try:
    PiM(8, window=40)(torch.zeros(1, 8, 256, 256))
except KitError as error:
    print(error)

# %% [markdown]
# > **Paper ≠ code.** Section 3.2 of the paper assumes that the divisions come out whole. A comment in the code says
# > "adjust the window size here to fit the feature map". What happens otherwise is said in neither: the released code then reads the whole map as one
# > sequence, without a message. That is 65,536 tokens for a 256×256 map and $k = 40$; a 240×240 map, which fits, has
# > grids of $(240/40)^2 = 36$.
#
# The library pads if you ask it to. Padding is not neutral: the appended zeros are tokens too, and a backward scan reads
# them *first*. What do they do to the real pixels?

# %%
torch.manual_seed(0)
bim, cut = BiM(8), torch.randn(1, 8, 30, 30)
padding = PiM(8, 8, pad=True)
padding.bim = bim
with torch.no_grad():
    other = torch.randn(1, 8, 32, 32)  # anything but zeros around the same pixels
    other[..., :30, :30] = cut
    change = (
        (pim_in_one_call(other, bim, 8)[..., :30, :30] - padding(cut))
        .abs()
        .amax((0, 1))
    )
print(
    f"pixels that depend on what is appended:"
    f" {int((change > 1e-6).sum())} of {change.numel()}"
)
assert not (change[:24, :24] > 1e-6).any()  # windows without padding do not notice

# %% [markdown]
# Only the windows that hold padding notice, but there every pixel does. nnU-Net avoids the question: its patch size is
# chosen before training, and one can choose one that fits (exercise 5 of [chapter 06](06_lkm_unet.ipynb)).
#
# ## Exercises
#
# **1. Where does a pixel go?** (★, 5 minutes). A map of `width` columns is cut into windows of side `k`. In which window
# is the pixel, and which token is it there? Both are counted from 0, row by row.


# %%
def place_in_window(row, column, k, width):
    """Returns (number of the window, number of the token)."""
    ### BEGIN SOLUTION
    window = row // k * (width // k) + column // k
    return window, row % k * k + column % k
    ### END SOLUTION


# %%
check_place_in_window(place_in_window)

# %% [markdown]
# **2. Cut without a loop** (★★, 10 minutes). With `reshape` and `permute` only. The library does it like that.


# %%
def cut_windows(x, k):
    """(b, c, H, W) → (b · windows, k · k, c), one image's windows after each other."""
    ### BEGIN SOLUTION
    b, c, height, width = x.shape
    blocks = x.reshape(b, c, height // k, k, width // k, k)
    return blocks.permute(0, 2, 4, 3, 5, 1).reshape(-1, k * k, c)
    ### END SOLUTION


# %%
check_cut_windows(cut_windows)

# %% [markdown]
# **3. Neighbours along an axis** (★, 5 minutes). Two neighbours along `axis` lie in one window, which may have two or
# three axes. How many tokens apart are they?


# %%
def tokens_apart(window, axis):
    """window: sides, such as (20, 28, 24); axis: 0, 1, ... Returns a whole number."""
    ### BEGIN SOLUTION
    return math.prod(window[axis + 1 :])
    ### END SOLUTION


# %%
check_tokens_apart(tokens_apart)

# %% [markdown]
# **4. Who shares my sequence?** (★★, 10 minutes). Mark all pixels that are in one sequence with `(row, column)`.


# %%
def mates(size, row, column, k, partition):
    """partition: "contiguous" or "dilated". Returns a boolean map (size, size)."""
    ### BEGIN SOLUTION
    group = (
        torch.arange(size) % k if partition == "dilated" else torch.arange(size) // k
    )
    return (group == group[row])[:, None] & (group == group[column])
    ### END SOLUTION


# %%
check_mates(mates)

# %% [markdown]
# **5. PiM out of your own parts** (★★, 15 minutes). A module with your BiM of chapter 03 in `bim` (the library's, if you
# kept none) and your `cut_windows` of exercise 2. Cut, read, put back, add. The way back is new: the cut in reverse.

# %%
MyBiM = kept("MyBiM", BiM)


# %%
class MyPiM(nn.Module):
    """A map (batch, channels, H, W) → same; window is a number of pixels."""

    def __init__(self, channels, window):
        super().__init__()
        ### BEGIN SOLUTION
        self.window, self.bim = window, MyBiM(channels)
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        (b, c, height, width), k = x.shape, self.window
        tokens = self.bim(cut_windows(x, k))
        blocks = tokens.reshape(b, height // k, width // k, k, k, c)
        return x + blocks.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
        ### END SOLUTION


# %%
check_pim(MyPiM)

# %%
keep(MyPiM, check_pim)

# %% [markdown]
# **Open question.** PiM prefers rows to columns. One could read every second stage by columns, or use a curve that
# stays local, such as Hilbert's ([chapter 17](17_other_scans.ipynb) has both). What would you have to measure, with
# which control, before you believed that an order is better than another? (Table 3's gain from BiM, which changes the
# order's *direction*, is less than 0.1 DSC on top of PiM.)
#
# ## Summary
#
# | what we measured | what the paper says | what is still open |
# |---|---|---|
# | in windows a neighbour is 1 or $k$ tokens away, in a raster 1 or $W$ | neighbouring pixels are fed to the SSM consecutively | whether a trained scan needs it |
# | one pair of neighbours in $k$ lies on two sides of a border and never meets in PiM | PaM connects the windows | what the borders do: [chapter 05](05_patch_level_ssm.ipynb) |
# | in the dilated order direct neighbours never meet | contiguous windows; the *code* is dilated | which of the two earned the published numbers (chapter 09) |
# | at the start a window of 8×8 acts like a kernel of 1×7 along the row | – | what training makes of it (chapter 11) |
# | the time does not depend on the window | linear cost (Fig. 2) | – |
# | padding changes every pixel of a window that holds some | assumes sizes that fit; the code then silently changes its method | – |
#
# ## Further reading
#
# * Z. Liu et al., [Swin Transformer](https://arxiv.org/abs/2103.14030): attention in windows, which every second
#   layer shifts.
# * T. Huang et al., [LocalMamba](https://arxiv.org/abs/2403.09338): windows for Mamba, beside whole-map scans.
# * Y. Liu et al., [VMamba](https://arxiv.org/abs/2401.10166), and J. Ma et al.,
#   [U-Mamba](https://arxiv.org/abs/2401.04722): the whole map as a sequence, in four orders and in one.
# * X. Ding et al., [Scaling Up Your Kernels to 31×31](https://arxiv.org/abs/2203.06717): what large kernels cost and
#   give as convolutions.
