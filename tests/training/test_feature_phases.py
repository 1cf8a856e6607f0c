"""The phases with heads on features: their loss, whose turn it is, and that a frozen network stays frozen."""

from functools import partial

import pytest
import torch
from featured import FADE, fresh, gradients, reals
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from runs import assert_same
from torch import Tensor

from pggan.config.schema import TrainingConfig
from pggan.training import micro_batches, phases
from pggan.training.losses import heads_generator_loss, heads_loss
from pggan.training.step import step, step_phases, step_scalars

# ---- the losses


def logits(seed: int) -> list[Tensor]:
    """Of three heads with different numbers of places."""
    rng = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(4, places, generator=rng, dtype=torch.float64) for places in (16, 4, 1)]


def test_the_loss_of_the_heads_is_the_hinge_loss_in_which_each_head_counts_the_same():
    real, fake = logits(0), logits(1)

    def heads(images: Tensor, kinds: int) -> list[Tensor]:
        assert kinds == 2 and images[:, 0, 0, 0].tolist() == [0, 1] * 4  # real and fake images alternate
        return [torch.stack([r, f], 1).flatten(0, 1) for r, f in zip(real, fake, strict=True)]

    loss, stats = heads_loss(heads, torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 2, 2))
    slow, signs = 0.0, 0.0
    for on_real, on_fake in zip(real, fake, strict=True):
        each = [max(0, 1 - r) + max(0, 1 + f) for r, f in zip(on_real.flatten(), on_fake.flatten(), strict=True)]
        slow += float(sum(each)) / len(each) / 3
        signs += sum(1 if r > 0 else -1 for r in on_real.flatten()) / on_real.numel() / 3
    assert float(loss) == float(stats["d_features"]) == pytest.approx(slow)
    assert float(stats["r_t_features"]) == pytest.approx(signs) and stats.keys() == {"d_features", "r_t_features"}


@pytest.mark.parametrize("weight", [1.0, 0.25, torch.tensor(3.0)])
def test_the_loss_of_g_is_minus_the_mean_logit_of_each_head_the_first_five_times_times_the_weight(weight):
    fake = logits(1)
    loss, stats = heads_generator_loss(lambda images: fake, "fakes", weight)
    first, *others = [float(sum(each.flatten())) / each.numel() for each in fake]
    slow = -(5 * first + sum(others)) / 3
    assert float(stats["g_features"]) == pytest.approx(slow)  # before its weight
    assert float(loss) == pytest.approx(float(weight) * slow)


@pytest.mark.parametrize(("arch", "loss"), [("paper", "logistic"), ("style", "wgan-gp"), ("dcgan", "bce")])
def test_the_growing_discriminator_learns_what_it_would_without_heads(arch, loss):
    (alone, without), (beside, together) = (
        gradients(fresh(features=features, arch=arch, loss=loss), 0) for features in (False, True)
    )
    assert_same(alone, {name: value for name, value in beside.items() if name.startswith("D.")})
    assert_same(without, {name: value for name, value in together.items() if not name.endswith("_features")})
    heads = [value for name, value in beside.items() if name.startswith("heads.")]
    assert len(heads) == 38 and all(value.isfinite().all() and value.abs().max() > 0 for value in heads)


def test_the_gradient_of_g_is_that_by_d_and_the_weight_times_that_by_the_heads():
    state = fresh("--features-weight", "4:1,8:3", double=True)
    state.heads.eval()  # spectral norm goes on from call to call otherwise
    at = {weight: gradients(state, -1, features_weight=weight)[0] for weight in (0.0, 1.0, 2.5)}
    by_d = gradients(fresh(features=False, double=True), -1)[0]
    for name, value in by_d.items():
        torch.testing.assert_close(at[0.0][name], value, rtol=1e-6, atol=1e-9)
        heads = at[1.0][name] - value
        torch.testing.assert_close(at[2.5][name], value + 2.5 * heads, rtol=1e-6, atol=1e-9)
    assert any(float((at[1.0][name] - value).abs().max()) > 1e-4 for name, value in by_d.items())
    assert float(step_scalars(state).features_weight) == pytest.approx(1 * 3**0.48)  # alpha is 0.48: between the two


# ---- whose turn it is


@examples(max_examples=200, deadline=None)
@given(every=st.integers(1, 6), lazy=st.integers(1, 5), weight=st.sampled_from([0.0, 3.0]), start=st.integers(0, 50))
def test_d_acts_in_every_nth_step_the_heads_in_all_and_the_penalty_keeps_its_mean_weight(every, lazy, weight, start):
    settings = TrainingConfig(penalty_interval=lazy)
    period = every * lazy
    steps = [phases.phases(settings, number, weight, every) for number in range(start, start + 2 * period)]
    total = 0.0
    for number, listed in enumerate(steps, start):
        acts = number % every == 0
        due = acts and lazy > 1 and weight and number % period == 0
        wanted = [("D", "heads") if acts else ("heads",), *([("D",)] if due else []), ("G",)]
        assert [phase.players for phase in listed] == wanted
        assert [phase.loss.args for phase in listed if isinstance(phase.loss, partial)] == [(wanted[0],), (wanted[0],)]
        total += sum(phase.penalty_weight for phase in listed)
    assert total == pytest.approx(weight * 2 * lazy)  # for each step in which D acts
    names = [[phase.name for phase in listed] for listed in steps]
    assert ["heads", "G by heads"] in names or every == 1
    assert len({(phase.name, phase.players) for listed in steps for phase in listed}) == len(
        {n for s in names for n in s}
    )


def test_the_interval_is_that_of_the_resolution_and_counts_from_the_start_of_the_stage():
    state = fresh("--d-interval", "4:1,8:3")
    acting = []
    for number in range(7):
        state.nimg = FADE.start + 8 * number
        acting.append("D" in step_phases(state)[0].players)
    assert acting == [True, False, False, True, False, False, True]
    assert [phase.name for phase in step_phases(fresh("--d-interval", 5, features=False))] == ["D", "G"]


def test_each_player_is_moved_in_its_steps_alone_and_at_its_own_rate():
    state = fresh("--d-interval", 3, "--features-lr", "4:0.004,8:0.0005", "--penalty-interval", 2)
    state.lr_factor = 0.5
    for number in range(6):
        state.nimg = FADE.start + 8 * number
        before = {player: [p.detach().clone() for p in net.parameters()] for player, net in state.players.items()}
        step(state, reals(state))
        moved = {p for p, net in state.players.items() if any(map(_differ, before[p], net.parameters()))}
        assert moved == ({"G", "D", "heads"} if number % 3 == 0 else {"G", "heads"})
    steps = {p: max(float(values["step"]) for values in o.state.values()) for p, o in state.optimizers.items()}
    assert steps == {"G": 6, "D": 3, "heads": 6}  # D: in two steps, with a penalty in one of them
    assert {group["lr"] for group in state.opt_heads.param_groups} == {0.00025}
    assert {name: state.counts[name] for name in ("d", "d_features", "g_features", "g", "penalty")} == {
        "d": 2,
        "d_features": 6,
        "g_features": 6,
        "g": 2,
        "penalty": 1,
    }


def _differ(one: Tensor, other: Tensor) -> bool:
    return not torch.equal(one, other)


def test_without_features_nothing_of_heads_is_in_the_state():
    state = fresh(features=False)
    step(state, reals(state))
    values = state.to_dict()
    assert values["heads"] is None and values["opt_heads"] is None
    assert [*state.players] == ["G", "D"] and not any("features" in name or "heads" in name for name in state.sums)
    assert [phase.name for phase in step_phases(state)] == ["D", "G"]


# ---- frozen


def test_no_graph_is_kept_through_the_frozen_network_in_the_phase_of_d_but_images_get_gradients_in_that_of_g():
    state = fresh("--penalty-interval", 2, "--augment", "translation:0.5")  # the penalty is due: reals get gradients
    kept = []
    state.heads.frozen.register_forward_hook(lambda _, given, maps: kept.append([given[0], *maps]))
    before = {name: value.clone() for name, value in state.heads.named_buffers() if "frozen" in name}
    for number, phase in enumerate(step_phases(state)):
        gradients(state, number)
        for player in state.players.values():
            player.requires_grad_(True)
        if phase.name == "D":
            assert len(kept) == 1 and all(x.grad_fn is None and not x.requires_grad for x in kept[0])
            kept.clear()
    assert phase.name == "G" and len(kept) == 1 and all(x.grad_fn is not None for x in kept[0])
    step(state, reals(state))
    assert before and all(
        torch.equal(value, before[name]) for name, value in state.heads.named_buffers() if name in before
    )
    assert all(value.grad is None for value in state.heads.buffers())


def test_heads_alone_teach_g_and_no_weight_of_theirs_gets_a_gradient_in_its_phase(monkeypatch):
    state, seen = fresh("--d-interval", 5), []
    real = micro_batches._backward

    def backward(state, phase, *more):
        seen.append(
            (phase.name, {n: all(p.requires_grad for p in net.parameters()) for n, net in state.players.items()})
        )
        return real(state, phase, *more)

    monkeypatch.setattr(micro_batches, "_backward", backward)
    step(state, reals(state))
    assert seen == [
        ("heads", {"G": False, "D": False, "heads": True}),
        ("G by heads", {"G": True, "D": False, "heads": False}),
    ]
    assert all(p.grad is None for p in state.D.parameters()) and all(p.requires_grad for p in state.D.parameters())
    grads = [p.grad for p in state.G.parameters() if p.grad is not None]
    assert len(grads) > 5 and all(grad.abs().max() > 0 for grad in grads)
