# %% [markdown]
# # 15 · Full scale: from an empty disk to Tables 2 and 3
#
# *30 minutes to read, 30 for the exercises, under a minute to run.* Before: [10_table3_ablation](10_table3_ablation.ipynb), and
# [14_volumes_3d](14_volumes_3d.ipynb) for the 3D half. After: your own disk, and some days
# of a GPU; or [16_your_own_data](16_your_own_data.ipynb), your own scans.
#
# **Goals.** After this chapter you can
# * say which files the paper's tables need, where they are, under which terms, and which of them nobody can download;
# * bring AMOS22, FLARE22 and the U-Mamba authors' folders into nnU-Net's layout, check them, and plan both studies;
# * estimate hours, memory and disk before you ask for them, and keep *extrapolated* apart from *measured*;
# * read your numbers beside the published ones: which differences your number of seeds can show, and what the scoring
#   rule does with organs that are not there.
#
# | word | meaning |
# |---|---|
# | arm | one network of a study ([chapter 10](10_table3_ablation.ipynb)) |
# | plans | nnU-Net's file of patch sizes, spacings and networks; one *configuration* an arm |
# | fold | which cases are trained on; `all`: every one |
# | measured | timed in this notebook, on this machine |
# | extrapolated | computed from counted operations and stated assumptions; nobody has timed it |
#
# **The paper's claim** (Sections 4.1 and 4.2; in our words). Abdominal MR: 60 training and 50 test scans of AMOS 2022.
# nnU-Net's framework, 320×320 patches in batches of 24, 1000 epochs, one RTX 3090. Table 2: 75.89, 76.45, 77.35 DSC for
# growing kernels. Table 3: 74.50 for the baseline, 77.35 for all parts.

# %%
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from lkm_kit.bench.network import step
from lkm_kit.bench.timing import medians
from lkm_kit.course import check_empty_organs, check_gpu_hours, check_seeds_needed
from lkm_kit.course import check_trainings
from lkm_kit.data import RELEASES, LabelTable, check_dataset
from lkm_kit.data import read_case, write_segmentation
from lkm_kit.data.amos import prepare_amos_mr
from lkm_kit.data.flare import prepare_flare_ct
from lkm_kit.data.organs import look_up
from lkm_kit.data.miniature import miniature_members, write_zip
from lkm_kit.data.umamba_folders import prepare_umamba
from lkm_kit.files import write_json
from lkm_kit.nnunet import DOUBTS, collect, nnunet_study, steps, submission, write_plans
from lkm_kit.nnunet.plans import configurations
from lkm_kit.plots.contact_sheet import plot_contact_sheet
from lkm_kit.plots.style import use_style
from lkm_kit.profiles import profile
from lkm_kit.studies import published, study
from lkm_kit.studies.costs import cost, training_memory
from lkm_kit.studies.design import RTX_3090, distinct_networks, extrapolate
from lkm_kit.studies.design import training_hours

use_style()
pd.set_option("display.max_colwidth", 120)
settings, paper = profile(), profile("paper")
print("profile:", settings.name)
there = "installed" if find_spec("nnunetv2") else "not installed, nor needed"
print("nnU-Net is", there)

# %% [markdown]
# ## 1. What to fetch
#
# Three sources; the kit never redistributes any of them. Read their terms before you fetch them:

# %%
for one in RELEASES.values():
    print(f"{one.name}: {one.version}")
    print(f"  sha256 {one.sha256 or '(none: nobody publishes one)'}")
pd.DataFrame(
    {
        one.name: {
            "where": one.page,
            "download": "by script" if one.url else "by hand, with a browser",
            "terms": one.licence,
        }
        for one in RELEASES.values()
    }
).T

# %% [markdown]
# The checksums come from third parties; the publishers state none. A download is held against them, and the script stops
# when they differ. Room that the disk needs:
#
# | source | download | data set | holds |
# |---|---|---|---|
# | AMOS22 | 24.2 GB (CT and MR in one file) | about 2 GB | 40 + 20 labelled MR; **not the paper's split** |
# | FLARE22 | about 2 GB | about 2 GB | 50 labelled CT; **not the paper's split** |
# | U-Mamba's folders | about 5 GB | about 5 GB | 60 + 50 MR, 50 + 50 CT: **the paper's split** |
#
# Only with the third one can you compare your scores with Tables 1 to 3: the 50 test MRs were labelled by the U-Mamba authors.
# They lie in their folder, and in one of the same layout that LKM-UNet's repository links (we have compared neither). Without it you can still ask the paper's *questions*; the kit then prints "not the paper's split".
#
# ## 2. The commands, in order
#
# In a shell (each has `--help`; each may be stopped and started again):
#
#     export nnUNet_raw=/big/raw nnUNet_preprocessed=/fast/preprocessed nnUNet_results=/big/results
#     lkm data amos   --download                                # or --archive amos22.zip
#     lkm data flare  --download
#     lkm data umamba --archive downloaded-folder/
#     lkm data check  $nnUNet_raw/Dataset702_AbdomenMR
#
# Now the same, run. The archives are *miniatures*: the published layouts and file names, a handful of synthetic scans.
# Do it once with them before you fetch 24 GB.

# %%
scratch = tempfile.TemporaryDirectory()
disk = Path(scratch.name)
for folder in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[folder] = str(disk / folder)
raw = disk / "nnUNet_raw"
archives = {
    name: write_zip(disk / f"{name}.zip", miniature_members(name)) for name in RELEASES
}
for name, path in archives.items():
    files = len(miniature_members(name))
    print(f"{name}: {path.stat().st_size / 1e3:.0f} kB, {files} files")

print(amos := prepare_amos_mr(archives["amos22"], raw))
print(prepare_flare_ct(archives["flare22"], raw))
for written in prepare_umamba(archives["u-mamba"], raw):
    print(written)
print("once more:", prepare_amos_mr(archives["amos22"], raw))

# %% [markdown]
# What happens to a label? AMOS22 and FLARE22 number the same organs differently, and networks know only numbers. Naive:


# %%
def translate(label):
    """AMOS22's ids → the kit's (FLARE22's); bladder and prostate/uterus become 0."""
    kit = [0, 3, 2, 13, 9, 10, 1, 11, 5, 6, 4, 7, 8, 12, 0, 0]
    return np.array(kit)[label]


assert translate(np.arange(16)).tolist() == look_up("amos").tolist()
case = read_case(
    amos.folder / "imagesTr" / "amos_0507_0000.nii.gz",
    amos.folder / "labelsTr" / "amos_0507.nii.gz",
    modality="MR",
)
print(
    "the library's table is the same; organs written:",
    sorted(np.unique(case.label).tolist()),
)

# %% [markdown]
# Had the ids been left alone, training would run without a complaint: the "spleen" of one data set is the "liver" of the
# other. Such faults cost days, so look before you train:

# %%
report = check_dataset(raw / "Dataset702_AbdomenMR")
print(report)

# %%
plot_contact_sheet(report.previews, report.names)

# %% [markdown]
# These are phantoms: no adrenal glands, no esophagus, and the check says so. On the real folders, read every line of it,
# and look at each picture once. nnU-Net's own check (`--verify_dataset_integrity`, the first command below) accepts what
# the scripts write: a test of the kit runs it on all four of these data sets.
#
# ## 3. The plans
#
# nnU-Net first looks at all scans and plans spacing, patch and network. Then `lkm nnunet plans` adds one configuration a
# network to a *copy* of that file; spacing, normalisation and preprocessed data stay nnU-Net's. Tables 1 to 3 share the
# copy: a network that several of them have is there once, and is trained once.
#
#     nnUNetv2_plan_and_preprocess -d 702 -c 2d --verify_dataset_integrity
#     lkm nnunet plans 702 --study table2


# %%
def plan_miniature():
    """Plans of the miniature: by nnU-Net where there is one (20 s), else a stand-in."""
    folder = disk / "nnUNet_preprocessed" / "Dataset702_AbdomenMR"
    if find_spec("nnunetv2") and settings.name != "smoke":
        program = Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess")
        command = [str(program), "-d", "702", "-c", "2d", "--no_pp", "-npfp", "1"]
        subprocess.run(
            command,
            check=True,
            timeout=240,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        return folder / "nnUNetPlans.json", "planned by nnU-Net"
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "patch_size": [40, 36],
        "batch_size": 40,
    }
    plans = {
        "plans_name": "nnUNetPlans",
        "dataset_name": folder.name,
        "configurations": {"2d": configuration},
    }
    write_json(folder / "nnUNetPlans.json", plans)
    return (
        folder / "nnUNetPlans.json",
        "a stand-in for nnU-Net's plans: its shortest part, with made-up sizes",
    )


path, origin = plan_miniature()
before = json.loads(path.read_text())["configurations"]
print(origin + ":", list(before))

# %%
made = json.loads(write_plans(702, "table2", "paper").read_text())["configurations"]


def added(name):
    """What a study finds in the plans: one row an arm."""
    rows = {}
    for arm, configuration in configurations(name, paper)[1].items():
        about = made[configuration]
        keywords = about["architecture"]["arch_kwargs"]
        switches = {
            part: keywords.get(part, "windows" in keywords)
            for part in ("pim", "pam", "bidirectional")
        }
        network = about["architecture"]["network_class_name"].rpartition(".")[2]
        sizes = {
            "patch": about["patch_size"],
            "batch": about["batch_size"],
            "windows": keywords.get("windows", ""),
        }
        rows[arm] = {
            "configuration": configuration,
            "inherits": about["inherits_from"],
            "network": network,
        }
        rows[arm] |= {
            **sizes,
            **switches,
            "mixer": keywords.get("mixer", "bim" if "windows" in keywords else ""),
        }
        rows[arm]["partition"] = keywords.get(
            "partition", "contiguous" if "windows" in keywords else ""
        )
    return pd.DataFrame(rows).T


added("table2").drop(columns=["pim", "pam", "bidirectional", "mixer"])

# %%
added("table3").drop(columns=["inherits", "patch", "batch", "partition"])

# %% [markdown]
# Nine of Table 2's eleven arms are three settings under three readings of "kernel size": the paper's text, its code
# and its authors' answer do not agree ([chapter 04](04_pixel_level_ssm.ipynb)). And both studies have the no-Mamba control
# that the paper lacks.
#
# ## 4. The commands, and a cluster
#
# `lkm nnunet commands 702 --study table3` prints every command; with `--run` it runs those that are not done:

# %%
todo = steps(702, "table3", "paper", arms=["residual-unet", "pim-pam-bim"])
for one in todo:
    line = (
        str(one)
        .replace(str(disk), "$DISK")
        .replace(f"{one.command[0]} -m lkm_kit.cli", "lkm")
    )
    print(line)

# %% [markdown]
# `--run` skips what is done and resumes a training from its last checkpoint, so a Slurm job may simply be queued again.
# `lkm nnunet submit 702 --study table2,table3 --slurm partition=gpu` writes three scripts and hands them to Slurm. The second
# is an array with a task a training; a network that both tables have is in it once:

# %%
array = submission(
    702, ["table2", "table3"], "paper", options={"partition": "gpu"}, at_once=4
)["train.sh"]
print(
    array.replace(str(disk), "$DISK").replace(f"{sys.executable} -m lkm_kit.cli", "lkm")
)

# %% [markdown]
# A task that its time limit ends goes on where it was when you submit the same script again. Run the first two commands
# of the list (plan, plans) *before* you queue it, or all tasks will do them at once. nnU-Net fixes no seed:
# `--repetitions 0,1,2` trains each network three times.
#
# There is a second way: the kit's own studies, on the same folder. There, seeds, batches and initial weights are alike in
# all arms, and Slurm is a launcher:
#
#     lkm study table2 --data Dataset702_AbdomenMR --profile gpu --seeds 3 --launcher slurm --slurm slurm_partition=gpu
#     lkm study table3 --data Dataset702_AbdomenMR --profile gpu --seeds 3 --launcher slurm --slurm slurm_partition=gpu
#     lkm study report table3 --data Dataset702_AbdomenMR --profile gpu --seeds 3
#
# Each run is one task of an array, with one GPU (`--devices 4` for four that train one run together) and a day. One
# that reaches its time limit is queued again and resumes. `--slurm` takes the names of submitit and refuses a
# misspelt one.
#
# **Which way when?** nnU-Net's pipeline where a score shall stand beside the published one: its planning, its training, its
# prediction. The kit's loop where arms shall be compared with each other: it fixes seeds, pairs cases, and stops and resumes
# to the same bits; its scores stand beside no published number. Without `--data` the study trains on deformed copies of the
# sample scan, and says nothing about patients.
#
# ## 5. Hours, memory and disk
#
# **No GPU was measured for this chapter.** (One was [since](../docs/gpu.md#measured-on-an-h200): an H200 takes 0.43 seconds for a step of
# `paper-2d` at the paper's batch, and 29 GiB.) What can be done without one: count operations, and time a small network on
# the CPU. The count first. Naive: a training step is a forward pass and a backward pass of twice its cost, for each
# image of the batch.

# %%
largest = study("table3", paper).arm("pim-pam-bim")
gflops = cost(largest, paper.image_size, 14)["gflops"]
operations = 3 * gflops * 1e9 * paper.batch_size * paper.iterations
hours = operations / (RTX_3090.tflops * 1e12) / 3600
library = training_hours(gflops, paper.batch_size, paper.iterations, RTX_3090.tflops)
assert np.isclose(hours, library)
print(f"{gflops:.0f} GFLOPs an image, {operations:.1e} operations a training:", end=" ")
print(f"{hours:.0f} hours at the RTX 3090's peak")

# %% [markdown]
# No training runs at the peak. How far below? Measured, here, on the CPU, with the small networks of the laptop profile:

# %%
small = study("table3", "laptop")
sizes = {"with Mamba": "pim-pam-bim", "no Mamba": "residual-unet"}
counted = {
    name: cost(small.arm(arm), profile("laptop").image_size, 7)["gflops"]
    for name, arm in sizes.items()
}
batch = min(settings.batch_size, 8)
seconds = medians(
    {"with Mamba": step("auto", batch), "no Mamba": step(None, batch)},
    min(settings.repeats, 3),
)
measured = pd.DataFrame(
    {"GFLOPs an image (counted)": counted, "seconds a step (measured)": seconds}
)
measured["GFLOP/s reached (measured)"] = (
    3 * batch * measured.iloc[:, 0] / measured.iloc[:, 1]
)
measured.round(2)

# %%
ratio = measured.loc["with Mamba"] / measured.loc["no Mamba"]
years = operations / (measured.loc["with Mamba"].iloc[2] * 1e9) / 3600 / 24 / 365
more, longer = ratio.iloc[0], ratio.iloc[1]
print(f"with Mamba: {more:.1f} times the operations, {longer:.1f} times the seconds")
print(f"the paper's training at this rate, extrapolated: {years:.0f} years on this CPU")

# %% [markdown]
# (A shared machine and few repeats: on another day even the ratio may differ.) So operations are a guide, not a clock: memory traffic, small layers and the scan count too, and differently on each
# device. For a GPU we *assume* that between a tenth and four tenths of its float32 peak are reached. That is a wide range,
# and it is a guess: mixed precision may beat it, a slow disk may miss it.

# %%
from lkm_kit.plots.lines import MARKED, plot_dots, plot_lines

arms = [*study("table2", paper).arms, *study("table3", paper).arms]
groups = distinct_networks(arms)
distinct = {arm.name: arm for arm in arms if arm.name in groups}
table = extrapolate(
    distinct.values(), paper.image_size, 14, paper.batch_size, paper.iterations
)
low, high = RTX_3090.share
assumed = (
    f"{RTX_3090.name}: {RTX_3090.tflops} TFLOPS peak, {low:.0%} to {high:.0%} of it"
)
assumed += " assumed; this card was not measured"
titles = {name: arm.title for name, arm in distinct.items()} | {
    "contiguous-large": "large contiguous = PiM+PaM+BiM"
}
ends = {"hours_low": f"{high:.0%} of the peak", "hours_high": f"{low:.0%} of the peak"}
plot_dots(
    table[[*ends]].rename(index=titles, columns=ends).rename_axis(None),
    f"GPU-hours of one training, extrapolated\n({assumed})",
    joined=True,
    xscale="log",
)

# %%
total = table.sum()
print(f"Tables 2 and 3: {len(arms)} arms, {len(groups)} distinct networks")
for seeds in (1, 3):
    least, most, disk_gb = seeds * total[["hours_low", "hours_high", "checkpoints_gb"]]
    print(
        f"{seeds} seed(s), extrapolated: {least:.0f} to {most:.0f} GPU-hours", end=" "
    )
    print(f"({least / 24:.0f} to {most / 24:.0f} days of one GPU);", end=" ")
    print(f"checkpoints {disk_gb:.0f} GB")

# %% [markdown]
# **Memory.** A step must keep what its backward pass needs, and for each parameter the weight, its gradient and two numbers
# of AdamW. That sum can be counted from shapes alone, in float32, without computing anything. The
# peak lies above it, by the largest temporaries of one layer. `accumulate` splits a batch; `activation_checkpointing` computes each
# LM block a second time instead of keeping what is inside it, with the same numbers. `lkm study run table3 --profile paper
# --dry-run` lists every arm.

# %%
table3 = study("table3", paper)
shown = ["plain-unet", "residual-unet", "pim-pam-bim", "wide-residual-unet"]
shown = [table3.arm(name) for name in shown]
lean = table3.arm("pim-pam-bim")
lean = replace(
    lean,
    title="PiM+PaM+BiM, blocks computed twice",
    overrides={**lean.overrides, "activation_checkpointing": True},
)
batch = paper.batch_size
memory = pd.Series(
    {
        arm.title: training_memory(arm, paper.image_size, 14, batch) / 1e9
        for arm in [*shown, lean]
    },
    name=f"GB a step keeps, float32, batch of {batch}",
)
card = 24 * 1024**3 / 1e9  # what the paper's RTX 3090 has
over = [name for name, needed in memory.items() if needed > card]
print(f"more than an RTX 3090's {card:.1f} GB at the paper's batch:", ", ".join(over))
memory.to_frame().round(1)

# %% [markdown]
# In float32, that is. The paper trains inside nnU-Net, whose automatic mixed precision keeps much of this in 16 bits and so needs
# less. What do others *measure*? nnU-Net's authors trained such networks in 3D, for 1000 epochs each, on an A100. Networks,
# patches and batches are others than here: compare these rows with each other, not with the hours above.

# %%
others = published.nnunet_revisited
base = others.loc["U-Mamba's network without Mamba"]
others.assign(**{"hours / without Mamba": (others["hours"] / base["hours"]).round(2)})

# %% [markdown]
# The 3D half of Table 1 is the CT data set 701, with a study of its own; its commands are the same:
#
#     nnUNetv2_plan_and_preprocess -d 701 -c 3d_fullres --verify_dataset_integrity
#     lkm nnunet plans 701 --study table1-ct
#     lkm nnunet commands 701 --study table1-ct
#
# Its operations per training, and the preprocessed data. nnU-Net stores a scan as float32 and its label beside
# it, compressed; the bound below leaves the compression out. (Extrapolated from the miniature's bytes a voxel, and from
# about 2 GB of raw MR.)

# %%
ct = [
    arm
    for arm in nnunet_study("table1-ct", paper)[0].arms
    if arm.name in ("lkm-unet", "residual-unet")
]
files = sorted((raw / "Dataset722_AMOS22MR" / "imagesTr").glob("*.nii.gz"))
bytes_a_voxel = sum(file.stat().st_size for file in files) / (
    case.image.size * len(files)
)
print(f"miniature, measured: {bytes_a_voxel:.1f} compressed bytes a voxel")
most = 2 * (4 + 1) / bytes_a_voxel
print(f"preprocessed MR, extrapolated: at most {most:.0f} GB, if the spacing is kept")
extrapolate(ct, (40, 224, 192), 14, 2, paper.iterations).round(1)

# %% [markdown]
# **Measure before you queue.** Three epochs of one arm on your GPU say more than this section:
#
#     nnUNet_results=/scratch/measure lkm nnunet commands 702 --study table3 --arms pim-pam-bim --epochs 3 --run
#
# nnU-Net writes the seconds of each epoch into its log; drop the first one, and multiply (exercise 1). The results go into
# a folder of their own because a finished training of three epochs would later be taken for the finished real one.
#
# ## 6. What cannot be reproduced, and why
#
# | what | why | what the kit does |
# |---|---|---|
# | the test set | 50 MRs, labelled by other authors (U-Mamba), in two shared folders without version or checksum; 60 + 50 exceed AMOS22's 100 MRs, so some scans' origin is unknown | takes the folder, writes sha256 of every file, compares only then |
# | the optimiser | text: Adam, with a momentum of 0.99; code: SGD with Nesterov momentum 0.99 | SGD, as the code |
# | the batch | text: 24; nnU-Net would plan 30 at 320×320; no plans are published | 24, stated in the plans |
# | the plans | not published: spacing, normalisation, patch | nnU-Net's own, with the paper's patch |
# | the arms without BiM | the paper does not say what runs instead; the code has no switch | one direction: the backward Mamba does not exist |
# | "kernel size" | three readings; the released code has a fourth number for PaM | runs all three |
# | the baseline | by its scores nnU-Net's plain U-Net (inferred), not LKM-UNet without its blocks | both, and a wider one |
# | mirroring | released commands predict with `--disable_tta`; the text does not say | without, or `--tta` |
# | the spread | one number an arm, no seeds | as many as you can pay for |
#
# The kit repeats its doubts beside every score:

# %%
print("\n".join(DOUBTS))

# %% [markdown]
# ## 7. Reading your numbers
#
# ### The rule
#
# The repository has scripts to score with, and we take the published scores to be theirs. There an organ that is in
# neither the truth nor the prediction scores **1**. Aorta, vena cava and esophagus count only over the truth's
# slices, the last one left out. The mean goes over cases, then over organs. (A reader reported scores far above the
# paper's after 30 epochs, issue 1 of the repository. The authors answered: predict the test cases, and score them
# with the scripts.) Take one test case and, as its "prediction", the truth moved by two voxels:

# %%
from lkm_kit.evaluation import evaluate_case, organ_table

folder = raw / "Dataset702_AbdomenMR"
truth = read_case(
    folder / "imagesTs" / "amos_0540_0000.nii.gz",
    folder / "labelsTs" / "amos_0540.nii.gz",
    modality="MR",
)
moved = np.roll(truth.label, 2, axis=0)
rules = {
    rule: organ_table(
        evaluate_case(
            moved, truth.label, truth.spacing, LabelTable(), rule, case="amos_0540"
        )
    )["DSC"]
    for rule in ("official", "plain")
}
scored = pd.concat(rules, axis=1).reindex(rules["official"].index)
(100 * scored).round(1)

# %% [markdown]
# Organs that are not there gain full marks officially and are left out (NaN) plainly. The means are many points apart
# for *one and the same* segmentation. Never compare a plain mean with a published one. How much can this matter in
# the real test set? Nobody can say without its labels; the formula can:

# %%
absent, cases, dsc = (
    5,
    50,
    0.6,
)  # say, patients without a gallbladder, and the DSC in all others
gain = absent / cases * (1 - dsc) / 13
step_of_table3 = (
    published.table3.loc["PiM+PaM+BiM", "DSC"] - published.table3.loc["PiM+PaM", "DSC"]
)
print(f"{absent} of {cases} cases without one organ:", end=" ")
print(f"{100 * gain:+.2f} points of mean DSC by the rule alone")
print(f"BiM's last step in Table 3: {step_of_table3:+.2f}")

# %% [markdown]
# Your own predictions are scored by `lkm nnunet collect 702 --study table2`. Here on two made-up ones (the truth, moved by
# two and by three voxels), so that you see the form, not a result:

# %%
from lkm_kit.nnunet.places import predictions_folder

for configuration, voxels in {"lkm-unet": 2, "residual-unet": 3}.items():
    out = (
        predictions_folder(folder.name, "lkmSmokePlans", configuration, "all")
        / "amos_0540.nii.gz"
    )
    out.parent.mkdir(parents=True)
    write_segmentation(out, np.roll(truth.label, voxels, axis=0), like=truth)
collected = collect(702, "table2", "smoke", arms=["contiguous-large", "residual-unet"])
collected.table.round(2)

# %%
print("\n".join(collected.notes[:2]))

# %% [markdown]
# ### The spread
#
# Train one arm twice and two numbers come out. One reader trained one configuration of U-Mamba four times, with results up to 1.44
# points apart (issue 75 of its authors' repository). Between the seeds of the kit's small networks, on
# patients ([chapter 10](10_table3_ablation.ipynb), section 4):

# %%
from scipy import stats

from lkm_kit.studies.design import detectable
from lkm_kit.studies.reference import reference_results

reference = reference_results("table3", data="hippocampus")
by_seed = (
    reference.per_case.groupby(["arm", "seed", "organ"])["DSC"]
    .mean()
    .groupby(["arm", "seed"])
    .mean()
    .unstack()
)
spread = 100 * float(by_seed.std(axis=1, ddof=1).median())
counts = by_seed.count(axis=1)
print(
    f"{counts.min()} to {counts.max()} seeds an arm; standard deviation between",
    end=" ",
)
print(f"them, median of the arms: {spread:.2f} points")

# %% [markdown]
# That is for one organ and a rate that suits. At a rate that is too low the kit's small networks spread by 5.5 points (chapter 10,
# section 5). What LKM-UNet spreads at full size nobody has published.
#
# What difference can $n$ seeds show? Naive: invent a true difference, draw many studies, and count how many give $p < 0.05$ in
# Student's test.


# %%
def share_found(difference, spread, seeds, studies=4000):
    """Share of studies of two arms, of so many seeds each, that find p < 0.05."""
    random = np.random.default_rng(0)
    control, arm = spread * random.normal(size=(2, studies, seeds))
    arm = arm + difference
    error = np.sqrt((arm.var(1, ddof=1) + control.var(1, ddof=1)) / seeds)
    t_value = (arm.mean(1) - control.mean(1)) / error
    return np.mean(np.abs(t_value) > stats.t.ppf(0.975, 2 * seeds - 2))


for seeds in (2, 3, 5, 10):
    smallest = detectable(0.5, seeds)
    found = share_found(smallest, 0.5, seeds)
    assert abs(found - 0.8) < 0.04
    print(f"{seeds:2d} seeds, spread 0.5: a true difference of {smallest:.2f}", end=" ")
    print(f"is shown in {found:.0%} of the studies")

# %% [markdown]
# The library's formula promises 80 %, and keeps it to within four points (with two seeds it promises a little too much).
# Now the published differences beside three spreads: a hopeful one; one from the four re-runs that [chapter 13](13_auditing_the_paper.ipynb) lists (CT: 86.0, 85.5, 86.2, 86.94), which know it only
# roughly; and the measured one of our small networks, on another organ.

# %%
seeds = [2, 3, 4, 5, 6, 8, 10]
spreads = {
    "0.25 (hopeful)": 0.25,
    "0.60 (U-Mamba's four re-runs)": published.umamba_reruns.std(),
    f"{spread:.2f} (our small networks)": spread,
}
curves = {
    name: [detectable(value, n) for n in seeds] for name, value in spreads.items()
}
table1, table2 = published.table1["MR", "DSC"], published.table2["DSC"]
claims = {
    "Table 2, large − small": table2.iloc[-1] - table2.iloc[0],
    "Table 1, LKM-UNet − U-Mamba": table1["LKM-UNet"] - table1["U-Mamba"],
    "Table 3, BiM's last step": step_of_table3,
}
plot_lines(
    {name: (seeds, values) for name, values in curves.items()},
    "trainings (seeds) of each arm",
    "smallest difference shown (points of DSC)",
    looks=MARKED,
    log="y",
    ticks=seeds,
    levels={f"{what}: {points:.2f}": points for what, points in claims.items()},
    size=(9.0, 3.8),
    legend="standard deviation between seeds",
)


# %%
def enough(difference, spread, most=100):
    """The smallest number of seeds that shows a difference."""
    return next(
        (n for n in range(2, most + 1) if detectable(spread, n) <= difference),
        f"over {most}",
    )


rows = {
    what: {name: enough(size, value) for name, value in spreads.items()}
    for what, size in claims.items()
}
pd.DataFrame(rows).T.rename_axis("seeds of each arm that show it")

# %% [markdown]
# *How to read it.* A claim is within reach of a study where its dashed line lies above the curve. One training an arm
# is not even on the axis. (How many the paper had, it does not say.) Arms that share cases, batches and initial weights can be compared seed by seed
# ([chapter 10](10_table3_ablation.ipynb)), which needs fewer seeds if what they share matters.
# So, with your numbers in hand:
#
# 1. the paper's split, the official rule, all 50 cases? If not, do not print the published column beside yours;
# 2. the same control for every arm? Compare with *your* residual U-Net, not with 74.50;
# 3. a difference below the curve of your own spread is "not shown", which is not "not there";
# 4. a number that misses the published one by less than your spread reproduces it. One that misses it by more has the
#    table of section 6 to blame before the authors or you.
#
# What the kit's reference results say, with their own limits (hippocampus MR, 80 cases of 51 people, small networks, 600 steps):

# %%
shown = ["title", "published DSC", "DSC", "DSC sd", "difference", "low", "high"]
reference.table[shown].set_index("title").round(2)

# %% [markdown]
# ## Exercises
#
# **1. GPU-hours** (★, 5 minutes). From a *measured* throughput: how long is a training?


# %%
def gpu_hours(epochs, iterations, batch_size, images_per_second):
    """iterations: of each epoch. Returns hours."""
    ### BEGIN SOLUTION
    return epochs * iterations * batch_size / images_per_second / 3600
    ### END SOLUTION


# %%
check_gpu_hours(gpu_hours)

# %% [markdown]
# **2. How many trainings?** (★★, 5 minutes). Studies share networks: Table 2's largest setting *is* Table 3's last row.


# %%
def trainings(studies, folds, seeds):
    """studies: lists of names of networks; folds, seeds: how many. Returns a count."""
    ### BEGIN SOLUTION
    return len({name for one in studies for name in one}) * folds * seeds
    ### END SOLUTION


# %%
check_trainings(trainings)

# %% [markdown]
# **3. How many seeds?** (★★, 10 minutes). Without t: a difference is seen (in four of five studies) when it is 2.8 of its
# own standard errors, $1.96 + 0.84$. How many seeds an arm, for a given difference and spread? At least two.


# %%
def seeds_needed(difference, spread):
    """In points of DSC; spread: standard deviation between seeds. Returns an int."""
    ### BEGIN SOLUTION
    return max(2, int(np.ceil(2 * (2.8 * spread / difference) ** 2)))
    ### END SOLUTION


# %%
check_seeds_needed(seeds_needed)

# %% [markdown]
# **4. Empty organs** (★★, 10 minutes). One organ, its DSC in each case; NaN where neither truth nor prediction has it.
# Return the mean by the official and by the plain rule, in this order.


# %%
def empty_organs(dsc):
    """dsc: array (cases,). Returns (official, plain)."""
    ### BEGIN SOLUTION
    return np.where(np.isnan(dsc), 1.0, dsc).mean(), np.nanmean(dsc)
    ### END SOLUTION


# %%
check_empty_organs(empty_organs)

# %% [markdown]
# **Open question.** You have 1000 GPU-hours. Three seeds of every arm of Table 3, ten seeds of two arms, or one seed of
# everything on five folds? Say which of the paper's sentences your choice can refute, and which it leaves alone.
#
# ## Summary
#
# | what we measured | what the paper says | what is still open |
# |---|---|---|
# | archives of the published layouts become data sets that nnU-Net's own check accepts (miniatures) | 60 + 50 MR, 50 + 50 CT | the origin of some of the 110 MRs; a version and checksums of the test set |
# | operations of every arm (counted); a small step on the CPU (timed); GPU-hours only extrapolated, in a range of one to four | one RTX 3090, no hours | the hours: three epochs on your GPU tell |
# | the scoring rule alone moves a phantom's mean by many points, and by 0.31 if 5 of 50 cases lacked one organ | 77.35 against 77.10 | how many organs are absent in the 50 test cases |
# | spread between seeds of small networks; the differences that $n$ seeds can show | one number an arm; trainings not said | the spread of the full-size networks |
#
# ## Further reading
#
# * The data: [AMOS 2022](https://arxiv.org/abs/2206.08023), [FLARE 2022](https://arxiv.org/abs/2308.05862), and the folders of
#   [U-Mamba](https://github.com/bowang-lab/U-Mamba).
# * The framework: [nnU-Net's documentation](https://github.com/MIC-DKFZ/nnUNet/tree/master/documentation).
# * Scores and organs that are absent: [Metrics reloaded](https://arxiv.org/abs/2206.01653).
# * How many seeds: Bouthillier et al., [Accounting for variance](https://arxiv.org/abs/2103.03098).
