"""Sets of fakes that are known to be varied or not, each with its right verdicts.

A case makes n fakes from the pool of a split, or from the reals if it is about copies. It is a pure function of the
split, n and a random generator.

Shapes: images are uint8 [n, 64, 64, 3].
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pictures import Pictures, Split
from scipy.ndimage import gaussian_filter, zoom
from torch.nn import functional as F

HEALTHY = frozenset(["healthy"])
PARTIAL = frozenset(["partial-collapse"])
COLLAPSED = frozenset(["collapsed"])
NOT_HEALTHY = PARTIAL | COLLAPSED
MEMORIZATION = frozenset(["memorization"])
TOO_EARLY = frozenset(["too-early"])
OTHER = frozenset(["other-pictures"])

Make = Callable[[Split, int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A set of fakes. expected: the right verdicts. copies: whether copies of the reals are searched for."""

    group: str
    name: str
    make: Make
    expected: frozenset[str]
    copies: bool = False


# Thresholds were chosen on the first part. The second was not looked at before they were frozen.
VALUES = {
    "development": {
        "k": (1, 4, 16, 64, 100, 256),
        "jitter": ((4, 1, 4.0, 0.02), (64, 1, 4.0, 0.02)),
        "p": (0.1, 0.3, 0.9),
        "blur": (("4x down and up", "coarse", 4),),
        "noise": ("white",),
        "copies": ((1.0, "as they are"), (0.3, "flipped"), (1.0, "shifted")),
    },
    "frozen": {
        "k": (2, 8, 12, 24, 48, 128, 200, 300, 400, 450),
        "jitter": ((1, 2, 8.0, 0.05), (8, 2, 8.0, 0.05), (24, 1, 2.0, 0.1), (100, 2, 8.0, 0.05), (200, 1, 4.0, 0.05)),
        "p": (0.05, 0.07, 0.15, 0.25, 0.5, 0.75),
        "blur": (
            ("gaussian blur 1", "gaussian", 1.0),
            ("gaussian blur 2", "gaussian", 2.0),
            ("3x down and up", "coarse", 3),
            ("noise of 10 levels", "grain", 10.0),
            ("contrast x 0.75", "pale", 0.75),
        ),
        "noise": ("gaussian", "blobs", "squares", "shuffled pixels"),
        "copies": (
            (0.5, "as they are"),
            (1.0, "flipped"),
            (0.1, "flipped"),
            (0.5, "shifted"),
            (1.0, "enlarged"),
            (1.0, "flipped, shifted, pale and blurred"),
        ),
    },
}  # fmt: skip


def cases(part: Literal["development", "frozen"], split: Split, n: int, thorough: bool = True) -> Iterator[Case]:
    """All cases for n fakes. Without `thorough` only every second value of the longer rows."""
    values = {name: row if thorough or len(row) < 5 else row[1::2] for name, row in VALUES[part].items()}
    yield Case("held out", "held out", held_out, HEALTHY, copies=True)
    yield Case("held out", "held out, mirrored", lambda *args: held_out(*args)[:, :, ::-1], HEALTHY)
    for k in values["k"]:
        if k < 0.95 * n:
            yield Case("k distinct", f"k = {k}", distinct(k), expected_of_k(k, n))
    yield Case("k distinct", f"k = {n}, all of them", distinct(n), HEALTHY)
    for k, shift, noise, light in values["jitter"]:
        name = f"k = {k}, moved {shift} px, noise {noise:g}, light {light:.0%}"
        yield Case("k with jitter", name, distinct(k, shift, noise, light), expected_of_k(k, n))
    for p in values["p"]:
        yield Case("share p of one picture", f"p = {p}", one_mode(p), expected_of_p(p))
    for name, how, amount in values["blur"]:
        yield Case("quality", name, worse(how, amount), HEALTHY)
    for kind in values["noise"]:
        yield Case("noise", kind, noise_of(kind), TOO_EARLY | OTHER | COLLAPSED)
    for share, how in values["copies"]:
        yield Case("copies", f"{share:.0%} {how}", copied(share, how), MEMORIZATION, copies=True)
    if split.kinds is not None:
        yield from kind_cases(part, split)


def other_pictures(others: dict[str, Callable[[], Pictures]]) -> Iterator[Case]:
    """Images of other sources altogether, by the names of these."""
    for name, pictures in others.items():
        make = lambda split, n, rng, pictures=pictures: rng.permutation(pictures().images)[:n]  # noqa: E731
        yield Case("other pictures", name, make, OTHER)


def kind_cases(part: Literal["development", "frozen"], split: Split) -> Iterator[Case]:
    """One kind dropped; all but one dropped; in the frozen part also two dropped, and one kind at 80 %."""
    names, shares = split.kind_names, np.bincount(split.kinds) / len(split.kinds)
    for kind, name in enumerate(names):
        yield Case("a kind dropped", f"no {name} ({shares[kind]:.0%})", only(set(range(len(names))) - {kind}), PARTIAL)
    kept = (0,) if part == "development" else (len(names) - 1,)
    yield Case("all but one kind dropped", f"nothing but {names[kept[0]]}", only(set(kept)), NOT_HEALTHY)
    if part == "frozen":
        yield Case("a kind dropped", f"no {names[0]} nor {names[1]}", only(set(range(2, len(names)))), PARTIAL)
        yield Case("all but one kind dropped", f"80 % {names[1]}", crowded(1, 0.8), NOT_HEALTHY)


def expected_of_k(k: int, n: int) -> frozenset[str]:
    """k of n images: up to 16 a collapse, above n / 8 a partial one, between them both are right."""
    if k >= n:
        return HEALTHY
    if k <= 16:
        return COLLAPSED
    return PARTIAL if k > n / 8 else NOT_HEALTHY


def expected_of_p(p: float) -> frozenset[str]:
    """A share of one image: a collapse from 60 %, a partial one up to 40 %, between them both are right."""
    return COLLAPSED if p >= 0.6 else PARTIAL if p <= 0.4 else NOT_HEALTHY


# ---- sets of fakes


def held_out(split: Split, n: int, rng: np.random.Generator) -> np.ndarray:
    return split.pool[rng.choice(len(split.pool), n, replace=False)]


def distinct(k: int, shift: int = 0, noise: float = 0.0, light: float = 0.0) -> Make:
    """k images, each equally often."""

    def make(split: Split, n: int, rng: np.random.Generator) -> np.ndarray:
        pictures = held_out(split, k, rng)[rng.permutation(np.arange(n) % k)]
        return jittered(pictures, rng, shift, noise, light)

    return make


def one_mode(p: float) -> Make:
    """A share p of the fakes is one image with slight jitter; the rest is held out."""

    def make(split: Split, n: int, rng: np.random.Generator) -> np.ndarray:
        pictures, count = held_out(split, n, rng), round(p * n)
        pictures[:count] = jittered(np.repeat(pictures[:1], count, axis=0), rng, 1, 3.0, 0.02)
        return rng.permutation(pictures)

    return make


def only(kinds: set[int]) -> Make:
    """Images of these kinds; fewer than n if the pool has too few."""

    def make(split: Split, n: int, rng: np.random.Generator) -> np.ndarray:
        places = np.flatnonzero(np.isin(split.kinds, list(kinds)))
        return split.pool[rng.permutation(places)[:n]]

    return make


def crowded(kind: int, share: float) -> Make:
    """A share of the fakes is of one kind, the rest of the others; fewer than n if the pool has too few."""

    def make(split: Split, n: int, rng: np.random.Generator) -> np.ndarray:
        of, others = (rng.permutation(np.flatnonzero(where)) for where in (split.kinds == kind, split.kinds != kind))
        n = min(n, int(len(of) / share))
        count = round(share * n)
        return split.pool[rng.permutation(np.concatenate([of[:count], others[: n - count]]))]

    return make


def copied(share: float, how: str) -> Make:
    """A share of the fakes are copies of reals; the rest is held out."""

    def make(split: Split, n: int, rng: np.random.Generator) -> np.ndarray:
        pictures, count = held_out(split, n, rng), round(share * n)
        copies = split.reals[rng.choice(len(split.reals), count, replace=False)]
        if "flipped" in how:
            copies = copies[:, :, ::-1]
        if "shifted" in how:
            copies = jittered(copies, rng, 6, 0.0, 0.0)
        if "enlarged" in how:
            copies = np.stack([enlarged(picture, 1.15) for picture in copies])
        if "pale" in how:
            copies = worse_pictures(copies, "pale", 0.8, rng)
        if "blurred" in how:
            copies = worse_pictures(copies, "gaussian", 1.0, rng)
        pictures[:count] = copies
        return rng.permutation(pictures)

    return make


def noise_of(kind: str) -> Make:
    def make(split: Split, n: int, rng: np.random.Generator) -> np.ndarray:
        shape = (n, *split.pool.shape[1:])
        if kind == "white":
            return rng.integers(0, 256, shape, dtype=np.uint8)
        if kind == "gaussian":
            return as_bytes(rng.normal(128, 50, shape))
        if kind == "squares":
            return rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
        if kind == "blobs":
            smooth = gaussian_filter(rng.normal(size=shape), (0, 6, 6, 0), mode="wrap")
            return as_bytes(128 + 60 * smooth / smooth.std())
        pixels = held_out(split, n, rng).reshape(n, -1, 3)  # shuffled
        return np.stack([rng.permutation(picture) for picture in pixels]).reshape(shape)

    return make


def worse(how: str, amount: float) -> Make:
    """Held-out images of worse quality."""
    return lambda split, n, rng: worse_pictures(held_out(split, n, rng), how, amount, rng)


# ---- changes of images


def worse_pictures(pictures: np.ndarray, how: str, amount: float, rng: np.random.Generator) -> np.ndarray:
    if how == "coarse":
        images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
        small = F.interpolate(images, scale_factor=1 / amount, mode="area")
        large = F.interpolate(small, images.shape[2:], mode="bilinear")
        return as_bytes(large.permute(0, 2, 3, 1).numpy())
    values = pictures.astype(np.float32)
    if how == "gaussian":
        return as_bytes(gaussian_filter(values, (0, amount, amount, 0)))
    if how == "grain":
        return as_bytes(values + rng.normal(0, amount, values.shape))
    return as_bytes(128 + amount * (values - 128))  # pale


def jittered(pictures: np.ndarray, rng: np.random.Generator, shift: int, noise: float, light: float) -> np.ndarray:
    """Moves each image by up to `shift` pixels, adds noise (in gray levels) and scales its brightness by 1 ± light."""
    if not (shift or noise or light):
        return pictures
    side, out = pictures.shape[1], np.empty(pictures.shape, np.float32)
    padded = np.pad(pictures, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    for number, (top, left) in enumerate(rng.integers(0, 2 * shift + 1, (len(pictures), 2))):
        out[number] = padded[number, top : top + side, left : left + side]
    out *= rng.uniform(1 - light, 1 + light, (len(out), 1, 1, 1))
    return as_bytes(out + rng.normal(0, noise, out.shape) if noise else out)


def enlarged(picture: np.ndarray, factor: float) -> np.ndarray:
    """The center of an image, enlarged to the size of the whole."""
    side = len(picture)
    large = zoom(picture.astype(np.float32), (factor, factor, 1), order=1)
    start = (len(large) - side) // 2
    return as_bytes(large[start : start + side, start : start + side])


def as_bytes(values: np.ndarray) -> np.ndarray:
    return np.uint8(np.clip(np.round(values), 0, 255))
