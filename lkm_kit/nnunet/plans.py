"""nnU-Net plans for all studies: a copy of nnU-Net's own, with one configuration per network of their arms.

A network that several tables have (LKM-UNet stands in all three) has one configuration and is trained once. Each
configuration inherits from nnU-Net's ``2d`` (or ``3d_fullres``): spacing, normalisation and preprocessed data are
shared, and nnU-Net gives each one a folder of results of its own. nnU-Net knows no seeds: a repetition is the same
training again, under plans of another name.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lkm_kit.errors import KitError, one_of
from lkm_kit.files import read_json, write_json
from lkm_kit.networks.registry import network_recipe
from lkm_kit.nnunet.places import dataset_name, nnunet_folder
from lkm_kit.profiles import Profile, profile
from lkm_kit.studies.arms import CONTROL, Arm, Study, study, umamba_arms
from lkm_kit.studies.design import training_of

STUDIES = ("table1", "table1-ct", "table2", "table3")
"""Studies that nnU-Net can run; ``table1-ct`` is the CT half of Table 1, in 3D."""

CT_PATCH = {"paper": (40, 224, 192), "tiny": (32, 64, 64)}
CT_BATCH = 2

DOUBTS = (
    "optimiser: the paper names Adam, with a momentum of 0.99; its code trains with SGD (Nesterov 0.99); here: SGD",
    "batch: the paper says 24 in 2D, nnU-Net's planner gives 30 at 320x320; here: the profile's",
    "plans: the paper's patch sizes are taken, spacing and normalisation are what nnU-Net plans for your data",
    "test set: only the folders of data sets 701 and 702, which both repositories link, have the paper's test cases",
    "fold: the released commands train on all cases (fold all), as U-Mamba's; the paper does not say",
    "mirroring: the released commands predict without (--disable_tta), the paper does not say; here: without, or --tta",
    "windows: Table 2's kernel sizes have three readings (see the study's arms), the paper does not say which one ran",
)
"""What the published numbers leave open: to be read beside every comparison."""


def nnunet_study(name: str, size: Profile | str | None = None) -> tuple[Study, dict[str, str]]:
    """The arms of a study that nnU-Net's stock trainer can train, and why it cannot train the others.

    The stock trainer supervises every decoder stage, so a network must take ``deep_supervision`` and ``strides``.

    Args:
        name: of :data:`STUDIES`.
        size: profile or its name.

    Returns:
        the study with the arms that work, and ``{arm: reason}`` for those that do not.

    >>> ours, left_out = nnunet_study("table1", "paper")
    >>> [arm.name for arm in ours.arms][:3], sorted(left_out)
    (['plain-unet', 'umamba-enc-january', 'umamba-bot-january'], ['nnformer', 'segresnet', 'swin-unetr', 'unetr'])
    """
    size = size if isinstance(size, Profile) else profile(size)
    one_of(name, STUDIES, "study of nnU-Net")
    whole = _ct_study(size) if name == "table1-ct" else study(name, size)
    arms, left_out = [], {}
    for arm in whole.arms:
        known = inspect.signature(network_recipe(arm.network)[0]).parameters
        if arm.share != 1:
            left_out[arm.name] = "nnU-Net trains every arm for the same number of steps"
        elif "strides" in known and "deep_supervision" in known:
            arms.append(arm)
        else:
            left_out[arm.name] = "no decoder stages for nnU-Net's deep supervision: it needs a trainer of its own"
    names = {arm.name for arm in arms}
    pairs = tuple(pair for pair in whole.comparisons if set(pair) <= names)
    ours = Study(name, whole.question, tuple(arms), whole.control, pairs, whole.published, whole.published_control)
    return ours, left_out


def _ct_study(size: Profile) -> Study:
    """Table 1's CT half: volumes. (The 2D studies have their sizes from the profile; these from the presets.)"""
    small = size.network.startswith("tiny")
    preset, suffix = ("tiny-3d", "tiny-3d") if small else ("paper-3d", "3d")
    arms = [
        Arm("plain-unet", "nnU-Net (plain U-Net)", f"plain-unet/{suffix}", published="nnU-Net"),
        *umamba_arms(suffix),
        Arm("lkm-unet", "LKM-UNet, windows", f"lkm-unet/{preset}", published="LKM-UNet"),
        *([] if small else [Arm("lkm-unet-dilated", "LKM-UNet, as released", "lkm-unet/released-3d")]),
        Arm(CONTROL, "residual U-Net", f"residual-unet/{suffix}", note="The no-Mamba control."),
    ]
    pairs = (("lkm-unet", "umamba-enc-january"), ("lkm-unet", "umamba-enc"), ("lkm-unet", "plain-unet"))
    question = "Does LKM-UNet segment CT volumes better than other networks, trained alike?"
    return Study("table1-ct", question, tuple(arms), CONTROL, pairs, "table1", ("table1", "nnU-Net"))


def configurations(study_name: str, size: Profile) -> tuple[dict[str, Arm], dict[str, str]]:
    """What the plans hold, and which of it is whose.

    Args:
        study_name: of :data:`STUDIES`.
        size: profile.

    Returns:
        configuration -> arm whose network it is, over all studies of as many dimensions; and for the study, arm ->
        configuration. Each network is there once, called after the first arm that has it.

    >>> known, mine = configurations("table3", profile("paper"))
    >>> mine["pim-pam-bim"], mine["pim"], configurations("table2", profile("paper"))[1]["contiguous-large"]
    ('lkm-unet', 'pim', 'lkm-unet')
    """
    together = [name for name in STUDIES if base_configuration(name) == base_configuration(study_name)]
    first: dict[str, Arm] = {}
    for name in together:
        for arm in nnunet_study(name, size)[0].arms:
            first.setdefault(training_of(arm), arm)
    known = {arm.name: arm for arm in first.values()}
    return known, {arm.name: first[training_of(arm)].name for arm in nnunet_study(study_name, size)[0].arms}


def plans_name(study_name: str, size: Profile, repetition: int = 0) -> str:
    """nnU-Net's plans identifier, and the name of the file: one for all 2D studies, one for all in 3D.

    >>> plans_name("table2", profile("paper")), plans_name("table1-ct", profile("paper"), repetition=1)
    ('lkmPaperPlans', 'lkmPaper3dPlansAgain1')
    """
    dims = "3d" if base_configuration(study_name) == "3d_fullres" else ""
    return f"lkm{size.name.capitalize()}{dims}Plans" + (f"Again{repetition}" if repetition else "")


def base_configuration(study_name: str) -> str:
    """nnU-Net's configuration that the arms inherit from."""
    return "3d_fullres" if study_name == "table1-ct" else "2d"


def make_plans(
    plans: Mapping[str, Any],
    study_name: str,
    size: Profile | str | None = None,
    *,
    repetition: int = 0,
    patch_size: tuple[int, ...] | None = None,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """A copy of nnU-Net's plans with one configuration per network of a study and of those of as many dimensions.

    Args:
        plans: nnU-Net's plans of a data set (``nnUNetPlans.json``).
        study_name: of :data:`STUDIES`.
        repetition: number of the training, 0 for the first.
        size: profile or its name: networks, patch size, batch size. ``"paper"``: 320x320 in batches of 24, or
            40x224x192 in batches of 2.
        patch_size, batch_size: other ones.

    Raises:
        KitError: the plans lack the configuration to inherit from.

    >>> plans = {"plans_name": "nnUNetPlans", "configurations": {"2d": {"patch_size": [256, 256]}}}
    >>> arm = make_plans(plans, "table2", "paper")["configurations"]["lkm-unet"]
    >>> arm["inherits_from"], arm["batch_size"], arm["architecture"]["network_class_name"]
    ('2d', 24, 'lkm_kit.networks.LKMUNet')
    """
    size = size if isinstance(size, Profile) else profile(size)
    base = base_configuration(study_name)
    if base not in plans.get("configurations", {}):
        raise KitError(
            f"the plans have no configuration {base}",
            remedy=f"run nnUNetv2_plan_and_preprocess with -c {base} (nnU-Net plans 3D only for volumes)",
        )
    own_patch, own_batch = _own_sizes(study_name, size)
    made = copy.deepcopy(dict(plans))
    made["plans_name"] = plans_name(study_name, size, repetition)
    for name, arm in configurations(study_name, size)[0].items():
        made["configurations"][name] = {
            "inherits_from": base,
            "patch_size": list(patch_size or own_patch),
            "batch_size": batch_size or own_batch,
            "architecture": architecture(arm),
        }
    return made


def planned(dataset: str, study_name: str, size: Profile) -> tuple[list[int], int]:
    """Patch and batch size of a study's trainings: of its written plans, else those that would be written."""
    path = nnunet_folder("nnUNet_preprocessed") / dataset / f"{plans_name(study_name, size)}.json"
    if path.exists():
        written = read_json(path, "plans file of nnU-Net")["configurations"][CONTROL]
        return list(written["patch_size"]), int(written["batch_size"])
    patch, batch = _own_sizes(study_name, size)
    return list(patch), batch


def _own_sizes(study_name: str, size: Profile) -> tuple[tuple[int, ...], int]:
    if study_name == "table1-ct":
        return CT_PATCH["tiny" if size.network.startswith("tiny") else "paper"], CT_BATCH
    return tuple(size.image_size), size.batch_size


def architecture(arm: Arm) -> dict[str, Any]:
    """How nnU-Net's plans name an arm's network; nnU-Net adds channels, classes and deep supervision itself.

    >>> from lkm_kit.studies import study
    >>> architecture(study("table3", "smoke").arm("pim"))["arch_kwargs"]["pam"]
    False
    """
    network_class, arguments = network_recipe(arm.network)
    arguments = {**arguments, **arm.overrides}
    return {
        "network_class_name": f"lkm_kit.networks.{network_class.__name__}",
        "arch_kwargs": json.loads(json.dumps(arguments)),  # tuples as lists
        "_kw_requires_import": [],
    }


def write_plans(
    number: int,
    study_name: str,
    size: Profile | str | None = None,
    *,
    base_plans: str = "nnUNetPlans",
    repetition: int = 0,
    patch_size: tuple[int, ...] | None = None,
    batch_size: int | None = None,
) -> Path:
    """Write the plans of a study beside nnU-Net's own, in the data set's preprocessed folder.

    Args:
        number: nnU-Net's data set id, for instance 702.
        study_name, size, repetition, patch_size, batch_size: see :func:`make_plans`.
        base_plans: nnU-Net's plans to start from.

    Returns:
        path of ``lkmPaperPlans.json`` or alike; its stem is what nnU-Net's ``-p`` wants.

    Raises:
        KitError: the data set is not planned and preprocessed yet.

    >>> write_plans(702, "table2", "paper")  # doctest: +SKIP
    """
    size = size if isinstance(size, Profile) else profile(size)
    preprocessed = nnunet_folder("nnUNet_preprocessed")
    folder = preprocessed / dataset_name(number, preprocessed)
    base = base_configuration(study_name)
    remedy = f"run: nnUNetv2_plan_and_preprocess -d {number} -c {base} --verify_dataset_integrity"
    plans = read_json(folder / f"{base_plans}.json", "plans file of nnU-Net", remedy=remedy)
    how = {"repetition": repetition, "patch_size": patch_size, "batch_size": batch_size}
    made = make_plans(plans, study_name, size, **how)
    path = folder / f"{made['plans_name']}.json"
    write_json(path, made)
    return path
