"""Tables and montages of the runs that run.py trained: samples of each case at the end of 32 px and of 64 px."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from pggan.data.packing import pack
from pggan.data.sources import open_source
from pggan.evaluation.grids import make_grid
from pggan.evaluation.samples import draw
from pggan.metrics.kinds import count_kinds
from pggan.training.loading import load_generator

SAMPLES = 500  # that kinds are counted in
SHOWN = 14  # images in a row of the montage


def figures(runs: Path, results: Path) -> None:
    """Writes results/figures.json, table.md and a montage for each set of images."""
    results.mkdir(parents=True, exist_ok=True)
    found = sorted(path for path in runs.iterdir() if (path / "checkpoints" / "res-0064.pt").exists())
    lost = sorted(path.name for path in runs.iterdir() if (path / "diverged.json").exists())
    with torch.no_grad():
        rows = [measured(path, res) for path in found for res in (32, 64)]
    reals = {name: spread_of_reals(runs, name) for name in sorted({row["set"] for row in rows})}
    (results / "figures.json").write_text(json.dumps({"rows": rows, "reals": reals, "diverged": lost}, indent=1) + "\n")
    (results / "table.md").write_text(table(rows, reals, lost))
    for name in sorted({row["set"] for row in rows}):
        montage(runs, name).save(results / f"{name}-64.jpg", quality=88)


def measured(run: Path, res: int) -> dict:
    """Kinds made (built-in images only) and spread of one run at the end of `res`."""
    name, *case, seed = run.name.split("-")
    generator, alpha = load_generator(run / "checkpoints" / f"res-{res:04d}.pt")
    images = draw(generator, alpha, 0, SAMPLES)
    growth = json.loads((run / "growth.json").read_text())
    kimg = next(entry["nimg"] for entry in growth if entry["from_res"] == res and entry["action"] != "rollback") / 1000
    row = {"set": name, "case": "-".join(case), "seed": int(seed), "res": res, "kimg": kimg, "spread": spread(images)}
    if name == "builtin":
        kinds = count_kinds(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
        row |= {"kinds": len(kinds.made), "counts": kinds.counts, "none": kinds.unread}
    return row


def spread_of_reals(runs: Path, name: str) -> list[float]:
    """Spread of the training images of a set, at 32 and 64 px."""
    settings = json.loads((next(runs.glob(f"{name}-*")) / "config.json").read_text())["config"]["data"]
    source = open_source(settings["data"], settings["builtin_images"])
    packed = pack(source, [(res, res, res) for res in (32, 64)])
    few = np.linspace(0, len(packed) - 1, SAMPLES).round().astype(int)
    chosen = np.random.default_rng(0).permutation(few)  # neighbors in a folder are similar
    return [spread(packed.images(res)[chosen]) for res in (32, 64)]


def spread(images: np.ndarray) -> float:
    """Mean distance of two images at 8x8 px, in gray levels. It shows a full collapse and misses a partial one."""
    n, side = len(images), images.shape[1] // 8
    small = images.reshape(n, 8, side, 8, side, 3).mean(axis=(2, 4)).reshape(n, -1)
    half = n // 2
    return float(np.sqrt(((small[:half] - small[half : 2 * half]) ** 2).mean(axis=1)).mean())


def table(rows: list[dict], reals: dict[str, list[float]], lost: list[str]) -> str:
    """Markdown with one line for each case, and the values of its runs side by side."""
    lines = []
    for name in sorted({row["set"] for row in rows}):
        cases = sorted({row["case"] for row in rows if row["set"] == name})
        lines += [
            f"### {name}",
            "",
            "| case | n | kimg at 32, 64 px | kinds at 32 px | kinds at 64 px | spread at 32, 64 px |",
        ]
        lines += ["|---|---:|---|---|---|---|"]
        for case in cases:
            of = {
                res: [row for row in rows if (row["set"], row["case"], row["res"]) == (name, case, res)]
                for res in (32, 64)
            }
            kimg, spreads = (", ".join(values(of[res], key, 1) for res in (32, 64)) for key in ("kimg", "spread"))
            kinds = [values(of[res], "kinds", 0) if name == "builtin" else "" for res in (32, 64)]
            lines.append(
                f"| {case.replace('-', ' ', 1)} | {len(of[64])} | {kimg} | {kinds[0]} | {kinds[1]} | {spreads} |"
            )
        lines += [f"| the images themselves | | | | | {reals[name][0]:.1f}, {reals[name][1]:.1f} |", ""]
    return "\n".join([*lines, f"Diverged: {', '.join(lost) or 'none'}.", ""])


def values(rows: list[dict], key: str, digits: int) -> str:
    """`3 / 4`: the values of the runs, in the order of their seeds."""
    return " / ".join(f"{row[key]:.{digits}f}" for row in sorted(rows, key=lambda row: row["seed"]))


def montage(runs: Path, name: str) -> Image.Image:
    """A row of samples for each case: first seed, end of 64 px."""
    done = sorted(path for path in runs.glob(f"{name}-*-0") if (path / "checkpoints" / "res-0064.pt").exists())
    sheet = Image.new("RGB", (170 + 64 * SHOWN, 66 * len(done)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, run in enumerate(done):
        generator, alpha = load_generator(run / "checkpoints" / "res-0064.pt")
        images = draw(generator, alpha, 0, SHOWN)
        sheet.paste(make_grid(images, SHOWN, gap=0), (170, 66 * number + 1))
        case = run.name.removeprefix(f"{name}-").removesuffix("-0").replace("-", " ", 1)
        pen.text((8, 66 * number + 24), case, fill="black", font=font)
    return sheet
