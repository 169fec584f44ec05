"""The functional receptive field: how far does a trained network look, when looking far is all that helps?

Every arm is trained on the cue task (:mod:`lkm_kit.data.cue_task`): all pixels of an image have to tell the sign of its
one cue. Its share of right answers, by the steps from a pixel to the cue, is where its knowledge comes from: cause and
effect, where the effective receptive field shows gradients. Beside it stands how often the network *could* have known,
from its theoretical receptive field: right answers <= 1/2 + visible/2.

The networks are LKM-UNets of two stages whose convolutions are kept short (3x3 above, 1x1 below: 6 pixels), so that
what lies beyond is the work of the LM blocks; two arms have four stages of 3x3, as the other studies have. BatchNorm
takes the place of InstanceNorm in all arms but one, because InstanceNorm tells the whole map what happens anywhere. The
one arm that keeps it shows that. A second study has the arms of :mod:`lkm_kit.studies.scans`: one PiM in several
orders, and with several mixers, of the same two stages.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkm_kit.data.cue_task import CueTask
from lkm_kit.devices import hardware, resolve_device
from lkm_kit.erf import Probe, support
from lkm_kit.errors import KitError, one_of
from lkm_kit.files import atomic_path
from lkm_kit.networks import build_network
from lkm_kit.profiles import Profile, Reach
from lkm_kit.profiles import profile as profile_of
from lkm_kit.studies.arms import Arm, Study
from lkm_kit.studies.scans import MIXERS, ORDERS
from lkm_kit.training import runs_root
from lkm_kit.training.identity import Identity
from lkm_kit.training.optim import decay_groups
from lkm_kit.training.provenance import made_with
from lkm_kit.training.store import Run, place

LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-2, 0.01, 12.0
COUNTS = ("right", "answers", "visible", "looks")
TEST, PROBES = 1, 2  # last part of a seed; training has 0 there


@dataclasses.dataclass(frozen=True)
class CueArm(Arm):
    """An arm with its normalisation: "batch" (constants at test, no pixel tells another one) or "instance"."""

    norm: str = "batch"


def functional_study(reach: Reach, of: str = "blocks") -> Study:
    """The arms, at the sizes of a profile; windows are a quarter of the image wide, in both stages.

    Args:
        reach: sizes and budgets.
        of: "blocks": PiM, PaM, BiM, and networks without them; "scans": one PiM in several orders, and several mixers.

    Raises:
        KitError: another ``of``.

    >>> [arm.name for arm in functional_study(Reach()).arms][:3]
    ['residual-unet', 'pim', 'pim-bim']
    >>> functional_study(Reach(), "scans").arm("snake").overrides["partition"]
    'snake'
    """
    return STUDIES[one_of(of, STUDIES, "study of the cue task")](min(reach.size) // 4)


def _arm(k: int, name: str, title: str, note: str = "", norm: str = "batch", **overrides: Any) -> CueArm:
    short = {"features_per_stage": [8, 16], "strides": [[1, 1], [2, 2]], "kernel_sizes": [3, 1], "windows": [k, k // 2]}
    return CueArm(name, title, "lkm-unet/tiny-2d", {**short, **overrides}, note=note, norm=norm)


def _blocks(k: int) -> Study:
    arm = functools.partial(_arm, k)
    no_mamba, forward = {"pim": False, "pam": False}, {"bidirectional": False}
    deep = {"features_per_stage": [8, 16, 32, 64], "strides": [[1, 1]] + [[2, 2]] * 3, "kernel_sizes": 3}
    deep["windows"] = [max(3, k // 2**stage) for stage in range(4)]
    arms = (
        arm("residual-unet", "residual U-Net", "No LM blocks: the convolutions alone.", **no_mamba),
        arm("pim", "PiM", "One direction: a pixel sees those before it in its window.", pam=False, **forward),
        arm("pim-bim", "PiM+BiM", f"Windows of {k}x{k} pixels of the image.", pam=False),
        arm("pim-bim-dilated", "PiM+BiM, grids", "The released code's token order.", pam=False, partition="dilated"),
        arm("pam", "PaM", "One direction: a patch sees those before it.", pim=False, **forward),
        arm("pam-bim", "PaM+BiM", pim=False),
        arm("pim-pam", "PiM+PaM", "One direction.", **forward),
        arm("pim-pam-bim", "PiM+PaM+BiM", "The whole LM block."),
        arm("deep-residual-unet", "residual U-Net, 4 stages", "No LM blocks, 3x3 everywhere.", **deep, **no_mamba),
        arm("deep-lkm-unet", "LKM-UNet, 4 stages", "The same with LM blocks in every stage.", **deep),
        arm("residual-unet-instance", "residual U-Net, InstanceNorm", "Short, and leaking.", "instance", **no_mamba),
    )
    return Study("functional", "How far does a trained network look?", arms)


def _scans(k: int) -> Study:
    arms = [_arm(k, "residual-unet", "residual U-Net", "No block: the convolutions alone.", pim=False, pam=False)]
    arms += [
        _arm(k, name, f"PiM+BiM, {title}", pam=False, partition=order, **more)
        for name, (title, order, more) in ORDERS.items()
    ]
    arms += [
        _arm(k, name, f"PiM, {title.format(kernel='7x7')}", pam=False, mixer=name) for name, title in MIXERS.items()
    ]
    return Study("functional-scans", "How far does a trained network look, by order and mixer?", tuple(arms))


STUDIES = {"blocks": _blocks, "scans": _scans}
"""What the arms differ in -> the study, for a window's side."""


@dataclasses.dataclass(frozen=True)
class CueRun:
    """One arm trained with one seed, and its answers.

    Args:
        arm: its name.
        seed: of weights, training and test images.
        right, answers: (2H - 1, 2W - 1); right answers and all answers by the offset from the pixel to the cue, whose
            origin is in the middle.
        visible, looks: same shape; in how many of how many placements of a cue the pixel can see it at all.
        about: loss, seconds, hardware, what it was made with, and the step at which the training ``diverged``, or None.
    """

    arm: str
    seed: int
    right: np.ndarray
    answers: np.ndarray
    visible: np.ndarray
    looks: np.ndarray
    about: dict[str, Any]


def protocol(reach: Reach) -> dict[str, Any]:
    """What all runs have in common.

    >>> protocol(Reach())["iterations"]
    200
    """
    sizes = dataclasses.asdict(reach)
    del sizes["seeds"]
    cue = {f.name: f.default for f in dataclasses.fields(CueTask) if f.name != "size"}
    rates = {"learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY, "clip_norm": CLIP_NORM}
    return {**sizes, **cue, "optimizer": "adamw, one cycle", **rates, "loss": "cross-entropy, mean over all pixels"}


def run(
    size: Profile | str | None = None,
    seeds: Sequence[int] | int | None = None,
    arms: Sequence[str] = (),
    root: str | Path | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
    of: str = "blocks",
) -> list[CueRun]:
    """Train and score what is missing, read the rest; stopped at any moment, the same call goes on where it was.

    A run has a folder, ``<root>/<study>/<profile>/<arm>/seed-<s>``, as every training has
    (:mod:`lkm_kit.training.store`), with ``answers.npz`` as its result. Under another protocol it has another folder.

    Args:
        size: profile or its name; default as in :func:`lkm_kit.profiles.profile`.
        seeds: how many, or which; default the profile's.
        arms: names; empty for all.
        root: default :func:`lkm_kit.training.runs_root`.
        device: "auto", "cpu", "cuda".
        say: gets a line for the protocol and one for every run.
        of: which study, see :func:`functional_study`.

    Returns:
        the runs, seed by seed; a diverged one has no answers.

    Raises:
        KitError: unknown profile or arm (the closest is offered), or no seed.

    >>> runs = run("smoke", arms=["residual-unet"])  # doctest: +SKIP
    """
    size = size if isinstance(size, Profile) else profile_of(size)
    study = functional_study(size.reach, of)
    chosen = [study.arm(name) for name in arms] or study.arms
    seeds = size.reach.seeds if seeds is None else range(seeds) if isinstance(seeds, int) else seeds
    if not seeds:
        raise KitError("the functional study needs at least one seed", remedy="--seeds 3")
    folder = (runs_root() if root is None else Path(root)) / study.name / size.name
    say("the same for every arm: " + ", ".join(f"{key} {value}" for key, value in protocol(size.reach).items()))
    done = []
    for seed in seeds:
        for arm in chosen:
            stored = place(folder / arm.name / f"seed-{seed}", _identity(arm, seed, size.reach))
            with stored.held():
                if stored.state().name == "damaged":
                    stored.set_aside("damaged")
                if stored.open().name != "trained":
                    _save(train_and_score(arm, seed, size.reach, device), stored)
                found = _load(stored, arm.name, seed)
            said = f"{found.right.sum() / max(1, found.answers.sum()):.3f} right"
            if found.about["diverged"] is not None:
                said = f"diverged at step {found.about['diverged']}"
            say(f"{arm.name}, seed {seed}: {said}, {found.about['seconds']:.0f} s")
            done.append(found)
    return done


def train_and_score(arm: CueArm, seed: int, reach: Reach, device: str = "auto") -> CueRun:
    """One run, from fresh weights to answers."""
    task, where = CueTask(reach.size), resolve_device(device)
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        network = cue_network(arm).to(where)
        loss, diverged = _train(network, _batches(task, reach, seed, where), reach.iterations)
    network.eval()
    shape = tuple(2 * n - 1 for n in reach.size)
    counts = [np.zeros(shape, np.int64)] * 4
    if diverged is None:
        counts = [*score(network, task, reach.test_pairs, seed), *visibility(network, task, reach.probes, seed)]
    seconds = round(time.perf_counter() - started, 2)
    about = {"loss": loss, "diverged": diverged, "seconds": seconds, "hardware": hardware(where), **made_with(where)}
    return CueRun(arm.name, seed, *counts, about)


def cue_network(arm: CueArm) -> nn.Module:
    """The arm's network for one channel and two classes, its normalisation in place.

    >>> arm = functional_study(Reach()).arm("residual-unet")
    >>> any(isinstance(module, nn.InstanceNorm2d) for module in cue_network(arm).modules())
    False
    """
    network = build_network(arm.network, input_channels=1, num_classes=2, **arm.overrides)
    for parent in list(network.modules()) if arm.norm == "batch" else []:
        for name, norm in parent.named_children():
            if isinstance(norm, nn.InstanceNorm2d):
                batch_norm = nn.BatchNorm2d(norm.num_features, eps=norm.eps)
                batch_norm.load_state_dict(norm.state_dict(), strict=False)
                setattr(parent, name, batch_norm)
    return network


@torch.no_grad()
def score(network: nn.Module, task: CueTask, pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Right answers and all answers by offset, (2H - 1, 2W - 1) each, on test images that no training has."""
    device = next(network.parameters()).device
    right, answers = (torch.zeros(_bins(task), dtype=torch.int64) for _ in range(2))
    for start in range(0, pairs, 16):
        batch = task.batch(min(16, pairs - start), seed, start, TEST)
        is_right = network(batch.image.to(device)).argmax(1).cpu() == batch.label
        places = _place(batch.offset.movedim(1, 0), task)
        right += torch.bincount(places[is_right], minlength=len(right))
        answers += torch.bincount(places.flatten(), minlength=len(answers))
    return _map(right, task), _map(answers, task)


def visibility(network: nn.Module, task: CueTask, probes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often a pixel's theoretical receptive field touches the cue, of how many, by offset, (2H - 1, 2W - 1) each.

    That of ``probes`` random pixels is computed exactly (:func:`lkm_kit.erf.support`); cues go everywhere.
    """
    rng = np.random.default_rng([seed, 0, PROBES])
    image = task.batch(1, seed, 0, PROBES).image[:1].to(next(network.parameters()).device)
    visible, looks = (torch.zeros(_bins(task), dtype=torch.int64) for _ in range(2))
    down, right = (torch.from_numpy(task.steps(np.arange(n - task.cue + 1), axis)) for axis, n in enumerate(task.size))
    for row, column in rng.integers(0, task.size, (probes, 2)).tolist():
        seen = support(network, image, Probe(position=(row, column)), norm_stats="live").float()
        touched = F.max_pool2d(seen[None], task.cue, stride=1)[0] > 0  # (cue's first row, its first column)
        offsets = torch.stack(torch.broadcast_tensors(down[:, row, None], right[None, :, column]))
        places = _place(offsets, task)
        visible += torch.bincount(places[touched], minlength=len(visible))
        looks += torch.bincount(places.flatten(), minlength=len(looks))
    return _map(visible, task), _map(looks, task)


def _batches(task: CueTask, reach: Reach, seed: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    for step in range(reach.iterations):
        batch = task.batch(reach.pairs, seed, step, 0)
        yield batch.image.to(device), batch.label.to(device)


def _train(network: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], steps: int) -> tuple[float | None, int | None]:
    """Last loss, and the step at which it was no longer finite, if there was one."""
    optimizer = torch.optim.AdamW(decay_groups(network, WEIGHT_DECAY), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    value = None
    for step, (image, label) in enumerate(batches):
        loss = F.cross_entropy(network(image), label)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            return value, step
        value = loss.item()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return value, None


def _bins(task: CueTask) -> int:
    return (2 * task.size[0] - 1) * (2 * task.size[1] - 1)


def _place(offset: Tensor, task: CueTask) -> Tensor:
    """(2, ...) offsets down and right → (...) index into the flattened map of offsets."""
    height, width = task.size
    return (offset[0] + height - 1) * (2 * width - 1) + offset[1] + width - 1


def _map(counts: Tensor, task: CueTask) -> np.ndarray:
    return counts.reshape([2 * n - 1 for n in task.size]).numpy()


def _identity(arm: CueArm, seed: int, reach: Reach) -> Identity:
    deciding = {"network": arm.network, "overrides": dict(arm.overrides), "norm": arm.norm, "seed": seed}
    return Identity(json.loads(json.dumps({**deciding, **protocol(reach)})))


def _save(done: CueRun, run: Run) -> None:
    with atomic_path(run.folder / "answers.npz") as temporary:
        np.savez_compressed(temporary, **{name: getattr(done, name) for name in COUNTS})
    run.finish(["answers.npz"], {"about": done.about})


def _load(run: Run, arm: str, seed: int) -> CueRun:
    with np.load(run.folder / "answers.npz") as file:
        return CueRun(arm, seed, *(file[name] for name in COUNTS), run.done()["about"])
