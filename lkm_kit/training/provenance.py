"""What a run was made with, recorded beside its digest: it changes the last digits, or should not change any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from lkm_kit import __version__
from lkm_kit.ssm.selective_scan import choose_backend
from lkm_kit.training.identity import digest_of

DECIDING = ("blocks", "data", "evaluation", "networks", "ssm", "training")
"""Parts of the library whose sources decide numbers."""

KEYS = ("kit_version", "code", "torch", "backend", "device", "threads", "processes")


def made_with(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Versions, sources, scan backend, device, threads and processes, as of now.

    Args:
        device: that the run computes on.
        processes: that share each batch.

    >>> made_with(torch.device("cpu"))["backend"] in ("cpu", "reference")
    True
    """
    on_cpu = device.type == "cpu"
    values = (__version__, code_digest(), str(torch.__version__), choose_backend(device), device.type)
    return dict(zip(KEYS, (*values, torch.get_num_threads() if on_cpu else None, processes)))


@lru_cache(maxsize=1)
def code_digest() -> str:
    """First digits of a hash over the kit's sources in :data:`DECIDING`."""
    kit = Path(__file__).resolve().parents[1]
    files = sorted(path for part in DECIDING for path in (kit / part).rglob("*.py"))
    return digest_of({str(path.relative_to(kit)): path.read_text(encoding="utf-8") for path in files})[:12]


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
    """
    said = []
    for key in KEYS:
        arms: dict[str, list[str]] = {}
        for arm, made in runs:
            arms.setdefault(str(made.get(key, "unknown")), []).append(arm)
        if len(arms) > 1:
            said.append(f"{key}: " + ", ".join(f"{v} ({', '.join(dict.fromkeys(names))})" for v, names in arms.items()))
    return "; ".join(said)
