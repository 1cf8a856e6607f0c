"""The schedule: pure functions of the images shown."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pggan.config.presets import preset
from pggan.config.schema import NetworkConfig, ScheduleConfig
from pggan.schedule.stages import Stage, due, finished, planned_images, seconds_left, stage_of

ROOT = Path(__file__).resolve().parents[2]
IMAGES = st.integers(0, 10**7)
BATCHES = st.integers(1, 300)
STAGES = st.builds(Stage, res=st.just(64), start=IMAGES, fade=st.integers(0, 10**6), stable=st.integers(1, 10**6))
FEW = settings(max_examples=60, deadline=None)


def test_schedule_and_config_need_no_torch():
    probe = (
        "import sys, pggan.schedule.stages, pggan.config.schema, pggan.config.presets; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", probe], cwd=ROOT).returncode == 0


# --- alpha -------------------------------------------------------------------------------------------------------


@FEW
@given(stage=STAGES, nimgs=st.lists(st.integers(-1000, 3 * 10**6), min_size=2))
def test_alpha_never_falls_and_stays_from_0_to_1(stage, nimgs):
    alphas = [stage.alpha(stage.start + shown) for shown in sorted(nimgs)]
    assert alphas == sorted(alphas) and alphas[0] >= 0 and alphas[-1] <= 1


@FEW
@given(stage=STAGES)
def test_alpha_is_0_at_the_start_of_a_fade_and_1_from_its_end_on(stage):
    assert stage.alpha(stage.start) == (0 if stage.fade else 1)
    assert stage.alpha(stage.fade_end) == stage.alpha(stage.end) == 1
    assert not stage.fade or stage.alpha(stage.fade_end - 1) < 1


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 1])
def test_alpha_is_linear_in_images(share):
    assert Stage(res=64, start=700, fade=1000, stable=1).alpha(700 + int(1000 * share)) == share


def test_the_first_stage_has_no_fade_and_every_other_one_has():
    schedule = ScheduleConfig(fade_kimg="40", stable_kimg="10")
    assert stage_of(schedule, 32, 0, first=True).alpha(0) == 1
    assert stage_of(schedule, 32, 0, first=True).end == 10_000
    assert stage_of(schedule, 64, 0, first=False).alpha(0) == 0
    assert stage_of(schedule, 64, 0, first=False).end == 50_000


# --- ends --------------------------------------------------------------------------------------------------------


@FEW
@given(stage=STAGES, batch=st.integers(100, 5000))
def test_a_stage_ends_at_the_first_nimg_at_or_past_its_planned_end(stage, batch):
    nimg = stage.start
    while not finished(stage, nimg, 0.0):
        nimg += batch
        assume(nimg < stage.start + 2000 * batch)
    assert nimg - batch < stage.end <= nimg
    assert finished(stage, nimg, 0.0).numbers == {"planned_nimg": stage.end}


def test_the_next_stage_starts_where_the_last_one_ended_not_where_it_should_have():
    schedule = ScheduleConfig(fade_kimg="1", stable_kimg="1")
    assert stage_of(schedule, 64, 1033, first=False).end == 3033


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
        (11_500, 0.0, True),  # the plan ends it before the clock does
    ],
)
def test_the_clock_ends_a_stage_once_the_fade_and_the_floor_are_over(nimg, seconds, over):
    assert bool(finished(CLOCKED, nimg, seconds)) == over


def test_a_decision_of_the_clock_says_so_with_its_numbers():
    decision = finished(CLOCKED, 5000, 61.26)
    assert "clock" in decision.reason and decision.numbers == {"planned_nimg": 11_500, "seconds": 61.3}


@FEW
@given(stage=STAGES, nimg=IMAGES, seconds=st.floats(0, 1e9))
def test_without_a_clock_seconds_decide_nothing(stage, nimg, seconds):
    assert bool(finished(stage, nimg, seconds)) == (nimg >= stage.end)


# --- due ---------------------------------------------------------------------------------------------------------


@FEW
@given(start=IMAGES, batches=st.lists(BATCHES, min_size=1, max_size=30), every=st.integers(300, 5000))
def test_each_multiple_is_due_exactly_once_however_the_images_are_batched(start, batches, every):
    nimg, crossed = start, 0
    for batch in batches:
        crossed += due(nimg, nimg + batch, every / 1000)
        nimg += batch
    assert crossed == sum(1 for multiple in range(0, nimg + 1, every) if start < multiple)


def test_a_multiple_is_due_when_it_is_reached_and_not_again():
    assert due(999, 1000, 1.0) and not due(1000, 1999, 1.0) and not due(0, 999, 1.0) and not due(7, 7, 0.001)


def test_what_is_due_more_often_than_every_image_is_due_at_every_step():
    assert due(3, 4, 1e-9)


# --- plans -------------------------------------------------------------------------------------------------------


@FEW
@given(
    fades=st.lists(st.integers(0, 900), min_size=3, max_size=3),
    stables=st.lists(st.integers(1, 900), min_size=3, max_size=3),
    start=IMAGES,
    first=st.booleans(),
)
def test_planned_images_is_the_sum_of_the_stages(fades, stables, start, first):
    stages = [32, 64, 128]
    fade, stable = (",".join(map("{}:{}".format, stages, values)) for values in (fades, stables))
    schedule = ScheduleConfig(fade_kimg=fade, stable_kimg=stable)
    total = 1000 * (sum(stables) + sum(fades[1:] if first else fades))
    assert planned_images(schedule, stages, start, first) == total


def test_the_paper_takes_4200_kimg_from_32_to_256_px():
    config = preset("paper")
    assert config.network.stages() == [32, 64, 128, 256]
    assert planned_images(config.schedule, config.network.stages()) == 4_200_000 == 600_000 + 3 * 1_200_000


def test_the_paper_takes_600_and_600_kimg_at_every_resolution_from_4_to_1024():
    network = NetworkConfig(start_res=4, max_res=1024, fmap_base=8192)
    stages = [stage_of(preset("paper").schedule, res, 0, res == 4) for res in network.stages()]
    assert [stage.fade for stage in stages] == [0] + 8 * [600_000]
    assert [stage.stable for stage in stages] == 9 * [600_000]


def test_seconds_left_of_the_last_stage_is_images_over_speed():
    stage = Stage(res=64, start=0, fade=100, stable=900)
    assert seconds_left(ScheduleConfig(), stage, 400, 12.0, [], images_per_s=6.0) == 100.0
    assert seconds_left(ScheduleConfig(), stage, 2000, 12.0, [], images_per_s=6.0) == 0.0


def test_seconds_left_is_bounded_by_the_clock():
    beyond_floor = CLOCKED.fade_end + CLOCKED.floor
    assert seconds_left(ScheduleConfig(), CLOCKED, beyond_floor, 20.0, [], images_per_s=0.001) == 40.0


def test_seconds_left_counts_the_floor_that_the_clock_has_to_wait_for():
    least = CLOCKED.fade_end + CLOCKED.floor
    assert seconds_left(ScheduleConfig(), CLOCKED, least - 50, 1e6, [], images_per_s=0.5) == 100.0


def test_a_later_stage_is_taken_to_be_slower():
    schedule = ScheduleConfig(fade_kimg="1", stable_kimg="1")
    stage = stage_of(schedule, 32, 0, first=True)
    later = seconds_left(schedule, stage, stage.end, 0.0, [64], images_per_s=100.0)
    assert later > 2000 / 100
    clocked = replace(schedule, stage_minutes="0.1", floor_kimg=0.0, fade_kimg="0.01")
    assert seconds_left(clocked, stage, stage.end, 0.0, [64], images_per_s=100.0) == 6.0
