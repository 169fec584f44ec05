"""Everything that decides what a training computes, in one frozen record with a fingerprint."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from lkm_kit.data.labels import LabelTable
from lkm_kit.errors import KitError, one_of
from lkm_kit.files import parse_json
from lkm_kit.profiles import Profile, profile
from lkm_kit.training.identity import Identity
from lkm_kit.training.typed import typed

if TYPE_CHECKING:
    from lkm_kit.data import DataSet


OF_THE_FILES = ("data", "data_digest", "training_digest", "input_channels", "label_table")
"""Fields that only a data set decides."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run. Two runs with equal configs do the same steps on the same batches.

    What does *not* change the result stays out and is an argument of :func:`lkm_kit.training.train`: device, number of
    DataLoader workers, progress bar.

    Args:
        network: name for :func:`lkm_kit.networks.build_network`.
        network_overrides: further arguments of the network, ``{"pim": False, "pam": False}`` for the no-Mamba control.
        organs: labels to learn; class ``i + 1`` is ``organs[i]``.
        label_table: where they are not the kit's organs, the table that they are of
            (:meth:`lkm_kit.data.LabelTable.to_json`).
        image_size: pixels of a training slice (H, W), or voxels of a patch (D, H, W).
        spacing_mm: size of a pixel the network sees, in mm; one number, or one for each axis.
        data: ``"cohort"``, the seeded deformed copies of the real training case; or the folder of a data set
            (:class:`lkm_kit.data.DataSet`), for which :meth:`for_data` fills in what the data decide.
        data_digest, training_digest: of the folder's content, and of its training cases alone
            (:attr:`lkm_kit.data.DataSet.training_digest`). The second one counts; where the folder lies and what its
            test cases are does not.
        fold, holdout: how the data set's training cases are divided, see :meth:`lkm_kit.data.DataSet.split`.
        axis: of a data set, 0, 1 or 2: slices or patches begin with x, y or z.
        input_channels: of the images.
        modality: ``"CT"`` or ``"MR"``; decides which case is warped and how its intensities are normalised.
        train_slices, validation_slices: number of different items in the two splits.
        data_seed: seed of the deformed copies, or of a data set's patches, augmentation and drawn splits; apart from
            ``seed``, so that several training seeds share their data.
        batch_size: slices per step, over all processes together.
        accumulate: parts in which a batch goes through the network, one after the other: less memory, and the same
            step where the loss is a mean over slices (``batch_dice=False``). Else Dice counts over each part by itself.
        iterations: optimiser steps.
        optimizer: ``"sgd"`` (Nesterov, poly decay; nnU-Net's) or ``"adamw"`` (one cycle).
        learning_rate: start of poly, peak of one cycle.
        warmup: share of the steps in which AdamW's one cycle rises to its peak; SGD's poly decay has no rise.
        weight_decay: of the optimiser: SGD's on all parameters, AdamW's on the matrices of convolutions and linear
            layers (:func:`lkm_kit.training.make_optimizer`).
        clip_norm: gradients are scaled down to this 2-norm.
        ema_decay: above 0, an exponential moving average of the weights is what is validated, kept and scored. After
            each step it is ``ema_decay`` times the average before, plus the rest times the new weights.
        deep_supervision: also score the lower-resolution heads.
        batch_dice: Dice over the pixels of the whole batch (nnU-Net's choice in 2D), else slice by slice.
        precision: ``"32-true"`` or ``"bf16-mixed"``. fp16 is not offered: Mamba under fp16 gives NaN.
        compile: let torch.compile join convolutions' neighbours (norms, activations, sums) into fewer kernels; the scan
            stays as it is. Losses agree up to rounding. The first steps take minutes more.
        validate_every: steps between validations; a checkpoint is written at each.
        freeze_encoder: keep the encoder's weights as they are at the start.
        seed: of the initial weights, the order of the batches and everything random in the network.

    Raises:
        KitError: a value of another type than its field's, outside its range or choices, or an unknown organ.

    Source: paper Section 4.2; the released trainer (nnU-Net's, unchanged). The paper names Adam, with a momentum of
    0.99; the released code runs SGD with Nesterov momentum 0.99, which is the default here.

    >>> config = TrainConfig(iterations=100)
    >>> TrainConfig.from_json(config.to_json()) == config, len(config.digest())
    (True, 64)
    """

    network: str = "lkm-unet/tiny-2d"
    network_overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    organs: tuple[str, ...] = LabelTable().names
    label_table: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    image_size: tuple[int, ...] = (96, 96)
    spacing_mm: float | tuple[float, ...] = 3.0
    data: str = "cohort"
    data_digest: str = ""
    training_digest: str = ""
    fold: int | None = None
    holdout: float | None = None
    axis: int | None = None
    input_channels: int = 1
    modality: Literal["CT", "MR"] = "CT"
    train_slices: int = 4000
    validation_slices: int = 48
    data_seed: int = 0
    batch_size: int = 8
    accumulate: int = 1
    iterations: int = 1000
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 1e-2
    warmup: float = 0.3
    weight_decay: float = 3e-5
    clip_norm: float = 12.0
    ema_decay: float = 0.0
    deep_supervision: bool = True
    batch_dice: bool = True
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    compile: bool = False
    validate_every: int = 50
    freeze_encoder: bool = False
    seed: int = 0

    def __post_init__(self):
        for name, hint in _hints(type(self)).items():
            object.__setattr__(self, name, typed(getattr(self, name), hint, name))
        object.__setattr__(self, "organs", self.table.names)  # checks the names
        for field in (
            "train_slices",
            "validation_slices",
            "batch_size",
            "accumulate",
            "iterations",
            "validate_every",
            "input_channels",
        ):
            if getattr(self, field) < 1:
                raise KitError(f"{field} is {getattr(self, field)}", remedy="give a whole number from 1 on")
        spacing = self.spacing_mm if isinstance(self.spacing_mm, tuple) else (self.spacing_mm,)
        if len(spacing) == 1:
            object.__setattr__(self, "spacing_mm", spacing[0])
        counts = (1,) if self.data == "cohort" else (1, len(self.image_size))
        if len(spacing) not in counts or not all(value > 0 for value in spacing):
            remedy = f"give a number above 0{f', or {counts[-1]} of them' if len(counts) > 1 else ''}"
            raise KitError(f"spacing_mm is {self.spacing_mm}", remedy=remedy)
        if self.data == "cohort" and (self.fold, self.holdout, self.axis, self.input_channels) != (None, None, None, 1):
            raise KitError(
                "fold, holdout, axis and input_channels are of data sets, the cohort has none of them",
                remedy="name the data: lkm train --data FOLDER",
            )
        for field in ("learning_rate", "clip_norm"):
            if not getattr(self, field) > 0:
                raise KitError(f"{field} is {getattr(self, field)}", remedy="give a number above 0")
        if self.batch_size % self.accumulate:
            raise KitError(
                f"a batch of {self.batch_size} cannot go in {self.accumulate} equal parts",
                remedy="let accumulate divide batch_size",
            )
        if not 0 < self.warmup < 1:
            raise KitError(f"warmup is {self.warmup}", remedy="give a share of the steps above 0 and below 1")
        if taken := {"input_channels", "num_classes", "deep_supervision"} & set(self.network_overrides):
            raise KitError(
                f"network_overrides holds {min(taken)}, which the config decides",
                remedy="set the fields organs, input_channels and deep_supervision instead",
            )
        if not 0 <= self.ema_decay < 1:
            raise KitError(f"ema_decay is {self.ema_decay}", remedy="give a number from 0 (no average) to below 1")
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
            "train_slices": p.batch_size * p.iterations,  # nothing is stored: no slice is seen twice
            "validation_slices": p.validation_slices,
            "batch_size": p.batch_size,
            "iterations": p.iterations,
            "optimizer": p.optimizer,
            "learning_rate": p.learning_rate,
            "warmup": p.warmup,
            "weight_decay": 1e-2 if p.optimizer == "adamw" else 3e-5,
            "validate_every": p.validate_every,
            "seed": p.seeds[0],
        }
        return cls(**{**fields, **changes})

    @classmethod
    def for_data(cls, data: DataSet, chosen: Profile | str | None = None, /, **changes) -> TrainConfig:
        """The training that a profile stands for, on a data set: size, spacing, labels, channels are the data's.

        Items are as large as the median training case where a step then has no more pixels than the network was made
        for. Windows keep their share of the map, and a batch has as many pixels as the profile's.

        Args:
            data: the data set.
            chosen: profile.
            **changes: replaces fields; ``organs`` may name some of the data set's labels.

        Raises:
            KitError: a data set that cannot be trained on, or a change of what its files say.

        >>> TrainConfig.for_data(DataSet("Dataset004_Hippocampus"), "laptop").image_size  # doctest: +SKIP
        (56, 40)
        """
        from lkm_kit.data.prepared import grid_of
        from lkm_kit.networks.fitting import fit_overrides, fit_size

        data.require()
        changes = cls.checked(changes)
        if said := [name for name in OF_THE_FILES if name in changes]:
            raise KitError(f"{said[0]} is what the files of {data.folder} say", remedy=f"leave {said[0]} out")
        p = chosen if isinstance(chosen, Profile) else profile(chosen)
        base = cls.from_profile(p, **{k: v for k, v in changes.items() if k in ("network", "batch_size", "iterations")})
        dims = 3 if "3d" in base.network else 2
        axis, spacing, shape = grid_of(data, dims, changes.get("axis"), changes.get("spacing_mm"))
        size = tuple(changes.get("image_size") or fit_size(base.network, shape))
        if len(size) != dims or min(size) < 1:
            raise KitError(
                f"image_size is {list(size)}, the images of {base.network} have {dims} axes",
                remedy=f"give {dims} whole numbers from 1 on, or leave it out: then they are as large as the cases",
            )
        pixels = math.prod(base.image_size) / math.prod(size)
        batch = changes.get("batch_size") or min(4 * p.batch_size, max(2, int(p.batch_size * pixels)))
        overrides = {**fit_overrides(base.network, size, spacing_mm=spacing), **changes.get("network_overrides", {})}
        fields = {
            **base.to_dict(),
            "organs": data.table.names,
            "label_table": json.loads(data.table.to_json()),
            "data": str(data.folder.resolve()),
            "data_digest": data.digest,
            "training_digest": data.training_digest,
            "input_channels": len(data.channels),
            "modality": data.modality,
            "batch_size": batch,
            "train_slices": batch * base.iterations,
            **changes,
            "network_overrides": overrides,
            "image_size": size,
            "spacing_mm": spacing,
            "axis": axis,
        }
        return cls(**fields)

    @property
    def table(self) -> LabelTable:
        """The label table of what is learnt."""
        return (
            LabelTable.from_json(self.label_table).subset(self.organs) if self.label_table else LabelTable(self.organs)
        )

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
            values = dict(parse_json(text) if isinstance(text, str) else text)
        except (TypeError, ValueError) as error:
            raise KitError(f"this is not a training config: {error}", remedy="see TrainConfig.to_json") from error
        return cls(**cls.checked(values))

    @classmethod
    def checked(cls, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Values of fields, each as its field's type wants it.

        Raises:
            KitError: a field that does not exist (the closest one is offered), or a value of another type.

        >>> TrainConfig.checked({"image_size": [96, 96]})
        {'image_size': (96, 96)}
        """
        hints = _hints(cls)
        for name in changes:
            message = f"a training config has no field {name!r}"
            network = "the network's own arguments, such as windows, go into network_overrides"
            one_of(name, hints, "field", message=message, remedy=f"{network}; fields: {', '.join(hints)}")
        return {name: typed(value, hints[name], name) for name, value in changes.items()}

    def identity(self, data: str | None = None, start: str = "", processes: int | None = None) -> Identity:
        """The config with what else decides the result, see :class:`lkm_kit.training.identity.Identity`."""
        config, places = self.to_dict(), {}
        if self.data_digest:
            places["data"] = config.pop("data")
        if self.training_digest:
            places["data_digest"] = config.pop("data_digest")
        return Identity(config, _defaults(type(self)), data, start, processes, places)

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
