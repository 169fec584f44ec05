"""nnU-Net plans for a study: a copy of nnU-Net's own, with one configuration per arm that names the arm's network.

Each arm's configuration inherits from nnU-Net's ``2d`` (or ``3d_fullres``): spacing, normalisation and preprocessed
data are shared, and nnU-Net gives each arm a folder of results of its own.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lkm_kit.errors import KitError, one_of
from lkm_kit.files import read_json, write_json
from lkm_kit.networks.registry import network_recipe
from lkm_kit.nnunet.places import dataset_name, nnunet_folder
from lkm_kit.profiles import Profile, profile
from lkm_kit.studies.arms import CONTROL, Arm, Study, study, umamba_arms

STUDIES = ("table1", "table1-ct", "table2", "table3")
"""Studies that nnU-Net can run; ``table1-ct`` is the CT half of Table 1, in 3D."""

CT_PATCH = {"paper": (40, 224, 192), "tiny": (32, 64, 64)}
CT_BATCH = 2

DOUBTS = (
    "optimiser: the paper says Adam with momentum 0.99, its code trains with SGD (Nesterov 0.99); here: SGD",
    "batch: the paper says 24 in 2D, nnU-Net's planner gives 30 at 320x320; here: the profile's",
    "plans: the paper's patch sizes are taken, spacing and normalisation are what nnU-Net plans for your data",
    "test set: only the U-Mamba authors' folders (data sets 701 and 702) have the paper's test cases",
    "fold: the U-Mamba authors train on all cases (fold all), without validation; the paper does not say",
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


def plans_name(study_name: str, size: Profile) -> str:
    """nnU-Net's plans identifier, and the name of the file.

    >>> plans_name("table2", profile("paper"))
    'lkmTable2PaperPlans'
    """
    words = [*study_name.split("-"), size.name]
    return "lkm" + "".join(word.capitalize() for word in words) + "Plans"


def base_configuration(study_name: str) -> str:
    """nnU-Net's configuration that the arms inherit from."""
    return "3d_fullres" if study_name == "table1-ct" else "2d"


def make_plans(
    plans: Mapping[str, Any],
    study_name: str,
    size: Profile | str | None = None,
    *,
    patch_size: tuple[int, ...] | None = None,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """A copy of nnU-Net's plans with one configuration per arm of a study.

    Args:
        plans: nnU-Net's plans of a data set (``nnUNetPlans.json``).
        study_name: of :data:`STUDIES`.
        size: profile or its name: networks, patch size, batch size. ``"paper"``: 320x320 in batches of 24, or
            40x224x192 in batches of 2.
        patch_size, batch_size: other ones.

    Raises:
        KitError: the plans lack the configuration to inherit from.

    >>> plans = {"plans_name": "nnUNetPlans", "configurations": {"2d": {"patch_size": [256, 256]}}}
    >>> arm = make_plans(plans, "table2", "paper")["configurations"]["contiguous-large"]
    >>> arm["inherits_from"], arm["batch_size"], arm["architecture"]["network_class_name"]
    ('2d', 24, 'lkm_kit.networks.LKMUNet')
    """
    size = size if isinstance(size, Profile) else profile(size)
    base = base_configuration(study_name)
    ours, _ = nnunet_study(study_name, size)
    if base not in plans.get("configurations", {}):
        raise KitError(
            f"the plans have no configuration {base}",
            remedy=f"run nnUNetv2_plan_and_preprocess with -c {base} (nnU-Net plans 3D only for volumes)",
        )
    if study_name == "table1-ct":
        own_patch, own_batch = CT_PATCH["tiny" if size.network.startswith("tiny") else "paper"], CT_BATCH
    else:
        own_patch, own_batch = size.image_size, size.batch_size
    made = copy.deepcopy(dict(plans))
    made["plans_name"] = plans_name(study_name, size)
    for arm in ours.arms:
        made["configurations"][arm.name] = {
            "inherits_from": base,
            "patch_size": list(patch_size or own_patch),
            "batch_size": batch_size or own_batch,
            "architecture": architecture(arm),
        }
    return made


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
        "arch_kwargs": _plain(arguments),
        "_kw_requires_import": [],
    }


def write_plans(
    number: int,
    study_name: str,
    size: Profile | str | None = None,
    *,
    base_plans: str = "nnUNetPlans",
    patch_size: tuple[int, ...] | None = None,
    batch_size: int | None = None,
) -> Path:
    """Write the plans of a study beside nnU-Net's own, in the data set's preprocessed folder.

    Args:
        number: nnU-Net's data set id, for instance 702.
        study_name, size, patch_size, batch_size: see :func:`make_plans`.
        base_plans: nnU-Net's plans to start from.

    Returns:
        path of ``lkmTable2PaperPlans.json`` or alike; its stem is what nnU-Net's ``-p`` wants.

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
    made = make_plans(plans, study_name, size, patch_size=patch_size, batch_size=batch_size)
    path = folder / f"{made['plans_name']}.json"
    write_json(path, made)
    return path


def _plain(value: Any) -> Any:
    """Tuples as lists, as they come back from JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
