#!/usr/bin/env python3
"""The first real run: trains on a folder of paintings from 32 to 256 px in a fixed time, then makes its figures.

`python experiments/paintings-first/run.py --data DIR` takes 76 minutes on two CPU cores: 62 at 32 and 64 px, the rest
at 128 and 256 px, which only shows that they train. `--gpu` runs the default preset in 24 minutes. The same command
continues a run that was cut off.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
COMMON = ["--start-res", "32", "--max-res", "256", "--stable-kimg", "1000"]
CPU = [
    *("--preset", "cpu", "--stage-minutes", "32:26,64:36,128:6,256:8", "--fade-kimg", "32:5,64:4,128:1,256:0.6"),
    *("--floor-kimg", "0.3", "--sample-kimg", "2"),
]
GPU = ["--preset", "paintings", "--stage-minutes", "32:3,64:5,128:7,256:9"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of paintings")
    parser.add_argument("--run", default="runs/paintings-first", help="the run's folder")
    parser.add_argument("--results", default="results/paintings-first", help="where the figures go")
    parser.add_argument("--gpu", action="store_true", help="the default preset, for a GPU")
    parser.add_argument("--figures-only", action="store_true", help="only make the figures of a finished run")
    args = parser.parse_args()
    if not args.figures_only:
        flags = [*COMMON, *(GPU if args.gpu else CPU), "--data", args.data, "--out", args.run]
        subprocess.run([sys.executable, str(ROOT / "train.py"), *flags], check=True)
    figures(Path(args.run), Path(args.results))


def figures(run: Path, results: Path) -> None:
    """Writes the last grid of each resolution, four latents over time, the curves, growth.json and run.json."""
    results.mkdir(parents=True, exist_ok=True)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last_grids(run, results)
    over_time(run).save(results / "over-time.jpg", quality=88)
    first_screen(run).save(results / "first-screen.jpg", quality=90)
    curves(records, results / "curves.png")
    shutil.copy(run / "growth.json", results / "growth.json")
    whole = json.loads((run / "config.json").read_text())
    for name in ("data", "cache", "out", "resume"):  # paths of one machine
        for part in ("data", "run"):
            whole["config"][part].pop(name, None)
    facts = {**whole, "stages": stages(records)}
    (results / "run.json").write_text(json.dumps(facts, indent=2) + "\n")


def grids_of(run: Path, res: int) -> list[Path]:
    return sorted((run / "samples").glob(f"{res:04d}-*.png"))


def last_grids(run: Path, results: Path) -> None:
    for res in (32, 64, 128, 256):  # at 256 px the upper half
        if grids := grids_of(run, res):
            with Image.open(grids[-1]) as grid:
                scale = max(1, 128 // res)
                shown = grid.crop((0, 0, grid.width, grid.height if res < 256 else grid.height // 2))
                large = shown.resize((shown.width * scale, shown.height * scale), Image.Resampling.NEAREST)
                large.convert("RGB").save(results / f"grid-{res:04d}.jpg", quality=85)


def over_time(run: Path, latents: int = 4, moments: int = 12, side: int = 96) -> Image.Image:
    """A row for each latent; its columns are moments of the run, evenly spaced among all grids."""
    grids = sorted((run / "samples").glob("*.png"), key=lambda path: int(path.stem.split("-")[1]))
    chosen = [grids[i] for i in np.linspace(0, len(grids) - 1, min(moments, len(grids))).round().astype(int)]
    sheet = Image.new("RGB", (len(chosen) * side, latents * side))
    for column, path in enumerate(chosen):
        res = int(path.stem.split("-")[0])
        with Image.open(path) as grid:
            for row in range(latents):
                one = grid.crop((row * res, 0, (row + 1) * res, res)).resize((side, side), Image.Resampling.NEAREST)
                sheet.paste(one, (column * side, row * side))
    return sheet


def first_screen(run: Path, side: int = 128) -> Image.Image:
    """The image in README.md: two rows of the last grid at 32 px above four rows of the last one at 64 px."""
    parts = [(32, 2), (64, 4)]
    sheet = Image.new("RGB", (8 * side, 6 * side + 12), "white")
    top = 0
    for res, rows in parts:
        with Image.open(grids_of(run, res)[-1]) as grid:
            part = grid.crop((0, 0, 8 * res, rows * res)).resize((8 * side, rows * side), Image.Resampling.NEAREST)
        sheet.paste(part, (0, top))
        top += rows * side + 12
    return sheet


def curves(records: list[dict], path: Path) -> None:
    """Plots losses, logits, penalty and speed over time, with stages and fades marked."""
    panels = [
        ("loss", ["loss/d", "loss/g"]),
        ("logits of D", ["loss/real_logit", "loss/fake_logit"]),
        ("squared gradient norm of D on reals", ["loss/penalty"]),
        ("images/s", ["speed/images_per_s"]),
    ]
    figure, axes = plt.subplots(len(panels), 1, figsize=(9, 9), sharex=True, constrained_layout=True)
    for axis, (title, keys) in zip(axes, panels, strict=True):
        for key in keys:
            axis.plot(
                minutes(records), smooth([record[key] for record in records]), lw=1.3, label=key.partition("/")[2]
            )
        axis.set_title(title, loc="left", fontsize=10)
        if len(keys) > 1:
            axis.legend(fontsize=8, frameon=False)
        axis.grid(alpha=0.2)
        mark_stages(axis, records, named=axis is axes[0])
    for axis in axes[2:]:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(plt.NullFormatter())
    axes[3].set_xlabel("minutes (shaded: a new block fades in)")
    figure.savefig(path, dpi=110)


def minutes(records: list[dict]) -> np.ndarray:
    return np.array([record["wall/seconds"] for record in records]) / 60


def mark_stages(axis, records: list[dict], named: bool) -> None:
    for number, (res, stage) in enumerate(by_res(records).items()):
        start, *_ = times = minutes(stage)
        if number:
            axis.axvline(start, color="0.4", lw=0.8)
        fading = [time for time, record in zip(times, stage, strict=True) if record["growth/alpha"] < 1]
        if fading:
            axis.axvspan(start, fading[-1], color="0.85", zorder=0)
        if named:
            kimg = f"{stage[-1]['kimg'] - stage[0]['kimg']:.0f} kimg"
            axis.annotate(
                f"{res} px\n{kimg}", ((start + times[-1]) / 2, 0.97), xycoords=("data", "axes fraction"),
                va="top", ha="center", fontsize=8, color="0.3",
            )  # fmt: skip


def smooth(values: list[float], over: int = 5) -> np.ndarray:
    """Mean of each value and the `over - 1` before it."""
    padded = np.pad(np.asarray(values, float), (over - 1, 0), mode="edge")
    return np.convolve(padded, np.ones(over) / over, mode="valid")


def by_res(records: list[dict]) -> dict[int, list[dict]]:
    found: dict[int, list[dict]] = {}
    for record in records:
        found.setdefault(record["growth/res"], []).append(record)
    return found


def stages(records: list[dict]) -> list[dict]:
    """For each resolution: kimg, minutes, and the median of images/s with its quartiles."""
    rows, before = [], {"kimg": 0.0, "wall/seconds": 0.0}
    for res, stage in by_res(records).items():
        speeds = np.percentile([record["speed/images_per_s"] for record in stage], [25, 50, 75]).round(1)
        rows.append(
            {
                "res": res,
                "kimg": round(stage[-1]["kimg"] - before["kimg"], 2),
                "minutes": round((stage[-1]["wall/seconds"] - before["wall/seconds"]) / 60, 1),
                "images_per_s_quartiles": speeds.tolist(),
                "peak_gib": round(stage[-1]["memory/peak_bytes"] / 2**30, 2),
            }
        )
        before = stage[-1]
    return rows


if __name__ == "__main__":
    main()
