"""The arms of Tables 1, 2 and 3 and their controls: a study is a list of named networks, trained and scored alike.

Every arm of a study is compared with its *no-Mamba control*, ``residual-unet``: the same convolutions, the same initial
weights of these, the same batches, and no LM block. The paper has no such arm: its baseline is nnU-Net's plain U-Net.

*One direction* (an arm without "BiM"): the backward Mamba does not exist, the forward one and the output projection
stay as they are. So a pixel sees only the pixels before it in its sequence. (The paper does not define it.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lkm_kit.errors import one_of
from lkm_kit.profiles import Profile, profile
from lkm_kit.studies.arm import CONTROL, Arm, Study

# Kernel sizes of Table 2, one list per setting, finest stage first. "tiny-2d" has four stages of 96, 48, 24, 12 pixels.
# The paper's table is 2D; in 3D "large" are the presets' windows, and each of the others is half of the one above.
KERNEL_SIZES = {
    "paper-2d": {
        "small": [10, 5, 5, 5, 5, 5, 5],
        "medium": [20, 10, 10, 10, 5, 5, 5],
        "large": [40, 20, 20, 10, 10, 5, 5],
    },
    "tiny-2d": {"small": [6, 6, 3, 3], "medium": [12, 12, 6, 6], "large": [24, 24, 12, 12]},
    "paper-3d": {
        "small": [[5, 7, 6]] * 6,
        "medium": [[10, 14, 12]] * 2 + [[5, 7, 6]] * 4,
        "large": [[20, 28, 24]] * 2 + [[10, 14, 12]] * 2 + [[5, 7, 6]] * 2,
    },
    "tiny-3d": {
        "small": [[2, 4, 4]] * 2 + [[1, 2, 2]] * 2,
        "medium": [[4, 8, 8]] * 2 + [[2, 4, 4]] * 2,
        "large": [[8, 16, 16]] * 2 + [[4, 8, 8]] * 2,
    },
}
STEP_SHARE = {"tiny-2d": 0.37}
"""Seconds of a training step of the no-Mamba control by those of LKM-UNet, where they were measured: on one thread, as
a study's runs have it, on images of 96×96, without making batches (benchmarks/results/network-1-thread.txt). A
constant, not a measurement of the day, so that a run keeps its digest; what steps took stands in every report."""

MIXERS = {
    "depthwise": ("depth-wise {kernel}", "a depth-wise {kernel} convolution inside each window"),
    "mean": ("mean", "the mean over each window"),
    "attention": ("attention", "softmax attention inside each window"),
}
"""What stands in BiM's place in Table 3's further arms: name -> title, and what it is; kernel is 7x7 or 7x7x7."""

READINGS = {
    "contiguous": "the paper's text: windows of k×k neighbouring pixels; PaM has one token a window",
    "dilated": "the released code: every k-th pixel is one sequence; PaM's patches are a fifth of k",
    "count": "the authors' answer to a reader: k×k windows per map; PaM has one token a window",
}


def study(name: str, size: Profile | str | None = None) -> Study:
    """A study at the sizes of a profile.

    Args:
        name: of :func:`study_names`.
        size: profile or its name; default as in :func:`lkm_kit.profiles.profile`.

    Raises:
        KitError: unknown study (the closest is offered).

    >>> [arm.title for arm in study("table3", "smoke").arms][:4]
    ['plain U-Net', 'residual U-Net', 'PiM', 'PaM']
    """
    return _STUDIES[one_of(name, _STUDIES, "study")](size if isinstance(size, Profile) else profile(size))


def study_names() -> list[str]:
    """
    >>> study_names()
    ['table1', 'table2', 'table3', 'scans']
    """
    return list(_STUDIES)


def table1(size: Profile) -> Study:
    """LKM-UNet against the networks of other papers."""
    large = KERNEL_SIZES[size.network]["large"]
    arms = [
        Arm("segresnet", "SegResNet", _baseline("segresnet", size), published="SegResNet"),
        Arm("plain-unet", "nnU-Net (plain U-Net)", _baseline("plain-unet", size), published="nnU-Net"),
        Arm("unetr", "UNETR", _baseline("unetr", size), {"image_size": size.image_size}, published="UNETR"),
        Arm("swin-unetr", "SwinUNETR", _baseline("swin-unetr", size), published="SwinUNETR"),
        Arm("nnformer", "nnFormer", _baseline("nnformer", size), published="nnFormer"),
        *umamba_arms(size.network.removeprefix("paper-")),
        Arm("lkm-unet", "LKM-UNet, windows", **_lkm(size, large, "contiguous"), published="LKM-UNet"),
        Arm("lkm-unet-dilated", "LKM-UNet, grids", **_lkm(size, large, "dilated"), note=READINGS["dilated"]),
        Arm("lkm-unet-count", "LKM-UNet, counts", **_lkm(size, large, "count"), note=READINGS["count"]),
        *controls(size),
    ]
    question = "Does LKM-UNet segment better than other networks, trained alike?"
    pairs = (("lkm-unet", "umamba-enc-january"), ("lkm-unet", "umamba-enc"), ("lkm-unet", "plain-unet"))
    return Study("table1", question, tuple(arms), CONTROL, pairs, "table1", ("table1", "nnU-Net"))


def umamba_arms(size: str) -> list[Arm]:
    """U-Mamba as published in January 2024 and as rewritten in March, with Mamba at each stage or one; size as "2d"."""
    first = "The authors' code of January 2024"
    later = "The authors' rewrite of 27 March 2024, after the published numbers: other convolutions."
    return [
        Arm(
            "umamba-enc-january",
            "U-Mamba_Enc, January",
            f"umamba-enc-january/{size}",
            published="U-Mamba",
            note=f"{first}, to which the published number belongs.",
        ),
        Arm(
            "umamba-bot-january",
            "U-Mamba_Bot, January",
            f"umamba-bot-january/{size}",
            note=f"{first}; left out of the paper's table.",
        ),
        Arm("umamba-enc", "U-Mamba_Enc, March", f"umamba-enc/{size}", note=later),
        Arm("umamba-bot", "U-Mamba_Bot, March", f"umamba-bot/{size}", note=later),
    ]


def table2(size: Profile) -> Study:
    """Three kernel-size settings, each under three readings of what a kernel size is, beside both controls."""
    rows = {name: str(windows) for name, windows in KERNEL_SIZES["paper-2d"].items()}
    arms = [
        Arm(
            f"{reading}-{setting}",
            f"{setting} {reading}",
            **_lkm(size, windows, reading),
            published=rows[setting] if reading == "contiguous" else None,
            note=f"kernel sizes {windows}, {READINGS[reading]}",
        )
        for reading in READINGS
        for setting, windows in KERNEL_SIZES[size.network].items()
    ]
    question = "Is a larger kernel better, and what is a larger kernel?"
    pairs = tuple((f"{reading}-large", f"{reading}-small") for reading in READINGS)
    pairs += (("contiguous-large", "wide-residual-unet"),)
    return Study("table2", question, (*arms, *controls(size)), CONTROL, pairs, "table2")


def table3(size: Profile) -> Study:
    """What PiM, PaM and BiM add, beside both baselines, three controls, other mixers of a window, and equal time."""
    parts = {  # name: (title, PiM, PaM, BiM)
        "pim": ("PiM", True, False, False),
        "pam": ("PaM", False, True, False),
        "pim-bim": ("PiM+BiM", True, False, True),
        "pam-bim": ("PaM+BiM", False, True, True),
        "pim-pam": ("PiM+PaM", True, True, False),
        "pim-pam-bim": ("PiM+PaM+BiM", True, True, True),
    }
    large = KERNEL_SIZES[size.network]["large"]
    arms = [
        Arm(
            "plain-unet",
            "plain U-Net",
            _baseline("plain-unet", size),
            published="Baseline",
            note="The paper's baseline: other convolutions than the arms have.",
        ),
        _no_mamba(size),
        *(
            Arm(name, title, **_lkm(size, large, pim=pim, pam=pam, bidirectional=bim), published=title)
            for name, (title, pim, pam, bim) in parts.items()
        ),
        _wide(size),
        Arm(
            "pim-bim-shuffled",
            "PiM+BiM, shuffled",
            f"shuffled-lkm-unet/{size.network}",
            {"windows": large, "pam": False},
            note="PiM reads the pixels of a window in a fixed random order.",
        ),
        *(_with_mixer(size, large, name) for name in MIXERS),
        *_equal_time(size, large),
    ]
    question = "Which of PiM, PaM and BiM helps, and against what?"
    pairs = (("pim-pam-bim", "plain-unet"), ("pim-pam-bim", "wide-residual-unet"), ("pim-bim", "pim-bim-shuffled"))
    pairs += tuple(("pim-pam-bim", f"pim-pam-{name}") for name in MIXERS)
    return Study("table3", question, tuple(arms), CONTROL, pairs, "table3")


def _scans(size: Profile) -> Study:
    from lkm_kit.studies.scans import scans  # which needs what is here

    return scans(size)


_STUDIES = {"table1": table1, "table2": table2, "table3": table3, "scans": _scans}


def _lkm(size: Profile, windows: Sequence, partition: str = "contiguous", **parts: bool) -> dict[str, Any]:
    # only what is switched off is named, so that one network has one config in all three tables, and is trained once
    overrides: dict[str, Any] = {"windows": list(windows), **{part: on for part, on in parts.items() if not on}}
    if partition != "contiguous":
        overrides["partition"] = partition
    if partition == "dilated":
        overrides["pools"] = [[max(1, n // 5) for n in k] if isinstance(k, list) else max(1, k // 5) for k in windows]
    return {"network": f"lkm-unet/{size.network}", "overrides": overrides}


def depthwise_kernel(size: Profile) -> str:
    """Sides of the depth-wise mixer's kernel, as titles have it.

    >>> depthwise_kernel(profile("smoke"))
    '7x7'
    """
    return "7x7x7" if "3d" in size.network else "7x7"


def _with_mixer(size: Profile, windows: Sequence, name: str) -> Arm:
    title, what = (text.format(kernel=depthwise_kernel(size)) for text in MIXERS[name])
    arm = _lkm(size, windows)
    note = f"No scan: {what} in BiM's place, in PiM and PaM, between the same projections and gate."
    overrides = {**arm["overrides"], "mixer": name}
    return Arm(f"pim-pam-{name}", f"PiM+PaM, {title}", arm["network"], overrides, note=note)


def _equal_time(size: Profile, windows: Sequence) -> list[Arm]:
    """LKM-UNet for as long as the control takes; none where no step was measured."""
    if size.network not in STEP_SHARE:
        return []
    share = STEP_SHARE[size.network]
    note = f"The time of the no-Mamba control: {100 * share:g} % of the steps, as a step was measured to take longer."
    return [Arm("pim-pam-bim-equal-time", "PiM+PaM+BiM, equal time", **_lkm(size, windows), note=note, share=share)]


def _baseline(name: str, size: Profile) -> str:
    return f"{name}/{size.network.removeprefix('paper-')}"


def _no_mamba(size: Profile) -> Arm:
    note = "The no-Mamba control: LKM-UNet without its LM blocks, weight for weight."
    return Arm(CONTROL, "residual U-Net", _baseline("residual-unet", size), note=note)


def _wide(size: Profile) -> Arm:
    from lkm_kit.studies.costs import parameter_matched_features

    note = "No Mamba, but as many parameters as LKM-UNet: all features widened by one factor."
    features = {"features_per_stage": list(parameter_matched_features(size.network))}
    return Arm("wide-residual-unet", "residual U-Net, wider", _baseline("residual-unet", size), features, note=note)


def controls(size: Profile) -> tuple[Arm, Arm]:
    """Both arms without Mamba: LKM-UNet without its LM blocks, and the same with as many parameters.

    >>> from lkm_kit.profiles import profile
    >>> [arm.name for arm in controls(profile("smoke"))]
    ['residual-unet', 'wide-residual-unet']
    """
    return _no_mamba(size), _wide(size)
