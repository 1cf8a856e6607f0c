"""The stage, and the messages between the loop and a scheduler.

Progress is counted in real images shown since the start of the run, `nimg`. A stage ends at the first nimg at or past
its planned end, and the next one starts there. Seconds are passed in: nothing here reads a clock.
"""

from dataclasses import dataclass, field
from typing import Literal

ENDLESS = 10**15  # images of a stage that only time ends


@dataclass(frozen=True)
class Stage:
    """The plan of one stage: a resolution fades in and is trained until the stage ends.

    res: pixels of the shorter side. start: nimg at which the stage begins. fade, stable: images of the two parts.
    seconds: time limit of the stage, 0 for none; floor: images after the fade that it gets in spite of the limit.
    until: the end of its share of a budget, in seconds since the start of the run, 0 without a budget; budget, top: the
    budget in seconds and the last resolution from which `until` was computed. final: the run ends with this stage.
    """

    res: int = 0
    start: int = 0
    fade: int = 0
    stable: int = ENDLESS
    seconds: float = 0.0
    floor: int = 0
    until: float = 0.0
    budget: float = 0.0
    top: int = 0
    final: bool = False

    def alpha(self, nimg: int) -> float:
        """The weight of the newest block, from 0 to 1, linear in images (Karras et al. 2018, section 3, figure 2)."""
        return 1.0 if self.fade == 0 else min(max((nimg - self.start) / self.fade, 0.0), 1.0)

    @property
    def fade_end(self) -> int:
        return self.start + self.fade

    @property
    def end(self) -> int:
        """The planned end, in nimg."""
        return self.fade_end + self.stable

    @property
    def timed(self) -> bool:
        """Whether time can end the stage."""
        return bool(self.seconds or self.until)


@dataclass(frozen=True)
class StageStart:
    """All that is known when a stage is planned: when it begins, or when its run is continued.

    res: of the stage. start: nimg at which it begins or began. nimg: images shown so far. later: the resolutions after
    it. fades: whether a new block fades in. seconds: spent since the start of the run. speeds: {resolution: images/s}
    of the resolutions measured so far. planned: the plan that the stage had, None when it begins.
    """

    res: int
    start: int = 0
    nimg: int = 0
    later: tuple[int, ...] = ()
    fades: bool = True
    seconds: float = 0.0
    speeds: dict[int, float] = field(default_factory=dict)
    planned: Stage | None = None

    @property
    def top(self) -> int:
        """The last resolution of the run."""
        return (self.res, *self.later)[-1]

    @property
    def under_way(self) -> bool:
        """Whether the stage has shown any image."""
        return self.nimg > self.start


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    nimg: images shown since the start of the run. later: the resolutions still to come. stage_seconds: spent in the
    stage, counted only if it is timed. seconds: spent since the start of the run, over all restarts.
    seconds_to_finish: estimated time of one more step and the end of the run.
    """

    stage: Stage
    nimg: int
    later: tuple[int, ...] = ()
    stage_seconds: float = 0.0
    seconds: float = 0.0
    seconds_to_finish: float = 0.0

    @property
    def next_action(self) -> Literal["grow", "stop"]:
        """What follows the end of the stage: growth if a resolution is still to come."""
        return "grow" if self.later and not self.stage.final else "stop"


@dataclass(frozen=True)
class Decision:
    """How a stage ends. reason: a sentence. numbers: the figures behind it. Both go into growth.json."""

    action: Literal["grow", "stop"]
    reason: str
    numbers: dict[str, float]


def due(before: int, after: int, every_kimg: float) -> bool:
    """Whether a multiple of `every_kimg` lies in (before, after], so that each multiple is due exactly once."""
    every = max(1, round(1000 * every_kimg))
    return after // every > before // every
