"""The blocks of Section 3.2: token orders, BiM, PiM, PaM and the LM block."""

from lkm_kit.blocks.bim import BiM
from lkm_kit.blocks.lm_block import LMBlock
from lkm_kit.blocks.pam import PaM
from lkm_kit.blocks.pim import PiM
from lkm_kit.blocks.token_order import PARTITIONS, to_map, to_tokens

__all__ = ["PARTITIONS", "BiM", "LMBlock", "PaM", "PiM", "to_map", "to_tokens"]
