"""What a run does beside the steps, once in a while: record, measure, draw, save, tell."""

import math
import signal
from collections.abc import Callable
from contextlib import contextmanager, suppress

from pggan.config.schema import seconds, to_dict
from pggan.data.packing import ImageCache
from pggan.errors import Interrupted, UserError
from pggan.evaluation import evaluator
from pggan.metrics.reference import Reference
from pggan.run.progress import Progress, peak_memory
from pggan.run.report import Report
from pggan.run.run_dir import RunDir
from pggan.run.tensorboard import TensorBoard
from pggan.run.wandb import Tracker
from pggan.schedule import budget
from pggan.schedule.stages import Decision, Stage, budget_spent, due, finished, planned_images, seconds_left
from pggan.system import STOP_SIGNALS
from pggan.training.state import TrainState

SECONDS_BETWEEN_GLANCES = 1  # of the progress line
SECONDS_BETWEEN_NOTES = 3  # of the time spent
SECONDS_BETWEEN_REPORTS = 30
MOST_REPORTING = 200  # seconds of training for each that the last page took


class NonFiniteError(Exception):
    """A loss or a weight is no number any more. The message says which."""


class Signals:
    """Remembers SIGINT, SIGTERM and SIGHUP (a closed terminal) instead of dying of them: the step under way can end."""

    ASKING = STOP_SIGNALS

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
    """One process's share of a run.

    clock: seconds since this process began, injected by tests; before: seconds that earlier processes spent; came:
    seconds that this one took to come to its first line, by which it is judged how long it is going to take to leave.
    """

    def __init__(self, folder: RunDir, state: TrainState, before: float, clock: Callable[[], float], came: float = 0.0):
        self.folder, self.clock, self.before = folder, clock, before
        self.schedule = state.config.schedule
        self.budget = seconds(self.schedule.budget) if self.schedule.budget else 0.0
        self.to_leave = min(0.3 + 0.4 * came, 0.5 + 0.015 * self.budget)
        self.progress = Progress(*((self.budget, self.wall()) if self.budget else (self.planned(state), state.nimg)))
        self.tracker = Tracker(
            state.config.run.wandb, folder.path, folder.path.name, to_dict(state.config), self.progress.say
        )
        self.trackers = [self.tracker]
        if state.config.run.tensorboard:
            self.trackers.append(TensorBoard(folder.path, state.nimg + 1))
        self.report = Report(folder.path)
        self.reported = self.saved = self.recorded = self.ticked = self.glanced = clock()
        self.recorded_nimg, self.noted = state.nimg, 0.0
        self.spent = {"step": 0.0, "data": 0.0}
        self.costs = {"step": 0.0, "save": 0.0, "report": 0.0}  # seconds that each took the last time
        self.speed = math.nan
        self.reference: Reference | None = None  # of the pictures at reference_res; None: nothing is measured there
        self.reference_res, self.verdict = 0, ""
        self.began, self.measuring = clock(), 0.0  # seconds

    def wall(self) -> float:
        """Seconds since the start of the run, start-up included, over all processes."""
        return self.before + self.clock()

    def planned(self, state: TrainState) -> int:
        """The nimg at which all is done, as far as that is known."""
        if state.plan:
            return state.plan[-1]["nimg"]
        later = [res for res in state.config.network.stages() if res > state.res]
        return state.stage().end + planned_images(self.schedule, later, first=False)

    @contextmanager
    def watch(self, name: str):
        """Adds the time of its body to `spent`, and remembers it as what this costs."""
        start = self.clock()
        yield
        self.costs[name] = self.clock() - start
        self.spent[name] = self.spent.get(name, 0.0) + self.costs[name]

    def finished(self, state: TrainState, stage: Stage) -> Decision | None:
        """The decision to end the stage, by the images shown, its clock or the budget."""
        decision = finished(stage, state.nimg, state.stage_seconds)
        return decision or budget_spent(self.schedule, stage, state.nimg, self.wall(), self.ahead())

    def ahead(self) -> float:
        """Seconds that one more step and the end of the run take: an evaluation, checkpoints, a grid, the page."""
        costs = self.costs
        end = 2 * costs["save"] + costs.get("draw", costs["step"]) + costs["report"] + self.tracker.seconds_to_close
        if self.reference:
            end += costs["measure"] + costs["save"]  # of best-RES.pt
        return costs["step"] + end + self.to_leave

    def decide(self, state: TrainState, res: int, fades: bool) -> budget.Decided:
        """What the plan or the budget gives the stage at `res`, which begins now; {} when there is neither."""
        if state.plan:
            return budget.replayed(state.plan, res)
        if not self.budget:
            return {}
        later = [each for each in state.config.network.stages() if each > res]
        speed = budget.expected_speed(state.speeds, res) if fades else None
        return budget.decide(self.schedule, res, later, self.wall(), speed)

    def after_step(self, state: TrainState, stage: Stage, before: int, signals: Signals) -> None:
        """Everything that is due between the images `before` and state.nimg. Raises NonFiniteError, Interrupted."""
        now = self.clock()
        if stage.seconds or self.budget:
            state.stage_seconds += now - self.ticked
        self.ticked = now
        settings, alpha = state.config.run, stage.alpha(state.nimg)
        if due(before, state.nimg, settings.record_kimg):
            self.record(state, alpha)
        if self.reference and due(before, state.nimg, settings.eval_kimg.at(state.res)):
            self.measure(state, alpha)
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
        losses = {f"loss/{name}": float(value) / state.counts[name] for name, value in state.sums.items()}
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
            "growth/lr": config.training.lr.at(state.res) * state.lr_factor,
            "growth/attempt": state.attempt,
            **({"growth/ada_p": state.augment["p"].item()} if config.training.ada else {}),
            "speed/images_per_s": self.speed,
            "speed/data_share": self.spent["data"] / seconds,
            "speed/other_share": max(0.0, 1 - self.spent["step"] / seconds),
            "memory/peak_bytes": peak_memory(state.device),
            "wall/seconds": self.wall(),
        }
        state.metrics_bytes = self.folder.append(state.nimg, values)
        for tracker in self.trackers:
            tracker.log(state.nimg, values)
        state.sums, state.counts = {}, {}
        self.measure_from(state)

    def measure_from(self, state: TrainState) -> None:
        """Begins the next record's measurements here: after a record, and after a rollback."""
        self.recorded, self.recorded_nimg, self.spent = self.clock(), state.nimg, {"step": 0.0, "data": 0.0}

    def measure_reals(self, pack: ImageCache, state: TrainState) -> None:
        """What the samples of the stage that begins are going to be compared with."""
        if self.reference_res == state.res:  # after a rollback
            return
        self.reference, self.reference_res = None, state.res
        if evaluator.wanted(state.config, state.res):
            try:
                with self.watch("reals"):
                    self.reference = evaluator.reference(state.config, pack, state.res, self.progress.say)
            except UserError as error:
                self.progress.say(f"quality and diversity are not measured at {state.res} px: {error}")
                return
            self.measuring += self.costs["reals"]
            self.costs["measure"] = evaluator.seconds(state.config, self.costs["step"] / state.batch())

    def measure(self, state: TrainState, alpha: float) -> None:
        """A line of metrics.jsonl on quality and diversity, and best-RES.pt where the samples are the best so far.

        Raises NonFiniteError. Where the user could mend something, that is said, and no more is measured in the stage.
        """
        if not self.reference or state.measured == state.nimg:
            return
        if not state.finite():
            raise NonFiniteError("a weight is not finite")
        try:
            with self.watch("measure"):
                found = evaluator.evaluate(state, alpha, self.reference)
        except UserError as error:
            self.reference = None
            self.progress.say(f"nothing more is measured at {state.res} px: {error}")
            return
        state.measured = state.nimg
        self.measuring += self.costs["measure"]
        self.tell(state, found)
        if alpha == 1 and found.healthy and found.quality < state.best.get(str(state.res), math.inf):
            state.best[str(state.res)] = found.quality
            self.save(state, "best")
            self.measuring += self.costs["save"]

    def tell(self, state: TrainState, found: evaluator.Evaluation) -> None:
        """What was measured, to all who keep it; a line to the user when the verdict is another one."""
        share = self.measuring / max(self.clock() - self.began, 1e-9)
        values = {**found.figures, "speed/eval_share": share}
        state.metrics_bytes = self.folder.append(state.nimg, {**values, "wall/seconds": self.wall()})
        for tracker in self.trackers:
            tracker.log(state.nimg, values)
        if found.verdict != self.verdict:
            self.progress.say(f"{state.res} px at {state.nimg / 1000:.2f} kimg: {found.verdict}; {found.reason}")
        self.verdict = found.verdict

    def draw(self, state: TrainState, alpha: float) -> None:
        with self.watch("draw"):
            grid = self.folder.draw(state, alpha)
        for tracker in self.trackers:
            tracker.log_grid(state.nimg, grid)
        if self.clock() - self.reported >= max(SECONDS_BETWEEN_REPORTS, MOST_REPORTING * self.costs["report"]):
            self.write_report()

    def write_report(self, most_new: float = 4) -> None:
        """report.html, from all that is in the folder by now, but for at most so many grids it has not read yet."""
        with self.watch("report"):
            self.report.update(self.progress.say, most_new)
        self.reported = self.clock()

    def glance(self, state: TrainState, stage: Stage, alpha: float) -> None:
        """The progress line."""
        self.glanced = self.clock()
        shown, seconds = state.nimg - self.recorded_nimg, self.glanced - self.recorded
        speed = self.speed if math.isfinite(self.speed) else shown / max(seconds, 1e-9)
        later = [res for res in state.config.network.stages() if res > state.res]
        if self.budget:
            left, done = max(self.budget - self.wall(), 0.0), self.wall()
            self.note_seconds(done)
        elif state.plan:
            left, done = max(self.planned(state) - state.nimg, 0) / max(speed, 1e-9), state.nimg
        else:
            left = seconds_left(self.schedule, stage, state.nimg, state.stage_seconds, later, speed)
            done = state.nimg
        self.progress.show(state, alpha, speed, peak_memory(state.device), left, done)

    def note_seconds(self, seconds: float) -> None:
        """For the next process, should this one be killed. A drive that is away for a moment is no reason to stop."""
        if seconds - self.noted >= SECONDS_BETWEEN_NOTES:
            self.noted = seconds
            with suppress(OSError):
                self.folder.note_seconds(seconds)

    def save(self, state: TrainState, name: str = "latest") -> None:
        """A checkpoint (see RunDir) of a state that is good to return to. Raises NonFiniteError when it is not."""
        if not state.finite():
            raise NonFiniteError("a weight is not finite")
        if self.budget:
            state.seconds = self.wall()
        with self.watch("save"):
            self.folder.save(state, name)
        if name == "latest":
            self.saved = self.clock()

    def end_stage(self, state: TrainState, decision: Decision) -> None:
        """The evaluation, the checkpoint and the grid that every resolution leaves behind."""
        alpha = state.stage().alpha(state.nimg)  # below 1 where a budget ended in a fade
        self.measure(state, alpha)
        self.save(state, "res")
        self.draw(state, alpha)
        if self.budget and state.stage_seconds:
            counted = state.nimg - state.decided.get("counted_from", state.stage_start)
            state.speeds[str(state.res)] = counted / state.stage_seconds
        self.progress.say(
            f"{state.res} px is done at {state.nimg / 1000:.2f} kimg, {self.wall() / 60:.1f} min: {decision.reason}"
        )

    def close(self) -> None:
        self.write_report(*(() if self.budget else (math.inf,)))  # all grids, where time does not matter
        for tracker in self.trackers:
            tracker.close()
        self.progress.close()
