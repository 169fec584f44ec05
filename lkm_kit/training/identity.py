"""What decides a run's numbers, as one digest: same digest, same numbers (up to rounding, see ``provenance``)."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from lkm_kit.files import digest_of

PARTS = ("data", "start", "processes")
"""What counts besides the config."""

BEFORE = {"training_digest": "data_digest"}
"""A field that older records do not know -> the one that they are compared by instead."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """A config with what else decides the result.

    Args:
        config: plain JSON values.
        defaults: of the config. A field at its default does not count, so that a new field changes no digest.
        data: digest of the items (:func:`data_digest`); None where it is not known.
        start: digest of the weights that the run starts from (:func:`start_digest`); "" for those of the config's seed.
        processes: their number where it changes numbers (:func:`counted_processes`); None where it is not known.
        places: fields that say where something lies, whose content counts under another name: stored, never counted.

    >>> Identity({"seed": 0, "new": 3}, {"new": 3}).digest == Identity({"seed": 0}).digest
    True
    """

    config: Mapping[str, Any]
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data: str | None = None
    start: str | None = ""
    processes: int | None = None
    places: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def counted(self) -> dict[str, Any]:
        """What the digest is over, for records: config, and of data, start and processes what is out of the usual."""
        config = {k: v for k, v in self.config.items() if k not in self.defaults or self.defaults[k] != v}
        parts = {"data": self.data, "start": self.start, "processes": 0 if self.processes == 1 else self.processes}
        return {"config": config, **{name: part for name, part in parts.items() if part}}

    @property
    def digest(self) -> str:
        """sha256 over :meth:`counted`."""
        return digest_of(self.counted())

    def stored(self) -> dict[str, Any]:
        """Contents of a run's config.json: all fields, and what counts beside them."""
        return {**self.config, **self.places, "identity": {name: getattr(self, name) for name in PARTS}}

    def differences(self, stored: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """In what a stored config.json asks for something else: name -> (there, here).

        Fields that one of the two does not know yet are at their defaults there. A part that one of them does not
        know is not compared: version 0.1 wrote the config alone.
        """
        there, here = ({**self.defaults, **config} for config in (stored, self.config))
        parts = there.pop("identity", {})
        older = {new: old for new, old in BEFORE.items() if new not in stored and old in self.places}
        names = [name for name in {**here, **there} if name not in self.places and name not in older]
        different = {n: (there.get(n), here.get(n)) for n in names if there.get(n) != here.get(n)}
        for old in older.values():
            if there.get(old) != self.places[old]:
                different[old] = there.get(old), self.places[old]
        for name in PARTS:
            pair = parts.get(name), getattr(self, name)
            if None not in pair and pair[0] != pair[1]:
                different[name] = pair
        return different


def data_digest(data: Mapping[str, Any]) -> str:
    """Digest of the splits of a run's data.

    Args:
        data: split -> data set. One with a ``digest`` is taken at its word. Of another one, its class, its length and
            its first two and its last item count, each drawn after seeding torch's, numpy's and Python's generators.

    >>> data_digest({"train": [1, 2, 3]}) == data_digest({"train": [1, 2, 4]})
    False
    """
    return digest_of(
        {split: _dataset_digest(data[split]) for split in ("train", "validation", "test") if split in data}
    )


def start_digest(network: nn.Module | None) -> str:
    """Digest of a network's class and weights; "" for none.

    >>> start_digest(None), len(start_digest(nn.Linear(2, 2)))
    ('', 64)
    """
    if network is None:
        return ""
    digest = hashlib.sha256(type(network).__qualname__.encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + _bytes(tensor))
    return digest.hexdigest()


def counted_processes(network: nn.Module, processes: int) -> int:
    """The number of processes where it changes a training's numbers, else 1.

    Losses are means over all processes, so that only what looks at one process's share of a batch differs: dropout
    draws by process, batch normalisation averages within it.

    >>> counted_processes(nn.Linear(2, 2), 4), counted_processes(nn.Dropout(), 4)
    (1, 4)
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    shares = any(isinstance(m, _BatchNorm) or "Drop" in type(m).__name__ for m in network.modules())
    return processes if shares else 1


def _dataset_digest(items: Any) -> str:
    if (own := getattr(items, "digest", None)) is not None:
        return own
    with _seeded():
        drawn = [_item_digest(items[index]) for index in sorted({0, 1, len(items) - 1}) if 0 <= index < len(items)]
    return digest_of([type(items).__qualname__, len(items), drawn])


def _item_digest(item: Any) -> str:
    if isinstance(item, Mapping):
        return digest_of({str(key): _item_digest(value) for key, value in item.items()})
    if isinstance(item, (torch.Tensor, np.ndarray)):
        tensor = torch.as_tensor(item)
        return hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype}".encode() + _bytes(tensor)).hexdigest()
    return digest_of(repr(item))


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Random items are the same ones every time, and the caller's random numbers go on as if nothing had happened."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        try:
            yield
        finally:
            random.setstate(of_python), np.random.set_state(of_numpy)
