"""Random numbers: what they depend on, what they do not depend on, and their distributions."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pggan.config.schema import Config, NetworkConfig, TrainingConfig
from pggan.models.networks import fade_reals
from pggan.randomness import Stream
from pggan.schedule.stages import Stage
from pggan.training.state import TrainState, new_state
from pggan.training.step import step

KINDS = ["words", "uniform", "normal"]
WIDTHS = st.integers(1, 11)
FEW = settings(max_examples=40, deadline=None)


def numbers(stream: Stream, kind: str, index: int, count: int, width: int, purpose: str = "p") -> np.ndarray:
    return getattr(stream, kind)(purpose, index, count, width)


@pytest.mark.parametrize("kind", KINDS)
@FEW
@given(start=st.integers(0, 10**9), batches=st.lists(st.integers(0, 9), min_size=1, max_size=6), width=WIDTHS)
def test_however_a_range_is_batched_each_image_gets_the_same_numbers(kind, start, batches, width):
    stream = Stream(3)
    whole = numbers(stream, kind, start, sum(batches), width)
    ends = start + np.cumsum([0, *batches])
    parts = [numbers(stream, kind, int(a), int(b - a), width) for a, b in pairwise(ends)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert whole.shape == (sum(batches), width)


@FEW
@given(
    start=st.integers(0, 500), batches=st.lists(st.integers(1, 30), min_size=1, max_size=6), total=st.integers(1, 40)
)
def test_however_a_range_is_batched_the_order_is_the_same(start, batches, total):
    stream = Stream(3)
    whole = stream.order(start, sum(batches), total)
    ends = start + np.cumsum([0, *batches])
    parts = [stream.order(int(a), int(b - a), total) for a, b in pairwise(ends)]
    assert np.array_equal(whole, np.concatenate(parts))


@FEW
@given(total=st.integers(1, 60), seed=st.integers(0, 9))
def test_every_pass_is_a_permutation(total, seed):
    passes = Stream(seed).order(0, 4 * total, total).reshape(4, total)
    assert (np.sort(passes, axis=1) == np.arange(total)).all()


PLACES = [(0, 0, 0), (0, 0, 50), (1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 50)]


def test_passes_seeds_and_attempts_have_orders_of_their_own():
    orders = [Stream(seed, attempt).order(first, 50, 50) for seed, attempt, first in PLACES]
    assert len({tuple(order) for order in orders}) == len(PLACES)


@pytest.mark.parametrize("kind", KINDS)
def test_purposes_seeds_attempts_and_images_have_numbers_of_their_own(kind):
    drawn = [
        numbers(Stream(seed, attempt), kind, index, 1, 4, purpose).tobytes()
        for seed in (0, 1, 11)
        for attempt in (0, 1)
        for purpose in ("a", "b", "1/a")
        for index in (0, 1, 2**33)
    ]
    assert len(set(drawn)) == len(drawn)


def test_integers_of_purposes_seeds_and_attempts_differ_and_seed_torch():
    drawn = [Stream(seed, attempt).integer(p) for seed in (0, 1) for attempt in (0, 1) for p in ("G", "D")]
    assert len(set(drawn)) == len(drawn) and all(0 <= number < 2**63 for number in drawn)
    torch.Generator().manual_seed(max(drawn))


def test_drawing_leaves_the_global_generators_alone():
    torch.manual_seed(0)
    torch_before, numpy_before = torch.get_rng_state(), str(np.random.get_state())
    Stream(0).normal("p", 0, 100, 10)
    Stream(0).order(0, 100, 30)
    assert torch.equal(torch.get_rng_state(), torch_before) and str(np.random.get_state()) == numpy_before


def test_the_numbers_are_the_same_on_every_machine():
    """These constants must never change: all existing runs would continue differently."""
    assert Stream(0).words("p", 5, 1, 2).tolist() == [[9334538826383760867, 18445979765954782077]]
    assert Stream(0).order(0, 5, 5).tolist() == [1, 4, 2, 3, 0]


@pytest.mark.parametrize("width", [1, 7, 512])
def test_normals_are_standard_normal(width):
    drawn = Stream(1).normal("latents G", 1000, 100_000 // width, width)
    assert drawn.dtype == np.float32 and np.isfinite(drawn).all()
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3


def test_normals_of_one_image_and_of_neighbors_are_uncorrelated():
    drawn = Stream(2).normal("latents G", 0, 20_000, 6)
    together = np.concatenate([drawn[:-1], drawn[1:]], axis=1).astype(np.float64)
    between = np.corrcoef(np.concatenate([together, together**2], axis=1), rowvar=False) - np.eye(24)
    assert abs(between).max() < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("width", [1, 5])
def test_uniforms_are_uniform_from_0_to_below_1(width):
    drawn = Stream(1).uniform("mix", 0, 100_000 // width, width)
    assert drawn.dtype == np.float64 and drawn.min() >= 0 and drawn.max() < 1
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3


class AllOnes(Stream):
    """The largest and the smallest word."""

    def words(self, purpose, index, count, width):
        return np.resize(np.array([2**64 - 1, 0], dtype=np.uint64), (count, width))


def test_the_extreme_words_give_finite_numbers_in_range():
    assert (AllOnes(0).uniform("p", 0, 2, 2) < 1).all()
    assert np.isfinite(AllOnes(0).normal("p", 0, 2, 4)).all()


# --- in the training step ----------------------------------------------------------------------------------------

BATCH = 4


def state(growths: int = 0) -> TrainState:
    network = NetworkConfig(start_res=4, max_res=8, fmap_base=64, fmap_max=4, latent=6)
    made = new_state(Config(network=network, training=TrainingConfig(batch=str(BATCH))), torch.device("cpu"))
    for _ in range(growths):
        made.grow(Stage(8, made.nimg, fade=400))
        made.nimg += 100
    return made


def latents_of_steps(made: TrainState, steps: int) -> list[torch.Tensor]:
    """The inputs of G: the latents of D's phase, of G's phase, of D's ..."""
    seen = []
    made.G.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    for _ in range(steps):
        step(made, torch.zeros(BATCH, 3, 4, 4))
        made.nimg += BATCH
    return seen


def test_latents_of_the_two_players_and_of_all_steps_differ():
    seen = latents_of_steps(state(), 3)
    assert len(seen) == 6 and all(latents.shape == (BATCH, 6) for latents in seen)
    assert len(torch.cat(seen).unique(dim=0)) == 6 * BATCH


def test_latents_depend_on_the_position_alone():
    torch.manual_seed(0)
    first = latents_of_steps(state(), 2)
    torch.manual_seed(1)
    later = state()
    later.nimg = BATCH
    assert torch.equal(latents_of_steps(later, 1)[1], first[3])


def test_the_discriminator_is_shown_faded_reals():
    made = state(1)
    reals, seen = torch.rand(BATCH, 3, 8, 8, generator=torch.Generator().manual_seed(0)), []
    made.D.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    step(made, reals)
    alpha = made.alpha
    assert 0 < alpha < 1 and torch.equal(seen[0], fade_reals(reals, alpha)) and not torch.equal(seen[0], reals)


def test_both_players_fade_with_the_alpha_of_the_stage():
    made, seen = state(1), []
    for network in (made.G, made.D):
        network.register_forward_pre_hook(
            lambda _, given, named: seen.append(named["alpha"] if named else given[1]), with_kwargs=True
        )
    step(made, torch.zeros(BATCH, 3, 8, 8))
    assert seen == [made.alpha] * 5


def test_a_step_moves_every_weight_of_both_networks_in_a_fade():
    made = state(1)
    before = {name: value.clone() for name, value in [*made.G.named_parameters("G"), *made.D.named_parameters("D")]}
    step(made, torch.rand(BATCH, 3, 8, 8))
    after = dict([*made.G.named_parameters("G"), *made.D.named_parameters("D")])
    assert not [name for name, value in after.items() if torch.equal(value, before[name])]
