"""Repeating growth.json: what its entries say of a stage. Pure, no torch."""

import pytest

from pggan.errors import UserError
from pggan.schedule.replay import ReplayScheduler, check_growth
from pggan.schedule.stages import Progress, StageStart

ENTRY = {"nimg": 104, "action": "grow", "from_res": 4, "to_res": 8, "reason": "", "numbers": {"fade_nimg": 50}}
STOP = {**ENTRY, "nimg": 200, "action": "stop", "from_res": 8, "to_res": 8, "numbers": {}}


def stage(growth: list[dict], res: int, start: int = 104) -> tuple[int, int, bool]:
    plan = ReplayScheduler(growth).begin(StageStart(res, start), [])
    return plan.fade, plan.end, plan.final


def test_what_growth_says_last_of_a_resolution_counts():
    later = {**ENTRY, "from_res": 8, "to_res": 16, "nimg": 400}
    assert stage([ENTRY, STOP], 8) == (50, 200, True)
    assert stage([ENTRY, STOP, later], 8) == (50, 400, False)
    assert stage([ENTRY, STOP, later], 4, start=0) == (0, 104, False)
    back = {**ENTRY, "action": "rollback", "from_res": 8, "to_res": 8, "nimg": 999}
    assert stage([ENTRY, back, STOP], 8)[1] == 200


def test_a_stage_ends_where_it_ended_and_the_run_where_it_stopped():
    scheduler = ReplayScheduler([ENTRY, STOP])
    first, last = (scheduler.begin(StageStart(res, start), []) for res, start in ((4, 0), (8, 104)))
    assert scheduler.decide(Progress(first, 103, (8, 16), seconds=1e9), []) is None
    assert scheduler.decide(Progress(first, 104, (8, 16)), []).action == "grow"
    assert scheduler.decide(Progress(last, 200, (16,)), []).action == "stop"


@pytest.mark.parametrize(
    ("growth", "res", "says"),
    [([], 4, "no stage at 4 px"), ([ENTRY], 8, "no stage at 8 px"), ([{**ENTRY, "numbers": {}}, STOP], 8, "older")],
)
def test_a_resolution_that_growth_does_not_have_is_refused(growth, res, says):
    with pytest.raises(UserError, match=says):
        ReplayScheduler(growth).begin(StageStart(res), [])


def test_what_is_checked_comes_back_as_it_was():
    assert check_growth([ENTRY, STOP]) == [ENTRY, STOP]
