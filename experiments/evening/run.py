#!/usr/bin/env python3
"""An evening of two CPU cores: trains on a folder of pictures from 32 to 256 px, then makes the figures of the run.

`python experiments/evening/run.py --data DIR` takes 150 minutes. `--gpu` trains the default preset instead, which is
made for a GPU: 2,400 kimg. The same command continues a run that was cut off.
"""

import argparse
import json
import math
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
sys.path.insert(0, str(ROOT))
from pggan.evaluation.grids import grid_files, make_grid, split_grid  # noqa: E402

COMMON = ["--start-res", "32", "--max-res", "256", "--seed", "0"]
CPU = ["--preset", "cpu", "--budget", "150m"]
GPU = ["--preset", "paintings"]
GAP = 12  # pixels between bands of the first screen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of pictures")
    parser.add_argument("--run", help="the run's folder; without it: runs/evening-NAME, with the name of the data")
    parser.add_argument("--results", help="where the figures go; without it: results/evening/NAME")
    parser.add_argument("--gpu", action="store_true", help="the default preset, for a GPU")
    parser.add_argument("--figures-only", action="store_true", help="only make the figures of a finished run")
    args = parser.parse_args()
    name = Path(args.data).resolve().stem
    run, results = Path(args.run or f"runs/evening-{name}"), Path(args.results or f"results/evening/{name}")
    if not args.figures_only:
        flags = [*COMMON, *(GPU if args.gpu else CPU), "--data", args.data, "--out", str(run)]
        subprocess.run([sys.executable, str(ROOT / "train.py"), *flags], check=True)
    figures(run, results)


def figures(run: Path, results: Path) -> None:
    """Writes the last grid of each resolution, four latents over time, the curves, growth.json and run.json."""
    results.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    records = [line for line in lines if "growth/res" in line]
    evaluations = [line for line in lines if "diversity/score" in line]
    last_grids(run, results)
    over_time(run).save(results / "over-time.jpg", quality=88)
    first_screen(run).save(results / "first-screen.jpg", quality=88)
    curves(records, evaluations, results / "curves.png")
    shutil.copy(run / "growth.json", results / "growth.json")
    whole = json.loads((run / "config.json").read_text())
    for name in ("data", "cache", "out", "resume"):  # paths of one machine
        for part in ("data", "run"):
            whole["config"][part].pop(name, None)
    facts = {**whole, "stages": stages(records, evaluations)}
    (results / "run.json").write_text(json.dumps(facts, indent=2) + "\n")


def grids_of(run: Path, res: int) -> list[Path]:
    return [grid.path for grid in grid_files(run / "samples") if grid.res == res]


def last_grids(run: Path, results: Path, columns: int = 8) -> None:
    """At 256 px the first 24 of 48 images, to keep the file small. Small images are enlarged."""
    for res in (32, 64, 128, 256):
        images, _ = split_grid(grids_of(run, res)[-1])
        scale = max(1, 128 // res)
        grid = make_grid(images[: 48 if res < 256 else 24].repeat(scale, 1).repeat(scale, 2), columns)
        grid.save(results / f"grid-{res:04d}.jpg", quality=85)


def over_time(run: Path, latents: int = 4, moments: int = 12, side: int = 96) -> Image.Image:
    """A row for each latent; its columns are moments of the run, evenly spaced among all grids."""
    grids = grid_files(run / "samples")
    chosen = [grids[i] for i in np.linspace(0, len(grids) - 1, min(moments, len(grids))).round().astype(int)]
    columns = [
        [Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS) for image in split_grid(grid.path)[0]]
        for grid in chosen
    ]
    return make_grid(np.array([column[row] for row in range(latents) for column in columns]), len(columns))


def first_screen(run: Path, width: int = 1024) -> Image.Image:
    """The image in README.md: the first images of the last grids at 64, 128 and 256 px, in their own pixels."""
    bands = []
    for res, rows in ((64, 1), (128, 1), (256, 2)):
        images, _ = split_grid(grids_of(run, res)[-1])
        bands.append(make_grid(images[: rows * (width // res)], width // res, gap=0))
    sheet = Image.new("RGB", (width, sum(band.height + GAP for band in bands) - GAP), "white")
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height + GAP
    return sheet


def curves(records: list[dict], evaluations: list[dict], path: Path) -> None:
    """Plots losses, logits, speed, diversity and fidelity over time, with stages and fades marked."""
    panels = [
        ("loss of D and G", records, ["loss/d", "loss/g"]),
        ("loss by the heads on features", records, ["loss/d_features", "loss/g_features"]),
        ("logits of D", records, ["loss/real_logit", "loss/fake_logit"]),
        ("images/s", records, ["speed/images_per_s"]),
        ("evaluations", evaluations, ["diversity/score", "quality/fidelity"]),
    ]
    figure, axes = plt.subplots(len(panels), 1, figsize=(9, 11), sharex=True, constrained_layout=True)
    for axis, (title, lines, keys) in zip(axes, panels, strict=True):
        for key in keys:
            values = [line.get(key, np.nan) for line in lines]
            values, mark = (smooth(values), None) if lines is records else (values, "o")
            axis.plot(minutes(lines), values, lw=1.3, marker=mark, ms=4, label=key.partition("/")[2])
        axis.set_title(title, loc="left", fontsize=10)
        if len(keys) > 1:
            axis.legend(fontsize=8, frameon=False)
        axis.grid(alpha=0.2)
        mark_stages(axis, records, named=axis is axes[1])
    axes[3].set_ylim(bottom=0)
    axes[-1].set_ylim(0, 1)
    axes[-1].set_xlabel("minutes (shaded: a new block fades in)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


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


def stages(records: list[dict], evaluations: list[dict]) -> list[dict]:
    """For each resolution: kimg, minutes, the median of images/s with its quartiles, and its last evaluation."""
    rows, before = [], {"kimg": 0.0, "wall/seconds": 0.0}
    all_stages = by_res(records)
    ends = [stage[0]["nimg"] for stage in list(all_stages.values())[1:]] + [math.inf]
    for (res, stage), end in zip(all_stages.items(), ends, strict=True):
        last = [record for record in evaluations if record["nimg"] < end][-1]
        speeds = np.percentile([record["speed/images_per_s"] for record in stage], [25, 50, 75]).round(1)
        rows.append(
            {
                "res": res,
                "kimg": round(stage[-1]["kimg"] - before["kimg"], 2),
                "minutes": round((stage[-1]["wall/seconds"] - before["wall/seconds"]) / 60, 1),
                "images_per_s_quartiles": speeds.tolist(),
                "peak_gib": round(stage[-1]["memory/peak_bytes"] / 2**30, 2),
                "evaluation": {name: last[name] for name in last if name.startswith(("diversity/", "quality/"))},
            }
        )
        before = stage[-1]
    return rows


if __name__ == "__main__":
    main()
