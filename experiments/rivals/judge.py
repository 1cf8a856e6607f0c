#!/usr/bin/env python3
"""Compares folders of samples with a folder of real images, in four feature spaces, and writes tables and a grid.

`python experiments/rivals/judge.py runs/rivals/monet/reals runs/rivals/monet/*-?/averaged runs/rivals/monet/*-?/live
--results results/rivals/monet` makes a row for each folder SIDE-SEED/DRAW; the seeds of a side stand side by side.
README.md explains the figures.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

OURS = ("pggan", "averaged")
FIGURES = ("precision", "recall", "density", "coverage")
LITE0 = "efficientnet-lite0"
SPACES = {
    "handcrafted": "edges, texture and palette; seen by no side",
    "rand": "random filters; seen by no side",
    "classifier": "a small network that tells built-in kinds apart; seen by no side",
    LITE0: "ImageNet features; **seen** by the discriminators of projected-gan and of pggan",
}
SHOWN = 14  # images in a row of the grid


@dataclass
class Row:
    """Samples of one run. draw: averaged or live. figures: {space: {figure: value}}."""

    side: str
    draw: str
    seed: int
    count: int
    figures: dict[str, dict[str, float]] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reals", type=Path, help="a folder of PNG files")
    parser.add_argument("samples", type=Path, nargs="+", help="folders SIDE-SEED/DRAW of PNG files")
    parser.add_argument("--results", type=Path, required=True, help="where figures.json, table.md and grid.jpg go")
    args = parser.parse_args()
    judge(args.reals, args.samples, args.results)


def judge(reals: Path, samples: list[Path], results: Path) -> None:
    """Writes figures.json, table.md and grid.jpg into `results`."""
    from images import read

    images = read(reals)
    fakes = {path: read(path) for path in samples if any(path.glob("*.png"))}
    rows = {path: row_of(path, len(some)) for path, some in fakes.items()}
    floor = {}
    for space in SPACES:
        features = features_of(space)
        real = features(images)
        floor[space] = held_out(real, min(map(len, fakes.values())), space)
        for path, some in fakes.items():
            rows[path].figures[space] = compared(real, features(some), space)
            words = (f"{name} {value:.3g}" for name, value in rows[path].figures[space].items())
            print(*path.parts[-2:], space, *words, flush=True)
    ordered = sorted(rows.values(), key=lambda row: (row.side, row.draw, row.seed))
    results.mkdir(parents=True, exist_ok=True)
    whole = {"reals": len(images), "spaces": SPACES, "held_out": floor, "rows": [asdict(row) for row in ordered]}
    (results / "figures.json").write_text(json.dumps(whole, indent=1) + "\n")
    (results / "table.md").write_text(table(ordered, floor, len(images)))
    grid(images, fakes, rows).save(results / "grid.jpg", quality=90)


def row_of(path: Path, count: int) -> Row:
    side, _, seed = path.parent.name.rpartition("-")
    return Row(side, path.name, int(seed), count)


def features_of(space: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function from images uint8 [N, H, W, 3] to features [N, D]."""
    from functools import partial

    from pggan.metrics.small_images import features
    from pggan.metrics.spaces import SPACES as PROJECT

    return partial(features, space=lite0() if space == LITE0 else PROJECT[space].load())


def lite0() -> Callable:
    """Images [N, 3, H, W] in [-1, 1] -> [N, 320]: means of the last feature map of EfficientNet-Lite0 at 224 px."""
    import torch
    from torch.nn import functional as F

    from pggan.models.pretrained import open_network

    network = open_network(LITE0)

    @torch.no_grad()
    def last_map(images: torch.Tensor) -> torch.Tensor:
        return network(F.interpolate(images, (224, 224), mode="bilinear"))[-1].mean((2, 3))

    return last_map


def compared(reals: np.ndarray, fakes: np.ndarray, space: str) -> dict[str, float]:
    """Kernel distance, with the ends of its interval, and FIGURES, of features [N, D] and [M, D]."""
    from pggan.evaluation.distances import compare
    from pggan.evaluation.features import Gathered

    sets = [Gathered(len(each), each.astype(np.float32), np.arange(len(each)) % 2 == 0, {}) for each in (reals, fakes)]
    found = {key: value for each in compare(*sets, space)[0] for key, value in each.plain().items()}
    kernel = {"kernel": found[f"kid_{space}"]}
    kernel |= {end: found[f"kid_{space}_{end}"] for end in ("low", "high")}
    return kernel | {name: found[f"{name}_{space}"] for name in FIGURES}


def held_out(reals: np.ndarray, count: int, space: str) -> dict[str, float]:
    """The figures of perfect samples: `count` real images (at most half of them) against the others."""
    order = np.random.default_rng(0).permutation(len(reals))
    count = min(count, len(reals) // 2)
    return compared(reals[order[count:]], reals[order[:count]], space)


def table(rows: list[Row], floor: dict, reals: int) -> str:
    """Markdown: a table for each space, and in it a line for each side and draw, with its seeds side by side."""
    keys = list(dict.fromkeys((row.side, row.draw) for row in rows))
    lines = []
    for space, about in SPACES.items():
        lines += [f"### {space}", "", f"{about[0].upper()}{about[1:]}.", ""]
        lines += [f"| side | draw | kernel distance | {' | '.join(FIGURES)} | {OURS[0]} ahead |"]
        lines += ["|---|---|" + "---|" * (len(FIGURES) + 2)]
        ours = {row.seed: row.figures[space]["kernel"] for row in rows if (row.side, row.draw) == OURS}
        for key in keys:
            some = [row for row in rows if (row.side, row.draw) == key]
            cells = [" / ".join(f"{row.figures[space][name]:.2f}" for row in some) for name in FIGURES]
            kernel = " / ".join(f"{row.figures[space]['kernel']:.3g}" for row in some)
            pairs = [(ours[row.seed], row.figures[space]["kernel"]) for row in some if row.seed in ours]
            ahead = "" if key == OURS or not pairs else f"{sum(own < their for own, their in pairs)} of {len(pairs)}"
            lines.append(f"| {' | '.join([*key, kernel, *cells, ahead])} |")
        cells = [f"{floor[space]['kernel']:.3g}", *(f"{floor[space][name]:.2f}" for name in FIGURES)]
        lines += [f"| held-out reals | | {' | '.join(cells)} | |", ""]
    seeds, counts = (sorted({getattr(row, name) for row in rows}) for name in ("seed", "count"))
    words = (", ".join(map(str, values)) for values in (counts, seeds))
    return "\n".join([*lines, "{:,} reals; samples of a run: {}. Seeds in this order: {}.".format(reals, *words), ""])


def grid(reals: np.ndarray, fakes: dict[Path, np.ndarray], rows: dict[Path, Row]):
    """A row of real images, and a row of samples for each side and draw, of its first seed."""
    from PIL import Image, ImageDraw, ImageFont

    from pggan.evaluation.grids import make_grid

    first = min(row.seed for row in rows.values())
    chosen = np.random.default_rng(0).permutation(len(reals))[:SHOWN]
    shown = [("real images", reals[chosen])]
    shown += [(f"{row.side}\n{row.draw}", fakes[path][:SHOWN]) for path, row in rows.items() if row.seed == first]
    sheet = Image.new("RGB", (170 + 64 * SHOWN, 66 * len(shown)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (words, images) in enumerate(shown):
        sheet.paste(make_grid(images, SHOWN, gap=0), (170, 66 * number + 1))
        pen.text((8, 66 * number + 14), words, fill="black", font=font)
    return sheet


if __name__ == "__main__":
    main()
