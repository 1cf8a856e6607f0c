#!/usr/bin/env python3
"""Compares the speed of training steps, ours and those of other projects, on this machine, in images per second.

Example: `python experiments/speed/compare.py --json results/speed/cpu.json`.

Each side has a process of its own, which sleeps while another one is measured. Each round measures every choice of
each side (precision, memory format, compile) once; the order is reversed after each round.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

import environment  # noqa: F401
import machine
import peers
import torch
from case import OURS, Case
from ratios import KINDS, Match, Speed, work_lines
from sides import work
from worker import SideFailed, Worker

from pggan.run.devices import pick_precision

Open = Callable[[Case], Worker]
MOST_BF16 = 1.5  # bf16 is left out where it takes longer, over float32; a CPU without bf16 has about 5


def main(argv: list[str] | None = None, open_worker: Open = Worker) -> None:
    args = parse(argv)
    threads = {"threads": args.threads, "device": args.device}
    setting = Case(OURS, 0, batch=args.batch, fmap_base=args.fmap_base, fmap_max=args.fmap_max, **threads)
    report = {
        "machine": machine.facts(args.threads),
        "settings": {**vars(args), "json": None},
        "work": [],
        "matches": [],
    }
    write(args.json, report)  # fails now, not after the work, when the file cannot be written
    if report["machine"]["load"] > 0.5:
        print(f"the machine is busy: a load of {report['machine']['load']} in the last minute")
    report["bf16_over_fp32"] = slower = machine.bf16_over_fp32(args.device, args.threads)
    half = slower < MOST_BF16
    print(
        f"a convolution takes {slower:.2g} times as long in bf16, which is {'tried' if half else 'left out'}",
        flush=True,
    )
    for peer in [peer for peer in args.peers if here(peer)]:
        report[peer] = peers.version(peer)
        for ours, theirs in pairs(setting, peer, args.res):
            if theirs.alpha == 1:
                report["work"] += [count(case) for case in (ours, theirs)]
            sides = choices(ours, half, args.compile), choices(theirs, half)
            match = play(*sides, args.rounds, args.seconds, open_worker)
            print("\n".join(match.lines()), flush=True)
            report["matches"].append(match.as_json())
            write(args.json, report)
    print("\n".join(work_lines(report["work"])))
    report["machine"]["load_after"] = machine.load()
    write(args.json, report)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="+", default=list(peers.PEERS), choices=list(peers.PEERS))
    parser.add_argument("--res", nargs="+", type=int, default=[32, 64], help="pixels (default: 32 64)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--fmap-base", type=int, default=1024)
    parser.add_argument("--fmap-max", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement (default: %(default)g)")
    parser.add_argument(
        "--compile",
        nargs="+",
        default=["off", "on"],
        choices=["off", "on"],
        help="ours only; on takes minutes",
    )
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch chooses")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", help="file for all figures, written after each match")
    return parser.parse_args(argv)


def here(peer: str) -> bool:
    why = peers.missing(peer)
    if why:
        print(f"{peer} is left out: {why}")
    return why is None


def pairs(setting: Case, peer: str, resolutions: list[int]) -> Iterator[tuple[Case, Case]]:
    """(ours, theirs) of each match: with the same loss if the peer has it; stable, and in mid-fade if it has a fade."""
    for res in resolutions:
        if peer == "pro-gan-pth":
            for alpha in (1.0, 0.5):
                ours = replace(setting, res=res, alpha=alpha, loss="wgan-gp")
                yield ours, replace(ours, side=peer)
        else:  # both have a penalty on reals and fakes every fourth step
            ours = replace(setting, res=res, loss="relativistic", penalty_interval=4)
            yield ours, replace(ours, side=peer, loss="hinge")


def as_it_comes(case: Case) -> Case:
    """A side with its default settings. Ours compiles on a GPU only, as `--compile auto` does."""
    if case.side == OURS:
        precision = pick_precision("auto", torch.device(case.device))
        return replace(case, precision=precision, compile="on" if case.device == "cuda" else "off")
    return replace(case, precision="fp32", layout="contiguous")


def choices(case: Case, half: bool, compiled: Sequence[str] = ("off", "on")) -> list[Case]:
    """A side with its defaults, then with its other settings. half: bf16 too; compiled: values of compile for ours."""
    if case.side == OURS:
        ways = [{"compile": value} for value in compiled]
    else:
        ways = [{"layout": value} for value in ("contiguous", "channels_last")]
    precisions = ["fp32", "bf16"] if half else ["fp32"]
    if case.side == "lightweight-gan" and case.device == "cuda":
        precisions.append("amp")
    tried = [replace(case, precision=precision, **way) for precision in precisions for way in ways]
    return list(dict.fromkeys([as_it_comes(case), *tried]))


def play(ours: list[Case], theirs: list[Case], rounds: int, seconds: float, open_worker: Open = Worker) -> Match:
    """Measures every choice of both sides in each round. The first choice of a side is its defaults.

    A choice that fails to start is reported and left out.
    """
    with ExitStack() as stack:
        workers, failed = {}, []
        for case in [*ours, *theirs]:
            try:
                workers[case] = stack.enter_context(open_worker(case))
            except SideFailed as error:
                failed.append(str(error))
                print(error, flush=True)
        values = {case: [] for case in workers}
        for number in range(rounds):
            for case in list(workers)[:: 1 if number % 2 == 0 else -1]:
                values[case].append(images_per_s(workers[case], seconds))
    roles = {**in_roles(ours, values), **in_roles(theirs, values)}
    speeds = [Speed(case.side, case.variant(), roles[case], values[case]) for case in values]
    one = ours[0]
    loss = one.loss if one.penalty_interval == 1 else f"{one.loss}, penalty every {one.penalty_interval}"
    return Match(theirs[0].side, one.res, one.alpha, loss, speeds, failed)


def in_roles(side: list[Case], values: dict[Case, list[float]]) -> dict[Case, tuple[str, ...]]:
    """{each choice of a side: the kinds of comparison that use it}"""
    slowest_first = sorted((case for case in side if case in values), key=lambda case: median(values[case]))
    full = [case for case in slowest_first if case.precision == "fp32"]
    standing = dict(zip(KINDS, (side[0], full[-1], slowest_first[-1]), strict=True))
    return {case: tuple(kind for kind in KINDS if standing[kind] == case) for case in slowest_first}


def images_per_s(worker: Worker, seconds: float) -> float:
    answer = worker.measure(seconds)
    return answer["images"] / answer["seconds"]


def count(case: Case) -> dict:
    """Parameters and operations of a side."""
    return {"side": case.side, "res": case.res, "loss": case.loss, **work(as_it_comes(case))}


def write(path: str | None, report: dict) -> None:
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
