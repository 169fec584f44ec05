# %% [markdown]
# # 13 · Auditing the paper: what is claimed, what was run, what is known
#
# *40 minutes to read, 45 for the exercises, under a minute to run.* Before: [06_lkm_unet](06_lkm_unet.ipynb), [07_data](07_data.ipynb) and
# [10_table3_ablation](10_table3_ablation.ipynb). After: [14_volumes_3d](14_volumes_3d.ipynb).
#
# **Goals.** After this chapter you can
# * find out by experiment what a line of somebody's code does, with a position logger, a gradient and a count;
# * say what Table 2's "kernel size" means in three readings, and what its result means in each;
# * name the differences between the paper and its released code, what each implies, and how to run both sides;
# * hold a published gap against the run-to-run variation, and write a report that survives such an audit.
#
# | symbol | meaning |
# |---|---|
# | $p$ | the number that the released code cuts a map with; the paper's kernel size $k$ |
# | $L$ | tokens in one sequence |
# | $s$ | standard deviation of a score between trainings that differ in nothing but the seed |
#
# **The claims** (in our words, with their places). Section 3.2: PiM reads windows of up to 40×40 *neighbouring* pixels.
# Table 2: larger kernels are better, 75.89, 76.45, 77.35 DSC. Table 3: PiM, PaM and BiM lift a baseline from 74.50 to
# 77.35. Section 4.2: Adam, batches of 24.
#
# **The sources.** The paper: arXiv 2403.07332 (MICCAI 2024); version 1 of 12 March 2024 was called "Large Window-based Mamba
# UNet for Medical Image Segmentation". Its code: repository wjh892521292/LKM-UNet, June 2024, file
# `lkmunet/nnunetv2/nets/LKMUNet.py`. Spread: bowang-lab/U-Mamba, issue 75. A control: MIC-DKFZ/nnUNet, file
# `documentation/resenc_presets.md` (arXiv 2404.09556).
#
# Code and text of a paper can differ. Here both are public, so that the differences can be found, which is to the
# authors' credit. For every row: *what was said, what is done, how do we know, what follows.*

# %%
import math

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from lkm_kit.blocks import BiM, PiM, to_map, to_tokens
from lkm_kit.course import (
    check_chance,
    check_fallback,
    check_residues,
    check_three_readings,
    check_translated,
)
from lkm_kit.data.organs import ORGANS, to_kit_ids
from lkm_kit.errors import KitError
from lkm_kit.evaluation import predict_volume
from lkm_kit.networks import build_network, describe
from lkm_kit.networks.lkm_unet import released_pools, released_windows
from lkm_kit.plots import audit as plots
from lkm_kit.plots.lines import MARKED, plot_dots, plot_lines
from lkm_kit.plots.networks import plot_parameters
from lkm_kit.plots.style import use_style
from lkm_kit.profiles import profile
from lkm_kit.studies import published
from lkm_kit.studies.arms import KERNEL_SIZES, READINGS
from lkm_kit.studies.claims import claims
from lkm_kit.studies.differences import differences
from lkm_kit.studies.reference import reference_results
from lkm_kit.training import TrainConfig, load_checkpoint
from lkm_kit.training.batches import cohort_items

use_style()
pd.set_option("display.max_colwidth", 300, "display.expand_frame_repr", False)
torch.manual_seed(0)
settings = profile()
print("profile:", settings.name)

# %% [markdown]
# ## 1. A position logger: is a window a window?
#
# You cannot see what `reshape` and `permute` do to an image. So do not guess: send in a map whose pixels are their
# own numbers, and read the numbers where the sequence layer would get them. The first function is the released code's
# cut (its reshape and permute, from `BiPixelMambaLayer`). The second differs in the order of the axes only, and is
# what the text says.


# %%
def released_cut(x, p):
    """(B, C, H, W) → (sequences, tokens, C)."""
    B, C, H, W = x.shape
    x = x.reshape(B, C, H // p, p, W // p, p).permute(
        0, 3, 5, 1, 2, 4
    )  # (B, p, p, C, H/p, W/p)
    return x.reshape(B * p * p, C, (H // p) * (W // p)).mT


def written_cut(x, p):
    """The same with (H/p, W/p) and (p, p) exchanged: a sequence for each window."""
    B, C, H, W = x.shape
    x = x.reshape(B, C, H // p, p, W // p, p).permute(
        0, 2, 4, 1, 3, 5
    )  # (B, H/p, W/p, C, p, p)
    return x.reshape(B * (H // p) * (W // p), C, p * p).mT


CUTS = {"released code": released_cut, "paper's text": written_cut}

# %% [markdown]
# `reshape` splits each axis into (which window, where in it). The released order puts the *where* (axes 3 and 5) in
# front, with the batch. It leaves the *which* (2 and 4) to be read as a sequence. On a small map:

# %%
numbers = torch.arange(36).reshape(1, 1, 6, 6)
print(numbers[0, 0])
for name, cut in CUTS.items():
    print(f"{name}: first sequence {cut(numbers, 3)[0, :, 0].tolist()}")

# %% [markdown]
# Now at the paper's first stage, 320×320 pixels and $p = 40$. Take the pixel in row 150, column 170: who is read along
# with it?

# %%
side, p = 320, 40
pixels = torch.arange(side * side).reshape(1, 1, side, side)
chosen, places, logged = 150 * side + 170, {}, {}
for name, cut in CUTS.items():
    logged[name] = cut(pixels, p)[..., 0]  # (sequences, tokens)
    (sequence,) = logged[name][(logged[name] == chosen).any(1)]
    place = np.stack([sequence // side, sequence % side], axis=1)
    places[f"{name}: {len(sequence)} tokens"] = place
    print("{}: {} sequences of {} tokens".format(name, *logged[name].shape))
plots.plot_sequence_places(places, (side, side))

# %% [markdown]
# Both pictures show **one** sequence. Left is no window: it is a *dilated grid* of 64 pixels, 40 pixels apart, over the
# whole map. Pixels that lie 1 to 39 apart along an axis are in other sequences. The text promises neighbours that follow one
# another; here that never happens. The cut is no later change. The repository's first file, of the day the paper was
# submitted (12 March 2024), has it, too. Until the last commit (26 June) only names changed in it.
#
# Was our reading of one line right? Ask the layer itself. A logger stands where BiM stands and notes what comes in. State dicts of
# the released code load into the library's layer with `partition="dilated"`. Its network then gives the released one's logits to
# 1e-4 (`tests/test_official.py`; random weights, since the authors published none). So what *it* reads is what the released network
# reads.


# %%
class PositionLogger(nn.Module):
    """Stands in for BiM: notes its tokens and adds nothing to the map."""

    def forward(self, tokens):
        self.seen = tokens[..., 0].long()
        return torch.zeros_like(tokens)


for name, partition in {
    "released code": "dilated",
    "paper's text": "contiguous",
}.items():
    layer = PiM(1, p, partition)
    layer.bim = PositionLogger()
    layer(pixels.float())  # whole numbers below 2^24 are exact in float32
    assert torch.equal(layer.bim.seen, logged[name])
    step = (layer.bim.seen[0].diff() % side)[0].item()
    print(f"{partition:>10}: as above; from one token to the next {step} pixel(s)")

# %% [markdown]
# **What it implies.** A larger $p$ makes a *sparser and shorter* sequence. What the abstract calls "locally spatial modeling" is not what this PiM
# does; locality comes from the convolutions around it. **In the kit:** `partition="contiguous"`, `"dilated"`, `"count"`.
#
# ### Exercise 1 · Residue classes (★★, 10 minutes)
#
# Which pixels share a sequence? Those whose row and whose column leave the same remainders when divided by $p$. Number the
# sequence of every pixel as the released cut does.


# %%
def residues(x, p):
    """x: (B, C, H, W). Returns (H, W) whole numbers, 0 to p·p − 1."""
    ### BEGIN SOLUTION
    row, column = torch.arange(x.shape[2])[:, None], torch.arange(x.shape[3])
    return row % p * p + column % p
    ### END SOLUTION


# %%
check_residues(residues)

# %% [markdown]
# ## 2. Three readings of Table 2
#
# A reader asked (issue 5 of the repository, 24 July 2024). The authors' answer: "Self.p denotes the kernel numbers along each
# dimension, not the stride." Pixels within a kernel, they add, "are adjacent and input continuously into SSM". So the answer
# keeps the text's neighbours, with another number: the text calls the *side* of a kernel 40. And it is not what the code does; the
# reader proposed the line that would do it. The comment beside $p$ in the code, "adjust the window size here to fit the feature
# map", is on the text's side. So one number has three readings. What does each make of Table 2's three settings, at every stage? We build all nine networks on PyTorch's `meta` device, where tensors have shapes and no numbers, and let
# `describe` count:


# %%
def count_tokens(windows, reading):
    with torch.device("meta"):
        pools = [max(1, k // 5) for k in windows] if reading == "dilated" else None
        options = {"windows": windows, "partition": reading, "pools": pools}
        network = build_network(
            "lkm-unet/paper-2d", input_channels=1, num_classes=14, **options
        )
    return describe(network, (320, 320))["tokens"]


names = {
    "contiguous": "the text: windows",
    "dilated": "the code: grids",
    "count": "the answer: counts",
}
table2 = {
    str(windows[0]): windows for windows in KERNEL_SIZES["paper-2d"].values()
}  # by their first kernel size
tokens = {
    names[reading]: pd.DataFrame(
        {f"first kernel {k}": count_tokens(w, reading) for k, w in table2.items()}
    )
    for reading in READINGS
}
print(pd.concat(tokens, axis=1).to_string())
plot_lines(
    tokens,
    "stage",
    "tokens per sequence",
    looks=MARKED,
    log="y",
    ticks=range(7),
    size=(9.0, 3.3),
)

# %% [markdown]
# Grids and counts give sequences of the same *lengths* out of different pixels: a count of $p$ makes windows of side
# $320/p$ = 32, 16, 8. And the order is reversed: the largest $p$ has the shortest sequences. Table 2's scores, drawn over what a setting means:

# %%
of_first = {reading: table.loc[0].to_numpy() for reading, table in tokens.items()}
first = pd.DataFrame(of_first, index=list(table2))
scores = pd.Series(published.table2["DSC"].to_numpy(), index=first.index)
assert first.iloc[:, 0].tolist() == [100, 400, 1600]
assert first.iloc[:, 1].tolist() == [1024, 256, 64]
assert [320 // int(k) for k in table2] == [32, 16, 8]
plots.plot_score_by_tokens(first, scores, "published DSC (%)")

# %% [markdown]
# **What it implies.** The same three numbers say "longer sequences are better" or "shorter sequences are better".
# Which of them the experiment showed depends on a line of code, and we know of no published run that compares the
# readings. One thing more: the released formula gives one list for seven stages; the two smaller settings cannot have
# come from the released code as it stands. **In the kit:** `lkm study table2` trains all nine. The cases are those of
# MSD Task04 Hippocampus, in slices of 64×64; the networks are tiny, with windows of 16 against 4 pixels. Small
# against large kernels came out like this ([chapter 09](09_table2_kernel_size.ipynb), section 4):

# %%
formula = [window[0] for window in released_windows(7, 2)]
for windows in table2.values():
    print(
        windows, "is" if windows == formula else "cannot be", "what the formula gives"
    )
small = reference_results("table2", data="hippocampus")
pairs = small.comparisons.query("score == 'DSC'").set_index(["arm", "versus"])
of = ["difference", "low", "high"]
rows = {n: pairs.loc[(f"{r}-large", f"{r}-small"), of] for r, n in names.items()}
print("large − small kernel, points of DSC; seeds:", *small.seeds)
pd.DataFrame(rows).T.astype(float).round(2)

# %% [markdown]
# ### Exercise 2 · Three readings (★, 5 minutes)
#
# A map of `side`×`side` pixels, a kernel size `k`: tokens in one sequence,
# for windows of side k, for every k-th pixel, for k windows per axis.


# %%
def three_readings(side, k):
    """Returns three whole numbers: (windows, grids, counts)."""
    ### BEGIN SOLUTION
    return k * k, (side // k) ** 2, (side // k) ** 2
    ### END SOLUTION


# %%
check_three_readings(three_readings)

# %% [markdown]
# ## 3. A scan over one token
#
# The released network at its seven stages, and what is in its last one:

# %%
with torch.device("meta"):
    released = build_network("lkm-unet/released-2d", input_channels=1, num_classes=14)
stages = describe(released, (320, 320))
print("PiM, tokens per sequence:", stages["tokens"].tolist())
print(
    "the last PiM: {} sequences, {:,} parameters".format(
        *stages[["sequences", "pim_parameters"]].iloc[-1]
    )
)
stages[["map", "window", "sequences", "tokens", "pool", "pam_tokens", "pim_parameters"]]

# %% [markdown]
# At the bottleneck a map of 5×5 is cut with $p = 5$: 25 sequences of *one* token. What is a scan over one token? The
# state starts at zero, so $h_1 = \bar A\cdot 0 + \bar B x_1$, and
#
# $$y_1 = C\,\bar B\,x_1 + D\,x_1, \qquad \bar B = \Delta B:$$
#
# $A$, the memory, has dropped out. Of the convolution's four taps only the one on the token itself is left. By hand:


# %%
def one_token_by_hand(mamba, token):
    """(n, d) → (n, inner): a Mamba that is given a single token, without any scan."""
    x, z = F.linear(token, mamba.in_proj.weight).chunk(2, dim=-1)
    x = F.silu(x * mamba.conv1d.weight[:, 0, -1] + mamba.conv1d.bias)
    low_rank, B, C = mamba.x_proj(x).split(
        [mamba.dt_rank, mamba.d_state, mamba.d_state], dim=-1
    )
    delta = F.softplus(mamba.dt_proj(low_rank))
    return (delta * (B * C).sum(-1, keepdim=True) + mamba.D) * x * F.silu(z)


bim = BiM(32)
token = torch.randn(25, 32)
torch.testing.assert_close(
    one_token_by_hand(bim.mamba_forward, token),
    bim.mamba_forward.mix(token[:, None])[:, 0],
)
print("a Mamba on one token: a gated layer per pixel, no scan")

# %% [markdown]
# The gradient tells the same without any algebra: whatever the layer does not use gets exactly zero. And who is read by whom?
# The pixels of a 5×5 map on which its centre depends, for the text's window and the code's grid:


# %%
bim(token[:, None]).square().sum().backward()
for name, parameter in bim.mamba_forward.named_parameters():
    unused = (parameter.grad == 0).double().mean().item()
    print(f"{name:>15} {unused:4.0%} never used")
torch.testing.assert_close(
    bim.mamba_forward.mix(token[:, None]),
    bim.mamba_forward.mix(token[:, None], reverse=True),
)
print("forward = backward, for the same weights")


def pixels_read(layer, side=5):
    x = torch.randn(1, 32, side, side, requires_grad=True)
    layer(x)[0, :, side // 2, side // 2].sum().backward()
    return int((x.grad[0].abs().sum(0) > 0).sum())


for partition in ("contiguous", "dilated"):
    count = pixels_read(PiM(32, 5, partition))
    print(f"{partition:>10}: the last PiM's centre reads {count} of 25 pixels")

# %% [markdown]
# **What it implies.** 2.9 million parameters of this PiM work as a per-pixel layer. That need not be bad: PaM, not
# pooling at this stage, reads all 25 pixels. In the text's reading it is PaM that has one token. **In the kit:**
# `describe` shows the tokens of any network before you train it.
#
# ## 4. Sizes that do not fit
#
# Section 3.2 assumes that the divisions come out whole, and the comment quoted above asks the user to see to it. Neither says
# what the code does otherwise.
#
# If $p$ does not divide the map, the released layer takes the whole map as one sequence, and says nothing. Tokens per
# sequence of its PiM, for square images that its strides do take:


# %%
def released_length(side, p):
    """Tokens per sequence in the released PiM, with its silent fallback."""
    return (side // p) ** 2 if side % p == 0 else side * side


sides = [64 * n for n in range(3, 11)]
rows = {
    side: [released_length(side // 2**stage, p) for stage, p in enumerate(formula)]
    for side in sides
}
lengths = pd.DataFrame(
    rows, index=[f"stage {stage}" for stage in range(7)]
).T.rename_axis("image side")
fitting = [
    side
    for side in sides
    if all(side // 2**stage % p == 0 for stage, p in enumerate(formula))
]
print("every stage fits:", fitting)
assert all(
    side // 2**i % p
    for side in set(sides) - set(fitting)
    for i, p in enumerate(formula)
)  # elsewhere none
lengths

# %% [markdown]
# For square images it is all or nothing: at 256, and at every other size but 320 and 640, *every* stage falls back. A
# user with 256×256 slices trains another method, a raster scan over up to 65,536 tokens, and no message says so. (In
# 3D, 128³ voxels make one sequence of 2,097,152.)
#
# The weights fit sequences of any length, so nothing fails and nothing is noticed. Take one layer, a map that fits, and
# the same map with one more row and column: how much does its change of the *old* pixels alter?


# %%
def released_layer(x, bim, p):
    """PiM's change of a map, with the released fallback."""
    fits = x.shape[2] % p == 0 and x.shape[3] % p == 0
    cut = (p, "dilated") if fits else (tuple(x.shape[2:]), "contiguous")
    return to_map(bim(to_tokens(x, *cut)), x.shape, *cut)


torch.manual_seed(0)
bim, larger = BiM(8), torch.randn(1, 8, 41, 41)
x, padding = larger[..., :40, :40], PiM(8, 8, "dilated", pad=True)
padding.bim = bim
with torch.no_grad():
    change = released_layer(x, bim, 8)
    for name, other in {
        "one more row and column, released": released_layer(larger, bim, 8),
        "one more row and column, padded (kit)": padding(larger) - larger,
    }.items():
        apart = (other[..., :40, :40] - change).norm() / change.norm()
        print(f"{name}: the old pixels' change differs by {apart:.0%}")

# %% [markdown]
# Padding is not free either: zeros are tokens, and every grid gets longer. But it stays the same method, and it is your
# choice. Without it the kit stops, and names what would do:

# %%
try:
    describe(released, (256, 256))
except KitError as error:
    print(error)

# %% [markdown]
# ### Exercise 3 · Which stages fall back? (★★, 10 minutes)
#
# Not every network halves as evenly. Return the stages
# at which a map of this image is not divided by its `p`.


# %%
def falling_back(size, strides, sides):
    """size: (H, W); strides, sides: a number a stage. Returns stages, from 0."""
    ### BEGIN SOLUTION
    stages, total = [], 1
    for stage, (stride, p) in enumerate(zip(strides, sides)):
        total *= stride
        if any(s // total % p for s in size):
            stages.append(stage)
    return stages
    ### END SOLUTION


# %%
check_fallback(falling_back)

# %% [markdown]
# ## 5. Table 3's baseline
#
# The paper does not say which network the "Baseline" is. Its scores are those of Table 1's nnU-Net, to the last digit. So we
# infer nnU-Net's plain U-Net:

# %%
assert (
    published.table3.loc["Baseline"].tolist()
    == published.table1.loc["nnU-Net", "MR"].tolist()
)


def counted(name):
    with torch.device("meta"):
        network = build_network(name, input_channels=1, num_classes=14)
    total = sum(p.numel() for p in network.parameters())
    t = describe(network, (320, 320))
    mamba = int(t["pim_parameters"].sum() + t["pam_parameters"].sum())
    return {"convolutions": total - mamba, "PiM and PaM": mamba}


networks = {
    "the baseline: plain U-Net": "plain-unet/2d",
    "LKM-UNet without Mamba": "residual-unet/2d",
}
sizes = pd.DataFrame(
    {t: counted(n) for t, n in {**networks, "LKM-UNet": "lkm-unet/released-2d"}.items()}
).T
plain, residual = sizes["convolutions"].iloc[:2]
print(
    f"in the convolutions {(residual - plain) / 1e6:.1f} million more, in Mamba",
    end=" ",
)
print(
    f"{sizes['PiM and PaM'].iloc[-1] / 1e6:.1f} million:",
    f"{(residual - plain) / (sizes.iloc[-1].sum() - plain):.0%}",
)
plot_parameters(sizes)

# %% [markdown]
# **What it implies.** If so, the +2.85 DSC of Table 3 are for two changes at once, residual convolutions and Mamba. How they
# share it is not published. Others measured a like case: nnU-Net's authors ran U-Mamba beside the same network *without*
# its Mamba layers on six data sets (3D, five folds, Dice):

# %%
benchmark = published.no_mamba
base = benchmark["No-Mamba Base"]
gains = pd.DataFrame(
    {f"{n} − Base": benchmark[n] - base for n in ("U-Mamba Bot", "U-Mamba Enc")}
)
gains["Base − nnU-Net (plain)"] = base - benchmark["nnU-Net"]
print(
    f"Mamba's largest gain {gains.iloc[:, :2].max().max():+.2f},",
    f"largest loss {gains.iloc[:, :2].min().min():+.2f}",
)
gains.round(2).T

# %% [markdown]
# Mamba gains at most 0.36 there and loses up to 1.28; the convolutions alone gain up to 0.61. Another network, other
# data: it does not say that LKM-UNet's blocks do nothing. It says which control a claim needs. **In the kit:**
# `residual-unet/2d`, the same network weight for weight, is the control of every study, with a wider one beside it.
#
# A published number comes closer, for the paper's own MR cases: U-Mamba_Bot, this residual U-Net with *one* Mamba, scores 75.88 in
# an older table. That is about half of the 2.85 points (section 7).
#
# ## 6. The labels
#
# AMOS22 labels 15 structures; the paper scores 13 "organs". Which two are missing, and which number is which?

# %%
numbers = {o.name: {"AMOS id": o.amos, "kit id": o.label} for o in ORGANS}
ids = pd.DataFrame(numbers).T
ids.loc["bladder"], ids.loc["prostate/uterus"] = (14, 0), (15, 0)
by_amos = {amos: name for name, amos in ids["AMOS id"].items()}
by_kit = {kit: name for name, kit in ids["kit id"].items() if kit}
there = [by_kit.get(amos, "nothing") for amos in ids["AMOS id"]]
ids["the same number in the kit's table"] = there
ids.sort_values("AMOS id")

# %% [markdown]
# The kit's numbers are those of FLARE22, which the CT half uses. What if somebody trains on AMOS without translating,
# and scores with the other table? Let the network be *perfect*, on a scan in which each structure has one voxel:

# %%
truth_amos = np.arange(16)  # background and all 15 structures
truth_kit = to_kit_ids(truth_amos, "amos")
prediction = truth_amos  # perfect, in AMOS's ids


def dice(prediction, truth, organ):
    a, b = prediction == organ, truth == organ
    return 2 * (a & b).sum() / (a.sum() + b.sum())


for name, guess in {
    "not translated": prediction,
    "translated": to_kit_ids(prediction, "amos"),
}.items():
    dsc = {organ.name: float(dice(guess, truth_kit, organ.label)) for organ in ORGANS}
    right = [organ for organ, value in dsc.items() if value == 1]
    print(
        f"{name}: mean DSC {100 * np.mean(list(dsc.values())):.1f} %;",
        f"right: {len(right)} of 13, such as {right[0]}",
    )

# %% [markdown]
# One organ of 13 survives, because it has the number 2 in both tables: a mean of 7.7 % for a perfect network. That is
# loud enough to be found. Quieter: train *and* score in AMOS's ids, but with 13 organs. Then ids 14 and 15 are no classes:

# %%
logits = torch.randn(1, 14, 16)  # 13 organs and background
try:
    F.cross_entropy(logits, torch.from_numpy(truth_amos)[None])
except IndexError as error:
    print("cross-entropy:", error)
try:
    to_kit_ids(truth_amos, "kit", where="amos_0507.nii.gz")
except KitError as error:
    print("kit:", error)

# %% [markdown]
# (We have no sign that the authors' data went through either. On a GPU the first is an assertion in the middle of a
# kernel, "device-side assert", that names nothing.) Whoever clips the ids instead teaches the network that bladders
# are duodenums. Whoever drops them in training and not in the test, scores 15 organs. **What it implies:** a mean
# "over organs" is only comparable with the list beside it. **In the kit:** ids are translated on reading, by name,
# and anything outside the table is an error.
#
# ### Exercise 4 · Translate (★★, 10 minutes)
#
# Both tables map names to ids; what the target does not know is background.


# %%
def translated(label, source, target):
    """label: ids of ``source``, of any shape. Returns the same in ids of ``target``."""
    ### BEGIN SOLUTION
    out = np.zeros_like(label)
    for name, number in target.items():
        out[label == source[name]] = number
    return out
    ### END SOLUTION


# %%
check_translated(translated)

# %% [markdown]
# ## 7. The other rows
#
# **The optimiser.** The paper names Adam, with a momentum of 0.99 and a rate of 0.01. The released trainer overrides
# the network only, so nnU-Net's SGD with Nesterov momentum 0.99 runs. Is that a detail? Adam moves every weight by
# about the rate, however small its gradient is. We take one first step of each, on one random batch, clipped as
# nnU-Net does. Weight decay is left out, and so are layers that get no gradient yet (residual branches start at
# zero):

# %%
OPTIMIZERS = {
    "Adam, first momentum 0.99": lambda w: torch.optim.Adam(
        w, lr=0.01, betas=(0.99, 0.999)
    ),
    "SGD, Nesterov 0.99": lambda w: torch.optim.SGD(
        w, lr=0.01, momentum=0.99, nesterov=True
    ),
}


def first_step(make):
    """Median over tensors: size of the first change beside that of the tensor."""
    torch.manual_seed(0)
    network = build_network(
        f"lkm-unet/{settings.network}", input_channels=1, num_classes=7
    )
    image = torch.randn(1, 1, *settings.image_size)
    target = torch.randint(7, (1, *settings.image_size))
    weights = {n: w for n, w in network.named_parameters() if w.ndim > 1}
    before = {n: w.detach().clone() for n, w in weights.items()}
    optimizer = make(network.parameters())
    F.cross_entropy(network(image), target).backward()
    nn.utils.clip_grad_norm_(network.parameters(), 12.0)
    optimizer.step()
    reached = [
        n for n, w in weights.items() if w.grad is not None and w.grad.norm() > 1e-6
    ]
    changes = [(weights[n] - before[n]).norm() / before[n].norm() for n in reached]
    return float(np.median([change.item() for change in changes]))


first_steps = {name: first_step(make) for name, make in OPTIMIZERS.items()}
for name, change in first_steps.items():
    print(f"{name}: a weight tensor changes by {change:.2g} of its size (median)")
seen = {batch: 1000 * 250 * batch / 1e6 for batch in (24, 30)}
print(f"{seen[24]:.1f} against {seen[30]:.1f} million slices,", end=" ")
print(f"{seen[30] / seen[24] - 1:.0%} more")

# %% [markdown]
# SGD starts gently and gathers speed as its momentum builds up; Adam starts at full speed everywhere. These are not two
# spellings of one training. **The batch** (the last line) is 24 in the text; nnU-Net plans 30 at 320×320, for 1000 epochs of 250 steps.
#
# **The stem.** "Depth-wise" in the text, ordinary in the code: for one channel the same thing, for two no more. **BiM.**
# The text adds two outputs. In the code both Mambas share *one* output projection, applied to their sum. Since a projection is
# linear, that is the sum of two projected outputs with the weights tied:

# %%
for channels in (1, 2, 4):
    depthwise = nn.Conv2d(channels, 32, 3, groups=channels)
    print(
        f"stem, {channels} channel(s): ordinary {32 * channels * 9} weights,",
        f"depth-wise {depthwise.weight.numel()}",
    )

torch.manual_seed(0)
bim, sequence = BiM(32), torch.randn(2, 50, 32)
normed = bim.norm(sequence)
each = [
    bim.out_proj(m.mix(normed, reverse=r))
    for m, r in ((bim.mamba_forward, False), (bim.mamba_backward, True))
]
torch.testing.assert_close(bim(sequence), each[0] + each[1])
inner = 2 * stages["channels"]
untied = (
    2 * (inner * stages["channels"]).sum()
)  # one more matrix in each PiM and in each PaM
print(f"projections of their own: {untied / 1e6:.1f} million more parameters in 2D")

# %% [markdown]
# **Mirroring at test time.** nnU-Net predicts with all mirrored copies of an image and averages. The released commands of LKM-UNet
# and of U-Mamba switch that off (`--disable_tta`); the paper does not say. What it changes can be measured on the kit's packaged
# network. Its training saw images mirrored left to right (the first axis of a slice), and never front to back:

# %%
network, record = load_checkpoint("tiny-2d")
config = TrainConfig.from_json(record["training"]["config"])
items = cohort_items(config, "test", min(settings.test_slices, 16))
images, truth = (
    torch.stack([items[k][part] for k in range(len(items))])
    for part in ("image", "label")
)
rows, classes = {}, range(1, config.table.num_classes)
for name, axes in {"as it is": (), "left and right": (0,), "both axes": (0, 1)}.items():
    found = predict_volume(
        network, images, window=images.shape[2:], mirror_axes=axes
    ).argmax(1)
    both = [
        ((found == k) & (truth == k)).sum() / ((found == k).sum() + (truth == k).sum())
        for k in classes
    ]
    rows[name] = dict(zip(config.table.names, 200 * torch.stack(both).double().numpy()))
mirrored = pd.DataFrame(rows).T.rename_axis("DSC (%) with mirrored copies")
mirrored.assign(mean=mirrored.mean(axis=1)).round(1)

# %% [markdown]
# The table says what hangs on it here. Two scores are comparable only with the same choice. **In the kit:** `lkm nnunet` predicts
# without it, as the released commands do; `--tta` turns it on and keeps its predictions apart.
#
# **Where Table 1's baselines stand, too.** Section 4.2 says (in our words) that all models were implemented in one framework.
# All six MR rows of the baselines equal an older table, digit for digit. Swin-UMamba's repository printed it on 17 February
# 2024 and again on 6 March; LKM-UNet's paper was submitted on 12 March. Older still is U-Mamba's own paper, of 9 January. Its
# DSC of U-Mamba_Enc (CT and MR) and of nnU-Net (CT) is that of Table 1. (The other CT rows, and NSD on CT, were not compared.)

# %%
older, same = published.swin_umamba, published.same_as_swin_umamba()
print(f"{int(same.to_numpy().sum())} of {same.size} numbers are equal")
assert same.all(axis=None)
enc = published.umamba.loc["U-Mamba_Enc"]
assert (
    enc.tolist()
    == published.table1.loc["U-Mamba", [("CT", "DSC"), ("MR", "DSC")]].tolist()
)
print("U-Mamba's own paper, DSC (–: not looked up):")
print(published.umamba.to_string(na_rep="–"))
bot = counted("umamba-bot-january/2d")
gains_of = {
    "all parts": published.table3.loc["PiM+PaM+BiM", "DSC"],
    "U-Mamba_Bot": older.loc["U-Mamba_Bot", "DSC"],
}
gains_of = {
    name: score - published.table3.loc["Baseline", "DSC"]
    for name, score in gains_of.items()
}
print(
    "over Table 3's baseline:",
    ", ".join(f"{name} {gain:+.2f}" for name, gain in gains_of.items()),
)
print(
    f"U-Mamba_Bot: one Mamba of {bot['PiM and PaM'] / 1e6:.1f} million parameters",
    end=" ",
)
print(
    f"in {bot['convolutions'] / 1e6:.1f} million of convolutions;",
    "rows that Table 1 leaves out:",
)
older.drop(same.index)

# %% [markdown]
# That is what can be seen; which runs the numbers come from, we do not know. Three consequences can be stated.
# U-Mamba_Bot, which the table leaves out, is LKM-UNet's control with one Mamba behind its last stage. It has nearly
# half of the gain over the baseline. How that part shares out between residual convolutions and Mamba is not
# published either. The U-Mamba row belongs to U-Mamba's code of January 2024. Its paper of 9 January has the score.
# The older table gives 67 million parameters for it, which is that network's size
# ([chapter 12](12_table1_baselines.ipynb)). The authors' rewrite is of 27 March. And one row that is left out,
# Swin-UMamba, is above LKM-UNet's 77.35 / 83.80; it starts from ImageNet weights.
#
# All rows. The figures in the table are the ones that were computed above. *Where*: section, table or figure of the paper;
# class of `LKMUNet.py` (PixelLayer: `BiPixelMambaLayer`, WindowLayer: `BiWindowMambaLayer`, Encoder:
# `ResidualBiMambaEncoder`). "As the code only": the kit does not have the text's form. For the optimiser this holds too: Adam
# with momentum 0.99 runs above, and is no profile of the kit.

# %%
more = seen[30] / seen[24] - 1
shortest = first.iloc[2, 1]
table = differences(shortest, tied=untied, convolutions=residual - plain, slices=more)
assert table.loc["PaM's patch", "released code"] == str(released_pools(7))[1:-1]
table

# %% [markdown]
# "In the kit" is a promise, so run it: every switch of the last column, on a tiny network and one image. What does a switch
# change? The first number says whether the same weights fit (as many parameters), the second whether they then *do*
# the same.

# %%
SWITCHES = {
    "the text": {},
    "grids": {"partition": "dilated"},
    "grids, pools of the code": {"partition": "dilated", "pools": [4, 4, 2, 2]},
    "counts": {"partition": "count"},
    "one direction": {"bidirectional": False},
    "no PaM": {"pam": False},
    "no Mamba": {"pim": False, "pam": False},
}
image, logits, rows = torch.randn(1, 1, 96, 96), {}, {}
for name, switch in SWITCHES.items():
    torch.manual_seed(0)
    network = build_network(
        "lkm-unet/tiny-2d", input_channels=1, num_classes=7, **switch
    ).eval()
    with torch.no_grad():
        logits[name] = network(image)
    apart = (logits[name] - logits["the text"]).norm() / logits["the text"].norm()
    rows[name] = {
        "parameters": sum(w.numel() for w in network.parameters()),
        "logits differ by": apart.item(),
    }
pd.DataFrame(rows).T.astype({"parameters": int}).round(3)

# %% [markdown]
# The first four have the same parameters, under the same names: weights of one load into
# another without a word, and then compute something else.
#
# ## 8. What is a gap worth?
#
# A published gap is a difference of two numbers; how many runs stand behind each, the paper does not say. How far do two
# runs of the *same* network lie apart? One reader trained U-Mamba_Bot four times on the CT set and got 86.0, 85.5, 86.2, 86.94. (That
# was in May 2025, with the rewrite of March 2024. U-Mamba's own paper gives 86.83 for the version of January, and so
# a hundredth more than LKM-UNet's 86.82; Table 1 lists its sibling U-Mamba_Enc only.)

# %%
runs = published.umamba_reruns
spread, sd = np.ptp(runs), runs.std()
t1, t2, t3 = (
    published.table1["CT"]["DSC"],
    published.table2["DSC"],
    published.table3["DSC"],
)
gaps = pd.Series(
    {
        "Table 1, CT: LKM-UNet − U-Mamba": t1["LKM-UNet"] - t1["U-Mamba"],
        "Table 1, CT: LKM-UNet − nnU-Net": t1["LKM-UNet"] - t1["nnU-Net"],
        "Table 2, MR: medium − small kernel": t2.iloc[1] - t2.iloc[0],
        "Table 2, MR: large − small kernel": t2.iloc[2] - t2.iloc[0],
        "Table 3, MR: all − PiM+PaM (BiM's part)": t3["PiM+PaM+BiM"] - t3["PiM+PaM"],
        "Table 3, MR: all − PiM+BiM (PaM's part)": t3["PiM+PaM+BiM"] - t3["PiM+BiM"],
        "Table 3, MR: all − baseline": t3["PiM+PaM+BiM"] - t3["Baseline"],
    }
)
yardsticks = {
    "spread of four runs of one network (U-Mamba issue 75, CT)": spread,
    "largest gain from Mamba over its own control (nnU-Net's benchmark)": gains.iloc[
        :, :2
    ]
    .max()
    .max(),
}
plot_dots(
    gaps.to_frame("published difference"),
    "difference in DSC (points)",
    at={f"{what}: {points:.2f}": points for what, points in yardsticks.items()},
    xlim=(0, None),
)

# %% [markdown]
# If runs scatter normally with standard deviation $s$, two runs of one network differ by at least $d$ with probability
#
# $$P(|d|) = 2\,\bigl(1 - \Phi\bigl(d / (\sqrt2\, s)\bigr)\bigr).$$
#
# Here by simulation, for every gap above (exercise 5 asks for the formula): with the $s$ of those four runs, and with the
# largest that they allow.

# %%
random = np.random.default_rng(0)
chi = random.chisquare(3, 200_000)  # the scatter of a variance estimated from four runs
low, high = np.sqrt(3 * sd**2 / np.percentile(chi, (97.5, 2.5)))
print(f"s = {sd:.2f} points from four runs; 95 % interval: {low:.2f} to {high:.2f}")
table = pd.DataFrame({"gap": gaps})
for scale in (sd, high):
    apart = np.abs(np.diff(random.normal(scale=scale, size=(200_000, 2))))
    table[f"by chance, s = {scale:.2f} (%)"] = [100 * (apart >= d).mean() for d in gaps]
table.round({"gap": 2, **dict.fromkeys(table.columns[1:], 1)})

# %% [markdown]
# Three cautions. Four runs estimate $s$ poorly, as its interval shows. It is from CT, and most gaps are MR, from 50
# other scans. And "by chance" says how often chance would do that, not that it did. What remains: a gap of half a
# point between two single runs is no evidence. If $s$ is what the four runs say, the seed hardly explains the 2.85
# points of Table 3. If $s$ is the largest that they allow, it may. Section 5 names other causes.
#
# ### Exercise 5 · By chance (★★, 10 minutes)
#
# `math.erfc(t / math.sqrt(2))` is $2\,(1 - \Phi(t))$.


# %%
def chance(difference, sd):
    """How often two runs differ by ``difference`` or more; sd: of one run."""
    ### BEGIN SOLUTION
    return math.erfc(difference / (math.sqrt(2) * sd) / math.sqrt(2))
    ### END SOLUTION


# %%
check_chance(chance)

# %% [markdown]
# ### The kit's own numbers, under the same rule
#
# Table 3's arms on patients (tiny networks, 600 steps, MSD Task04 Hippocampus, 80 cases of 51 people;
# [chapter 10](10_table3_ablation.ipynb), section 4). What is the spread between seeds, and which gaps does it leave
# standing?

# %%
ours = reference_results("table3", data="hippocampus")
of_paper = ours.table[ours.table["published DSC"].notna()].index
arms = ["residual-unet", *of_paper]
by_seed = (
    ours.per_case.groupby(["arm", "seed", "organ"])["DSC"]
    .mean()
    .groupby(["arm", "seed"])
    .mean()
    .unstack("seed")
)
by_seed = 100 * by_seed.loc[arms]
rows = ours.table.loc[arms]
own = pd.DataFrame({"published gain": rows["published DSC"] - t3["Baseline"]})
over_plain = by_seed - by_seed.loc["plain-unet"]  # seeds that both have
own["our gain over the plain U-Net"] = over_plain.mean(axis=1)
own["our gain over the residual U-Net"] = rows["difference"]
bounds = rows[["low", "high"]].apply(
    lambda row: "[{:+.2f}, {:+.2f}]".format(*row), axis=1
)
own["interval"] = bounds.where(rows["low"].notna(), "the control")
own["range between seeds"] = by_seed.max(axis=1) - by_seed.min(axis=1)
print("seeds:", *by_seed.columns)
own.set_index(rows["title"]).round(2)

# %%
n, s_own = by_seed.count(axis=1).min(), by_seed.std(axis=1, ddof=1).median()
needed = stats.t.ppf(0.975, 2 * n - 2) * math.sqrt(2 * s_own**2 / n)
print(f"{n} seeds; standard deviation of an arm between them (median): {s_own:.2f}")
print(f"told apart, unpaired, at 95 %: means {needed:.2f} points apart")
print(f"published gaps above that: {int((gaps > needed).sum())} of {len(gaps)}")
by_pair = ours.comparisons.query("score == 'DSC'").set_index(["arm", "versus"])
wide = by_pair.loc[("pim-pam-bim", "wide-residual-unet"), ["difference", "low", "high"]]
print("all parts − a wider residual U-Net: {:+.2f} [{:+.2f}, {:+.2f}]".format(*wide))

# %% [markdown]
# So here five seeds tell about half a point apart. Were the paper's trainings no noisier than these, five seeds an arm would
# settle its larger gaps; we know of nobody who has run them. (Two published means can only be compared unpaired. The
# intervals in the table are paired case by case, over cases *and* seeds, and so can show smaller differences.) What these
# rows cannot do is stand in for the paper's: organs, sizes and training lengths are others. Its gains of 1.72 to 2.85
# points over the baseline are neither confirmed nor refuted by them, and we say so wherever they are shown. Over the plain U-Net, which is
# likely that baseline, these parts gain 1.1 to 1.5 points here. The residual convolutions without Mamba gain 1.3. So should
# you.
#
# ## 9. How to report honestly
#
# A checklist. The numbers in brackets are the sections above that show why.
#
# 1. **Control.** The same network without the new part, the same convolutions, the same first weights. *(5)*
# 2. **Size.** Parameters, operations and seconds a step beside every score; a control of equal size. *(5)*
# 3. **Seeds.** At least three trainings of each arm, all of them reported, none picked. *(8)*
# 4. **Spread.** Differences per case and seed, with an interval; the number of cases *and* of seeds. *(8)*
# 5. **Many arms.** A correction for as many comparisons as were looked at ([chapter 10](10_table3_ablation.ipynb)).
# 6. **What ran.** The config as a file, written by the program; optimiser and batch are read from it, not from memory. *(7)*
# 7. **What a number means.** A kernel size with its unit and a picture of one sequence, drawn by the code. *(1, 2)*
# 8. **No silent fallback.** What does not fit is an error, or is logged and reported. *(4)*
# 9. **Data.** The list of cases of each split, of organs and ids; who made the labels. *(6)*
# 10. **Scoring.** The script by name, and what it does with organs that are not there ([chapter 07](07_data.ipynb)).
# 11. **Code for every row** of every table, weights, and the tag of the version that made them. *(2, 7)*
# 12. **Limits.** What the experiment cannot say, near the abstract and not in a footnote. *(8)*
#
# **Open question.** You may run ten trainings at full size, no more. Which of the doubts above do you spend them on, and in
# which order: three readings, the residual control, seeds, the optimiser? Write down before you start which result would
# make you say that large-kernel Mamba *helps*, and which that it does not.
#
# ## 10. Every claim, in one table
#
# They are the rows of `docs/claims.md`. *Command*: what shows it, from the kit's folder.

# %%
claims()

# %% [markdown]
# ## Summary
#
# | what we measured | what the paper claims | what is still open |
# |---|---|---|
# | the released cut is a grid of stride $p$ over the whole map | windows of neighbours | whether neighbours matter (chapter 09) |
# | Table 2's 10, 20, 40: 100, 400, 1600 tokens in the text, 1024, 256, 64 in the code | larger kernels are better | which reading ran; none is compared |
# | the last PiM reads one token: $A$ and three of four taps get no gradient | – | whether the block is worth its 2.9 million parameters |
# | at 256×256 every stage of the released code scans the whole map, silently | – | how many published re-runs did |
# | 28 of the 47 million parameters above Table 3's baseline are convolutions | +2.85 DSC for PiM, PaM and BiM | the split of that gain |
# | a perfect network scores 7.7 % under the other label table | 13 organs | – |
# | Adam's first step is another training than SGD's | Adam, momentum 0.99 | which one made the tables |
# | four runs of one network spread over 1.44 points; several gaps are smaller | one number per cell | the spread of LKM-UNet itself |
# | twelve MR numbers of Table 1 stand in an older table, two of U-Mamba's in its own paper | all models were implemented in one framework (4.2) | which runs they are |
#
# ## Further reading
#
# * The paper ([arXiv 2403.07332](https://arxiv.org/abs/2403.07332)) and [its code](https://github.com/wjh892521292/LKM-UNet), with
#   [the reader's question](https://github.com/wjh892521292/LKM-UNet/issues/5).
# * Controls: Isensee et al., [nnU-Net Revisited](https://arxiv.org/abs/2404.09556), and
#   [its table](https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/resenc_presets.md).
# * Seeds: Bouthillier et al., [Accounting for variance in machine learning benchmarks](https://arxiv.org/abs/2103.03098);
#   [issue 75 of U-Mamba](https://github.com/bowang-lab/U-Mamba/issues/75).
# * Choosing and reading scores: Maier-Hein et al., [Metrics reloaded](https://arxiv.org/abs/2206.01653).
