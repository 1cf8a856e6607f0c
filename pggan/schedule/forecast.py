"""The stages that are left, and how long they will take: for the dry run and the progress bar."""

from collections.abc import Callable
from dataclasses import replace

from pggan.schedule import Scheduler
from pggan.schedule.stages import Stage, StageStart


def forecast(
    scheduler: Scheduler,
    start: StageStart,
    history: list[dict],
    speed: Callable[[int], float],
    stage_seconds: float = 0.0,
) -> list[tuple[Stage, float]]:
    """Returns (stage, seconds still to spend in it) for the stage of `start` and every later one.

    speed: images/s at a resolution. stage_seconds: spent so far in the first stage. With --budget, a stage gets the
    images that fit into its share of the time. Raises UserError as the scheduler does.
    """
    stages = []
    while True:
        images_per_s = speed(start.res)
        stage = scheduler.begin(replace(start, speeds={start.res: images_per_s}), history)
        if stage.until:
            left = max(stage.until - start.seconds, 0.0)
            images = start.nimg - stage.start + round(left * images_per_s)
            stage = replace(stage, stable=max(images - stage.fade, 0))
        else:
            left = seconds_left(stage, start.nimg, images_per_s, stage_seconds)
        stages.append((stage, left))
        if stage.final or not start.later:
            return stages
        res, *later = start.later
        start = StageStart(res, stage.end, stage.end, tuple(later), seconds=start.seconds + left)
        stage_seconds = 0.0


def seconds_left(stage: Stage, nimg: int, images_per_s: float, stage_seconds: float = 0.0) -> float:
    """Returns the seconds to the planned end of a stage or to its time limit, whichever comes first."""
    planned, least = (max(end - nimg, 0) / max(images_per_s, 1e-9) for end in (stage.end, stage.fade_end + stage.floor))
    return min(planned, max(stage.seconds - stage_seconds, least)) if stage.seconds else planned
