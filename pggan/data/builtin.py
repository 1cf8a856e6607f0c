"""The built-in images: abstract paintings that the project draws itself.

There are ten kinds of painting, which are the labels. Images of a kind vary in palette, counts, angles, places and
texture. An image is a pure function of (seed, index). All geometry is in units of the image's shorter side, so the same
(seed, index) at 32 and at 256 pixels is the same image, and a circle stays a circle at any aspect ratio.

Shapes: W, H pixels; points are float [n, 2] as (x, y) from the top left corner; colors are float [6, 3] in 0..255, five
from dark to light and an accent.
"""

from collections.abc import Callable

import numpy as np

from pggan.data import paint
from pggan.data.paint import Canvas, blend, cuts, rotated, sequence


def draw(seed: int, index: int, width: int, height: int) -> tuple[np.ndarray, int]:
    """Image `index` of the endless collection `seed`: (uint8 [height, width, 3], its kind as an index into KINDS).

    Each ten images in a row have each kind once, in random order.
    """
    kind = kind_of(seed, index)
    rng = paint.generator(seed, index, 0)
    canvas = Canvas(width, height)
    PAINTERS[KINDS[kind]](canvas, paint.palette(rng), rng)
    return canvas.finished(paint.relief(canvas, rng)), kind


def kind_of(seed: int, index: int) -> int:
    """The kind of image `index`, without drawing it."""
    block, place = divmod(index, len(KINDS))
    return int(paint.generator(seed, block, 1).permutation(len(KINDS))[place])


# ---- the kinds: each function paints a whole canvas with colors [6, 3] from dark to light


def fields(canvas: Canvas, colors: np.ndarray, rng: np.random.Generator) -> None:
    """Two to four soft blocks of thin paint, one above the other, on a plain ground."""
    x, y = paint.soft_coordinates(canvas, rng)
    ground, *blocks = rng.permutation(colors[[0, 1, 2, 4, 5]])
    image = np.broadcast_to(ground, (*x.shape, 3))
    margin, feather = rng.uniform(0.06, 0.13), rng.uniform(0.02, 0.05)
    edges = margin + (canvas.h - 2 * margin) * cuts(rng, rng.choice([2, 2, 3, 3, 4]), 3.0)
    gap, shades = rng.uniform(0.015, 0.035), rng.uniform(-0.3, 0.3, (4, 2))
    for color, top, bottom, shade in zip(blocks, edges[:-1] + gap, edges[1:] - gap, shades, strict=False):
        inside = np.minimum(np.minimum(x - margin, canvas.w - margin - x), np.minimum(y - top, bottom - y))
        cover = np.clip(inside / feather + 0.5, 0, 1)
        thin = 0.9 + np.clip((x - canvas.w / 2) * shade[0] + (y - (top + bottom) / 2) * shade[1], -0.3, 0.1)
        image = image + (color - image) * (cover * cover * (3 - 2 * cover) * thin)[:, :, None]
    canvas.ground(image)


def stripes(canvas: Canvas, colors: np.ndarray, rng: np.random.Generator) -> None:
    """Straight bands of many widths, at any angle."""
    reach = np.hypot(canvas.w, canvas.h) / 2
    edges = reach * (2 * cuts(rng, rng.integers(8, 20), rng.uniform(0.8, 4)) - 1)
    along = np.array([-reach, reach])
    angle = rng.uniform(0, np.pi)
    for edge, color in zip(edges[:-1], sequence(rng, colors, len(edges) - 1), strict=True):
        band = np.array([[along[0], edge], [along[1], edge], [along[1], reach], [along[0], reach]])
        canvas.polygon(rotated(band, angle) + canvas.center, color)


def waves(canvas: Canvas, colors: np.ndarray, rng: np.random.Generator) -> None:
    """Bands that roll together, at any angle."""
    reach = 0.5 * np.hypot(canvas.w, canvas.h) + 0.15
    edges = reach * (2 * cuts(rng, rng.integers(9, 17), 4.0) - 1)
    x = np.linspace(-reach, reach, 56)
    height, pace, phase = rng.uniform(0.06, 0.13), rng.uniform(1.2, 2.6), rng.uniform(0, 2 * np.pi)
    drift, angle = rng.uniform(-0.5, 0.5), rng.uniform(0, np.pi)
    for k, color in enumerate(sequence(rng, colors, len(edges) - 1)):
        y = edges[k] + height * np.sin(2 * np.pi * pace * x + phase + drift * k) - (reach if k == 0 else 0)
        band = np.concatenate([np.stack([x, y], axis=1), [[reach, 2 * reach], [-reach, 2 * reach]]])
        canvas.polygon(rotated(band, angle) + canvas.center, color)


def grid(canvas: Canvas, colors: np.ndarray, rng: np.random.Generator) -> None:
    """Rectangles of different sizes between heavy lines; most have the color of paper."""
    line, paper, paints = colors[0], colors[4], colors[[1, 2, 3, 5]]
    half, filled = rng.uniform(0.012, 0.024), rng.uniform(0.3, 0.6)
    canvas.ground(line[None, None])
    for left, top, right, bottom in _rooms(rng, (0.0, 0.0, canvas.w, canvas.h), int(rng.integers(7, 15))):
        color = paints[rng.integers(4)] if rng.random() < filled else paper + rng.normal(0, 5)
        x, y = np.array([left + half, right - half]), np.array([top + half, bottom - half])
        canvas.polygon(np.stack([x[[0, 1, 1, 0]], y[[0, 0, 1, 1]]], axis=1), color)


def circles(canvas: Canvas, colors: np.ndarray, rng: np.random.Generator) -> None:
    """Discs and rings of many sizes, some of them transparent."""
    ground, *paints = colors[[4, 0, 1, 2, 3, 5] if rng.random() < 0.65 else [0, 1, 2, 3, 4, 5]]
    canvas.ground(ground + rng.normal(0, 8, (3, 3, 3)))
    taken = np.zeros((0, 3))
    for radius in np.sort(rng.uniform(0.05, 0.3, rng.integers(6, 15)) ** 1.15)[::-1]:
        tries = rng.uniform(0, 1, (12, 2)) * [canvas.w, canvas.h]
        room = [np.min(np.hypot(*(taken[:, :2] - spot).T) - taken[:, 2], initial=9.0) for spot in tries]
        x, y = tries[np.argmax(room)]
        taken = np.concatenate([taken, [[x, y, radius]]])
        shares = 1 - np.arange(rng.integers(1, 5)) / rng.uniform(4, 6)
        for share, color in zip(shares, sequence(rng, np.array(paints), len(shares)), strict=True):
            canvas.disc(x, y, radius * share, color, rng.uniform(0.8, 1))


def strokes(canvas: Canvas, colors: np.ndarray, rng: np.random.Generator) -> None:
    """Broad bent strokes of a bristle brush, over each other."""
    canvas.ground(colors[rng.choice([0, 4])] + rng.normal(0, 8, (3, 3, 3)))
    lean, loose = rng.uniform(0, np.pi), rng.uniform(0.2, 0.9)
    for color in sequence(rng, colors, rng.integers(13, 22)):
        angle, length, width = lean + rng.normal(0, loose), rng.uniform(0.35, 0.9), rng.uniform(0.05, 0.13)
        middle = rng.uniform(0, 1, 2) * [canvas.w, canvas.h]
        bend = rng.normal(0, 0.16)
        for side in np.linspace(-0.5, 0.5, 6):
            t = np.linspace(-0.5 + rng.uniform(0, 0.12), 0.5 - rng.uniform(0, 0.18), 8)
            spine = np.stack([t * length, bend * (1 - 4 * t * t) + side * width], axis=1)
            hair = np.concatenate([spine, spine[::-1] + np.array([0, width / 6 + 0.002])])
            canvas.polygon(rotated(hair, angle) + middle, color + rng.normal(0, 13))


def facets(canvas: Canvas, colors: np.ndarray, rng: np.random.Generator) -> None:
    """A crumpled sheet of triangles; their color goes from one end of a palette to the other across the image."""
    cells = rng.integers(4, 8)
    across, down = max(2, round(cells * canvas.w)), max(2, round(cells * canvas.h))
    knots = np.stack(np.meshgrid(np.arange(across + 3) - 1.0, np.arange(down + 3) - 1.0), axis=-1)
    knots = (knots + rng.uniform(-0.36, 0.36, knots.shape)) * [canvas.w / across, canvas.h / down]
    ramp = colors[np.sort(rng.choice(5, 4, replace=False))]
    slope = rng.normal(0, 1, 2)
    slope, crumple = slope / np.hypot(*slope), rng.uniform(0.06, 0.14)
    for row, column in np.ndindex(down + 2, across + 2):
        a, b, d, c = knots[row : row + 2, column : column + 2].reshape(4, 2)
        halves = ((a, b, c), (a, c, d)) if rng.random() < 0.5 else ((a, b, d), (b, c, d))
        for corners in halves:
            place = (np.mean(corners, axis=0) / [canvas.w, canvas.h] - 0.5) @ slope + 0.5
            canvas.polygon(np.array(corners), blend(ramp, place + rng.normal(0, crumple)))


def rays(canvas: Canvas, colors: np.ndarray, rng: np.random.Generator) -> None:
    """Beams from one point, straight or twisted."""
    center = rng.uniform(0.15, 0.85, 2) * [canvas.w, canvas.h]
    edges = rng.uniform(0, 2 * np.pi) + 2 * np.pi * cuts(rng, 2 * rng.integers(6, 13), rng.uniform(3, 12))
    r, twist = np.linspace(0, 1.3 * np.hypot(canvas.w, canvas.h), 28), rng.choice([0.0, rng.normal(0, 0.5)])
    for start, end, color in zip(edges[:-1], edges[1:], sequence(rng, colors, len(edges) - 1), strict=True):
        turn = np.concatenate([start + twist * r, end + twist * r[::-1]])
        far = np.concatenate([r, r[::-1]])
        canvas.polygon(center + np.stack([far * np.cos(turn), far * np.sin(turn)], axis=1), color)
    if rng.random() < 0.5:
        canvas.disc(*center, rng.uniform(0.04, 0.11), colors[rng.choice([0, 4, 5])])


def hills(canvas: Canvas, colors: np.ndarray, rng: np.random.Generator) -> None:
    """A sky with a sun, and rows of hills that fade with distance."""
    near, far, sky = colors[[[0, 3, 1], [0, 3, 4], [0, 4, 3], [3, 0, 1]][rng.integers(4)]]
    canvas.ground(np.stack([blend(np.stack([far, sky]), t) for t in (0.35, 1.0, 0.8)])[:, None])
    sun = [rng.uniform(0.12, 0.88) * canvas.w, rng.uniform(0.14, 0.4) * canvas.h]
    canvas.disc(*sun, rng.uniform(0.06, 0.13), colors[5])
    count, horizon = rng.integers(4, 7), rng.uniform(0.38, 0.52)
    x = np.linspace(-0.05, canvas.w + 0.05, 64)
    for k in range(count):
        pace, phase = rng.uniform(0.6, 1.4) * np.array([1, 2.1, 4.7]), rng.uniform(0, 2 * np.pi, 3)
        ridge = np.sin(2 * np.pi * pace * x[:, None] + phase) @ (rng.uniform(0.5, 1) * np.array([0.05, 0.024, 0.008]))
        y = canvas.h * (horizon + (1 - horizon) * k / count) + ridge
        land = np.concatenate([np.stack([x, y], axis=1), [[x[-1], canvas.h + 1], [x[0], canvas.h + 1]]])
        canvas.polygon(land, blend(np.stack([far, colors[2], near]), k / (count - 1)) + rng.normal(0, 4))


def tiles(canvas: Canvas, colors: np.ndarray, rng: np.random.Generator) -> None:
    """Square tiles with a quarter of a disc in one corner of each."""
    count, ring = rng.integers(3, 6), rng.uniform(0.4, 0.7) if rng.random() < 0.5 else 0.0
    turn = np.linspace(0, np.pi / 2, 14)
    wedge = np.concatenate([[[0, 0]], np.stack([np.cos(turn), np.sin(turn)], axis=1)])
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    for row, column in np.ndindex(int(np.ceil(count * canvas.h)), int(np.ceil(count * canvas.w))):
        back, front, core = rng.choice(colors, 3, replace=False)
        place, corner = np.array([column, row]), corners[rng.integers(4)]
        canvas.polygon((place + corners) / count, back)
        for radius, color in ((1.0, front), (ring, core)):
            canvas.polygon((place + corner + (1 - 2 * corner) * wedge * radius) / count, color)


def _rooms(rng: np.random.Generator, room: tuple[float, ...], count: int) -> list[tuple[float, ...]]:
    """Cuts a rectangle (left, top, right, bottom) into `count`, each time the largest one across its longer side."""
    rooms = [room]
    while len(rooms) < count:
        left, top, right, bottom = rooms.pop(int(np.argmax([(r[2] - r[0]) * (r[3] - r[1]) for r in rooms])))
        share = rng.uniform(0.22, 0.78)
        if right - left > bottom - top:
            at = left + share * (right - left)
            rooms += [(left, top, at, bottom), (at, top, right, bottom)]
        else:
            at = top + share * (bottom - top)
            rooms += [(left, top, right, at), (left, at, right, bottom)]
    return rooms


PAINTERS: dict[str, Callable[[Canvas, np.ndarray, np.random.Generator], None]] = {
    painter.__name__: painter
    for painter in (fields, stripes, waves, grid, circles, strokes, facets, rays, hills, tiles)
}
KINDS: tuple[str, ...] = tuple(PAINTERS)
