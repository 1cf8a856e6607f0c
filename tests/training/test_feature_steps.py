"""Steps with heads on features: in micro-batches, without enough memory, by graphs, in half precision."""

import pytest
import torch
from featured import FADE, fresh, gradients, reals
from runs import assert_same

from pggan.schedule.stages import Stage
from pggan.training import ada, phases
from pggan.training import step as one_step
from pggan.training.compile import Graphs
from pggan.training.phases import Phase
from pggan.training.state import TrainState
from pggan.training.step import step

FULL = torch.OutOfMemoryError("CUDA out of memory")
STABLE = Stage(8, 104, stable=10**6)


@pytest.mark.parametrize(("interval", "features"), [(1, True), (2, True), (4, True), (4, False)])
def test_ada_counts_every_image_once_no_matter_how_rarely_d_acts(interval, features, monkeypatch):
    """Without heads, D acts in every step: a preset may have an interval, and --features none be given."""
    state = fresh("--d-interval", interval, "--augment", "color:0.3", "--ada", features=features)
    counted, real = [], ada.adjust
    state.nimg = state.stage.plan.start
    monkeypatch.setattr(
        ada, "adjust", lambda p, r_t, now, images, s: counted.append(images) or real(p, r_t, now, images, s)
    )
    for _ in range(4):
        step(state, reals(state))
        state.nimg += state.batch()
    assert len(counted) == (4 // interval if features else 4) and sum(counted) == 4 * state.batch()


# ---- micro-batches and less memory


def test_the_mean_gradient_of_micro_batches_is_that_of_the_whole():
    found = {}
    for parts in (1, 2):
        state = fresh("--d-interval", 2)
        state.heads.eval()  # the vectors of spectral norm stay as they are: each pass would bring them nearer
        state.stage.micro_batches = parts
        step(state, reals(state))
        found[parts] = {f"{p}.{n}": w.grad for p, net in state.players.items() for n, w in net.named_parameters()}
        assert state.finite() and state.counts["d_features"] == 1
    for name, whole in found[1].items():
        assert whole is None or (found[2][name].isfinite().all() and found[2][name].shape == whole.shape)
    for player in ("D.", "heads."):  # G acts after both have changed, and Adam's first step is a sign
        whole, parts = (
            torch.cat([w.flatten() for n, w in found[count].items() if n.startswith(player)]) for count in (1, 2)
        )
        assert (whole - parts).norm() < 1e-4 * whole.norm(), player


def test_a_batch_of_one_image_has_logits():
    state = fresh("--batch", 2, "--stddev-group", 1)
    state.stage.micro_batches = 2
    step(state, reals(state)[:2])
    assert state.finite()


@pytest.mark.parametrize("fails", ["heads_loss", "heads_generator_loss"])
def test_a_try_that_ran_out_of_memory_leaves_the_vectors_of_spectral_norm_as_they_were(monkeypatch, fails):
    """The state is then, bit for bit, that of a step whose phase had been split from the start."""
    phase = "D" if fails == "heads_loss" else "G"
    states = []
    for starved in (True, False):
        state = fresh(arch="dcgan", loss="bce")
        with monkeypatch.context() as patch:
            if starved:
                starve(patch, fails)
            else:
                split_from(patch, phase)
            step(state, reals(state), lambda _: None)
        states.append(state)
    assert states[0].stage.micro_batches == states[1].stage.micro_batches == 2
    assert_same(states[0].to_dict(), states[1].to_dict())


def starve(patch, name: str) -> None:
    """No memory for more than 4 images at once in the loss `name`: that shows after its networks have been used."""
    real = getattr(phases, name)

    def short(heads, *images):
        result = real(heads, *images)
        if len(images[0]) > 4:
            raise FULL
        return result

    patch.setattr(phases, name, short)


def split_from(patch, name: str) -> None:
    """Phases from `name` on are taken in two parts."""
    real = one_step.optimize

    def optimize(state: TrainState, phase: Phase, *more):
        state.stage.micro_batches = 2 if phase.name == name else state.stage.micro_batches
        return real(state, phase, *more)

    patch.setattr(one_step, "optimize", optimize)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_gradients_are_the_same_if_activations_are_computed_again(number):
    state = fresh("--penalty-interval", 2, double=True)
    before = {name: value.clone() for name, value in state.heads.state_dict().items()}
    kept, _ = gradients(state, number)
    state.heads.load_state_dict(before)
    state.G.recompute = state.D.recompute = True
    again, _ = gradients(state, number)
    assert kept.keys() == again.keys()
    for name, value in kept.items():
        torch.testing.assert_close(again[name], value, rtol=1e-8, atol=1e-12)


# ---- graphs, half precision


LAZY = ["--penalty-interval", 2, "--d-interval", 2]
KINDS = [
    ("paper", "logistic", LAZY, "fp32", FADE, 1),
    ("style", "wgan-gp", ["--augment", "translation:0.5,color:0.3"], "bf16", STABLE, 2),
    pytest.param("paper", "hinge", LAZY[2:], "fp16", FADE, 1, marks=pytest.mark.slow),
    pytest.param("dcgan", "bce", LAZY[2:], "fp32", STABLE, 2, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("arch", "loss", "flags", "precision", "plan", "parts"), KINDS)
def test_the_graph_of_a_phase_does_what_the_phase_does_bit_for_bit(arch, loss, flags, precision, plan, parts):
    graphs, states = Graphs(lambda graph, like: graph), []
    for way in (Graphs(), graphs):
        state = fresh(*flags, precision=precision, arch=arch, loss=loss)
        state.stage.plan, state.stage.micro_batches, state.graphs = plan, parts, way
        for _ in range(2):
            step(state, reals(state))
            state.nimg += 8
        states.append(state)
    assert_same(states[0].to_dict(), states[1].to_dict())
    names = {key[0] for key in graphs.known}
    assert names == ({"D", "G"} if "--d-interval" not in flags else {"D", "G", "heads", "G by heads"})


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_all_but_the_logits_is_computed_in_half_precision(precision, dtype):
    state, dtypes = fresh(precision=precision), []
    assert state.heads.autocast_dtype == dtype
    state.heads.frozen.register_forward_hook(lambda _, given, maps: dtypes.append({x.dtype for x in maps}))
    step(state, reals(state))
    assert dtypes == [{dtype}] * 2 and state.finite()  # of reals and fakes together, and in the phase of G
    assert all(p.dtype == torch.float32 for p in state.heads.parameters())
    with torch.no_grad():
        assert {each.dtype for each in state.heads(reals(state), 0.5)} == {torch.float32}
