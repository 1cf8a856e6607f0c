"""The schedule of the paper, and growth by hand. Pure, no torch."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pggan.config.presets import preset
from pggan.config.schema import NetworkConfig, ScheduleConfig
from pggan.schedule import SCHEDULERS, scheduler_for
from pggan.schedule.budget import BudgetScheduler
from pggan.schedule.fixed import FixedScheduler
from pggan.schedule.manual import ManualScheduler
from pggan.schedule.replay import ReplayScheduler
from pggan.schedule.stages import Progress, Stage, StageStart

IMAGES = st.integers(0, 10**7)
STAGES = st.builds(Stage, res=st.just(64), start=IMAGES, fade=st.integers(0, 10**6), stable=st.integers(1, 10**6))
FEW = settings(max_examples=60, deadline=None)
FIXED = FixedScheduler(ScheduleConfig())


def begin(res: int, start: int = 0, fades: bool = True, **config: str) -> Stage:
    return FixedScheduler(ScheduleConfig(**config)).begin(StageStart(res, start, start, fades=fades), [])


def decide(stage: Stage, nimg: int, seconds: float = 0.0, later: tuple[int, ...] = (128,), of=FIXED):
    return of.decide(Progress(stage, nimg, later, stage_seconds=seconds), [])


# ---- plans


def test_the_first_stage_has_no_fade_and_every_other_one_has():
    config = {"fade_kimg": "40", "stable_kimg": "10"}
    assert begin(32, fades=False, **config).alpha(0) == 1 and begin(32, fades=False, **config).end == 10_000
    assert begin(64, **config).alpha(0) == 0 and begin(64, **config).end == 50_000


def test_the_next_stage_starts_where_the_last_one_ended_not_where_it_should_have():
    assert begin(64, 1033, fade_kimg="1", stable_kimg="1").end == 3033


def test_a_run_that_goes_on_follows_the_settings_it_has_now():
    start = StageStart(64, 1000, 1500, planned=Stage(64, 1000, fade=9, stable=9))
    plan = FixedScheduler(ScheduleConfig(fade_kimg="2", stable_kimg="3")).begin(start, [])
    assert (plan.start, plan.fade, plan.stable) == (1000, 2000, 3000)


def test_the_paper_takes_600_and_600_kimg_at_every_resolution_from_4_to_1024():
    network, schedule = NetworkConfig(start_res=4, max_res=1024, fmap_base=8192), preset("paper").schedule
    stages = [FixedScheduler(schedule).begin(StageStart(res, fades=res > 4), []) for res in network.stages()]
    assert [stage.fade for stage in stages] == [0] + 8 * [600_000]
    assert [stage.stable for stage in stages] == 9 * [600_000]


# ---- ends


@FEW
@given(stage=STAGES, batch=st.integers(100, 5000))
def test_a_stage_ends_at_the_first_nimg_at_or_past_its_planned_end(stage, batch):
    nimg = stage.start
    while not decide(stage, nimg):
        nimg += batch
        assume(nimg < stage.start + 2000 * batch)
    assert nimg - batch < stage.end <= nimg
    assert decide(stage, nimg).numbers == {"planned_nimg": stage.end}


CLOCKED = Stage(res=64, start=1000, fade=500, stable=10_000, floor=200, seconds=60.0)


@pytest.mark.parametrize(
    ("nimg", "seconds", "over"),
    [
        (5000, 59.9, False),
        (5000, 60.0, True),
        (1500, 60.0, False),  # the fade is over, but not the floor
        (1699, 1e9, False),
        (1700, 60.0, True),
        (1400, 1e9, False),  # in the fade
        (11_500, 0.0, True),  # the planned end comes before the clock's
    ],
)
def test_the_clock_ends_a_stage_once_the_fade_and_the_floor_are_over(nimg, seconds, over):
    assert bool(decide(CLOCKED, nimg, seconds)) == over


def test_a_decision_of_the_clock_says_so_with_its_numbers():
    decision = decide(CLOCKED, 5000, 61.26)
    assert "clock" in decision.reason and decision.numbers == {"planned_nimg": 11_500, "seconds": 61.3}


@FEW
@given(stage=STAGES, nimg=IMAGES, seconds=st.floats(0, 1e9))
def test_without_a_clock_seconds_decide_nothing(stage, nimg, seconds):
    assert bool(decide(stage, nimg, seconds)) == (nimg >= stage.end)


# ---- growth by hand


@FEW
@given(stage=STAGES, nimg=IMAGES)
def test_by_hand_a_run_stops_wherever_the_fixed_schedule_grows_it_or_stops(stage, nimg):
    manual = ManualScheduler(ScheduleConfig())
    for later in ((128,), ()):
        usual, by_hand = decide(stage, nimg, later=later), decide(stage, nimg, later=later, of=manual)
        assert bool(usual) == bool(by_hand)
        if usual:
            assert by_hand.action == "stop" and by_hand.numbers == usual.numbers
            assert ("tools/grow.py" in by_hand.reason) == bool(later)


# ---- which scheduler


def test_each_setting_has_its_scheduler_and_each_scheduler_its_setting():
    assert SCHEDULERS.keys() == set(ScheduleConfig.__dataclass_fields__["schedule"].type.__args__)
    for name, kind in SCHEDULERS.items():
        assert type(scheduler_for(ScheduleConfig(schedule=name))) is kind
    assert type(scheduler_for(ScheduleConfig(budget="1h"))) is BudgetScheduler
    assert type(scheduler_for(ScheduleConfig(), [{"action": "stop"}])) is ReplayScheduler


def test_changed_settings_change_the_plan_of_the_stage_alone_not_its_start():
    start = StageStart(64, 700, 900)
    one, two = (FixedScheduler(replace(ScheduleConfig(), floor_kimg=kimg)).begin(start, []) for kimg in (1.0, 2.0))
    assert (one.floor, two.floor) == (1000, 2000) and replace(one, floor=0) == replace(two, floor=0)
