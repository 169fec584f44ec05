# %% [markdown]
# # 10 · Table 3: which part helps, and against what?
#
# *45 minutes to read, two minutes to run.* Before: [08_train](08_train.ipynb); [09](09_table2_kernel_size.ipynb) asks the same
# of the kernel size. After: [11_effective_receptive_field](11_effective_receptive_field.ipynb).
#
# **Goals.** After this chapter you can
# * say what Table 3's baseline is, and what an ablation needs instead;
# * run arms of a study alike, stop and resume them, and compare them seed by seed and case by case;
# * compute a paired difference, its intervals and Holm's correction, and say what each does not tell;
# * name the control that a gain must survive before it is one.
#
# | symbol | meaning |
# |---|---|
# | arm | one network of the study, trained like all others |
# | control | the same network without its LM blocks, weight for weight |
# | DSC, NSD | overlap, and share of the surface within a tolerance ([chapter 07](07_data.ipynb)) |
# | $d_{sc}$ | score of the arm minus score of the control, seed $s$, case $c$ |
#
# **The paper's claim.** Table 3: PiM, PaM and BiM each add to the baseline's DSC and NSD on abdominal MR, and together most.

# %%
import dataclasses
import tempfile

import numpy as np
import pandas as pd
import torch
from IPython.display import Image, Markdown
from scipy.stats import wilcoxon

from lkm_kit.course import check_holm, check_interval, check_paired
from lkm_kit.networks import build_network
from lkm_kit.plots.style import use_style
from lkm_kit.profiles import profile
from lkm_kit.studies import published, study
from lkm_kit.studies.reference import reference_results
from lkm_kit.studies.render import p_text
from lkm_kit.studies.report import make_report
from lkm_kit.studies.runner import collect, make_plan, run_study, status
from lkm_kit.studies.intervals import bootstrap_interval, coverage, student_interval
from lkm_kit.studies.statistics import compare_arms, holm, paired_differences

use_style()
pd.set_option("display.max_colwidth", 200)
settings = profile()
print("profile:", settings.name)

# %%
table = published.table3.copy()
table["DSC gain"] = table["DSC"] - table.loc["Baseline", "DSC"]
table

# %% [markdown]
# One number each, no seeds, no intervals. Before you read on, write down your guess: with everything else equal, which
# of PiM, PaM, BiM moves the DSC most? And what must "everything else equal" mean for you to believe it?
#
# ## 1. The baseline
#
# The row "Baseline" has the scores of Table 1's nnU-Net, digit for digit: we infer that it is nnU-Net's plain U-Net. LKM-UNet without its LM blocks is another network: its encoder and decoder
# are residual. How much do they differ?

# %%
sizes = {}
with torch.device("meta"):  # counting needs no memory
    for name in ("plain-unet/2d", "residual-unet/2d", "lkm-unet/released-2d"):
        network = build_network(name, input_channels=1, num_classes=14)
        sizes[name] = sum(p.numel() for p in network.parameters()) / 1e6
pd.Series(sizes, name="parameters (million)").round(1).to_frame()

# %%
added = sizes["residual-unet/2d"] - sizes["plain-unet/2d"]
total = sizes["lkm-unet/released-2d"] - sizes["plain-unet/2d"]
print(
    f"of {total:.1f} million parameters more than the baseline's, {added:.1f} million ({added / total:.0%}) are convolutions"
)

# %% [markdown]
# So Table 3 compares Mamba blocks *and 28 million more parameters in convolutions* with neither. The honest control is
# the network without its blocks; a second one has as many parameters as LKM-UNet, all of them convolutions; a third one
# keeps PiM but reads the pixels of a window in a fixed random order, so that neighbourhood means nothing.

# %%
arms = study("table3", settings).arms
pd.DataFrame({"arm": [a.title for a in arms], "note": [a.note for a in arms]}, index=[a.name for a in arms])

# %% [markdown]
# "One direction" (an arm without BiM) is not defined in the paper. Here: the backward Mamba does not exist, all else stays.
#
# ## 2. Run some of it
#
# Same slices in the same order, same optimiser, same schedule, same initial weights wherever two arms have the same
# layer. Three arms, few steps: enough to see the machinery, far too few for a result.

# %%
scratch = tempfile.TemporaryDirectory()
few = dataclasses.replace(settings, test_cases=min(settings.test_cases, 3))
steps = min(settings.iterations, 20)
how = {"seeds": 1, "root": scratch.name, "iterations": steps, "validate_every": steps}
plan = make_plan("table3", few, arms=["residual-unet", "pim", "pim-bim"], **how)
run_study(plan, log=lambda line: print(line[:160]))
# %% [markdown]
# A study may be stopped at any moment (the tests kill it ten times at random): what is finished stays, what was under way
# resumes at its last checkpoint. The same call again does nothing:

# %%
run_study(plan, log=lambda line: print(line[:100]))
status(plan)

# %%
Markdown(make_report(plan).text().split("Arms:")[0])

# %% [markdown]
# Read the last column: with one seed the report concludes nothing, and prints no p. Why?
#
# ## 3. The statistics, by hand
#
# ![How a study is paired: scores of an arm less those of its control, cell by cell](../figures/paired_study.png)
#
# Every arm segments the same cases, and cases differ far more than arms do. So subtract before you average: case by
# case, seed by seed, and organ by organ.

# %%
rows = collect(plan).rows
scores = rows.set_index(["case", "organ", "arm"])["DSC"].unstack("arm")  # an organ that is nowhere has no number
by_hand = (scores["pim-bim"] - scores["residual-unet"]).groupby("case").mean().to_numpy()
library = paired_differences(rows, "pim-bim", "residual-unet")
np.testing.assert_allclose(by_hand.mean(), library.to_numpy().mean(), atol=1e-9)
print(
    f"mean difference {100 * by_hand.mean():+.2f}; spread of the cases {100 * scores['pim-bim'].groupby('case').mean().std():.1f}, of the differences {100 * by_hand.std():.1f}"
)

# %% [markdown]
# How far could that mean have come out otherwise? Draw cases with replacement, many times, and look at the means. The
# library also draws seeds, with the same cases for all of them:

# %%
random = np.random.default_rng(0)
means = [random.choice(by_hand, len(by_hand)).mean() for _ in range(2000)]
low, high = np.percentile(means, (2.5, 97.5))
print(f"by hand  [{100 * low:+.2f}, {100 * high:+.2f}]")
low, high = bootstrap_interval(library)
print(f"library  [{100 * low:+.2f}, {100 * high:+.2f}]")

# %% [markdown]
# Each p-value is one more chance of a false positive: with nine arms and no effect at all, one in three studies has a
# p < 0.05 somewhere ($1 - 0.95^9 = 37\,\%$). Holm's correction multiplies the smallest p by the number of tests, the next by one less, and so on.

# %%
noise = np.random.default_rng(1).normal(size=(150, 9, 20))  # 150 studies of nine arms that differ from nothing
ps = np.array([[wilcoxon(arm).pvalue for arm in one] for one in noise])
print(
    f"some p below 0.05: {np.mean(ps.min(1) < 0.05):.0%} of the studies; after Holm {np.mean([min(holm(p)) < 0.05 for p in ps]):.0%}"
)

# %% [markdown]
# (150 studies are few: such a share is good to eight points.)
#
# Nothing here has met another *seed* yet: section 2 trained once. The cases of one training share its luck, so they say what other
# cases would give, not what another training would. With more seeds, `bootstrap_interval` draws them anew as well. Is that
# enough? Simulate studies whose true difference is zero and whose seeds scatter more than their cases, as ours do. Count
# how often the interval holds zero. A 95 % interval should, 95 times of 100:

# %%
held = pd.DataFrame({f"{seeds} seeds": coverage(seeds, trials=200) for seeds in (2, 3, 5, 10)})
held.map("{:.0%}".format)

# %% [markdown]
# With three seeds the bootstrap misses one time in four. Three draws from three seeds are the same seed three times in one
# resample of nine. No resample can leave the three that were seen. *Student's* interval reckons with that. The seeds alone would
# give one half-width, the cases alone another. Each has the $t$ of its own degrees of freedom (4.3 instead of 1.96 for three seeds).
# Together they give the root of the sum of squares:
#
# $$\bar d \pm \sqrt{\left(t_{S-1}\frac{s_{\mathrm{seeds}}}{\sqrt S}\right)^2 + \left(t_{C-1}\frac{s_{\mathrm{cases}}}{\sqrt C}\right)^2}$$
#
# On three seeds made up by hand:

# %%
made_up = np.array([[2.0], [3.0], [10.0]]) + np.random.default_rng(0).normal(0, 2, 40)
for name, interval_of in (("bootstrap", bootstrap_interval), ("Student", student_interval)):
    print(f"{name:10s}" + "[{:+.1f}, {:+.1f}]".format(*interval_of(made_up)))

# %% [markdown]
# Tables from here on give Student's as `low` and `high`. `p_holm` belongs to it, corrected by Holm for all comparisons of the study, and
# verdicts go by that. Both are wide because there are few seeds.
#
# ## 4. The reference results
#
# The whole study, at the laptop profile, as it came out (the folder, the protocol and the hardware are in the report). It was scored
# slice by slice, where section 2 takes whole deformed copies in 3D:

# %%
reference = reference_results("table3")
print("seeds:", reference.seeds)
shown = ["title", "published DSC", "DSC", "DSC sd", "NSD", "difference", "low", "high", "p_holm", "detectable"]
reference.table[shown].round(2).assign(p_holm=reference.table["p_holm"].map(p_text)).set_index("title")

# %% [markdown]
# Look for a row whose interval leaves zero out and whose `p_holm` is large. No contradiction: the interval is for one comparison, `p_holm`
# for a study of eleven. `detectable` says how large a true difference this study would have shown in four of five: without it,
# "no difference shown" says nothing.
#
# And `difference` is not one `DSC` minus another. `DSC` is a mean over everything that has a score in that arm: an organ that is neither
# in a slice nor in the prediction has none, one that is invented there has 0. `difference` takes only what has a score in both arms,
# and averages slice by slice, not organ by organ. So it does not count an organ that only one of the two arms invents; `DSC` does.
# Where leaving such an organ out counts as 1, and inventing it as 0 (`strict`), the differences are:

# %%
rules = reference.comparisons.query("score == 'DSC'").set_index(["arm", "versus"])
rules[[f"{name}{rule}" for rule in ("", " strict") for name in ("difference", "low", "high")]].round(1)

# %% [markdown]
# How far do the differences move? A rule for what is not there is part of a result: write yours down.

# %%
Image(reference.picture, width=900)

# %% [markdown]
# Two comparisons that the paper does not make, the ones a sceptic asks for first:

# %%
pairs = reference.comparisons.set_index(["arm", "versus", "score"])[
    ["difference", "low", "high", "p_holm"]
].sort_index()
sceptic = [("pim-pam-bim", "wide-residual-unet"), ("pim-bim", "pim-bim-shuffled")]
pd.concat({" − ".join(pair): pairs.loc[pair] for pair in sceptic}).round(3)


# %%
def verdict(arm, versus):
    rows = pairs.loc[(arm, versus)]
    if any(rows["p_holm"] >= 0.05):
        return "no clear difference"
    return "better in DSC and NSD" if all(rows["low"] > 0) else "worse in DSC and NSD"


for arm, versus in [
    ("pim-pam-bim", "residual-unet"),
    ("pim-pam-bim", "wide-residual-unet"),
    ("pim-bim", "pim-bim-shuffled"),
]:
    names = reference.table["title"]
    print(f"{names[arm]} against {names[versus]}: {verdict(arm, versus)}")

# %% [markdown]
# Does the gain survive the control with as many parameters? Does the order of the pixels matter? The lines above are
# computed from the committed rows, not written by us. "No clear difference" does not say that there is none: three seeds
# that scatter like these cannot tell. One by one:

# %%
means = (
    reference.per_case.groupby(["arm", "seed", "organ"])["DSC"].mean().groupby(["arm", "seed"]).mean().unstack("seed")
)
(100 * means.loc[reference.table.index]).round(1)

# %% [markdown]
# What may be concluded? That, for networks of a quarter of a million parameters, after 400 steps on deformed copies of *one* patient, the
# order above came out. Not that it holds for patients, for the paper's network of 80 million, or after 250,000 steps.
# The smallest arms are far from converged, and the plain U-Net most of all: a table after 400 steps also ranks how fast
# networks start. How much of the order is that? One organ, seed by seed:

# %%
aorta = reference.per_case.query("organ == 'aorta'").groupby(["arm", "seed"])["DSC"].mean().unstack("seed")
(100 * aorta.loc[reference.table.index]).round(1)

# %% [markdown]
# The same arm has learnt the aorta with one seed and not at all with another. The learning rate (0.003) is too low for 400 steps, and
# training ends while this organ is being found. Most of the spread between seeds, and of the differences between arms, is this one
# event. A study that ends there measures how an untuned optimiser starts.
#
# ## 5. The same arms on patients, at a rate that suits them
#
# MSD Task04 Hippocampus: MR crops of the hippocampus with labels by a human rater, 160 cases of 105 people to train on and 80 cases of
# 51 other people to score, whole and in 3D. The rate is 0.01, a tenth of the steps is warm-up, and 600 steps of 16 sagittal slices bring
# every arm to where its curve is flat. (`docs/studies.md` has the commands; the data are fetched by `lkm data hippocampus`.)

# %%
patients = reference_results("table3", data="hippocampus")
print("seeds:", patients.seeds)
patients.table[shown].round(2).assign(p_holm=patients.table["p_holm"].map(p_text)).set_index("title")

# %%
Image(patients.picture, width=900)


# %%
def scatter(results):
    """Standard deviation between seeds in points of DSC: the median arm's and the largest."""
    scores = results.per_case.groupby(["arm", "seed", "organ"])["DSC"].mean().groupby(["arm", "seed"]).mean()
    return 100 * scores.unstack("seed").std(axis=1).agg(["median", "max"])


pd.DataFrame({"one patient, rate 0.003": scatter(reference), "patients, rate 0.01": scatter(patients)}).round(2)

# %%
found = patients.table
halves = ((found["high"] - found["low"]) / 2).dropna()
print(f"half-widths of the intervals: {halves.min():.2f} to {halves.max():.2f} points")
for arm in found.index.drop("residual-unet"):
    row = found.loc[arm]
    told = "no difference shown" if not row["p_holm"] < 0.05 else "better" if row["difference"] > 0 else "worse"
    print(f"{row['title']:28s}{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]  {told}")

# %% [markdown]
# Compare the two columns of spread first: seeds now differ by tenths of a point, and every seed has learnt every label. Then read the intervals. The
# differences that the paper reports for these parts (1.7 to 2.9 points, the open diamonds) lie outside all of them. But its organs,
# sizes and training lengths are others, so this does not refute its table: it says what these parts buy on these patients at this size.
#
# One thing is left to explain: with one seed every arm that has PiM ends about a point lower, and no other arm does. A rate that suits
# the control may be near the edge for PiM. That is why a study needs a sweep over rates *for every arm* (`lkm study sweep`), and more
# seeds: three leave intervals of up to two points on either side, and this study would have shown only larger effects (`detectable`).
#
# ## Exercises
#
# **1. Paired** (★, 5 minutes). Scores of an arm and of its control; a case without a number is nan.


# %%
def paired(arm, control):
    """arm, control: (seeds, cases). Returns the mean of the paired differences."""
    ### BEGIN SOLUTION
    return float(np.nanmean(arm - control))
    ### END SOLUTION


# %%
check_paired(paired)

# %% [markdown]
# **2. An interval** (★★, 10 minutes). `draws` holds the indices of the drawn cases, one row a resample.


# %%
def interval(differences, draws):
    """differences: (cases,); draws: (resamples, cases) of whole numbers. Returns (low, high) of 95 %."""
    ### BEGIN SOLUTION
    return tuple(np.percentile(differences[draws].mean(1), (2.5, 97.5)))
    ### END SOLUTION


# %%
check_interval(interval)

# %% [markdown]
# **3. Holm** (★★, 10 minutes). Without the library's `holm`.


# %%
def holm_by_hand(p):
    """p: a list of p-values. Returns the adjusted ones, in the same order."""
    ### BEGIN SOLUTION
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p[i] * (len(p) - rank)))
        adjusted[i] = largest
    return adjusted
    ### END SOLUTION


# %%
check_holm(holm_by_hand)

# %% [markdown]
# **4. Leave the pairing out** (★★, 10 minutes, no check). Compare the two arms of section 2 as if their cases were
# different ones (two means, two standard errors). How much wider is the interval, and why is that not "more careful"?

# %%
100 * compare_arms(rows, [("pim-bim", "residual-unet")])[["difference", "low", "high"]].round(4)  # points

# %% [markdown]
# **Open question.** Design the control that would convince *you* that Mamba, and not parameters, compute, or a larger
# view, makes the difference. What would it have in common with LKM-UNet, and in what single thing would it differ?
#
# ## Summary
#
# | what we measured | what the paper says | what is still open |
# |---|---|---|
# | the baseline is another network: 28 of its 47 million missing parameters are convolutions | "Baseline" | the published gain against the residual network |
# | small networks, few steps, one patient: the table of section 4, with seeds and intervals | single blocks add 1.72 to 2.40 DSC, all parts 2.85; one number each | full size, patients, convergence |
# | small networks on 80 cases of other people, at a rate that suits them: section 5 | the same, on other organs | the paper's size and length |
# | the control with as many parameters, and the shuffled order: sections 4 and 5 | neither | the same at full size |
