"""When to fade, when to grow, when to stop: pure functions of the images shown. No torch, no clock of its own.

Progress is counted in real images shown, `nimg`. A stage ends at the first nimg at or past its planned end, and the
next stage starts there. Times are passed in as seconds, so that a test or a replay can bring its own.
"""

from dataclasses import dataclass

from pggan.config.schema import ScheduleConfig, seconds
from pggan.schedule.budget import SLOWER, Decided

ENDLESS = 10**15  # images of a stage that only a clock ends


@dataclass(frozen=True)
class Stage:
    """One resolution's turn.

    res: pixels of the shorter side; start: nimg at which it began; fade, stable: planned images of each part;
    floor: images after the fade before its clock may end it; seconds: the clock, 0 for none; until: when its share of
    the budget is spent, in seconds from the start of the run, 0 for no budget; stops: the plan ends the run here.
    """

    res: int
    start: int
    fade: int
    stable: int
    floor: int = 0
    seconds: float = 0.0
    until: float = 0.0
    stops: bool = False

    def alpha(self, nimg: int) -> float:
        """Weight of the newest block, 0 (invisible) to 1 (in), linear in images (section 3, figure 2)."""
        return 1.0 if self.fade == 0 else min(max((nimg - self.start) / self.fade, 0.0), 1.0)

    @property
    def fade_end(self) -> int:
        return self.start + self.fade

    @property
    def end(self) -> int:
        """The planned end, in nimg."""
        return self.fade_end + self.stable


@dataclass(frozen=True)
class Decision:
    """Why a stage is over: a sentence, and the numbers it rests on (they go into growth.json).

    stops: the whole run is over, whatever resolutions were to come.
    """

    reason: str
    numbers: dict[str, float]
    stops: bool = False


def stage_of(config: ScheduleConfig, res: int, start: int, first: bool, decided: Decided | None = None) -> Stage:
    """The stage at `res` that begins at image `start`. The first stage has nothing to fade from.

    decided: what goes over the settings, see budget.py.
    """
    decided = decided or {}
    fade = decided.get("fade", 0 if first else round(1000 * config.fade_kimg.at(res)))
    if config.budget:
        return Stage(res, start, fade, ENDLESS, until=decided.get("until", seconds(config.budget)))
    if "end" in decided:
        return Stage(res, start, fade, decided["end"] - start - fade, stops=decided["stops"])
    return Stage(
        res=res,
        start=start,
        fade=fade,
        stable=round(1000 * config.stable_kimg.at(res)),
        floor=round(1000 * config.floor_kimg),
        seconds=60 * config.stage_minutes.at(res),
    )


def finished(stage: Stage, nimg: int, seconds: float) -> Decision | None:
    """The decision to end `stage`, or None. seconds: spent in this stage, summed over restarts."""
    if nimg >= stage.end:
        return Decision("planned kimg reached", {"planned_nimg": stage.end}, stage.stops)
    if 0 < stage.seconds <= seconds and nimg >= stage.fade_end + stage.floor:
        return Decision("stage clock ran out", {"planned_nimg": stage.end, "seconds": round(seconds, 1)})
    return None


def budget_spent(config: ScheduleConfig, stage: Stage, nimg: int, spent: float, ahead: float) -> Decision | None:
    """The decision to end `stage` because of the budget, or None. There is a step at least, and the fade is finished,
    unless all is spent.

    spent: seconds since the start of the run; ahead: what one more step and the end of the run would take.
    """
    if not config.budget:
        return None
    numbers = {"seconds": round(spent, 1), "budget_seconds": seconds(config.budget)}
    if spent + ahead >= numbers["budget_seconds"]:
        return Decision("the budget is spent", numbers, stops=True)
    if spent >= stage.until and nimg >= stage.fade_end and nimg > stage.start:
        return Decision("its share of the budget is spent", {**numbers, "until": stage.until})
    return None


def due(before: int, after: int, every_kimg: float) -> bool:
    """Whether a multiple of `every_kimg` lies in (before, after]: true once however the images are batched."""
    every = max(1, round(1000 * every_kimg))
    return after // every > before // every


def planned_images(config: ScheduleConfig, stages: list[int], start: int = 0, first: bool = True) -> int:
    """Images that the stages at these resolutions take in all, give or take a batch each."""
    total = start
    for number, res in enumerate(stages):
        total = stage_of(config, res, total, first and number == 0).end
    return total - start


def seconds_left(
    config: ScheduleConfig, stage: Stage, nimg: int, spent: float, later: list[int], images_per_s: float
) -> float:
    """An estimate of what the rest of the run takes, in seconds.

    spent: seconds in this stage; later: the resolutions still to come, whose speed is not measured yet: each doubling
    is taken to cost SLOWER times as much an image.
    """
    seconds = stage_seconds(stage, nimg, images_per_s, spent)
    for doublings, res in enumerate(later, start=1):
        coming = stage_of(config, res, 0, first=False)
        seconds += stage_seconds(coming, 0, images_per_s / SLOWER**doublings, 0.0)
    return seconds


def stage_seconds(stage: Stage, nimg: int, images_per_s: float, spent: float = 0.0) -> float:
    """From `nimg` to the planned end, or sooner to the clock's, but not before the floor. spent: in the stage."""
    planned, least = (max(end - nimg, 0) / max(images_per_s, 1e-9) for end in (stage.end, stage.fade_end + stage.floor))
    return min(planned, max(stage.seconds - spent, least)) if stage.seconds else planned
