"""Tools for painting the built-in images: the canvas, the palettes, and some geometry.

Points are float [n, 2] as (x, y) from the top left corner in units of the image's shorter side; colors are float
[..., 3] in 0..255.
"""

import numpy as np
from PIL import Image, ImageDraw

PALETTES = {  # five colors from dark to light, and an accent
    "ember":   "1d1a2f 5a1e3c a8324a e2613c f7e3c0 f3a950",
    "harbor":  "14213d 1f4e6b 3f8f9b 8fc1b5 f3e2bb e07a4f",
    "meadow":  "1f2d1f 3d5a3a 7a9a4f c6c36a f1e8c6 d9825b",
    "bauhaus": "1c1b1a 1f4a8c c8321f e9b824 f2ead8 6c8a94",
    "orchid":  "2a1a3e 5e3a7e a65fa0 e39ab8 f6e3dc 4f9a94",
    "desert":  "3b2418 8a4b2a c9834a e5b98a f4e4cc 5f8f95",
    "fjord":   "0f1f2e 24475f 55809a 9fb9c4 e8e8e0 c0503c",
    "citrus":  "23352b 2f7f5f f2902e a9c24a f8f1dc f4d23c",
    "dusk":    "1a1c3a 3d3a78 8a5a9e e08a8a fbe0b4 f4b45a",
    "moss":    "22241c 4f5838 8d8a4e c4b27a ece2c8 a5472f",
    "lagoon":  "0d2b36 0f5c6e 1fa09a 7fd0b8 f2f1dc f26b5b",
    "clay":    "2e2220 6e3b34 b5654d d99b7c f3e0d0 7d9483",
    "winter":  "1b2430 44566b 7f95a8 bccad3 f1f2ef d8a24a",
    "fair":    "241b4a 7b2a82 e23d70 f88d4a fdeed2 2fb0b5",
    "tea":     "2b2a25 5c6a5a 9aa58a d0c9a4 f5eedb b8743e",
    "cobalt":  "0b1440 1c3fa0 3f7fd8 9cc7ee f4f0e4 f0c23a",
    "rose":    "3a1420 8c2f45 cf6270 eda6a0 faeae2 3f6f6a",
    "ochre":   "221a12 6a4a1e b8862b e0bd5f f6ecd0 2f5f7f",
    "iris":    "18163a 3f3fa0 7f78cf b9b4e6 f3effa e8b24a",
    "slate":   "16181c 3a4048 727a80 b3b4ae ecebe4 d4452f",
}  # fmt: skip
INKS = np.array([[list(bytes.fromhex(ink)) for ink in row.split()] for row in PALETTES.values()], dtype=np.float64)

GRAIN = 96  # cells of the canvas texture along the shorter side
SOFT = 96  # pixels along the shorter side at which images with soft edges are computed


class Canvas:
    """An image that is being painted. `w` and `h` are its sides in units of the shorter one, so min(w, h) is 1."""

    def __init__(self, width: int, height: int) -> None:
        short = min(width, height)
        self.w, self.h = width / short, height / short
        self.center = np.array([self.w / 2, self.h / 2])
        self.oversample = int(np.clip(256 // short, 2, 8))
        self.scale = short * self.oversample
        self.image = Image.new("RGB", (width * self.oversample, height * self.oversample))
        self.pen = ImageDraw.Draw(self.image)
        self.glaze = ImageDraw.Draw(self.image, "RGBA")  # slower, but it can draw transparent polygons

    def ground(self, colors: np.ndarray) -> None:
        """Fills the canvas with a smooth blend of colors [rows, columns, 3] in 0..255."""
        tiny = Image.fromarray(np.uint8(np.clip(colors, 0, 255)))
        self.image.paste(tiny.resize(self.image.size, Image.Resampling.BILINEAR))

    def polygon(self, points: np.ndarray, color: np.ndarray, opacity: float = 1.0) -> None:
        """A filled polygon with corners [n, 2]."""
        corners = (points * self.scale - 0.5).ravel().tolist()
        ink = np.clip(color, 0, 255).astype(int).tolist()
        pen = self.glaze if opacity < 1 else self.pen
        pen.polygon(corners, fill=(*ink, int(255 * opacity)))

    def disc(self, x: float, y: float, radius: float, color: np.ndarray, opacity: float = 1.0) -> None:
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        self.polygon(np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1), color, opacity)

    def finished(self, relief: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3]: the image at its final size, its brightness multiplied by 1 + relief [rows, columns]."""
        image = self.image.reduce(self.oversample)
        texture = Image.fromarray(relief).resize(image.size, Image.Resampling.BICUBIC)
        shaded = np.asarray(image, dtype=np.float32)
        shaded *= (1 + np.asarray(texture))[:, :, None]
        return np.clip(shaded + 0.5, 0, 255).astype(np.uint8)


def generator(seed: int, number: int, purpose: int) -> np.random.Generator:
    """Philox with key (seed, number): its numbers do not depend on earlier draws."""
    key = np.array([seed % 2**64, number % 2**64], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, purpose], dtype=np.uint64)))


def palette(rng: np.random.Generator) -> np.ndarray:
    """[6, 3] in 0..255, five from dark to light and an accent: one of PALETTES with small random changes."""
    colors = INKS[rng.integers(len(INKS))]
    return np.clip(colors + rng.normal(0, 7, 3) + rng.normal(0, 6, (6, 3)), 0, 255)


def relief(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """float32 [rows, columns] around 0: slow changes of the paint, and the threads of the canvas."""
    columns, rows = round(GRAIN * canvas.w), round(GRAIN * canvas.h)
    wash, linen = rng.uniform(0.015, 0.05), rng.uniform(0.004, 0.02)
    slow = Image.fromarray(rng.normal(0, wash, (5, 5)).astype(np.float32))
    threads = rng.normal(0, linen, (rows, 1)) + rng.normal(0, linen, columns) + rng.normal(0, linen, (rows, columns))
    return np.asarray(slow.resize((columns, rows), Image.Resampling.BICUBIC)) + threads.astype(np.float32)


def soft_coordinates(canvas: Canvas, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """x and y [rows, columns] of a coarse grid, bent a little so that no edge is perfectly straight."""
    columns, rows = round(SOFT * canvas.w), round(SOFT * canvas.h)
    x, y = np.meshgrid((np.arange(columns) + 0.5) / SOFT, (np.arange(rows) + 0.5) / SOFT)
    bends = [Image.fromarray(rng.normal(0, 0.0045, (13, 13)).astype(np.float32)) for _ in range(2)]
    dx, dy = (np.asarray(bend.resize((columns, rows), Image.Resampling.BICUBIC)) for bend in bends)
    return x + dx, y + dy


def sequence(rng: np.random.Generator, colors: np.ndarray, count: int) -> np.ndarray:
    """[count, 3]: random colors, each changed a little; neighbors are never the same color."""
    steps = rng.integers(1, len(colors), count)
    return colors[np.cumsum(steps) % len(colors)] + rng.normal(0, 5, (count, 1))


def cuts(rng: np.random.Generator, count: int, evenness: float) -> np.ndarray:
    """[count + 1] from 0 to 1: the ends of `count` pieces; with a higher `evenness` they are more equal."""
    ends = np.cumsum(rng.gamma(evenness, size=count) + 0.15 * evenness)
    return np.concatenate([[0], ends / ends[-1]])


def rotated(points: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def blend(ramp: np.ndarray, place: float) -> np.ndarray:
    """The color at `place` in 0..1 of a ramp [n, 3]."""
    at = float(np.clip(place, 0, 1)) * (len(ramp) - 1)
    low = min(int(at), len(ramp) - 2)
    return ramp[low] + (ramp[low + 1] - ramp[low]) * (at - low)
