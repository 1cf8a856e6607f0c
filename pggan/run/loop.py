"""The loop: stages, and what happens at their ends."""

import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from pggan.config.schema import Config
from pggan.config.validation import validate
from pggan.data.batches import BatchLoader
from pggan.data.packing import ImageCache
from pggan.errors import Diverged, Interrupted, UserError, out_of_memory
from pggan.run.dry_run import images_per_s
from pggan.run.events import NonFiniteError, Run, Signals
from pggan.run.preparing import Preparation
from pggan.run.run_dir import RunDir
from pggan.run.setup import begin, complete, default_folder, load_images, over, waits, what_next, write_down
from pggan.run.tensorboard import check_tensorboard
from pggan.schedule.budget import holds
from pggan.schedule.stages import Decision
from pggan.training import checkpoint
from pggan.training.state import TrainState, state_from
from pggan.training.step import step

MOST_ROLLBACKS = 3


def train(config: Config, clock: Callable[[], float] | None = None) -> Path:
    """Runs `config`, or goes on with the unfinished run in its folder; returns the folder.

    clock: seconds that count as spent by this process so far; None: since this call. Raises UserError for what the user
    can mend, Diverged, and Interrupted after a signal, when all is saved.
    """
    clock = clock or stopwatch()
    came = clock()
    validate(config)
    if config.run.tensorboard:
        check_tensorboard()
    with RunDir(Path(os.path.expanduser(config.run.out or default_folder(config)))) as folder:
        config = complete(config, folder)
        try:
            state = begin(config, folder)
            if over(state):
                print(what_next(folder, state))
                return folder.path
            pictures = load_images(config, state, folder)
            folder.make_mine()
            write_down(config, state, pictures, folder)
            go_on(folder, state, pictures, clock, came)
            if waits(state):
                print(what_next(folder, state))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            what = (str(error).splitlines() or ["no more"])[0][:120]
            raise UserError(
                f"out of memory ({what}): what is saved stays; begin anew with a smaller --batch or --fmap-base and "
                f"another --out"
            ) from error
    return folder.path


def stopwatch() -> Callable[[], float]:
    """Seconds since this call."""
    start = time.monotonic()
    return lambda: time.monotonic() - start


def go_on(
    folder: RunDir, state: TrainState, pictures: ImageCache, clock: Callable[[], float], came: float = 0.0
) -> None:
    """All that is left of a run, from `state` on; the folder's records are cut to it. Raises as `train` does.

    came: seconds until train() was called.
    """
    recorded = folder.last_record().get("wall/seconds", 0.0)  # perhaps of a record that is cut now
    before = max(state.seconds, recorded, folder.noted_seconds())
    folder.cut_metrics(state.metrics_bytes)
    folder.write_growth(state.growth)
    run = Run(folder, state, before, clock, came)
    with Signals() as signals:
        try:
            with Preparation() as ahead:
                run_stages(run, state, pictures, signals, ahead)
        except Interrupted as interrupted:
            run.progress.say(f"saved at {interrupted.nimg / 1000:.2f} kimg; the same command goes on from there")
            raise interrupted from None
        finally:
            run.close()


def run_stages(run: Run, state: TrainState, pack: ImageCache, signals: Signals, ahead: Preparation) -> None:
    """All stages that are left, from wherever `state` is."""
    settle(run, state)
    run.save(state)  # something to roll back to, and a disk that cannot be written is found out now
    while True:
        stage = state.stage()
        pictures = pictures_at(pack, state)
        run.measure_reals(pack, state)
        ahead.open_graphs(state, stage, run.wall(), run.progress.say)
        try:
            while not (decision := run.finished(state, stage)):
                with run.watch("step"):
                    with run.watch("data"):
                        reals = pictures.batch(state.nimg, state.batch())
                    step(state, stage, reals, run.progress.say)
                before, state.nimg = state.nimg, state.nimg + state.batch()
                faded_in = before < stage.fade_end <= state.nimg
                if faded_in and state.config.training.adam_at_growth == "reset":
                    state.renew_adam(carry=False)
                run.after_step(state, stage, before, signals)
                if faded_in and state.graphs.compiler:
                    run.save(state)  # compiling what comes now may take minutes, in which no signal is heard
            run.end_stage(state, decision)
        except NonFiniteError as error:
            state = roll_back(run, state, error)
            continue
        if end_or_grow(run, state, decision):
            return


def settle(run: Run, state: TrainState) -> None:
    """Decides what the stage under way gets from a plan, or a budget, that is new or was raised."""
    top = state.config.network.ends()[1]
    if holds(state.decided, run.schedule, top) or not (state.plan or run.budget):
        return
    under_way, fade, fresh = state.nimg > state.stage_start, state.stage().fade, "until" not in state.decided
    counted_from = state.nimg if fresh else state.decided.get("counted_from", state.stage_start)
    if state.G.grown and not under_way:  # begun from a grown checkpoint
        know_a_speed(run, state)
    state.decided = run.decide(state, state.res, fades=state.G.grown and not under_way)
    if under_way and run.budget:
        state.decided |= {"fade": fade, "counted_from": counted_from}
        state.stage_seconds = 0.0 if fresh else state.stage_seconds


def know_a_speed(run: Run, state: TrainState) -> None:
    """A budget needs one to tell how long a fade may be; where none was reached yet, a few steps are tried."""
    if run.budget and not state.speeds:
        state.speeds[str(state.res)] = images_per_s(state.config, state.res, state.device)


def end_or_grow(run: Run, state: TrainState, decision: Decision) -> bool:
    """Writes down what follows from the end of a stage, and does it; whether this process is done."""
    last = decision.stops or state.res == state.config.network.stages()[-1]
    if last or run.schedule.schedule == "manual":
        reason = decision.reason if last else f"{decision.reason}; tools/grow.py is to grow it"
        state.log("stop", state.res, reason, decision.numbers)
    else:
        numbers = dict(decision.numbers)
        state.log("grow", 2 * state.res, decision.reason, numbers)
        know_a_speed(run, state)
        state.grow(run.decide(state, 2 * state.res, fades=True))
        numbers["fade_nimg"] = state.stage().fade
    run.folder.write_growth(state.growth)
    run.save(state)
    return state.growth[-1]["action"] == "stop"


def pictures_at(pack: ImageCache, state: TrainState) -> BatchLoader:
    settings = state.config.data
    return BatchLoader(
        pack,
        state.res,
        state.config.network.size(state.res),
        state.stream,
        mirror=settings.mirror,
        random_crop=settings.random_crop,
        device=state.device,
    )


def roll_back(run: Run, failed: TrainState, error: NonFiniteError) -> TrainState:
    """The last good state, with other random numbers and half the learning rate. Raises Diverged after too many."""
    attempt = failed.attempt + 1
    if attempt > MOST_ROLLBACKS:
        failed.log("stop", failed.res, f"{error}, after {MOST_ROLLBACKS} rollbacks", {"lr_factor": failed.lr_factor})
        run.folder.write_growth(failed.growth)
        raise Diverged(
            f"{error} at {failed.nimg / 1000:.2f} kimg, after {MOST_ROLLBACKS} rollbacks: "
            f"begin anew with a lower --lr and another --out"
        )
    state = state_from(checkpoint.load_latest(run.folder.checkpoints), failed.device, failed.config)
    state.attempt, state.lr_factor = attempt, failed.lr_factor / 2
    if state.res == failed.res:
        state.stage_seconds, state.micro_batches = (
            failed.stage_seconds,
            failed.micro_batches,
        )  # a stage's clock counts what failed
        state.recompute = failed.recompute
    state.best = failed.best  # the file of the best is still there
    state.metrics_bytes = run.folder.metrics.stat().st_size
    state.log("rollback", state.res, str(error), {"failed_nimg": failed.nimg, "lr_factor": state.lr_factor})
    run.progress.say(
        f"{error} at {failed.nimg / 1000:.2f} kimg: back to {state.nimg / 1000:.2f} kimg "
        f"with half the learning rate, attempt {attempt}"
    )
    run.folder.write_growth(state.growth)
    run.measure_from(state)
    run.save(state)
    return state


def summary(folder: Path) -> str:
    """What a finished run leaves to look at, and what to type next."""
    checkpoints = folder / "checkpoints"
    ends, best = (", ".join(map(str, sorted(checkpoints.glob(f"{name}-*.pt")))) for name in ("res", "best"))
    latest = shlex.quote(str(checkpoints / "latest.pt"))
    lines = [f"samples      {RunDir(folder).newest_grid()}", f"checkpoints  {ends}"]
    lines += [f"the best     {best}"] if best else []
    return "\n".join([*lines, f"more of them: python tools/sample.py {latest} --num 64 --out samples"])
