"""Calls the scheduler: its arguments come from the state, and its plan goes into the state."""

from pggan.run.profiling import step_cost
from pggan.schedule import Scheduler
from pggan.schedule.stages import Progress, Stage, StageStart
from pggan.training.state import TrainState


def stage_start(state: TrainState, seconds: float) -> StageStart:
    """The arguments of `Scheduler.begin` for the current stage. seconds: spent since the start of the run."""
    plan, speeds = state.stage.plan, dict(state.speeds)
    return StageStart(state.res, plan.start, state.nimg, state.later, state.G.grown, seconds, speeds, planned=plan)


def next_start(state: TrainState, seconds: float) -> StageStart:
    """The same for the stage that begins if the state grows now."""
    res, *later = state.later
    return StageStart(res, state.nimg, state.nimg, tuple(later), seconds=seconds, speeds=dict(state.speeds))


def plan_stage(state: TrainState, scheduler: Scheduler, start: StageStart) -> Stage:
    """Asks the scheduler for a plan; measures a speed first, if one is needed and none is known."""
    if scheduler.needs_speed and start.fades and not start.under_way and not state.speeds:
        state.speeds[state.res] = step_cost(state.config, state.res, state.device, state.workers).images_per_s
        start.speeds.update(state.speeds)
    return scheduler.begin(start, state.history)


def apply_plan(state: TrainState, plan: Stage) -> None:
    """Gives the current stage a new plan. If only the new plan has a budget, its time counts from now on."""
    stage = state.stage
    if plan.until and not stage.plan.until:
        stage.seconds, stage.timed_from = 0.0, state.nimg
    stage.plan = plan


def over(state: TrainState, scheduler: Scheduler) -> bool:
    """Whether the run has stopped, and its current settings ask for no more training."""
    if not state.growth or state.growth[-1]["action"] != "stop":
        return False
    return stops_now(state, scheduler, max(state.seconds, state.growth[-1]["numbers"].get("budget_seconds", 0.0)))


def stops_now(state: TrainState, scheduler: Scheduler, seconds: float = 0.0) -> bool:
    """Whether the run would stop before its next step. seconds: spent since the start of the run."""
    start = stage_start(state, seconds)
    start.speeds.setdefault(state.res, 1.0)  # for the length of a fade, which decides nothing here
    plan = scheduler.begin(start, state.history)
    progress = Progress(plan, state.nimg, state.later, state.stage.seconds, seconds)
    decision = scheduler.decide(progress, state.history)
    return decision is not None and decision.action == "stop"


def waits(state: TrainState, scheduler: Scheduler) -> bool:
    """Whether a run that is grown by hand has come to the end of a resolution that is not its last."""
    return state.config.schedule.schedule == "manual" and bool(state.later) and over(state, scheduler)
