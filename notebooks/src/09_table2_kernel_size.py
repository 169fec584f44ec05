# %% [markdown]
# # 09 · Table 2: is a larger kernel better, and what is a larger kernel?
#
# *10 minutes to read, 25 for the exercises, one minute to run.* Before: [05_patch_level_ssm](05_patch_level_ssm.ipynb) and
# [08_train](08_train.ipynb). After: [10_table3_ablation](10_table3_ablation.ipynb), which explains the statistics used here.
#
# **Goals.** After this chapter you can
# * say what each of three readings makes of "kernel size 40": which pixels share a sequence, and how many;
# * predict from tokens, before any training, what Table 2 would have to show under each reading;
# * run a study of kernel sizes alike for all arms, and compare it with the published order;
# * say how often an order of three settings comes out by luck alone.
#
# | symbol | meaning |
# |---|---|
# | $k$ | kernel size of a stage, the number in the paper's lists |
# | reading | what $k$ is: side of a window, stride of a grid, or number of windows along an axis |
# | arm | one network of the study: a setting (small, medium, large) under a reading |
# | control | the same network without its LM blocks |
#
# **The paper's claim** (Table 2, abdominal MR; in our words). Larger kernels in the seven stages give better scores: from
# 10, 5, 5, … over 20, 10, 10, … to 40, 20, 20, … both DSC and NSD rise.

# %%
import dataclasses
import itertools
import tempfile

import numpy as np
import pandas as pd
import torch
from IPython.display import Image, Markdown

from lkm_kit.blocks import to_tokens
from lkm_kit.course import check_order_agreement, check_same_length, check_tokens
from lkm_kit.networks import build_network, describe
from lkm_kit.plots.audit import plot_score_by_tokens
from lkm_kit.plots.lines import MARKED, plot_lines
from lkm_kit.plots.style import use_style
from lkm_kit.profiles import profile
from lkm_kit.studies import published
from lkm_kit.studies.arms import KERNEL_SIZES, READINGS
from lkm_kit.studies.reference import reference_results
from lkm_kit.studies.render import p_text
from lkm_kit.studies.report import make_report
from lkm_kit.studies.runner import make_plan, run_study

use_style()
pd.set_option("display.max_colwidth", 120)
settings = profile()
print("profile:", settings.name)

# %%
table = published.table2.copy()
table["DSC gain over the smallest"] = (table["DSC"] - table["DSC"].iloc[0]).round(2)
table

# %% [markdown]
# One number each; how many trainings stand behind it, the paper does not say. Before you read on, write down: by how much would the same training, with another seed, move such a DSC?
# ([Chapter 13](13_auditing_the_paper.ipynb) has an answer from somebody who tried.)
#
# ## 1. Three readings of one number
#
# The text says windows of $k\times k$ neighbouring pixels. The released code cuts the map so that every $k$-th pixel is in one
# sequence. The authors, asked by a reader, say that $k$ is the number of windows along an axis.

# %%
pd.Series(READINGS, name="what k is").to_frame()


# %% [markdown]
# All three are one `reshape` and one `permute`. Naive, for a map whose side is a multiple of $k$: list the rows and columns
# that one sequence holds, and make all pairs of them.


# %%
def first_sequence(side, k, reading):
    """(row, column) of the pixels in one sequence with the top left one, in order."""
    wide = side // k if reading == "count" else k
    axis = range(0, side, k) if reading == "dilated" else range(wide)
    return list(itertools.product(axis, axis))


# %%
side, k = 12, 4
numbers = torch.arange(side * side * 1.0).reshape(1, 1, side, side)
for reading in READINGS:
    tokens = to_tokens(numbers, k, reading)[0, :, 0]
    mine = [r * side + c for r, c in first_sequence(side, k, reading)]
    assert tokens.tolist() == mine
    first = first_sequence(side, k, reading)[:3]
    print(f"{reading:11s} {len(mine):3d} tokens; the first three: {first}")

# %% [markdown]
# ## 2. What Table 2 varies, in tokens
#
# The paper's three lists, at its own image size of 320×320 and its seven stages. Nothing is trained here; the networks'
# maps and windows are enough.


# %%
def stage_tokens(windows, reading):
    with torch.device("meta"):  # counting needs no memory
        how = {"input_channels": 1, "num_classes": 14, "windows": windows}
        network = build_network("lkm-unet/paper-2d", partition=reading, **how)
    return describe(network, (320, 320))["tokens"]


lists = KERNEL_SIZES["paper-2d"]
paper = {
    reading: pd.DataFrame({name: stage_tokens(k, reading) for name, k in lists.items()})
    for reading in READINGS
}
pd.concat(paper, axis=1).rename_axis("stage")

# %%
plot_lines(
    paper,
    "stage",
    "tokens per sequence",
    looks=MARKED,
    log="y",
    ticks=range(7),
    size=(9.0, 3.3),
)

# %% [markdown]
# Under the first reading a larger kernel is a longer sequence: 100, 400, 1600 tokens at stage 0. Under the other two it is a
# *shorter* one: 1024, 256, 64. If Table 2 shows that a larger view helps, then not in the released code, where "large"
# has the shortest sequences. A grid's sequence spans the whole map all the same: few tokens are not a small view. The published scores against the tokens of each reading:

# %%
stage_0 = pd.DataFrame({reading: frame.iloc[0] for reading, frame in paper.items()})
scores = pd.Series(table["DSC"].to_numpy(), index=list(KERNEL_SIZES["paper-2d"]))
plot_score_by_tokens(stage_0, scores, "published DSC (%)")

# %% [markdown]
# The same three points, rising to the right or to the left. The numbers of Table 2 support "longer sequences are better" or
# "shorter sequences are better", depending on what was run. Which was, the paper does not let us know.
#
# **Predict.** PaM carries what PiM's windows leave out, and in a small network the deepest map sees most of the image anyway.
# How large do you expect the effect of the setting to be, against the effect of having Mamba at all?
#
# ## 3. Run some of it
#
# Same slices in the same order, same optimiser, same steps. Two arms and the control, few steps: the machinery, no result.

# %%
scratch = tempfile.TemporaryDirectory()
few = dataclasses.replace(settings, test_cases=min(settings.test_cases, 2))
steps = min(settings.iterations, 10)
how = {"seeds": 1, "root": scratch.name, "iterations": steps, "validate_every": steps}
arms = ["residual-unet", "contiguous-small", "contiguous-large"]
plan = make_plan("table2", few, arms=arms, **how)
run_study(plan, log=print)

# %%
Markdown(make_report(plan).text().split("Arms:")[0])

# %% [markdown]
# ## 4. The reference results: patients
#
# MSD Task04 Hippocampus: MR crops with labels by a human rater. 160 cases of 105 people are there to train on, 80
# cases of 51 other people to score, whole and in 3D. A step takes 8 sagittal slices of 64×64 pixels. There are 600
# steps, at a learning rate of 0.01 ([chapter 10](10_table3_ablation.ipynb), section 5, shows what a rate does to a
# study). Kernels keep the share of the image that they have in the tiny network. Table 2's three settings
# were run under each reading, beside both controls. The commands are in `docs/studies.md`.

# %%
reference = reference_results("table2", data="hippocampus")
print("seeds:", *reference.seeds)
shown = ["title", "published DSC", "DSC", "DSC sd", "NSD"]
shown += ["difference", "low", "high", "p_holm", "detectable", "tokens"]
rounded = reference.table[shown].round(2)
rounded.assign(p_holm=reference.table["p_holm"].map(p_text)).set_index("title")

# %%
Image(reference.picture, width=900)

# %% [markdown]
# `difference` is from the control, `low` to `high` its 95 % interval over seeds and cases, `p_holm` its p-value, corrected for all
# comparisons of the study. `detectable` is the true difference that such a study would show four times in
# five ([chapter 10](10_table3_ablation.ipynb) explains all of them). Large against small, reading by reading; a positive number
# says that the larger $k$ did better:

# %%
pairs = reference.comparisons.set_index(["arm", "versus", "score"]).sort_index()
rows = [
    (f"{reading}-large", f"{reading}-small", score)
    for reading in READINGS
    for score in ("DSC", "NSD")
]
gains = pairs.loc[rows, ["difference", "low", "high", "p_holm", "detectable"]]
gains.assign(p_holm=gains["p_holm"].map(p_text)).round(2)

# %%
for reading in READINGS:
    row = gains.loc[(f"{reading}-large", f"{reading}-small", "DSC")]
    shown = row["p_holm"] < 0.05
    found = "shown" if shown else f"not shown; {row['detectable']:.1f} would have been"
    print(f"{reading:11s}{row['difference']:+.2f} points of DSC: {found}")

# %% [markdown]
# Seed by seed, and how often the larger $k$ is ahead. By luck alone it would be in half of the seeds:

# %%
organs = reference.per_case.groupby(["arm", "seed", "organ"])["DSC"].mean()
per_seed = 100 * organs.groupby(["arm", "seed"]).mean().unstack()
per_seed.loc[reference.table.index].round(2)

# %%
ahead = {}
for reading in READINGS:
    gain = per_seed.loc[f"{reading}-large"] - per_seed.loc[f"{reading}-small"]
    ahead[reading] = f"{int((gain > 0).sum())} of {gain.notna().sum()} seeds"
pd.Series(ahead, name="large ahead of small").to_frame()

# %% [markdown]
# The paper's table has three settings in rising order. By luck alone three settings come out in that order once in six.
#
# Compare with section 2. Of large and small, the setting with PiM's longer sequences has the higher mean under each reading: the
# large windows, the small stride, the small count. The small count makes the large windows in two of four stages, so these are
# not three independent findings. (For grids the middle setting is best, by 0.05.) And no difference is shown. The paper's is 1.46 points, on other organs and at another size; each of the three intervals ends below it.
#
# These are small images, on which even a small window sees much, and PaM carries the rest. The table says what the setting is
# worth here. It is no repetition of the paper's experiment, and it cannot say which reading that was.
#
# ## 5. What a larger kernel costs
#
# Operations change little, except for the grids, whose small patches give PaM many tokens: the scan is linear, and
# every pixel is in one window whatever its size. What changes is how long one sequence is, hence how much work can go
# on side by side. PaM's tokens take the opposite way, but for the grids, where both get fewer.

# %%
cost = ["title", "parameters", "gflops", "tokens", "memory", "seconds_per_step"]
costs = reference.table[cost].set_index("title")
costs.assign(memory=(costs["memory"] / 1e6).round()).round(3)

# %% [markdown]
# (`memory` in MB: what a training step keeps for its backward pass. Seconds were taken on a machine that had other work too:
# take them as an upper bound.)
#
# ## Exercises
#
# **1. Tokens in a sequence** (★, 5 minutes). Of a map of `side`×`side` pixels, for the partitions "contiguous", "dilated" and
# "count".


# %%
def tokens(side, k, partition):
    """All whole numbers; side is a multiple of k. Returns a whole number."""
    ### BEGIN SOLUTION
    return k * k if partition == "contiguous" else (side // k) ** 2
    ### END SOLUTION


# %%
check_tokens(tokens)

# %% [markdown]
# **2. The same length, another reading** (★★, 10 minutes). A fair comparison of two readings gives both equally long
# sequences. Which $k$ must the released code get, so that its sequences are as long as those of windows of side `k`?


# %%
def same_length(side, k):
    """side is a multiple of k. Returns the stride (a whole number)."""
    ### BEGIN SOLUTION
    return side // k
    ### END SOLUTION


# %%
check_same_length(same_length)

# %% [markdown]
# **3. Does the order agree?** (★★, 10 minutes). Take all pairs of settings. Return the share that two tables put in the same
# order, minus the share that they put in opposite ones (Kendall's τ, without ties).


# %%
def order_agreement(ours, theirs):
    """Two lists of scores of the same settings. Returns a number from -1 to 1."""
    ### BEGIN SOLUTION
    signs = [
        np.sign(ours[i] - ours[j]) * np.sign(theirs[i] - theirs[j])
        for i, j in itertools.combinations(range(len(ours)), 2)
    ]
    return float(np.mean(signs))
    ### END SOLUTION


# %%
check_order_agreement(order_agreement)

# %% [markdown]
# **Open question.** Design a study that could decide between the three readings of Table 2. Which reading would you run, and what would you keep equal
# (tokens, memory, view)? How many seeds would you need to see half a point of DSC
# ([chapter 15](15_full_scale_reproduction.ipynb) counts them)? Which control would you add?
#
# ## Summary
#
# | what we measured | what the paper says | what is still open |
# |---|---|---|
# | stage 0 reads 100, 400, 1600 tokens per sequence by the text, 1024, 256, 64 by the released code | "kernel size" 10, 20, 40 | which of them Table 2 was made with |
# | small networks on patients: the tables of section 4, three readings, seed by seed | larger is better, one number each | the three readings at full size |
# | operations stay, sequences and memory change (section 5) | – | speed on a GPU |
#
# ## Further reading
#
# * J. Wang et al., [LKM-UNet](https://arxiv.org/abs/2403.07332), Table 2, and [a reader's question about
#   it](https://github.com/wjh892521292/LKM-UNet/issues/5).
# * X. Ding et al., [RepLKNet](https://arxiv.org/abs/2203.06717): convolutions of 31×31, and what they are worth.
# * S. Liu et al., [SLaK](https://arxiv.org/abs/2207.03620): kernels of 51×51.
# * S. Roy et al., [MedNeXt](https://arxiv.org/abs/2303.09975): kernel sizes compared on medical images.
