"""What is quoted in the kit, word for word, for quotations in chapters, pages and docstrings to be held against.

Short excerpts for criticism and teaching; whoever wants more reads the sources. What is not here is not quoted
anywhere in the kit, but told in the kit's own words.
"""

from __future__ import annotations

import re

SAID = {
    "paper, title": ("LKM-UNet: Large Kernel Vision Mamba UNet for Medical Image Segmentation",),
    "paper, title of version 1": (
        "Large Window-based Mamba UNet for Medical Image Segmentation: Beyond Convolution and Self-attention",
    ),
    "paper, abstract": (
        "A distinguishing feature of our LKM-UNet is its utilization of large Mamba kernels, excelling in locally "
        "spatial modeling compared to small kernel-based CNNs and Transformers, while maintaining superior efficiency "
        "in global modeling compared to self-attention with quadratic complexity.",
        "Additionally, we design a novel hierarchical and bidirectional Mamba block to further enhance Mamba's global "
        "and neighborhood spatial modeling capability for vision inputs.",
        "Comprehensive experiments demonstrate the feasibility and the effectiveness of using large-size Mamba kernels "
        "to achieve large receptive fields.",
    ),
    "paper, Section 3.2": (
        "when these sub-kernels are sent into a Mamba layer, the local adjacent pixels will be input continuously "
        "into SSM",
    ),
    "authors, issue 5": (
        "Self.p denotes the kernel numbers along each dimension, not the stride.",
        "So the feature map is divided into p x p sub-kernels, the pixels with size H/p x W/p within the same kernel "
        "are adjacent and input continuously into SSM.",
    ),
    "released code, a comment": (
        "adjust the window size here to fit the feature map",
        "for Aorta, IVC, and Esophagus, only evaluate the labelled slices in ground truth",
    ),
}
"""Source → excerpts.

* Paper: arXiv 2403.07332, version 2 of June 2024 where no other is named; version 1 is of 12 March. The clause of
  Section 3.2 is as the reader of issue 5 quotes it.
* Issue 5 of wjh892521292/LKM-UNet: asked and answered on 24 July 2024, after the last commit; open.
* Comments: ``LKMUNet.py`` at 6615775, class ``BiPixelMambaLayer``; ``evaluation/abdomen_DSC_Eval.py``.
"""


def quoted_from(words: str) -> str | None:
    """The source that has these words in this order, whatever their case and line breaks; None where none has.

    >>> quoted_from("locally spatial modeling"), quoted_from("locally spatial models")
    ('paper, abstract', None)
    """
    wanted = _plain(words)
    return next((source for source, said in SAID.items() if any(wanted in _plain(part) for part in said)), None)


def _plain(text: str) -> str:
    return f" {re.sub(r'[^a-z0-9-]+', ' ', text.lower()).strip()} "
