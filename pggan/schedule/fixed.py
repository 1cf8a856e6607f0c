"""The schedule of the paper: the number of images of every stage is set beforehand."""

from pggan.config.schema import ScheduleConfig
from pggan.schedule.stages import Decision, Progress, Stage, StageStart


class FixedScheduler:
    """Stages of --fade-kimg and --stable-kimg; --stage-minutes may end them earlier."""

    needs_speed = False

    def __init__(self, config: ScheduleConfig):
        self.config = config

    def begin(self, start: StageStart, history: list[dict]) -> Stage:
        """Returns the stage by the current settings, which may change when a run is continued."""
        config, res = self.config, start.res
        return Stage(
            res=res,
            start=start.start,
            fade=round(1000 * config.fade_kimg.at(res)) if start.fades else 0,
            stable=round(1000 * config.stable_kimg.at(res)),
            seconds=60 * config.stage_minutes.at(res),
            floor=round(1000 * config.floor_kimg),
        )

    def decide(self, progress: Progress, history: list[dict]) -> Decision | None:
        """Ends the stage at its planned end, or when its time is over and the fade and the floor are done."""
        stage, numbers = progress.stage, {"planned_nimg": progress.stage.end}
        if progress.nimg >= stage.end:
            return Decision(progress.next_action, "planned kimg reached", numbers)
        if 0 < stage.seconds <= progress.stage_seconds and progress.nimg >= stage.fade_end + stage.floor:
            numbers["seconds"] = round(progress.stage_seconds, 1)
            return Decision(progress.next_action, "stage clock ran out", numbers)
        return None
