"""A limit on the time of the whole run, shared among the resolutions.

Seconds are counted from the start of the run, start-up included, over all restarts.
"""

import math

from pggan.config.schema import ScheduleConfig, seconds
from pggan.schedule.stages import Decision, Progress, Stage, StageStart

FADE_SHARE = 0.2  # of a stage's time, for its fade
SLOWER = 2.5  # images/s at one resolution over images/s at the next: measured on two cores from 32 to 64 px


class BudgetScheduler:
    """Each stage gets its share of the time that is left when it begins: --budget and --budget-share."""

    needs_speed = True

    def __init__(self, config: ScheduleConfig):
        self.share, self.budget = config.budget_share, seconds(config.budget)

    def begin(self, start: StageStart, history: list[dict]) -> Stage:
        """Returns a new plan, or the present one if it was made for this budget and these resolutions.

        A fade under way keeps its length. Another fade gets the images that its share of the time allows, by
        `start.speeds`.
        """
        known = start.planned
        if known and (known.budget, known.top) == (self.budget, start.top):
            return known
        until, fade = self.until(start.res, start.later, start.seconds), 0
        if start.under_way:
            fade = known.fade if known else 0
        elif start.fades:
            speed = expected_speed(start.speeds, start.res)
            fade = max(1, round(FADE_SHARE * (until - start.seconds) * speed))
        return Stage(start.res, start.start, fade, until=round(until, 3), budget=self.budget, top=start.top)

    def decide(self, progress: Progress, history: list[dict]) -> Decision | None:
        """Ends the run in time to finish within the budget, and a stage after its share, its fade and one step."""
        stage, numbers = progress.stage, {"seconds": round(progress.seconds, 1), "budget_seconds": self.budget}
        if progress.seconds + progress.seconds_to_finish >= self.budget:
            return Decision("stop", "the budget is spent", numbers)
        if progress.seconds >= stage.until and progress.nimg >= stage.fade_end and progress.nimg > stage.start:
            numbers["until"] = stage.until
            return Decision(progress.next_action, "its share of the budget is spent", numbers)
        return None

    def until(self, res: int, later: tuple[int, ...], spent: float) -> float:
        """When the stage at `res`, begun after `spent` seconds, is to end: seconds since the start of the run."""
        weights = [self.share.at(each) for each in (res, *later)]
        left = max(self.budget - spent, 0.0)
        return spent + left * weights[0] / sum(weights)


def expected_speed(speeds: dict[int, float], res: int) -> float:
    """Returns the images/s to expect at `res`, by the two largest resolutions measured, or by one of them and SLOWER.

    speeds: {resolution: images/s}, not empty.
    """
    (last, speed), *smaller = sorted(speeds.items(), reverse=True)
    ratio = SLOWER
    if smaller:
        before, faster = smaller[0]
        ratio = (faster / speed) ** (1 / math.log2(last / before))
    return speed / ratio ** max(math.log2(res / last), 0)
