#!/usr/bin/env python3
"""Measures speed on a GPU within ten minutes. Example: `python experiments/speed/gpu.py --json results/speed/gpu.json`.

It measures the rate of a bf16 matrix product; our steps with the relativistic loss, R1 and R2 in every step, at each
resolution, uncompiled and then compiled; the time of fetching batches; and pro-gan-pth beside ours, if it is installed.
Needs torch, numpy, Pillow and tqdm only. The figures are written after each part.
"""

import argparse
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import environment  # noqa: F401
import machine
import peers
import torch
from case import OURS, Case
from compare import as_it_comes, choices, here, play, write
from waiting import waiting
from worker import SideFailed, Worker, finish

# stylegan2-ada-pytorch, README.md, "Expected training time": sec/kimg of one V100, --cfg=auto --aug=ada
PUBLISHED = {128: (12.8, 13.7), 256: (21.6, 24.2), 512: (72.5, 74.9)}
MOST_S_PER_KIMG = {256: 2.0}
LEAST_SHARE = 0.35  # of the matrix rate
MOST_WAITING = 0.01  # of the time, for fetching batches
PEER = "pro-gan-pth"


class OutOfTimeError(Exception):
    """The time of --minutes is over."""


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    report = {"machine": machine.facts(), "published": PUBLISHED, "failed": {}}
    report |= {"matrix_flop_per_s": [], "ours": [], "data": [], "matches": []}
    write(args.json, report)
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.alarm(round(60 * args.minutes))
    try:
        Measuring(args, report).all()
    except OutOfTimeError:
        print(f"{args.minutes:g} minutes are over: the rest was not measured", flush=True)
    signal.alarm(0)
    report["machine"]["load_after"] = machine.load()
    write(args.json, report)
    print("\n".join(["", *goals(report)]))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--res", nargs="+", type=int, default=[256, 128, 64], help="pixels, most important first (default: 256 128 64)"
    )
    parser.add_argument(
        "--batch",
        nargs="+",
        type=int,
        default=[64],
        help="the first value everywhere, others at the first --res",
    )
    parser.add_argument("--fmap-base", type=int, default=4096)
    parser.add_argument("--fmap-max", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement (default: %(default)g)")
    parser.add_argument("--compile", nargs="+", default=["off", "on"], choices=["off", "on"], help="ours only")
    parser.add_argument("--minutes", type=float, default=9, help="it ends after this time (default: %(default)g)")
    parser.add_argument("--matrix", type=int, default=8192, help="rows of the square matrices (default: %(default)d)")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu only to try this script")
    parser.add_argument("--json", help="file for all figures")
    return parser.parse_args(argv)


def _out_of_time(*_) -> None:
    raise OutOfTimeError


class Measuring:
    """Fills a report part by part, and writes it after each."""

    def __init__(self, args: argparse.Namespace, report: dict):
        self.args, self.report = args, report
        self.setting = Case(OURS, 0, fmap_base=args.fmap_base, fmap_max=args.fmap_max, device=args.device)

    def all(self) -> None:
        """Measures everything, most important first. Compiling may take minutes. Raises OutOfTimeError."""
        first, batch = self.args.res[0], self.args.batch[0]
        self.part("matrix product", self.matrix)
        for number, compiled in enumerate(self.args.compile):
            for res in self.args.res:
                self.part(f"ours at {res} px, compile {compiled}", self.ours, self.case(res, batch, compiled))
            if number == 0:
                self.part("fetching batches", self.data, self.case(first, batch, compiled))
        for more in self.args.batch[1:]:
            self.part(f"ours at {first} px, batch {more}", self.ours, self.case(first, more, compiled))
        if here(PEER):
            self.report[PEER] = peers.version(PEER)
            for res in dict.fromkeys((first, self.args.res[-1])):
                self.part(f"{PEER} at {res} px", self.beside, replace(self.setting, res=res, batch=batch))

    def part(self, name: str, function: Callable[..., None], *case: Case) -> None:
        began = time.monotonic()
        try:
            function(*case)
        except (SideFailed, RuntimeError) as error:  # go on with the other parts
            self.report["failed"][name] = f"{type(error).__name__}: {error}"
            print(f"{name} failed: {error}", flush=True)
        write(self.args.json, self.report)
        print(f"[{name}: {time.monotonic() - began:.0f} s]", flush=True)

    def matrix(self) -> None:
        self.report["matrix_flop_per_s"] = rates = matrix_rates(self.args.matrix, self.args.device, self.args.rounds)
        print(f"bf16 matrix product: {median(rates) / 1e12:.3g} TFLOP/s ({self.args.matrix} cubed)", flush=True)

    def ours(self, case: Case) -> None:
        rates = self.report["matrix_flop_per_s"]
        self.report["ours"].append(row := alone(case, self.args, median(rates) if rates else None))
        print(ours_line(row), flush=True)

    def data(self, case: Case) -> None:
        self.report["data"].append(row := waiting(case, self.args.rounds, self.args.seconds))
        print(f"{case.res} px: {row['host_share']:.2%} of the time goes to fetching batches", flush=True)

    def beside(self, case: Case) -> None:
        ours, theirs = (
            choices(case, half=True, compiled=self.args.compile[-1:]),
            choices(replace(case, side=PEER), half=True),
        )
        match = play(ours, theirs, self.args.rounds, self.args.seconds)
        self.report["matches"].append(match.as_json())
        print("\n".join(match.lines()), flush=True)

    def case(self, res: int, batch: int, compiled: str) -> Case:
        """Ours with the relativistic loss and the precision of its defaults."""
        case = replace(self.setting, res=res, batch=batch, loss="relativistic")
        return replace(as_it_comes(case), compile=compiled)


def matrix_rates(size: int, device: str, repeat: int) -> list[float]:
    """FLOP/s of a product of two square bf16 matrices, `repeat` values, each of ten products."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(repeat + 1):
        finish(device)
        start = time.perf_counter()
        for _ in range(10):
            a @ b
        finish(device)
        rates.append(10 * 2 * size**3 / (time.perf_counter() - start))
    return rates[1:]


def alone(case: Case, args: argparse.Namespace, rate: float | None) -> dict:
    """Our s/kimg (one value a round), share of `rate` (FLOP/s of the matrix product), and memory."""
    with Worker(case) as worker:
        counted = worker.work()
        turns = [worker.measure(args.seconds) for _ in range(args.rounds)]
        start = worker.seconds_to_start
    s_per_kimg = [1000 * turn["seconds"] / turn["images"] for turn in turns]
    flop_per_s = counted["flop_step"] * 1000 / median(s_per_kimg)
    return {
        **{key: getattr(case, key) for key in ("res", "batch", "loss", "penalty_interval", "precision")},
        "variant": case.variant(),
        "s_per_kimg": s_per_kimg,
        "seconds_to_start": start,
        "peak_bytes": turns[0].get("peak_bytes"),
        "flop_per_s": flop_per_s,
        "limit_share": rate and flop_per_s / rate,
        **counted,
    }


def ours_line(row: dict) -> str:
    values, peak = row["s_per_kimg"], row["peak_bytes"]
    memory = f"{peak / 2**30:.1f} GiB" if peak else "memory not known"
    share = f"{row['limit_share']:.1%}" if row["limit_share"] else "an unknown share"
    return (
        f"{row['res']} px, batch {row['batch']}, {row['variant']}: {median(values):.3g} s/kimg ({min(values):.3g} to "
        f"{max(values):.3g}, n {len(values)}), {row['flop_step'] / 1e9:.0f} GFLOP an image, "
        f"{share} of the matrix rate, {memory}, first steps after {row['seconds_to_start']:.0f} s"
    )


def goals(report: dict) -> list[str]:
    """A line for each goal: value, limit, reached or not. Each resolution counts with its fastest setting."""
    best: dict[int, dict] = {}
    for row in sorted(report["ours"], key=lambda row: median(row["s_per_kimg"])):
        best.setdefault(row["res"], row)
    speeds = {res: median(row["s_per_kimg"]) for res, row in best.items()}
    lines = [goal(f"{res} px, s/kimg", speeds[res], most) for res, most in MOST_S_PER_KIMG.items() if res in speeds]
    low, high = min(speeds, default=0), max(speeds, default=0)
    if best and best[high]["limit_share"]:
        lines.append(goal(f"{high} px, of the matrix rate", best[high]["limit_share"], LEAST_SHARE, at_least=True))
    if low < high:
        lines.append(goal(f"cost of {high} px over {low} px, times", speeds[high] / speeds[low], (high / low) ** 2))
    lines += [goal(f"{row['res']} px, of the time for data", row["host_share"], MOST_WAITING) for row in report["data"]]
    for res in sorted(speeds.keys() & PUBLISHED.keys()):
        theirs = "{} to {}".format(*PUBLISHED[res])
        lines.append(f"{res} px: {speeds[res]:.3g} s/kimg here, stylegan2-ada-pytorch as published (V100): {theirs}")
    return lines


def goal(name: str, value: float, limit: float, at_least: bool = False) -> str:
    reached = value >= limit if at_least else value <= limit
    return f"{name}: {value:.3g}, at {'least' if at_least else 'most'} {limit:g}: {'ok' if reached else 'NOT REACHED'}"


if __name__ == "__main__":
    main()
