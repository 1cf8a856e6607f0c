"""The work between steps, done once in a while: records, evaluations, samples, saves, the report."""

import math
from contextlib import suppress

from pggan.data.packing import ImageCache
from pggan.errors import Interrupted, NonFiniteError
from pggan.run.devices import peak_memory
from pggan.run.evaluations import Evaluations
from pggan.run.logger import open_loggers
from pggan.run.planning import stage_start
from pggan.run.progress import ProgressBar
from pggan.run.report import Report
from pggan.run.run_dir import RunDir
from pggan.run.timer import Timer
from pggan.schedule import Scheduler
from pggan.schedule.budget import expected_speed
from pggan.schedule.forecast import forecast
from pggan.schedule.stages import Decision, Progress, due
from pggan.system import Signals
from pggan.training.state import TrainState

SECONDS_BETWEEN_BAR_UPDATES = 1
SECONDS_BETWEEN_NOTES = 3  # of the time spent
SECONDS_BETWEEN_REPORTS = 30
REPORT_SHARE = 1 / 200  # of the time, at most, for reports


class Events:
    """The work between the steps of one process.

    images_per_s: of the last record, nan before the first one.
    """

    def __init__(self, folder: RunDir, state: TrainState, scheduler: Scheduler, timer: Timer, signals: Signals):
        self.folder, self.scheduler, self.timer, self.signals = folder, scheduler, timer, signals
        self.budget = state.stage.plan.budget
        planned = self.forecast(state, 1.0)[-1][0].end
        self.bar = ProgressBar(*((self.budget, timer.total()) if self.budget else (planned, state.nimg)))
        self.say = self.bar.print_line
        self.loggers = open_loggers(state.config, folder.path, state.nimg, self.say)
        self.report = Report(folder.path)
        self.evaluations = Evaluations(timer, self.say)
        self.recorded_nimg, self.images_per_s = state.nimg, math.nan

    # ---- asked by the loop

    def begin_stage(self, images: ImageCache, state: TrainState) -> None:
        self.evaluations.begin_stage(images, state)
        if state.graphs.compiler:
            self.say(f"the steps of {state.res} px are compiled: this may take minutes, less where it was done before")

    def decide(self, state: TrainState) -> Decision | None:
        """The scheduler's decision on the end of the stage."""
        times = state.stage.seconds, self.timer.total(), self.seconds_to_finish()
        return self.scheduler.decide(Progress(state.stage.plan, state.nimg, state.later, *times), state.history)

    def after_step(self, state: TrainState, before: int) -> None:
        """Does all that became due between the images `before` and state.nimg. Raises NonFiniteError, Interrupted."""
        settings, plan, seconds = state.config.run, state.stage.plan, self.timer.restart("step")
        if plan.timed:
            state.stage.seconds += seconds
        if due(before, state.nimg, settings.record_kimg):
            self.record(state)
        if due(before, state.nimg, settings.eval_kimg.at(state.res)):
            self.evaluate(state)
        if due(before, state.nimg, settings.sample_kimg):
            self.sample(state)
        if self.timer.since("bar") >= SECONDS_BETWEEN_BAR_UPDATES:
            self.update_bar(state)
        compiling = state.graphs.compiler and before < plan.fade_end <= state.nimg  # takes minutes: signals wait
        if self.timer.since("save") >= 60 * settings.save_minutes or self.signals.caught or compiling:
            self.save(state)
        if self.signals.caught:
            raise Interrupted(self.signals.caught, state.nimg)

    def end_stage(self, state: TrainState, decision: Decision) -> None:
        """Measures, saves and samples at the end of a resolution."""
        self.evaluate(state)
        self.save(state, "res")
        self.sample(state)
        stage = state.stage
        if self.budget and stage.seconds:
            state.speeds[state.res] = (state.nimg - stage.timed_from) / stage.seconds
        minutes = self.timer.total() / 60
        self.say(f"{state.res} px is done at {state.nimg / 1000:.2f} kimg, {minutes:.1f} min: {decision.reason}")

    def close(self) -> None:
        self.write_report(*(() if self.budget else (math.inf,)))  # all grids, unless a budget is to be kept
        for logger in self.loggers:
            logger.close()
        self.bar.close()

    # ---- once in a while

    def record(self, state: TrainState) -> None:
        """Writes a line of metrics.jsonl: means since the last one. Raises NonFiniteError when one is not finite."""
        losses = {f"loss/{name}": float(value) / state.counts[name] for name, value in state.sums.items()}
        if bad := [name for name, value in losses.items() if not math.isfinite(value)]:
            raise NonFiniteError(f"{', '.join(bad)} not finite")
        training, sums = state.config.training, self.timer.sums
        seconds = max(self.timer.since("record"), 1e-9)
        self.images_per_s = (state.nimg - self.recorded_nimg) / seconds
        values = {
            **losses,
            "growth/res": state.res,
            "growth/alpha": state.alpha,
            "growth/batch": state.batch(),
            "growth/lr": training.lr.at(state.res) * state.lr_factor,
            "growth/attempt": state.attempt,
            **({"growth/ada_p": state.augment["p"].item()} if training.ada else {}),
            "speed/images_per_s": self.images_per_s,
            "speed/data_share": sums["data"] / seconds,
            "speed/other_share": max(0.0, 1 - sums["step"] / seconds),
            "memory/peak_bytes": peak_memory(state.device),
        }
        self.log(state, values)
        state.sums, state.counts = {}, {}
        self.restart_record(state)

    def restart_record(self, state: TrainState) -> None:
        """Starts measuring for the next record: after a record, and after a rollback."""
        self.timer.restart("record")
        self.recorded_nimg, self.timer.sums["data"], self.timer.sums["step"] = state.nimg, 0.0, 0.0

    def log(self, state: TrainState, values: dict[str, float]) -> None:
        values = {**values, "wall/seconds": self.timer.total()}
        state.metrics_bytes = self.folder.append(state.nimg, values)
        for logger in self.loggers:
            logger.log(state.nimg, values)

    def evaluate(self, state: TrainState) -> None:
        """Measures quality and diversity; saves best-RES.pt if they are the best so far. Raises NonFiniteError."""
        if self.evaluations.reference:
            check_finite(state)
        found = self.evaluations.evaluate(state)
        if found is None:
            return
        self.log(state, {**found.figures, "speed/eval_share": self.timer.share("reference", "evaluate")})
        if state.alpha == 1 and found.healthy and found.quality < state.best.get(state.res, math.inf):
            state.best[state.res] = found.quality
            self.save(state, "best")

    def sample(self, state: TrainState) -> None:
        """Draws a grid of samples, and from time to time writes the report."""
        with self.timer.measure("sample"):
            grid = self.folder.draw(state, state.alpha)
        for logger in self.loggers:
            logger.log_grid(state.nimg, grid)
        if self.timer.since("report") >= max(SECONDS_BETWEEN_REPORTS, self.timer.last.get("report", 0) / REPORT_SHARE):
            self.write_report()

    def write_report(self, new_grids: float = 4) -> None:
        """Writes report.html from the files in the folder. new_grids: reads at most so many more grids."""
        with self.timer.measure("report"):
            self.report.update(self.say, new_grids)
        self.timer.restart("report")

    def save(self, state: TrainState, name: str = "latest") -> None:
        """Saves a checkpoint (see RunDir.save). Raises NonFiniteError instead if the state is not finite."""
        check_finite(state)
        if self.budget:
            state.seconds = self.timer.total()
        with self.timer.measure("save"):
            self.folder.save(state, name)
        if name == "latest":
            self.timer.restart("save")

    # ---- time

    def update_bar(self, state: TrainState) -> None:
        self.timer.restart("bar")
        speed = self.images_per_s
        if math.isnan(speed):
            speed = (state.nimg - self.recorded_nimg) / max(self.timer.since("record"), 1e-9)
        left = sum(seconds for _, seconds in self.forecast(state, speed))
        total = self.timer.total()
        if self.budget and self.timer.since("note") >= SECONDS_BETWEEN_NOTES:
            self.timer.restart("note")
            with suppress(OSError):  # the drive may be away for a moment
                self.folder.note_seconds(total)
        done = total if self.budget else state.nimg
        self.bar.show(state.res, state.nimg, state.alpha, speed, peak_memory(state.device), left, done)

    def forecast(self, state: TrainState, images_per_s: float) -> list:
        """The stages that are left, from the speed at this one."""
        start = stage_start(state, self.timer.total())
        speeds = {state.res: max(images_per_s, 1e-9)}
        history, seconds = state.history, state.stage.seconds
        return forecast(self.scheduler, start, history, lambda res: expected_speed(speeds, res), seconds)

    def seconds_to_finish(self) -> float:
        """Estimated seconds for a step and the end of the run: evaluation, checkpoints, samples, report, exit.

        The time to exit is estimated from the start-up time.
        """
        if not self.budget:
            return 0.0
        last = {"step": 0.0, "save": 0.0, "report": 0.0, **self.timer.last}
        end = 2 * last["save"] + last.get("sample", last["step"]) + last["report"]
        if self.evaluations.reference:
            end += last["evaluate"] + last["save"]  # of best-RES.pt
        to_exit = min(0.3 + 0.4 * self.timer.startup, 0.5 + 0.015 * self.budget)
        return last["step"] + end + sum(logger.seconds_to_close for logger in self.loggers) + to_exit


def check_finite(state: TrainState) -> None:
    """Raises NonFiniteError when a weight, a moment or a sum of losses is not finite."""
    if not state.finite():
        raise NonFiniteError("a weight is not finite")
