"""The loop: steps until the scheduler ends the stage, then growth, or the end of the run."""

import shlex
import time
from collections.abc import Callable
from pathlib import Path

from pggan.config.schema import Config
from pggan.config.validation import validate
from pggan.data.packing import ImageCache
from pggan.errors import Interrupted, NonFiniteError, explaining_full_memory
from pggan.evaluation.grids import grid_files
from pggan.run.events import Events
from pggan.run.planning import apply_plan, next_start, over, plan_stage, stage_start, waits
from pggan.run.rollback import roll_back
from pggan.run.run_dir import RunDir
from pggan.run.setup import batches_at, begin, complete, load_images, open_folder, open_images, what_next, write_config
from pggan.run.tensorboard import check_tensorboard
from pggan.run.timer import Timer
from pggan.schedule import Scheduler, scheduler_for
from pggan.schedule.stages import Decision
from pggan.system import Signals
from pggan.training.gradient_workers import gradient_workers
from pggan.training.state import TrainState
from pggan.training.step import step


def train(config: Config, clock: Callable[[], float] | None = None) -> Path:
    """Trains as `config` says, or continues the unfinished run in its folder; returns the folder.

    clock: returns the seconds that this process has spent so far; None: counted from this call. Raises UserError for
    an error that the user can correct, Diverged after too many rollbacks, and Interrupted after a signal, once
    everything is saved.
    """
    called = time.monotonic()
    clock = clock or (lambda: time.monotonic() - called)
    startup = clock()
    validate(config)
    if config.run.tensorboard:
        check_tensorboard()
    advice = "out of memory: saves are kept; start a new run with a smaller --batch or --fmap-base, another --out"
    with open_folder(config) as folder, explaining_full_memory(advice):
        state = begin(complete(config, folder), folder)
        scheduler = scheduler_for(config.schedule, state.replay)
        if over(state, scheduler):
            open_images(state, folder)  # refuses other pictures
            print(what_next(folder, state))
            return folder.path
        images = load_images(state, folder)
        folder.acquire_lock()
        write_config(state, images, folder)
        timer = Timer(clock, max(state.seconds, folder.noted_seconds()), startup)
        with gradient_workers(state.processes, state.threads) as state.workers:
            run_all(folder, state, scheduler, images, timer)
        if waits(state, scheduler):
            print(what_next(folder, state))
    return folder.path


def run_all(folder: RunDir, state: TrainState, scheduler: Scheduler, images: ImageCache, timer: Timer) -> None:
    """Runs all stages that are left. Records and grids after the state's nimg go first. Raises as `train` does."""
    folder.cut_metrics(state.metrics_bytes)
    folder.cut_samples(state.nimg)
    folder.write_growth(state.growth)
    apply_plan(state, plan_stage(state, scheduler, stage_start(state, timer.total())))
    with Signals() as signals:
        events = Events(folder, state, scheduler, timer, signals)
        try:
            run_stages(events, state, images)
        except Interrupted as interrupted:
            events.say(f"saved at {interrupted.nimg / 1000:.2f} kimg; the same command goes on from there")
            raise interrupted from None
        finally:
            events.close()


def run_stages(events: Events, state: TrainState, images: ImageCache) -> None:
    """Runs the rest of the stage of `state`, and all later ones."""
    events.save(state)  # to have a checkpoint to roll back to, and to notice at once if the disk cannot be written
    decision = None
    while not (decision and decision.action == "stop"):
        events.begin_stage(images, state)
        batches = batches_at(images, state)
        try:
            while not (decision := events.decide(state)):
                with events.timer.measure("step"):
                    with events.timer.measure("data"):
                        reals = batches.batch(state.nimg, state.batch())
                    step(state, reals, events.say)
                before, state.nimg = state.nimg, state.nimg + state.batch()
                if before < state.stage.plan.fade_end <= state.nimg:
                    state.end_fade()
                events.after_step(state, before)
            events.end_stage(state, decision)
        except NonFiniteError as error:
            state = roll_back(events, state, error)
            decision = None
            continue
        grow_or_stop(events, state, decision)


def grow_or_stop(events: Events, state: TrainState, decision: Decision) -> None:
    """Writes the decision into growth.json, and grows the state if it says so."""
    if decision.action == "stop":
        state.log("stop", state.res, decision.reason, decision.numbers)
    else:
        plan = plan_stage(state, events.scheduler, next_start(state, events.timer.total()))
        state.log("grow", plan.res, decision.reason, {**decision.numbers, "fade_nimg": plan.fade})
        state.grow(plan)
    events.folder.write_growth(state.growth)
    events.save(state)


def summary(folder: Path) -> str:
    """Text for the user at the end of a run: where its files are, and the next command."""
    checkpoints = folder / "checkpoints"
    ends, best = (", ".join(map(str, sorted(checkpoints.glob(f"{name}-*.pt")))) for name in ("res", "best"))
    latest = shlex.quote(str(checkpoints / "latest.pt"))
    grids = grid_files(folder / "samples")
    lines = [f"samples      {grids[-1].path if grids else None}", f"checkpoints  {ends}"]
    lines += [f"the best     {best}"] if best else []
    return "\n".join([*lines, f"more of them: python tools/sample.py {latest} --num 64 --out samples"])
