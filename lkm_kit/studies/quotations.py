"""Sentences of the paper, word for word, for quotations in chapters and pages to be held against.

Short excerpts for criticism and teaching; whoever wants more reads the paper (arXiv 2403.07332). What is not here is
not quoted anywhere in the kit, but told in the kit's own words.
"""

from __future__ import annotations

import re

PAPER = {
    "title": ("LKM-UNet: Large Kernel Vision Mamba UNet for Medical Image Segmentation",),
    "abstract": (
        "A distinguishing feature of our LKM-UNet is its utilization of large Mamba kernels, excelling in locally "
        "spatial modeling compared to small kernel-based CNNs and Transformers, while maintaining superior efficiency "
        "in global modeling compared to self-attention with quadratic complexity.",
        "Additionally, we design a novel hierarchical and bidirectional Mamba block to further enhance Mamba's global "
        "and neighborhood spatial modeling capability for vision inputs.",
        "Comprehensive experiments demonstrate the feasibility and the effectiveness of using large-size Mamba kernels "
        "to achieve large receptive fields.",
    ),
}
"""Section → sentences. Source: arXiv 2403.07332v2."""


def quoted_from(words: str) -> str | None:
    """The section that has these words in this order, whatever their case and line breaks; None where none has.

    >>> quoted_from("locally spatial modeling"), quoted_from("locally spatial models")
    ('abstract', None)
    """
    wanted = _plain(words)
    return next((part for part, said in PAPER.items() if any(wanted in _plain(sentence) for sentence in said)), None)


def _plain(text: str) -> str:
    return f" {re.sub(r'[^a-z0-9-]+', ' ', text.lower()).strip()} "
