# %% [markdown]
# # 07 · The data: what a scan knows, and what it does not say
#
# *20 minutes to read, 25 for the exercises, half a minute to run.* Before: [06_lkm_unet](06_lkm_unet.ipynb) in the order of
# the course, but all this chapter needs is [00_start_here](00_start_here.ipynb). After: [08_train](08_train.ipynb).
#
# **Goals.** After this chapter you can
# * turn a voxel's index into millimetres in the patient, and back, whatever the order in which a file stores its axes;
# * resample image and labels to another spacing, and say what is lost;
# * translate label ids by *name*, and show what happens to those who translate by number;
# * say how much a network must see to tell the kidneys apart, and how the cohort makes sure of it;
# * predict DSC and NSD of simple shapes before you compute them.
#
# **The paper's claim** (Section 4.1; in our words). *Abdomen CT*: 50 training and 50 test cases of FLARE22; *Abdomen
# MR*: 60 and 50 of AMOS22 (two public competitions of 2022); 13 organs in both. These cannot be shipped with a
# tutorial: they have licences of their own, and gigabytes. Here are three small scans that can, with the same 13
# organs; chapter 15 gets the real ones.

# %%
import math

import nibabel
import numpy as np
import pandas as pd
from scipy import ndimage

from lkm_kit.course import check_box_dice, check_slice_gap, check_to_mm, check_translate
from lkm_kit.data import (
    ORGANS,
    CohortSlices,
    LabelTable,
    load_sample,
    normalize,
    organs_present,
    resample_case,
    sample_source,
)
from lkm_kit.data.organs import TOTAL_IDS, to_kit_ids
from lkm_kit.evaluation import dice, surface_dice
from lkm_kit.plots import cases as case_plots
from lkm_kit.plots import data as figures
from lkm_kit.plots import use_style
from lkm_kit.plots.lines import plot_dots, plot_lines
from lkm_kit.plots.style import label_colors
from lkm_kit.profiles import profile
from lkm_kit.widgets.slice_browser import SliceBrowser

use_style()
settings = profile()
print("profile:", settings.name)
print(sample_source())
cases = {name: load_sample(name) for name in ("ct_a", "ct_b", "mr_d")}
names = {organ.label: organ.name for organ in ORGANS}

# %% [markdown]
# ## 1. Where is a voxel?
#
# A file stores numbers in some order. The **affine**, a 4×4 matrix, says where they lie in the patient. It turns an
# index $(i, j, k)$ into millimetres to the right, to the front and to the head (*RAS*: right, anterior, superior).
# Three letters name an axis order by the side each axis runs *to*: in *LPS*, to the left, the back (posterior) and
# the head.


# %%
def to_patient(affine, index):
    """Index (i, j, k) → mm (right, anterior, superior)."""
    return (affine @ [*index, 1.0])[:3]


for name, case in cases.items():
    stored = (
        "".join(nibabel.aff2axcodes(case.header.get_best_affine()))
        if case.header is not None
        else "DICOM"
    )
    corner, opposite = (
        to_patient(case.affine, (0, 0, 0)),
        to_patient(case.affine, np.array(case.shape) - 1),
    )
    print(
        f"{name}: stored as {stored}; from {corner.round(0)} to {opposite.round(0)} mm"
    )

# %% [markdown]
# The kit turns every case to RAS when it reads it, and back when it writes a segmentation. Turning must not move
# anything: below, the MR in our axis order and in the one it was stored in. The same voxel, other indices, the same
# millimetres, the same value. (nibabel describes a turn by two numbers for each axis: where it goes, and 1 or −1 for its
# direction. Here all axes stay, and the first two run backward.)

# %%
mr = cases["mr_d"]
ours = nibabel.Nifti1Image(mr.image, mr.affine)
flips = np.array([[0, -1], [1, -1], [2, 1]])  # axes stay; the first two run backward
turned = ours.as_reoriented(flips)  # RAS → LPS
index = np.array([30, 40, 10])
other = np.array([mr.shape[0] - 1 - index[0], mr.shape[1] - 1 - index[1], index[2]])
assert np.allclose(to_patient(mr.affine, index), to_patient(turned.affine, other))
assert mr.image[tuple(index)] == turned.get_fdata(dtype=np.float32)[tuple(other)]
print(
    "RAS index",
    index,
    "= LPS index",
    other,
    "=",
    to_patient(mr.affine, index).round(1),
    "mm",
)

# %% [markdown]
# Nothing in the *numbers* would tell you that a file was read in the wrong order: a mirrored patient looks like a
# patient. Only the organs' places give it away. A cheap test that finds most such mistakes: the liver belongs on the
# right.


# %%
def side(case, organ):
    """Mean position of an organ to the right (+) or left (-) of all labels, in mm."""
    label = next(o.label for o in ORGANS if o.name == organ)
    middle = np.argwhere(case.label > 0).mean(0)
    return ((np.argwhere(case.label == label).mean(0) - middle) * case.spacing)[0]


# %%
sides = {
    name: {o: side(case, o) for o in ("liver", "spleen")}
    for name, case in cases.items()
}
table = pd.DataFrame(sides).T.round(0).add_suffix(", mm to the right")
assert (table.iloc[:, 0] > 0).all() and (table.iloc[:, 1] < 0).all()
table

# %% [markdown]
# ## 2. Spacing: the same patient on another grid
#
# A network sees pixels, not millimetres. 3×3 pixels are 3 mm in one scan and 9 mm in another. So all scans are
# brought to one **spacing** first: image with smoothing and linear interpolation, labels by the nearest neighbour.

# %%
coarse = {s: resample_case(cases["ct_b"], s) for s in (1.0, 3.0, 6.0)}
volumes = {
    f"{s:g} mm": {
        n: count * np.prod(c.spacing) / 1000
        for n, count in organs_present(c.label).items()
    }
    for s, c in {**{0: cases["ct_b"]}, **coarse}.items()
}
volumes = pd.DataFrame(volumes).rename(columns={"0 mm": "own grid"}).round(1)
volumes.columns.name = "ml at"
volumes

# %% [markdown]
# Large organs keep their volume; what is a few millimetres thick comes out by chance. That is one reason why the laptop
# profile learns six large organs at 3 mm and leaves out the adrenals. How much detail does a grid lose? Resample labels
# to a coarser grid and bring them back, each time by the nearest voxel.


# %%
def places_on(small, case):
    """Index coordinates on the coarse grid of every voxel of the fine one."""
    zoom = np.array(small.shape) / case.shape
    centers = [(np.arange(n) + 0.5) * z - 0.5 for n, z in zip(case.shape, zoom)]
    return np.meshgrid(*centers, indexing="ij")


def there_and_back(case, spacing):
    """DSC per organ of labels resampled to a spacing and back, by nearest neighbour."""
    small = resample_case(case, spacing)
    back = ndimage.map_coordinates(
        small.label, places_on(small, case), order=0, mode="nearest"
    )
    present = organs_present(case.label)
    return {
        n: dice(back == label, case.label == label)
        for label, n in names.items()
        if n in present
    }


# %%
nearest = pd.DataFrame(
    {s: there_and_back(cases["ct_a"], s) for s in (4.5, 6.0, 9.0, 12.0)}
)
plot_lines(
    nearest.T,
    "spacing of the grid (mm)",
    "DSC, labels there and back",
    looks=("o-",),
    colors=[*label_colors(nearest.index).values()],
    ticks=nearest.columns,
    ylim=(0, 1.02),
    beside=True,
)

# %% [markdown]
# That is the price of *nearest-neighbour labels*, and no limit for a network. A network gives a probability for every
# class, and probabilities can be interpolated before the largest is taken. So do nnU-Net and this kit's `predict`. The
# same with the true labels: average each organ's mask over the coarse voxels, interpolate, compare with one half.


# %%
def soft_there_and_back(case, spacing, cut=0.5):
    """DSC per organ of soft coarse masks, interpolated linearly, then cut."""
    small, scores = resample_case(case, spacing), {}
    grid = places_on(small, case)
    for label, name in names.items():
        if (mask := case.label == label).any():
            # about the mean over a coarse voxel: a Gaussian of 0.4 of its width
            soft = ndimage.gaussian_filter(
                mask.astype(np.float32), np.array(case.shape) / small.shape / 2.5
            )
            centers = [
                (np.arange(n) + 0.5) * m / n - 0.5
                for n, m in zip(small.shape, case.shape)
            ]
            coarse = ndimage.map_coordinates(
                soft, np.meshgrid(*centers, indexing="ij"), order=1, mode="nearest"
            )
            scores[name] = dice(
                ndimage.map_coordinates(coarse, grid, order=1, mode="nearest") > cut,
                mask,
            )
    return scores


both = pd.DataFrame(
    {
        "nearest": nearest[6.0],
        "soft": soft_there_and_back(cases["ct_a"], 6.0),
        "soft, cut at 0.3": soft_there_and_back(cases["ct_a"], 6.0, cut=0.3),
    }
)
print(
    f"at 6 mm, the soft way is better for {(both['soft'] > both['nearest']).sum()}"
    f" of {len(both)} organs"
)
assert both.loc["liver", "soft"] > both.loc["liver", "nearest"]
both.round(3).rename_axis("DSC, ct_a to 6 mm and back")

# %% [markdown]
# The adrenal glands are the exception. They are so thin that, averaged over 6 mm, most of their own voxels stay below
# one half. The cut is to blame, not the grid: the last column cuts at 0.3, and there they score far better than with
# the nearest voxel. Thick organs then come out 10 to 30 % too large: a mask that holds the whole organ and is larger by
# a share $e$ has a DSC of $2/(2 + e)$. That is 0.945 for 12 %, and 0.877 for 28 %.
#
# ## 3. Intensity: Hounsfield units, and none
#
# CT measures something physical: air −1000, water 0 Hounsfield units, for every scanner. MR does not: its numbers mean
# nothing beyond one image. The paper's two data sets are one of each.

# %%
samples = {}
for name, case in cases.items():
    for organ in ("liver", "spleen", "aorta"):
        label = next(o.label for o in ORGANS if o.name == organ)
        samples[name, organ] = case.image[case.label == label]
figures.plot_intensities(samples)

# %% [markdown]
# Look at the two CTs: liver and spleen agree within some tens of HU, the aorta does not at all. Contrast agent was
# given to `ct_b`. A network trained on `ct_a` alone may learn that the aorta is as dark as the liver. It is then right
# on every image it has ever seen.
#
# `normalize` brings both modalities to about zero mean and unit spread. For CT it takes constants, so that a
# Hounsfield unit stays the same for all patients. For MR it takes each image's own mean and deviation, because it has
# nothing else. Both are clipped first: CT to −175 … 250 HU, MR to its 0.5 and 99.5 percentiles.

# %%
for name, case in cases.items():
    x = normalize(case.image, case.modality)
    print(
        f"{name}: {case.modality} {case.image.min():7.0f} .. {case.image.max():6.0f}"
        f"  →  {x.min():5.2f} .. {x.max():5.2f}"
    )

# %% [markdown]
# **Predict, then point.** One number is $1000\,(\mu - \mu_{water})/\mu_{water}$, where $\mu$ says how strongly X-rays are
# weakened: 0 in water, about −1000 in air. What do you expect in fat, in the gallbladder, in muscle, at the rim and in
# the middle of a vertebra? Click there, or move row and column: the line above the picture says place, grey value and
# label. [A table](https://basicmedicalkey.com/principles-of-ct) has fat at −100 to −50, the liver at 40 to 60 and bone
# at 1000; contrast agent raises what takes it up. The spongy inside of a lumbar vertebra has less than other bone: [on
# average](https://doi.org/10.1148/radiol.2019181648) 226 HU below the age of 30, and 89 from 90 on. Other tables differ
# by tens of HU, for bone by hundreds, and a voxel of 3 mm is often a mixture.
#
# Then choose the grey **window** called *what the network sees*. Which organs can you still tell apart with the labels
# off? What do *lung* and *bone* show that is lost there? ([Centres and widths](https://github.com/OHIF/Viewers) are
# those of the OHIF Viewer; hospitals differ.) Last, put `ct_b` in the place of `ct_a`, run the cell again, and point at
# the aorta; then `mr_d`, and find the gallbladder.

# %%
SliceBrowser(cases["ct_a"])

# %% [markdown]
# A window shows no difference that the numbers do not have. Three organs of `ct_a`:

# %%
organs = {organ: v for (name, organ), v in samples.items() if name == "ct_a"}
between = np.ptp([np.median(v) for v in organs.values()])
within = min(np.ptp(np.percentile(v, (5, 95))) for v in organs.values())
print(
    f"medians of {', '.join(organs)}: within {between:.0f} HU;"
    f" the middle 90 % of one organ's voxels: over {within:.0f} HU or more"
)
assert between < within

# %% [markdown]
# Without contrast agent it is place and shape that tell these three apart, so a network must look around.
#
# ## 4. Labels: ids are not names
#
# A label map is numbers again, and every source has its own numbering. The sample's labels come from two models of one
# package, TotalSegmentator's for CT (`total`) and for MR (`total_mr`), which disagree with each other:

# %%
numbering = {
    source: {o.name: ids[o.total] for o in ORGANS} for source, ids in TOTAL_IDS.items()
}
numbering |= {
    "AMOS22": {o.name: o.amos for o in ORGANS},
    "FLARE22 = kit": {o.name: o.label for o in ORGANS},
}
pd.DataFrame(numbering)

# %% [markdown]
# **A mistake worth making once.** Read the MR's labels with the CT model's numbering. No error, no warning; some organs
# are right, some vanish, and none of the numbers looks strange.

# %%
mr_ids = TOTAL_IDS["total_mr"]
read_as = {o.name: int(to_kit_ids(np.array(mr_ids[o.total]), "total")) for o in ORGANS}
wrongly = {name: names.get(kit, "background") for name, kit in read_as.items()}
lost = [name for name, became in wrongly.items() if became != name]
print("lost or renamed:", ", ".join(f"{name} → {wrongly[name]}" for name in lost))

# %% [markdown]
# That is why the kit's tables go by name, and why a value outside the table is an error. A network's label table is
# stored with its weights for the same reason.
#
# **Class imbalance.** How many voxels does each class have?

# %%
shares = pd.DataFrame(
    {
        name: {
            n: 100 * count / case.label.size
            for n, count in organs_present(case.label).items()
        }
        for name, case in cases.items()
    }
).reindex(names.values())
print("background (%):", (100 - shares.sum()).round(1).to_dict())
plot_dots(shares, "share of all voxels (%)", xscale="log")

# %% [markdown]
# Between liver and adrenal gland lie two orders of magnitude, and most of every scan is background. A network that
# says "background" everywhere is right on 85 to 94 % of them. Cross-entropy would be content; Dice is not (chapter 08).
#
# ## 5. The cohort: one patient, many bodies
#
# Students with two cores each cannot train on 50 patients. So the kit makes deformed copies of `ct_a` (`warps`
# in code and tables): bent, turned, scaled, with other contrast and noise, each a function of a seed. Half of them
# are **mirrored left to right, and keep the organs' names**: as if the patient had *situs inversus*, all organs on
# the other side.

# %%
table = LabelTable(settings.organs)
cohort = CohortSlices(
    "train", size=(96, 96), spacing_mm=3.0, table=table, length=40, seed=0
)
kidneys = {
    name: table.names.index(name) + 1 for name in ("right kidney", "left kidney")
}


def balance(item):
    """Do the right kidney's pixels lie right (+) or left (-) of the left kidney's?"""
    x = {
        name: np.argwhere(item["label"].numpy() == k)[:, 0]
        for name, k in kidneys.items()
    }
    return (
        np.sign(x["right kidney"].mean() - x["left kidney"].mean())
        if all(map(len, x.values()))
        else 0
    )


# %%
with_both = [(i, balance(cohort[i])) for i in range(len(cohort)) if balance(cohort[i])]
plain, mirrored = (next(i for i, s in with_both if s == sign) for sign in (1, -1))
print(
    f"{len(with_both)} slices show both kidneys;"
    f" in {sum(s < 0 for _, s in with_both)} the right one lies left"
)


def picture(item):
    grey = np.clip((item["image"][0].numpy() + 2.4) / 4.8, 0, 1)[::-1, ::-1].T
    return case_plots.Picture(grey, item["label"].numpy()[::-1, ::-1].T, (288.0, 288.0))


shown = {"as it was": picture(cohort[plain]), "mirrored": picture(cohort[mirrored])}
case_plots.plot_cases(
    shown, dict(enumerate(table.names, start=1)), field_mm=(288.0, 288.0)
)

# %% [markdown]
# Cut out a patch around a kidney, and it is hard to tell which of the two it is. The brightness is much the same, and
# the shape is that of the other one, mirrored. Position in the picture does not help, for half of the bodies are
# mirrored. What helps is **which side the liver is on**. How far away does its edge begin?

# %%
ct = cases["ct_a"]
kidney = {o.name: ct.image[ct.label == o.label] for o in ORGANS if "kidney" in o.name}
for name, values in kidney.items():
    print(f"{name}: {values.mean():.0f} ± {values.std():.0f} HU")
ids = {o.name: o.label for o in ORGANS}
to_liver = ndimage.distance_transform_edt(
    ct.label != ids["liver"], sampling=ct.spacing
)  # mm from every voxel to the nearest one of the liver
pd.DataFrame(
    {
        k: np.percentile(to_liver[ct.label == ids[k]], (5, 50, 95))
        for k in ("right kidney", "left kidney", "spleen")
    },
    index=["5 % of its voxels", "half", "95 %"],
).T.round(0).rename_axis("mm to the liver, at most")

# %% [markdown]
# The liver touches the right kidney, and begins seven to thirteen centimetres from most of the left one. So a network
# need not see it from everywhere: within about six centimetres there is a liver, or there is none.
#
# Look at the spread of the left kidney's values, and at the white spots in its picture. They are a few very bright
# voxels, which may be stones or vessel walls (nobody told us). On some slices they give the kidney away without any
# context. A network will find such a short cut. No cohort made from one patient is free of them. A claim about
# context has to be tested where there is none ([chapter 11](11_effective_receptive_field.ipynb) does that with a
# synthetic task).
#
# So this cohort rewards a view of about six centimetres (20 pixels of 3 mm) by construction. That makes it a good
# *instrument* and a bad *benchmark*. What it shows about kernels does not carry over to data where a kidney's place
# says which one it is. Remember it when you read a score of this course.
#
# ## 6. Two scores, on shapes with known answers
#
# You wrote **DSC** in chapter 00: the overlap of two masks, 1 for equal ones. **NSD** compares their *surfaces*: the
# share of both that lies within a **tolerance**, in mm, of the other one (chapter 08 computes it by hand). Before one
# trusts an implementation, one asks it what one knows: a ball against the same ball, moved. How much does one voxel
# cost?


# %%
def ball(radius, shift=0, size=64):
    x, y, z = (axis - size / 2 for axis in np.ogrid[:size, :size, :size])
    return (x - shift) ** 2 + y**2 + z**2 <= radius**2


radii = [3, 5, 8, 12, 18, 24]
# two balls of radius r whose centers are 1 apart
known = [1 - 3 / (4 * r) + 1 / (16 * r**3) for r in radii]
measured = {"DSC": [dice(ball(r, 1), ball(r)) for r in radii]}
measured["NSD, 2 mm"] = [
    surface_dice(ball(r, 1), ball(r), (3.0, 3.0, 3.0), 2.0) for r in radii
]
measured["NSD, 3 mm"] = [
    surface_dice(ball(r, 1), ball(r), (3.0, 3.0, 3.0), 3.0) for r in radii
]
assert max(abs(a - b) for a, b in zip(measured["DSC"][2:], known[2:])) < 0.02
curves = {name: (radii, values) for name, values in measured.items()}
plot_lines(
    {"DSC of perfect balls": (radii, known), **curves},
    "radius (voxels of 3 mm)",
    "score after a shift of one voxel",
    looks=("-", "o", "s:", "D:"),
    ylim=(0, 1.03),
)

# %% [markdown]
# The curve beside the dots is geometry. Two balls of radius $r$ whose centres are one apart share
# $1 - \tfrac{3}{4r} + \tfrac{1}{16r^3}$ of their volume. The lens that they have in common is two spherical caps of
# height $r - \tfrac{1}{2}$, each of volume $\tfrac{\pi}{3}\,(r - \tfrac{1}{2})^2\,(2r + \tfrac{1}{2})$. At 3 mm a
# voxel, a liver is about as large as the largest ball here, an adrenal gland as the smallest. So *moving* a ball with a
# radius of 24 voxels by one costs 3 % of DSC, and one with a radius of 3 a quarter. A contour that is one voxel off
# *everywhere* costs more:

# %%
grown = pd.DataFrame(
    {
        "moved by one": measured["DSC"],
        "one voxel larger": [dice(ball(r + 1), ball(r)) for r in radii],
    }
)
grown.index = pd.Index(radii, name="radius (voxels)")
grown.round(3)

# %% [markdown]
# NSD with a tolerance of one voxel (3 mm) forgives the move at every size. With 2 mm it forgives only the parts of the
# surface that moved by less. **A score means nothing without the spacing it was computed at.**
#
# ## Exercises
#
# **1. Index to millimetres, for many points** (★, 5 minutes).


# %%
def to_mm(affine, indices):
    """affine (4, 4); indices (points, 3). Returns mm (points, 3)."""
    ### BEGIN SOLUTION
    return indices @ affine[:3, :3].T + affine[:3, 3]
    ### END SOLUTION


# %%
check_to_mm(to_mm)

# %% [markdown]
# **2. Translate labels by name** (★★, 10 minutes). Both tables map names to ids. Structures that the target does not
# know become 0. Mind the order: ids overlap, so a value must not be translated twice.


# %%
def translate(label, source, target):
    """label: array of ids; source, target: dict name → id. → array of the same shape"""
    ### BEGIN SOLUTION
    result = np.zeros_like(label)
    for name, number in source.items():
        if name in target:
            result[label == number] = target[name]
    return result
    ### END SOLUTION


# %%
check_translate(translate)

# %% [markdown]
# **3. How far apart must slabs be?** (★★, 5 minutes). A *slab* is a stack of neighbouring slices. To hold out a slab of
# the *same* patient, leave a gap. The last slice kept and the first one held out shall be at least `gap_mm` apart, center
# to center. How many whole slices have to be dropped in between?


# %%
def slices_to_drop(gap_mm, spacing_z):
    """Both in mm. Returns a whole number of slices."""
    ### BEGIN SOLUTION
    return max(0, math.ceil(gap_mm / spacing_z - 1e-9) - 1)
    ### END SOLUTION


# %%
check_slice_gap(slices_to_drop)

# %% [markdown]
# **4. DSC of a moved box** (★★, 5 minutes). A box of `size` voxels per axis is moved by `shift` voxels per axis. Its
# DSC with itself, without making any array?


# %%
def box_dice(size, shift):
    """Two tuples of whole numbers, one per axis. Returns the DSC."""
    ### BEGIN SOLUTION
    overlap = 1.0
    for s, d in zip(size, shift):
        overlap *= max(0, s - abs(d)) / s
    return overlap
    ### END SOLUTION


# %%
check_box_dice(box_dice)

# %% [markdown]
# **Open question.** Our labels are the predictions of a model. Suppose it always draws the kidney two millimetres too
# large. Which of our numbers would notice: the loss, the DSC on held-out deformed copies, the DSC on `ct_b`, the NSD?
# What would you need to find out?
#
# ## Summary
#
# | what we measured | what the paper says | what is still open |
# |---|---|---|
# | three scans, two modalities, silver labels; of the 13 organs 12 occur, the esophagus nowhere | 100 CTs and 110 MRs with 13 organs | chapter 15 brings the real data |
# | resampling alone costs small organs more DSC than LKM-UNet leads by in Table 1 | nnU-Net's framework; no spacing is given | – |
# | reading MR labels with the CT numbering loses organs silently | labels of U-Mamba's authors | AMOS22's ids differ from FLARE22's |
# | in the cohort a liver within six centimetres tells the kidneys apart (and a few bright voxels) | large kernels "achieve large receptive fields" (abstract) | how far trained networks look (chapter 11) |
#
# ## Further reading
#
# * Y. Ji et al., [AMOS](https://arxiv.org/abs/2206.08023), and J. Ma et al.,
#   [FLARE22](https://arxiv.org/abs/2308.05862): the two data sets of the paper.
# * J. Wasserthal et al., [TotalSegmentator](https://arxiv.org/abs/2208.05868): where the sample's labels come from.
# * L. Maier-Hein et al., [Metrics Reloaded](https://arxiv.org/abs/2206.01653): which score for which question. S.
#   Nikolov et al., [surface Dice](https://arxiv.org/abs/1809.04430): where NSD comes from.
# * M. Brett et al., [Coordinate systems in nibabel](https://nipy.org/nibabel/coordinate_systems.html): affines, with
#   pictures.
