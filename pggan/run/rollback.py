"""Returns to the last good checkpoint after a loss or a weight that is not finite."""

from dataclasses import replace

from pggan.errors import Diverged, NonFiniteError
from pggan.run.events import Events
from pggan.training import checkpoint
from pggan.training.loading import state_from
from pggan.training.state import TrainState

MOST_ROLLBACKS = 3


def roll_back(events: Events, failed: TrainState, error: NonFiniteError) -> TrainState:
    """Returns the last good state, with other random numbers and half the learning rate.

    Raises Diverged after MOST_ROLLBACKS.
    """
    attempt, folder = failed.attempt + 1, events.folder
    where = f"{error} at {failed.nimg / 1000:.2f} kimg"
    if attempt > MOST_ROLLBACKS:
        failed.log("stop", failed.res, f"{error}, after {MOST_ROLLBACKS} rollbacks", {"lr_factor": failed.lr_factor})
        folder.write_growth(failed.growth)
        raise Diverged(f"{where}, after {MOST_ROLLBACKS} rollbacks: start a new run with a lower --lr, another --out")
    state = state_from(checkpoint.load_latest(folder.checkpoints), failed.device, failed.config)
    state.attempt, state.lr_factor = attempt, failed.lr_factor / 2
    state.graphs, state.workers = failed.graphs, failed.workers
    if state.res == failed.res:  # keeps the time of the failed try, and the number of micro-batches that fits
        state.stage = replace(failed.stage, plan=state.stage.plan, timed_from=state.stage.timed_from)
    else:
        state.graphs.clear()
    state.best = failed.best  # best-RES.pt is still there
    state.metrics_bytes = folder.metrics.stat().st_size
    state.log("rollback", state.res, str(error), {"failed_nimg": failed.nimg, "lr_factor": state.lr_factor})
    now = f"{state.nimg / 1000:.2f} kimg with half the learning rate, attempt {attempt}"
    events.say(f"{where}: back to {now}")
    folder.write_growth(state.growth)
    events.restart_record(state)
    events.save(state)
    return state
