#!/usr/bin/env python3
"""Trains generators for a short while and keeps their first sample grids: are they told from good ones?

    python experiments/diversity-validation/young.py --runs runs/young --folders paintings=DIR monet=DIR

A run takes two minutes of one core. Finished runs are not repeated.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLAGS = """--preset smoke --device cpu --threads 1 --wandb off --fmap-base 256 --fmap-max 32 --latent 64 --batch 8
    --lr 0.003 --warmup-kimg 0.5 --ema-kimg 1 --eval-kimg 0 --sample-kimg 1 --grid 20x15
    --start-res 32 --max-res 32 --stable-kimg 8"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", nargs="*", default=[], metavar="NAME=DIR", help="folders of images")
    parser.add_argument("--runs", default="runs/young", help="where the runs go")
    args = parser.parse_args()
    for name, _, data in [("builtin 2", "", "builtin"), *(each.partition("=") for each in args.folders)]:
        out = Path(args.runs) / name
        if not (out / "checkpoints" / "latest.pt").exists():
            command = [sys.executable, str(ROOT / "train.py"), *FLAGS.split(), "--data", data, "--out", str(out)]
            subprocess.run([*command, "--cache", str(Path(args.runs, "cache"))], check=True)


if __name__ == "__main__":
    main()
