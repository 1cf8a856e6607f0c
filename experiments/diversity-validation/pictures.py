"""Images of several sources, and their split into reals and a pool of further images of the same source.

Shapes: images are uint8 [N, 64, 64, 3]; kinds are int [N].
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pggan.data import builtin
from pggan.data.packing import pack
from pggan.data.sources import open_source

SIDE = 64
CLOSE = 160  # size in pixels of the built-in images that close-ups are cut from


@dataclass(frozen=True)
class Pictures:
    """All images of a source."""

    name: str
    images: np.ndarray
    kinds: np.ndarray | None
    kind_names: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """reals: the images that a generator would have been trained on. pool: others, which it would not have seen."""

    reals: np.ndarray
    pool: np.ndarray
    real_kinds: np.ndarray | None
    kinds: np.ndarray | None  # of the pool
    kind_names: tuple[str, ...]


def split(pictures: Pictures, count: int, seed: int) -> Split:
    """Takes `count` reals at random; the rest is the pool."""
    order = np.random.default_rng(seed).permutation(len(pictures.images))
    first, rest = order[:count], order[count:]
    real_kinds, kinds = (None if pictures.kinds is None else pictures.kinds[part] for part in (first, rest))
    return Split(pictures.images[first], pictures.images[rest], real_kinds, kinds, pictures.kind_names)


def builtin_images(seed: int, count: int) -> Pictures:
    """The project's own drawings, ten kinds of abstract painting."""
    drawn = [builtin.draw(seed, index, SIDE, SIDE) for index in range(count)]
    return Pictures("builtin", np.stack([image for image, _ in drawn]), np.array([k for _, k in drawn]), builtin.KINDS)


def close_ups(seed: int, count: int) -> Pictures:
    """Crops of large built-in images."""
    rng, images, kinds = np.random.default_rng([seed, 1]), [], []
    for index in range(count):
        image, kind = builtin.draw(seed, index, CLOSE, CLOSE)
        top, left = rng.integers(CLOSE - SIDE + 1, size=2)
        images.append(image[top : top + SIDE, left : left + SIDE])
        kinds.append(kind)
    return Pictures("close-ups", np.stack(images), np.array(kinds), builtin.KINDS)


# ---- plain shapes


def shapes(seed: int, count: int) -> Pictures:
    """A circle, square, triangle or cross in one color on another, at a random place and size."""
    rng, names = np.random.default_rng([seed, 2]), ("circle", "square", "triangle", "cross")
    kinds = rng.integers(len(names), size=count)
    return Pictures("shapes", np.stack([_shape(names[kind], rng) for kind in kinds]), kinds, names)


def _shape(name: str, rng: np.random.Generator, fine: int = 4) -> np.ndarray:
    ground, ink = two_colors(rng)
    sheet = Image.new("RGB", (SIDE * fine, SIDE * fine), tuple(ground.tolist()))
    radius = rng.uniform(0.18, 0.34)
    x, y = rng.uniform(radius, 1 - radius, 2)
    pen, size = ImageDraw.Draw(sheet), SIDE * fine
    outlines = {
        "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
        "triangle": [(0, -1), (0.95, 0.75), (-0.95, 0.75)],
        "cross": [(a * p, b * q) for p, q in ((1, 1), (-1, 1), (-1, -1), (1, -1)) for a, b in _corner(p, q)],
    }
    if name == "circle":
        pen.ellipse([size * v for v in (x - radius, y - radius, x + radius, y + radius)], fill=tuple(ink.tolist()))
    else:
        points = [(size * (x + radius * a), size * (y + radius * b)) for a, b in outlines[name]]
        pen.polygon(points, fill=tuple(ink.tolist()))
    return np.asarray(sheet.resize((SIDE, SIDE), Image.Resampling.BOX))


def _corner(p: int, q: int, arm: float = 0.33) -> list[tuple[float, float]]:
    """Three corners of a cross in one of its quarters, in drawing order."""
    corner = [(1, arm), (arm, arm), (arm, 1)]
    return corner if p * q > 0 else corner[::-1]


def two_colors(rng: np.random.Generator) -> np.ndarray:
    """Background and ink, int [2, 3], two colors that differ clearly."""
    while True:
        colors = rng.integers(0, 256, (2, 3))
        if np.abs(colors[0] - colors[1]).sum() > 200:
            return colors


# ---- gratings


def gratings(seed: int, count: int) -> Pictures:
    """Gratings, plaids, rings, checks and gradients in two colors, at a random scale, angle and phase."""
    rng, names = np.random.default_rng([seed, 3]), ("grating", "plaid", "rings", "checks", "run")
    kinds = rng.integers(len(names), size=count)
    return Pictures("gratings", np.stack([_grating(names[kind], rng) for kind in kinds]), kinds, names)


def _grating(name: str, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    angle, pace, phase = rng.uniform(0, np.pi), 2 * np.pi * rng.uniform(2, 8), rng.uniform(0, 2 * np.pi, 2)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    u, v = np.sin(pace * along + phase[0]), np.sin(pace * across + phase[1])
    center = rng.uniform(-0.4, 0.4, 2)
    value = {
        "grating": lambda: u,
        "plaid": lambda: (u + v) / 2,
        "rings": lambda: np.sin(pace * np.hypot(x - center[0], y - center[1]) + phase[0]),
        "checks": lambda: np.tanh(8 * u * v),
        "run": lambda: np.clip(1.6 * (along * np.sign(phase[0] - np.pi) + rng.uniform(-0.2, 0.2)), -1, 1),
    }[name]()
    ground, ink = two_colors(rng)
    return np.uint8(np.round(ground + (ink - ground) * (value[:, :, None] + 1) / 2))


# ---- a folder


def folder(name: str, path: str, cache: Path, most: int = 2500) -> Pictures:
    """The images of a folder, at most `most` of them at random; its sub-folders are the kinds."""
    source = open_source(path, 0, cache)
    packed = pack(source, [(SIDE, SIDE, SIDE)], progress=False)
    chosen = np.sort(np.random.default_rng(0).permutation(len(packed))[:most])
    kinds = None if packed.labels is None else np.array(packed.labels)[chosen]
    return Pictures(name, np.array(packed.images(SIDE)[chosen]), kinds, tuple(packed.label_names))


DRAWN: dict[str, Callable[[int, int], Pictures]] = {
    "builtin": builtin_images,
    "shapes": shapes,
    "gratings": gratings,
    "close-ups": close_ups,
}
