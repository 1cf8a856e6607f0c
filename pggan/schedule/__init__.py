"""Schedulers decide when to fade, to grow and to stop. They are pure: they need no torch and read no clock.

A scheduler plans each stage when it begins, and is asked before every step whether the stage is over. To add one, write
a file with these two methods, a row in SCHEDULERS and a name in config/tables.py.
"""

from typing import Protocol

from pggan.config.schema import ScheduleConfig
from pggan.schedule.budget import BudgetScheduler
from pggan.schedule.fixed import FixedScheduler
from pggan.schedule.manual import ManualScheduler
from pggan.schedule.replay import ReplayScheduler
from pggan.schedule.stages import Decision, Progress, Stage, StageStart


class Scheduler(Protocol):
    """The interface of a scheduler.

    history: every evaluation so far, oldest first: {nimg, res, alpha, figures, verdict, reason}. `figures` has the keys
    of evaluation/figures.py, such as "quality/rfd"; a figure that was not finite is missing.
    """

    needs_speed: bool
    """Whether `begin` reads `start.speeds`."""

    def begin(self, start: StageStart, history: list[dict]) -> Stage:
        """Returns the plan of a stage. Called when the stage begins, and again when the run is continued."""

    def decide(self, progress: Progress, history: list[dict]) -> Decision | None:
        """Returns None while the stage goes on, else how it ends. Called before every step."""


SCHEDULERS = {  # by --schedule
    "fixed": FixedScheduler,
    "manual": ManualScheduler,
}


def scheduler_for(config: ScheduleConfig, replay: list[dict] | None = None) -> Scheduler:
    """Returns the scheduler that the settings ask for.

    replay: the growth.json to repeat, as `replay.check_growth` returns it; None or []: none.
    """
    if replay:
        return ReplayScheduler(replay)
    return BudgetScheduler(config) if config.budget else SCHEDULERS[config.schedule](config)
