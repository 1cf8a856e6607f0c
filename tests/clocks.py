"""Runs by a clock of their own, for the tests of budgets and their replays."""

import os
import signal

from short import watch_steps

from pggan.run import loop
from pggan.run.run_dir import RunDir


class Clock:
    """Seconds that one process has spent: `start` to get going, then as each step, checkpoint and grid takes.

    trains: whether the steps do anything but take time.
    """

    def __init__(self, patch, step, start: float = 0.0, save: float = 0.0, draw: float = 0.0, trains: bool = False):
        self.now = start
        if not trains:
            patch.setattr(loop, "step", lambda *_: None)
        watch_steps(patch, after=lambda state, *_: self.tick(step(state.res, self.now)))
        for name, cost in (("save", save), ("draw", draw)):
            patch.setattr(RunDir, name, self.taking(cost, getattr(RunDir, name)))

    def taking(self, cost: float, real):
        def slow(*given):
            self.tick(cost)
            return real(*given)

        return slow

    def tick(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def steady(cost: float):
    """A step costs twice as much at each resolution as at the one before."""
    return lambda res, now: cost * res / 4


def loaded(cost: float, since: float):
    """The machine is three times slower from a moment on."""
    return lambda res, now: cost * res / 4 * (3 if now >= since else 1)


def budgeted(settings, *flags: object, total: float = 100, **more: str):
    return settings("--budget", f"{total}s", "--record-kimg", 0.008, "--max-res", 16, *flags, **more)


class Killed(BaseException):
    """What SIGKILL would do: nothing is saved any more."""


def leave(patch, nimg: int, how: type[BaseException]) -> None:
    def at(state, *_):
        if state.nimg == nimg:
            if how is Killed:
                raise Killed
            os.kill(os.getpid(), signal.SIGTERM)

    watch_steps(patch, before=at)
