"""LKM-UNet and the U-Nets it is compared with: Section 3.1 and Table 1 of the paper."""

from lkm_kit.networks.describe import describe
from lkm_kit.networks.lkm_unet import LKMUNet
from lkm_kit.networks.monai_nets import UNETR, SegResNet, SwinUNETR
from lkm_kit.networks.nnformer import NNFormer
from lkm_kit.networks.official import from_official
from lkm_kit.networks.registry import build_network, network_names, register_network
from lkm_kit.networks.segmentation import SegmentationNetwork
from lkm_kit.networks.umamba import UMamba
from lkm_kit.networks.umamba_january import UMambaJanuary
from lkm_kit.networks.unet import UNet

__all__ = [
    "UNETR",
    "LKMUNet",
    "NNFormer",
    "SegResNet",
    "SegmentationNetwork",
    "SwinUNETR",
    "UMamba",
    "UMambaJanuary",
    "UNet",
    "build_network",
    "describe",
    "from_official",
    "network_names",
    "register_network",
]
