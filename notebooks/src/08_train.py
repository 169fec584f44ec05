# %% [markdown]
# # 08 · Training: LKM-UNet against the same network without Mamba
#
# *25 minutes to read, 21 for the exercises. About five minutes to run on two free cores the first time, one the second
# (finished trainings are found again).* Before: [07_data](07_data.ipynb). After:
# [10_table3_ablation](10_table3_ablation.ipynb), which trains more arms and asks about seeds.
#
# **Goals.** After this chapter you can
#
# * write the loss of the paper (Dice plus cross-entropy, deep supervision) and say why it has two parts;
# * read a training loop line by line, stop it at any moment and continue it to the same bits;
# * score a segmentation by DSC and NSD, and say what "official" scoring does differently;
# * train LKM-UNet and its control yourself, and judge what the difference between their scores is worth.
#
# **You need** chapter 06 for the network and 07 for the data; chapters 01 to 05 if you want to know what happens inside.
#
# | symbol | meaning | shape here |
# |---|---|---|
# | $p_{ki}$, $t_{ki}$ | predicted probability of class $k$ at pixel $i$; 1 where that is the label, else 0 | (batch, classes, rows, columns) |
# | $K$, $N$ | organs (background is class 0 and not among them); pixels of the batch | numbers |
# | $k(i)$ | the class that the label gives to pixel $i$ | – |
# | $\epsilon$ | a small number against 0/0, here $10^{-5}$ | a number |
# | $s$, $S$ | step of the training, number of steps | numbers |
# | $P$, $T$; $\tau$ | predicted and true mask of an organ; tolerance of NSD | bool arrays; mm |
#
# **The paper's claim** (Section 4.2, Table 1; in our words). Training is inside nnU-Net, for 1000 epochs of 250 steps, at 320×320
# pixels, batch 24, learning rate 0.01, weight decay 3e-5. LKM-UNet reaches DSC 77.35 and NSD 83.80 on 50 abdominal MRs, nnU-Net's own
# network 74.50 and 81.53. On 50 CTs: 86.82 and 90.02 against 86.15 and 89.72. One number each, without a spread; how
# many trainings stand behind it is not said.
#
# We cannot repeat 1000 epochs on a laptop. We can train a small LKM-UNet, and the same network **without** PiM and
# PaM: the same convolutions, the same initial weights, the same batches in the same order. That control is what the
# paper's tables lack, and here it costs a few minutes.

# %%
import dataclasses
import inspect
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from lkm_kit import training
from lkm_kit.course import (
    check_official_slices,
    check_poly_rate,
    check_soft_dice_loss,
    check_surface_dice,
)
from lkm_kit.data import CohortSlices, LabelTable, load_sample, normalize, sample_source
from lkm_kit.devices import resolve_device
from lkm_kit.errors import KitError
from lkm_kit.evaluation import RULES, compare, evaluate_case
from lkm_kit.evaluation import predict_case, predict_volume, score_slices
from lkm_kit.networks import build_network
from lkm_kit.plots import cases as case_plots
from lkm_kit.plots import training as figures
from lkm_kit.plots import use_style
from lkm_kit.plots.lines import plot_lines
from lkm_kit.profiles import profile
from lkm_kit.training import TrainConfig, make_loss, run_folder, train
from lkm_kit.widgets.live_curve import LiveCurve

use_style()
settings = profile()
config = TrainConfig.from_profile(settings)
print("profile:", settings.name)
print(f"{config.iterations} steps of {config.batch_size} slices, {config.optimizer}")
print("organs:", ", ".join(config.organs))

# %% [markdown]
# ## 1. What the network is shown
#
# One real CT (`ct_a`) with organ labels, and as many *deformed copies* of it as we want (in code: `warps`). Image and
# labels are bent, turned and scaled together; the image gets another contrast, a bias field and noise. Every second copy is mirrored left to
# right, and the organs keep their names: the right kidney of a mirrored body is still the one beside the liver. So
# the place of a pixel does not say which kidney it belongs to. What does is whether there is a liver within some six
# centimetres, 20 pixels: a case for a large kernel (but for the bright spots that chapter 07 found).
#
# Training, validation and test copies have different seeds. All come from one person: good scores on them show that the
# network has learnt, not that it would do for a second patient. For that there is `ct_b`, at the end.

# %%
print(sample_source())
table = config.table
common = {
    "size": config.image_size,
    "spacing_mm": config.spacing_mm,
    "table": table,
    "seed": config.data_seed,
}
test_warps = CohortSlices("test", length=settings.test_slices, **common)


def upright(array):
    """(x, y) → picture: front of the body at the top, its right side at the left."""
    return np.asarray(array)[::-1, ::-1].T


# %%
def picture(item):
    """One item of the cohort, ready to be drawn."""
    grey = np.clip((upright(item["image"][0]) + 2.4) / 4.8, 0, 1)
    size_mm = tuple(side * config.spacing_mm for side in grey.shape)
    return case_plots.Picture(grey, upright(item["label"]), size_mm)


names = dict(enumerate(table.names, start=1))
shown = {f"test copy {i}": picture(test_warps[i]) for i in range(4)}
case_plots.plot_cases(shown, names)

# %% [markdown]
# ## 2. The loss: two parts, for two kinds of mistake
#
# The network gives a logit per class and pixel; softmax turns them into probabilities $p$. With the labels as 0/1
# maps $t$, one per class:
#
# $$\mathcal L = \underbrace{1 - \frac1K\sum_{k=1}^{K}
#   \frac{2\sum_i p_{ki}\,t_{ki} + \epsilon}{\sum_i p_{ki} + \sum_i t_{ki} + \epsilon}}_{\text{Dice of the organs}}
#   \;\underbrace{-\;\frac1N\sum_i \log p_{k(i)\,i}}_{\text{cross-entropy of all pixels}}$$
#
# The sums run over all pixels *of the batch* ("batch Dice"). Background has a share in the cross-entropy and none in
# the Dice. This is nnU-Net's loss in 2D; in 3D its plans may take Dice item by item. The released code keeps it.


# %%
def loss_by_hand(logits, label):
    """Logits (b, classes, h, w), label (b, h, w) → Dice loss and cross-entropy."""
    p = logits.softmax(1)
    t = F.one_hot(label, logits.shape[1]).movedim(-1, 1)
    both, all_of_it = (p * t).sum((0, 2, 3)), (p + t).sum((0, 2, 3))
    dice = (2 * both + 1e-5) / (all_of_it + 1e-5)
    return 1 - dice[1:].mean(), -p.gather(1, label[:, None]).log().mean()


batch = [test_warps[i] for i in range(4)]
label = torch.stack([item["label"] for item in batch])
random = torch.Generator().manual_seed(0)
logits = torch.randn(4, table.num_classes, *config.image_size, generator=random)
torch.testing.assert_close(sum(loss_by_hand(logits, label)), make_loss()(logits, label))
print(f"by hand and in the library: {make_loss()(logits, label):.6f}")

# %% [markdown]
# Why two parts? Take a prediction that is right everywhere but misses one organ completely, and look at what each part
# charges for it. (First rows: answers one knows. A perfect prediction costs nothing; knowing nothing costs the
# logarithm of the number of classes in cross-entropy.)


# %%
def sure_of(classes):
    """Logits of a network that is sure of these classes."""
    return 12.0 * F.one_hot(classes, table.num_classes).movedim(-1, 1).float()


answers = {"perfect": sure_of(label), "knows nothing": torch.zeros_like(logits)}
for i, name in names.items():
    answers[f"misses the {name}"] = sure_of(label.where(label != i, 0))
parts = {what: loss_by_hand(answer, label) for what, answer in answers.items()}
rows = {what: [float(part) for part in both] for what, both in parts.items()}
assert abs(rows["knows nothing"][1] - np.log(table.num_classes)) < 1e-6
charged = pd.DataFrame(rows, index=["Dice", "cross-entropy"]).T
charged["pixels"] = [0, 0, *((label == i).sum().item() for i in names)]
charged.round(3)

# %% [markdown]
# Cross-entropy charges by the pixel: a small organ is nearly free. Dice charges each organ the same, but hardly tells
# "knows nothing" (nearly 1) from being sure and wrong about every organ (1). The sum is nnU-Net's choice; this chapter
# does not test it against its parts.
#
# ### Exercise 1 · soft Dice (★, 5 minutes)
#
# Write the first part yourself, for probabilities `p` and one-hot labels `t`, both (batch, classes, height, width).


# %%
def soft_dice_loss(p, t):
    """1 minus the mean soft Dice of classes 1, 2, ... over the whole batch.

    1e-5 is added above and below the line.
    """
    ### BEGIN SOLUTION
    both, total = (p * t).sum((0, 2, 3)), (p + t).sum((0, 2, 3))
    return 1 - ((2 * both + 1e-5) / (total + 1e-5))[1:].mean()
    ### END SOLUTION


# %%
check_soft_dice_loss(soft_dice_loss)

# %% [markdown]
# **Deep supervision.** The decoder has a head at every resolution, and the label is shrunk to each. The losses are
# added with weights 1, ½, ¼, …, the lowest head 0, scaled to sum 1 (chapter 06). Only the finest head is used later.

# %%
heads = [logits, logits[..., ::2, ::2], logits[..., ::4, ::4]]
fine = label[:, None].float()
coarse = [F.interpolate(fine, h.shape[2:], mode="nearest-exact") for h in heads]
shrunk = [each[:, 0].long() for each in coarse]
weights = [2 / 3, 1 / 3, 0]
by_hand = sum(w * sum(loss_by_hand(h, s)) for w, h, s in zip(weights, heads, shrunk))
torch.testing.assert_close(make_loss()(heads, label), by_hand)
print(f"three heads: {by_hand:.6f}")

# %% [markdown]
# ## 3. The optimiser
#
# > **Paper ≠ code.** Section 4.2 names Adam, with a momentum of 0.99. Adam has no parameter of that name (β₁ comes nearest); the released trainer
# > is nnU-Net's, unchanged: **SGD with Nesterov momentum 0.99**, learning rate 0.01 with *poly* decay
# > $(1 - s/S)^{0.9}$, weight decay 3e-5, gradients clipped to norm 12.
#
# A momentum of 0.99 averages over some hundred steps. With 250,000 steps that is nothing, with a few hundred it is
# the whole training. So the small profiles use AdamW with one cycle (rise, then fall), the paper profile nnU-Net's SGD.
#
# The peak of the cycle was chosen by validation slices, not guessed. At 0.003, rising for 30 % of the 400 steps, the
# network without Mamba ends at a validation DSC of 0.81. At 0.01, rising for 10 % of them, it ends at 0.92. LKM-UNet
# goes from 0.88 to 0.92. So at the lower rate the two were 7 points apart, and most of that was the rate. (To see it:
# `lkm train --set learning_rate=0.003 --set warmup=0.3`, once more with `--no-mamba`, and both without `--set`.)
# [Chapter 10](10_table3_ablation.ipynb) shows what such a rate does to a whole table.
#
# ### Exercise 2 · poly decay (★, 3 minutes)


# %%
def poly_rate(step, iterations, start):
    """Learning rate at a step, counted from 0."""
    ### BEGIN SOLUTION
    return start * (1 - step / iterations) ** 0.9
    ### END SOLUTION


# %%
check_poly_rate(poly_rate)


# %%
def rates(optimizer, learning_rate):
    """The learning rate of every step, from the library's schedule."""
    chosen = TrainConfig.from_profile(
        settings,
        optimizer=optimizer,
        learning_rate=learning_rate,
    )
    stepper = training.make_optimizer(chosen, torch.nn.Linear(1, 1))
    schedule, seen = training.make_schedule(chosen, stepper), []
    for _ in range(chosen.iterations):
        seen.append(schedule.get_last_lr()[0])
        stepper.step()
        schedule.step()
    return seen


poly, cycle = rates("sgd", 0.01), rates("adamw", config.learning_rate)
schedules = {"SGD, poly (paper's code)": poly, "AdamW, one cycle": cycle}
curves = {
    f"{name}: up to {max(values):g}": np.array(values) / max(values)
    for name, values in schedules.items()
}
plot_lines(curves, "step", "learning rate / its largest", ylim=(-0.03, 1.08))

# %% [markdown]
# ## 4. The loop, to be read aloud
#
# This is all of it: `fit` in `lkm_kit/training/loop.py`. `fabric` (Lightning Fabric) moves things to the device,
# chooses the precision and adds up gradients when several processes train together. With one process on a CPU it does
# nothing. Every `validate_every` steps the network is scored and everything is saved.

# %%
print(inspect.getsource(training.loop.fit))

# %% [markdown]
# Two lines deserve a word. `check_finite` stops at the first loss or gradient that is not a number, *before* the
# step spoils the weights. And `batches(step)` is asked for batches *from a step on*: which slices make up
# step $s$ is a function of the seed and $s$ alone. That is what allows a training to be stopped and continued.
#
# Without scaffolding the loop is ten lines. The check: from the same seed, the same weights after some steps, to the
# bit.

# %%
few = TrainConfig.from_profile(
    "smoke",
    network_overrides={"pim": False, "pam": False},
    iterations=4,
    validate_every=2,
    validation_slices=2,
)


def loop_by_hand(config):
    """The training without validation, checkpoints, devices and processes."""
    torch.manual_seed(config.seed)
    network = build_network(
        config.network,
        input_channels=1,
        num_classes=config.table.num_classes,
        deep_supervision=True,
        pim=False,
        pam=False,
    )
    optimizer, loss_function = training.make_optimizer(config, network), make_loss()
    schedule = training.make_schedule(config, optimizer)
    slices = training.batches.make_datasets(config)["train"]
    for batch in training.batches.train_loader(config, slices, first_step=0):
        loss_function(network(batch["image"]), batch["label"]).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return network


# %%
scratch = tempfile.TemporaryDirectory()
place = Path(scratch.name)
whole = train(few, place / "whole", progress=False, device="cpu")
mine = loop_by_hand(few)
wanted = list(whole.network.parameters())
same = [torch.equal(a, b) for a, b in zip(mine.parameters(), wanted)]
assert all(same)
print(f"{len(same)} tensors of weights, all equal to the last bit")

# %% [markdown]
# ## 5. Stop, and go on
#
# A training of hours will be interrupted: time limit, closed lid, power cut. Below we pull the plug after step 3. The
# last checkpoint is from step 2, so the second call repeats step 3. It ends in the same bits as the undisturbed run.


# %%
def pull_the_plug(step, loss, history):
    """Called after each step."""
    if step == 3:
        raise KeyboardInterrupt


try:
    train(few, place / "stopped", progress=False, device="cpu", watch=pull_the_plug)
except KeyboardInterrupt:
    left = sorted(path.name for path in (place / "stopped").iterdir())
    print("stopped; left behind:", *left)
resumed = train(few, place / "stopped", progress=False, device="cpu")
assert all(torch.equal(a, b) for a, b in zip(resumed.network.parameters(), wanted))
print("resumed:", *sorted(path.name for path in resumed.run_dir.iterdir()))

# %% [markdown]
# A changed config in the same folder is refused, with the fields that differ; a loss that explodes is reported with
# its step. Both are errors one meets in the first week.

# %%
for change in ({"learning_rate": 1e-3}, {"learning_rate": 1e30}):
    changed = TrainConfig.from_json({**few.to_dict(), **change})
    folder = "whole" if change["learning_rate"] < 1 else "exploded"
    try:
        train(changed, place / folder, progress=False, device="cpu")
    except KitError as error:
        print(str(error).replace(scratch.name, "..."), end="\n\n")
scratch.cleanup()

# %% [markdown]
# ## 6. The two networks
#
# With `pim=False, pam=False` the network *is* the residual U-Net: same convolutions under the same names, and, because
# they are drawn first, the same initial values. Only the Mamba blocks are added.

# %%
arms = {"LKM-UNet": {}, "no Mamba": {"pim": False, "pam": False}}
shape = {"input_channels": 1, "num_classes": table.num_classes}
configs, states = {}, {}
for arm, overrides in arms.items():
    configs[arm] = dataclasses.replace(config, network_overrides=overrides)
    torch.manual_seed(config.seed)
    network = build_network(config.network, **shape, **overrides)
    states[arm] = network.state_dict()
    print(f"{arm:9s} {sum(p.numel() for p in network.parameters()):>10,} parameters")
with_mamba, without = states["LKM-UNet"], states["no Mamba"]
assert without.keys() <= with_mamba.keys()
assert all(torch.equal(with_mamba[name], without[name]) for name in without)

# %% [markdown]
# Now train them. A finished training is found again by the digest of its config (below `runs/`), so the next run of
# this chapter takes seconds. Delete the folder, or change a number, to train anew. A curve grows below each network
# while it trains; one that is found again shows none, and its history follows in the next figure.

# %%
results = {}
for arm, chosen in configs.items():
    curve = LiveCurve(chosen.iterations, title=f"{arm}, profile {settings.name}")
    folder = run_folder(chosen, "chapter-08")
    how = {"progress": False, "watch": curve, "workers": settings.workers}
    results[arm] = train(chosen, folder, **how)

# %%
done = {arm: result.record["training"] for arm, result in results.items()}
cost = pd.DataFrame(
    {
        "minutes": {arm: d["seconds"] / 60 for arm, d in done.items()},
        "ms a step": {arm: 1000 * d["seconds"] / d["steps"] for arm, d in done.items()},
        "last validation DSC": {arm: d["last"]["DSC"] for arm, d in done.items()},
    }
)
cost.round(3)

# %%
figures.plot_history({arm: result.history for arm, result in results.items()})

# %% [markdown]
# Every step of both arms (an *arm* is one of the networks that a study compares) saw the same slices. Look at the time
# as well: a step of LKM-UNet takes longer than one of its control. The ratio is in the table above and depends on the
# machine. The control could have used that time for more steps.
#
# ## 7. DSC and NSD
#
# **DSC** counts voxels: $2|P\cap T|/(|P|+|T|)$. **NSD** asks how much of the two *surfaces* lies within a tolerance τ
# of the other one: 5 mm for the liver, 2 mm for the aorta (values of the official script). By hand, with the border
# pixels as surface:


# %%
def border(mask):
    """Coordinates of the mask's pixels that touch the outside."""
    inner = mask.copy()
    for axis in (0, 1):
        inner &= np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
    return np.argwhere(mask & ~inner)


def nearest(a, b):
    """Distance from each point of a to the nearest point of b."""
    return np.linalg.norm(a[:, None] - b[None], axis=2).min(axis=1)


square = np.zeros((40, 40), dtype=bool)
square[10:30, 10:30] = True
moved = np.roll(square, 3, axis=1)
there = nearest(border(square), border(moved))
back = nearest(border(moved), border(square))
print(f"{len(there)} and {len(back)} border pixels")
print(f"the farthest lies {there.max():.0f} pixels from the other border")

# %% [markdown]
# ### Exercise 3 · surface Dice (★★, 5 minutes)
#
# From these two lists of distances and a tolerance, the NSD.


# %%
def surface_dice(a_to_b, b_to_a, tolerance):
    """Share of all surface points that lie at most ``tolerance`` from the other one."""
    ### BEGIN SOLUTION
    near = (a_to_b <= tolerance).sum() + (b_to_a <= tolerance).sum()
    return near / (len(a_to_b) + len(b_to_a))
    ### END SOLUTION


# %%
check_surface_dice(surface_dice)

# %% [markdown]
# The library's NSD weighs each piece of surface by its length (in 3D its area) instead of counting pixels. It agrees
# with DeepMind's `surface-distance`, which the paper's script uses, to 1e-6. Here is a square that slides away from
# itself, at the liver's tolerance of 5 mm:

# %%
from lkm_kit.evaluation import dice
from lkm_kit.evaluation import surface_dice as library_nsd

shifts = range(13)
slid = {s: np.roll(square, s, axis=1) for s in shifts}
counted = []
for m in slid.values():
    to, fro = nearest(border(square), border(m)), nearest(border(m), border(square))
    counted.append(np.mean(np.r_[to, fro] <= 5.0))
scores = {
    "DSC": [dice(m, square) for m in slid.values()],
    "NSD, 5 mm": [library_nsd(m, square, (1.0, 1.0), 5.0) for m in slid.values()],
    "NSD, pixels counted": counted,
}
assert max(abs(a - b) for a, b in zip(scores["NSD, 5 mm"], counted)) < 0.1
plot_lines(
    scores,
    "shift (mm)",
    "score",
    looks=("o-", "s-", ":"),
    ylim=(-0.03, 1.05),
)

# %% [markdown]
# NSD forgives everything below the tolerance and then falls steeply; DSC falls from the first millimetre on. A DSC of
# 0.9 is easy for a liver and impossible for an adrenal gland; the tolerances are meant to make organs comparable.
#
# **Look at the pixel beside the tolerance.** Ours is 3 mm wide. At the aorta's 2 mm a border that is off by one pixel
# is wrong, all of it: there NSD asks for the exact pixel, and comes out lower than DSC. The liver's 5 mm forgive one pixel.
#
# **Which rule?** The same prediction can be scored in two ways, and a table without the rule is worth little:

# %%
for rule, meaning in RULES.items():
    print(f"{rule}: {meaning}")

# %% [markdown]
# ### Exercise 4 · the official slices (★★, 8 minutes)
#
# For aorta, vena cava and esophagus the released script does not look at the whole volume. A comment in it says "for Aorta, IVC,
# and Esophagus, only evaluate the labelled slices in ground truth". Its code takes `[z_lower:z_upper]`, the first and the last
# slice with the organ in the *truth*. Which slices are these? (Axis 2 counts slices.)


# %%
def official_slices(truth):
    """Numbers of the slices that are scored; truth is a bool array (x, y, z)."""
    ### BEGIN SOLUTION
    where = np.nonzero(truth)[2]
    return list(range(where.min(), where.max()))
    ### END SOLUTION


# %%
check_official_slices(official_slices)

# %% [markdown]
# The last slice is left out (the slice rule excludes its end), and an aorta seen on one slice only scores "not a number". The kit
# keeps this under the name *official*, for comparisons with the paper, and uses *plain* everywhere else.

# %%
aorta = LabelTable(("aorta",))
truth = np.zeros((20, 20, 10), dtype=np.uint8)
truth[8:12, 8:12, 2:8] = aorta.labels[0]
missed = truth.copy()
missed[..., 7] = 0  # the prediction stops one slice early
scored = {rule: evaluate_case(missed, truth, (3, 3, 3), aorta, rule) for rule in RULES}
{rule: rows["DSC"].item() for rule, rows in scored.items()}

# %% [markdown]
# ## 8. On deformed copies it has not seen
#
# Each test copy is one case; an organ counts where the truth or the prediction shows it. Other seeds, the same person.
#
# These scores need not equal those of the validation curve in section 6. The curve counts an organ's pixels over all
# validation slices together and divides once. This table scores each slice for itself and takes the mean. So an organ that
# shows only a few pixels in a slice counts as much as a large one. That makes the table the lower of the two.

# %%
device = resolve_device()
how = {"table": table, "spacing_mm": config.spacing_mm, "device": device}
on_warps = {}
for arm, result in results.items():
    on_warps[arm] = score_slices(result.network, test_warps, **how)
warp_table = compare(on_warps)
warp_table.round(3)

# %% [markdown]
# ## 9. On a patient it has never seen
#
# `ct_b` is another scan: another person, as far as one can tell, and other pixels (0.98 mm instead of 3). It has **contrast
# agent** in the vessels, which no training image had. Every network here should do badly; that is the honest test
# of one-patient training. Its labels are the predictions of a large model ("silver"), not a human's, and nothing
# was tuned on it. The prediction is made at 3 mm, slice by slice, with a sliding window. It is brought back to the scan's
# own grid before it is scored.

# %%
stranger = load_sample("ct_b")
how["window"] = config.image_size
segmented, on_patient = {}, {}
for arm, result in results.items():
    segmented[arm] = found = predict_case(result.network, stranger, **how)
    on_patient[arm] = evaluate_case(
        found,
        stranger.label,
        stranger.spacing,
        table,
        case=stranger.name,
    )
patient_table = compare(on_patient)
patient_table.round(3)

# %% [markdown]
# Read the zeros with care. The 20 slices of `ct_b` show **no kidney**: a 0.000 there says that the network drew one
# where none is, and the mean counts it.
#
# Both test sets as a picture; a line joins the two arms of an organ.

# %%
titles = {
    f"{len(test_warps)} held-out deformed copies of the training patient": warp_table,
    f"{stranger.name}: another patient, silver labels": patient_table,
}
figures.plot_organ_scores(titles)

# %% [markdown]
# Look at pictures before you believe a mean. Two test copies first, then two slices of `ct_b`. Colours are what each
# column says, the outlines over the predictions are the labels.

# %%
shown = [test_warps[i] for i in (0, 2)]
images = torch.stack([item["image"] for item in shown]).to(device)
found = {}
for arm, result in results.items():
    classes = predict_volume(result.network, images, window=config.image_size).argmax(1)
    found[arm] = [upright(m.cpu()) for m in classes]
grey = [upright(item["image"][0]) for item in shown]
truth = [upright(item["label"]) for item in shown]
figures.plot_predictions(grey, truth, found, table.names, titles=["copy 0", "copy 2"])

# %%
counts = [len(np.unique(stranger.label[..., z])) for z in range(stranger.shape[2])]
heights = sorted({int(np.argmax(counts)), stranger.shape[2] // 4})
grey = normalize(stranger.image, stranger.modality)


def at_heights(volume):
    """Every second pixel of the chosen slices, ready to be drawn."""
    return [upright(volume[::2, ::2, z]) for z in heights]


truth = at_heights(table.to_classes(stranger.label))
found = {arm: at_heights(table.to_classes(each)) for arm, each in segmented.items()}
titles_of = [f"ct_b, slice {z}" for z in heights]
figures.plot_predictions(at_heights(grey), truth, found, table.names, titles=titles_of)

# %% [markdown]
# ## Summary
#
# What we measured, what the paper claims, what is still open. The numbers of this run:

# %%
for title, scored in titles.items():
    mean = scored.loc["mean"]
    difference = mean["DSC", "LKM-UNet"] - mean["DSC", "no Mamba"]
    print(title)
    for arm in arms:
        print(f"  {arm:9s} DSC {mean['DSC', arm]:.3f}  NSD {mean['NSD', arm]:.3f}")
    seeds = len(settings.seeds)
    print(f"  LKM-UNet minus control: {difference:+.3f} DSC, from {seeds} seed(s)")

# %% [markdown]
# * **Does Mamba help?** *Paper* (Tables 1 and 3): +0.67 DSC on CT, +2.85 on MR, over a network that also has other
#   convolutions. *Measured*: the difference above, between two networks that differ in nothing but the Mamba blocks,
#   from one training each. *Open*: whether it is larger than the spread between seeds (chapter 10 asks it properly),
#   and whether it stays with real training sets.
# * **At which cost?** *Paper*: Fig. 2 compares efficiency on a GPU. *Measured*: the milliseconds per step above. *Open*:
#   what the control would reach in the same *time* instead of the same number of steps.
# * **Does it hold for a new patient?** *Paper*: 50 test cases. *Measured*: one patient, silver labels, across a contrast
#   phase, after training on one person: the drop from one table to the other is several times the difference between the
#   two networks. *Open*: how many patients it takes to close it.
# * **What was trained, exactly?** *Paper*: Adam, with a momentum of 0.99. *Measured*: the released code runs SGD. *Open*:
#   how much of a published difference is the recipe.
#
# **Open question.** The mirrored cohort was built so that left and right kidney can be told apart only by what lies
# around them. Compare the two kidneys' rows of both networks in the table of section 8. If the control tells them apart as well, where does it
# get the information from? (Count its receptive field: four stages, one residual block each.) Design a cohort in which
# it could *not*, and a large kernel could.
#
# ## Further reading
#
# * F. Milletari, N. Navab, S.-A. Ahmadi, [V-Net](https://arxiv.org/abs/1606.04797): the soft Dice loss.
# * F. Isensee et al., [nnU-Net](https://doi.org/10.1038/s41592-020-01008-z): this loss, and the poly schedule.
# * D. Kingma, J. Ba, [Adam](https://arxiv.org/abs/1412.6980), and I. Loshchilov, F. Hutter,
#   [AdamW](https://arxiv.org/abs/1711.05101): what the optimiser does with a gradient.
# * C.-Y. Lee et al., [Deeply-Supervised Nets](https://arxiv.org/abs/1409.5185): a loss at every resolution.
# * L. Maier-Hein et al., [Metrics Reloaded](https://arxiv.org/abs/2206.01653), and S. Nikolov et al., [surface
#   Dice](https://arxiv.org/abs/1809.04430): the two scores.
