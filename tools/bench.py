#!/usr/bin/env python3
"""Measurements, held against their limits.

`python tools/bench.py limits`: what everything beside the step of a run costs.
`python tools/bench.py metrics`: what measuring quality costs, beside the usual library in the same run.
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
import unittest.mock
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
    """Measure what a run costs beside its steps, or what measuring its pictures costs."""

    what: Annotated[Literal["limits", "metrics"], tyro.conf.Positional] = "limits"
    """limits: start-up, packing, the cached start, waiting for data, and everything else but the step. metrics: the
    features and the distance of FID."""
    data: str = "builtin"
    """Pictures for the packing and the start; 1,400 of them are what the limits are meant for."""
    pictures: int = 1400
    """How many built-in pictures, when --data is builtin."""
    repeat: int = 5
    """Repetitions of each start, and of each measurement of metrics; the median counts."""
    json: str | None = None
    """A file for the figures."""


@dataclass(frozen=True)
class Figure:
    """One measurement: `values` in `unit`, whose median should be at most `limit`, or `at_least` that, or anything."""

    name: str
    unit: str
    limit: float | None
    values: list[float]
    at_least: bool = False

    @property
    def median(self) -> float:
        return sorted(self.values)[len(self.values) // 2]

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        if self.at_least:
            return "ok" if self.median >= self.limit else "UNDER"
        return "ok" if self.median <= self.limit else "OVER"

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"limit {self.limit:<5g} {self.verdict:<5}"
        spread = f"{min(self.values):.3g} to {max(self.values):.3g}, n {len(self.values)}"
        return f"{self.name:<52} {self.median:9.3g} {self.unit:<8} {limit:<17} ({spread})"


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="bench.py")
    with tempfile.TemporaryDirectory() as folder:
        figures = limits(args, Path(folder)) if args.what == "limits" else metrics(args, Path(folder))
    for figure in figures:
        print(figure)
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


# ---- metrics: each function gives its figures; torch and the libraries beside it are loaded here only


def metrics(args: Args, folder: Path) -> list[Figure]:
    """All of METRICS, as many times as --repeat says, on as many cores as torch takes."""
    return [figure for measure in METRICS for figure in measure(args.repeat, folder)]


def inception_figures(repeat: int, folder: Path, pictures: int = 50) -> list[Figure]:
    """Our features beside those of pytorch-fid's own network: the same weights and pictures, in turns.

    pictures: at a time; pytorch-fid's own default.
    """
    import numpy as np
    import torch

    from pggan.data.builtin import draw
    from pggan.metrics import inception

    state = random_weights(torch.Generator().manual_seed(0))
    torch.save(state, folder / "weights.pth")
    ours, theirs = inception.open_network(str(folder / "weights.pth")), pytorch_fid_network(state)
    drawn = [draw(0, index, 299, 299)[0] for index in range(pictures)]
    images = torch.from_numpy(np.stack(drawn)).movedim(-1, 1).contiguous()  # uint8 [N, 3, 299, 299]

    @torch.no_grad()
    def reference(batch: int = pictures):
        # it takes 0..1 to -1..1; the same values as ours
        return np.concatenate([theirs(part.float() / 256)[0][:, :, 0, 0] for part in images.split(batch)])

    wanted = reference()
    error = np.abs(ours.features(images) - wanted).max() / np.abs(wanted).max()
    seconds = in_turns(repeat, lambda: ours.features(images), reference, lambda: reference(8))
    mine, whole, parts = ([pictures / taken for taken in column] for column in zip(*seconds, strict=True))
    return [
        Figure("Inception features, speed over pytorch-fid's network", "x", 1.5, [b / a for a, b, _ in seconds], True),
        Figure("- over the same in batches of 8, its best", "x", None, [c / a for a, _, c in seconds]),
        Figure("- ours", "images/s", None, mine),
        Figure("- pytorch-fid", "images/s", None, whole),
        Figure("- pytorch-fid in batches of 8", "images/s", None, parts),
        Figure("- largest difference of a feature, of the largest", "", 1e-4, [float(error)]),
    ]


def frechet_figures(repeat: int, folder: Path) -> list[Figure]:
    """Of two sets with full covariances of 2048 features, the most work there is; their moments are taken before."""
    import numpy as np

    from pggan.metrics.frechet import frechet_distance, moments

    rng = np.random.default_rng(0)
    mix = rng.standard_normal((2048, 2048), dtype=np.float32) / 45
    one, two = (moments(rng.standard_normal((2500, 2048), dtype=np.float32) @ mix + shift) for shift in (0, 0.1))
    taken = [seconds for (seconds,) in in_turns(repeat, lambda: frechet_distance(one, two))]
    return [Figure("Frechet distance, two sets of 2,500 by 2048", "s", 1.5, taken)]


def diversity_figures(repeat: int, folder: Path, count: int = 500) -> list[Figure]:
    """The score D with its interval, beyond features; and all that is measured of so many samples, features too."""
    import numpy as np

    from pggan.data.builtin import draw
    from pggan.metrics.diversity import diversity
    from pggan.metrics.reference import Reference
    from pggan.metrics.scores import score

    reals, fakes = (np.stack([draw(seed, i, 64, 64)[0] for i in range(n)]) for seed, n in ((0, 2 * count), (1, count)))
    against = Reference.of(reals)
    z = against.held_z[::-1].copy()
    seconds = in_turns(repeat, lambda: diversity(z, against.held), lambda: score(against, fakes))
    alone, whole = map(list, zip(*seconds, strict=True))
    return [
        Figure(f"D with its interval, {count} samples, beyond features", "s", 1, alone),
        Figure(f"- every measure of {count} samples of 64 px, features and copies included", "s", None, whole),
    ]


METRICS = (inception_figures, frechet_figures, diversity_figures)


def in_turns(repeat: int, *functions: Callable[[], object]) -> list[tuple[float, ...]]:
    """Seconds of each function, one after the other, `repeat` times; every one has run once before."""
    for function in functions:
        function()
    return [tuple(clocked(function) for function in functions) for _ in range(repeat)]


def clocked(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def random_weights(generator) -> dict:
    """A state dict as it is published, of Inception's shapes, drawn from a torch.Generator.

    He et al. 2015 with batch norms of all sorts, so that features of different pictures differ.
    """
    import torch

    from pggan.metrics.inception_layers import Inception

    def drawn(name: str, like: torch.Tensor) -> torch.Tensor:
        if like.ndim == 4:
            return torch.randn(like.shape, generator=generator) * (2 / like[0].numel()) ** 0.5
        if name.endswith(("running_var", "bn.weight")):
            return torch.rand(like.shape, generator=generator) + 0.5
        if like.ndim == 0:
            return torch.tensor(1)  # batches counted
        return torch.randn(like.shape, generator=generator) * 0.2

    with torch.device("meta"):
        empty = Inception().state_dict()
    return {name: drawn(name, like) for name, like in empty.items()}


def pytorch_fid_network(state: dict):
    """pytorch-fid's network up to the 2048 features, with these weights, for pictures of 299 px within 0..1."""
    from pytorch_fid import inception

    with unittest.mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
        return inception.InceptionV3(resize_input=False).eval()


if __name__ == "__main__":
    cli.run(main)
