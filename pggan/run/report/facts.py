"""The settings, the growth log and the checkpoints of a run, and its state in a sentence."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pggan.config.presets import preset
from pggan.config.schema import Config, flat, from_dict
from pggan.data.cache_files import read_json
from pggan.errors import UserError
from pggan.run.progress import duration
from pggan.run.report.records import last

NOT_REPEATED = ("preset", "out", "resume")  # settings that `changed` leaves out


@dataclass(frozen=True)
class Facts:
    """record: the content of config.json, {} if there is none. config: the settings in it, None if they are damaged or
    of another version. growth: the entries of growth.json. checkpoints: the names of the files."""

    record: dict = field(default_factory=dict)
    config: Config | None = None
    growth: list[dict] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)

    def end(self, nimg: float) -> dict | None:
        """The entry that ended the run; None while it goes on. nimg: real images shown by the last record."""
        stopped = self.growth and self.growth[-1]["action"] == "stop" and nimg <= self.growth[-1]["nimg"]
        return self.growth[-1] if stopped else None

    def waits(self) -> bool:
        """Whether the run has ended a resolution and waits for tools/grow.py (--schedule manual)."""
        entry = self.end(nimg=0) or {}
        by_hand = self.config is not None and self.config.schedule.schedule == "manual"
        return bool(entry) and by_hand and entry.get("from_res", 0) < self.config.network.ends()[1]


def read(folder: Path) -> Facts:
    """Reads the files of a run. Fields whose file is missing or damaged stay empty."""
    record, growth = read_json(folder / "config.json"), read_json(folder / "growth.json")
    record = record if isinstance(record, dict) else {}
    entries = [entry for entry in growth if _is_entry(entry)] if isinstance(growth, list) else []
    return Facts(record, _config(record), entries, sorted(path.name for path in folder.glob("checkpoints/*.pt")))


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("nimg"), (int, float)) and "action" in entry


def _config(record: dict) -> Config | None:
    try:
        config = from_dict(record["config"])
        defaults(config)
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return config


def defaults(config: Config) -> dict[str, object]:
    """{setting: value} of the run's preset, arch and loss, with the first and last resolution filled in."""
    usual = preset(config.preset, config.network.arch, config.training.loss)
    start, top = usual.network.ends()
    return {**flat(usual), "start_res": start, "max_res": top}


def changed(config: Config) -> dict[str, object]:
    """{setting: value} of the flags that, after --preset, give the settings of the run.

    arch and loss change each other's defaults, so both are named or neither.
    """
    usual, own = defaults(config), flat(preset(config.preset))
    pair = {"arch": config.network.arch, "loss": config.training.loss}
    pair = pair if any(value != own[name] for name, value in pair.items()) else {}
    rest = {name: value for name, value in flat(config).items() if name not in NOT_REPEATED and value != usual[name]}
    return {**pair, **rest}


def state(table: dict[str, np.ndarray], facts: Facts) -> str:
    """The state of the run in a sentence."""
    nimg = last(table, "nimg")
    if nimg is None:
        return "Nothing is recorded yet." if facts.record else "There is no run in this folder yet."
    res, seconds, speed = (last(table, key) for key in ("growth/res", "wall/seconds", "speed/images_per_s"))
    end = facts.end(nimg)
    text = f"{_verb(end, facts)} at {res or 0:.0f} px after {(end['nimg'] if end else nimg) / 1000:,.1f} kimg"
    text += f", in {duration(seconds)}" if seconds is not None else ""
    text += f", {speed:,.1f} images per second" if speed is not None else ""
    return text + "."


def _verb(end: dict | None, facts: Facts) -> str:
    if end is None:
        return "Training"
    if facts.waits():
        return "Waiting for tools/grow.py"
    return "Diverged and stopped" if gave_up(end) else "Finished"


def gave_up(end: dict) -> bool:
    """Whether `end`, an entry of growth.json, is a stop after too many rollbacks."""
    return "lr_factor" in (end.get("numbers") or {})
