"""The paper's numbers: ``published.table1``, ``published.table2``, ``published.table3`` as DataFrames.

DSC and NSD in percent, averaged over 13 organs, as printed. The paper gives one number per cell: no seeds, no spread,
no test. CT: 50 test cases of FLARE 2022, 3D networks. MR: 50 test cases of AMOS 2022, 2D networks.

Source: Tables 1-3 of arXiv 2403.07332. ``published.swin_umamba`` and ``published.umamba`` are older tables. In them
stand the MR scores of six of Table 1's rows, and both DSC of U-Mamba. ``published.nnunet_revisited`` is what trainings
of such networks take on a GPU, measured by others.

>>> table1.loc["LKM-UNet"].tolist()
[86.82, 90.02, 77.35, 83.8]
>>> table2["DSC"].tolist()
[75.89, 76.45, 77.35]
>>> float(table3.loc["PiM+PaM+BiM", "DSC"] - table3.loc["Baseline", "DSC"]).__round__(2)
2.85
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lkm_kit.data.manifest import Manifest

table1 = pd.DataFrame.from_dict(
    {
        "SegResNet": (79.27, 82.57, 73.17, 80.34),
        "nnU-Net": (86.15, 89.72, 74.50, 81.53),
        "UNETR": (68.24, 70.04, 57.47, 63.09),
        "SwinUNETR": (75.94, 76.63, 70.28, 76.69),
        "nnFormer": (78.34, 81.45, 72.79, 79.63),
        "U-Mamba": (86.38, 89.80, 76.25, 83.27),
        "LKM-UNet": (86.82, 90.02, 77.35, 83.80),
    },
    orient="index",
    columns=pd.MultiIndex.from_product([["CT", "MR"], ["DSC", "NSD"]]),
).rename_axis("network")
"""Index: network. Columns: (data set, score). "U-Mamba" is U-Mamba_Enc; "nnU-Net" is its plain convolutional U-Net."""

swin_umamba = pd.DataFrame.from_dict(
    {
        "nnU-Net": (33, 23.3, 74.50, 81.53),
        "SegResNet": (6, 24.5, 73.17, 80.34),
        "UNETR": (87, 42.1, 57.47, 63.09),
        "SwinUNETR": (25, 27.9, 70.28, 76.69),
        "nnFormer": (60, 50.2, 72.79, 79.63),
        "U-Mamba_Bot": (63, 45.7, 75.88, 82.85),
        "U-Mamba_Enc": (67, 49.9, 76.25, 83.27),
        "Swin-UMamba, ImageNet": (60, 68.0, 77.60, 84.21),
    },
    orient="index",
    columns=["million parameters", "G multiply-adds", "DSC", "NSD"],
).rename_axis("network")
"""Another paper's table for the same MR cases: Swin-UMamba (arXiv 2402.03302), of February and March 2024.

Its repository JiarunLiu/Swin-UMamba printed it as ``assets/abdomenmr.png`` on 17 February 2024 (b3a3cfb) and on 6 March
(50eecc8). The second has other rows for Swin-UMamba itself, and 49.9 instead of 47.9 G for U-Mamba_Enc; it is the one
here. LKM-UNet's paper was submitted on 12 March. Its six baselines have these scores, digit for digit
(:func:`same_as_swin_umamba`).
"""

umamba = pd.DataFrame.from_dict(
    {"nnU-Net": (86.15, float("nan")), "U-Mamba_Bot": (86.83, float("nan")), "U-Mamba_Enc": (86.38, 76.25)},
    orient="index",
    columns=["CT", "MR"],
).rename_axis("network")
"""DSC in U-Mamba's own paper (arXiv 2401.04722, version 1 of 9 January 2024): CT in 3D (Table 3), MR in 2D (Table 4).

An excerpt; that paper's CT and MR cases are those of Table 1. Its NSD and the CT scores of its other networks are not
compared here: where the other CT rows of Table 1 come from is open.
"""

table2 = pd.DataFrame.from_dict(
    {
        "[10, 5, 5, 5, 5, 5, 5]": (75.89, 82.26),
        "[20, 10, 10, 10, 5, 5, 5]": (76.45, 82.78),
        "[40, 20, 20, 10, 10, 5, 5]": (77.35, 83.80),
    },
    orient="index",
    columns=["DSC", "NSD"],
).rename_axis("kernel size")
"""Index: kernel size of each stage. MR."""

table3 = pd.DataFrame.from_dict(
    {
        "Baseline": (74.50, 81.53),
        "PiM": (76.82, 83.05),
        "PaM": (76.22, 82.59),
        "PiM+BiM": (76.90, 83.31),
        "PaM+BiM": (76.73, 82.94),
        "PiM+PaM": (77.10, 83.54),
        "PiM+PaM+BiM": (77.35, 83.80),
    },
    orient="index",
    columns=["DSC", "NSD"],
).rename_axis("arm")
"""Index: parts switched on. MR. "Baseline" equals Table 1's nnU-Net row: a plain U-Net, not LKM-UNet without parts."""

umamba_reruns = pd.Series([86.00, 85.50, 86.20, 86.94], name="DSC")
"""CT: four trainings of U-Mamba_Bot in 3D by one reader, reported in May 2025 (bowang-lab/U-Mamba, issue 75).

So the code is the authors' rewrite of March 2024.
"""

no_mamba = pd.DataFrame(
    {
        "nnU-Net": (83.08, 91.54, 80.09, 91.24, 86.04, 88.64),
        "No-Mamba Base": (83.69, 91.89, 80.57, 91.26, 85.98, 89.04),
        "U-Mamba Bot": (83.51, 91.79, 80.40, 91.26, 86.22, 89.13),
        "U-Mamba Enc": (82.41, 91.22, 80.27, 90.91, 86.34, 88.38),
    },
    index=["BTCV", "ACDC", "LiTS", "BraTS", "KiTS", "AMOS"],
)
"""Dice of U-Mamba beside itself without its Mamba layers, in 3D, five folds, by nnU-Net's authors.

Source: ``documentation/resenc_presets.md`` of MIC-DKFZ/nnUNet (arXiv 2404.09556).
"""

nnunet_revisited = pd.DataFrame.from_dict(
    {
        "nnU-Net": (9, 7.7),
        "nnU-Net ResEnc M": (12, 9.1),
        "nnU-Net ResEnc L": (35, 22.7),
        "SwinUNETR": (15, 13.1),
        "nnFormer": (8, 5.7),
        "U-Mamba's network without Mamba": (24, 12.0),
        "U-Mamba_Bot": (24, 12.4),
        "U-Mamba_Enc": (47, 24.9),
    },
    orient="index",
    columns=["hours", "GB"],
).rename_axis("network")
"""Hours and memory of one 3D training inside nnU-Net, 1000 epochs, measured by its authors on one A100 PCIe 40 GB.

Source: columns RT and VRAM of the table in ``documentation/resenc_presets.md`` of MIC-DKFZ/nnUNet (arXiv 2404.09556).
"""


def same_as_swin_umamba() -> pd.DataFrame:
    """Which MR scores of Table 1 equal the older table's: index network, columns DSC and NSD, values true or false.

    >>> same = same_as_swin_umamba()
    >>> same.shape, bool(same.all(axis=None))
    ((6, 2), True)
    """
    others = table1["MR"].drop("LKM-UNet").rename({"U-Mamba": "U-Mamba_Enc"})
    return others == swin_umamba.loc[others.index, ["DSC", "NSD"]]


def is_papers_data(data: str | Path) -> bool:
    """Whether a training's data are the paper's cases in the paper's split: a folder whose manifest says so.

    >>> is_papers_data("cohort")
    False
    """
    manifest = Manifest.read(Path(data))
    return manifest is not None and bool(manifest.about.get("paper_split"))
