"""Makes the table in markdown, two curves, and a sheet with samples of each case, from table.json."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib
import numpy as np
from baselines import SIGNALS
from cases import cases
from collapse import RUNS
from pictures import builtin_images, split
from PIL import Image, ImageDraw, ImageFont

from pggan.evaluation.grids import make_grid
from pggan.evaluation.samples import draw
from pggan.metrics.verdict import VERDICTS
from pggan.training.loading import load_generator

matplotlib.use("Agg")
from matplotlib import pyplot as plt

TITLES = {"ms-ssim": "MS-SSIM", "recall": "recall", "vendi": "Vendi", "distance": "distance", "coverage": "coverage"}
SHOWN = 15  # images in a row of a sheet
BOUNDS = np.linspace(0.3, 1.2, 181)  # thresholds that are tried, as multiples of the lowest held-out value


def figures(results: Path, collapsed: Path | None = None) -> None:
    """Writes table.md, signals.png, cases.jpg beside results/table.json; collapsed.jpg from the runs in `collapsed`."""
    found = json.loads((results / "table.json").read_text())
    (results / "table.md").write_text(table(found))
    curves(found["rows"], results / "signals.png")
    sheet().save(results / "cases.jpg", quality=50)
    if collapsed is not None and collapsed.is_dir():
        generators(collapsed).save(results / "collapsed.jpg", quality=60)


# ---- the table


def table(found: dict) -> str:
    rows, about = found["rows"], found["about"]
    minutes = f"{about['core seconds'] / 60:.0f} minutes of one core"
    head = f"Commit {' and '.join(about['commits'])}, torch {about['torch']}, {minutes}."
    parts = ["# Signal against case", head, "## How often each is right", summary(rows)]
    parts += ["## Held-out draws of the frozen part", draws(found["draws"])]
    parts += ["## Where ours is wrong", wrong(rows), "## Every case", LEGEND]
    for name in unique(f"{row['source']} ({row['part']})" for row in rows):
        of = [row for row in rows if f"{row['source']} ({row['part']})" == name]
        parts += [f"### {name}", every(of)]
    return "\n\n".join(parts) + "\n"


def verdicts(found: dict) -> str:
    """The page of `run.py --ours`: how often the verdict is right, without and with a pretrained network.

    Cases for which every verdict would be right are not counted.
    """
    rows, about = found["rows"], found["about"]
    head = f"Commit {' and '.join(about['commits'])}, torch {about['torch']}, {about['core seconds']} s of one core."
    lines = [
        f"# The verdict alone\n\n{head}\n",
        "| case | n | right | with efficientnet-lite0 |",
        "|---|---:|---:|---:|",
    ]
    for part in ("frozen", "development"):
        of = [row for row in rows if row["part"] == part]
        lines.append(f"| **{part}** | | | |")
        for group in [*unique(row["group"] for row in of), "all"]:
            some = [row for row in of if group in ("all", row["group"])]
            cells = [
                share(row[key] if judged(row) else None for row in some) for key in ("right", "right with network")
            ]
            lines.append(f"| {group} | {len(some)} | {' | '.join(cells)} |")
    lines += ["\n## Where it is wrong, without or with the network\n"]
    lines += [
        "| part | source | case | right would be | verdict | with network | reason |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if not (row["right"] and row["right with network"]):
            case, right = f"{row['group']}: {row['case']}", " or ".join(row["expected"])
            cells = [row["part"], row["source"], case, right, row["verdict"], row["with network"], row["reason"]]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


LEGEND = """`=` right, `x` wrong, `·` not judged, because both would be right. Ours: the verdict, the diversity score
(interval), then the shares of near-duplicates, dropped reals and copies. Others: their value over the lowest of 20
held-out sets of the same size; below 1 they alarm."""


def summary(rows: list[dict]) -> str:
    """One line for each kind of case: how many are right, first in the frozen part, then in the development part."""
    lines = ["| case | n | ours | " + " | ".join(TITLES.values()) + " |", "|---|---:|---:|" + "---:|" * len(SIGNALS)]
    for part in ("frozen", "development"):
        lines.append(f"| **{part}** |" + " |" * (len(SIGNALS) + 2))
        of = [row for row in rows if row["part"] == part]
        for group in [*unique(row["group"] for row in of), "all"]:
            some = [row for row in of if group in ("all", row["group"])]
            cells = [share(row["right"] for row in some)]
            cells += [share(row["others right"][signal] for row in some) for signal in SIGNALS]
            lines.append(f"| {group} | {len(some)} | {' | '.join(cells)} |")
        cells = [balanced(of, lambda row, _: row["verdict"] != "healthy", [1])]
        cells += [balanced(of, lambda row, bound, of=signal: over_lowest(row, of) < bound) for signal in SIGNALS]
        lines.append(f"| balanced, others at their best bound | {len(of)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def alarm_is_right(row: dict) -> bool | None:
    """Whether an alarm is right for this row; None if both an alarm and no alarm are right."""
    if "healthy" not in row["expected"]:
        return True
    return False if len(row["expected"]) == 1 else None


def over_lowest(row: dict, signal: str) -> float:
    """Another measure over its lowest value on held-out sets."""
    return row["others"][signal] / max(row["lowest"][signal], 1e-9)


def balanced(rows: list[dict], alarms: Callable[[dict, float], bool], bounds: Iterable[float] = BOUNDS) -> str:
    """Balanced accuracy of alarms: the mean of the true positive and the true negative rate.

    Taken at the bound that is best for these very rows, which is kinder than any use of the measure.
    """
    found = []
    for bound in bounds:
        came = [alarms(row, bound) for row in rows if alarm_is_right(row) is True]
        false = [alarms(row, bound) for row in rows if alarm_is_right(row) is False]
        found.append((np.mean(came) + 1 - np.mean(false)) / 2)
    return f"{max(found):.0%}"


def judged(row: dict) -> bool:
    """Whether any verdict would be wrong: of generators that have learned a little, each may be right."""
    return len(row["expected"]) < len(VERDICTS)


def share(values: Iterable[bool | None]) -> str:
    judged = [value for value in values if value is not None]
    return f"{sum(judged)} of {len(judged)}" if judged else ""


def draws(rows: list[dict]) -> str:
    lines = ["| source | n | reals | sets | healthy | intervals that hold 1 | score, lowest to highest |"]
    lines += ["|---|---:|---:|---:|---:|---:|---|"]
    for source in unique(row["source"] for row in rows):
        for n in sorted({row["n"] for row in rows if row["source"] == source}):
            lines.append(
                draw_line(f"{source} | {n} | {2 * n}", [r for r in rows if (r["source"], r["n"]) == (source, n)])
            )
    if not rows:
        return "Not measured."
    lines.append(draw_line("all | | ", rows))
    alarms = [f"- {row['source']}, n = {row['n']}: {row['verdict']}, {row['reason']}" for row in rows]
    alarms = [line for line, row in zip(alarms, rows, strict=True) if row["verdict"] != "healthy"]
    looked = sum(row["copies looked for"] for row in rows)
    return "\n".join(
        [*lines, "", f"Copies were searched for in {looked} of them. False alarms:", "", *(alarms or ["none"])]
    )


def draw_line(name: str, rows: list[dict]) -> str:
    ratios = [row["evidence"]["ratio"] for row in rows]
    held = sum(row["interval"][0] <= 1 <= row["interval"][1] for row in rows)
    healthy = sum(row["verdict"] == "healthy" for row in rows)
    return f"| {name} | {len(rows)} | {healthy} | {held} | {min(ratios):.2f} to {max(ratios):.2f} |"


def wrong(rows: list[dict]) -> str:
    lines = ["| part | source | case | right would be | verdict | reason |", "|---|---|---|---|---|---|"]
    for row in rows:
        if not row["right"]:
            case = row["case"] if row["case"].startswith(row["group"]) else f"{row['group']}: {row['case']}"
            right = " or ".join(row["expected"])
            lines.append(f"| {row['part']} | {row['source']} | {case} | {right} | {row['verdict']} | {row['reason']} |")
    return "\n".join(lines) if len(lines) > 2 else "Nowhere."


def every(rows: list[dict]) -> str:
    titles = ["case", "n", "ours", "score", "duplicates", "dropped", "copies", *TITLES.values()]
    lines = ["| " + " | ".join(titles) + " |", "|---|---:|---|---|---:|---:|---:|" + "---|" * len(SIGNALS)]
    for row in rows:
        seen = row["evidence"]
        plain = row["group"] in ("k distinct", "share p of one picture") or row["case"].startswith(row["group"])
        case = row["case"] if plain else f"{row['group']}: {row['case']}"
        cells = [case, str(row["n"]), f"{mark(row['right'])} {row['verdict']}"]
        cells += [f"{seen['ratio']:.2f} ({row['d low']:.2f} to {seen['high']:.2f})"]
        cells += [f"{seen[name]:.2f}" for name in ("duplicates", "dropped", "copied")]
        for signal in SIGNALS:
            cells.append(f"{mark(row['others right'][signal])} {over_lowest(row, signal):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mark(right: bool | None) -> str:
    return {True: "=", False: "x", None: "·"}[right]


def unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


# ---- images


def curves(rows: list[dict], path: Path) -> None:
    """Plots each measure, over its lowest held-out value, against k and against p, for the built-in images."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
    for axis, group, prefix in zip(axes, ("k distinct", "share p of one picture"), ("k = ", "p = "), strict=True):
        of = [row for row in rows if row["source"].startswith("builtin") and row["group"] == group]
        at = np.array([float(row["case"].removeprefix(prefix).partition(",")[0]) for row in of])
        order = np.argsort(at, kind="stable")
        ours = np.array([row["evidence"]["ratio"] for row in of])
        axis.plot(at[order], ours[order], "k-o", lw=2, ms=4, label="diversity score (ours)")
        for number, signal in enumerate(SIGNALS):
            over = np.array([over_lowest(row, signal) for row in of])
            axis.plot(at[order], over[order], "-o", color=f"C{number}", lw=1, ms=3, label=TITLES[signal])
        axis.axhline(1, color="gray", lw=0.8, ls=":")
    axes[0].set(xscale="log", xlabel="k distinct images among 500", ylabel="measure; 1: as varied as the reals")
    axes[1].set(xlabel="share of the samples that are one image", ylim=(0, 1.4))
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def sheet() -> Image.Image:
    """A row of fakes for each case on the built-in images."""
    parts, n = split(builtin_images(5, 900), 400, 0), 200
    rows = []
    for case in [*cases("development", parts, n), *cases("frozen", parts, n)]:
        if not (case.name.startswith("no ") and "fields" not in case.name):
            made = case.make(parts, n, np.random.default_rng(0))[:SHOWN, ::2, ::2]
            rows.append((f"{case.group}: {case.name}", make_grid(made, SHOWN, gap=0)))
    return labeled(rows, 32)


def generators(runs: Path) -> Image.Image:
    """A row of samples for each generator that was trained to collapse."""
    rows = []
    for run in RUNS:
        path = runs / run / "checkpoints" / "latest.pt"
        if path.exists():
            made = draw(*load_generator(path), 0, SHOWN)
            rows.append((run, make_grid(made, SHOWN, gap=0).resize((48 * SHOWN, 48), Image.Resampling.BOX)))
    return labeled(rows, 48)


def labeled(rows: list[tuple[str, Image.Image]], height: int) -> Image.Image:
    """Rows of images, each with its name on the left."""
    whole = Image.new("RGB", (300 + rows[0][1].width, (height + 2) * len(rows)), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(10)
    for number, (name, row) in enumerate(rows):
        whole.paste(row, (300, (height + 2) * number + 1))
        pen.text((4, (height + 2) * number + height / 2 - 6), name, fill="black", font=font)
    return whole
