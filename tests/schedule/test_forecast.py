"""What is left of a run: its stages, their images and their seconds. Pure, no torch."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.config.presets import preset
from pggan.config.schema import ScheduleConfig
from pggan.schedule import scheduler_for
from pggan.schedule.budget import expected_speed
from pggan.schedule.forecast import forecast, seconds_left
from pggan.schedule.stages import Stage, StageStart

FEW = settings(max_examples=60, deadline=None)
CLOCKED = Stage(res=64, start=1000, fade=500, stable=10_000, floor=200, seconds=60.0)


def stages(config: ScheduleConfig, start: StageStart, speed=lambda res: 1.0) -> list[tuple[Stage, float]]:
    return forecast(scheduler_for(config), start, [], speed)


@FEW
@given(
    fades=st.lists(st.integers(0, 900), min_size=3, max_size=3),
    stables=st.lists(st.integers(1, 900), min_size=3, max_size=3),
    start=st.integers(0, 10**7),
    first=st.booleans(),
)
def test_a_fixed_schedule_is_the_sum_of_its_stages(fades, stables, start, first):
    resolutions = [32, 64, 128]
    fade, stable = (",".join(map("{}:{}".format, resolutions, values)) for values in (fades, stables))
    config = ScheduleConfig(fade_kimg=fade, stable_kimg=stable)
    total = 1000 * (sum(stables) + sum(fades[1:] if first else fades))
    left = stages(config, StageStart(32, start, start, (64, 128), fades=not first))
    assert left[-1][0].end - start == total and sum(seconds for _, seconds in left) == pytest.approx(total)


def test_the_paper_takes_4200_kimg_from_32_to_256_px():
    config = preset("paper")
    res, *later = config.network.stages()
    left = stages(config.schedule, StageStart(res, later=tuple(later), fades=False))
    assert [stage.res for stage, _ in left] == [32, 64, 128, 256]
    assert left[-1][0].end == 4_200_000 == 600_000 + 3 * 1_200_000


@FEW
@given(total=st.floats(100, 1e5), spent=st.floats(0, 2e5), speed=st.floats(1, 1000))
def test_a_budget_is_used_up_and_its_stages_have_the_images_that_fit(total, spent, speed):
    config = ScheduleConfig(budget=f"{total:.6f}s")
    start = StageStart(32, later=(64, 128), fades=False, seconds=spent)
    left = stages(config, start, lambda res: speed * 32 / res)
    assert sum(seconds for _, seconds in left) == pytest.approx(max(total - spent, 0), abs=0.01)
    for stage, seconds in left:
        assert stage.fade + stage.stable == pytest.approx(max(seconds * speed * 32 / stage.res, stage.fade), abs=1)


def test_seconds_left_of_a_stage_is_images_over_speed():
    stage = Stage(res=64, start=0, fade=100, stable=900)
    assert seconds_left(stage, 400, images_per_s=6.0) == 100.0
    assert seconds_left(stage, 2000, images_per_s=6.0) == 0.0


def test_seconds_left_is_bounded_by_the_clock():
    beyond_floor = CLOCKED.fade_end + CLOCKED.floor
    assert seconds_left(CLOCKED, beyond_floor, images_per_s=0.001, stage_seconds=20.0) == 40.0


def test_seconds_left_counts_the_floor_that_the_clock_has_to_wait_for():
    least = CLOCKED.fade_end + CLOCKED.floor
    assert seconds_left(CLOCKED, least - 50, images_per_s=0.5, stage_seconds=1e6) == 100.0


def test_a_later_stage_is_taken_to_be_slower():
    config = ScheduleConfig(fade_kimg="1", stable_kimg="1")
    start = StageStart(32, 0, 1000, (64,), fades=False)
    slower = lambda res: expected_speed({32: 100.0}, res)  # noqa: E731
    (_, now), (_, then) = stages(config, start, slower)
    assert now == 0 and then > 2000 / 100
    clocked = replace(config, stage_minutes="0.1", floor_kimg=0.0, fade_kimg="0.01")
    assert stages(clocked, start, slower)[1][1] == 6.0


def test_a_stage_under_way_has_what_it_has_not_shown_yet():
    config = ScheduleConfig(fade_kimg="1", stable_kimg="3")
    (stage, left), *_ = stages(config, StageStart(64, 10_000, 12_000, (128,)))
    assert stage.start == 10_000 and left == 2000
