"""Everything that decides what a training computes, in one frozen record with a fingerprint."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, get_type_hints

from lkm_kit.data.labels import LabelTable
from lkm_kit.errors import KitError
from lkm_kit.profiles import Profile, profile
from lkm_kit.training.identity import Identity
from lkm_kit.training.typed import typed


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run. Two runs with equal configs do the same steps on the same batches.

    What does *not* change the result stays out and is an argument of :func:`lkm_kit.training.train`: device, number of
    DataLoader workers, progress bar.

    Args:
        network: name for :func:`lkm_kit.networks.build_network`.
        network_overrides: further arguments of the network, ``{"pim": False, "pam": False}`` for the no-Mamba control.
        organs: organs to learn; class ``i + 1`` is ``organs[i]``.
        image_size: pixels of a training slice (H, W), or voxels of a patch (D, H, W).
        spacing_mm: size of a pixel the network sees, in mm.
        data: ``"cohort"``, the seeded warps of the real training case.
        modality: ``"CT"`` or ``"MR"``; decides which case is warped and how intensities are normalised.
        train_slices, validation_slices: number of different warps in the two splits.
        data_seed: seed of the warps; apart from ``seed``, so that several training seeds share their data.
        batch_size: slices per step, over all processes together.
        iterations: optimiser steps.
        optimizer: ``"sgd"`` (Nesterov, poly decay; nnU-Net's) or ``"adamw"`` (one cycle).
        learning_rate: start of poly, peak of one cycle.
        weight_decay: of the optimiser: SGD's on all parameters, AdamW's on the matrices of convolutions and linear
            layers (:func:`lkm_kit.training.make_optimizer`).
        clip_norm: gradients are scaled down to this 2-norm.
        deep_supervision: also score the lower-resolution heads.
        batch_dice: Dice over the pixels of the whole batch (nnU-Net's choice in 2D), else slice by slice.
        precision: ``"32-true"`` or ``"bf16-mixed"``. fp16 is not offered: Mamba under fp16 gives NaN.
        validate_every: steps between validations; a checkpoint is written at each.
        seed: of the initial weights, the order of the batches and everything random in the network.

    Raises:
        KitError: a value of another type than its field's, outside its range or choices, or an unknown organ.

    Source: paper Section 4.2; the released trainer (nnU-Net's, unchanged). The paper says "Adam with momentum 0.99",
    the released code runs SGD with Nesterov momentum 0.99, which is the default here.

    >>> config = TrainConfig(iterations=100)
    >>> TrainConfig.from_json(config.to_json()) == config, len(config.digest())
    (True, 64)
    """

    network: str = "lkm-unet/tiny-2d"
    network_overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    organs: tuple[str, ...] = LabelTable().names
    image_size: tuple[int, ...] = (96, 96)
    spacing_mm: float = 3.0
    data: Literal["cohort"] = "cohort"
    modality: Literal["CT", "MR"] = "CT"
    train_slices: int = 4000
    validation_slices: int = 48
    data_seed: int = 0
    batch_size: int = 8
    iterations: int = 1000
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 1e-2
    weight_decay: float = 3e-5
    clip_norm: float = 12.0
    deep_supervision: bool = True
    batch_dice: bool = True
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    validate_every: int = 50
    seed: int = 0

    def __post_init__(self):
        for name, hint in _hints(type(self)).items():
            object.__setattr__(self, name, typed(getattr(self, name), hint, name))
        object.__setattr__(self, "organs", LabelTable(self.organs).names)  # checks the names
        for field in ("train_slices", "validation_slices", "batch_size", "iterations", "validate_every"):
            if getattr(self, field) < 1:
                raise KitError(f"{field} is {getattr(self, field)}", remedy="give a whole number from 1 on")
        for field in ("spacing_mm", "learning_rate", "clip_norm"):
            if not getattr(self, field) > 0:
                raise KitError(f"{field} is {getattr(self, field)}", remedy="give a number above 0")
        if self.weight_decay < 0:
            raise KitError(f"weight_decay is {self.weight_decay}", remedy="give a number from 0 on")
        for field in ("seed", "data_seed"):
            if not 0 <= getattr(self, field) < 2**63:
                raise KitError(f"{field} is {getattr(self, field)}", remedy="give a whole number from 0 to 2**63 - 1")
        if len(self.image_size) not in (2, 3) or min(self.image_size) < 1:
            raise KitError(f"image_size is {self.image_size}", remedy="give (H, W) or (D, H, W) in pixels")

    @classmethod
    def from_profile(cls, chosen: Profile | str | None = None, **changes) -> TrainConfig:
        """The training that a profile stands for; ``changes`` replaces fields.

        >>> TrainConfig.from_profile("smoke", network_overrides={"pim": False, "pam": False}).iterations
        6
        """
        p = chosen if isinstance(chosen, Profile) else profile(chosen)
        fields = {
            "network": f"lkm-unet/{p.network}",
            "organs": p.organs,
            "image_size": p.image_size,
            "spacing_mm": p.spacing_mm,
            "train_slices": p.batch_size * p.iterations,  # warps cost nothing to store: no slice is seen twice
            "validation_slices": p.validation_slices,
            "batch_size": p.batch_size,
            "iterations": p.iterations,
            "optimizer": p.optimizer,
            "learning_rate": p.learning_rate,
            "weight_decay": 1e-2 if p.optimizer == "adamw" else 3e-5,
            "validate_every": p.validate_every,
            "seed": p.seeds[0],
        }
        return cls(**{**fields, **changes})

    @property
    def table(self) -> LabelTable:
        """The label table of the organs."""
        return LabelTable(self.organs)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values (tuples become lists)."""
        return json.loads(json.dumps({field.name: getattr(self, field.name) for field in dataclasses.fields(self)}))

    def to_json(self) -> str:
        """Indented JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | Mapping[str, Any]) -> TrainConfig:
        """Undo :meth:`to_json` or :meth:`to_dict`.

        Raises:
            KitError: not JSON, or a field that does not exist (the closest one is offered).
        """
        try:
            values = dict(json.loads(text) if isinstance(text, str) else text)
        except (TypeError, ValueError) as error:
            raise KitError(f"this is not a training config: {error}", remedy="see TrainConfig.to_json") from error
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise KitError(f"a training config has no field {name!r}", remedy=f"{hint}fields: {', '.join(known)}")
        return cls(**values)

    def identity(self, data: str | None = None, start: str = "", processes: int | None = None) -> Identity:
        """The config with what else decides the result, see :class:`lkm_kit.training.identity.Identity`."""
        return Identity(self.to_dict(), _defaults(type(self)), data, start, processes)

    def digest(self) -> str:
        """sha256 over the fields that are not at their defaults; data and start weights are not in it.

        >>> TrainConfig(seed=0).digest() == TrainConfig().digest() != TrainConfig(seed=1).digest()
        True
        """
        return self.identity().digest


@lru_cache(maxsize=8)
def _hints(kind: type) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(kind).items() if name in kind.__dataclass_fields__}


def _defaults(kind: type[TrainConfig]) -> dict[str, Any]:
    return kind().to_dict()
