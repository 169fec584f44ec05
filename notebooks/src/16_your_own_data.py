# %% [markdown]
# # 16 · Your own data: from a folder of scans to a score you may believe
#
# *20 minutes to read, 30 for the exercises, about three minutes to run on two cores the first time, one the second.* Before:
# [08_train](08_train.ipynb) for the training, [11_effective_receptive_field](11_effective_receptive_field.ipynb) for the
# last section. The same in commands: [docs/own_data.md](../docs/own_data.md).
#
# **Goals.** After this chapter you can
#
# * lay out a folder of labelled scans so that this kit, and nnU-Net, can train on it, and check it before you do;
# * say whom a case shows, measure what happens when one person is on both sides of a split, and prevent it;
# * train on any channels and labels, read the curves, and score whole cases in 3D, in millimetres;
# * find the worst case and look at it; start from another run's weights; and measure what your network sees.
#
# **The data.** With Task04 Hippocampus of the *Medical Segmentation Decathlon* at hand (`lkm data hippocampus`, 28 MB),
# this chapter shows real patients: 260 crops of MR scans, in which a human drew the anterior and the posterior hippocampus.
# Without it, it writes a **miniature** of made-up bodies with two channels and five labels, and runs on that. Every cell is
# the same: that is the point.
#
# | symbol | meaning | shape here |
# |---|---|---|
# | case; person | one scan with its label map; whom it shows | – |
# | $r_{ij}$ | correlation of the images of cases $i$ and $j$, brought to one grid | (cases, cases) |
# | $P$, $T$ | predicted and true voxels of a label, in a whole case | bool (x, y, z) |
# | DSC, NSD | $2\lvert P\cap T\rvert / (\lvert P\rvert + \lvert T\rvert)$; share of both surfaces within a tolerance | numbers |

# %%
import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from lkm_kit.course import check_case_dsc, check_leaked, check_pair_gap, check_worst
from lkm_kit.course import kept
from lkm_kit.data import DataSet, LabelTable, check_dataset, data_folder, find_dataset
from lkm_kit.data.dataset_init import init_dataset
from lkm_kit.data.hippocampus import prepare_hippocampus
from lkm_kit.data.lobes import write_lobes
from lkm_kit.erf import Probe, erf, measures
from lkm_kit.errors import KitError
from lkm_kit.evaluation import compare, dice, organ_table, predict_case, score_dataset
from lkm_kit.evaluation import settings_of, trained_cases
from lkm_kit.evaluation.folders import case_table
from lkm_kit.networks import LKMUNet, register_network
from lkm_kit.plots import cases as case_plots
from lkm_kit.plots import data as data_plots
from lkm_kit.plots import training as figures
from lkm_kit.plots import use_style
from lkm_kit.plots.contact_sheet import plot_contact_sheet
from lkm_kit.plots.erf import erf_grid
from lkm_kit.plots.volumes import grey_range, middle_of, plot_orthogonal
from lkm_kit.profiles import profile
from lkm_kit.training import TrainConfig, initial_network, make_datasets, run_folder
from lkm_kit.training import train
from lkm_kit.training.start import take_weights

# %%
use_style()
settings = profile()
scratch = tempfile.TemporaryDirectory()
print("profile:", settings.name)


# %%
def at_hand():
    """The hippocampus data where they are, else a miniature, which is written once."""
    if os.environ.get("LKM_HIPPOCAMPUS_ARCHIVE"):
        prepare_hippocampus()
    try:
        return find_dataset("hippocampus")
    except KitError:
        folder = data_folder() / "miniature" / "Dataset005_Lobes"
        written = (folder / "dataset.json").is_file()
        return DataSet(folder) if written else write_lobes(folder)


data = at_hand()
print(data)

# %% [markdown]
# Source, who labelled, licence, and whom to cite: it is printed wherever the data are used, and every checkpoint and table
# made from them carries it. Yours says what you write into `dataset.json`.
#
# ## 1. What a data set is
#
# A folder in nnU-Net's raw layout, in which many data sets are at hand already. `imagesTr` holds one file for each case *and
# channel* (`_0000`, `_0001`), `labelsTr` one for each case; `imagesTs` and `labelsTs` are kept for the very end.

# %%
for case in (data.training[0], data.test[0]):
    print("\n".join(str(path.relative_to(data.folder)) for path in case.files))
about = json.loads((data.folder / "dataset.json").read_text(encoding="utf-8"))
said = ("channel_names", "labels", "file_ending", "numTraining")
{key: value for key, value in about.items() if key in said}

# %% [markdown]
# Loose pairs of files become such a folder by `lkm data init`: a folder of scans and a folder of label maps, named alike.
# Here are three cases that somebody has sent us, and nothing else.

# %%
loose = Path(scratch.name)
for sub in ("scans", "masks"):
    (loose / sub).mkdir()
for case in data.training[:3]:
    for path in case.images:
        shutil.copy(path, loose / "scans")
    shutil.copy(case.label, loose / "masks")
mine, scans, masks = (loose / sub for sub in ("mine", "scans", "masks"))
sent = init_dataset(mine, scans, masks, channels=data.channels)
print("labels:", {label.name: label.id for label in sent.table})
print("channels:", *sent.channels)
print("files:", *sorted(path.name for path in sent.folder.iterdir()))

# %% [markdown]
# The numbers in a label map have no names of their own: give them (`--label anterior=1`), or they stay "label 1". The kit
# goes by names, never by numbers; chapter 07 showed what happens to those who do not.
#
# ## 2. Check before you train
#
# A training on wrong data does not fail. It learns something else, for days. `lkm data check` reads every file first.

# %%
report = check_dataset(data.folder)
print(report)
columns = ["voxels", "spacing_mm", "orientation"]
report.cases[columns].describe(include="all").loc[["count", "unique", "top", "freq"]]

# %%
some = dict(list(report.previews.items())[:24])
plot_contact_sheet(some, report.names)

# %% [markdown]
# Look at the sheet, not only at the findings: no program knows how your organ should look. What do findings look like?
# We take a few cases and spoil each in one way. (`twin` shows the same person as `first`, and goes to the test.)

# %%
of_person = {}
for case in data.training:
    of_person.setdefault(data.persons[case.name], []).append(case)
first, twin = next(cases for cases in of_person.values() if len(cases) > 1)[:2]
others = [case for case in data.training if case.name not in (first.name, twin.name)]
wrong_value, moved, no_image = others[:3]
bad = Path(scratch.name) / "Spoiled"
parts = {"Tr": [first, wrong_value, moved, no_image], "Ts": [twin]}
for part, case in [(part, case) for part, cases in parts.items() for case in cases]:
    for path in case.files:
        target = bad / f"{'labels' if path == case.label else 'images'}{part}"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
described = json.dumps({**about, "numTraining": 3, "persons": data.persons})
(bad / "dataset.json").write_text(described, encoding="utf-8")
print(len(list(bad.rglob("*.nii.gz"))), "files copied")


# %%
def spoil(case, value=None, shift_mm=0.0):
    """Write another label map: one voxel with another value, or all of them moved."""
    path = bad / "labelsTr" / case.label.name
    image = nibabel.load(path)
    ids, affine = np.asarray(image.dataobj).copy(), image.affine.copy()
    affine[0, 3] += shift_mm
    if value is not None:
        ids[0, 0, 0] = value
    nibabel.save(nibabel.Nifti1Image(ids, affine), path)


spoil(wrong_value, value=99)
spoil(moved, shift_mm=4.0)
(bad / "imagesTr" / no_image.images[0].name).unlink()
print(check_dataset(bad))

# %% [markdown]
# Every finding names the case and says what is wrong with it. The last kind deserves a section of its own, for it is the one
# that makes results look *better*.
#
# ## 3. A case is not a person
#
# How alike are two cases? Bring all to one grid, subtract the mean, divide by the spread: the product's mean is the
# correlation $r_{ij}$. (In the smoke profile only the first cases are read.)


# %%
def on_grid(array, order, grid=(24, 32, 24)):
    """An array (x, y, z) on a small grid of its own extent."""
    zoom = np.array(grid) / array.shape
    return ndimage.zoom(array, zoom, order=order, grid_mode=True, mode="nearest")


def look(case):
    """A case's first channel on the small grid, mean 0 and spread 1, and its labels."""
    whole = data.read(case)
    x = on_grid(whole.image.reshape(-1, *whole.shape)[0].astype(np.float32), 1).ravel()
    return (x - x.mean()) / x.std(), on_grid(whole.label, 0)


looked = data.listed[: 12 * settings.test_slices]
images, labels = zip(*map(look, looked))
person = np.array([data.persons[case.name] for case in looked])
alike = np.stack(images) @ np.stack(images).T / len(images[0])

# %%
one_person = (person[:, None] == person) & ~np.eye(len(person), dtype=bool)
two_persons = person[:, None] != person
upper = np.triu(np.ones_like(two_persons), 1)
pairs = {
    "of one person": alike[one_person & upper],
    "of two persons": alike[two_persons & upper],
}
data_plots.plot_distributions(pairs, "correlation of two cases")

# %% [markdown]
# The hippocampus archive does not say whom a case shows. It gives itself away: cases $2k-1$ and $2k$ correlate at 0.68, any
# two others at 0.52 ± 0.10 (all 260 cases, this grid). Very probably they are the two sides of one brain. So 260 cases are
# 170 persons, and `lkm data hippocampus` divides *persons*.
#
# The kit finds persons in `persons.csv`, in `dataset.json`, or guesses them from names (`p07_left` and `p07_right`).
# It cannot guess what only the images know. You can: ask of every case which other case is most like it.

# %%
np.fill_diagonal(alike, -1)
nearest = alike.argmax(1)
has_twin = one_person.any(1)
found = (person[nearest] == person)[has_twin].mean()
chance = np.mean(one_person.sum(1)[has_twin] / (len(person) - 1))
print(f"{has_twin.sum()} cases have another one of their person")
print(f"it is the most similar of all for {100 * found:.0f} %")
print(f"by chance: {100 * chance:.1f} %")

# %% [markdown]
# ### What a leak is worth
#
# The laziest segmentation there is: look for the most similar case *of the training* and copy its labels. It has learnt
# nothing, and yet it scores. Once with the other case of the person among the training cases, as a split by case has it,
# and once without.


# %%
def copied(i, allowed):
    """Mean DSC of case i with the labels of the most similar case allowed."""
    j = np.where(allowed, alike[i], -2).argmax()
    return np.mean([dice(labels[j] == k, labels[i] == k) for k in data.table.labels])


others = ~np.eye(len(person), dtype=bool)
asked = np.flatnonzero(has_twin)
by_case = np.array([copied(i, others[i]) for i in asked])
by_person = np.array([copied(i, two_persons[i]) for i in asked])
gain = by_case - by_person
error = gain.std(ddof=1) / len(gain) ** 0.5
print(f"copying: DSC {by_case.mean():.3f} by case, {by_person.mean():.3f} by person")
print(f"the leak is worth {gain.mean():+.3f} ± {error:.3f} (standard error)")

# %% [markdown]
# On all 260 hippocampus cases that is 0.73 against 0.71 (+0.019 ± 0.004): two points of DSC for no work at all. The paper's
# lead over nnU-Net on CT is 0.7 points. A network that
# remembers does the same thing more cleverly, so **split by person, write the split down, and open the test set once**.

# %%
split = data.split()
print(split.how)
persons = {}
for side in ("train", "validation", "test"):
    persons[side] = {data.persons[name] for name in split.names(side)}
    counts = len(split.names(side)), len(persons[side])
    print(f"{side:10s} {counts[0]:3d} cases of {counts[1]:3d} persons")
assert not persons["train"] & persons["validation"]
assert not (persons["train"] | persons["validation"]) & persons["test"]

# %% [markdown]
# ## 4. Train
#
# In a shell: `lkm train --data FOLDER`. Channels, labels, spacing, image size and windows come from the data; steps and
# network from the profile. `--set` changes any of them.

# %%
part = 2 if len(data.training) > 100 else 4  # few cases, few steps
short = {
    "iterations": max(6, settings.iterations // part),
    "batch_size": 2 * settings.batch_size,
}
config = TrainConfig.for_data(data, settings, **short)
taken = ("network", "input_channels", "organs", "image_size", "spacing_mm", "axis")
taken += ("batch_size", "iterations", "learning_rate", "warmup")
pd.Series({name: getattr(config, name) for name in taken}).rename("config").to_frame()

# %%
items = make_datasets(config)


def picture(item):
    """First channel of an item and its classes, front at the top."""
    both = item["image"][0], item["label"]
    grey, classes = (np.asarray(array)[::-1, ::-1].T for array in both)
    low, high = np.percentile(grey, (1, 99))
    grey = np.clip((grey - low) / (high - low + 1e-6), 0, 1)
    size_mm = [n * s for n, s in zip(grey.shape, config.spacing_mm[::-1])]
    return case_plots.Picture(grey, classes, tuple(size_mm))


shown = {f"item {i}": picture(items["train"][i]) for i in range(4)}
field = next(iter(shown.values())).size_mm
names = dict(enumerate(config.table.names, start=1))
case_plots.plot_cases(shown, names, field_mm=field)

# %% [markdown]
# Turned, scaled, brighter and noisier slices of the training cases, a third of them around a labelled voxel. Labels that
# have a left and a right exchange names when a slice is mirrored. Item $i$ is a function of the seed and $i$ alone, so two
# networks can be shown the same ones: LKM-UNet, and itself without its Mamba blocks.

# %%
arms = {"LKM-UNet": {}, "no Mamba": {"pim": False, "pam": False}}
how = {"data": items, "progress": False, "workers": settings.workers}
configs, results = {}, {}
for arm, overrides in arms.items():
    one = TrainConfig.for_data(data, settings, **short, network_overrides=overrides)
    results[arm] = train(one, run_folder(one, "own-data", data=items), **how)
    configs[arm] = one

# %% [markdown]
# **And yours.** If `my_kit.py` holds the network that you put together in chapter 06, it learns from the same items, and
# stands in every table below. Its windows are square: at each stage the largest that divides the map along both axes.

# %%
own = kept("MyLKMUNet", LKMUNet)
if own is not LKMUNet:
    maps = [[side // s for side in config.image_size] for s in (1, 2, 4, 8)]
    windows = [math.gcd(*sides) for sides in maps]
    sizes = {"features_per_stage": [8, 16, 32, 64], "n_blocks_per_stage": 1}
    sizes |= {"n_blocks_decoder": 1, "strides": [(s, s) for s in (1, 2, 2, 2)]}
    register_network("mine", windows=windows, **sizes)(own)
    mine = {"network": "mine", "image_size": config.image_size}
    one = TrainConfig.for_data(
        data, settings, **short, **mine, network_overrides={"windows": windows}
    )
    results["your own"] = train(one, run_folder(one, "own-data", data=items), **how)
figures.plot_history({arm: result.history for arm, result in results.items()})

# %% [markdown]
# How to read curves. *Loss falls, validation DSC rises*: go on. *Loss falls, DSC falls*: it remembers the training cases;
# more data, or stop. *Both flat from the start*: rate, normalisation, or a label that is not there. *One label flat*:
# look at the column of that label, too small or too rare. Validation here is by slices, to see how the training goes; the score comes next.

# %%
last = {}
for arm, result in results.items():
    last[arm] = result.history.filter(like="DSC ").iloc[-1]
pd.DataFrame(last).round(3).rename_axis("validation slices")

# %% [markdown]
# ## 5. Score by case, in 3D, in millimetres
#
# `lkm evaluate` segments each test case whole, brings the answer back to the case's own grid, and scores there. (NSD forgives as
# many mm as `dataset.json` says, here the decathlon's 1 mm; without a number a voxel's diagonal.) The record
# in the checkpoint says which cases the run has never seen. Here some of them, to save time; the command takes all.

# %%
listed, notes = trained_cases(results["LKM-UNet"].record, data, "test")
sample = listed[: settings.test_slices // 2]
print("; ".join([f"{len(sample)} of {len(listed)} test cases", *notes]))
rows = {}
for arm, result in results.items():
    rows[arm] = score_dataset(result.network, result.record, data, sample)
compare(rows).round(3)

# %% [markdown]
# With few steps and one seed this is no verdict on Mamba; [chapter 10](10_table3_ablation.ipynb) says what would be, and
# `lkm study table3 --data FOLDER --seeds 3` runs it.
#
# For orientation, the mean DSC of all 80 test cases of hippocampus, one seed each
# ([commands, NSD, minutes](../docs/own_data.md#what-it-reaches-on-hippocampus)):
#
# | | DSC |
# |---|---|
# | labels copied from the most similar other person (section 3) | 0.71 |
# | LKM-UNet in 3D, 600 steps of 2 crops, strides of thick slices | 0.858 |
# | patches of 32×32×48, twice the features and half the scan, 4000 steps of 1 | 0.880 |
# | LKM-UNet on sagittal slices, 600 steps | 0.861 |
# | the same with twice the features and half the scan, 1500 steps | 0.871 |
# | nnU-Net in 3D, published, cross-validation | about 0.90 and 0.89 for the two labels |
#
# After 500 steps the *training* cases score 0.866, hardly better than others (`--split train`): the network has not learnt enough, and more steps
# and features are what it needs. Were they far better, it would have learnt them by heart, and more cases would be needed.
#
# A mean hides its cases. One by one:

# %%
by_label = {}
for name, one in rows["LKM-UNet"].groupby("organ", sort=False):
    by_label[name] = one["DSC"].dropna().to_numpy()
data_plots.plot_distributions(by_label, "DSC of a test case, LKM-UNet")

# %% [markdown]
# ## 6. The worst case
#
# One look at the worst case teaches more than the third decimal of the mean: is it the network, the label, or the scan?

# %%
cases = case_table(rows["LKM-UNet"])
cases.head(3).round(3)

# %%
worst = data.read(data.cases[cases.index[0]])
about_run = results["LKM-UNet"].record
segmented = predict_case(results["LKM-UNet"].network, worst, **settings_of(about_run))
grey = worst.image.reshape(-1, *worst.shape)[0]
ids = LabelTable.from_json(about_run["label_table"]).by_id
shown = {"labels": worst.label, "LKM-UNet": segmented}
look_at = {"grey": grey_range(grey, worst.modality), "at": middle_of(worst.label)}
plot_orthogonal(shown, grey, worst.spacing, ids, **look_at)

# %% [markdown]
# Why by case and not by slice? The same answer, scored slice by slice along z and averaged. The ends of an organ have few
# voxels, and there a slice is lost by a pixel. Neither number is wrong; they are not comparable: say which one is yours.

# %%
by_slice = {}
for number, name in ids.items():
    p, t = segmented == number, worst.label == number
    present = np.flatnonzero((p | t).any((0, 1)))
    each = [dice(p[..., z], t[..., z]) for z in present]
    by_slice[name] = {
        "whole case": dice(p, t),
        "mean of its slices": np.mean(each),
        "worst slice": np.min(each),
    }
pd.DataFrame(by_slice).T.round(3).rename_axis(worst.name)

# %% [markdown]
# ## 7. Start from other weights
#
# `--start RUN` takes over every tensor that has the same name and shape, and says what does not fit: with other labels the
# last layers begin anew, with other channels the first. `tiny-2d` has learnt six organs on deformed copies of one abdominal CT. Is
# that worth anything here? A quarter of the steps, with and without.

# %%
shorter = {**short, "iterations": max(6, short["iterations"] // 4)}
quick = TrainConfig.for_data(data, settings, **shorter)
print(*str(take_weights(initial_network(quick), "tiny-2d")).split("; "), sep="\n")

# %%
tuned = {}
for name, start in {"from random weights": None, "from tiny-2d": "tiny-2d"}.items():
    folder = run_folder(quick, "own-data", data=items, start=start)
    result = train(quick, folder, start=start, **how)
    scored = score_dataset(result.network, result.record, data, sample[::2])
    tuned[name] = organ_table(scored)["DSC"]
print(pd.DataFrame(tuned).round(3))

# %% [markdown]
# Whatever came out, it is one seed. That other weights help when data or steps are few is plausible and often claimed; this
# cell is how *you* find out for *your* data. `--freeze-encoder` is the variant in which only the decoder learns.
#
# ## 8. What does it see?
#
# The effective receptive field of chapter 11, for the network you have just trained: how much does each pixel of the
# input move the answer in the middle? In the picture statistics of normalisation layers are frozen, so that only
# direct paths count. The table has the trained networks with live ones, too, as they are used.

# %%
watched = items["validation"]
images = torch.stack([watched[i]["image"] for i in range(min(4, len(watched)))])
probe = Probe(position="center", rule="rademacher")
fields = {"before training": {}, "after training": {}}
for arm in arms:
    networks = initial_network(configs[arm]), results[arm].network
    for when, network in zip(fields, networks):
        fields[when][arm] = erf(network.eval(), images, probe, draws=4)
erf_grid(fields)

# %%
flat = {f"{arm}, {when}": fields[when][arm] for when in fields for arm in arms}
for arm in arms:
    live = erf(results[arm].network, images, probe, draws=4, norm_stats="live")
    flat[f"{arm}, after training, live"] = live
columns = ["area_50", "area_90", "box_mm_50", "box_mm_90"]
measures(flat, spacing=config.spacing_mm)[columns].round(3)

# %% [markdown]
# `area_50`, `area_90`: the smallest shares of the image that hold 50 and 90 % of the map. `box_mm_90`: half the side
# of the square that holds nine tenths of it. What tells the networks apart frozen and not live is no difference in
# what they see when they are used ([chapter 11](11_effective_receptive_field.ipynb), section 6). Compare the whole
# side with the structures you segment: a field much larger than the organ is surroundings that the network could use,
# or noise that it has not learnt to ignore.
#
# ## Exercises
#
# **1. Who leaks?** (★, 5 minutes). How many test cases show a person whom the training has seen?


# %%
def leaked(train, test, person):
    """train, test: names of cases; person: case -> person. Returns a whole number."""
    ### BEGIN SOLUTION
    known = {person[name] for name in train}
    return sum(person[name] in known for name in test)
    ### END SOLUTION


# %%
check_leaked(leaked)

# %% [markdown]
# **2. The gap** (★★, 10 minutes). Section 3 in one number: the mean of `alike` over pairs of one person, minus its mean over
# pairs of two persons. A case with itself is no pair.


# %%
def pair_gap(alike, person):
    """alike: (cases, cases), symmetric; person: array of names. Returns a number."""
    ### BEGIN SOLUTION
    same = person[:, None] == person
    pairs = ~np.eye(len(person), dtype=bool)
    return alike[same & pairs].mean() - alike[~same].mean()
    ### END SOLUTION


# %%
check_pair_gap(pair_gap)

# %% [markdown]
# **3. One DSC for a case** (★, 5 minutes). From its slices, without averaging over them.


# %%
def case_dsc(prediction, truth):
    """Bool arrays (slices, rows, columns), not both empty. Returns a number."""
    ### BEGIN SOLUTION
    return 2 * (prediction & truth).sum() / (prediction.sum() + truth.sum())
    ### END SOLUTION


# %%
check_case_dsc(case_dsc)

# %% [markdown]
# **4. The worst cases** (★★, 10 minutes). The `n` cases with the lowest mean over their labels, the worst first. A score that
# is nan belongs to a label that is in neither truth nor prediction.


# %%
def worst_cases(scores, n):
    """scores: case -> list of DSC, one a label. Returns a list of names."""
    ### BEGIN SOLUTION
    return sorted(scores, key=lambda name: np.nanmean(scores[name]))[:n]
    ### END SOLUTION


# %%
check_worst(worst_cases)

# %%
scratch.cleanup()

# %% [markdown]
# **Open question.** A hospital sends you 40 cases of 25 patients, some scanned twice, from two scanners, labelled by two
# raters. Which cases go to the test, and what may you claim with it? What if all cases of scanner B are of rater 2?
#
# ## Summary
#
# | what we measured | what the paper says | what is still open |
# |---|---|---|
# | two cases of one person are more alike than two of two persons, and a program that copies labels gains by it | counts cases: 60 and 50 of AMOS22, 50 and 50 of FLARE22 | whether one of these shows a person twice |
# | the same answer has one score by case and another by slice | whole cases; of three organs, some slices (chapter 08) | – |
# | LKM-UNet and its control on data of your own, one seed each (section 5) | Tables 1 and 3 on two abdominal sets | the differences over seeds: `lkm study table3 --data FOLDER --seeds 3` |
# | what weights from another body are worth, at one budget and one seed (section 7) | – | from which budget on it does not matter |
#
# ## Further reading
#
# * The data: Antonelli et al., [The Medical Segmentation Decathlon](https://doi.org/10.1038/s41467-022-30695-9), and
#   [arXiv 1902.09063](https://arxiv.org/abs/1902.09063).
# * The layout: [nnU-Net's data set format](https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md).
# * Leaks: Kapoor and Narayanan, [Leakage and the reproducibility crisis](https://arxiv.org/abs/2207.07048).
# * Scores: Maier-Hein et al., [Metrics reloaded](https://arxiv.org/abs/2206.01653).
