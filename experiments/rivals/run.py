#!/usr/bin/env python3
"""Trains this project and other repositories on the same images, for the same time, on a CPU.

`python experiments/rivals/run.py --data MONET --data PAINTINGS --checkouts DIR` runs what is not finished yet: every
side, set and seed, one after the other. `python experiments/rivals/run.py --side projected-gan --seed 0 --data MONET
--checkouts DIR` runs one. Each run leaves 500 samples in RUNS/SET/SIDE-SEED/averaged. README.md has the rest.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "experiments" / "speed")]
import environment  # noqa: E402, F401  (OpenMP's settings, before torch is loaded)

D_ALONE = [
    *("--preset", "cpu", "--features", "none", "--augment", "none"),
    *("--d-width", "1", "--batch", "16", "--penalty-interval", "1", "--processes", "1"),
]
OURS = {
    # name           flags of train.py
    "pggan":         ["--preset", "cpu"],
    "pggan-alone":   [*D_ALONE, "--arch", "paper"],  # without a pretrained network
    "growing-dcgan": [*D_ALONE, "--arch", "dcgan", "--loss", "bce"],
}  # fmt: skip
RIVALS = (
    *("projected-gan", "projected-gan-64", "projected-gan-narrow"),
    *("lightweight-gan", "lightweight-gan-narrow"),
    *("pro-gan-pth", "pro-gan-pth-narrow"),
)
ON_GRID = 64
LOG_EVERY = 10  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, action="append", metavar="DIR", help="a folder of pictures; repeat it")
    parser.add_argument("--checkouts", required=True, type=Path, metavar="DIR", help="holds the rivals' repositories")
    parser.add_argument("--side", action="append", choices=[*OURS, *RIVALS], help="repeat it (default: all)")
    parser.add_argument("--seed", action="append", type=int, help="repeat it (default: 0, 1 and 2)")
    parser.add_argument("--minutes", type=float, default=20, help="of training (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--cpu-time", action="store_true", help="MINUTES of processor time: trials on a busy machine")
    parser.add_argument("--samples", type=int, default=500, help="default: %(default)s")
    parser.add_argument("--batch", type=int, help="of the rivals (default: README.md)")
    parser.add_argument("--runs", type=Path, default=Path("runs/rivals"), help="default: %(default)s")
    args = parser.parse_args()
    jobs = [
        (side, Path(data), seed)
        for seed in args.seed or (0, 1, 2)  # results of all sides are complete after each seed
        for data in args.data
        for side in args.side or [*OURS, *RIVALS]
    ]
    unfinished = [job for job in jobs if not (folder_of(*job, args) / "run.json").exists()]
    if len(jobs) == 1 and unfinished:
        one(*jobs[0], args)
        return
    print(f"{len(jobs) - len(unfinished)} of {len(jobs)} runs are finished", flush=True)
    command = [sys.executable, __file__, "--checkouts", args.checkouts, "--minutes", args.minutes]
    command += ["--threads", args.threads, "--runs", args.runs, "--samples", args.samples]
    command += [*(["--batch", args.batch] if args.batch else []), *(["--cpu-time"] if args.cpu_time else [])]
    for side, data, seed in unfinished:
        more = ["--side", side, "--data", data, "--seed", seed]
        code = subprocess.run([*map(str, command), *map(str, more)]).returncode
        print(f"{data.name} {side} {seed}: exit code {code}", flush=True)


def folder_of(side: str, data: Path, seed: int, args: argparse.Namespace) -> Path:
    batch = f"-batch{args.batch}" if args.batch else ""
    return args.runs / data.name / f"{side}{batch}-{seed}"


def one(side: str, data: Path, seed: int, args: argparse.Namespace) -> None:
    """One run, from the start. run.json is written last: a folder without it is not finished, and is run again."""
    import numpy as np
    import torch
    from images import make_data, read, save

    from pggan.evaluation.grids import save_grid

    folder, reals = folder_of(side, data, seed, args), args.runs / data.name / "reals"
    shutil.rmtree(folder, ignore_errors=True)
    make_data(str(data), reals)
    torch.set_num_threads(args.threads)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    load = os.getloadavg()[0]
    clock = time.process_time if args.cpu_time else time.perf_counter
    if side in OURS:
        samples, facts = ours(side, reals, seed, folder, clock, args)
    else:
        samples, facts = rival(side, read(reals), seed, clock, args)
    for name, images in samples.items():
        save(images, folder / name)
        save_grid(images[:ON_GRID], 16, folder / f"{name}.png")
    facts = {"side": side, "set": data.name, "seed": seed, "threads": args.threads, "cpu_time": args.cpu_time, **facts}
    facts |= {"load": [load, os.getloadavg()[0]], "torch": version("torch")}
    facts["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    (folder / "run.json").write_text(json.dumps(facts, indent=1) + "\n")
    speeds = ", ".join(f"{speed:.1f} at {res} px" for res, speed in facts["images_per_s"].items())
    print(f"{side}: {facts['images']:,} images in {facts['seconds']:.0f} s; images/s: {speeds}")


def rival(side: str, images, seed: int, clock: Callable[[], float], args: argparse.Namespace) -> tuple[dict, dict]:
    """Trains a rival for the time, from its first step; returns its samples by name, and facts about the run."""
    from trainers import TRAINERS

    kind, repository = TRAINERS[side]
    checkout, seconds = args.checkouts / repository, 60 * args.minutes
    trainer = kind(images, args.batch, seed, checkout)
    log, shown, spent, steps, used, seen = [], {}, {}, 0, 0.0, 0
    began = clock()
    while used < seconds:
        losses = trainer.step(used / seconds)
        before, used = used, clock() - began
        steps, seen = steps + 1, seen + trainer.batch
        shown[trainer.res] = shown.get(trainer.res, 0) + trainer.batch
        spent[trainer.res] = spent.get(trainer.res, 0.0) + used - before
        if not log or used >= log[-1]["seconds"] + LOG_EVERY:
            log.append({"seconds": round(used, 1), "images": seen, "res": trainer.res, **losses})
    commit = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True)
    facts = {"commit": commit.stdout.strip(), "batch": trainer.batch, "micro_batch": trainer.micro, "steps": steps}
    facts |= {"images": seen, "seconds": round(used, 1)}
    facts |= {"images_per_s": {res: round(shown[res] / spent[res], 2) for res in shown}, "log": log}
    return trainer.samples(args.samples), facts


def ours(
    side: str, reals: Path, seed: int, folder: Path, clock: Callable[[], float], args: argparse.Namespace
) -> tuple[dict, dict]:
    """The same for this project: train.py with --budget. Its evaluations, saves and report are part of the time."""
    from pggan.config import cli
    from pggan.config.presets import before_flags
    from pggan.config.schema import Config
    from pggan.data.packing import pack
    from pggan.data.sources import open_source
    from pggan.evaluation.samples import draw
    from pggan.run.loop import train
    from pggan.training.loading import load_generator

    flags = [*OURS[side], "--start-res", "32", "--max-res", "64", "--seed", str(seed)]
    flags += ["--data", str(reals), "--out", str(folder), "--threads", str(args.threads)]
    flags += ["--budget", f"{60 * args.minutes:.0f}s", "--precision", "fp32", "--device", "cpu", "--wandb", "off"]
    flags += ["--processes", "1"] if args.cpu_time else []  # the clock counts this process
    config = cli.parse(Config, flags, before_flags(flags))
    pack(open_source(str(reals), 0), [(res, res, res) for res in (32, 64)])
    began = clock()
    train(config, lambda: clock() - began)
    used = clock() - began
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    speeds = {}
    for record in records:
        if "growth/res" in record:  # not of an evaluation
            speeds.setdefault(record["growth/res"], []).append(record["speed/images_per_s"])
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    facts = {"commit": commit.stdout.strip(), "flags": flags, "batch": str(config.training.batch)}
    facts |= {"images": records[-1]["nimg"], "seconds": round(used, 1)}
    facts |= {"images_per_s": {res: round(sorted(each)[len(each) // 2], 2) for res, each in speeds.items()}}
    generator, alpha = load_generator(folder / "checkpoints" / "latest.pt")
    return {"averaged": draw(generator, alpha, seed, args.samples)}, facts


if __name__ == "__main__":
    main()
