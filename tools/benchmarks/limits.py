"""What a run costs beside its training steps, each figure beside its limit. Runs train.py in processes of its own."""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Figure:
    """Values in `unit`, whose median should be at most `limit`."""

    name: str
    unit: str
    limit: float
    values: list[float]

    def __str__(self) -> str:
        middle = median(self.values)
        limit = f"limit {self.limit:<5g} {'ok' if middle <= self.limit else 'OVER':<5}"
        spread = f"{min(self.values):.3g} to {max(self.values):.3g}, n {len(self.values)}"
        return f"{self.name:<56} {middle:9.3g} {self.unit:<4} {limit} ({spread})"


def as_dict(figures: list[Figure]) -> dict[str, object]:
    """The figures for JSON, with facts about the machine."""
    facts = {"python": platform.python_version(), "machine": platform.processor() or platform.machine()}
    return {**facts, "figures": [{**vars(figure), "median": median(figure.values)} for figure in figures]}


def limits(folder: Path, data: str = "builtin", images: int = 1400, repeat: int = 5) -> list[Figure]:
    """All figures, with caches and runs in `folder`. images: of builtin. repeat: repetitions of each start."""
    train = [sys.executable, str(ROOT / "train.py")]
    start = [*train, "--preset", "cpu", "--data", data, "--builtin-images", str(images), "--wandb", "off"]
    cache = ["--cache", str(folder / "cache0")]
    helps = [timed([*train, "--help"]) for _ in range(repeat)]
    packs = [until_packed([*start, "--cache", str(folder / f"cache{n}")], folder / f"packed{n}") for n in range(3)]
    first = [until_first_step([*start, *cache], folder / f"start{n}") for n in range(repeat)]
    whole = timed([*train, "--preset", "smoke", "--out", str(folder / "smoke"), *cache])
    data_share, other_share = shares(folder / "smoke")
    return [
        Figure("train.py --help", "s", 0.5, helps),
        Figure("packing at 32 to 256 px, from the start of the command", "s", 30, packs),
        Figure("start with a packed cache, to the end of the first step", "s", 5, first),
        Figure("smoke, 32 to 256 px, whole", "s", 180, [whole]),
        Figure("waiting for data, of step time (smoke)", "%", 2, [data_share]),
        Figure("everything but the steps, of the run (smoke)", "%", 5, [other_share]),
    ]


def timed(command: list[str]) -> float:
    """Seconds that a command takes. It must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def until(command: list[str], done: Callable[[], bool]) -> float:
    """Seconds from the start of a command until `done`; then it is killed."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not done():
                if process.poll() is not None:
                    raise RuntimeError(f"{' '.join(command)} ended with {process.returncode} too soon")
                time.sleep(0.01)
            return time.perf_counter() - start
        finally:
            process.kill()


def until_packed(command: list[str], out: Path) -> float:
    """Seconds from the start of a run in `out` to the end of its packing. Its cache must be empty."""
    return until([*command, "--out", str(out)], (out / "config.json").exists)  # it is written after packing


def until_first_step(command: list[str], out: Path) -> float:
    """Seconds from the start of a run in `out` to the record of its first step."""
    metrics = out / "metrics.jsonl"
    command = [*command, "--out", str(out), "--record-kimg", "0.001"]
    return until(command, lambda: metrics.exists() and metrics.stat().st_size > 0)


def shares(run: Path) -> tuple[float, float]:
    """(waiting for data in % of the step time, everything but the steps in % of all time), means weighted by time."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ends = [0.0, *(record["wall/seconds"] for record in records)]
    spans = [end - start for start, end in pairwise(ends)]
    steps = sum(span * (1 - record["speed/other_share"]) for span, record in zip(spans, records, strict=True))
    data = sum(span * record["speed/data_share"] for span, record in zip(spans, records, strict=True))
    return 100 * data / steps, 100 * (1 - steps / ends[-1])
