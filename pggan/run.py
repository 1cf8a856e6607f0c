"""What a run does beside the steps, once in a while: record, draw, save, tell."""

import math
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager

from pggan.config import at, to_dict
from pggan.errors import Interrupted
from pggan.folder import RunFolder
from pggan.progress import Progress, peak_memory
from pggan.schedule import Decision, Stage, due, seconds_left
from pggan.state import TrainState
from pggan.tracking import Tracker

SECONDS_BETWEEN_GLANCES = 1  # of the progress line


class NonFiniteError(Exception):
    """A loss or a weight is no number any more. The message says which."""


class Signals:
    """Remembers SIGINT, SIGTERM and SIGHUP (a closed terminal) instead of dying of them: the step under way can end."""

    ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __enter__(self):
        self.caught = 0
        self.before = {number: signal.signal(number, self._remember) for number in self.ASKING}
        return self

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _remember(self, number, _frame):
        self.caught = number


class Run:
    """One process's share of a run. clock: seconds, injected by tests."""

    def __init__(self, folder: RunFolder, state: TrainState, planned: int, clock: Callable[[], float]):
        self.folder, self.clock = folder, clock
        self.progress = Progress(planned, state.nimg)
        self.tracker = Tracker(
            state.config.run.wandb, folder.path, folder.path.name, to_dict(state.config), self.progress.say
        )
        self.before = folder.last_record().get("wall/seconds", 0.0)  # spent by earlier processes
        self.started = self.saved = self.recorded = self.ticked = self.glanced = clock()
        self.recorded_nimg = state.nimg
        self.spent = {"step": 0.0, "data": 0.0}
        self.speed = math.nan

    @contextmanager
    def watch(self, name: str):
        """Adds the time of its body to `spent`."""
        start = self.clock()
        yield
        self.spent[name] += self.clock() - start

    def after_step(self, state: TrainState, stage: Stage, before: int, signals: Signals) -> None:
        """Everything that is due between the images `before` and state.nimg. Raises NonFiniteError, Interrupted."""
        now = self.clock()
        if stage.seconds:
            state.stage_seconds += now - self.ticked
        self.ticked = now
        settings, alpha = state.config.run, stage.alpha(state.nimg)
        if due(before, state.nimg, settings.record_kimg):
            self.record(state, alpha)
        if due(before, state.nimg, settings.sample_kimg):
            self.draw(state, alpha)
        if now - self.glanced >= SECONDS_BETWEEN_GLANCES:
            self.glance(state, stage, alpha)
        if now - self.saved >= 60 * settings.save_minutes or signals.caught:
            self.save(state)
        if signals.caught:
            raise Interrupted(signals.caught, state.nimg)

    def record(self, state: TrainState, alpha: float) -> None:
        """A line of metrics.jsonl: the means since the last one. Raises NonFiniteError when one is no number."""
        losses = {f"loss/{name}": float(value) / state.steps for name, value in state.sums.items()}
        if bad := [name for name, value in losses.items() if not math.isfinite(value)]:
            raise NonFiniteError(f"{', '.join(bad)} not finite")
        now, config = self.clock(), state.config
        seconds = max(now - self.recorded, 1e-9)
        self.speed = (state.nimg - self.recorded_nimg) / seconds
        values = {
            **losses,
            "growth/res": state.res,
            "growth/alpha": alpha,
            "growth/batch": state.batch(),
            "growth/lr": at(config.training.lr, state.res) * state.lr_factor,
            "growth/attempt": state.attempt,
            "speed/images_per_s": self.speed,
            "speed/data_share": self.spent["data"] / seconds,
            "speed/other_share": max(0.0, 1 - self.spent["step"] / seconds),
            "memory/peak_bytes": peak_memory(state.device),
            "wall/seconds": self.before + now - self.started,
        }
        state.metrics_bytes = self.folder.append(state.nimg, values)
        self.tracker.log(state.nimg, values)
        state.sums, state.steps = {}, 0
        self.measure_from(state)

    def measure_from(self, state: TrainState) -> None:
        """Begins the next record's measurements here: after a record, and after a rollback."""
        self.recorded, self.recorded_nimg, self.spent = self.clock(), state.nimg, {"step": 0.0, "data": 0.0}

    def draw(self, state: TrainState, alpha: float) -> None:
        self.tracker.log_grid(state.nimg, self.folder.draw(state, alpha))

    def glance(self, state: TrainState, stage: Stage, alpha: float) -> None:
        """The progress line."""
        self.glanced = self.clock()
        shown, seconds = state.nimg - self.recorded_nimg, self.glanced - self.recorded
        speed = self.speed if math.isfinite(self.speed) else shown / max(seconds, 1e-9)
        later = [res for res in state.config.network.stages() if res > state.res]
        left = seconds_left(state.config.schedule, stage, state.nimg, state.stage_seconds, later, speed)
        self.progress.show(state, alpha, speed, peak_memory(state.device), left)

    def save(self, state: TrainState, end_of_stage: bool = False) -> None:
        """A checkpoint of a state that is good to return to. Raises NonFiniteError when it is not."""
        if not state.finite():
            raise NonFiniteError("a weight is not finite")
        self.folder.save(state, end_of_stage)
        self.saved = self.clock()

    def end_stage(self, state: TrainState, decision: Decision) -> None:
        """The checkpoint and the grid that every resolution leaves behind."""
        self.save(state, end_of_stage=True)
        self.draw(state, 1.0)
        minutes = (self.clock() - self.started) / 60
        self.progress.say(
            f"{state.res} px is done at {state.nimg / 1000:.2f} kimg, {minutes:.1f} min: {decision.reason}"
        )

    def close(self) -> None:
        self.tracker.close()
        self.progress.close()


def wall_clock() -> float:
    """Seconds; only differences mean anything."""
    return time.monotonic()
