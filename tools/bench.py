#!/usr/bin/env python3
"""Measurements: `python tools/bench.py limits` holds what everything beside the step costs against its limits."""

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import _root  # noqa: F401  (the project on the path)
import tyro

from pggan import cli

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Args:
    """Measure what a run costs beside its steps."""

    what: Annotated[Literal["limits"], tyro.conf.Positional] = "limits"
    """limits: start-up, packing, the cached start, waiting for data, and everything else but the step."""
    data: str = "builtin"
    """Pictures for the packing and the start; 1,400 of them are what the limits are meant for."""
    pictures: int = 1400
    """How many built-in pictures, when --data is builtin."""
    repeat: int = 5
    """Repetitions of each start; the median counts."""
    json: str | None = None
    """A file for the figures."""


@dataclass(frozen=True)
class Figure:
    """One measurement: `values` in `unit`, whose median should be below `limit`."""

    name: str
    unit: str
    limit: float
    values: list[float]

    @property
    def median(self) -> float:
        return sorted(self.values)[len(self.values) // 2]


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="bench.py")
    with tempfile.TemporaryDirectory() as folder:
        figures = limits(args, Path(folder))
    for figure in figures:
        verdict = "ok" if figure.median <= figure.limit else "OVER"
        spread = f"{min(figure.values):.3g} to {max(figure.values):.3g}, n {len(figure.values)}"
        print(
            f"{figure.name:<44} {figure.median:9.3g} {figure.unit:<3} limit {figure.limit:<5g} {verdict:<5} ({spread})"
        )
    if args.json:
        facts = {"python": platform.python_version(), "machine": platform.processor() or platform.machine()}
        rows = [{**vars(figure), "median": figure.median} for figure in figures]
        Path(args.json).write_text(json.dumps({**facts, "figures": rows}, indent=2) + "\n")


def limits(args: Args, folder: Path) -> list[Figure]:
    """All the limits, with caches and runs under `folder`."""
    train = [sys.executable, str(ROOT / "train.py")]
    data = ["--data", args.data, "--builtin-pictures", str(args.pictures), "--wandb", "off"]
    start = [*train, "--preset", "cpu", *data]
    helps = [timed([*train, "--help"]) for _ in range(args.repeat)]
    packs = []
    for number in range(3):
        cache = folder / f"cache{number}"
        packs.append(until_packed([*start, "--cache", str(cache), "--out", str(folder / f"packed{number}")]))
    first = [
        until_first_step([*start, "--cache", str(folder / "cache0"), "--out", str(folder / f"start{number}")])
        for number in range(args.repeat)
    ]
    smoke = folder / "smoke"
    whole = timed([*train, "--preset", "smoke", "--out", str(smoke), "--cache", str(folder / "cache0")])
    data_share, other_share = shares(smoke)
    return [
        Figure("train.py --help", "s", 0.5, helps),
        Figure("packing at 32 to 256 px, from the command on", "s", 30, packs),
        Figure("cached start to the end of the first step", "s", 5, first),
        Figure("smoke, 32 to 256 px, whole", "s", 180, [whole]),
        Figure("waiting for data, of step time (smoke)", "%", 2, [data_share]),
        Figure("everything but the step, of the run (smoke)", "%", 5, [other_share]),
    ]


def timed(command: list[str]) -> float:
    """Seconds that a command takes, which must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def until(command: list[str], done: Callable[[], bool]) -> float:
    """Seconds from starting a command until `done`; it is ended then."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not done():
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with {process.returncode} before it was measured")
            time.sleep(0.01)
        return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()


def until_packed(command: list[str]) -> float:
    """Seconds from the command to the end of its packing; the cache must be empty."""
    return until(
        command, (Path(command[command.index("--out") + 1]) / "config.json").exists
    )  # written when all is packed


def until_first_step(command: list[str]) -> float:
    """Seconds from the command to the record of its first step."""
    out = Path(command[command.index("--out") + 1])
    metrics = out / "metrics.jsonl"
    return until([*command, "--record-kimg", "0.001"], lambda: metrics.exists() and metrics.stat().st_size > 0)


def shares(run: Path) -> tuple[float, float]:
    """(waiting for data in % of step time, everything but the step in % of the time), means weighted by time."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ends = [0.0, *(record["wall/seconds"] for record in records)]
    spans = [end - start for start, end in pairwise(ends)]
    steps = sum(span * (1 - record["speed/other_share"]) for span, record in zip(spans, records, strict=True))
    data = sum(span * record["speed/data_share"] for span, record in zip(spans, records, strict=True))
    return 100 * data / steps, 100 * (1 - steps / ends[-1])


if __name__ == "__main__":
    cli.run(main)
