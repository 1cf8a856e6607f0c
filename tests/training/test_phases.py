"""Phases: which there are, and that Adam takes the gradient that a phase finds."""

from pathlib import Path

import pytest
import torch
from short import make_settings

from pggan.config.schema import TrainingConfig
from pggan.schedule.stages import Stage
from pggan.training.compile import Graphs
from pggan.training.phases import discriminator, generator, penalty, phases
from pggan.training.state import TrainState, new_state
from pggan.training.step import step

CPU = torch.device("cpu")
FADE = Stage(16, 0, fade=1000, stable=10**6)
GRAPHS = {"reference": None, "graphs": lambda graph, like: graph}


def fresh(*flags: object, precision: str = "fp32", **kind: str) -> TrainState:
    """A state at 16 px in mid-fade, in channels_last, without moments."""
    sizes = ["--start-res", 8, "--max-res", 16, "--batch", 8, "--fmap-base", 128, "--fmap-max", 12]
    state = new_state(make_settings(Path("cache"), Path("run"), *sizes, *flags, **kind), CPU, precision=precision)
    state.grow(FADE)
    state.nimg = 496
    return state


def reals() -> torch.Tensor:
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.mark.parametrize(
    ("interval", "number", "weight", "listed"),
    [
        (1, 5, 2.0, [("D", 2.0)]),
        (1, 5, 0.0, [("D", 0.0)]),
        (4, 8, 2.0, [("D", 0.0), ("D penalty", 8.0)]),
        (4, 9, 2.0, [("D", 0.0)]),
        (4, 8, 0.0, [("D", 0.0)]),
    ],
)
def test_the_list_of_phases_is_d_then_its_penalty_if_due_then_g(interval, number, weight, listed):
    found = phases(TrainingConfig(penalty_interval=interval), number, weight)
    assert [(phase.name, phase.penalty_weight) for phase in found] == [*listed, ("G", 0.0)]
    assert [phase.players for phase in found] == [("D",)] * len(listed) + [("G",)]
    ways = [(getattr(phase.loss, "func", phase.loss), getattr(phase.loss, "args", ())) for phase in found]
    judged = (("D",),)  # by D alone
    assert ways == [(discriminator, judged), *[(penalty, ())] * (len(listed) - 1), (generator, judged)]


@pytest.mark.parametrize("way", GRAPHS)
@pytest.mark.parametrize("arch", ["paper", "style", "dcgan"])
def test_each_weight_is_moved_by_its_own_gradient(arch, way):
    """Fused Adam on a CPU goes through memory: a gradient laid out in another order would move other weights."""
    state, before, found = fresh("--loss", "wgan-gp", "--warmup-kimg", 0, arch=arch), {}, {}
    state.graphs = Graphs(GRAPHS[way])

    def note(optimizer: torch.optim.Adam, *_: object) -> None:
        for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
            before[weight], found[weight] = weight.detach().clone(), weight.grad

    state.opt_D.register_step_pre_hook(note)
    state.opt_G.register_step_pre_hook(note)
    step(state, reals())
    lr, used = state.opt_G.param_groups[0]["lr"], [weight for weight in found if found[weight] is not None]
    assert len(used) > 20
    for weight in used:
        gradient = found[weight]
        expected = before[weight] - lr * gradient / (gradient.abs() + 1e-8)  # the first step of Adam, beta1 = 0
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-2 * lr)


@pytest.mark.parametrize("every", [1, 2])
def test_the_gradients_of_float16_do_not_depend_on_the_scale_that_they_come_through(every):
    """Not even if the scale is raised after each phase: the next phase goes through the new scale."""
    found = []
    for interval in (1, 10**6):
        state = fresh("--penalty-interval", every, precision="fp16")
        state.nimg = 32
        state.scaler.set_growth_interval(interval)
        taken = []
        for optimizer, network in ((state.opt_D, state.D), (state.opt_G, state.G)):

            def note(optimizer: torch.optim.Adam, *_: object, taken: list = taken, network=network) -> None:
                grads = [weight.grad for weight in network.parameters() if weight.grad is not None]
                taken.append(torch.cat([grad.flatten() for grad in grads]) / optimizer.grad_scale)

            optimizer.register_step_pre_hook(note)
        step(state, reals())
        found.append(taken)
    changing, still = found
    assert len(changing) == len(still) == 2 + (every == 2)
    for one, other in zip(changing, still, strict=True):
        assert torch.equal(one, other)
