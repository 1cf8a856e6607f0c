"""The commands that continue a run, grow it, and draw samples from it."""

import os
import shlex
from pathlib import Path
from typing import NamedTuple

from pggan.config.presets import with_settings
from pggan.config.schema import Config, flat, seconds
from pggan.run.report.facts import Facts, changed, gave_up


class Command(NamedTuple):
    """A command on the page. name: its purpose. text: lines for a shell in the project's folder."""

    name: str
    text: str


def commands(folder: Path, facts: Facts, end: dict | None) -> list[Command]:
    """The commands that make sense now. end: the entry of growth.json that ended the run, None while it goes on."""
    found = _continue(folder, facts, end), _grow(folder, facts), _sample(folder, facts)
    return [command for command in found if command]


def _continue(folder: Path, facts: Facts, end: dict | None) -> Command | None:
    config = facts.config
    if config is None or (end and gave_up(end)):
        return None
    if end and facts.waits():
        grow = shlex.join(["python", "tools/grow.py", checkpoint(folder, "latest.pt")])
        return Command("Grow the run and train it at the next resolution", f"{grow}\n{train(folder, config, facts)}")
    if end and config.schedule.budget:
        longer = with_settings(config, {"budget": f"{2 * seconds(config.schedule.budget):.0f}s"})
        return Command("Train twice as long", train(folder, longer, facts))
    if not end:
        return Command("Continue from the last checkpoint, if training was interrupted", train(folder, config, facts))
    res, schedule = 2 * config.network.ends()[1], config.schedule
    if schedule.plan or schedule.schedule == "manual" or not config.network.can_have(res):
        return None
    longer = with_settings(config, {"max_res": res})
    return Command(f"Train this run further, up to {res} px", train(folder, longer, facts))


def _grow(folder: Path, facts: Facts) -> Command | None:
    names = [name for name in facts.checkpoints if name.startswith("res-") and name[4:-3].isdecimal()]
    res = max((int(name[4:-3]) for name in names), default=0)
    if not res or facts.config is None or not facts.config.network.can_have(2 * res):
        return None
    grown, out = checkpoint(folder, f"grown-{2 * res:04d}.pt"), f"{typed(folder)}-{2 * res}"
    grow = shlex.join(["python", "tools/grow.py", checkpoint(folder, f"res-{res:04d}.pt")])
    train = shlex.join(["python", "train.py", "--resume", grown, "--out", out])
    return Command(f"Start another run at {2 * res} px from this one's {res} px", f"{grow}\n{train}")


def _sample(folder: Path, facts: Facts) -> Command | None:
    if "latest.pt" not in facts.checkpoints:
        return None
    words = [checkpoint(folder, "latest.pt"), "--num", "64", "--seed", "1", "--psi", "0.8", "--out", "samples"]
    return Command("Draw samples", shlex.join(["python", "tools/sample.py", *words]))


def train(folder: Path, config: Config, facts: Facts) -> str:
    """The command that trains `config` in `folder`, or continues there."""
    words = ["python", "train.py"]
    if config.run.resume and "latest.pt" not in facts.checkpoints:  # nothing is saved: it starts from --resume again
        settings = {name: value for name, value in flat(config).items() if name not in ("preset", "out")}
    else:
        words += [] if config.preset == "paintings" else ["--preset", config.preset]
        settings = changed(config)
    for name, value in settings.items():
        words += flag(name, value)
    return shlex.join([*words, "--out", typed(folder)])


def flag(name: str, value: object) -> list[str]:
    """`("lr", "0.002")` -> `["--lr", "0.002"]`."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}={value}"] if str(value).startswith("-") else [f"--{name}", str(value)]


def checkpoint(folder: Path, name: str) -> str:
    return typed(folder / "checkpoints" / name)


def typed(path: Path) -> str:
    """The path as text that no command takes for a flag."""
    return os.path.join(".", path) if str(path).startswith("-") else str(path)
