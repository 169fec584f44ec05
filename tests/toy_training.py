"""A data set and a network small enough that a training takes a second: bright squares, two organs."""

import torch
from torch import nn
from torch.utils.data import Dataset

from lkm_kit.training import TrainConfig


class Squares(Dataset):
    """A square of class 1 (bright) and one of class 2 (dark) on noise; item i is a function of (seed, i)."""

    def __init__(self, length: int, seed: int = 0, size: int = 16):
        self.length, self.seed, self.size = length, seed, size

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        random = torch.Generator().manual_seed(1000 * self.seed + index)
        image = 0.1 * torch.randn(1, self.size, self.size, generator=random)
        label = torch.zeros(self.size, self.size, dtype=torch.long)
        for organ, value in ((1, 1.0), (2, -1.0)):
            row, column = torch.randint(0, self.size // 2, (2,), generator=random).tolist()
            label[row : row + 5, column : column + 5] = organ
            image[0][label == organ] = value
        return {"image": image, "label": label}


class Poisoned(Squares):
    """The same, but item ``bad`` holds a NaN pixel."""

    bad = 9

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if index == self.bad:
            item["image"][0, 0, 0] = torch.nan
        return item


class TwoHeads(nn.Module):
    """Convolutions with dropout, and two heads as under deep supervision."""

    def __init__(self, classes: int = 3, dropout: float = 0.2):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Conv2d(8, classes, 3, padding=1)
        self.low = nn.Conv2d(8, classes, 1)

    def forward(self, x):
        x = self.body(x)
        return [self.head(x), self.low(nn.functional.avg_pool2d(x, 2))]


def toy_config(**changes) -> TrainConfig:
    fields = {
        "organs": ("liver", "spleen"), "image_size": (16, 16), "batch_size": 4, "iterations": 12, "validate_every": 4,
        "optimizer": "adamw", "learning_rate": 1e-2, "train_slices": 32, "validation_slices": 8,
    }  # fmt: skip
    return TrainConfig(**{**fields, **changes})


def toy_data(config: TrainConfig, kind=Squares):
    return {"train": kind(config.train_slices, seed=1), "validation": Squares(config.validation_slices, seed=2)}


def toy_network(seed: int = 0, dropout: float = 0.2) -> nn.Module:
    torch.manual_seed(seed)
    return TwoHeads(dropout=dropout)
