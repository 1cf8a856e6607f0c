"""Counts which kinds of built-in image a set of samples still contains.

The kinds of the built-in images are known, so the collapse of a generator trained on them can be counted directly: a
small convolutional network reads the kind of each sample, and a kind that is no longer read is no longer made. The
eleventh answer, "none", is for images of no kind: noise, flat color, a blur, two images in one. The recipe of the
weights is experiments/kinds-classifier/train.py.

Shapes here: N images, K kinds; images are [N, 3, H, W] in [-1, 1].
"""

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from pggan.data.builtin import KINDS
from pggan.errors import UserError

WEIGHTS = Path(__file__).with_name("kinds.safetensors")
WEIGHTS_SHA256 = "18664b7697b4f0c4b4bf25a7fcff8438902d100e2d41e5111a1a483b13c7a1d0"
NONE = len(KINDS)  # the answer "none"
SIDE = 32  # the shorter side in pixels at which images are read
SMALLEST = 16  # pixels; in smaller images the kinds cannot be told apart
CONFIDENCE = 0.5  # least probability at which a sample counts as a kind
SHARE = 0.01  # least share of the samples for a kind to count as made
BATCH = 256


@dataclass(frozen=True)
class KindCounts:
    """The number of samples of each kind."""

    counts: dict[str, int]  # samples read as each kind with enough confidence, in the order of KINDS
    unread: int  # samples read as "none", or without enough confidence

    @property
    def total(self) -> int:
        return sum(self.counts.values()) + self.unread

    @property
    def made(self) -> tuple[str, ...]:
        """The kinds still made: read in at least 1 % of the samples, and in at least one.

        With ten kinds, 1 % is a tenth of an even share, so a kind this rare is nearly lost. It is also several times
        the rate at which the network mistakes one kind for another, so misreadings do not hide a lost kind.
        """
        least = max(1, math.ceil(SHARE * self.total))
        return tuple(kind for kind, count in self.counts.items() if count >= least)

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(kind for kind in self.counts if kind not in self.made)


class KindNet(nn.Sequential):
    """Four convolutions and an average over the image: [N, 3, H, W] in [-1, 1] -> logits [N, K + 1]."""

    def __init__(self) -> None:
        layers, inputs = [], 3
        for outputs, stride in ((24, 1), (48, 2), (64, 2), (96, 1)):  # (N, 24, 32, 32) ... (N, 96, 8, 8)
            layers.append(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, len(KINDS) + 1))


def count_kinds(images: Tensor) -> KindCounts:
    """The number of images [N, 3, H, W] of each kind, of 16 pixels or more; computed on the images' own device."""
    kinds, probabilities = read_kinds(images)
    kinds = torch.where(probabilities >= CONFIDENCE, kinds, NONE)
    *counts, unread = torch.bincount(kinds, minlength=len(KINDS) + 1).tolist()
    return KindCounts(dict(zip(KINDS, counts, strict=True)), unread)


@torch.no_grad()
def read_kinds(images: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable kind of each image, int64 [N] (it may be NONE), and its probability, float32 [N].

    Raises ValueError when the images are smaller than 16 pixels, or not [N, 3, H, W].
    """
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < SMALLEST:
        raise ValueError(f"kinds are read from [N, 3, H, W] of at least {SMALLEST} pixels, not {list(images.shape)}")
    net = trained_classifier(images.device)
    with torch.autocast(images.device.type, enabled=False):  # whatever the caller's precision is
        logits = [net(at_reading_size(batch)) for batch in images.split(BATCH)]
    probabilities, kinds = torch.cat(logits).softmax(dim=1).max(dim=1)
    return kinds, probabilities


def at_reading_size(images: Tensor) -> Tensor:
    """[N, 3, H, W] resized to a shorter side of 32 pixels, in proportion, float32 within [-1, 1]."""
    short = min(images.shape[2:])
    size = [round(SIDE * side / short) for side in images.shape[2:]]
    return F.interpolate(images.float(), size, mode="bilinear", antialias=True).clamp(-1, 1)


@lru_cache(maxsize=4)
def trained_classifier(device: torch.device) -> KindNet:
    """The trained network on `device`. Loading draws no random numbers, so it does not change a run."""
    return load_classifier(WEIGHTS).to(device)


def load_classifier(path: Path) -> KindNet:
    """The network with the weights in `path`. Raises UserError when the file is missing or its sha256 is not the
    pinned one."""
    content = path.read_bytes() if path.is_file() else b""
    found = hashlib.sha256(content).hexdigest()
    if found != WEIGHTS_SHA256:
        raise UserError(
            f"{path} is missing or damaged (its sha256 starts {found[:12]}, not {WEIGHTS_SHA256[:12]}): "
            "restore it from the repository, or reinstall pggan"
        )
    with torch.device("meta"):
        net = KindNet()
    net.load_state_dict(load(content), assign=True)
    return net.eval().requires_grad_(False)
