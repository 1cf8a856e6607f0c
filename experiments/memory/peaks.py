"""Computes the memory of a step at 1024 px, and checks the method against steps that are really taken.

    python experiments/memory/peaks.py --json results/memory/peaks.json

Needs neither a GPU nor the memory. About five minutes on one core, most of them for the real steps.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from pggan.config.presets import preset, with_defaults_for, with_settings  # noqa: E402
from pggan.config.schema import Config  # noqa: E402
from pggan.run.profiling import MemoryWatch, computed_peak, lasting, trial_state, trial_step  # noqa: E402
from pggan.run.run_dir import commit  # noqa: E402
from pggan.training.state import TrainState  # noqa: E402
from pggan.training.step import step  # noqa: E402

CPU = torch.device("cpu")
# arch, loss, res, precision, recompute: real steps of 4 images, which take seconds on a CPU
CHECKED = [
    ("paper", "logistic", 64, "fp32", False),
    ("paper", "wgan-gp", 128, "fp32", False),
    ("paper", "wgan-gp", 128, "fp32", True),
    ("paper", "relativistic", 128, "fp32", False),
    ("paper", "relativistic", 128, "fp32", True),
    ("style", "logistic", 128, "fp32", False),
    ("dcgan", "bce", 128, "fp32", False),
    ("paper", "wgan-gp", 64, "bf16", False),
    ("paper", "wgan-gp", 64, "bf16", True),
]
RES = 1024
DEFAULTS = "(defaults)"  # of all fields, without a preset
KINDS = [
    *((DEFAULTS, "paper", loss) for loss in ("logistic", "wgan-gp", "relativistic")),
    (DEFAULTS, "style", "logistic"),
    (DEFAULTS, "dcgan", "bce"),
    ("paintings", "style", "logistic"),
    *(("paper", "paper", loss) for loss in ("logistic", "wgan-gp", "relativistic")),
]
GROUP = 4


def settings(name: str, arch: str, loss: str, precision: str, **more: object) -> Config:
    """A preset, or the defaults of all fields, with this arch and loss, up to 1024 px."""
    base = with_defaults_for(Config(), arch, loss) if name == DEFAULTS else preset(name, arch, loss)
    return with_settings(base, {"max_res": 1024, "precision": precision, **more})


def computed(state: TrainState, batch: int, recompute: bool) -> int:
    """Peak bytes of a step of `batch` images in mid-fade, computed."""
    state.stage.recompute = recompute
    return computed_peak(state, batch)


def counted(config: Config, res: int, batch: int, recompute: bool) -> tuple[int, float]:
    """(peak bytes, seconds) of a real step, the second of its run. The seconds include the counting."""
    state = trial_state(config, res, CPU)
    state.stage.recompute = recompute
    for number in (1, 2):
        reals = trial_step(state, batch, number)
        start = time.perf_counter()
        with MemoryWatch([*lasting(state), reals]) as watch:
            step(state, reals)
    return watch.peak, time.perf_counter() - start


def check(arch: str, loss: str, res: int, precision: str, recompute: bool) -> dict:
    """Peak bytes counted and computed, for networks an eighth as wide as the default."""
    config = settings(DEFAULTS, arch, loss, precision, fmap_base=2048, fmap_max=64)
    peak, seconds = counted(config, res, GROUP, recompute)
    kind = {"arch": arch, "loss": loss, "res": res, "precision": precision, "recompute": recompute}
    again = computed(trial_state(config, res, CPU), GROUP, recompute)
    return {**kind, "counted": peak, "computed": again, "seconds": round(seconds, 2)}


def peaks(name: str, arch: str, loss: str) -> dict:
    """Peak bytes of a step at 1024 px: whole batch, group of 4, float32; with activations kept and recomputed."""
    half, full = (trial_state(settings(name, arch, loss, precision), RES, CPU) for precision in ("bf16", "fp32"))
    batch = int(settings(name, arch, loss, "bf16").training.batch.at(RES))
    return {
        "preset": name,
        "arch": arch,
        "loss": loss,
        "res": RES,
        "batch": batch,
        "bf16, batch": computed(half, batch, False),
        "bf16, batch, recomputed": computed(half, batch, True),
        "bf16, 4": computed(half, GROUP, False),
        "bf16, 4, recomputed": computed(half, GROUP, True),
        "fp32, 4": computed(full, GROUP, False),
        "fp32, 4, recomputed": computed(full, GROUP, True),
    }


def about() -> dict:
    """Command, commit, versions and machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "command": "python experiments/memory/peaks.py --json results/memory/peaks.json",
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": names[0] if names else platform.machine(),
        "gpu": None,
        "unit": "bytes",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the figures; its folder must exist")
    where = parser.parse_args().json
    figures = {"about": about(), "checked": [], "peaks": []}
    for kind in CHECKED:
        figures["checked"].append(check(*kind))
        print(figures["checked"][-1], flush=True)
    for kind in KINDS:
        figures["peaks"].append(peaks(*kind))
        print({key: _gib(value) for key, value in figures["peaks"][-1].items()}, flush=True)
    where.write_text(json.dumps(figures, indent=1) + "\n")


def _gib(value: object) -> object:
    return f"{value / 2**30:.2f} GiB" if isinstance(value, int) and value > 10**6 else value


if __name__ == "__main__":
    main()
