"""The commands that continue a run, grow it, and draw samples from it."""

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pggan.config.schema import Config, flat, seconds
from pggan.errors import UserError
from pggan.run.report.facts import Facts, changed, gave_up


class Command(NamedTuple):
    """name: what it does. text: lines for a shell in the project's folder."""

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
        grow = shlex.join(["python", "tools/grow.py", typed(Path(typed(folder), "checkpoints", "latest.pt"))])
        return Command("Grow the run and train it at the next resolution", f"{grow}\n{train(folder, config, facts)}")
    if end and config.schedule.budget:
        longer = replace(config.schedule, budget=f"{2 * seconds(config.schedule.budget):.0f}s")
        return Command("Train twice as long", train(folder, replace(config, schedule=longer), facts))
    if not end:
        return Command("Continue from the last checkpoint, if training was interrupted", train(folder, config, facts))
    if (more := further(config)) is None:
        return None
    return Command(f"Train this run further, up to {more.network.max_res} px", train(folder, more, facts))


def _grow(folder: Path, facts: Facts) -> Command | None:
    names = [name for name in facts.checkpoints if name.startswith("res-") and name[4:-3].isdecimal()]
    res = max((int(name[4:-3]) for name in names), default=0)
    if not res or facts.config is None or not _can_have(facts.config, 2 * res):
        return None
    place = Path(typed(folder), "checkpoints")
    grown, out = typed(place / f"grown-{2 * res:04d}.pt"), f"{typed(folder)}-{2 * res}"
    lines = [
        ["python", "tools/grow.py", typed(place / f"res-{res:04d}.pt")],
        ["python", "train.py", "--resume", grown, "--out", out],
    ]
    return Command(f"Start another run at {2 * res} px from this one's {res} px", "\n".join(map(shlex.join, lines)))


def _sample(folder: Path, facts: Facts) -> Command | None:
    if "latest.pt" not in facts.checkpoints:
        return None
    latest = Path(typed(folder), "checkpoints", "latest.pt")
    words = [typed(latest), "--num", "64", "--seed", "1", "--psi", "0.8", "--out", "samples"]
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


def further(config: Config) -> Config | None:
    """`config` with one resolution more; None if there is none, or if the schedule is not the fixed one."""
    res, schedule = 2 * config.network.ends()[1], config.schedule
    if schedule.budget or schedule.plan or schedule.schedule == "manual":
        return None
    return replace(config, network=replace(config.network, max_res=res)) if _can_have(config, res) else None


def _can_have(config: Config, res: int) -> bool:
    try:
        replace(config.network, max_res=max(res, config.network.ends()[1]))
    except UserError:
        return False
    return res in config.network.resolutions()


def typed(path: Path) -> str:
    """The path as text that no command takes for a flag."""
    return os.path.join(".", path) if str(path).startswith("-") else str(path)
