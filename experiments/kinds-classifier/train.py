"""Trains the network that reads the kind of a built-in image, and tests it on images of other seeds.

    python experiments/kinds-classifier/train.py

It uses one thread, so the same seed gives the same weights on the same machine. Training images have 32 pixels; test
images have 32, 64 and 128, and come from other seeds.
"""

import argparse
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Generator, Tensor
from torch.nn import functional as F

from pggan.data.builtin import KINDS, draw
from pggan.metrics.kinds import NONE, SIDE, WEIGHTS, KindNet, at_reading_size

IMAGES = 16_000
STEPS = 1_500
BATCH = 128
NONES = 42  # images of no kind that are added to each batch
PEAK_RATE = 4e-3
TRAINING_COLLECTION = 1_000_003  # seeds of the built-in images
HELD_OUT_COLLECTIONS = {32: 2_000_003, 64: 2_000_029, 128: 2_000_039}
HELD_OUT = 2_000


def collection(seed: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Draws built-in images, float [count, 3, size, size] in [-1, 1], and their kinds, int64 [count]."""
    drawn = [draw(seed, index, size, size) for index in range(count)]
    pixels = torch.from_numpy(np.stack([image for image, _ in drawn])).permute(0, 3, 1, 2)
    return pixels.float() / 127.5 - 1, torch.tensor([kind for _, kind in drawn])


def disturbed(images: Tensor, rng: Generator) -> Tensor:
    """Mirrors, blurs, tints and adds noise, at random for each image, because samples of a network are not clean."""
    mirror, coarse, soft = (_uniform(images, rng) < chance for chance in (0.5, 0.15, 0.3))
    images = torch.where(mirror, images.flip(3), images)
    images = torch.where(coarse, _resized(_resized(images, SIDE // 2), SIDE), images)
    images = torch.where(soft, F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1), images)
    gain, shift = 0.8 + 0.4 * _uniform(images, rng, channels=3), 0.3 * (_uniform(images, rng, channels=3) - 0.5)
    noise = torch.randn(images.shape, generator=rng) * 0.15 * _uniform(images, rng) ** 2
    return (images * gain + shift + noise).clamp(-1, 1)


def white_noise(images: Tensor, rng: Generator) -> Tensor:
    return torch.randn(images.shape, generator=rng) * _uniform(images, rng) + _uniform(images, rng, channels=3) - 0.5


def cloudy_noise(images: Tensor, rng: Generator) -> Tensor:
    """Noise of 2 to 16 cells a side, smooth or square."""
    cells = int(torch.randint(2, 17, (), generator=rng))
    mode = "bilinear" if torch.rand((), generator=rng) < 0.7 else "nearest"
    noise = torch.randn((len(images), 3, cells, cells), generator=rng) * _uniform(images, rng)
    return F.interpolate(noise, images.shape[2:], mode=mode)


def flat(images: Tensor, rng: Generator) -> Tensor:
    """One color, or a gradient between two, with little noise."""
    ends = 2 * torch.rand((len(images), 3, 2, 1), generator=rng) - 1
    ends = torch.where(_uniform(images, rng) < 0.6, ends.mean(2, keepdim=True), ends)
    return F.interpolate(ends, images.shape[2:], mode="bilinear") + 0.03 * torch.randn(images.shape, generator=rng)


def washed_out(images: Tensor, rng: Generator) -> Tensor:
    """Images reduced to 3 x 3 colors."""
    return F.interpolate(F.adaptive_avg_pool2d(images, 3), images.shape[2:], mode="bilinear")


def shuffled(images: Tensor, rng: Generator) -> Tensor:
    """The pixels of each image, or its 4x4 squares, in a random order."""
    patch = 1 if torch.rand((), generator=rng) < 0.5 else 4
    pieces = F.unfold(images, patch, stride=patch)
    order = torch.randperm(pieces.shape[2], generator=rng)
    return F.fold(pieces[:, :, order], images.shape[2:], patch, stride=patch)


def mixed(images: Tensor, rng: Generator) -> Tensor:
    """Two images, one seen through the other."""
    weight = 0.35 + 0.3 * _uniform(images, rng)
    return weight * images + (1 - weight) * torch.roll(images, 1, dims=0)


NO_KIND: tuple[Callable[[Tensor, Generator], Tensor], ...] = (
    white_noise,
    cloudy_noise,
    flat,
    washed_out,
    shuffled,
    mixed,
)


def batch(images: Tensor, kinds: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """BATCH images and NONES images of no kind, [BATCH + NONES, 3, 32, 32], with their labels."""
    picked = torch.randint(len(images), (BATCH + NONES,), generator=rng)
    chosen, labels = images[picked], kinds[picked]
    parts = torch.arange(NONES) % len(NO_KIND)
    for number, no_kind in enumerate(NO_KIND):
        here = BATCH + (parts == number).nonzero()[:, 0]
        chosen[here] = no_kind(chosen[here], rng)
    labels[BATCH:] = NONE
    return disturbed(chosen, rng), labels


def trained(seed: int) -> KindNet:
    torch.manual_seed(seed)
    rng = Generator().manual_seed(seed)
    images, kinds = collection(TRAINING_COLLECTION, IMAGES, SIDE)
    net = KindNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=STEPS)
    for step in range(STEPS):
        inputs, labels = batch(images, kinds, rng)
        loss = F.cross_entropy(net(inputs), labels, label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)
    return net.eval()


@torch.no_grad()
def answers(net: KindNet, images: Tensor) -> tuple[Tensor, Tensor]:
    """The kind read from each image, int64 [N], and its probability, float [N]."""
    probabilities, kinds = torch.cat([net(at_reading_size(part)) for part in images.split(250)]).softmax(1).max(1)
    return kinds, probabilities


def report(net: KindNet) -> None:
    for size, seed in HELD_OUT_COLLECTIONS.items():
        images, kinds = collection(seed, HELD_OUT, size)
        found, sure = answers(net, images)
        wrong = (found != kinds) & (found != NONE) & (sure >= 0.5)
        print(f"{size} px: accuracy {(found == kinds).double().mean():.4f}, read as another kind {int(wrong.sum())}")
        for kind, name in enumerate(KINDS):
            print(f"    {name:8} {(found == kinds)[kinds == kind].double().mean():.3f}")
    rng = Generator().manual_seed(2)
    images, _ = collection(HELD_OUT_COLLECTIONS[32], HELD_OUT, SIDE)
    for no_kind in NO_KIND:
        parts = [no_kind(part, rng).clamp(-1, 1) for part in images.split(50)]
        found, sure = answers(net, torch.cat(parts))
        print(f"{no_kind.__name__}: read as a kind {((found != NONE) & (sure >= 0.5)).double().mean():.4f}")


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--out", type=Path, default=WEIGHTS)
    flags.add_argument("--seed", type=int, default=0)
    chosen = flags.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    net = trained(chosen.seed)
    content = save(net.state_dict())
    chosen.out.write_bytes(content)
    print(f"{chosen.out}: {len(content)} bytes, {time.perf_counter() - start:.0f} s")
    print(f"WEIGHTS_SHA256 = {hashlib.sha256(content).hexdigest()!r}")
    report(net)


def _uniform(images: Tensor, rng: Generator, channels: int = 1) -> Tensor:
    """[N, channels, 1, 1] in [0, 1)."""
    return torch.rand((len(images), channels, 1, 1), generator=rng)


def _resized(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


if __name__ == "__main__":
    main()
