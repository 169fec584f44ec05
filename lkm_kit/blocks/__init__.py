"""The LM block and its parts: Section 3.2 of the paper, one idea a file."""

from lkm_kit.blocks.bim import DIRECTIONS, BiM
from lkm_kit.blocks.lm_block import LMBlock
from lkm_kit.blocks.mixers import MIXERS
from lkm_kit.blocks.orders import ORDERS
from lkm_kit.blocks.pam import PaM
from lkm_kit.blocks.pim import PiM
from lkm_kit.blocks.token_order import to_map, to_tokens

__all__ = ["DIRECTIONS", "MIXERS", "ORDERS", "BiM", "LMBlock", "PaM", "PiM", "to_map", "to_tokens"]
