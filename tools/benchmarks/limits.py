"""What a run costs beside its training steps, each figure beside its limit. Runs train.py in processes of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from benchmarks.figures import Figure, clocked

ROOT = Path(__file__).resolve().parent.parent.parent


def limits(folder: Path, data: str = "builtin", images: int = 1400, repeat: int = 5) -> list[Figure]:
    """All figures, with caches and runs in `folder`. images: of builtin. repeat: repetitions of each start."""
    train = [sys.executable, str(ROOT / "train.py")]
    source = ["--data", data, "--builtin-images", str(images), "--wandb", "off"]
    start = [*train, "--preset", "cpu", *source]
    helps = [timed([*train, "--help"]) for _ in range(repeat)]
    packs = []
    for number in range(3):
        cache = folder / f"cache{number}"
        packs.append(until_packed([*start, "--cache", str(cache), "--out", str(folder / f"packed{number}")]))
    first = [
        until_first_step([*start, "--cache", str(folder / "cache0"), "--out", str(folder / f"start{number}")])
        for number in range(repeat)
    ]
    smoke = folder / "smoke"
    whole = timed([*train, "--preset", "smoke", "--out", str(smoke), "--cache", str(folder / "cache0")])
    data_share, other_share = shares(smoke)
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
    return clocked(lambda: subprocess.run(command, check=True, capture_output=True))


def until(command: list[str], done: Callable[[], bool]) -> float:
    """Seconds from the start of a command until `done`; then it is killed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not done():
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with {process.returncode} too soon")
            time.sleep(0.01)
        return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()


def until_packed(command: list[str]) -> float:
    """Seconds from the start of a command to the end of its packing. The cache must be empty."""
    config = Path(command[command.index("--out") + 1]) / "config.json"  # is written after packing
    return until(command, config.exists)


def until_first_step(command: list[str]) -> float:
    """Seconds from the start of a command to the record of its first step."""
    metrics = Path(command[command.index("--out") + 1]) / "metrics.jsonl"
    return until([*command, "--record-kimg", "0.001"], lambda: metrics.exists() and metrics.stat().st_size > 0)


def shares(run: Path) -> tuple[float, float]:
    """(waiting for data in % of the step time, everything but the steps in % of all time), means weighted by time."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ends = [0.0, *(record["wall/seconds"] for record in records)]
    spans = [end - start for start, end in pairwise(ends)]
    steps = sum(span * (1 - record["speed/other_share"]) for span, record in zip(spans, records, strict=True))
    data = sum(span * record["speed/data_share"] for span, record in zip(spans, records, strict=True))
    return 100 * data / steps, 100 * (1 - steps / ends[-1])
