"""The memory of a step, counted and computed; and less of it, by computing activations again for the gradients."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from runs import assert_same, assert_same_run
from short import interrupt_at, latest, make_settings, watch_steps
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from pggan.config.presets import preset, with_settings
from pggan.errors import Interrupted
from pggan.models import networks
from pggan.models.activation_checkpointing import recomputed
from pggan.run import profiling
from pggan.run.loop import train
from pggan.run.profiling import MemoryWatch, computed_peak, lasting, step_cost, trial_state, trial_step
from pggan.schedule.stages import Stage
from pggan.training import compile, micro_batches, phases
from pggan.training.compile import Graphs
from pggan.training.loading import state_from
from pggan.training.micro_batches import next_fallback
from pggan.training.phases import Phase, StepInputs, StepScalars
from pggan.training.state import TrainState
from pggan.training.step import step, step_inputs

pytest_plugins = ["short_runs"]

CPU = torch.device("cpu")
BATCH = 4
FULL = torch.OutOfMemoryError("CUDA out of memory")
D, PENALTY, G = (
    Phase("D", ("D",), partial(phases.discriminator, ("D",))),
    Phase("P", ("D",), phases.penalty),
    Phase("G", ("G",), partial(phases.generator, ("D",))),
)


def at_16_px(*flags: object, precision: str = "fp32", base: int = 128, **kind: str) -> TrainState:
    """New networks, grown once, whose batch is one group."""
    size = ("--fmap-base", base, "--fmap-max", 16, "--batch", BATCH, "--precision", precision)
    config = make_settings(Path("cache"), Path("run"), "--start-res", 8, "--max-res", 16, *size, *flags, **kind)
    return trial_state(config, 16, CPU)


def taken(state: TrainState, phase: Phase, alpha: float, weight: float, double: bool = True):
    """(gradients, stats, buffers of batch norm) of a phase, by networks in float64 or as they are."""
    inputs = step_inputs(state, torch.rand(BATCH, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1)
    if double:
        state.G.double(), state.D.double()
        inputs = StepInputs(*(None if value is None else value.double() for value in vars(inputs).values()))
    player, other = (state.G, state.D) if phase.players == ("G",) else (state.D, state.G)
    player.requires_grad_(True), other.requires_grad_(False)
    scalar = partial(torch.tensor, dtype=torch.float64 if double else torch.float32)
    scalars = StepScalars(scalar(alpha) if alpha < 1 else 1.0, scalar(weight) if weight else 0.0)
    found, stats = compile.gradients(phase, state.config.training, state.players, inputs, scalars)
    buffers = {f"{net}.{name}": b.clone() for net in "GD" for name, b in getattr(state, net).named_buffers()}
    return found, stats, buffers


def both_ways(phase: Phase, alpha: float, weight: float, *flags: object, double: bool = True, **kind: str):
    for again in (False, True):
        state = at_16_px(*flags, **kind)
        state.G.recompute = state.D.recompute = again
        yield taken(state, phase, alpha, weight, double)


# ---- the same gradients

KINDS = [
    (("paper", "none"), "wgan-gp", 0.3),
    (("paper", "none"), "relativistic", 1.0),
    (("style", "none"), "logistic", 0.3),
    (("style", "none"), "wgan-gp", 1.0),
    (("dcgan", "layer"), "relativistic", 0.3),
    (("dcgan", "layer"), "logistic", 1.0),
]


@pytest.mark.parametrize(("arch", "loss", "alpha"), KINDS)
@pytest.mark.parametrize("phase", [D, PENALTY], ids=["D", "penalty"])
def test_second_derivatives_through_what_is_computed_again_are_those_of_what_is_kept(phase, arch, loss, alpha):
    flags = ["--critic-norm", arch[1], "--stddev-group", 2]
    kept, again = both_ways(phase, alpha, 2.0, *flags, arch=arch[0], loss=loss)
    assert_close(kept, again)


@pytest.mark.parametrize(
    ("arch", "norm"), [("paper", "none"), ("style", "none"), ("dcgan", "layer"), ("dcgan", "batch")]
)
@pytest.mark.parametrize(("loss", "alpha"), [("relativistic", 0.3), ("hinge", 1.0)])
@pytest.mark.parametrize("phase", [D, G], ids=["D", "G"])
def test_first_derivatives_are_too_and_batch_norm_measures_once(phase, arch, norm, loss, alpha):
    kept, again = both_ways(phase, alpha, 0.0, "--critic-norm", norm, "--stddev-group", 2, arch=arch, loss=loss)
    assert_close(kept, again)
    assert (arch == "dcgan") == any("tracked" in name for name in again[2])


def assert_close(kept, again) -> None:
    assert sum(gradient is not None for gradient in kept[0]) > 4
    assert [g is None for g in kept[0]] == [g is None for g in again[0]]
    largest = max(float(g.abs().max()) for g in kept[0] if g is not None)
    for one, other in zip(kept[0], again[0], strict=True):
        if one is not None:
            assert torch.allclose(one, other, rtol=1e-9, atol=1e-12 * largest)
    for one, other in zip(kept[1:], again[1:], strict=True):
        assert one.keys() == other.keys()
        assert all(torch.allclose(one[name], other[name], rtol=1e-10) for name in one)


def test_in_half_precision_it_is_computed_again_in_half_precision(monkeypatch):
    """Equal to the bit in D's phase without a penalty: the same kernels on the same numbers."""
    monkeypatch.setattr(networks, "FULL_PRECISION_RES", 8)
    flags = {"precision": "bf16", "loss": "hinge"}
    kept, again = both_ways(D, 1.0, 0.0, double=False, **flags)
    full = taken(at_16_px(loss="hinge"), D, 1.0, 0.0, double=False)
    assert all(one is None or torch.equal(one, other) for one, other in zip(kept[0], again[0], strict=True))
    assert not all(one is None or torch.equal(one, other) for one, other in zip(kept[0], full[0], strict=True))


def test_a_function_is_computed_again_to_any_order_with_inputs_that_are_none_or_need_no_gradient():
    x, fixed = (torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    weight, calls = nn.Parameter(fixed.clone()), []

    def cubic(x, nothing, fixed):
        calls.append(nothing)
        return (x * weight) ** 3 * fixed

    def run(x, weight):
        return recomputed(cubic, cubic, [weight], x, None, fixed)

    x.requires_grad_()
    assert gradcheck(run, (x, weight)) and gradgradcheck(run, (x, weight))
    y, known = run(x, weight), cubic(x, None, fixed)
    for _ in range(3):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (known,) = torch.autograd.grad(known.sum(), x, create_graph=True)
        assert torch.allclose(y, known)
    assert set(calls) == {None}


# ---- less memory


def peak(state: TrainState, phase: Phase, weight: float) -> int:
    before = [*state.G.parameters(), *state.D.parameters()]
    with MemoryWatch(before) as watch:
        taken(state, phase, 1.0, weight, double=False)
    return watch.peak - sum(parameter.untyped_storage().nbytes() for parameter in before)


@pytest.mark.parametrize("arch", ["paper", "style"])
@pytest.mark.parametrize(
    ("phase", "loss", "most"),
    [
        (D, "hinge", 0.85),
        (D, "logistic", 0.85),
        (D, "wgan-gp", 0.75),
        (D, "relativistic", 0.75),
        (G, "hinge", 0.95),
    ],
)
def test_what_is_computed_again_takes_less_memory(phase, loss, most, arch):
    """Beside the weights. The block of the highest resolution takes half of all activations, and it stays."""
    peaks = []
    for again in (False, True):
        state = at_16_px(arch=arch, loss=loss)
        state.G.recompute = state.D.recompute = again
        peaks.append(peak(state, phase, 0.0 if loss == "hinge" else 2.0))
    assert peaks[1] < most * peaks[0], peaks[1] / peaks[0]


# ---- the last fallback


def fail_until(monkeypatch, fits) -> list[tuple[int, bool]]:
    """A machine with memory for phases of which fits(images, recompute) is true. Returns all that was tried."""
    tried, real = [], micro_batches._backward

    def backward(state, phase, inputs, *more):
        tried.append((len(inputs.mix), state.stage.recompute))
        if not fits(*tried[-1]):
            raise FULL
        return real(state, phase, inputs, *more)

    monkeypatch.setattr(micro_batches, "_backward", backward)
    return tried


def one_more(state: TrainState, batch: int = 16) -> list[str]:
    """Takes a step after the fade; returns what was said."""
    said = []
    state.config = replace(state.config, training=replace(state.config.training, batch=str(batch)))
    state.stage.plan = Stage(16)
    reals = torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1
    step(state, reals, said.append)
    return said


def test_micro_batches_come_first_then_less_is_kept_then_the_error_goes_through(monkeypatch):
    state = at_16_px()
    tried = fail_until(monkeypatch, lambda images, again: again)
    said = one_more(state)
    assert tried[:3] == [(16, False), (8, False), (4, False)] and set(tried[3:]) == {(4, True)} and len(tried) == 11
    assert (state.stage.micro_batches, state.stage.recompute) == (4, True) and state.G.recompute and state.D.recompute
    assert [text.partition("from here on ")[2].partition(",")[0] for text in said] == [
        "a batch of 16 is trained as 2 micro-batches of 8",
        "a batch of 16 is trained as 4 micro-batches of 4",
        "activations are not kept but computed again for the gradients",
    ]
    tried = fail_until(monkeypatch, lambda images, again: False)
    with pytest.raises(torch.OutOfMemoryError):
        one_more(state)
    assert tried == [(4, True)] and next_fallback(state) is None


class Full(TorchDispatchMode):
    """Memory for so many convolutions' backward passes, and no more."""

    def __init__(self, left: int):
        super().__init__()
        self.left = left

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "convolution_backward" in str(function):
            self.left -= 1
            if self.left < 0:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("left", [0, 3, 9])
def test_nothing_of_a_backward_pass_that_failed_stays_in_memory(monkeypatch, left):
    state, alive, real = at_16_px(loss="wgan-gp"), [], micro_batches._fall_back
    one_more(state, BATCH)

    def fall_back(*args):
        alive.append(watch.alive)
        real(*args)
        alive.append(watch.alive)
        raise InterruptedError

    monkeypatch.setattr(micro_batches, "_fall_back", fall_back)
    before = lasting(state)
    with MemoryWatch(before) as watch, Full(left), pytest.raises(InterruptedError):
        one_more(state, BATCH)
    a_map = 4 * BATCH * 8 * 16 * 16  # what is to stay: all that lasted but D's gradients, and the step's own inputs
    assert alive[1] < sum(tensor.untyped_storage().nbytes() for tensor in before) + a_map
    assert alive[0] > alive[1] + 4 * a_map


def test_a_batch_of_one_group_has_no_micro_batches_to_try():
    state = at_16_px()
    assert next_fallback(state) == (1, True)


def test_the_step_is_the_same_but_for_rounding():
    """WGAN-GP, whose phase of D is differentiated twice."""
    kept, again = (at_16_px(loss="wgan-gp") for _ in range(2))
    again.stage.recompute = True
    for state in (kept, again):
        assert one_more(state, BATCH) == []
    for name, value in kept.D.state_dict().items():
        assert torch.allclose(value, again.D.state_dict()[name], atol=1e-4)
    assert float(kept.sums["penalty"]) == pytest.approx(float(again.sums["penalty"]), rel=1e-5)


def test_graphs_are_left_aside(monkeypatch):
    def compiler(graph, like):
        raise AssertionError("nothing is to be compiled")

    state = at_16_px()
    state.graphs, state.stage.recompute = Graphs(compiler), True
    one_more(state, BATCH)
    assert not state.graphs.known


def test_it_is_kept_in_the_checkpoint_and_tried_anew_at_growth(settings, monkeypatch, capsys):
    flags = ["--batch", 4]
    with monkeypatch.context() as patch:
        fail_until(patch, lambda images, again: again)
        interrupt_at(patch, 48)
        with pytest.raises(Interrupted):
            train(settings(*flags))
    assert "activations are not kept" in capsys.readouterr().out
    saved = latest(Path(settings().run.out))
    assert saved["stage"]["recompute"] is True and saved["stage"]["micro_batches"] == 1
    assert state_from(saved, CPU).stage.recompute
    was = []
    watch_steps(monkeypatch, before=lambda state, *_: was.append((state.res, state.stage.recompute)))
    train(settings(*flags))
    assert set(was) == {(4, True), (8, False)}


def test_a_run_that_is_interrupted_goes_on_bit_for_bit_with_it(settings, monkeypatch):
    fail_until(monkeypatch, lambda images, again: again)
    flags = ["--batch", 4, "--stable-kimg", 0.016, "--fade-kimg", 0.024]
    whole = train(settings(*flags, out="whole"))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 28)
        with pytest.raises(Interrupted):
            train(settings(*flags))
    run = train(settings(*flags))
    assert latest(run)["stage"]["recompute"]
    assert_same_run(whole, run)


# ---- computed


SIZE = {"max_res": 16, "start_res": 8, "fmap_base": 256, "fmap_max": 16, "latent": 32}
CASES = [
    ("paper", "wgan-gp", 1, "fp32"),
    ("paper", "logistic", 4, "fp32"),
    ("style", "relativistic", 1, "fp32"),
    ("dcgan", "bce", 1, "fp32"),
    ("paper", "relativistic", 1, "bf16"),
]


@pytest.mark.parametrize(("arch", "loss", "every", "precision"), CASES)
def test_the_computed_peak_is_the_counted_one(monkeypatch, arch, loss, every, precision):
    """To the byte but for Adam's counts and a few sums."""
    monkeypatch.setattr(networks, "FULL_PRECISION_RES", 8)
    monkeypatch.setattr(profiling, "SLOW_STEP", 1000.0)  # the whole batch is counted, however slow
    changes = {**SIZE, "penalty_interval": every, "batch": "8", "precision": precision}
    config = with_settings(preset("smoke", arch=arch, loss=loss), changes)
    counted = step_cost(config, 16, CPU).memory
    computed = computed_peak(trial_state(config, 16, CPU), 8)
    assert computed == pytest.approx(counted, rel=0.002)


def test_it_is_so_in_micro_batches_and_with_less_kept():
    config = with_settings(preset("smoke", loss="wgan-gp"), {**SIZE, "batch": "8"})
    states = [trial_state(config, 16, CPU) for _ in range(2)]
    for state in states:
        state.stage.micro_batches, state.stage.recompute = 2, True
    for number in (1, 2):  # the second one warm: with gradients and moments from the start
        reals = trial_step(states[0], 8, number)
        with MemoryWatch([*lasting(states[0]), reals]) as watch:
            step(states[0], reals)
    assert computed_peak(states[1], 8) == pytest.approx(watch.peak, rel=0.002)


def test_a_computed_peak_leaves_no_trace_but_no_gradients():
    state = at_16_px()
    before = {name: value.clone() for name, value in state.D.state_dict().items()}
    config, plan = state.config, state.stage.plan
    computed_peak(state, 64)
    assert (
        state.config is config
        and state.stage.plan is plan
        and state.nimg == 0
        and state.sums == {}
        and not state.opt_D.state
    )
    assert all(parameter.grad is None and parameter.requires_grad for parameter in state.D.parameters())
    assert_same(dict(state.D.state_dict()), before)


def test_more_memory_than_there_is_can_be_computed():
    config = with_settings(preset("paper"), {"max_res": 1024, "precision": "bf16"})
    assert computed_peak(trial_state(config, 64, CPU), 4096) > 200 * 2**30
