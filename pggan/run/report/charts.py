"""Which records are drawn in which chart, and where the stages lie."""

import json
import math

import numpy as np

from pggan.run.report.records import running_mean, thinned

TOGETHER = {  # keys that are drawn in one chart: its title
    ("loss/d", "loss/g"): "losses of D and G",
    ("loss/real_logit", "loss/fake_logit"): "D's outputs for real and fake pictures",
    ("quality/rfd", "quality/raw_rfd"): "RFD of the average, and of G itself (lower is better; not an FID)",
    ("quality/kid_rand", "quality/raw_kid_rand"): "kernel distance of random features (0: none)",
    (
        "diversity/score",
        "diversity/raw_score",
    ): "diversity D of the average, and of G itself (1: as varied as the pictures)",
    ("diversity/duplicate_share", "diversity/dropped_share", "diversity/copied_share"): (
        "share of samples that are near-duplicates; of pictures left out; of samples that are copies"
    ),
    ("speed/data_share", "speed/other_share"): "share of the time outside the step",
}
TITLES = {
    "loss/penalty": "gradient penalty",
    "growth/res": "resolution (px)",
    "growth/alpha": "alpha, the weight of the newest block",
    "growth/batch": "batch",
    "growth/lr": "learning rate",
    "growth/attempt": "attempt (one more after each rollback)",
    "diversity/effective_samples": "so many different pictures would be as varied",
    "diversity/coverage": "coverage of the pictures",
    "diversity/verdict": "verdict: 0 healthy, 1 partial collapse, 2 collapsed, 3 memorization",
    "speed/images_per_s": "images a second",
    "speed/eval_share": "share of the time that measuring took",
    "memory/peak_bytes": "most memory in use",
    "wall/seconds": "time spent",
}
GROUPS = ("loss", "quality", "diversity", "growth", "speed", "memory", "wall")  # the first ones; then as they occur
NOISY, ENOUGH = ("loss/",), 150  # from so many records on, a running mean is drawn over these
MEAN = " mean"  # what its key ends in
STEPS = ("growth/res", "growth/batch", "growth/lr", "growth/attempt", "diversity/verdict")  # these jump
KINDS = {"_bytes": "bytes", "_share": "share", "/seconds": "seconds"}  # how their numbers are written


def charts(keys: list[str]) -> list[dict]:
    """The charts of the page in order: {group, title, kind, step, series: [{key, name, low, high, mean}]}."""
    keys = [key for key in keys if key not in ("nimg", "kimg")]
    ends = {key + end for key in keys for end in ("_low", "_high") if {key + "_low", key + "_high"} <= set(keys)}
    means = {key for key in keys if key.endswith(MEAN)}
    keys = [key for key in keys if key not in ends | means]
    bundles = [tuple(key for key in bundle if key in keys) for bundle in TOGETHER]
    titles = dict(zip(bundles, TOGETHER.values(), strict=True))
    done, out = set(), []
    for key in keys:
        if key not in done:
            bundle = next((bundle for bundle in bundles if key in bundle), (key,))
            done |= set(bundle)
            out.append(chart(bundle, titles.get(bundle), ends | means))
    order = {group: number for number, group in enumerate(GROUPS)}
    return sorted(out, key=lambda item: order.get(item["group"], len(order)))


def chart(bundle: tuple[str, ...], title: str | None, others: set[str]) -> dict:
    group, _, name = bundle[0].rpartition("/")
    kind = next((kind for end, kind in KINDS.items() if bundle[0].endswith(end)), "plain")
    return {
        "group": group.partition("/")[0] or "other",
        "title": title or TITLES.get(bundle[0], name.replace("_", " ")),
        "kind": kind,
        "step": bundle[0] in STEPS,
        "series": [series(key, others) for key in bundle],
    }


def series(key: str, others: set[str]) -> dict:
    """One line of a chart; low, high, mean: the keys of the band around it and of its running mean, if any."""
    band = {"low": key + "_low", "high": key + "_high"} if key + "_low" in others else {}
    mean = {"mean": key + MEAN} if key + MEAN in others else {}
    return {"key": key, "name": key.rpartition("/")[2].replace("_", " "), **band, **mean}


def marks(growth: list[dict]) -> list[dict]:
    """The lines across the charts: each stage's beginning, and each rollback."""
    labels = {"grow": lambda entry: f"{entry.get('to_res')} px", "rollback": lambda _: "rollback"}
    return [
        {"kimg": entry["nimg"] / 1000, "action": entry["action"], "label": labels[entry["action"]](entry)}
        for entry in growth
        if entry["action"] in labels
    ]


def fades(table: dict[str, np.ndarray], growth: list[dict]) -> list[list[float]]:
    """[from, to] in kimg of every stretch of records in which alpha is below 1."""
    alpha = table.get("growth/alpha", np.empty(0))
    known = np.isfinite(alpha)
    kimg, alpha = table["kimg"][known], alpha[known]
    starts = np.array([entry["nimg"] / 1000 for entry in growth if entry["action"] == "grow"])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], alpha < 1, [False]])))
    out = []
    for first, end in edges.reshape(-1, 2):
        before = kimg[first - 1] if first else -math.inf
        begun = starts[(starts >= before) & (starts <= kimg[first])]
        start = begun.max() if len(begun) else kimg[first]
        out.append([float(start), float(_whole(start, kimg[end - 1], alpha[end - 1], kimg[end:]))])
    return out


def _whole(start: float, kimg: float, alpha: float, later: np.ndarray) -> float:
    """Where a fade from `start` that is at `alpha` comes to its end; no further than the records go."""
    if not len(later) or alpha <= 0:
        return later[0] if len(later) else kimg
    return min(start + (kimg - start) / alpha, later[0])


def alpha_of(res: int, nimg: int, table: dict[str, np.ndarray], growth: list[dict]) -> float:
    """The weight of the newest block in a grid, from the records of its resolution around it."""
    starts = [entry["nimg"] for entry in growth if entry["action"] == "grow" and entry.get("to_res") == res]
    alpha, at_res = table.get("growth/alpha", np.empty(0)), table.get("growth/res", np.empty(0)) == res
    here = at_res & np.isfinite(alpha) if len(alpha) == len(at_res) else np.zeros(0, bool)
    shown, alphas = table["nimg"][: len(here)][here], alpha[: len(here)][here]
    if starts:
        shown, alphas = np.insert(shown, 0, starts[-1]), np.insert(alphas, 0, 0.0)
    return float(np.interp(nimg, shown, alphas)) if len(shown) else 1.0


def drawn(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The points of every curve: thinned, and with a running mean where many records make it hard to see one."""
    count = len(table["kimg"])
    noisy = [key for key in table if key.startswith(NOISY)] if count >= ENOUGH else []
    return thinned(table) | {key + MEAN: running_mean(table[key], count // 40) for key in noisy}


def curves(table: dict[str, np.ndarray], growth: list[dict]) -> str:
    """What the page draws, as JSON: {charts, marks, fades, data: {key: [numbers or null]}}."""
    thin = drawn(table)
    rest = {"charts": charts(list(thin)), "marks": marks(growth), "fades": fades(table, growth)}
    columns = [
        f"{json.dumps(key)}:[{_numbers(values, 9 if key == 'kimg' else 5)}]"
        for key, values in thin.items()
        if key != "nimg"
    ]
    return f'{json.dumps(rest)[:-1]}, "data": {{{",".join(columns)}}}}}'


def _numbers(values: np.ndarray, digits: int) -> str:
    return ",".join(f"{value:.{digits}g}" if math.isfinite(value) else "null" for value in values.tolist())
