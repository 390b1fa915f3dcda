"""A small image classifier, as an example: `neve compile examples/model.py:make -o digits.neve`."""

import torch
from torch import nn


class Digits(nn.Module):
    """Ten scores for a picture of 28 by 28; its weights are random."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip
        self.scores = nn.Linear(32, 10)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.scores(self.features(picture).flatten(1)), dim=1)


def make() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """The model and an example input, for `neve compile`: the picture that main.c draws."""
    torch.manual_seed(0)
    picture = (torch.arange(28 * 28) % 17).float().reshape(1, 1, 28, 28) / 16
    return Digits().eval(), (picture,)
