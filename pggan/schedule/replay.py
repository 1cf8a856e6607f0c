"""--plan: repeats the schedule of another run, from its growth.json."""

from itertools import pairwise

from pggan.errors import UserError
from pggan.schedule.fixed import FixedScheduler
from pggan.schedule.stages import Stage, StageStart


class ReplayScheduler(FixedScheduler):
    """Fades and ends each stage after the same number of images as the other run."""

    def __init__(self, growth: list[dict]):
        self.growth = growth

    def begin(self, start: StageStart, history: list[dict]) -> Stage:
        """Returns the stage of this resolution. Raises UserError when growth.json does not have it."""
        end, begun = self._last("from_res", start.res, "grow", "stop"), self._last("to_res", start.res, "grow")
        if end is None:
            raise UserError(f"--plan has no stage at {start.res} px: lower --max-res, or take another plan")
        fade = begun["numbers"].get("fade_nimg") if begun else 0
        if fade is None:
            raise UserError(f"--plan has no length of the fade at {start.res} px: an older version wrote it")
        stable = end["nimg"] - start.start - fade
        return Stage(start.res, start.start, fade, stable, final=end["action"] == "stop")

    def _last(self, key: str, res: int, *actions: str) -> dict | None:
        """The last such entry of a resolution. A run that was continued may have several."""
        return next((e for e in reversed(self.growth) if e["action"] in actions and e[key] == res), None)


def check_growth(growth: object) -> list[dict]:
    """Returns `growth` if it is the content of a growth.json. Raises UserError otherwise."""
    if not isinstance(growth, list) or not all(map(_is_entry, growth)):
        raise UserError("--plan is no growth.json: name the growth.json of a run")
    ends = [entry for entry in growth if entry["action"] in ("grow", "stop")]
    for begin, end in pairwise(ends):
        fade = begin["numbers"].get("fade_nimg", 0) if end["action"] == begin["action"] == "grow" else 0
        if end["nimg"] < begin["nimg"] + fade:
            raise UserError(f"--plan ends {end['from_res']} px before its start or its fade: no run wrote this")
    return growth


def _is_entry(entry: object) -> bool:
    kinds = {"nimg": int, "action": str, "from_res": int, "to_res": int, "numbers": dict}
    if not isinstance(entry, dict) or any(type(entry.get(key)) is not kind for key, kind in kinds.items()):
        return False
    fade = entry["numbers"].get("fade_nimg", 0)
    return type(fade) is int and fade >= 0 and entry["nimg"] >= 0
