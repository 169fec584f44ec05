"""What a run was made with, recorded beside its digest: it changes the last digits, or should not change any."""

from __future__ import annotations

import contextlib
import json
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lkm_kit import __version__
from lkm_kit.errors import KitError
from lkm_kit.files import digest_of
from lkm_kit.ssm.selective_scan import choose_backend

if TYPE_CHECKING:
    from lkm_kit.training.config import TrainConfig

DECIDING = ("blocks", "data", "evaluation", "networks", "ssm", "training")
"""Parts of the library whose sources decide numbers."""

KEYS = ("kit_version", "code", "torch", "backend", "device", "threads", "processes")
"""What all runs of a table must have in common."""

OWN = "own_code"
"""The user's files behind a run, where there are any: arms may have others, the runs of one arm may not."""

KIT = Path(__file__).resolve().parents[1]


def made_with(device: torch.device, processes: int = 1, own: Sequence[Path] = ()) -> dict[str, Any]:
    """Versions, sources, scan backend, device, threads and processes, as of now.

    Args:
        device: that the run computes on.
        processes: that share each batch.
        own: the user's files that decide numbers too, see :func:`own_sources`.

    >>> made_with(torch.device("cpu"))["backend"] in ("cpu", "reference")
    True
    """
    on_cpu = device.type == "cpu"
    values = (__version__, code_digest(), str(torch.__version__), choose_backend(device), device.type)
    made = dict(zip(KEYS, (*values, torch.get_num_threads() if on_cpu else None, processes)))
    return {**made, OWN: own_digest(own)} if own else made


def own_digest(own: Sequence[Path]) -> str:
    """First digits of a hash over the user's files."""
    return digest_of({path.name: path.read_text(encoding="utf-8") for path in own})[:12]


@lru_cache(maxsize=1)
def code_digest() -> str:
    """First digits of a hash over the kit's sources in :data:`DECIDING`."""
    files = sorted(path for part in DECIDING for path in (KIT / part).rglob("*.py"))
    return digest_of({str(path.relative_to(KIT)): path.read_text(encoding="utf-8") for path in files})[:12]


def own_sources(network: nn.Module, config: TrainConfig) -> list[Path]:
    """The user's files with the network, a part of it, or an order or mixer that its config names.

    Not the files of the kit, of Python and of installed packages, whose versions stand for them.

    >>> from lkm_kit.training import TrainConfig
    >>> own_sources(nn.Linear(2, 2), TrainConfig())
    []
    """
    from lkm_kit.blocks import MIXERS, ORDERS
    from lkm_kit.networks.registry import network_recipe

    named = json.dumps(dict(config.network_overrides), default=str)
    used = [entry for table in (MIXERS, ORDERS) for name, entry in table.items() if json.dumps(name) in named]
    with contextlib.suppress(KitError):  # a network that the caller gave needs no known name
        used.append(network_recipe(config.network)[0])
    modules = {each.__module__ for each in (*map(type, network.modules()), *used)}
    files = {getattr(sys.modules.get(name), "__file__", None) for name in modules}
    others = [KIT, *(Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib"))]
    paths = sorted(Path(file).resolve() for file in files if file)
    return [path for path in paths if path.is_file() and not any(path.is_relative_to(other) for other in others)]


def followed_by(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run that went on under other circumstances: where the two differ, both are named.

    >>> followed_by({"torch": "2.13"}, {"torch": "2.14", "device": "cpu"})
    {'torch': '2.13, then 2.14', 'device': 'cpu'}
    """
    both = {key: f"{before[key]}, then {now[key]}" for key in now if before.get(key, now[key]) != now[key]}
    return {**now, **both}


def mixture(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """In what runs that shall stand in one table differ; empty where they do not.

    Args:
        runs: (name of the arm, what its run was made with).

    >>> mixture([("a", {"torch": "2.13"}), ("b", {"torch": "2.14"}), ("c", {"torch": "2.13"})])
    'torch: 2.13 (a, c), 2.14 (b)'
    >>> mixture([("a", {"own_code": "1"}), ("a", {"own_code": "2"}), ("b", {"own_code": "3"})])
    'own_code: 1, 2 (a)'
    """
    said = []
    for key in KEYS:
        arms: dict[str, list[str]] = {}
        for arm, made in runs:
            arms.setdefault(str(made.get(key, "unknown")), []).append(arm)
        if len(arms) > 1:
            said.append(f"{key}: " + ", ".join(f"{v} ({', '.join(dict.fromkeys(names))})" for v, names in arms.items()))
    for arm in dict.fromkeys(name for name, _ in runs):
        own = dict.fromkeys(str(made.get(OWN, "none")) for name, made in runs if name == arm)
        if len(own) > 1:
            said.append(f"{OWN}: {', '.join(own)} ({arm})")
    return "; ".join(said)
