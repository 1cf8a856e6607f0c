"""How long a whole run takes by the schedule, from the speed of each resolution stable and fading. Pure."""

from pggan.config.schema import Config
from pggan.schedule.stages import Stage, stage_of


def road(config: Config, speeds: dict[tuple[int, bool], float]) -> list[tuple[Stage, float]]:
    """(stage, seconds of its steps) of each stage. speeds: images/s by (resolution, whether it fades)."""
    stages, start = [], 0
    for number, res in enumerate(config.network.stages()):
        stage = stage_of(config.schedule, res, start, first=number == 0)
        stages.append((stage, stage_seconds(stage, speeds.get((res, True), 0.0), speeds[res, False])))
        start = stage.end
    return stages


def stage_seconds(stage: Stage, fading: float, stable: float) -> float:
    """At these images/s; a stage's clock ends it earlier, but not before the floor after its fade."""
    fade = stage.fade / fading if stage.fade else 0.0
    planned, least = (fade + images / stable for images in (stage.stable, stage.floor))
    return min(planned, max(stage.seconds, least)) if stage.seconds else planned
