# %% [markdown]
# # 06 · LKM-UNet: from one scan to a whole network
#
# *25 minutes to read, 55 for the exercises, under a minute to run.* Before:
# [05_patch_level_ssm](05_patch_level_ssm.ipynb), or [04_pixel_level_ssm](04_pixel_level_ssm.ipynb) on the short route.
# After: [07_data](07_data.ipynb).
#
# **Goals.** After this chapter you can
#
# * assemble the network out of its parts, your own where you kept some, and say what each part sees;
# * choose windows for images of your own;
# * read the architecture as a table: map sizes, windows, tokens, parameters, operations;
# * say where the paper and its released code differ, and what that does to the numbers;
# * predict which image sizes a network takes, and what happens to the others.
#
# **You need** PyTorch and chapters 02 and 04. The parts of 03 and 05 are said again in section 1, in a line each.
#
# | symbol | meaning | shape here |
# |---|---|---|
# | $k$ | side of a window; the same number in the released code, where it is a stride | a number per axis |
# | $s$ | total stride of a stage: image pixels per pixel of its map | a number per axis |
# | $F$ | feature map | (batch, channels, rows, columns) |
#
# **The paper's claim** (Section 3, Table 3; in our words). A U-Net gets better when every encoder stage ends in a
# *large-kernel Mamba* block: Mamba first reads all pixels of a large window (PiM, up to 40×40 pixels), then one
# representative per window (PaM). Each time it reads in both directions (BiM). On abdominal MR the paper reports a
# DSC of 77.35 for all parts together, 74.50 for its baseline without any. This chapter builds the network and counts
# what is in it. Whether the claim holds is a question for chapters 09 to 13.

# %%
import math
import time

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from lkm_kit.blocks import LMBlock, PaM, PiM
from lkm_kit.course import (
    check_bim_parameters,
    check_image_multiple,
    check_network,
    check_supervision_weights,
    check_windows_for,
    keep,
    kept,
)
from lkm_kit.erf import Probe, support
from lkm_kit.errors import KitError
from lkm_kit.networks import LKMUNet, UNet, build_network, describe
from lkm_kit.plots import networks as figures
from lkm_kit.plots import use_style
from lkm_kit.plots.maps import plot_maps
from lkm_kit.profiles import profile
from lkm_kit.widgets.erf_explorer import ErfExplorer

use_style()
torch.manual_seed(0)
settings = profile()
print(
    f"profile {settings.name}: {settings.network}"
    f" on {settings.image_size[0]}×{settings.image_size[1]} pixels"
)

# %% [markdown]
# ## 1. The parts
#
# | part | what it does | from |
# |---|---|---|
# | Mamba | a selective scan over a sequence of tokens: token 5 knows tokens 1 to 5 | [02](02_selective_scan.ipynb) |
# | BiM | LayerNorm, a Mamba forward and one backward, one projection of their sum | [03](03_bidirectional_mamba.ipynb) |
# | PiM | cuts a map into windows, BiM reads the pixels of each; plus the input | [04](04_pixel_level_ssm.ipynb) |
# | PaM | averages patches, BiM reads the means, each result is copied back over its patch; plus the input | [05](05_patch_level_ssm.ipynb) |
# | LM block | PiM, then PaM | here |
#
# ![A map through PiM, Pool, PaM and Unpool](../figures/lm_block.png)
#
# A window's meaning is where paper and code part. In the paper's text it is $k\times k$ neighbours, in the released code
# every $k$-th pixel of the map (a *dilated grid*). In an answer of the authors $k$ is a number of windows per axis.
# Chapter 04 has all three.
#
# Who sees whom? The pixels on which one output pixel depends, for each part. (`support` finds them by a NaN that goes
# backward, see chapter 05.) Predict the fourth picture before you run the cell.

# %%
pixel = Probe(position=(7, 12), window=5)
layers = {
    "PiM, windows of 5 (paper)": PiM(8, 5),
    "the same, forward scan only": PiM(8, 5, bidirectional=False),
    "PiM, stride 5 (released)": PiM(8, 5, "dilated"),
    "LM block, windows of 5": LMBlock(8, 5),
}
x = torch.randn(1, 8, 20, 20)
seen = {name: support(layer, x, pixel).numpy() for name, layer in layers.items()}
figures.plot_supports(seen, pixel.position)

# %% [markdown]
# A contiguous PiM never leaves its window. The released, dilated one never sees a direct neighbour. With PaM behind
# it, the LM block sees everything at once; a 3×3 convolution sees one pixel to each side.
#
# ## 2. The U-shape
#
# ![The paper's network: encoder stages with PiM and PaM, decoder, skip connections, sizes](../figures/u_shape.png)
#
# A **U-Net** answers with an image of the input's size: a class for every pixel. It goes down and up again. Going down,
# the *encoder* halves the map at every *stage* (a strided convolution) and adds channels: coarser, but each pixel
# knows more of its surroundings. The last stage is the *bottleneck*. Going up, the *decoder* doubles the map (a
# transposed convolution) and appends the encoder's map of that size. This *skip connection* brings the fine detail
# back. *Residual* means that every block of convolutions adds its input to its output, as in a ResNet; without
# that a U-Net is *plain*.
#
# *Why go down at all?* Convolutions see a few pixels; on a map that is halved six times these pixels are far apart in the
# image. *Why come up again?* The answer is wanted pixel by pixel.
#
# LKM-UNet is a residual U-Net with an LM block at the end of every encoder stage, bottleneck included. Let us take a
# network of the library apart and run its parts ourselves.


# %%
def forward_by_hand(network, image):
    """Image → logits, using the parts of ``network``."""
    x, maps = network.encoder.stem(image), []
    for stage, lm_block in zip(network.encoder.stages, network.encoder.mixers):
        x = lm_block(
            stage(x)
        )  # residual blocks, the first one strided; then PiM and PaM
        maps.append(x)
    decoder = network.decoder
    for up, stage, skip in zip(
        decoder.transpconvs, decoder.stages, reversed(maps[:-1])
    ):
        x = stage(
            torch.cat((up(x), skip), dim=1)
        )  # double the size, append the skip connection, convolve
    return decoder.seg_layers[-1](x)


classes = len(settings.organs) + 1  # the organs and background
network = build_network(
    f"lkm-unet/{settings.network}", input_channels=1, num_classes=classes
).eval()
image = torch.randn(1, 1, *settings.image_size)
with torch.no_grad():
    logits = network(image)
    torch.testing.assert_close(logits, forward_by_hand(network, image))
print(
    f"{sum(p.numel() for p in network.parameters()):,} parameters;"
    f" logits {tuple(logits.shape)}"
)

# %% [markdown]
# > **Paper ≠ code.** The paper draws the LM block first and the down-sampling after it; in the code each stage is two
# > residual blocks, the first one strided, and then the LM block. The paper says "depth-wise" stem convolution; the
# > code has an ordinary one. (For a one-channel image these are the same thing.) The paper shows a residual
# > connection around PaM only; the code has one around PiM too. The library follows the code in all three.
#
# `describe` makes a table of it, without computing anything:

# %%
table = describe(network, settings.image_size)
table[
    [
        "map",
        "channels",
        "window",
        "sequences",
        "tokens",
        "pool",
        "pam_tokens",
        "parameters",
        "flops",
    ]
]

# %% [markdown]
# Read it line by line: at stage 0 PiM reads `sequences` windows of `tokens` pixels each, PaM one sequence of
# `pam_tokens` representatives. Maps shrink and windows with them, so the last window is the whole map. Operations
# count two per multiply-add, for one image.
#
# **The control.** Take both blocks out and what is left *is* the residual U-Net: the same parameters, the same names,
# and after the same seed the same initial weights. Every comparison in this course uses it, because comparing
# LKM-UNet with a *plain* U-Net would mix two changes.

# %%
torch.manual_seed(1)
without_mamba = build_network(
    f"lkm-unet/{settings.network}",
    input_channels=1,
    num_classes=classes,
    pim=False,
    pam=False,
)
torch.manual_seed(1)
with_mamba = build_network(
    f"lkm-unet/{settings.network}", input_channels=1, num_classes=classes
)
assert all(
    torch.equal(p, with_mamba.get_parameter(name))
    for name, p in without_mamba.named_parameters()
)
size = {
    name: sum(p.numel() for p in net.parameters())
    for name, net in [("with", with_mamba), ("without", without_mamba)]
}
print(f"with Mamba {size['with']:,} parameters, without {size['without']:,}")

# %% [markdown]
# ## 3. A network of your own
#
# ### Exercise 1 · put it together (★★★, 20 minutes)
#
# Now out of your own parts, as far as you kept them. `UNet` is the residual U-Net with `nn.Identity()` in the place of
# every LM block: `self.encoder.mixers`, one for each stage, each called on the map that its stage makes. Write the LM
# block and put one into every stage, with the stage's channels (`self.features`, a list) and window. As in the paper,
# a patch of PaM is a window of PiM.

# %%
MyPiM, MyPaM = kept("MyPiM", PiM), kept("MyPaM", PaM)


# %%
class MyLMBlock(nn.Module):
    """A map (batch, channels, H, W) → same: PiM in ``pim``, then PaM in ``pam``."""

    def __init__(self, channels, window):
        super().__init__()
        ### BEGIN SOLUTION
        self.pim, self.pam = MyPiM(channels, window), MyPaM(channels, window)
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        return self.pam(self.pim(x))
        ### END SOLUTION


class MyLKMUNet(UNet):
    """MyLKMUNet(1, 3, windows=[8, 4], features_per_stage=[4, 8], strides=[...])."""

    def __init__(self, *channels_and_classes, windows, **sizes):
        super().__init__(*channels_and_classes, **sizes)
        ### BEGIN SOLUTION
        stages = zip(self.features, windows)
        self.encoder.mixers = nn.ModuleList(MyLMBlock(c, k) for c, k in stages)
        ### END SOLUTION


# %%
check_network(MyLKMUNet)

# %%
keep(MyLKMUNet, check_network)

# %% [markdown]
# Chapter 16 trains it on patients.
#
# ### Exercise 2 · windows for images of your own (★★, 10 minutes)
#
# The paper's windows fit the paper's images. Yours have other sides, often two different ones. Choose for each stage the
# largest square window that divides the stage's map along both axes and is not wider than `most`.


# %%
def windows_for(size, strides, most):
    """size (H, W) of the image, a stride per stage → a list with a side per stage."""
    ### BEGIN SOLUTION
    total, windows = 1, []
    for stride in strides:
        total *= stride
        common = math.gcd(size[0] // total, size[1] // total)
        windows.append(max(k for k in range(1, most + 1) if common % k == 0))
    return windows
    ### END SOLUTION


# %%
check_windows_for(windows_for)

# %% [markdown]
# On the crops of chapter 16, 40×56 pixels, four stages. Your network takes an image of that size and answers for every
# pixel. (Without a solution of your own the cell takes the windows [8, 4, 2, 1].)

# %%
strides = [1, 2, 2, 2]
windows = (
    windows_for((40, 56), strides, 24)
    if check_windows_for(windows_for)
    else [8, 4, 2, 1]
)
whole = MyLKMUNet if check_network(MyLKMUNet) else LKMUNet
sizes = {"features_per_stage": [8, 16, 32, 64], "strides": [(s, s) for s in strides]}
mine = whole(1, 3, windows=windows, **sizes)
print(
    f"{whole.__name__}, windows {windows}:"
    f" {sum(p.numel() for p in mine.parameters()):,} parameters"
)
print("logits", tuple(mine(torch.randn(1, 1, 40, 56)).shape))

# %% [markdown]
# A window of 1 at the last stage is a sequence of one token. There PiM is a small network for single pixels, and PaM
# reads all 5×7 of them. What could you do about it? Pad the images to 48×64, or take windows with two sides, (5, 7): the
# library does that (`fit_overrides`).
#
# ## 4. The paper's network and the released one
#
# At the paper's size (Section 4.2) the network has seven stages in 2D. We build it on PyTorch's `meta` device, which
# knows shapes and has no numbers, so 80 million parameters cost nothing.


# %%
def at_paper_size(name, **overrides):
    """A network of the paper's size without its memory."""
    with torch.device("meta"):
        return build_network(name, input_channels=1, num_classes=14, **overrides)


tables = {
    reading: describe(at_paper_size(f"lkm-unet/{reading}-2d"), (320, 320))
    for reading in ("paper", "released")
}
pd.concat(
    {
        name: t[["window", "sequences", "tokens", "pool", "pam_tokens"]]
        for name, t in tables.items()
    },
    axis=1,
)

# %%
figures.plot_tokens_per_stage(tables)

# %% [markdown]
# The two readings mirror each other. The windows 40, 20, 20, 10, 10, 5, 5 are in both. In the paper they are the
# *side* of the square that one sequence reads, in the code the *distance* between its pixels. In the code PiM's sequences get short and
# PaM's get long, and at the bottleneck PiM reads sequences of a single token. There it is a small per-pixel network
# and scans nothing.
#
# In 3D the same happens, with sequences of up to 26,880 tokens in the released PaM:

# %%
volumes = {
    reading: describe(at_paper_size(f"lkm-unet/{reading}-3d"), (40, 224, 192))
    for reading in ("paper", "released")
}
pd.concat(
    {name: t[["map", "window", "tokens", "pam_tokens"]] for name, t in volumes.items()},
    axis=1,
)

# %% [markdown]
# ## 5. Where do 80.9 million parameters sit?


# %%
def parts(network):
    """Parameters of encoder and decoder convolutions, PiM and PaM."""
    t = describe(network, (320, 320))
    decoder = sum(p.numel() for p in network.decoder.parameters())
    mamba = t.pim_parameters.sum() + t.pam_parameters.sum()
    encoder = t.parameters.sum() - decoder - mamba
    return {
        "encoder": encoder,
        "decoder": decoder,
        "PiM": t.pim_parameters.sum(),
        "PaM": t.pam_parameters.sum(),
    }


names = {
    "plain U-Net": "plain-unet/2d",
    "residual U-Net": "residual-unet/2d",
    "LKM-UNet": "lkm-unet/released-2d",
}
budget = pd.DataFrame(
    {label: parts(at_paper_size(name)) for label, name in names.items()}
).T
assert budget.sum(axis=1).tolist() == [33_489_940, 61_648_436, 80_886_452]
figures.plot_parameters(budget)

# %% [markdown]
# Two steps lead from nnU-Net's plain U-Net to LKM-UNet, and the paper's ablation (Table 3) takes them at once. Its
# baseline scores exactly what Table 1 lists for nnU-Net, a plain-convolution U-Net.
#
# * plain → residual: **+28.2 million**. A residual block holds two convolutions, so two blocks per stage mean four
#   convolutions where the plain U-Net has two. A plain U-Net with four is nearly as large (the cell below): 60.2
#   million. The other 1.4 million are 1×1 convolutions, on the residual connections that change the number of channels.
# * residual → LKM-UNet: **+19.2 million**, PiM and PaM in equal parts.

# %%
deeper = at_paper_size("plain-unet/2d", n_blocks_per_stage=4, n_blocks_decoder=4)
pd.DataFrame({**budget.T, "plain U-Net, 4 convolutions": parts(deeper)}).T.sum(
    axis=1
).astype(int).to_frame("parameters")

# %% [markdown]
# And the 19 million of Mamba? Nine tenths in the last three stages, where there are 512 channels and hardly any
# tokens: PiM and PaM share no weights between stages, and their size depends on the channels only, never on the
# window. The large windows everything is about, at stages 0 and 1, cost less than 1 % of Mamba's parameters.

# %%
released = tables["released"]
mamba = released.pim_parameters + released.pam_parameters
by_stage = pd.DataFrame(
    {
        "convolutions": released.parameters - mamba,
        "PiM": released.pim_parameters,
        "PaM": released.pam_parameters,
    }
)
share = mamba / mamba.sum()
print(
    f"of Mamba's parameters: {share[:2].sum():.1%} in stages 0 and 1,"
    f" {share[4:].sum():.1%} in stages 4 to 6"
)
figures.plot_parameters(by_stage)

# %% [markdown]
# ### Exercise 3 · count them yourself (★★, 10 minutes)
#
# Write the number of parameters of `BiM(d)` as a formula. With $e = 2d$ inner channels, a state of 16, 4 taps and $r
# = \lceil d/16 \rceil$, one Mamba (without its output projection) has
#
# | part | in_proj | conv1d | x_proj | dt_proj | A_log | D |
# |---|---|---|---|---|---|---|
# | shape | $2e \times d$ | $e \times 4$, bias | $(r + 32) \times e$ | $e \times r$, bias | $e \times 16$ | $e$ |
#
# (Section 5 of [chapter 02](02_selective_scan.ipynb) uses all of them; 32 is 16 numbers for $B$ and 16 for $C$.)
# Which of these exist twice in a BiM? What else is in it?


# %%
def bim_parameters(d):
    """Number of parameters of BiM(d)."""
    ### BEGIN SOLUTION
    e, r = 2 * d, math.ceil(d / 16)
    one_mamba = 2 * e * d + 5 * e + (r + 32) * e + e * (r + 1) + 16 * e + e
    return 2 * one_mamba + e * d + 2 * d
    ### END SOLUTION


# %%
check_bim_parameters(bim_parameters)

# %% [markdown]
# ## 6. A real slice
#
# Enough counting. One axial slice goes down the encoder, and we catch every map just before and just after its LM
# block. The network is *untrained*: the pictures show what the architecture passes on, not what it has learnt.

# %%
from lkm_kit.data import load_sample, normalize, resample_case, sample_source

case = load_sample("ct_a")
print(sample_source())
case = resample_case(case, (settings.spacing_mm, settings.spacing_mm, case.spacing[2]))
organs = [len(set(case.label[:, :, z].flat)) for z in range(case.shape[2])]
z = organs.index(max(organs))  # a slice with as many organs as possible
pixels = torch.from_numpy(
    normalize(case.image, case.modality)[::-1, ::-1, z].T.copy()
)  # patient's right at the left
height, width = (wanted - got for wanted, got in zip(settings.image_size, pixels.shape))
pixels = F.pad(
    pixels,
    (width // 2, width - width // 2, height // 2, height - height // 2),
    value=float(pixels.min()),
)
print(
    f"case {case.name}, slice {z}: {tuple(pixels.shape)} pixels"
    f" of {settings.spacing_mm} mm"
)

# %%
before, after = [], []


def remember(_, inputs, output):
    before.append(inputs[0])
    after.append(output)


hooks = [
    lm_block.register_forward_hook(remember) for lm_block in network.encoder.mixers
]
start = time.perf_counter()
with torch.no_grad():
    logits = network(pixels[None, None])
print(f"logits {tuple(logits.shape)} in {time.perf_counter() - start:.2f} s")
for hook in hooks:
    hook.remove()
figures.plot_encoder(
    pixels.numpy(), [m[0].numpy() for m in before], [m[0].numpy() for m in after]
)

# %% [markdown]
# (Every panel has its own colour scale.) Look at the lower row, first at stage 0. Squares with sharp borders are
# windows: PiM's scan
# begins anew at each of them, and PaM copies one value over the whole of it. A convolution leaves no such traces. The
# change is small beside the map itself:

# %%
change = [float((b - a).norm() / a.norm()) for a, b in zip(before, after)]
pd.DataFrame(
    {"change by the LM block, relative": change},
    index=pd.RangeIndex(len(change), name="stage"),
).round(3)

# %% [markdown]
# And what does one pixel of the output see of this slice, before anything is trained? Click on an organ, or move row and
# column; beside it the same network without Mamba. (Chapter 11 says how to read such maps, and trains first.)

# %%
both = {"LKM-UNet": network, "without Mamba": without_mamba.eval()}
ErfExplorer(both, pixels[None, None], windows={"logit": network.windows[0][0]})

# %% [markdown]
# ## 7. Deep supervision
#
# The decoder has output heads at every resolution, and in training all are used: `deep_supervision=True` returns a
# list, the full resolution first. *Why?* The coarse stages get a gradient of their own, on a short way. The weights of
# all heads exist either way, so the switch can be thrown at any time.

# %%
network.decoder.deep_supervision = True
with torch.no_grad():
    outputs = network(pixels[None, None])
network.decoder.deep_supervision = False
print([tuple(output.shape) for output in outputs])
logits = [output[0, 1].numpy() for output in outputs[:4]]
plot_maps(
    {f"output {i}: {len(m)}×{len(m)}": m for i, m in enumerate(logits)},
    "logit of class 1",
    scale="range",
    size=logits[0].shape,
)

# %% [markdown]
# The chequerboard comes from the transposed convolutions of the untrained decoder.
#
# ### Exercise 4 · weights of the outputs (★, 5 minutes)
#
# nnU-Net, and with it the released code, adds up the losses of all outputs, each with a weight: $1, \tfrac12, \tfrac14,
# \dots$ The last (coarsest) is set to 0. Then all are divided by their sum. Write them as a list.


# %%
def supervision_weights(n):
    """n weights that add up to 1; the last one is 0."""
    ### BEGIN SOLUTION
    weights = [0.5**i for i in range(n - 1)] + [0.0]
    return [weight / sum(weights) for weight in weights]
    ### END SOLUTION


# %%
check_supervision_weights(supervision_weights)

# %% [markdown]
# ## 8. Images that do not fit
#
# Windows must divide maps. What about a 256×256 slice and a first window of 40?
#
# > **Paper ≠ code.** The paper assumes sizes that fit (Section 3.2). For others the released code *silently* reads the whole map as one sequence: 65,536
# > tokens at stage 0, where a 320×320 slice has 64. That is another method with the same weights. Its PaM silently drops the pooling. Nothing
# > tells the user.
#
# The library says it, with the sizes that would do. If padding is what you want, ask for it.

# %%
try:
    describe(
        at_paper_size("lkm-unet/paper-2d"), (256, 256)
    )  # the network itself would say the same
except KitError as error:
    print(error)
padded = build_network(
    "lkm-unet/tiny-2d", input_channels=1, num_classes=classes, pad=True
)
print(
    "\na tiny network with pad=True:", tuple(padded(torch.zeros(1, 1, 100, 75)).shape)
)

# %% [markdown]
# ### Exercise 5 · which sizes fit? (★★★, 10 minutes)
#
# Given the strides and the (square) windows of all stages, what is the smallest image side that every window divides,
# at every stage? All sizes that fit are its multiples. For the paper's 2D network the answer is worth knowing.


# %%
def image_multiple(strides, windows):
    """Smallest image side in pixels; strides and windows are one number per stage."""
    ### BEGIN SOLUTION
    total, multiple = 1, 1
    for stride, window in zip(strides, windows):
        total *= stride
        multiple = math.lcm(multiple, total * window)
    return multiple
    ### END SOLUTION


# %%
check_image_multiple(image_multiple)

# %% [markdown]
# So the paper's 2D network takes slices with sides of 320, 640, … pixels and no others. The sizes of its windows and
# of its images are tied together.
#
# ## 9. State dicts of the released code
#
# `from_official(state_dict, strides, kernel_sizes)` loads weights that were trained with the released code into this
# library's network (`partition="dilated"`). Channels, classes and blocks are read off the shapes, windows and pools
# follow the released formulas. The library's tests hold it to logits computed by the released code itself, to 1e-4.
#
# The formulas, for stage $i$ of $S$, counted from 0: PaM's patch has a side of $2^{\lfloor (S - i - 1)/2 \rfloor}$
# pixels. PiM's window is 5 times as wide in 2D, $(5, 7, 6)$ times in 3D. They give the paper's list of kernel
# sizes for seven stages, and only for seven:

# %%
from lkm_kit.networks.lkm_unet import released_pools, released_windows

for stages in (5, 6, 7):
    print(
        stages,
        "stages: windows",
        [side for side, _ in released_windows(stages, 2)],
        "pools",
        released_pools(stages),
    )
assert [side for side, _ in released_windows(7, 2)] == [40, 20, 20, 10, 10, 5, 5]

# %% [markdown]
# Table 2 has two smaller lists: 20, 10, 10, 10, 5, 5, 5 and 10, 5, 5, 5, 5, 5, 5. They cannot come out of the formula.
# The code has no switch for them, and none for the arms of Table 3. To rerun these tables one has to choose a reading,
# and say which.
#
# ## Summary
#
# What we measured, what the paper claims, what is still open:
#
# * **What is a window?** *Paper* (Section 3.2): k×k neighbouring pixels. *Measured*: so in the text; a dilated grid
#   in the code, 1600 or 64 tokens per sequence at stage 0. *Open*: which of the two earned Table 2 (chapter 09).
# * **What does PaM pool?** *Paper* (Eq. 6): PiM's window. *Measured*: in the code a fifth of it per axis, and nothing
#   in the last two stages. *Open*: whether it matters.
# * **What does an LM block see?** *Paper*: with BiM the centre is not forgotten. *Measured*: every pixel of the map
#   depends on every other after one block; with one direction only on what came before. *Open*: how much of that a
#   *trained* network uses (chapter 11).
# * **What does the ablation compare?** *Paper* (Table 3): PiM, PaM and BiM against a baseline, +2.85 DSC. *Measured*:
#   the baseline's scores are those of a plain U-Net, 33.5 million parameters. LKM-UNet without Mamba is a residual
#   U-Net with 61.6 million. Mamba adds 19.2 million. *Open*: how much of the gain is the residual blocks' (chapter
#   10).
# * **Which images fit?** *Paper*: assumed to fit (Section 3.2). *Measured*: multiples of 320 for the 2D network; for all others the
#   released code changes its method without a word.
#
# **Open question.** At the bottleneck the paper's PiM reads the whole 5×5 map as one sequence of 25 tokens, and PaM a
# single token. The released code has it the other way round: PiM one token, PaM 25. Both keep the parameters of both
# blocks (5.7 M at this stage, half of them in a block that scans nothing). If you were to save parameters there,
# which block would you drop, and how would you test that nothing is lost?
#
# ## Further reading
#
# * J. Wang et al., [LKM-UNet](https://arxiv.org/abs/2403.07332), Section 3, and [the released
#   code](https://github.com/wjh892521292/LKM-UNet).
# * O. Ronneberger, P. Fischer, T. Brox, [U-Net](https://arxiv.org/abs/1505.04597): the shape, and the skip
#   connections.
# * F. Isensee et al., [nnU-Net](https://arxiv.org/abs/1809.10486) and [nnU-Net
#   Revisited](https://arxiv.org/abs/2404.09556): plain and residual encoders, and how little separates them.
# * C.-Y. Lee et al., [Deeply-Supervised Nets](https://arxiv.org/abs/1409.5185): losses at every depth.
# * A. Odena, V. Dumoulin, C. Olah, [Deconvolution and Checkerboard
#   Artifacts](https://distill.pub/2016/deconv-checkerboard/): the chequerboard of section 7.
