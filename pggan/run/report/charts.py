"""The charts of the page, and the marks of growth and fades in them.

To add a chart, add an entry to CHARTS. Figures of an evaluation come from `pggan.evaluation.figures`.
"""

import json
import math
from dataclasses import asdict, dataclass

import numpy as np

from pggan.evaluation.figures import FIGURES, Figure
from pggan.run.report.records import running_mean, thinned


@dataclass(frozen=True)
class Chart:
    """Figures that share a chart.

    keys: their keys in metrics.jsonl, which all begin with the same group. unit: "", "share", "bytes" or "seconds".
    step: the values jump. low, high: ends of the axis, moved if values lie beyond. log: a logarithmic axis.
    names: words for the values 0, 1, 2 ... labels: of the keys in the legend, if not the ends of the keys.
    """

    title: str
    keys: tuple[str, ...]
    unit: str = ""
    step: bool = False
    low: float | None = None
    high: float | None = None
    log: bool = False
    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        return self.keys[0].partition("/")[0] if "/" in self.keys[0] else "other"


def chart_of(figure: Figure) -> Chart:
    """The chart of a figure of an evaluation."""
    better = {"higher": "; higher is better", "lower": "; lower is better", "none": ""}[figure.better]
    return Chart(
        figure.label + better,
        (figure.key, figure.raw_key) if figure.raw else (figure.key,),
        "share" if figure.unit == "share" else "",
        step=bool(figure.names),
        low=figure.low,
        high=figure.high,
        log=figure.log,
        names=figure.names,
        labels=("G_ema", "G") if figure.raw else (),
    )


CHARTS = (
    Chart("losses of D and G", ("loss/d", "loss/g")),
    Chart("D's mean output for real and generated images", ("loss/real_logit", "loss/fake_logit")),
    Chart("losses of the heads on features, and of G by them", ("loss/d_features", "loss/g_features")),
    Chart("gradient penalty, before its weight", ("loss/penalty",)),
    Chart(
        "overfitting of D, r_t (0: none, 1: complete)",
        ("loss/r_t", "loss/r_t_features"),
        labels=("r_t", "r_t of the heads"),
    ),
    *map(chart_of, FIGURES),
    Chart("resolution (px)", ("growth/res",), step=True),
    Chart("alpha, weight of the newest block", ("growth/alpha",)),
    Chart("batch", ("growth/batch",), step=True),
    Chart("learning rate", ("growth/lr",), step=True),
    Chart("rollbacks", ("growth/attempt",), step=True),
    Chart("probability of augmentation (ADA)", ("growth/ada_p",)),
    Chart("images per second", ("speed/images_per_s",)),
    Chart("share of the time outside training steps", ("speed/data_share", "speed/other_share"), "share"),
    Chart("share of the time for evaluations", ("speed/eval_share",), "share"),
    Chart("peak memory", ("memory/peak_bytes",), "bytes"),
    Chart("time since the start", ("wall/seconds",), "seconds"),
)
SMOOTHED, MIN_SMOOTHED = "loss/", 150  # from so many records on, these curves get a running mean
MEAN = " mean"  # ending of its key


def charts(table: dict[str, np.ndarray]) -> list[dict]:
    """The charts of the columns in `table`, group by group, as page.js draws them. Unknown keys get plain charts."""
    ends = {key + end for key in table for end in ("_low", "_high") if {key + "_low", key + "_high"} <= set(table)}
    keys = [key for key in table if key not in ends | {"nimg", "kimg"} and not key.endswith(MEAN)]
    known = {key for chart in CHARTS for key in chart.keys}
    plain = [Chart(_name(key), (key,)) for key in keys if key not in known]
    found = [chart for chart in (*CHARTS, *plain) if set(chart.keys) & set(keys)]
    groups = list(dict.fromkeys(chart.group for chart in (*CHARTS, *plain)))
    return [drawn(chart, table) for chart in sorted(found, key=lambda chart: groups.index(chart.group))]


def drawn(chart: Chart, table: dict[str, np.ndarray]) -> dict:
    """A chart for page.js. Of each series: its key, name, and the keys of its band (low, high) and running mean."""
    labels = chart.labels or tuple(map(_name, chart.keys))
    lines = []
    for key, label in zip(chart.keys, labels, strict=True):
        if key in table:
            others = {"low": f"{key}_low", "high": f"{key}_high", "mean": key + MEAN}
            lines.append({"key": key, "name": label} | {kind: at for kind, at in others.items() if at in table})
    positive = all(not (table[key] <= 0).any() for key in chart.keys if key in table)
    return {**asdict(chart), "group": chart.group, "log": chart.log and positive, "series": lines}


def _name(key: str) -> str:
    return key.rpartition("/")[2].replace("_", " ")


def marks(growth: list[dict]) -> list[dict]:
    """The vertical lines in the charts: the start of each stage, and each rollback."""
    found = []
    for entry in growth:
        labels = {"grow": f"{entry.get('to_res')} px", "rollback": "rollback"}
        if label := labels.get(entry["action"]):
            found.append({"kimg": entry["nimg"] / 1000, "action": entry["action"], "label": label})
    return found


def fades(table: dict[str, np.ndarray]) -> list[list[float]]:
    """[start, end] of each fade in kimg: from the last record before it to the first one after it."""
    alpha = table.get("growth/alpha", np.empty(0))
    known = np.isfinite(alpha)
    kimg, fading = table["kimg"][: len(known)][known], alpha[known] < 1
    edges = np.flatnonzero(np.diff(np.concatenate([[False], fading, [False]])))
    return [
        [float(kimg[max(first - 1, 0)]), float(kimg[min(end, len(kimg) - 1)])] for first, end in edges.reshape(-1, 2)
    ]


def alpha_of(res: int, nimg: int, table: dict[str, np.ndarray], growth: list[dict]) -> float:
    """alpha of a grid, interpolated between the records of its resolution; it starts at 0 where the run grew."""
    known = {entry["nimg"]: 0.0 for entry in growth if entry["action"] == "grow" and entry.get("to_res") == res}
    if "growth/alpha" in table:
        here = (table["growth/res"] == res) & np.isfinite(table["growth/alpha"])
        known |= dict(zip(table["nimg"][here], table["growth/alpha"][here], strict=True))
    return float(np.interp(nimg, *zip(*sorted(known.items()), strict=True))) if known else 1.0


def curves(table: dict[str, np.ndarray], growth: list[dict]) -> str:
    """The content of all charts as JSON: {charts, marks, fades, data: {key: [numbers or null]}}."""
    count = len(table["kimg"])
    smoothed = [key for key in table if key.startswith(SMOOTHED)] if count >= MIN_SMOOTHED else []
    points = thinned(table) | {key + MEAN: running_mean(table[key], count // 40) for key in smoothed}
    about = {"charts": charts(points), "marks": marks(growth), "fades": fades(table)}
    columns = [
        f"{json.dumps(key)}:[{_numbers(values, 9 if key == 'kimg' else 5)}]"
        for key, values in points.items()
        if key != "nimg"
    ]
    return f'{json.dumps(about)[:-1]}, "data": {{{",".join(columns)}}}}}'


def _numbers(values: np.ndarray, digits: int) -> str:
    return ",".join(f"{value:.{digits}g}" if math.isfinite(value) else "null" for value in values.tolist())
