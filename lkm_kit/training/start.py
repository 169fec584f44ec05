"""Start from the weights of another run: whatever fits is taken, what does not begins anew, and both are said."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from lkm_kit.errors import KitError
from lkm_kit.files import read_json, sha256
from lkm_kit.training.record import checkpoint_folder


@dataclasses.dataclass(frozen=True)
class Taken:
    """What :func:`take_weights` did.

    Args:
        run: name of the run's folder.
        sha256: of its weights.
        tensors: how many were taken.
        new: names of the network's tensors that begin anew: the run has none of this name, or one of another shape.
        left: names of the run's tensors that have no place.
    """

    run: str
    sha256: str
    tensors: int
    new: tuple[str, ...]
    left: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Plain JSON values, for weights.json."""
        return {**dataclasses.asdict(self), "new": list(self.new), "left": list(self.left)}

    def __str__(self) -> str:
        new = f"; begin anew: {_in_words(self.new)}" if self.new else ""
        left = f"; without a place: {_in_words(self.left)}" if self.left else ""
        return f"start from {self.run}: {self.tensors} of {self.tensors + len(self.new)} tensors taken{new}{left}"


def weights_of(run: str | Path) -> Path:
    """weights.safetensors of a finished run or of a packaged checkpoint.

    Raises:
        KitError: there is no such run, or its weights are not what it wrote.
    """
    folder = checkpoint_folder(run)
    path = folder / "weights.safetensors"
    if not path.is_file():
        raise KitError(f"{folder} has no weights", remedy="start from a run that has finished")
    if sha256(path) != read_json(folder / "weights.json", "record of the weights").get("sha256"):
        raise KitError(f"{path} is not the file that its run wrote", remedy="copy the run's folder again")
    return path


def take_weights(network: nn.Module, run: str | Path) -> Taken:
    """Copy every tensor of a run's network that has the name and the shape of one of this network's.

    A network of other labels keeps its own last layers, one of other channels its first. Windows, spacing and image
    size have no weights of their own.

    Args:
        network: changed in place.
        run: folder of a finished run, or a name of :func:`lkm_kit.training.packaged_checkpoints`.

    Raises:
        KitError: see :func:`weights_of`; nothing fits.

    >>> from lkm_kit.networks import build_network
    >>> taken = take_weights(build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3), "tiny-2d")
    >>> taken.run, {name.split(".")[1] for name in taken.new}
    ('tiny-2d', {'seg_layers'})
    """
    from safetensors.torch import load_file

    path = weights_of(run)
    there, here = load_file(path), network.state_dict()
    fits = {name: tensor for name, tensor in there.items() if name in here and here[name].shape == tensor.shape}
    if not fits:
        raise KitError(
            f"none of the weights of {path.parent} fits a {type(network).__name__} of this size",
            remedy="start from a run of the same kind of network, or without --start",
        )
    network.load_state_dict(fits, strict=False)
    new = tuple(name for name in here if name not in fits)
    left = tuple(name for name in there if name not in fits)
    return Taken(path.parent.name, sha256(path), len(fits), new, left)


def freeze_encoder(network: nn.Module) -> None:
    """Keep the encoder's weights as they are: only the decoder learns.

    Raises:
        KitError: the network has no part called ``encoder``.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise KitError(
            f"{type(network).__name__} has no encoder to freeze",
            remedy="freeze_encoder is for networks with an encoder and a decoder, such as lkm-unet and its controls",
        )
    encoder.requires_grad_(False)


def _in_words(names: tuple[str, ...], shown: int = 4) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
