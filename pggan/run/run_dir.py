"""The run folder: configuration, records, growth log, sample grids, and checkpoints.

A run that was killed and continued leaves the same files as one that was not, except keys under speed/, memory/ and
wall/. These have a fixed width, so that metrics.jsonl can be cut to the length that a checkpoint remembers.
"""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

import pggan
from pggan import system
from pggan.config.schema import Config, from_dict, grid_shape, to_dict
from pggan.errors import UserError
from pggan.evaluation.grids import grid_files, save_grid
from pggan.evaluation.samples import draw
from pggan.training import checkpoint
from pggan.training.state import TrainState

CLOCK_KEYS = ("speed/", "memory/", "wall/")
FIRST = {".lock", ".seconds", "config.json.tmp"}  # the files of a run that was killed as it began


class RunDir:
    """The files of one run. Raises UserError when `path` holds something else."""

    def __init__(self, path: Path):
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        if path.exists() and not path.is_dir():
            raise UserError(f"--out {path} is a file: name a folder")
        held = {item.name for item in path.iterdir()} if path.is_dir() else set()
        if held - FIRST and "config.json" not in held:
            raise UserError(f"--out {path} is not empty and holds no run: name another folder")

    def __enter__(self):
        """Locks the folder for this process, if there is a run in it already. Raises UserError."""
        self.lock, self.new = None, not (self.path / "config.json").exists()
        if not self.new:
            self._lock()
        return self

    def __exit__(self, *_):
        if self.lock:
            self.lock.release()

    def acquire_lock(self) -> None:
        """Makes the folder of a new run, and locks it. Raises UserError if another process was quicker."""
        if self.new:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()
            if (self.path / "config.json").exists():
                raise UserError(f"another process has begun a run in {self.path}: start the same command again")

    def _lock(self) -> None:
        held = f"another process is training in {self.path}: wait for it, or name another --out"
        self.lock = system.lock(self.path / ".lock", held)

    def config(self) -> Config | None:
        """The configuration of the run in this folder, None if there is none."""
        record = self.record()
        return from_dict(record["config"]) if record else None

    def record(self) -> dict | None:
        """The settings in config.json, and of the images the fingerprint and the names of those that could not be read;
        None before the first start. Raises UserError."""
        path = self.path / "config.json"
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_text())
            data = record["data"]
            unreadable = [str(name) for name, _ in data.get("unreadable", [])]
            facts = {"fingerprint": str(data["fingerprint"]), "unreadable": unreadable}
            return {"config": {**record["config"]}, "data": facts}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UserError(f"{path} is damaged: restore it, or name another --out") from None

    def write_config(self, config: Config, facts: dict) -> None:
        """Writes config.json: every setting, the versions, and `facts`."""
        versions = {"python": sys.version.split()[0], "torch": str(torch.__version__), "numpy": np.__version__}
        versions |= {"pggan": pggan.__version__, "commit": commit()}
        self._replace("config.json", {"config": to_dict(config), "versions": versions, **facts})

    def write_growth(self, entries: list[dict]) -> None:
        """Writes growth.json, always the state's own log."""
        self._replace("growth.json", entries)

    def cut_metrics(self, size: int) -> None:
        """Cuts metrics.jsonl to `size` bytes. The records after a checkpoint will be written again."""
        self.path.mkdir(parents=True, exist_ok=True)
        kept = self.metrics.read_bytes()[:size] if self.metrics.exists() else b""
        whole = kept[: kept.rfind(b"\n") + 1]  # without a last line that is not complete
        if len(whole) < size:
            print(f"{self.metrics} has lost records that were there at the last save", flush=True)
        with open(self.metrics, "ab") as file:
            file.truncate(len(whole))

    def cut_samples(self, nimg: int) -> None:
        """Removes sample grids after image `nimg`: a continued run draws them again, or has changed its schedule."""
        for grid in grid_files(self.samples):
            if grid.nimg > nimg:
                grid.path.unlink(missing_ok=True)

    def append(self, nimg: int, values: dict[str, float]) -> int:
        """Adds a line to metrics.jsonl; returns the file's length in bytes."""
        numbers = {"nimg": nimg, "kimg": nimg / 1000, **values}
        texts = {key: json.dumps(value) for key, value in numbers.items()}
        texts |= {key: f"{value:.6e}" for key, value in values.items() if key.startswith(CLOCK_KEYS)}  # of fixed width
        line = ", ".join(f"{json.dumps(key)}: {text}" for key, text in texts.items())
        with open(self.metrics, "ab") as file:
            file.write(f"{{{line}}}\n".encode())
            return file.tell()

    def last_record(self) -> dict:
        """The last complete line of metrics.jsonl, {} when there is none."""
        lines = self.metrics.read_bytes().split(b"\n")[:-1] if self.metrics.exists() else []
        for line in reversed(lines):
            with suppress(ValueError):
                return json.loads(line)
        return {}

    def note_seconds(self, seconds: float) -> None:
        """Writes down how long the run has taken so far, for a budget, which must know it even after a kill."""
        self._replace(".seconds", round(seconds, 3))

    def noted_seconds(self) -> float:
        """The seconds that the run has taken, by the last note or record; 0 if there is none."""
        recorded = self.last_record().get("wall/seconds", 0.0)
        with suppress(OSError, ValueError):
            return max(recorded, float((self.path / ".seconds").read_text()))
        return recorded

    def save(self, state: TrainState, name: str = "latest") -> None:
        """Writes latest.pt, or NAME-RES.pt, which stays: `res` at the end of a stage, `best` for the best quality."""
        values = state.to_dict()
        if self.metrics.exists():
            system.flush_to_disk(self.metrics)  # a checkpoint must not remember records that the disk does not
        if name == "latest":
            checkpoint.save_latest(values, self.checkpoints)
        else:
            checkpoint.save(values, self.checkpoints / f"{name}-{state.res:04d}.pt")

    def draw(self, state: TrainState, alpha: float) -> Path:
        """Draws the sample grid RES-NIMG.png from G_ema, with the same latents every time; returns its path."""
        columns, rows = grid_shape(state.config.run.grid)
        images = draw(state.G_ema, alpha, state.config.training.seed, columns * rows, batch=state.batch())
        path = self.samples / f"{state.res:04d}-{state.nimg:08d}.png"
        self.samples.mkdir(parents=True, exist_ok=True)
        with system.replacing(path) as temporary:
            save_grid(images, columns, temporary)
        return path

    def _replace(self, name: str, content: object) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with system.replacing(self.path / name) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")


def commit() -> str | None:
    """The commit of the project's checkout, with -dirty where it was changed; None outside one."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", root, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    if (root / ".git").exists():
        with suppress(OSError):  # no git on this machine
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    return None
