"""Run the released LKM-UNet with weights made by a seed, and record its logits: ``official.safetensors`` beside this.

    python tests/recorded/make_official.py LKMUNet.py mamba_simple.py selective_scan_interface.py

The three files are those of the released repository (wjh892521292/LKM-UNet, 6615775, lkmunet/nnunetv2/nets/) and of
state-spaces/mamba (mamba_ssm/modules/ and ops/). They are run, not kept: only numbers that they computed are recorded.
Weights and input are a function of their names (:func:`seeded`), so that they need not be recorded either.
"""

import importlib.util
import re
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

RECORD = Path(__file__).with_name("official.safetensors")
NETWORKS = {
    "2d": {
        "features": [4, 8, 8], "strides": [(1, 1), (2, 2), (2, 2)], "kernels": [(3, 3)] * 3, "classes": 3,
        "image": (2, 1, 40, 40),
    },
    "3d": {
        "features": [4, 4, 8], "strides": [(1, 1, 1), (1, 2, 2), (2, 2, 2)], "kernels": [(1, 3, 3)] + [(3, 3, 3)] * 2,
        "classes": 2, "image": (1, 1, 20, 56, 48),
    },
}  # fmt: skip


def seeded(name: str, shape) -> torch.Tensor:
    """Numbers that every machine makes alike: NumPy promises this of its bit generators."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape)).astype(np.float32)
    if name.endswith(("A_log", "D", "norm.weight")):  # around their usual values, or the scan explodes
        return torch.from_numpy(1 + 0.1 * values)
    scale = 0.1 if len(shape) < 2 else min(0.5, (2 / max(1, np.prod(shape[1:]))) ** 0.5)
    return torch.from_numpy(np.float32(scale) * values)


def thinned(logits: torch.Tensor) -> torch.Tensor:
    """Every pixel of an image; every fourth voxel of a volume along each axis, at other offsets along each."""
    return logits if logits.ndim == 4 else logits[..., 1::4, 2::4, 3::4].contiguous()


def released_classes(lkm_unet: Path, mamba_simple: Path, scan: Path):
    """The module of the released network, with mamba_ssm's own layer and its reference scan, without CUDA."""

    def module(name: str, **contents) -> types.ModuleType:
        made = sys.modules[name] = types.ModuleType(name)
        made.__dict__.update(contents)
        return made

    def load(name: str, path: Path, text=lambda source: source) -> types.ModuleType:
        made = module(name)
        exec(compile(text(path.read_text(encoding="utf-8")), str(path), "exec"), made.__dict__)
        return made

    unused = lambda *_, **__: None  # noqa: E731
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton", "mamba_ssm.utils"):
        module(name)
    module("mamba_ssm.utils.torch", custom_fwd=lambda f: f, custom_bwd=lambda f: f)
    module(
        "mamba_ssm.ops.triton.layer_norm", _layer_norm_fwd=unused, RMSNorm=None, layer_norm_fn=None, rms_norm_fn=None
    )
    reference = load("mamba_ssm.ops.selective_scan_interface", scan)
    reference.selective_scan_fn = reference.selective_scan_ref
    layer = load("mamba_ssm.modules.mamba_simple", mamba_simple)
    layer.selective_scan_fn = reference.selective_scan_ref
    sys.modules["mamba_ssm"].Mamba = layer.Mamba
    for name in ("nnunetv2.utilities.plans_handling.plans_handler", "nnunetv2.utilities.network_initialization"):
        if importlib.util.find_spec("nnunetv2") is None:
            module(name, ConfigurationManager=None, PlansManager=None, InitWeights_He=None)
    # torch.cuda.amp's autocast warns on a CPU, where it does nothing
    without = lambda source: re.sub(r"from torch\.cuda\.amp import autocast|@autocast\(enabled=False\)", "", source)  # noqa: E731
    return load("released", lkm_unet, without)


def run(released, name: str) -> torch.Tensor:
    about = NETWORKS[name]
    dims = len(about["strides"][0])
    network = released.LKMUNet(
        1, len(about["features"]), about["features"], (nn.Conv2d, nn.Conv3d)[dims - 2], about["kernels"],
        about["strides"], 2, about["classes"], 2, conv_bias=True,
        norm_op=(nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 2], norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True},
    )  # fmt: skip
    for layer in network.modules():
        if hasattr(layer, "use_fast_path"):
            layer.use_fast_path = False
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():  # each tensor once, by its first name
            parameter.copy_(seeded(parameter_name, parameter.shape))
        return thinned(network.eval()(seeded("input", about["image"])))


if __name__ == "__main__":
    classes = released_classes(*map(Path, sys.argv[1:4]))
    save_file({name: run(classes, name) for name in NETWORKS}, RECORD)
    print(f"written: {RECORD}, {RECORD.stat().st_size} bytes")
