"""A stage: the weight of its newest block, and what falls due within it."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.schedule.stages import Progress, Stage, due

ROOT = Path(__file__).resolve().parents[2]
IMAGES = st.integers(0, 10**7)
BATCHES = st.integers(1, 300)
STAGES = st.builds(Stage, res=st.just(64), start=IMAGES, fade=st.integers(0, 10**6), stable=st.integers(1, 10**6))
FEW = settings(max_examples=60, deadline=None)


def test_the_schedule_and_the_settings_need_no_torch():
    modules = "pggan.schedule.forecast, pggan.config.presets"
    probe = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
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


# --- what follows


def test_growth_follows_a_stage_unless_it_is_the_last_or_a_replay_stops_with_it():
    stage = Stage(64)
    assert Progress(stage, 0, (128,)).next_action == "grow"
    assert Progress(stage, 0).next_action == "stop"
    assert Progress(Stage(64, final=True), 0, (128,)).next_action == "stop"
