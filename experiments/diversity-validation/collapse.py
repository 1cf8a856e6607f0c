#!/usr/bin/env python3
"""Trains generators until they collapse, on purpose.

    python experiments/diversity-validation/collapse.py --runs runs/collapse --monet DIR

dcgan with the plain loss of 2014, no minibatch stddev, and 10 to 100 times the usual learning rate. A run takes two to
eight minutes of one core. Finished runs are not repeated.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALL = "--preset smoke --device cpu --threads 1 --wandb off --latent 64 --fmap-base 256 --fmap-max 32 --fade-kimg 3"
TO_64 = f"{ALL} --start-res 32 --max-res 64 --stable-kimg 32:25,64:15 --arch dcgan --loss bce --batch 16"
TO_32 = f"{ALL} --start-res 16 --max-res 32 --stable-kimg 16:15,32:25 --loss bce"
SHORT = f"{ALL} --start-res 16 --max-res 32 --stable-kimg 16:8,32:12 --loss bce"
RUNS = {
    # the thresholds were chosen with a look at the first seven, not at the last two
    "builtin-dcgan-lr.002":      f"{TO_64} --lr 0.002 --seed 0",
    "builtin-dcgan-lr.01":       f"{TO_64} --lr 0.01 --seed 0",
    "monet-dcgan-lr.005":        f"{TO_64} --lr 0.005 --seed 0",
    "builtin-dcgan-lr.005":      f"{TO_64} --lr 0.005 --seed 1",
    "builtin-paper-lr.01":       f"{TO_32} --arch paper --stddev-group 0 --lr 0.01 --batch 8 --seed 0",
    "builtin-dcgan-no-norm":     f"{TO_32} --arch dcgan --critic-norm none --lr 0.003 --batch 16 --seed 0",
    "builtin-dcgan-lr.02":       f"{TO_32} --arch dcgan --lr 0.02 --batch 8 --seed 0",
    "builtin-dcgan-lr.02-again": f"{SHORT} --arch dcgan --lr 0.02 --batch 8 --seed 3",
    "monet-dcgan-lr.02":         f"{SHORT} --arch dcgan --lr 0.02 --batch 8 --seed 3",
}  # fmt: skip
SEEN = tuple(RUNS)[:7]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--monet", help="a folder of paintings; without it the two runs on it are left out")
    parser.add_argument("--runs", default="runs/collapse", help="where the runs go")
    parser.add_argument("--only", nargs="*", choices=RUNS, help="only these runs")
    args = parser.parse_args()
    for name, flags in RUNS.items():
        data = args.monet if name.startswith("monet") else "builtin"
        out = Path(args.runs) / name
        if data is None or (args.only and name not in args.only) or (out / "checkpoints" / "latest.pt").exists():
            continue
        command = [sys.executable, str(ROOT / "train.py"), *flags.split(), "--data", data, "--out", str(out)]
        more = ["--cache", str(Path(args.runs, "cache")), "--sample-kimg", "5", "--grid", "8x6"]
        subprocess.run([*command, *more], check=True)


if __name__ == "__main__":
    main()
