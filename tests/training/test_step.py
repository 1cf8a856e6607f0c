"""One step: its phases, in micro-batches, with less memory than it needs, with lazy penalties, in half precision."""

import copy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from runs import assert_same, assert_same_run, records
from short import growth, interrupt_at, latest, make_settings, watch_steps

from pggan.config.per_resolution import PerResolution
from pggan.config.schema import Config
from pggan.errors import Diverged, Interrupted, UserError
from pggan.models.layers import minibatch_stddev
from pggan.models.networks import Generator
from pggan.run.devices import pick_precision
from pggan.run.loop import train
from pggan.run.profiling import computed_peak
from pggan.schedule.stages import Stage
from pggan.training import ada, micro_batches, phases
from pggan.training import step as one_step
from pggan.training.compile import Graphs
from pggan.training.loading import state_from
from pggan.training.losses import LOSSES
from pggan.training.micro_batches import next_fallback
from pggan.training.phases import Phase, StepInputs
from pggan.training.state import TrainState, allow_tf32, new_state
from pggan.training.step import step, step_inputs, step_phases

pytest_plugins = ["short_runs"]

CPU = torch.device("cpu")
FADE = Stage(8, 104, fade=100, stable=10**6)
EXHAUSTED = {
    "of the device": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "of the machine": RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
    "of Python": MemoryError(),
    "of the driver": RuntimeError("CUDA error: out of memory"),
    "of cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "of a Mac": RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB, other allocations: 1.00 GB)"),
}


def fresh(*flags: object, double: bool = False, grown: bool = True, **kind: str) -> TrainState:
    """A state at 8 px, in the middle of its fade; double: in float64, for exact sums."""
    config = make_settings(Path("cache"), Path("run"), "--batch", 16, "--max-res", 8, *flags, **kind)
    state = new_state(config, CPU)
    if grown:
        state.nimg = 104
        state.grow(FADE)
        state.nimg = 152
    for network in (state.G, state.D, state.G_ema) if double else ():
        network.double()
    return state


SMALL = cache(partial(fresh, grown=False))  # for tests that change its settings and do not train it


def reals(state: TrainState, count: int = 16) -> torch.Tensor:
    dtype = next(state.G.parameters()).dtype
    return torch.rand(count, 3, state.res, state.res, generator=torch.Generator().manual_seed(5)).to(dtype) * 2 - 1


def doubled(inputs: StepInputs) -> StepInputs:
    values = {name: value if value is None else value.double() for name, value in vars(inputs).items()}
    return StepInputs(**values)


def gradients(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def watch_phases(monkeypatch, state: TrainState, taken: list) -> None:
    """Adds (player, gradients) to `taken` at every step of an optimizer. The inputs of the phases are in float64."""
    monkeypatch.setattr(one_step, "step_inputs", lambda *both: doubled(step_inputs(*both)))
    for player, optimizer, network in (("D", state.opt_D, state.D), ("G", state.opt_G, state.G)):
        real = optimizer.step

        def noted(*args, player=player, real=real, network=network, **named):
            taken.append((player, gradients(network)))
            return real(*args, **named)

        monkeypatch.setattr(optimizer, "step", noted)


def limit_memory(monkeypatch, most: int, error: BaseException, where: str = "D backward") -> list[int]:
    """A machine without memory for more than `most` images at once. Returns the sizes of all batches tried."""
    tried = []

    def check(count: int) -> None:
        tried.append(count)
        if count > most:
            raise error

    def forward(real, self, x, *more):
        if where == "G forward" and torch.is_grad_enabled():
            check(len(x))
        return real(self, x, *more)

    def backward(real, state, phase, inputs, *more):
        check(len(inputs.mix)) if where == "D backward" else None
        return real(state, phase, inputs, *more)

    def penalty(real, loss, critic, images, *more):
        check(len(images)) if where == "penalty" else None
        return real(loss, critic, images, *more)

    monkeypatch.setattr(Generator, "forward", wrapped(forward, Generator.forward))
    monkeypatch.setattr(micro_batches, "_backward", wrapped(backward, micro_batches._backward))
    monkeypatch.setattr(phases, "penalty_loss", wrapped(penalty, phases.penalty_loss))
    return tried


def wrapped(around, real):
    return lambda *args: around(real, *args)


# ---- micro-batches


KINDS = [
    ("paper", "logistic", 2),
    ("paper", "wgan-gp", 4),
    ("paper", "hinge", 4),
    ("style", "lsgan", 2),
    ("style", "relativistic", 4),
]


@pytest.mark.parametrize(("arch", "loss", "count"), KINDS)
def test_the_mean_gradient_of_micro_batches_is_that_of_the_whole(monkeypatch, arch, loss, count):
    lazy = ["--penalty-interval", 2] if LOSSES[loss].penalty else []
    found = {}
    for parts in (1, count):
        state = fresh(*lazy, double=True, arch=arch, loss=loss)
        state.stage.micro_batches, state.nimg = parts, 136  # an even step of the stage: the penalty is due
        found[parts] = []
        with monkeypatch.context() as patch:
            watch_phases(patch, state, found[parts])
            step(state, reals(state))
    assert [player for player, _ in found[1]] == (["D", "D", "G"] if lazy else ["D", "G"])
    for (player, whole), (other, summed) in zip(found[1], found[count], strict=True):
        assert player == other and whole.keys() == summed.keys()
        for name in whole:
            assert torch.allclose(whole[name], summed[name], rtol=1e-6, atol=1e-12), (player, name)


@examples(max_examples=60, deadline=None)
@given(group=st.integers(0, 6), groups=st.integers(1, 8), number=st.integers(1, 8))
def test_a_micro_batch_has_whole_groups_and_each_image_is_in_one(group, groups, number):
    count = groups * max(group, 1)
    rows = torch.arange(count)
    whole = StepInputs(rows, rows, rows, None, rows, rows)
    if groups % number:
        return
    parts = whole.micro_batches(number, group)
    assert len(parts) == number and {len(part.mix) for part in parts} == {count // number}
    assert sorted(torch.cat([part.reals for part in parts]).tolist()) == rows.tolist()
    theirs = {frozenset(row.tolist()) for part in parts for row in part.mix.reshape(max(group, 1), -1).T}
    assert theirs == {frozenset(range(first, count, groups)) for first in range(groups)}
    assert all(part.noise_d is None and torch.equal(part.latents_d, part.noise_g) for part in parts)


def test_minibatch_stddev_of_micro_batches_is_that_of_the_whole():
    x = torch.randn(24, 3, 2, 2, dtype=torch.float64)
    whole = minibatch_stddev(x, 4)[:, -1, 0, 0]
    for part in StepInputs(x, x, x, None, None, torch.arange(24)).micro_batches(3, 4):
        assert torch.allclose(minibatch_stddev(part.reals, 4)[:, -1, 0, 0], whole[part.mix])


@examples(max_examples=60, deadline=None)
@given(batch=st.integers(1, 200), group=st.integers(0, 8), number=st.integers(1, 64), again=st.booleans())
def test_the_next_fallback_has_at_least_twice_as_many_micro_batches_of_whole_groups(batch, group, number, again):
    if group and batch % min(group, batch):
        return
    state = SMALL()
    training = replace(state.config.training, batch=str(batch))
    state.config = replace(state.config, training=training, network=replace(state.config.network, stddev_group=group))
    state.stage.micro_batches, state.stage.recompute = number, again
    groups = batch // (min(group, batch) or 1)
    can = [n for n in range(1, groups + 1) if groups % n == 0 and n >= 2 * number]
    last = None if again else (number, True)
    assert next_fallback(state) == ((can[0], again) if can else last)


# ---- without memory


@cache
def whole_step() -> list:
    """(player, gradients) of the phases of a step that has memory enough."""
    state, taken = fresh("--penalty-interval", 2, double=True), []
    state.nimg = 136
    with pytest.MonkeyPatch.context() as patch:
        watch_phases(patch, state, taken)
        step(state, reals(state))
    return taken


WHERE = ["D backward", "G forward", "penalty"]


@pytest.mark.parametrize(("error", "where"), [*zip(EXHAUSTED, 2 * WHERE, strict=True)])
def test_a_step_that_ran_out_of_memory_is_taken_once_and_on_the_same_images(monkeypatch, where, error):
    state, said, taken = fresh("--penalty-interval", 2, double=True), [], []
    state.nimg = 136
    watch_phases(monkeypatch, state, taken)
    tried = limit_memory(monkeypatch, 4, EXHAUSTED[error], where)
    step(state, reals(state), said.append)
    assert [player for player, _ in taken] == ["D", "D", "G"]
    assert {float(moment["step"]) for moment in state.opt_G.state.values()} == {1.0}
    assert all(p.requires_grad for p in state.D.parameters())
    assert len(said) == 2 and "2 micro-batches of 8" in said[0] and "4 micro-batches of 4" in said[1]
    assert "8 px" in said[0]
    assert state.stage.micro_batches == 4 and tried[:2] == [16, 8] and set(tried[2:]) == {4}
    for (_, whole), (_, parts) in zip(whole_step(), taken, strict=True):
        assert all(torch.allclose(whole[name], parts[name], rtol=1e-5, atol=1e-9) for name in whole)


def test_what_batch_norm_has_measured_is_not_counted_twice(monkeypatch):
    """The phase that failed had measured: G for the fakes, and D for the whole batch."""
    counts = []
    for most in (16, 8):
        state = fresh("--critic-norm", "batch", arch="dcgan", loss="bce")
        before = {name: int(b) for name, b in state.D.named_buffers() if "tracked" in name}
        with monkeypatch.context() as patch:
            limit_memory(patch, most, EXHAUSTED["of the machine"])
            step(state, reals(state), lambda text: None)
        counts.append({name: int(b) - before[name] for name, b in state.D.named_buffers() if "tracked" in name})
    once, parts = ({count for name, count in each.items()} for each in counts)
    assert once and max(parts) == 2 * max(once)  # two micro-batches, and not the try that failed


def test_when_no_micro_batch_is_small_enough_the_error_goes_through(monkeypatch):
    state, said = fresh(), []
    limit_memory(monkeypatch, 3, EXHAUSTED["of the device"])
    with pytest.raises(torch.OutOfMemoryError):
        step(state, reals(state), said.append)
    assert len(said) == 3 and state.stage.recompute
    assert state.stage.micro_batches == 4  # a group of 4 is not taken apart


def test_any_other_error_goes_through_at_once(monkeypatch):
    state = fresh()
    limit_memory(monkeypatch, 3, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes"):
        step(state, reals(state), lambda text: None)
    assert state.stage.micro_batches == 1


def test_a_run_in_want_of_memory_comes_to_almost_the_same_and_says_so_once_a_stage(settings, monkeypatch, capsys):
    whole = train(settings(out="whole"))
    assert "out of memory" not in capsys.readouterr().out
    limit_memory(monkeypatch, 4, EXHAUSTED["of the device"])
    seen = []
    watch_steps(monkeypatch, after=lambda state, *_: seen.append((state.res, state.stage.micro_batches)))
    run = train(settings())
    said = [line for line in capsys.readouterr().out.splitlines() if "out of memory" in line]
    assert [line.split(":")[0] for line in said] == ["out of memory at 4 px", "out of memory at 8 px"]
    assert set(seen) == {(4, 2), (8, 2)}
    assert [entry["nimg"] for entry in growth(run)] == [entry["nimg"] for entry in growth(whole)]
    one, two = latest(run)["G_ema"], latest(whole)["G_ema"]
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert 0 < apart < 0.02  # of weights that are about 1
    for mine, theirs in zip(records(run), records(whole), strict=True):
        assert mine["loss/d"] == pytest.approx(theirs["loss/d"], rel=0.05)


def test_micro_batches_are_kept_in_the_checkpoint_and_forgotten_at_growth(settings, monkeypatch):
    with monkeypatch.context() as patch:
        limit_memory(patch, 4, EXHAUSTED["of the device"])
        interrupt_at(patch, 48)
        with pytest.raises(Interrupted):
            train(settings())
    assert latest(Path(settings().run.out))["stage"]["micro_batches"] == 2
    seen = []
    watch_steps(monkeypatch, before=lambda state, *_: seen.append((state.res, state.stage.micro_batches)))
    train(settings())
    assert set(seen) == {(4, 2), (8, 1)}


def test_a_step_of_adam_that_runs_out_of_memory_is_not_taken_a_second_time(monkeypatch):
    """It may have moved half of the weights already, and a loss scale would be multiplied in once more."""
    state, tried = fresh(), []

    def step_of_adam(*_, **__):
        tried.append(len(tried))
        raise EXHAUSTED["of the device"]

    monkeypatch.setattr(state.opt_D, "step", step_of_adam)
    with pytest.raises(torch.OutOfMemoryError):
        step(state, reals(state), lambda text: None)
    assert len(tried) == 1 and state.stage.micro_batches == 1


def test_a_run_that_never_fits_into_memory_ends_in_one_line(settings, monkeypatch):
    limit_memory(monkeypatch, 3, EXHAUSTED["of the device"])
    with pytest.raises(UserError, match=r"out of memory: .*smaller --batch") as caught:
        train(settings())
    assert "\n" not in str(caught.value)


# ---- lazy penalties


def test_every_kth_step_of_a_stage_has_a_penalty_k_times_as_heavy_in_a_step_of_its_own(settings, monkeypatch):
    taken, heavy = [], []
    real, lazy = phases.discriminator_loss, phases.penalty_loss

    def d(loss, critic, reals, fakes, mix, weight, *more):
        taken.append(("D", float(weight)))
        return real(loss, critic, reals, fakes, mix, weight, *more)

    def penalty(loss, critic, reals, fakes, mix, weight, scale):
        taken.append(("penalty", float(weight)))
        result = lazy(loss, critic, reals, fakes, mix, weight, scale)
        heavy.append(float(result[0].detach()) / float(result[1]["penalty"]) / float(weight))
        return result

    monkeypatch.setattr(phases, "discriminator_loss", d)
    monkeypatch.setattr(phases, "penalty_loss", penalty)
    config = settings("--penalty-interval", 4, "--penalty-weight", "4:1,8:16")
    run = train(config)
    wanted = []
    for res, steps in ((4, 13), (8, 25)):
        for number in range(steps):
            wanted.append(("D", 0.0))
            if number % 4 == 0:
                alpha = 1.0 if res == 4 else min(8 * number / 100, 1)
                wanted.append(("penalty", pytest.approx(4 * PerResolution.parse("4:1,8:16").fading(res, alpha))))
    assert taken == wanted and heavy == pytest.approx([1.0] * len(heavy), rel=1e-4)
    assert any("loss/penalty" in record for record in records(run))
    group = latest(run)["opt_D"]["output.dense0.weight"]["step"]
    assert float(group) == 38 + 4 + 7  # as often as D had a phase


def test_lazy_penalties_slow_the_discriminator_s_adam_and_no_other(monkeypatch):
    state = fresh("--penalty-interval", 4, "--beta1", 0.5)
    step(state, reals(state))
    rates = [group["lr"] for group in state.opt_D.param_groups], [group["lr"] for group in state.opt_G.param_groups]
    assert rates[0] == pytest.approx([0.8 * rate for rate in rates[1]]) and rates[1][0] == 0.002
    assert state.opt_D.param_groups[0]["betas"] == pytest.approx((0.5**0.8, 0.99**0.8))
    assert state.opt_G.param_groups[0]["betas"] == (0.5, 0.99)


@examples(max_examples=40, deadline=None)
@given(every=st.integers(2, 9), number=st.integers(0, 100))
def test_the_penalty_is_due_by_the_steps_since_the_start_of_the_stage(every, number):
    state = SMALL()
    changes = {"batch": "16", "penalty_interval": every, "penalty_weight": "3"}
    state.config = replace(state.config, training=replace(state.config.training, **changes))
    state.stage.plan, state.nimg = FADE, FADE.start + 16 * number
    weights = [phase.penalty_weight for phase in step_phases(state)]
    assert weights == ([0.0, pytest.approx(3 * every), 0.0] if number % every == 0 else [0.0, 0.0])


# ---- phases


def test_the_step_the_memory_count_and_the_compiler_go_by_the_list_of_phases(monkeypatch):
    """A phase of D that is added to the list is stepped, compiled and counted; nothing else is told of it."""
    reference = fresh(loss="hinge")
    step(reference, reals(reference))
    count, listed, drawn = computed_peak(fresh(loss="hinge"), 16), phases.phases, []

    def hungry(settings, networks, inputs, scalars):
        drawn.append(torch.zeros(10**7))  # bytes that no other phase needs
        return networks["D"](inputs.reals, scalars.alpha).square().mean(), {"hungry": torch.ones(())}

    def more(*args):
        return [Phase("hungry", ("D",), hungry), *listed(*args)]

    monkeypatch.setattr(one_step, "phases", more)
    assert computed_peak(fresh(loss="hinge"), 16) > count + 3 * 10**7
    drawn.clear()
    state = fresh(loss="hinge")
    state.graphs = Graphs(lambda graph, like: graph)
    step(state, reals(state))
    assert {key[0] for key in state.graphs.known} == {"hungry", "D", "G"} and float(state.sums["hungry"]) == 1.0
    steps = [float(moments["step"]) for moments in (state.opt_D.state[p] for p in state.D.parameters())]
    assert set(steps) == {2.0} and set(reference.sums) == set(state.sums) - {"hungry"}


def test_p_of_ada_is_adjusted_once_and_at_the_end_of_a_step(monkeypatch):
    """Both players of a step see the same p."""
    state, seen, order = fresh("--augment", "color:0.3", "--ada"), [], []
    state.augment["p"] = torch.tensor(0.5)
    real = ada.adjust, one_step.optimize
    monkeypatch.setattr(ada, "adjust", lambda *args: order.append("p") or real[0](*args))

    def optimize(state, phase, inputs, scalars, say):
        order.append(phase.name)
        seen.append(float(scalars.p))
        return real[1](state, phase, inputs, scalars, say)

    monkeypatch.setattr(one_step, "optimize", optimize)
    step(state, reals(state))
    assert order == ["D", "G", "p"] and seen == [0.5, 0.5] and float(state.augment["p"]) != 0.5


def test_the_clip_holds_after_each_step_and_not_for_the_generator(settings, monkeypatch):
    largest = []

    def look(state, *_):
        largest.append([max(float(p.detach().abs().max()) for p in net.parameters()) for net in (state.D, state.G)])

    watch_steps(monkeypatch, after=look)
    train(settings("--clip", 0.5, loss="wgan"))
    assert all(d == 0.5 for d, _ in largest) and all(g > 0.5 for _, g in largest)


# ---- random numbers by position


@pytest.mark.parametrize("arch", ["paper", "style"])
def test_what_is_drawn_for_an_image_depends_on_its_place_alone(arch):
    state = fresh(arch=arch)
    state.nimg = 160
    whole = step_inputs(state, reals(state))
    state.config = replace(state.config, training=replace(state.config.training, batch="4"))
    state.nimg = 168
    part = step_inputs(state, reals(state, 4))
    for name in ("latents_d", "latents_g", "noise_d", "noise_g", "mix"):
        both = getattr(whole, name), getattr(part, name)
        if both[0] is None:
            assert name.startswith("noise") and arch == "paper" and both[1] is None
        else:
            assert torch.equal(both[0][8:12], both[1]), name
            assert len({tuple(np.atleast_1d(row).tolist()) for row in both[0]}) == 16, name
    assert not torch.equal(whole.latents_d, whole.latents_g)
    assert (whole.mix >= 0).all() and (whole.mix < 1).all() and whole.mix.dtype == torch.float32
    if arch == "style":
        assert whole.noise_g.shape == (16, state.G.noise_size()) and not torch.equal(whole.noise_d, whole.noise_g)


# ---- half precision


def half(settings, *flags: object, **more: str) -> Config:
    """16 -> 32 px: above 16 px half precision begins."""
    flags = ["--start-res", 16, "--max-res", 32, "--stable-kimg", 0.032, "--fade-kimg", 0.032, *flags]
    return settings(*flags, "--record-kimg", 0.016, **more)


def overflow(patch, nimgs: set[int], scales: list) -> None:
    """The gradients of D are beyond float16 in the steps that begin at these images."""
    now = {}
    watch_steps(
        patch,
        before=lambda state, *_: now.update(nimg=state.nimg),
        after=lambda state, *_: scales.append(state.scaler.get_scale()),
    )
    real = phases.discriminator_loss

    def d(*args):
        loss, stats = real(*args)
        factor = float("inf") if now["nimg"] in nimgs else 1.0
        return loss * factor, {**stats, "d": stats["d"] * factor}

    patch.setattr(phases, "discriminator_loss", d)


def test_an_overflow_in_float16_skips_the_step_lowers_the_scale_and_is_no_divergence(settings, monkeypatch):
    scales, weights = [], []
    overflow(monkeypatch, {48}, scales)
    watch_steps(monkeypatch, after=lambda state, *_: weights.append(copy.deepcopy(state.D.state_dict())))
    run = train(half(settings, "--precision", "fp16"))
    assert [entry["action"] for entry in growth(run)] == ["grow", "stop"]
    at = 48 // 8
    assert scales[at] == scales[at - 1] / 2 and scales[:at] == [scales[0]] * at and set(scales[at:]) == {scales[at]}
    assert all(torch.equal(weights[at][name], weights[at - 1][name]) for name in weights[at])
    assert not all(torch.equal(weights[at][name], weights[at + 1][name]) for name in weights[at])
    assert latest(run)["scaler"]["scale"] == scales[-1]
    assert all(np.isfinite(value) for record in records(run) for value in record.values())


def test_what_is_no_number_at_any_scale_is_a_divergence(settings, monkeypatch):
    scales = []
    overflow(monkeypatch, set(range(48, 1000)), scales)
    monkeypatch.setattr("pggan.training.state.torch.amp.GradScaler", partial(torch.amp.GradScaler, init_scale=4.0))
    with pytest.raises(Diverged, match="not finite"):
        train(half(settings, "--precision", "fp16"))


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=pytest.mark.slow)])
def test_half_precision_is_resumed_bit_for_bit_with_its_scale(settings, monkeypatch, precision):
    run, scales = partial(half, settings, "--precision", precision), []
    with monkeypatch.context() as patch:
        if precision == "fp16":
            overflow(patch, {40}, scales)
        whole = train(run(out="whole"))
    with monkeypatch.context() as patch:
        if precision == "fp16":
            overflow(patch, {40}, scales)
        interrupt_at(patch, 48)
        with pytest.raises(Interrupted):
            train(run())
    assert bool(latest(Path(run().run.out))["scaler"]) == (precision == "fp16")
    assert_same_run(whole, train(run()))
    assert latest(whole)["precision"] == precision


def test_the_scale_of_float16_survives_a_checkpoint():
    state = fresh()
    half = new_state(state.config, CPU, precision="fp16")
    half.scaler.scale(torch.ones(()))
    half.scaler.update(96.0)
    again = state_from(half.to_dict(), CPU)
    assert again.scaler.get_scale() == 96.0 and again.precision == "fp16"
    assert_same(again.to_dict(), half.to_dict())
    assert again.G.autocast_dtype == again.D.autocast_dtype == torch.float16 and again.G_ema.autocast_dtype is None


# ---- every kind of run


ARCHS = ("paper", "dcgan", "style")
EVERY_LOSS = [(ARCHS[number % 3], loss) for number, loss in enumerate(LOSSES)]
FAMILIES = [(arch, loss) for arch in ARCHS for loss in ("logistic", "wgan-gp", "relativistic", "bce", "wgan")]
BRIEF = ["--stable-kimg", 0.024, "--fade-kimg", 0.032, "--record-kimg", 0.016]  # 10 steps


@pytest.mark.parametrize(("arch", "loss"), EVERY_LOSS)
def test_every_loss_trains_through_a_growth(settings, arch, loss):
    run = train(settings(*BRIEF, arch=arch, loss=loss))
    assert [entry["action"] for entry in growth(run)] == ["grow", "stop"] and latest(run)["res"] == 8
    assert all(np.isfinite(value) for record in records(run) for value in record.values())
    assert ("loss/penalty" in records(run)[0]) == (LOSSES[loss].penalty is not None)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "loss"), FAMILIES)
def test_every_kind_that_is_interrupted_goes_on_bit_for_bit(settings, monkeypatch, arch, loss):
    flags = [*BRIEF, *(["--penalty-interval", 3] if LOSSES[loss].penalty else [])]
    whole = train(settings(*flags, arch=arch, loss=loss, out="whole"))
    for nimg in (8, 40):
        with monkeypatch.context() as patch:
            interrupt_at(patch, nimg)
            with pytest.raises(Interrupted):
                train(settings(*flags, arch=arch, loss=loss))
    run = train(settings(*flags, arch=arch, loss=loss))
    assert_same_run(whole, run)
    assert (arch == "dcgan") == any("running_mean" in name for name in latest(run)["G_ema"])


@pytest.mark.parametrize(
    ("known", "picked"),
    [({"avx2": True, "avx512_bf16": False}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")],
)
def test_a_cpu_computes_in_bf16_where_it_has_the_instructions(monkeypatch, known, picked):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert pick_precision("auto", CPU) == picked
    assert pick_precision("fp32", CPU) == "fp32"


@pytest.mark.parametrize(("precision", "allowed"), [("bf16", True), ("fp32", False)])
def test_float32_is_whole_in_the_reference_and_may_be_tf32_beside_half_precision(precision, allowed):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        allow_tf32(precision)
        assert torch.backends.cudnn.allow_tf32 is allowed and torch.backends.cuda.matmul.allow_tf32 is allowed
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
