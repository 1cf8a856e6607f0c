"""What a step with heads on features costs: its kinds over a cycle, its memory, counted and computed."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pggan.config.presets import preset, with_settings
from pggan.config.schema import Config
from pggan.models import networks
from pggan.run import profiling
from pggan.run.profiling import computed_peak, step_cost, step_kinds, trial_state
from pggan.training.phases import phases
from pggan.training.state import TrainState

CPU = torch.device("cpu")
SIZE = {"max_res": 16, "start_res": 8, "fmap_base": 256, "fmap_max": 16, "latent": 32, "batch": "8"}
FEATURES = {"features": "efficientnet-lite0"}


def config(**changes: object) -> Config:
    kind = {name: changes.pop(name) for name in ("arch", "loss") if name in changes}
    return with_settings(preset("smoke", **kind), {**SIZE, **changes})


def names(state: Config, number: int, every: int) -> tuple[str, ...]:
    return tuple(phase.name for phase in phases(state.training, number, 1.0, every))


@examples(max_examples=60, deadline=None)
@given(every=st.integers(1, 5), lazy=st.integers(1, 5), features=st.booleans())
def test_the_kinds_of_steps_are_those_of_a_run_as_often_as_a_run_has_them(every, lazy, features):
    changes = {"d_interval": f"8:1,16:{every}", "penalty_interval": lazy, **(FEATURES if features else {})}
    made = config(**changes)
    every = every if features else 0
    taken = Counter(names(made, number, every) for number in range(max(every, 1) * lazy))
    kinds = step_kinds(made, 16)
    assert Counter({names(made, number, every): count for number, count in kinds}) == taken
    assert set(names(made, kinds[0][0], every)) >= set(names(made, 0, every))  # the first has all phases


def test_the_speed_is_the_mean_over_a_cycle(monkeypatch):
    """Of eight steps: D with its penalty, D three times, the heads alone four times."""

    def timed(state: TrainState, batch: int, number: int = 1) -> float:
        profiling.trial_step(state, batch, number)
        listed = [phase.name for phase in profiling.step_phases(state)]
        return {"D penalty": 0.5, "D": 0.25, "heads": 0.125}[
            next(n for n in ("D penalty", "D", "heads") if n in listed)
        ]

    monkeypatch.setattr(profiling, "_timed", timed)
    cost = step_cost(config(**FEATURES, d_interval="2", penalty_interval=4), 16, CPU)
    assert cost.images_per_s == pytest.approx(8 / ((0.5 + 3 * 0.25 + 4 * 0.125) / 8))


CASES = [
    {"d_interval": "2", "penalty_interval": 2},
    {"arch": "style", "loss": "relativistic", "d_interval": "3"},
    {"arch": "dcgan", "loss": "bce"},
    {"loss": "hinge", "precision": "bf16", "features_res": "72"},
]


@pytest.mark.parametrize("changes", CASES)
def test_the_computed_peak_is_the_counted_one(monkeypatch, changes):
    """To the byte but for Adam's counts and a few sums."""
    monkeypatch.setattr(networks, "FULL_PRECISION_RES", 8)
    monkeypatch.setattr(profiling, "SLOW_STEP", 1000.0)  # the whole batch is counted, however slow
    made = config(**FEATURES, **changes)
    counted = step_cost(made, 16, CPU).memory
    assert computed_peak(trial_state(made, 16, CPU), 8) == pytest.approx(counted, rel=0.002)


def test_heads_need_memory_for_their_weights_and_for_the_feature_maps_of_a_batch():
    alone, beside, larger, twice = (
        (trial_state(config(**changes), 16, CPU), batch)
        for changes, batch in [({}, 8), (FEATURES, 8), ({**FEATURES, "features_res": "96"}, 8), (FEATURES, 16)]
    )
    weights = sum(b.nbytes for b in beside[0].heads.buffers()) + 4 * sum(p.nbytes for p in beside[0].heads.parameters())
    without, with_heads, at_96, of_16 = (computed_peak(*each) for each in (alone, beside, larger, twice))
    assert with_heads > without + weights
    assert at_96 - with_heads > 0.5 * (with_heads - without - weights)  # 2.25 times the pixels
    assert of_16 - with_heads > 0.5 * (with_heads - without - weights)
