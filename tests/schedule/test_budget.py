"""A wall-clock budget: its shares, the speeds it expects, the ends of its stages. Pure, no torch."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pggan.config.schema import ScheduleConfig
from pggan.schedule.budget import FADE_SHARE, SLOWER, BudgetScheduler, expected_speed
from pggan.schedule.stages import ENDLESS, Progress, Stage, StageStart

FEW = examples(max_examples=60, deadline=None)
RESOLUTIONS = (32, 64, 128, 256)
SECONDS = st.floats(1, 1e6)
WEIGHTS = st.lists(st.floats(0.1, 50), min_size=4, max_size=4)


def scheduler(total: float, weights: list[float] = (2, 3, 4, 5)) -> BudgetScheduler:
    shares = ",".join(f"{res}:{weight}" for res, weight in zip(RESOLUTIONS, weights, strict=True))
    return BudgetScheduler(ScheduleConfig(budget=f"{total:.6f}s", budget_share=shares))


def ends(of: BudgetScheduler, spent: float = 0.0) -> list[float]:
    """When each resolution ends if every one of them ends just when it should."""
    times = []
    for number, res in enumerate(RESOLUTIONS):
        spent = of.until(res, RESOLUTIONS[number + 1 :], spent)
        times.append(spent)
    return times


# ---- shares


@FEW
@given(total=SECONDS, weights=WEIGHTS)
def test_shares_add_up_to_the_budget_and_are_as_their_weights(total, weights):
    times = [0.0, *ends(scheduler(total, weights))]
    assert times == sorted(times) and times[-1] == pytest.approx(total)
    for (start, end), weight in zip(pairwise(times), weights, strict=True):
        assert (end - start) / total == pytest.approx(weight / sum(weights))


@FEW
@given(total=SECONDS, weights=WEIGHTS, late=st.floats(0, 3))
def test_no_end_lies_past_the_budget_and_what_one_stage_overran_is_taken_from_all_others(total, weights, late):
    spent = late * total
    times = ends(scheduler(total, weights), spent)
    assert all(end == pytest.approx(max(total, spent)) or end < max(total, spent) for end in times)
    left = max(total - spent, 0)
    assert times[0] - spent == pytest.approx(left * weights[0] / sum(weights), abs=1e-6 * (1 + spent))


@FEW
@given(total=SECONDS, more=SECONDS, spent=SECONDS)
def test_a_larger_budget_ends_no_stage_sooner(total, more, spent):
    for later in (RESOLUTIONS[1:], ()):
        assert scheduler(total + more).until(32, later, spent) >= scheduler(total).until(32, later, spent)


@FEW
@given(total=SECONDS, share=st.floats(0, 1.5), speed=st.floats(0.01, 1e4))
def test_a_fade_takes_its_share_of_the_stage_at_the_speed_that_is_expected(total, share, speed):
    spent, of = share * total, scheduler(total)
    start = StageStart(64, 100, 100, (128,), seconds=spent, speeds={64: speed})
    plan, time = of.begin(start, []), of.until(64, (128,), spent) - spent
    assert plan.fade == pytest.approx(max(1, FADE_SHARE * time * speed), abs=0.51)
    assert plan.until == pytest.approx(spent + time, abs=1e-3) and plan.end >= ENDLESS
    assert of.begin(StageStart(64, fades=False), []).fade == 0


# ---- a run that goes on


def test_a_plan_is_kept_for_as_long_as_the_budget_and_the_last_resolution_are():
    known = Stage(64, 1000, fade=500, until=70.0, budget=100.0, top=128)
    start = StageStart(64, 1000, 5000, (128,), seconds=60.0, planned=known)
    assert scheduler(100).begin(start, []) is known
    for other in (scheduler(200).begin(start, []), scheduler(100).begin(StageStart(**vars(start) | {"later": ()}), [])):
        assert other.until > known.until and (other.fade, other.start) == (500, 1000)


def test_a_budget_given_in_the_middle_of_a_stage_keeps_its_fade():
    fixed = Stage(64, 1000, fade=8000, stable=10**6)
    plan = scheduler(100).begin(StageStart(64, 1000, 5000, (128,), seconds=40.0, planned=fixed), [])
    assert plan.fade == 8000 and 40 < plan.until < 100 and plan.alpha(5000) == fixed.alpha(5000)


# ---- speeds


@FEW
@given(first=st.floats(0.1, 1e4), ratio=st.floats(0.5, 8), known=st.integers(2, 5), ahead=st.integers(1, 3))
def test_speeds_that_fall_by_a_ratio_are_continued_by_it(first, ratio, known, ahead):
    speeds = {32 << doublings: first / ratio**doublings for doublings in range(known)}
    wanted = first / ratio ** (known - 1 + ahead)
    assert expected_speed(speeds, 32 << (known - 1 + ahead)) == pytest.approx(wanted)


def test_a_gap_between_two_known_speeds_is_shared_by_the_doublings_in_it():
    assert expected_speed({16: 64.0, 64: 4.0}, 128) == pytest.approx(1.0)
    assert expected_speed({3: 8.0, 6: 4.0}, 12) == pytest.approx(2.0)  # --base 3x3


def test_of_one_speed_the_next_is_the_measured_ratio_below():
    assert expected_speed({32: 100.0}, 64) == pytest.approx(100 / SLOWER)


# ---- ends of stages


@FEW
@given(total=SECONDS, spent=st.floats(0, 2e6), to_finish=st.floats(0, 100), nimg=st.integers(0, 2000))
def test_a_stage_ends_by_its_share_after_the_fade_or_at_once_when_all_is_spent(total, spent, to_finish, nimg):
    of = scheduler(total)
    stage = Stage(64, 0, fade=1000, until=of.budget / 2)
    decision = of.decide(Progress(stage, nimg, (128,), seconds=spent, seconds_to_finish=to_finish), [])
    over = spent + to_finish >= of.budget
    assert bool(decision) == (over or (spent >= stage.until and nimg >= 1000))
    if decision:
        assert decision.action == ("stop" if over else "grow") and decision.numbers["seconds"] == round(spent, 1)


def test_a_stage_has_a_step_at_least_however_small_its_share():
    of, stage = scheduler(100), Stage(32, 8, until=1.0)
    assert not of.decide(Progress(stage, 8, (64,), seconds=50, seconds_to_finish=1), [])
    assert of.decide(Progress(stage, 16, (64,), seconds=50, seconds_to_finish=1), []).action == "grow"
    assert of.decide(Progress(stage, 8, (64,), seconds=99, seconds_to_finish=1), []).action == "stop"


def test_the_last_resolution_ends_the_run():
    decision = scheduler(100).decide(Progress(Stage(256, 0, until=1.0), 8, (), seconds=50), [])
    assert decision.action == "stop" and decision.reason == "its share of the budget is spent"
