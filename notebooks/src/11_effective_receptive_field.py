# %% [markdown]
# # 11 · Effective receptive fields: what a network really sees
#
# *20 minutes to read, 30 for the exercises, three minutes to run (five more if chapter 08 has not trained its networks yet).*
# Before: [08_train](08_train.ipynb). After: [12_table1_baselines](12_table1_baselines.ipynb), your own network, or [17_other_scans](17_other_scans.ipynb).
#
# **Goals.** After this chapter you can
# * compute an effective receptive field (ERF) in five lines, and say exactly which number it is;
# * check an ERF tool against convolutions, whose answer is known before anything is computed;
# * tell what a window, PaM and BiM do to what one output pixel sees;
# * draw maps in the style of the paper's Fig. 3 with everything stated that it leaves out, and say what they can and cannot show;
# * find out by an experiment how far a trained network looks.
#
# | symbol | meaning | shape here |
# |---|---|---|
# | $q$, $s(x)$ | the *probe*: an output pixel, and the one number taken there | pixel, number |
# | $A(p)$ | mean over images of $\lvert\partial s/\partial x(p)\rvert$ | (H, W) |
# | $m = A/\sum A$ | share of the mass on each pixel | (H, W) |
# | $R(t)$ | smallest share of the image, of any shape, that holds mass $t$ | 0 to 1 |
#
# **The paper's claim.** Fig. 3 shows four maps, of a CNN, a Transformer, U-Mamba and LKM-UNet. It concludes (in our
# words) that LKM-UNet has the largest effective receptive field, and that U-Mamba weakens local attention. Which output was asked, on which images, before or after training,
# with what normalisation and colour scale: the paper does not say, and the released code holds no ERF code.

# %%
import time

import numpy as np
import pandas as pd
import torch
from torch import nn

from lkm_kit.blocks import PaM, PiM
from lkm_kit.course import (
    check_area_holding,
    check_erf_by_hand,
    check_field_side,
    check_window_share,
)
from lkm_kit.data import CohortSlices
from lkm_kit.data.cue_task import CueTask
from lkm_kit.erf import Probe, erf, luo_sigma, measures, published_erf
from lkm_kit.erf import stage_probes, support
from lkm_kit.errors import KitError
from lkm_kit.figures.erf_maps import four_networks, positions, readings
from lkm_kit.figures.reach import functional_receptive_field
from lkm_kit.networks import build_network
from lkm_kit.plots.erf import erf_grid
from lkm_kit.plots.maps import plot_maps
from lkm_kit.plots.style import use_style
from lkm_kit.profiles import profile
from lkm_kit.studies import functional
from lkm_kit.studies.functional_tables import by_distance, reaches
from lkm_kit.training import TrainConfig, initial_network, run_folder, train
from lkm_kit.widgets.erf_explorer import ErfExplorer

use_style()
torch.manual_seed(0)
settings = profile()
print("profile:", settings.name)

# %% [markdown]
# ## 1. Five lines
#
# ![How an effective receptive field is measured: image, output, gradient, mean over images](../figures/erf_measured.png)
#
# Take one output pixel, make its channels one number (here: sum them), and ask how much that number moves when each
# input pixel moves a little. That is a gradient, and one backward pass gives it for all pixels at once.


# %%
def erf_naive(network, x, row, column):
    x = x.clone().requires_grad_()
    s = network(x)[0, :, row, column].sum()
    (gradient,) = torch.autograd.grad(s, x)
    return gradient[0].abs().sum(0)  # over the image's channels


# %%
first, second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 5, padding=2)
network = nn.Sequential(first, nn.ReLU(), second)
x = torch.randn(1, 1, 21, 21)
naive = erf_naive(network, x, 10, 10)
library = erf(network, x, Probe(position=(10, 10)))
torch.testing.assert_close(naive.double(), library.values)
print("pixels that matter:", int((naive > 0).sum()), "= 7 × 7")
print("a kernel of 3 and one of 5 together reach 3 pixels to every side")

# %% [markdown]
# The library's form adds what a real network needs: any layer, places given by their window, other rules for the
# channels, several probes in one pass. Where a gradient would mean nothing, it refuses. For a network of your own, in 2D
# or 3D, [docs/erf.md](../docs/erf.md) has the few lines that it takes.

# %%
in_training = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
wrong = {
    "a layer that is not there": (network, Probe(layer="00")),
    "a pixel outside the map": (network, Probe(position=(3, 30))),
    "batch statistics": (in_training, Probe()),
}
for what, (net, probe) in wrong.items():
    try:
        erf(net, x, probe)
    except KitError as error:
        print(f"{what}: {error}\n")

# %% [markdown]
# ## 2. Known answers
#
# Luo et al. (2016) asked how a stack of $n$ convolutions with $k\times k$ kernels sees. The *theoretical* field has a side of
# $n(k-1)+1$. But a pixel at its edge reaches the probe by one path and the centre by very many. So the
# *effective* field is a bell. For kernels of equal weights its width is known exactly: along each axis, the sum of $n$
# independent steps, uniform on $k$ values, has the variance
#
# $$\sigma^2 = n\,\frac{k^2-1}{12}.$$


# %%
def boxes(n, k):
    """n convolutions whose weights are all 1."""
    layers = [nn.Conv2d(1, 1, k, padding=k // 2, bias=False) for _ in range(n)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    return nn.Sequential(*layers).double()


# %%
counts, empty = [(1, 7), (3, 7), (9, 3), (9, 7)], torch.zeros(1, 1, 61, 61)
stacks = {f"{n} of {k}×{k}": erf(boxes(n, k), empty) for n, k in counts}
found = measures(stacks)[["sigma_0", "box_99", "area_50"]]
found["σ by Luo"] = [luo_sigma(k, n) for n, k in counts]
assert np.allclose(found["sigma_0"], found["σ by Luo"], atol=1e-9)
found.round(4)

# %% [markdown]
# `measures` makes one row of numbers of every map. What its columns say, here and in the tables to come:
#
# | column | what it is |
# |---|---|
# | `sigma_0`, `sigma_1` | standard deviation of the mass along the first and the second axis, in mm (without a spacing: in pixels) |
# | `area_50`, `area_90` | $R(0.5)$, $R(0.9)$: smallest share of the image, of any shape, that holds half, or nine tenths, of the mass |
# | `box_50`, `box_99` | share of the image in the smallest square around the probe that holds half, or 99 %, of the mass |
# | `box_mm_50`, `box_mm_90` | half the side of such a square, in mm |
# | `own_pixel` | share of the mass on the probe's own pixel |
# | `locality` | share of the rest that lies in the probe's own window |
# | `n_eff` | $1/\sum m^2$: over how many pixels the mass would be spread if all had the same |
# | `direction_scan` | (mass before the probe − mass behind it) / their sum, in the order of the scan; 1: only what came before |
# | `direction_0`, `direction_1` | the same along the first and the second axis of the image |
# | `enrichment` | `locality` over the share that the window has of the image; 1 where the window means nothing |
# | `seam_index` | how much more neighbours differ across a border of windows than inside one: 0 no seams, 1 nothing but seams |

# %%
erf_grid({"boxes": stacks})

# %% [markdown]
# Nine kernels of 7×7 have a theoretical field of 55×55 pixels, but $2\sigma$ to both sides is only 24 pixels. Half of
# the mass lies on a nineteenth of the field. More known answers:

# %%
zeros = torch.zeros(1, 1, 16, 16)
dilated = nn.Conv2d(1, 1, 3, padding=2, dilation=2)
answers = {
    "identity": (nn.Identity(), 1),
    "1 convolution of 3×3, dilated by 2": (dilated, 9),
    "average of the map": (
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Upsample((16, 16))),
        256,
    ),
}
for name, (net, expected) in answers.items():
    assert int(support(net, zeros).sum()) == expected
    print(f"{name}: {expected} pixels")

# %% [markdown]
# `support` answers *whether* a pixel has a path to the probe, however weak. It sends a NaN backwards instead of a 1.
# A NaN times anything is a NaN, so it cannot fade to zero on the way, as a gradient does behind a Mamba that forgets.
#
# ## 3. Two traps
#
# **Normalisation sees everything.** InstanceNorm divides by a standard deviation over the whole map, so that every
# output depends on every pixel, a little. True, but it hides what kernels and windows do. We therefore treat those
# statistics as constants ("frozen") unless we say "live":

# %%
net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4))
image = torch.randn(1, 1, 16, 16)
for stats in ("frozen", "live"):
    print(f"{stats}: {int(support(net, image, norm_stats=stats).sum())} of 256 pixels")
assert support(net, image).sum() == 9 and support(net, image, norm_stats="live").all()

# %% [markdown]
# **Logarithms before ratios.** A widely used script (RepLKNet's) rescales the map by $\log_{10}(A+1)$ and *then* asks
# which square holds half of it. Multiply the network's output by a constant, which changes no prediction, and the answer
# changes; ours, on raw mass, does not:

# %%
loud = boxes(5, 5)
rows, ones = {}, torch.ones(1, 1, 41, 41)
for factor in (1e-6, 1e-3, 1.0):
    loud[-1].weight.data.fill_(factor)
    script = published_erf("replknet", loud, ones).numbers["area_50"]
    raw = measures(erf(loud, ones)).loc[0, "box_50"]
    rows[f"output × {factor:g}"] = {"replknet's script": script, "raw mass": raw}
pd.DataFrame(rows).T.rename_axis("share of the image that holds 50 %").round(4)

# %% [markdown]
# ## 4. One block
#
# Now the parts of LKM-UNet, untrained. The probe is in the middle of a window of 8×8. How many pixels have a path to it?
# How much of the mass lies in its own window (without the probe's own pixel, which the residual path fills)?

# %%
side, window = 24, 8
probe = Probe(position="window:center", window=window)
blocks = {
    "PiM, windows": PiM(8, window),
    "PiM, grid of the code": PiM(8, window, "dilated"),
    "PiM, forward only": PiM(8, window, bidirectional=False),
    "PaM": PaM(8, window // 2),
}
image = torch.randn(1, 8, side, side)
maps = {name: erf(block, image, probe) for name, block in blocks.items()}
table = measures(maps)[["own_pixel", "locality", "direction_scan"]]
paths = [int(support(block, image, probe).sum()) for block in blocks.values()]
assert paths[:2] == [64, 9] and paths[3] == side**2
table["pixels with a path"] = paths
table.round(3)

# %% [markdown]
# The window ends PiM's view exactly at its border. The released code's grid has no neighbour in it at all. The
# forward scan has only what came before (a direction of 1). PaM sees everything, through one token per patch. The
# residual path puts most of the mass on the probe itself: report it apart, or every map is one bright pixel.
#
# And because the window has a border, *where* in it one asks matters. The centre of an image, where probes usually sit,
# is the corner of a window whenever an even number of windows fits:

# %%
partitions = {"windows": "contiguous", "grid": "dilated"}
places = {}
for name, partition in partitions.items():
    places[name] = positions(partition, size=48, window=12)
erf_grid(places, curves=False)

# %% [markdown]
# ## 5. Whole networks, before training
#
# The claim is about whole networks. Here are the three readings of the kernel size and the control, all with random
# weights, asked for all logits at once. (Signs between classes cancel in a sum; random signs, squared and averaged, do
# not: the rule "rademacher" estimates $\lVert\partial z/\partial x(p)\rVert$.)

# %%
size = 48 if settings.name == "smoke" else 96
fresh = readings(size=size, window=size // 4)
erf_grid({"untrained": fresh})

# %%
columns = ["own_pixel", "n_eff", "area_50", "area_90", "locality"]
measures(fresh)[columns].round(4)

# %% [markdown]
# Without Mamba the untrained network sees *one cell of its deepest map*, here 8×8 pixels, with a rim of one pixel, and
# nothing else. The U-Net's convolutions are there, but nnU-Net starts every residual branch at zero. Only the first
# convolution (the rim) and the shortcuts, which pool, carry anything. All that is with frozen statistics; with live ones every pixel
# has a gradient (next cell). A picture "CNN against Mamba" before training thus
# shows an initialisation, not an architecture. The path exists all the same:

# %%
control = build_network("residual-unet/tiny-2d", input_channels=1, num_classes=7).eval()
image = torch.randn(1, 1, 96, 96)
probe = Probe(position="window:center", window=24)
for stats in ("frozen", "live"):
    reached = erf(control, image, probe, norm_stats=stats).values > 0
    print(f"gradient not zero, {stats} statistics:", int(reached.sum()), "pixels")
print("path exists:      ", int(support(control, image, probe).sum()), "pixels")

# %% [markdown]
# The four kinds of network that the paper's Fig. 3 names, as tiny presets, untrained: a CNN (nnU-Net's plain U-Net), a
# Transformer (SwinUNETR), U-Mamba_Enc as of January 2024, and LKM-UNet. Above with frozen statistics, below with live ones:

# %%
kinds = four_networks(seeds=1 if settings.name == "smoke" else 3)
erf_grid(kinds)

# %%
pd.concat({stats: measures(maps)[columns] for stats, maps in kinds.items()}).round(4)

# %% [markdown]
# Initialisations again, and not the paper's figure: that one does not say what was trained, on what, and how it was asked. The paper
# concludes (in our words) that U-Mamba weakens local attention. In the table that is a question about `own_pixel` and `locality`;
# what these columns say before training need not hold after it. The same four kinds after the same training, on deformed
# copies of one patient (the CNN is LKM-UNet without Mamba; `lkm figures erf_four_trained` trains them):
#
# ![Four kinds of network after training, frozen and live statistics](../figures/erf_four_trained.png)
#
# At 25 places U-Mamba holds less of its mass in the probe's window than the CNN, as the paper concludes. With live
# statistics the gap is about half as large ([numbers](../docs/results.md#what-the-networks-see)). One training of
# each says nothing about another one.
#
# ## 6. In the style of Fig. 3, with everything stated
#
# The two networks of [chapter 08](08_train.ipynb), LKM-UNet and itself without Mamba, before and after the same training
# on the same slices. Probe: all logits at the middle of a window. Images: held-out deformed copies. Statistics frozen. One colour
# scale.

# %%
arms = {"LKM-UNet": {}, "no Mamba": {"pim": False, "pam": False}}
configs, trained, untrained = {}, {}, {}
for arm, overrides in arms.items():
    config = TrainConfig.from_profile(settings, network_overrides=overrides)
    folder = run_folder(config, "chapter-08")
    result = train(config, folder, progress=False, workers=settings.workers)
    configs[arm], trained[arm] = config, result.network.eval()
    untrained[arm] = initial_network(config).eval()

# %%
config = configs["LKM-UNet"]
warps = CohortSlices(
    "test",
    length=4,
    size=config.image_size,
    spacing_mm=config.spacing_mm,
    table=config.table,
    seed=config.data_seed,
)
images = torch.stack([warps[k]["image"] for k in range(4)])
probe = Probe(position="window:center", window=24, rule="rademacher")


def seen(networks):
    """The field of each network, by the same probe on the same images."""
    return {arm: erf(net, images, probe, draws=4) for arm, net in networks.items()}


fig_3 = {"before training": seen(untrained), "after training": seen(trained)}
erf_grid(fig_3)

# %%
flat = {f"{arm}, {when}": m for when, maps in fig_3.items() for arm, m in maps.items()}
in_mm = [*columns, "box_mm_50", "box_mm_90"]
measures(flat, spacing=[config.spacing_mm] * 2)[in_mm].round(4)

# %% [markdown]
# Read the numbers before the picture. "Which field is larger?" has no answer without a share: compare `area_50`, the
# area that holds half the mass, with `area_90`, which asks about the faint rest. And compare both columns *after*
# training: a control whose field is smaller before may well grow.
#
# How sure is this? One probe is one sample. The same measure, the same images, at nine places of the trained networks. And
# with the statistics of InstanceNorm as they are when the network is used (*live*), beside the frozen ones:

# %%
at = [(row, column) for row in (36, 48, 60) for column in (36, 48, 60)]
spots = [Probe(position=place, window=24, rule="rademacher") for place in at]
shares = {}
for stats in ("frozen", "live"):
    for arm, network in trained.items():
        nine = measures(erf(network, images, spots, draws=4, norm_stats=stats))
        ends = nine[["area_50", "area_90"]].agg(["mean", "std", "min", "max"])
        shares[stats, arm] = ends.T
pd.concat(shares, names=["statistics", "network", "share"]).round(3)

# %% [markdown]
# One place would have misled. The area that holds half the mass differs from place to place, by a factor of about two
# in both networks. Their ranges overlap.
#
# *Frozen*, only direct paths count: from pixel to pixel through convolutions, pooling and scans. There the faint rest,
# `area_90`, tells the two networks apart: compare the columns' ends. *Live*, every pixel also changes the mean and the
# variance of each map that is normalised, and through them every output. That path is there in both networks, and it
# reaches everywhere. Compare the same columns once more: what is left of the difference? A statement about receptive
# fields needs both, or says which it means. And these are two trained networks, not yet two *designs*: for that train
# each several times, as [chapter 10](10_table3_ablation.ipynb) does.

# %% [markdown]
# ### Stage by stage
#
# The same question inside the encoder: how much of the image does one cell of each stage's map see?

# %%
stages = {}
for arm, network in trained.items():
    probes = stage_probes(network, "encoder.mixers.*")
    found = measures(erf(network, images[:1], probes))
    stages[arm] = found.set_index("layer")["area_90"]
pd.DataFrame(stages).rename_axis("share of the image that holds 90 %").round(4)

# %% [markdown]
# ## 7. Explore
#
# Move the sliders (with the extra `viz` installed: click into the picture). The dashed box is the window of the first
# stage. (The slice lies on its side: rows and columns are those that the scan reads.) Try a pixel on both sides of its border; "live" statistics; a class whose organ is elsewhere.

# %%
names = ["background", *config.table.names]
began = time.perf_counter()
explorer = ErfExplorer(
    trained,
    images[:1],
    classes=names,
    layers=["encoder.mixers.0", "encoder.mixers.3"],
    windows={"logit": 24},
)
print(f"two networks, first picture after {time.perf_counter() - began:.1f} s")
explorer

# %%
explorer.cls.value = names.index("liver")
explorer.row.value, explorer.column.value = 40, 30
explorer.figure

# %%
explorer.table.round(4)

# %% [markdown]
# ## 8. Does it use what it sees?
#
# A gradient says what a small change *would* do. The causal question needs an experiment: hide the answer at a known
# distance, and see who finds it. In the *cue task* an image is white noise with one square of +3 or −3, and **every
# pixel has to say its sign**. Noise tells nothing about its neighbours, so a right answer proves that the pixel's network
# has looked as far as the square. Images come as twins, equal but for the sign: whoever does not see the cue is right
# on exactly one of the two, and chance is 0.5 without any scatter.

# %%
task = CueTask(settings.reach.size)
twins = task.batch(1, 0)
differ = (twins.image[0] != twins.image[1]).sum()
assert differ == task.cue**2  # nothing but the cue
positive, negative = twins.image[:, 0].numpy()
pair = {"positive cue": positive, "its twin": negative}
plot_maps(pair, "intensity", scale="signed")

# %% [markdown]
# Three short networks learn it from 200 batches each. They have two stages; the control's theoretical receptive field
# ends after five pixels above and left, six below and right. **Predict** before you run the next cell: up to which
# distance will each be right, if windows are a quarter of the image wide?

# %%
arms = ["residual-unet", "pim-bim", "pam-bim"]
cue_runs = functional.run(settings, seeds=1, arms=arms)
curves = by_distance(cue_runs)
everywhere = curves[curves["cue"] == "anywhere"]
accuracy = everywhere.pivot(index="distance", columns="arm", values="accuracy")
accuracy[arms].iloc[::5].round(3)

# %%
for row in reaches(curves).query("cue == 'anywhere'").itertuples():
    print(f"{row.arm:15s} right in 3 of 4 answers up to {row.reach:.0f} pixels")
    print(f"{'':15s} the theoretical field allows {row.possible:.0f}")

# %% [markdown]
# And with all arms and three seeds (`lkm reach`, its committed results):

# %%
functional_receptive_field().figure

# %% [markdown]
# Solid: right answers. Dotted: what the theoretical receptive field allows, estimated from 48 random pixels. So a
# solid line may lie above its dotted one by a pixel or two without anybody seeing farther than it can.
#
# PiM in windows adds a few pixels to what the convolutions see and stops with the window, as section 4 said it must. The
# released code's grids reach across the image, with holes between their lattice points. PaM carries the cue everywhere; read
# in one direction, only from patches before. A *deeper* U-Net without Mamba reaches most of the image too. And
# the same short convolutions with InstanceNorm are right everywhere: the mean over the map tells every pixel. That is the trap
# of section 3, now as a network that uses it.
#
# The task is easy on purpose: one bit, loud, alone. It says how far a network *can* learn to look, not how much a
# segmentation gains by it; for that see [chapter 10](10_table3_ablation.ipynb).
#
# ## Exercises
#
# **1. The theoretical field** (★, 5 minutes). Convolutions in a row, some of them strided. How many pixels wide is what
# one output sees?


# %%
def field_side(kernels, strides):
    """kernels, strides: one number per layer, first layer first; a whole number."""
    ### BEGIN SOLUTION
    side, step = 1, 1
    for k, s in zip(kernels, strides):
        side += (k - 1) * step
        step *= s
    return side
    ### END SOLUTION


# %%
check_field_side(field_side)

# %% [markdown]
# **2. An ERF by hand** (★, 5 minutes). Without looking at section 1.


# %%
def erf_by_hand(layer, x, row, column):
    """x: (1, channels, H, W). All channels of the output's pixel, summed.

    Returns magnitudes, summed over x's channels: (H, W).
    """
    ### BEGIN SOLUTION
    x = x.clone().requires_grad_()
    layer(x)[0, :, row, column].sum().backward()
    return x.grad[0].abs().sum(0)
    ### END SOLUTION


# %%
check_erf_by_hand(erf_by_hand)

# %% [markdown]
# **3. The area that holds a share** (★★, 10 minutes). $R(t)$ of the table of symbols.


# %%
def area_holding(values, share):
    """values: tensor (H, W), not negative. Returns a number between 0 and 1."""
    ### BEGIN SOLUTION
    held = values.flatten().sort(descending=True).values.cumsum(0) / values.sum()
    return (int((held < share - 1e-9).sum()) + 1) / values.numel()
    ### END SOLUTION


# %%
check_area_holding(area_holding)

# %% [markdown]
# **4. At home in the window** (★★, 10 minutes). Which share of the mass, without the probe's own pixel, lies in the
# window of side `k` that holds the probe?


# %%
def window_share(values, row, column, k):
    """values: tensor (H, W); windows start at its origin. A number between 0 and 1."""
    ### BEGIN SOLUTION
    others = values.clone()
    others[row, column] = 0
    top, left = row // k * k, column // k * k
    return float(others[top : top + k, left : left + k].sum() / others.sum())
    ### END SOLUTION


# %%
check_window_share(window_share)

# %% [markdown]
# **Open question.** A gradient says what a small change *would* do. Name a way in which a network can use a distant pixel
# that this gradient does not show. Name a way in which the gradient is large although nothing useful comes of it. What
# experiment, besides section 8's, would settle whether a *segmentation* network uses what it sees?
#
# ## Summary
#
# | what we measured | what the paper says | what is still open |
# |---|---|---|
# | a window ends PiM's view exactly; PaM carries a coarse one on; the released grid skips every neighbour | "large kernels" see locally and far | – |
# | before training, frozen: the control sees one cell and its rim, LKM-UNet all, faintly; live: both see all | Fig. 3 does not say when | – |
# | after training "larger" depends on the share, on the place, and on whether InstanceNorm's statistics count: see section 6 | LKM-UNet's field is the largest of four | the paper's own networks: no weights are published |
# | trained to tell a cue's sign, PiM stops at its window, PaM and a deeper U-Net do not (section 8) | – | how far a segmentation needs to look |
# | RepLKNet's ratio changes with the output's scale; ours does not | does not say how it measured | – |
#
# ## Further reading
#
# * W. Luo et al., [Understanding the effective receptive field](https://arxiv.org/abs/1701.04128): where the measure
#   comes from.
# * X. Ding et al., [RepLKNet](https://arxiv.org/abs/2203.06717): the ratio of section 3.
# * Y. Liu et al., [VMamba](https://arxiv.org/abs/2401.10166): fields of a scan in four directions.
# * A. Araujo, W. Norris, J. Sim, [Computing receptive fields](https://distill.pub/2019/computing-receptive-fields/): the
#   theoretical field of any convolutional network.
