"""What the files of a run say beside its records: configuration, growth log, and the state in a sentence."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pggan.config.presets import preset
from pggan.config.schema import Config, flat, from_dict
from pggan.errors import UserError
from pggan.run.report.records import last

PLACES = ("preset", "out", "resume")  # settings that say where a run is and where it began


@dataclass(frozen=True)
class Facts:
    """record: config.json, {} when there is none; config: the settings in it, None when they cannot be read as such;
    growth: the entries of growth.json; checkpoints: the names of the files there."""

    record: dict = field(default_factory=dict)
    config: Config | None = None
    growth: list[dict] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)

    def end(self, nimg: float) -> dict | None:
        """The entry that says the run has ended, if it has not gone on from there. nimg: images shown."""
        entry = self.growth[-1] if self.growth else {}
        return entry if entry.get("action") == "stop" and nimg <= entry["nimg"] else None

    def waits(self) -> bool:
        """Whether a run that is grown by hand has come to the end of a resolution that is not its last."""
        entry = self.growth[-1] if self.growth else {}
        by_hand = self.config is not None and self.config.schedule.schedule == "manual"
        return by_hand and entry.get("action") == "stop" and entry.get("from_res", 0) < self.config.network.ends()[1]


def read(folder: Path) -> Facts:
    """All that is there and can be read; what is missing or damaged is left empty."""
    record, growth = _json(folder / "config.json"), _json(folder / "growth.json")
    record = record if isinstance(record, dict) else {}
    entries = [entry for entry in growth if _is_entry(entry)] if isinstance(growth, list) else []
    checkpoints = folder / "checkpoints"
    names = sorted(path.name for path in checkpoints.glob("*.pt")) if checkpoints.is_dir() else []
    return Facts(record, _config(record), entries, names)


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


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
    """{setting: value} of the preset, arch and loss that a run has, the ends of its ladder filled in."""
    usual = preset(config.preset, config.network.arch, config.training.loss)
    start, top = usual.network.ends()
    return {**flat(usual), "start_res": start, "max_res": top}


def changed(config: Config) -> dict[str, object]:
    """{setting: value} that have to be asked for over the preset; not the preset itself and the places.

    arch and loss bring other defaults with them, and one of them the other: both or neither.
    """
    usual, own = defaults(config), flat(preset(config.preset))
    pair = {"arch": config.network.arch, "loss": config.training.loss}
    pair = pair if any(value != own[name] for name, value in pair.items()) else {}
    rest = {name: value for name, value in flat(config).items() if name not in PLACES and value != usual[name]}
    return {**pair, **rest}


def state(table: dict[str, np.ndarray], facts: Facts) -> str:
    """Where the run is, in a sentence or two."""
    nimg = last(table, "nimg")
    if nimg is None:
        return "Nothing is recorded yet." if facts.record else "There is no run in this folder yet."
    res, seconds, speed = (last(table, key) for key in ("growth/res", "wall/seconds", "speed/images_per_s"))
    end = facts.end(nimg)
    shown = end["nimg"] if end else nimg
    beginning = "Waiting to be grown" if end and facts.waits() else _beginning(end)
    said = f"{beginning} at {res or 0:.0f} px after {shown / 1000:,.1f} kimg"
    said += f", in {duration(seconds)}" if seconds is not None else ""
    said += f"; {speed:,.1f} images a second" if speed is not None else ""
    return said + "."


def _beginning(end: dict | None) -> str:
    if end is None:
        return "Going on:"
    return "Given up" if gave_up(end) else "Finished"


def gave_up(end: dict) -> bool:
    """Whether the entry is a stop after too many rollbacks."""
    return "lr_factor" in (end.get("numbers") or {})


def duration(seconds: float) -> str:
    """`95` -> `1 min 35 s`: the two largest parts."""
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((number for number, (value, _) in enumerate(parts) if value), 3)
    return " ".join(f"{value} {unit}" for value, unit in parts[first : first + 2])
