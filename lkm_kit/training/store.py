"""A run's folder, for every kind of run: what it is the folder of, its lock, its state, and what becomes of it.

::

    config.json           what is computed, and the digests of data and start weights; another run is refused
    history.csv           one row a validation
    state.pt              weights, optimiser, schedule, step, random states: only while the run is under way
    diverged.json         the training stopped at a loss that is not finite
    done.json             written last, with the sha256 of the files that are the result

Every file is written atomically and a folder has one worker at a time, so that a process may be killed at any moment.
Whatever is missing is made at the next start, and nothing that is there is made twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, locked, read_json, sha256, write_json
from lkm_kit.training.identity import Identity

WEIGHTS = "weights.safetensors"
FILES = ("config.json", "history.csv", "state.pt", "diverged.json", "done.json", WEIGHTS, "weights.json")


class Diverged(KitError):
    """The loss or the norm of the gradients is no longer finite: the same steps would end there again."""


@dataclasses.dataclass(frozen=True)
class State:
    """What a run's folder holds.

    Args:
        name: "waiting" (nothing yet), "training" (under way), "trained" (whole), "diverged", "stale" (another run's)
            or "damaged"; of a study also "done" (trained and scored).
        step: last checkpoint.
        detail: "diverged": the message; "stale": what differs; "damaged": what is wrong.
    """

    name: str
    step: int = 0
    detail: str = ""

    @property
    def finished(self) -> bool:
        return self.name in ("done", "diverged")


def runs_root() -> Path:
    """Where runs lie: ``LKM_RUNS``, else ``runs`` in the nearest folder above with a pyproject.toml, else here."""
    if chosen := os.environ.get("LKM_RUNS", "").strip():
        return Path(chosen).expanduser()
    here = Path.cwd()
    tops = [folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()]
    return (tops[0] if tops else here) / "runs"


class Run:
    """One run and its folder; nothing is read or written before a method is called.

    Args:
        folder: of the run.
        identity: what is computed there.

    >>> import tempfile
    >>> run = Run(Path(tempfile.mkdtemp(), "run"), Identity({"seed": 0}))
    >>> run.state().name, run.open().name, Run(run.folder, Identity({"seed": 1})).state().name
    ('waiting', 'training', 'stale')
    """

    def __init__(self, folder: str | Path, identity: Identity):
        self.folder, self.identity = Path(folder), identity

    @contextlib.contextmanager
    def held(self, wait: bool = True) -> Iterator[None]:
        """Be the only one at work in the folder; the lock is a file beside it.

        Raises:
            Busy: another process is, and ``wait`` is off.
        """
        lock = self.folder.parent / f".{self.folder.name}.lock"
        with locked(lock, f"the run {self.folder}", wait_s=-1 if wait else 0):
            yield

    def state(self, *, thorough: bool = False, weights: bool = True) -> State:
        """What the folder holds; nothing is changed.

        Args:
            thorough: also read the checkpoint of a run under way.
            weights: a finished run without its weights is damaged; off: only one whose weights are not those it wrote.
        """
        folder = self.folder
        try:
            if not (folder / "config.json").exists():
                orphans = [name for name in ("state.pt", "done.json", "diverged.json") if (folder / name).exists()]
                return State("damaged", detail=f"{orphans[0]} without config.json") if orphans else State("waiting")
            if different := self.identity.differences(read_json(folder / "config.json")):
                return State("stale", detail="; ".join(_in_words(name, *pair) for name, pair in different.items()))
            if (folder / "diverged.json").exists():
                return State("diverged", detail=read_json(folder / "diverged.json")["message"])
            history = folder / "history.csv"
            step = int(pd.read_csv(history)["step"].iloc[-1]) if history.exists() else 0
            if not (folder / "done.json").exists():
                if thorough:
                    self.load_state()
                return State("training", step)
            for name, digest in self._results().items():
                if not (folder / name).exists():
                    if weights or name != WEIGHTS:
                        return State("damaged", detail=f"{name} is not there")
                elif sha256(folder / name) != digest:
                    return State("damaged", detail=f"{name} is not the file that was written (its sha256 differs)")
            return State("trained", step)
        except Exception as error:  # whatever a broken file makes its reader raise
            return State("damaged", detail=f"{type(error).__name__}: {error}")

    def open(self) -> State:
        """Make the folder ready for work; the caller holds it.

        Returns:
            "training" or "trained".

        Raises:
            Diverged: it did before.
            KitError: the folder holds another run, or is damaged.
        """
        state = self.state()
        again = f"delete {self.folder} and run the same command again"
        if state.name == "stale":
            remedy = "choose another folder for this run, or delete that one"
            raise KitError(f"{self.folder} holds a run with another config ({state.detail})", remedy=remedy)
        if state.name == "diverged":
            raise Diverged(state.detail, remedy=read_json(self.folder / "diverged.json").get("remedy", again))
        if state.name == "damaged":
            raise KitError(f"{self.folder} is damaged ({state.detail})", remedy=again)
        for name in FILES:
            for leftover in self.folder.glob(f".{name}.*"):  # of a process that was killed while it wrote
                leftover.unlink(missing_ok=True)
        if state.name == "waiting":
            write_json(self.folder / "config.json", self.identity.stored())
            state = State("training")
        return state

    def save_state(self, state: dict[str, Any]) -> None:
        """Write state.pt (one atomic file), then history.csv from the same state."""
        with atomic_path(self.folder / "state.pt") as temporary:
            torch.save(state, temporary)
        self.write_history(state["history"])

    def load_state(self) -> dict[str, Any] | None:
        """The last state, or None for a fresh run.

        Raises:
            KitError: the file is damaged.
        """
        path = self.folder / "state.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
            raise KitError(
                f"the training state {path} is damaged ({type(error).__name__})",
                remedy="delete that file: the run then starts from its first step",
            ) from error

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Write history.csv."""
        with atomic_path(self.folder / "history.csv") as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)

    def diverge(self, error: Diverged) -> None:
        """Write diverged.json: how the run ended."""
        about = {"digest": self.identity.digest, "message": error.message, "remedy": error.remedy}
        write_json(self.folder / "diverged.json", about)

    def finish(self, results: Sequence[str], about: dict[str, Any]) -> None:
        """Write done.json, with the sha256 of the files ``results``; then the state is no longer needed."""
        files = {name: sha256(self.folder / name) for name in results}
        write_json(self.folder / "done.json", {"digest": self.identity.digest, "files": files, **about})
        (self.folder / "state.pt").unlink(missing_ok=True)

    def done(self) -> dict[str, Any]:
        """Contents of done.json."""
        return read_json(self.folder / "done.json")

    def set_aside(self, why: str) -> Path:
        """Rename the folder to ``<name>.<why>-<n>`` and return the new path; nothing is deleted."""
        number = 1
        while (aside := self.folder.with_name(f"{self.folder.name}.{why}-{number}")).exists():
            number += 1
        os.replace(self.folder, aside)
        return aside

    def _results(self) -> dict[str, str]:
        if (files := self.done().get("files")) is not None:
            return files
        return {WEIGHTS: read_json(self.folder / "weights.json")["sha256"]}  # of version 0.1


def _in_words(name: str, there: Any, here: Any) -> str:
    if name in ("data", "start"):
        what = "data" if name == "data" else "weights to start from"
        return f"other {what} ({there[:8] or 'of the seed'} there, {here[:8] or 'of the seed'} now)"
    return f"{name}: {there!r} there, {here!r} now"


def place(wanted: str | Path, identity: Identity, pattern: str | None = None) -> Run:
    """Where a run is, whatever its folder is called; else where it shall be.

    Args:
        wanted: folder of a new run. Where it is another run's, the digest's first digits are appended.
        identity: of the run.
        pattern: names to look among, default ``<name>*``; so runs are found that once were set aside for others.
    """
    wanted = Path(wanted)
    if found := find(wanted.parent, pattern or f"{wanted.name}*", identity):
        return found[0]
    taken = Run(wanted, identity).state().name == "stale"
    return Run(wanted.with_name(f"{wanted.name}-{identity.digest[:8]}") if taken else wanted, identity)


def find(root: Path, pattern: str, identity: Identity) -> list[Run]:
    """Runs of that identity in folders below ``root`` that match the pattern, the newest first."""
    found = []
    for path in root.glob(f"{pattern}/config.json"):
        with contextlib.suppress(KitError, TypeError, AttributeError):  # a damaged one is nobody's
            if ".damaged-" not in path.parent.name and not identity.differences(read_json(path)):
                found.append((path.stat().st_mtime, Run(path.parent, identity)))
    return [run for _, run in sorted(found, key=lambda pair: -pair[0])]
