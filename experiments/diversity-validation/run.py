#!/usr/bin/env python3
"""Is the verdict right, and where do other measures fail? Measures every case with every measure, into one JSON.

    python experiments/diversity-validation/run.py --folders paintings=DIR monet=DIR --collapsed DIR --trained DIR

All flags are optional; sources that are not given are missing from the table. Parts that are finished in --runs are not
measured again. `--figures-only` makes the table and the plots of the finished parts.
"""

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from baselines import SIGNALS, baselines  # noqa: E402
from cases import HEALTHY, NOT_HEALTHY, TOO_EARLY, Case, cases, held_out, other_pictures  # noqa: E402
from collapse import RUNS, SEEN  # noqa: E402
from pictures import DRAWN, Pictures, Split, folder, split  # noqa: E402

from pggan.evaluation.grids import split_grid  # noqa: E402
from pggan.evaluation.samples import draw  # noqa: E402
from pggan.metrics.random_features import random_features  # noqa: E402
from pggan.metrics.reference import Reference  # noqa: E402
from pggan.metrics.scores import Scores, score  # noqa: E402
from pggan.metrics.small_images import read_one  # noqa: E402
from pggan.metrics.verdict import VERDICTS  # noqa: E402
from pggan.run.run_dir import commit  # noqa: E402
from pggan.training.loading import load_generator  # noqa: E402

# name            how         seed  images    fakes  part; the thresholds were chosen on the development part
SOURCES = {
    "builtin":    ("builtin",   0,    2500,   500,   "development"),
    "shapes":     ("shapes",    0,    2000,   300,   "development"),
    "builtin 2":  ("builtin",   2,    2500,   500,   "frozen"),
    "shapes 2":   ("shapes",    2,    2000,   300,   "frozen"),
    "gratings":   ("gratings",  2,    2000,   300,   "frozen"),
    "close-ups":  ("close-ups", 2,    2000,   300,   "frozen"),
}  # fmt: skip
SEEN_FOLDERS = ("paintings",)  # development; all other folders are frozen
FAKES = 300  # from a folder
PRETRAINED = ("efficientnet-lite0",)
RANGE = 20  # held-out sets; other measures alarm below the lowest of them
DRAWS = {
    100: (2, 9),
    150: (2, 7),
    300: (1, 6),
    500: (1, 4),
}  # fakes: (references, sets for each reference), for each source
COPIES_EVERY = 4  # of so many held-out sets one is searched for copies
TRUNCATED = ("builtin-paper-logistic-1", "builtin-style-logistic-1", "monet-paper-logistic-0")  # of --trained
EARLY, LEARNED = 3, 12  # kimg: until then a generator has learned nothing; from then on, something (by eye)
YOUNG_PARTS = {"monet": "development", "paintings": "frozen", "builtin 2": "frozen"}
UNJUDGED = frozenset(VERDICTS)
PSIS = {1.0: HEALTHY, 0.7: HEALTHY | NOT_HEALTHY, 0.5: NOT_HEALTHY, 0.3: NOT_HEALTHY}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", nargs="*", default=[], metavar="NAME=DIR", help="folders of images")
    parser.add_argument("--collapsed", type=Path, help="the runs of collapse.py")
    parser.add_argument("--young", type=Path, help="the runs of young.py")
    parser.add_argument("--trained", type=Path, help="the runs of experiments/side-by-side")
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "runs" / "diversity-validation", help="where finished parts are kept"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "diversity-validation")
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="PART", help="only parts with these words: shapes, draws"
    )
    parser.add_argument("--ours", action="store_true", help="only our verdict, with and without a pretrained network")
    parser.add_argument("--figures-only", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.runs.mkdir(parents=True, exist_ok=True)
    if not args.figures_only:
        for name, part in parts(args):
            if not args.only or any(word in name for word in args.only):
                measure(name, part, args.runs)
    from figures import figures, verdicts

    args.results.mkdir(parents=True, exist_ok=True)
    done = [json.loads((args.runs / f"{name}.json").read_text()) for name, _ in parts(args) if done_already(name, args)]
    if args.ours:
        (args.results / "verdicts.json").write_text(as_json(done))
        (args.results / "verdicts.md").write_text(verdicts(json.loads(as_json(done))))
        return
    (args.results / "table.json").write_text(as_json(done))
    figures(args.results, args.collapsed)


def parts(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], list[dict]]]]:
    """Everything to measure, as (name, function), in the order of the table."""
    given = [each.partition("=")[::2] for each in args.folders]
    Bench.ours = args.ours
    drawn = {name: (n, part, partial(DRAWN[how], seed, count)) for name, (how, seed, count, n, part) in SOURCES.items()}
    folders = {
        name: (FAKES, "development" if name in SEEN_FOLDERS else "frozen", partial(folder, name, path, args.runs))
        for name, path in given
    }
    for name, (n, part, pictures) in (drawn | folders).items():
        yield f"cases {name}", partial(case_rows, name, part, pictures, n)
        others = {other: how for other, (*_, how) in (drawn | folders).items() if not related(name, other)}
        yield f"others {name}", partial(other_rows, name, part, pictures, n, others)
        if args.young and (args.young / name).is_dir():
            yield f"young {name}", partial(young_rows, name, pictures, args.young / name / "samples", n)
        if args.collapsed and list(args.collapsed.glob(f"{name}-*")):
            yield f"trained to collapse {name}", partial(collapsed_rows, name, pictures, args.collapsed, n)
        if part == "frozen":
            yield f"draws {name}", partial(held_out_draws, name, pictures)
    if args.trained:
        yield "truncation", partial(truncated_rows, args.trained)


def done_already(name: str, args: argparse.Namespace) -> bool:
    return (args.runs / f"{name}.json").exists()


def measure(name: str, part: Callable[[], Iterable[dict]], runs: Path) -> None:
    """Writes runs/name.json, unless it exists."""
    path = runs / f"{name}.json"
    if path.exists():
        return
    began = time.process_time()
    rows = list(part())
    about = {"commit": commit() or "unknown", "torch": torch.__version__, "seconds": round(time.process_time() - began)}
    path.write_text(json.dumps({"name": name, **about, "rows": rows}))
    print(f"{name}: {len(rows)} in {about['seconds']} s", file=sys.stderr, flush=True)


def case_rows(name: str, part: str, pictures: Callable[[], Pictures], n: int) -> Iterator[dict]:
    bench = Bench(name, split(pictures(), 2 * n, 0))
    for case in cases(part, bench.split, n, thorough=n == 500):
        yield bench.row(part, case, n)


def other_rows(name: str, part: str, pictures: Callable[[], Pictures], n: int, others: dict) -> Iterator[dict]:
    """Measures images of other sources against those of this one."""
    bench = Bench(name, split(pictures(), 2 * n, 0))
    for case in other_pictures(others):
        yield bench.row(part, case, n)


def related(name: str, other: str) -> bool:
    """Whether two sources share images or kinds of images. The built-in images stand for all drawn ones."""
    alike = name.split()[0] == other.split()[0] or {name, other} == {"monet", "paintings"}
    return alike or other in ("builtin", "shapes", "shapes 2", "gratings", "close-ups") or "close-ups" in name


class Bench:
    """The reals of a split, measured once; cases are measured against them."""

    ours = False  # whether other measures are left out, and a pretrained network is added

    def __init__(self, source: str, split: Split) -> None:
        self.source, self.split = source, split
        self.reference = Reference.of(split.reals, more=PRETRAINED if self.ours else ())
        if self.ours:
            return
        self.pool_features = self.features(split.pool)
        self.reals = self.reference.random.astype(np.float64)

    def features(self, pictures: np.ndarray) -> np.ndarray:
        return self.reference.balance(random_features(pictures))

    @cache  # noqa: B019 - few instances, which live until the end
    def lowest(self, n: int) -> dict[str, float]:
        """{other measure: its lowest value on 20 held-out sets of n}"""
        n = min(n, len(self.split.pool))
        draws = [np.random.default_rng(seed).choice(len(self.split.pool), n, replace=False) for seed in range(RANGE)]
        found = [baselines(self.reals, self.split.pool[some], self.pool_features[some]) for some in draws]
        return {signal: min(each[signal] for each in found) for signal in SIGNALS}

    def row(self, part: str, case: Case, n: int) -> dict:
        """A line of the table."""
        key = zlib.crc32(f"{self.source} {case.group} {case.name}".encode())
        fakes = case.make(self.split, n, np.random.default_rng(key))[:n]
        found = score(self.reference, fakes, copies=case.copies)
        if self.ours:
            return self.short(part, case, found)
        others, lowest = baselines(self.reals, fakes, self.features(fakes)), self.lowest(len(fakes))
        alarm_expected = None if case.expected > HEALTHY else case.expected != HEALTHY
        return {
            "part": part,
            "source": self.source,
            "group": case.group,
            "case": case.name,
            "n": len(fakes),
            "expected": sorted(case.expected),
            "verdict": found.verdict,
            "right": found.verdict in case.expected,
            "reason": found.reason,
            "evidence": evidence(found),
            "d low": round(found.diversity.ratio_low, 3),
            "others": rounded(others),
            "lowest": rounded(lowest),
            "alarms": {signal: bool(others[signal] < lowest[signal]) for signal in SIGNALS},
            "others right": {
                signal: None if alarm_expected is None else bool((others[signal] < lowest[signal]) == alarm_expected)
                for signal in SIGNALS
            },
        }

    def short(self, part: str, case: Case, found: Scores) -> dict:
        """A line with our verdict alone; "with network": also by the dropped modes that the network sees."""
        alone, seen = replace(found, seen=PRETRAINED), {name: float(each.sum()) for name, each in found.dropped.items()}
        words = {"part": part, "source": self.source, "group": case.group, "case": case.name, "n": found.count}
        words |= {"expected": sorted(case.expected), "verdict": alone.verdict, "reason": alone.reason}
        words |= {"right": alone.verdict in case.expected, "with network": found.verdict}
        words |= {"right with network": found.verdict in case.expected, "coverage": round(found.coverage, 3)}
        return words | {"evidence": evidence(alone), "dropped": rounded(seen)}


def evidence(found: Scores) -> dict[str, float]:
    """The numbers behind a verdict. dropped: share of the reals."""
    return rounded(vars(found.evidence))


def rounded(values: dict) -> dict:
    return {
        name: round(float(value), 4) for name, value in values.items() if isinstance(value, int | float | np.number)
    }


# ---- held-out draws


def held_out_draws(name: str, drawn: Callable[[], Pictures]) -> Iterator[dict]:
    """Measures held-out sets of several sizes; a size is skipped if the source has too few images for it.

    All sets of one reference are drawn from the same remaining images, so they share some.
    """
    pictures = drawn()
    for n, (references, sets) in DRAWS.items():
        if len(pictures.images) < 4 * n:
            continue
        for seed in range(references):
            parts = split(pictures, 2 * n, 100 + seed)
            reference = Reference.of(parts.reals)
            for number in range(sets):
                fakes = held_out(parts, n, np.random.default_rng([n, seed, number]))
                found = score(reference, fakes, copies=number % COPIES_EVERY == 0)
                interval = [round(found.diversity.ratio_low, 3), round(found.diversity.ratio_high, 3)]
                yield {
                    "source": name,
                    "n": n,
                    "reals": 2 * n,
                    "copies looked for": found.copies is not None,
                    "verdict": found.verdict,
                    "reason": found.reason,
                    "evidence": evidence(found),
                    "interval": interval,
                }


# ---- generators


def collapsed_rows(name: str, pictures: Callable[[], Pictures], runs: Path, n: int) -> Iterator[dict]:
    """Measures generators that were trained to collapse, against reals of the source they were trained on."""
    bench = Bench(name, split(pictures(), 2 * n, 0))
    for run in RUNS:
        path = runs / run / "checkpoints" / "latest.pt"
        if run.startswith(f"{name}-") and path.exists():
            make = lambda split, n, rng, path=path: samples(path, n)  # noqa: E731
            case = Case("trained to collapse", run.removeprefix(f"{name}-"), make, NOT_HEALTHY | TOO_EARLY, copies=True)
            yield bench.row("development" if run in SEEN else "frozen", case, n)


def young_rows(name: str, pictures: Callable[[], Pictures], grids: Path, n: int) -> Iterator[dict]:
    """Measures the sample grids of a young generator; see young.py."""
    bench = Bench(name, split(pictures(), 2 * n, 0))
    for path in sorted(grids.glob("*.png")):
        kimg = int(path.stem.partition("-")[2]) / 1000
        expected = TOO_EARLY if kimg <= EARLY else HEALTHY | NOT_HEALTHY if kimg >= LEARNED else UNJUDGED
        make = lambda split, n, rng, path=path: np.stack([read_one(image) for image in split_grid(path)[0]])  # noqa: E731
        yield bench.row(YOUNG_PARTS[name], Case("young generators", f"{kimg:g} kimg", make, expected), n)


def truncated_rows(runs: Path) -> Iterator[dict]:
    """Measures generators against themselves: reals are samples at psi 1, fakes are other samples at psi 1 or less."""
    for run in TRUNCATED:
        path = runs / run / "checkpoints" / "latest.pt"
        if not path.exists():
            continue
        own = Pictures(run, samples(path, 4 * FAKES), None, ())
        bench = Bench(run, split(own, 2 * FAKES, 0))
        for psi, expected in PSIS.items():
            make = lambda split, n, rng, psi=psi, path=path: samples(path, n, 1, psi)  # noqa: E731
            yield bench.row("frozen", Case("truncation", f"psi = {psi}", make, expected), FAKES)


def samples(path: Path, count: int, seed: int = 0, psi: float = 1.0) -> np.ndarray:
    generator, alpha = load_generator(path)
    return draw(generator, alpha, seed, count, psi, batch=50)


def as_json(done: list[dict]) -> str:
    """JSON with one row a line."""
    about = {
        "commits": sorted({part["commit"] for part in done}),
        "torch": " and ".join(sorted({part["torch"] for part in done})),
        "core seconds": sum(part["seconds"] for part in done),
    }
    lines = [f'"about": {json.dumps(about)}']
    for key, wanted in (("rows", False), ("draws", True)):
        rows = [row for part in done for row in part["rows"] if part["name"].startswith("draws") == wanted]
        lines.append(f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]")
    return "{" + ",\n".join(lines) + "}\n"


if __name__ == "__main__":
    main()
