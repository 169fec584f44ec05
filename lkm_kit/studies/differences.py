"""Where the paper's text and its released code differ, as chapter 13 prints it."""

from __future__ import annotations

import pandas as pd

COLUMNS = ("what", "where", "paper", "released code", "what it implies", "in the kit")
PIXEL, WINDOW, ENCODER = "PixelLayer", "WindowLayer", "Encoder"
CODE_ONLY = "as the code only"


def differences(tokens: int, tied: float, convolutions: float, slices: float) -> pd.DataFrame:
    """A row for each difference between text and code.

    Args:
        tokens: of one sequence of the released PiM at the largest kernel size.
        tied: parameters that BiM saves by one output projection for both directions.
        convolutions: parameters that LKM-UNet without Mamba has more than nnU-Net's plain U-Net.
        slices: share of images that nnU-Net's planned batch sees more than the paper's.

    Source: paper (arXiv 2403.07332), sections, tables and figures as stated; ``LKMUNet.py`` of
    wjh892521292/LKM-UNet at 6615775: ``BiPixelMambaLayer``, ``BiWindowMambaLayer``, ``ResidualBiMambaEncoder``.

    >>> differences(64, 2.9e6, 28e6, 0.25).loc["batch", "what it implies"]
    '25% more slices'
    """
    rows = [
        ("PiM's window", f"3.2; {PIXEL}", "k×k neighbours", "grid of stride p", "neighbours never meet", "partition="),
        ("kernel size", f"Table 2; {PIXEL}", "side", f"stride, L = {tokens}", "larger is shorter", "partition="),
        ("PaM's patch", f"Eq. 6; {WINDOW}", "PiM's window", "8, 4, 4, 2, 2, 1, 1", "long sequences", "pools="),
        ("last stage", f"4.2; {ENCODER}", "5×5 window", "one token", "no scan there", "describe shows it"),
        ("odd sizes", f"3.2; {PIXEL}", "assumed to fit", "whole map, silently", "another method", "error, or pad=True"),
        ("residual", f"Eq. 6; {PIXEL}", "around PaM", "around PiM too", "PiM keeps its input", CODE_ONLY),
        ("order", f"Fig. 1; {ENCODER}", "block, then down", "down, then block", "block at the bottom", CODE_ONLY),
        ("BiM", "3.2; both layers", "outputs added", "one out_proj", f"{tied / 1e6:.1f} M fewer", CODE_ONLY),
        ("one direction", "Table 3", "not defined", "no switch", "three rows undefined", "bidirectional=False"),
        ("stem", f"3.1; {ENCODER}", "depth-wise", "ordinary", "the same for one channel", CODE_ONLY),
        ("optimiser", "4.2; trainer", "Adam, 0.99", "SGD, Nesterov 0.99", "another training", "sgd or adamw"),
        ("batch", "4.2; no plans", "24", "planner: 30", f"{slices:.0%} more slices", "batch_size"),
        ("mirroring", "4.2; README", "not said", "--disable_tta", "other predictions", "lkm nnunet --tta"),
        ("baseline", "Table 3", "not said", "plain (inferred)", f"{convolutions / 1e6:.0f} M other weights",
         "plain-, residual-unet"),
        ("organs", "4.1", "13", "13 of AMOS's 15", "a list belongs to a mean", "label table, by name"),
        ("repetitions", "Tables 1-3", "none given", "–", "gaps without a spread", "lkm study --seeds"),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS).set_index("what")
