#!/usr/bin/env python3
"""Which losses and networks collapse? Trains each with the same images, sizes and time, at 32 and then 64 px, on a CPU.

`python experiments/side-by-side/run.py --monet DIR` trains every case on the built-in images and on those in DIR. Time
is processor time: each run gets SECONDS of one core, however busy the machine is. The same command continues with
missing runs; `--figures-only` makes the tables and montages of the finished ones.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SECONDS = 180  # of one core
SEEDS = (0, 1)
CASES = {
    # name                  arch      loss
    "paper logistic":      ("paper", "logistic"),
    "paper wgan-gp":       ("paper", "wgan-gp"),
    "paper relativistic":  ("paper", "relativistic"),
    "paper bce":           ("paper", "bce"),
    "paper lsgan":         ("paper", "lsgan"),
    "paper hinge":         ("paper", "hinge"),
    "paper wgan":          ("paper", "wgan"),
    "style logistic":      ("style", "logistic"),
    "dcgan bce":           ("dcgan", "bce"),
}  # fmt: skip
SETTINGS = {
    "start_res": 32,
    "max_res": 64,
    "fmap_base": 256,
    "fmap_max": 32,
    "latent": 64,
    "batch": "8",
    "budget_share": "32:2,64:1",
    "stage_minutes": "0",
    "warmup_kimg": 0.5,
    "ema_kimg": "1",
    "builtin_images": 1000,
    "threads": 1,
    "device": "cpu",
    "wandb": "off",
    "sample_kimg": 2.0,
    "grid": "8x4",
}
RATE = {"paper": "0.003", "style": "0.003", "dcgan": "0.0002"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--monet", help="a folder of paintings")
    parser.add_argument("--runs", default="runs/side-by-side", help="where the runs go")
    parser.add_argument("--results", default="results/side-by-side", help="where the figures go")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of one core for each run (default: %(default)d)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each (default: 2)")
    parser.add_argument("--figures-only", action="store_true")
    parser.add_argument("--one", nargs=4, metavar=("CASE", "NAME", "DATA", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        case, name, data, seed = args.one
        one(case, data, int(seed), args.seconds, folder(args.runs, case, name, int(seed)))
        return
    if not args.figures_only:
        train_all(args)
    from figures import figures

    figures(Path(args.runs), Path(args.results))


def folder(runs: str, case: str, name: str, seed: int) -> Path:
    return Path(runs) / f"{name}-{case.replace(' ', '-')}-{seed}"


def train_all(args: argparse.Namespace) -> None:
    """Trains every case on both sets, one seed after the other, so that results are comparable at any time."""
    sets = {"builtin": "builtin", **({"monet": args.monet} if args.monet else {})}
    jobs = [(case, name, data, seed) for seed in SEEDS for name, data in sets.items() for case in CASES]

    def start(job: tuple) -> None:
        flags = ["--runs", args.runs, "--seconds", args.seconds, "--one", *job]
        command = [sys.executable, __file__, *map(str, flags)]
        began = time.time()
        code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
        print(f"{job[1]} {job[0]} {job[3]}: {time.time() - began:.0f} s, exit code {code}", flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(start, jobs))


def one(case: str, data: str, seed: int, seconds: int, out: Path) -> None:
    """One run by processor time. Exits with 3, and writes diverged.json, if it diverges."""
    from pggan.config.presets import preset, with_settings
    from pggan.errors import Diverged
    from pggan.run.loop import train

    arch, loss = CASES[case]
    run = {"data": data, "seed": seed, "out": str(out), "lr": RATE[arch], "budget": f"{seconds}s"}
    config = with_settings(preset("demo", arch, loss), {**SETTINGS, **run})
    began = time.process_time()
    try:
        train(config, clock=lambda: time.process_time() - began)
    except Diverged as error:
        (out / "diverged.json").write_text(json.dumps(str(error)))
        sys.exit(3)


if __name__ == "__main__":
    main()
