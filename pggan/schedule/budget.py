"""A wall-clock budget shared among the resolutions, and the repetition of what was decided: pure, no clock of its own.

What is decided for a stage as it begins is a plain dict that goes into the checkpoint:
`{"fade": images, "until": seconds, ...}` under a budget, `{"fade": images, "end": nimg, ...}` when a plan is repeated.
All seconds are counted from the start of the run, start-up included, over all restarts.
"""

from itertools import pairwise

from pggan.config.schema import ScheduleConfig, seconds
from pggan.errors import UserError

FADE_SHARE = 0.2  # of a stage's time that its fade is meant to take
SLOWER = 2.5  # images/s at one resolution over those at the next, as measured on two cores from 32 to 64 px

Decided = dict[str, float]


def until(config: ScheduleConfig, res: int, later: list[int], spent: float) -> float:
    """When the stage at `res`, which begins after `spent` seconds, is to end: its share of what is left."""
    weights = [config.budget_share.at(each) for each in (res, *later)]
    left = max(seconds(config.budget) - spent, 0.0)
    return spent + left * weights[0] / sum(weights)


def expected_speed(speeds: dict[str, float], res: int) -> float:
    """Images/s to be expected at `res`, by what earlier resolutions reached; the last two give the ratio.

    speeds: {resolution: images/s}, not empty.
    """
    known = sorted((int(known), speed) for known, speed in speeds.items())
    (last, speed), *_ = reversed(known)
    ratio = SLOWER if len(known) == 1 else (known[-2][1] / speed) ** (1 / _doublings(known[-2][0], last))
    return speed / ratio ** _doublings(last, res)


def decide(config: ScheduleConfig, res: int, later: list[int], spent: float, speed: float | None) -> Decided:
    """What a stage gets as it begins after `spent` seconds. speed: images/s expected; None: there is no fade."""
    end = until(config, res, later, spent)
    fade = 0 if speed is None else max(1, round(FADE_SHARE * (end - spent) * speed))
    return {"fade": fade, "until": round(end, 3), "budget": seconds(config.budget), "top": [res, *later][-1]}


def holds(decided: Decided, config: ScheduleConfig, top: int) -> bool:
    """Whether what was decided for a stage still stands, when a run goes on that is now to grow to `top`."""
    if config.budget:
        return (decided.get("budget"), decided.get("top")) == (seconds(config.budget), top)
    return "end" in decided


def replayed(plan: list[dict], res: int) -> Decided:
    """What another run's growth.json says of the stage at `res`. Raises UserError when it says nothing."""
    ends = [entry for entry in plan if entry["action"] in ("grow", "stop") and entry["from_res"] == res]
    if not ends:
        raise UserError(f"--plan says nothing of {res} px: lower --max-res, or take another plan")
    begins = [entry for entry in plan if entry["action"] == "grow" and entry["to_res"] == res]
    fade = begins[-1]["numbers"].get("fade_nimg") if begins else 0
    if fade is None:
        raise UserError(f"--plan does not say how long the fade at {res} px is: it is of an older version")
    return {"fade": fade, "end": ends[-1]["nimg"], "stops": ends[-1]["action"] == "stop"}


def check_plan(plan: object) -> list[dict]:
    """`plan` as the content of a growth.json. Raises UserError when it is none."""
    if not isinstance(plan, list) or not all(map(_is_entry, plan)):
        raise UserError("--plan is no growth.json: name that of a run")
    ends = [entry for entry in plan if entry["action"] in ("grow", "stop")]
    for begin, end in pairwise(ends):
        fade = begin["numbers"].get("fade_nimg", 0) if end["action"] == begin["action"] == "grow" else 0
        if end["nimg"] < begin["nimg"] + fade:
            raise UserError(f"--plan ends {end['from_res']} px before it has begun or faded in: it is no run's")
    return plan


def _is_entry(entry: object) -> bool:
    kinds = {"nimg": int, "action": str, "from_res": int, "to_res": int, "numbers": dict}
    if not isinstance(entry, dict) or any(type(entry.get(key)) is not kind for key, kind in kinds.items()):
        return False
    fade = entry["numbers"].get("fade_nimg", 0)
    return type(fade) is int and fade >= 0 and entry["nimg"] >= 0


def _doublings(lower: int, upper: int) -> int:
    return max((upper // lower).bit_length() - 1, 0)
