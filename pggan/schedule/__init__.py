"""When to fade, when to grow, when to stop. Pure: no torch, and no clock of its own.

A scheduler plans each stage when it begins, and decides before every step whether the stage ends. To add one, write a
file with these two methods and a row in SCHEDULERS.
"""

from typing import Protocol

from pggan.config.schema import ScheduleConfig
from pggan.schedule.budget import BudgetScheduler
from pggan.schedule.fixed import FixedScheduler
from pggan.schedule.manual import ManualScheduler
from pggan.schedule.replay import ReplayScheduler
from pggan.schedule.stages import Decision, Progress, Stage, StageStart


class Scheduler(Protocol):
    """Plans and ends stages. history: every evaluation so far, oldest first (TrainState.history)."""

    needs_speed: bool
    """Whether `begin` reads `start.speeds`."""

    def begin(self, start: StageStart, history: list[dict]) -> Stage:
        """Returns the plan of a stage: called as it begins, and again whenever the run is continued."""

    def decide(self, progress: Progress, history: list[dict]) -> Decision | None:
        """Returns how the stage ends, or None while it goes on. Called before every step."""


SCHEDULERS = {  # by --schedule
    "fixed": FixedScheduler,
    "manual": ManualScheduler,
}


def scheduler_for(config: ScheduleConfig, replay: list[dict] | None = None) -> Scheduler:
    """Returns the scheduler that the settings ask for.

    replay: the content of a growth.json to repeat, as `replay.check_growth` returns it.
    """
    if replay:
        return ReplayScheduler(replay)
    return BudgetScheduler(config) if config.budget else SCHEDULERS[config.schedule](config)
