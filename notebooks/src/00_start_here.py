# %% [markdown]
# # 00 · Start here: what is claimed, what you can check, and how this course works
#
# *25 minutes to read, 20 for the exercises, half a minute to run.* You need PyTorch and some curiosity; no state-space
# models, no medicine.
#
# **Goals.** After this chapter you can
#
# * say in two sentences what LKM-UNet is and what its paper claims;
# * see what your machine offers, and choose a profile that fits it;
# * read a real CT or MR scan the right way up, in millimetres, with its organ labels;
# * send a slice through a small LKM-UNet, and score what comes out;
# * name the doubts that the later chapters examine.
#
# ## 1. The paper in one minute
#
# *LKM-UNet: Large Kernel Vision Mamba UNet for Medical Image Segmentation* is a paper by Wang, Chen, Chen and Wu
# (MICCAI 2024, arXiv 2403.07332). It asks how a network that marks organs in a scan can look far without becoming
# slow. Convolutions see a few pixels at a time. Self-attention sees everything, at a cost that grows with the square
# of the number of pixels. *Mamba* reads a sequence one token after the other and keeps a small memory, so its cost
# grows in step with the length. The abstract promises both virtues at once:
#
# > "… large Mamba kernels, excelling in locally spatial modeling compared to small kernel-based CNNs and Transformers,
# > while maintaining superior efficiency in global modeling compared to self-attention with quadratic complexity."
# > *(Abstract)*
#
# Three statements carry the paper, and every one is a number:
#
# | claim | where | DSC in % (abdominal MR) |
# |---|---|---|
# | better than other networks | Table 1 | LKM-UNet 77.35, U-Mamba 76.25, nnU-Net 74.50 |
# | larger kernels are better | Table 2 | 40: 77.35, 20: 76.45, 10: 75.89 |
# | every part of the block helps | Table 3 | all parts 77.35, none 74.50 |
#
# DSC is the Dice similarity coefficient, 100 for a perfect match; you will write it yourself in a moment. A *U-Net* is
# a convolutional network that shrinks the image stage by stage, grows it back, and gives every pixel a class (chapter
# 06). *nnU-Net* is the program that most of the field trains U-Nets with, because it sets itself up for each data
# set. In tables the word also names its default network. *U-Mamba* is an earlier U-Net with Mamba, inside nnU-Net,
# with Mamba in its encoder (U-Mamba_Enc) or at its deepest stage only (U-Mamba_Bot). Table 3 is an *ablation*: the
# same network with parts left out.
#
# ## 2. Your machine
#
# All sizes in this course come from a **profile**: how large the images are, how long a training runs. `LKM_PROFILE`
# chooses one before the notebook starts: `smoke` (seconds, to see that everything works), `laptop` (minutes, two
# cores), `gpu` (one graphics card), `paper` (the paper's own setting, days). Without it, the machine decides.

# %%
import platform
import time

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from lkm_kit.devices import available_cpus, resolve_device
from lkm_kit.plots import cases as case_plots
from lkm_kit.plots import overview, use_style
from lkm_kit.plots.lines import plot_lines
from lkm_kit.profiles import PROFILES, profile

use_style()
torch.manual_seed(0)
settings = profile()
print(
    f"Python {platform.python_version()}, torch {torch.__version__},"
    f" {available_cpus()} cores"
)
print(f"profile {settings.name}, device {resolve_device()}")

# %%
rows = {
    name: (p.network, p.image_size, p.spacing_mm, len(p.organs), p.iterations)
    for name, p in PROFILES.items()
}
pd.DataFrame(
    rows, index=["network", "image (pixels)", "pixel (mm)", "organs", "training steps"]
).T

# %% [markdown]
# The heart of Mamba is one operation, the *selective scan* (chapters 01 and 02). The kit has several programs for it,
# which must give the same numbers; `auto` takes the fastest that runs here. The same, and a speed test, in a terminal:
# `lkm doctor`.

# %%
from lkm_kit.ssm import scan_backends

for name, state in scan_backends().items():
    print(f"{name:>10}: {state}")

# %% [markdown]
# ## 3. Real patients
#
# The course uses three real scans from the test files of a published program, fetched once and checked byte by byte.
# Read where they come from; it limits what a score on them can mean.

# %%
from lkm_kit.data import (
    ORGANS,
    load_sample,
    organs_present,
    sample_names,
    sample_source,
)

print(sample_source())
cases = {name: load_sample(name) for name in sample_names()}

# %% [markdown]
# "Silver standard" says that a program drew these labels. A network that agrees with them agrees with that program;
# where the program errs, agreeing is no merit. Nobody here has a radiologist's truth. The three scans have three roles:
# networks learn from `ct_a`, `ct_b` is held out to test them, and `mr_d` shows what changes with another modality.
#
# A **case** is one patient's scan: the image, the labels, and where they lie in space. The arrays are in *RAS* order:
# the first index grows towards the patient's right, the second towards the front (anterior), the third towards the
# head (superior). The `affine`, a 4×4 matrix, turns an index into millimetres. Its first three columns are the steps
# from a voxel to the next one along each axis. So they are as long as a voxel is wide. (Chapter 07 uses all of it.)

# %%
for case in cases.values():
    lengths = [np.linalg.norm(case.affine[:3, axis]) for axis in range(3)]
    assert np.allclose(lengths, case.spacing, atol=1e-4)
pd.DataFrame(
    {
        name: [
            case.modality,
            case.shape,
            tuple(round(s, 2) for s in case.spacing),
            len(organs_present(case.label)),
        ]
        for name, case in cases.items()
    },
    index=["modality", "voxels (x, y, z)", "voxel (mm)", "organs in view (of 13)"],
).T

# %% [markdown]
# ## 4. How exercises work
#
# You write a function; the next cell checks it and says what is missing: first the shape, then the value, then a hint.
# A function must not change what it is given: work on a copy. A wrong answer stops nothing, so you may go on and come
# back. An empty cell gets no hint; the first wrong try gets a
# nudge, the next one the formula. `make student` puts copies without solutions into the folder `work/` of the
# repository: write there, your answers are kept. The solved chapters lie in `notebooks/`, for when you are stuck.
# Stars say how hard an exercise is: ★ a line or two that the text has just explained, ★★ some thought, ★★★ a puzzle.
#
# From chapter 02 on some exercises are parts of the network: Mamba, then BiM, PiM and PaM, and in chapter 06 the whole.
# What you write there is kept in a file of yours, `my_kit.py`. Later chapters build on it, and in chapter 16 it learns
# from patients.
#
# ### Exercise 1 · the right way up (★, 5 minutes)
#
# Half of all confusion with medical images is orientation. An axial slice is shown as if you stood at the patient's
# feet. The **front of the body is at the top**, the patient's **right side at the left**. Pictures store rows from
# the top down and columns from left to right. Turn slice `z` of a RAS volume into such a picture.


# %%
def axial(volume, z):
    """(x, y, z) in RAS order, number of a slice → (rows, columns) of its picture."""
    ### BEGIN SOLUTION
    return volume[::-1, ::-1, z].T
    ### END SOLUTION


# %%
from lkm_kit.course import check_axial, check_ct_window, check_dice, check_volume_ml

check_axial(axial)

# %% [markdown]
# ### Exercise 2 · a window for the eye (★, 5 minutes)
#
# CT measures in Hounsfield units (HU): air −1000, fat about −100, water 0, organs between 0 and 80, bone several
# hundred. A screen has 256 greys, so one looks through a *window*, given by its center and its width. Everything
# below is black (0), everything above white (1), linear in between.


# %%
def ct_window(image, center, width):
    """HU → grey values between 0 and 1."""
    ### BEGIN SOLUTION
    return np.clip((image - center) / width + 0.5, 0, 1)
    ### END SOLUTION


# %%
check_ct_window(ct_window)

# %% [markdown]
# MR has no such units; there the window comes from the image itself. Now look at the three patients, each at the slice
# with the most organs. (From here on the chapter uses its own versions of what you wrote.)


# %%
def most_organs(case):
    """Number of the slice that shows the most different organs."""
    return int(
        np.argmax(
            [len(organs_present(case.label[:, :, z])) for z in range(case.shape[2])]
        )
    )


def picture(case):
    """The slice with the most organs, in grey and with its labels."""
    z = most_organs(case)
    low, high = (
        (-160, 240) if case.modality == "CT" else np.percentile(case.image, (1, 99))
    )
    grey = ((case.image[::-1, ::-1, z].T - low) / (high - low)).clip(0, 1)
    size_mm = (case.shape[1] * case.spacing[1], case.shape[0] * case.spacing[0])
    return case_plots.Picture(grey, case.label[::-1, ::-1, z].T, size_mm)


names = {organ.label: organ.name for organ in ORGANS}
titles = {
    "ct_a": "ct_a: CT, training",
    "ct_b": "ct_b: CT, held out",
    "mr_d": "mr_d: MR, for chapter 07",
}
case_plots.plot_cases(
    {titles[name]: picture(case) for name, case in cases.items()}, names
)

# %% [markdown]
# The second patient was given a contrast agent, which makes vessels bright; the first was not. A network that learnt
# on `ct_a` alone has never seen such an aorta. Expect it to struggle there, and do not tune it until it does not:
# `ct_b` is the only other patient we have.
#
# ### Exercise 3 · how large is an organ? (★, 5 minutes)
#
# A mask is true on the voxels of one organ. A millilitre is a cube with sides of 10 mm.


# %%
def volume_ml(mask, spacing):
    """Volume of a bool array in millilitres; spacing in mm along x, y, z."""
    ### BEGIN SOLUTION
    return mask.sum() * np.prod(spacing) / 1000
    ### END SOLUTION


# %%
check_volume_ml(volume_ml)

# %% [markdown]
# Counting with a loop, and with the library:

# %%
case = cases["ct_a"]
by_hand = {
    organ.name: int((case.label == organ.label).sum())
    for organ in ORGANS
    if (case.label == organ.label).any()
}
assert by_hand == organs_present(case.label)
voxels = pd.Series(by_hand, name="voxels").to_frame()
voxels["volume (ml)"] = (voxels["voxels"] * np.prod(case.spacing) / 1000).round(1)
voxels["share of the scan (%)"] = (100 * voxels["voxels"] / case.label.size).round(3)
voxels

# %% [markdown]
# All organs together fill less than 6 % of the scan, an adrenal gland about 0.01 %. A network that answers
# "background" everywhere is right almost everywhere, and useless. That is why accuracy is not the score here.
#
# ## 5. One slice through a small LKM-UNet
#
# The network takes slices of one size and one spacing, with intensities on one scale. So: resample, normalise, then pad
# or crop. (The slice is larger than the network's 96×96 pixels: its outer rows and columns are cut off, and with them a
# rim of the body.)

# %%
from lkm_kit.data import LabelTable, normalize, resample_case

table = LabelTable(settings.organs)
print("classes:", dict(enumerate(("background", *table.names))))
small = resample_case(case, (settings.spacing_mm, settings.spacing_mm, case.spacing[2]))
z = most_organs(small)
image = torch.from_numpy(normalize(small.image, small.modality)[::-1, ::-1, z].T.copy())
truth = torch.from_numpy(table.to_classes(small.label)[::-1, ::-1, z].T.copy())


# %%
def pad_to(pixels, size, value):
    """Pad, or crop, the two axes of ``pixels`` evenly to ``size``."""
    height, width = (wanted - got for wanted, got in zip(size, pixels.shape))
    return F.pad(
        pixels,
        (width // 2, width - width // 2, height // 2, height - height // 2),
        value=value,
    )


image = pad_to(image, settings.image_size, float(image.min()))
truth = pad_to(truth, settings.image_size, 0)
print(
    tuple(image.shape),
    "mean",
    round(image.mean().item(), 2),
    "classes",
    truth.unique().tolist(),
)

# %%
from lkm_kit.networks import build_network, describe

network = build_network(
    f"lkm-unet/{settings.network}", input_channels=1, num_classes=table.num_classes
).eval()
print(f"{sum(p.numel() for p in network.parameters()):,} parameters")
for attempt in ("first, which prepares the scan", "second"):
    start = time.perf_counter()
    with torch.no_grad():
        logits = network(image[None, None])  # (batch, channels, rows, columns)
    print(f"forward pass, {attempt}: {time.perf_counter() - start:.3f} s")
print("logits", tuple(logits.shape), "= (batch, classes, rows, columns)")

# %% [markdown]
# The first pass took longer: it compiled the scan's kernel for this processor, once. The output has one score per class
# and pixel; the largest wins. Nothing has been learnt yet, so the picture is noise. (The fine
# chequerboard comes from the decoder, which doubles the size of its maps again and again.)

# %%
from lkm_kit.plots.training import plot_predictions

prediction = logits.argmax(dim=1)[0]
plot_predictions(
    [image.numpy()],
    [truth.numpy()],
    {"untrained LKM-UNet": [prediction.numpy()]},
    table.names,
)

# %% [markdown]
# ### Exercise 4 · Dice (★, 5 minutes)
#
# $$\mathrm{DSC}(P, T) = \frac{2\,|P \cap T|}{|P| + |T|}$$
#
# for two masks: 1 when they are equal, 0 when they have no pixel in common.


# %%
def dice(prediction, truth):
    """DSC of two bool arrays, of which at least one has a pixel set."""
    ### BEGIN SOLUTION
    return 2 * (prediction & truth).sum() / (prediction.sum() + truth.sum())
    ### END SOLUTION


# %%
check_dice(dice)

# %% [markdown]
# The library scores a whole case, organ by organ. Its second score, NSD (normalised surface Dice), asks which share of
# the two *outlines* lies within a few millimetres of each other. Both agree with what you would do by hand:

# %%
from lkm_kit.evaluation import evaluate_case

kit_ids = [table.to_kit(classes.numpy()) for classes in (prediction, truth)]
scores = evaluate_case(
    *kit_ids, (settings.spacing_mm,) * 2, table, case="ct_a, one slice"
).set_index("organ")
for index, organ in enumerate(table.names, start=1):
    p, t = prediction == index, truth == index
    if p.any() or t.any():
        by_hand = 2 * (p & t).sum() / (p.sum() + t.sum())
        assert abs(by_hand - scores.loc[organ, "DSC"]) < 1e-6
scores[["DSC", "NSD"]].round(3)

# %% [markdown]
# These are the scores of *knowing nothing*. They need not be 0: whoever marks half the picture as liver hits some of
# it. An organ that is predicted and not there scores 0. Chapter 08 trains the network and prints the same table again.
#
# ## 6. What a "kernel" of Mamba is
#
# A convolution with a kernel of 3×3 sees one pixel to each side, and fifteen of them in a row see fifteen. LKM-UNet
# instead hands a whole *window* of pixels to Mamba, each window as a sequence of its own. Its side is what the paper
# calls the kernel size. The small network has these:

# %%
describe(network, settings.image_size)[
    ["map", "channels", "window", "sequences", "tokens", "parameters"]
]

# %% [markdown]
# A window's sequence has as many tokens as its side squared. (A map has fewer of the large windows; chapter 04 adds
# up what they cost.) Here the abstract's claim can be measured at once: how do the times of the scan and of
# self-attention grow with the length $L$ of one sequence? Both get 64 channels; attention is PyTorch's own, the scan
# is the kit's. (`state` is how many numbers the scan remembers per channel; what `u`, `delta`,
# `A`, `B` and `C` are, chapters 01 and 02 say. Here random numbers do.)

# %%
from lkm_kit.ssm import selective_scan

channels, state, sides = 64, 16, (10, 20, 40, 80)


def milliseconds(function, *arguments):
    """Best of several calls; the first, which compiles the kernel, does not count."""
    function(*arguments)
    times = []
    for _ in range(settings.repeats):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


# %%
measured = {"selective scan": [], "self-attention": []}
A = -torch.rand(channels, state)
threads = torch.get_num_threads()
torch.set_num_threads(1)  # with several, a busy machine decides what is measured
for length in (side**2 for side in sides):
    u, delta = torch.randn(2, 1, channels, length)
    B, C = torch.randn(2, 1, state, length)
    q = torch.randn(1, 1, length, channels)
    measured["selective scan"].append(
        milliseconds(selective_scan, u, delta.exp(), A, B, C)
    )
    measured["self-attention"].append(
        milliseconds(F.scaled_dot_product_attention, q, q, q)
    )
torch.set_num_threads(threads)
lengths = np.array([side**2 for side in sides])
curves = {name: (lengths, times) for name, times in measured.items()}
least = min(times[-1] for times in measured.values())
for name, power in {"∝ L": 1, "∝ L²": 2}.items():
    first = least * lengths[0] / lengths[-1]
    curves[name] = (lengths, first * (lengths / lengths[0]) ** power)
plot_lines(
    curves,
    "tokens L in one sequence",
    "time, forward (ms)",
    looks=("o-", "s-", ":", "--"),
    log="xy",
    ticks=lengths,
)

# %%
for name, times in measured.items():
    print(
        f"{name}: four times as many tokens (1600 to 6400)"
        f" take {times[-1] / times[-2]:.1f} times as long"
    )
ratios = [a / s for a, s in zip(measured["self-attention"], measured["selective scan"])]
print(
    "attention / scan, by length:",
    {side**2: f"{r:.2g}" for side, r in zip(sides, ratios)},
)

# %% [markdown]
# Four times the tokens should take the scan four times as long (linear) and attention sixteen times (quadratic), once the
# sequences are long. The last line says who is faster at which length here: below 1, attention. Where the curves cross
# depends on the programs and the machine as much as on the methods. "Superior efficiency" is a statement about *long*
# sequences. How long are those of LKM-UNet? That is chapter 06.
#
# ## 7. Doubts in advance
#
# This course rebuilds the paper and questions it. What we know before the first training:
#
# * **The released code is not the paper's method.** The paper cuts the image into windows of neighbouring pixels
#   (Section 3.2). The released program reads a *dilated grid*, every 40th pixel, at the first stage. In it, a "larger
#   kernel" is a *shorter* sequence: on a map of 320×320 pixels $(320/40)^2 = 64$ tokens instead of $40^2 = 1600$. The
#   authors' answer to a reader's question describes a third thing, a number of windows per axis. Which of the three
#   made Table 2 is not known. (Chapters 04, 06, 09)
# * **The ablation changes two things at once.** Table 3's baseline, 74.50, is the number Table 1 gives for nnU-Net, a
#   plain U-Net with 33.5 million parameters. LKM-UNet *without any Mamba* is a residual U-Net with 61.6 million. How
#   much of the 2.85 points is Mamba's? (Chapters 06, 10)
# * **No spread.** The tables give one number per method, without a spread. (Chapter 13)
# * **Sizes that do not fit fail silently.** The released program then reads the whole map as one sequence: another
#   method, without a word. This library says so instead. (Chapter 06)
# * **Others found less.** nnU-Net's authors compared U-Mamba with itself minus its Mamba layers on six data sets: Mamba
#   gained at most 0.36 points of Dice, and lost up to 1.28 (`documentation/resenc_presets.md` in their repository).
#   Hence every comparison here has a control without Mamba, with the same convolutions.
#
# How large is "the spread"? A reader of U-Mamba's repository trained *one* configuration (U-Mamba_Bot, abdominal CT)
# four times and reported the four scores (issue 75 there). Put them beside the published scores on the same data:

# %%
from lkm_kit.studies import published

ct = published.table1["CT"]["DSC"].rename({"U-Mamba": "U-Mamba_Enc"})
runs = published.umamba_reruns
tables = ("nnU-Net", "U-Mamba_Enc", "LKM-UNet")
published_ct = {f"{name} (Table 1)": [ct[name]] for name in tables}
published_ct["U-Mamba_Bot, four runs by one reader"] = runs.tolist()
overview.plot_published(published_ct, xlabel="DSC on abdominal CT (%)")

# %%
lead = ct["LKM-UNet"] - ct["U-Mamba_Enc"]
print(f"LKM-UNet's lead over U-Mamba_Enc: {lead:.2f} points")
print(
    f"spread of four runs of one network: {np.ptp(runs):.2f} points,"
    f" standard deviation {runs.std():.2f}"
)

# %% [markdown]
# The lead is smaller than the run-to-run variation. That does not make it wrong; it makes it *unproven*, and tells
# us what a better experiment needs: several seeds, and the same control throughout.
#
# ## 8. The chapters
#
# | chapter | question | paper |
# |---|---|---|
# | [01 State-space models](01_state_space_models.ipynb) | what is the machine inside Mamba? | Section 2, Eq. 1-4 |
# | [02 Selective scan](02_selective_scan.ipynb) | how does it choose what to remember? | Section 2 |
# | [03 Bidirectional Mamba](03_bidirectional_mamba.ipynb) | why read in both directions? | Section 3.2 |
# | [04 Pixel-level SSM](04_pixel_level_ssm.ipynb) | what is a window? | Section 3.2 |
# | [05 Patch-level SSM](05_patch_level_ssm.ipynb) | how do windows talk to each other? | Eq. 6 |
# | [06 LKM-UNet](06_lkm_unet.ipynb) | how do the parts make a network, and where does the code differ? | Section 3.1 |
# | [07 Data](07_data.ipynb) | what do the scans contain, and how are they prepared? | Section 4.1 |
# | [08 Train](08_train.ipynb) | does a small one learn, and does Mamba help it? | Section 4.2 |
# | [09 Table 2](09_table2_kernel_size.ipynb) | is a larger kernel better? | Table 2 |
# | [10 Table 3](10_table3_ablation.ipynb) | which part helps, and against what? | Table 3 |
# | [11 Effective receptive field](11_effective_receptive_field.ipynb) | how far does a trained network look? | Fig. 3 |
# | [12 Baselines](12_table1_baselines.ipynb) | against other networks, trained alike? | Table 1 |
# | [13 Auditing the paper](13_auditing_the_paper.ipynb) | what was run, and what do the tables prove? | all of it |
# | [14 Volumes](14_volumes_3d.ipynb) | what changes with a third axis? | Section 3.1 |
# | [15 Full scale](15_full_scale_reproduction.ipynb) | what would the paper's own setting take? | Section 4 |
# | [16 Your own data](16_your_own_data.ipynb) | how do I train and judge it on my scans? | – |
# | [17 Other scans](17_other_scans.ipynb) | what do other papers' scans do, and what does each part of a scan add? | – |
#
# ## 9. Symbols and words
#
# Every chapter explains its symbols at its head, where it needs them. All symbols and words of the course, with the
# chapter that introduces them, are in the [glossary](GLOSSARY.md). A few that come before their chapter: a *token* is
# one element of a sequence, here a pixel or the mean of a patch. BiM, PiM and PaM are the paper's names: a Mamba in
# two directions, a Mamba over the pixels of a window, a Mamba over the windows' means. A *control* is the same
# network without Mamba.
#
# ## Summary
#
# * **What we measured.** Three scans read in millimetres, and the scores of a network that knows nothing. Besides,
#   how the times of the scan and of attention grow with the length of a sequence.
# * **What the paper claims.** Better scores than CNNs, Transformers and U-Mamba, thanks to large kernels and to every
#   part of its block (Tables 1-3). The cost grows linearly.
# * **What is still open.** Which reading of "kernel" the tables used, how much is due to Mamba at all, and whether
#   the differences are larger than run-to-run variation.
#
# **Open question.** You have one patient to learn from and one to test on, as here. Take the three claims of
# Section 1. Which could an experiment on these two patients support, and which could it refute? About which can it say
# nothing, however good the network is?
#
# ## Further reading
#
# * J. Wang, J. Chen, D. Chen, J. Wu, [LKM-UNet: Large Kernel Vision Mamba UNet](https://arxiv.org/abs/2403.07332):
#   the paper, and [its code](https://github.com/wjh892521292/LKM-UNet).
# * F. Isensee et al., [nnU-Net Revisited](https://arxiv.org/abs/2404.09556): how large differences between
#   segmentation networks are once all are trained alike, U-Mamba among them.
# * J. Ma, F. Li, B. Wang, [U-Mamba](https://arxiv.org/abs/2401.04722): the earlier U-Net with Mamba, and [its
#   code](https://github.com/bowang-lab/U-Mamba).
# * J. Wasserthal et al., [TotalSegmentator](https://arxiv.org/abs/2208.05868): the program whose test files and
#   labels this course uses.
