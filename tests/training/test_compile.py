"""Compiled steps: the graph is the step, bit for bit; what the compiler makes of it is the step but for rounding."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import assert_same
from short import latest, make_settings

from pggan.config.schema import NetworkConfig
from pggan.errors import UserError
from pggan.run import preparing
from pggan.run.dry_run import state_at
from pggan.run.loop import train
from pggan.run.preparing import Preparation, compile_for, operations, repays
from pggan.schedule.stages import Stage
from pggan.training import compile
from pggan.training.compile import Graphs, inductor
from pggan.training.state import TrainState, new_state, state_from
from pggan.training.step import step

pytest_plugins = ["short_runs"]

CPU = torch.device("cpu")
STABLE, FADING = Stage(32, 0, fade=0, stable=10**6), Stage(32, 0, fade=10**4, stable=10**6)


def traced(graph, like):
    """No compiler: the traced operations as they are."""
    return graph


def grown(*flags: object, precision: str = "fp32", graphs: Graphs | None = None, **kind: str) -> TrainState:
    """A state at 32 px, grown from 16."""
    sizes = ["--start-res", 16, "--max-res", 32, "--batch", 8, "--fmap-base", 128, "--fmap-max", 8]
    state = new_state(make_settings(Path("cache"), Path("run"), *sizes, *flags, **kind), CPU, precision=precision)
    state.grow()
    state.nimg, state.graphs = 5000, graphs or Graphs()
    return state


def steps(state: TrainState, stage: Stage, count: int = 3) -> TrainState:
    for number in range(count):
        rng = torch.Generator().manual_seed(number)
        step(state, torch.rand(8, 3, 32, 32, generator=rng) * 2 - 1)
        state.nimg += 8
    return state


KINDS = [
    ({"arch": "paper", "loss": "logistic"}, ["--penalty-interval", 2], "fp32"),
    ({"arch": "paper", "loss": "wgan-gp"}, [], "bf16"),
    (
        {"arch": "paper", "loss": "relativistic"},
        ["--augment", "translation:0.5,color:0.3", "--ada"],
        "fp32",
    ),
    ({"arch": "style", "loss": "relativistic"}, ["--augment", "cutout:0.5,vflip:0.5,turns:0.4"], "bf16"),
    ({"arch": "style", "loss": "hinge"}, [], "fp16"),
    ({"arch": "dcgan", "loss": "bce"}, ["--residual"], "fp32"),
    ({"arch": "dcgan", "loss": "wgan-gp"}, [], "fp32"),
]


@pytest.mark.parametrize("stage", [STABLE, FADING], ids=["stable", "fading"])
@pytest.mark.parametrize(("kind", "flags", "precision"), KINDS)
def test_a_turn_s_graph_does_what_the_turn_does_bit_for_bit(kind, flags, precision, stage):
    plain = steps(grown(*flags, precision=precision, **kind), stage)
    graphs = Graphs(traced)
    graphed = steps(grown(*flags, precision=precision, graphs=graphs, **kind), stage)
    assert len(graphs.known) == (3 if "--penalty-interval" in flags else 2)  # made once, and fit for every step
    assert_same(plain.to_dict(), graphed.to_dict())


def test_a_graph_is_made_anew_for_another_shape_and_at_the_end_of_a_fade():
    graphs = Graphs(traced)
    state = steps(grown(graphs=graphs), FADING)
    assert len(graphs.known) == 2
    steps(state, STABLE)
    assert len(graphs.known) == 4
    state.stage.micro_batches = 2
    steps(state, STABLE)
    assert len(graphs.known) == 6


def test_parts_of_a_batch_add_up_in_graphs_too():
    plain, graphed = grown(), grown(graphs=Graphs(traced))
    for state in (plain, graphed):
        state.stage.micro_batches = 2
        steps(state, FADING)
    assert_same(plain.to_dict(), graphed.to_dict())


def test_what_is_prepared_is_what_the_training_asks_for(monkeypatch):
    """By the keys, so that the process beside the training fills the compiler's cache with the right graphs."""
    config = grown("--penalty-interval", 2, "--augment", "color:0.3", arch="style").config
    for fading in (False, True):
        prepared = compile_for(state_at(config, 32, CPU), fading, traced)
        state = grown("--penalty-interval", 2, "--augment", "color:0.3", arch="style", graphs=Graphs(traced))
        steps(state, FADING if fading else STABLE)
        assert prepared.known.keys() == state.graphs.known.keys()


@pytest.mark.parametrize("must", [True, False])
def test_what_cannot_be_compiled_is_one_line_or_goes_uncompiled_and_says_so(must):
    def broken(graph, like):
        raise RuntimeError("no C++ compiler\nand more lines")

    said = []
    state = grown(graphs=Graphs(broken, must=must, say=said.append))
    if must:
        with pytest.raises(UserError, match=r"cannot be compiled here \(no C\+\+ compiler\): use --compile off"):
            steps(state, STABLE)
        return
    assert_same(steps(state, STABLE).to_dict(), steps(grown(), STABLE).to_dict())
    assert len(said) == 1 and "no C++ compiler" in said[0]


def test_a_compiler_without_memory_is_no_broken_compiler():
    """It is taken for what it is: the step goes on in smaller parts, and without keeping activations."""

    def starved(graph, like):
        raise torch.OutOfMemoryError("CUDA out of memory")

    said = []
    state = grown(graphs=Graphs(starved, say=said.append))
    step(state, torch.zeros(8, 3, 32, 32), said.append)
    assert state.stage.micro_batches == 2 and state.stage.recompute
    assert said and all("out of memory" in line for line in said)


# ---- whether


def test_operations_are_those_of_the_blocks_convolutions():
    network = NetworkConfig(start_res=32, max_res=64, fmap_base=1024, fmap_max=64)
    assert operations(network, 32) == sum(2 * 9 * res * res * 64 * 128 for res in (4, 8, 16, 32))
    assert operations(network, 64) - operations(network, 32) == 2 * 9 * 64 * 64 * 32 * (32 + 64)


def test_a_cpu_compiles_long_stages_only_and_decides_by_no_clock(monkeypatch):
    state = grown()
    state.threads = 2
    speed = 2 * preparing.CPU_RATE / (preparing.PASSES * operations(state.config.network, 32))
    images = round(speed * preparing.REPAID["cpu"])
    monkeypatch.setattr(preparing, "images_per_s", None)  # would raise
    assert repays(state, Stage(32, 0, 0, images + 10), wall=0)
    assert not repays(state, Stage(32, 0, 0, images - 10), wall=0)
    budgeted = Stage(32, 0, 0, 10**12, until=10_000.0)
    assert repays(state, budgeted, wall=10_000 - preparing.REPAID["cpu"])
    assert not repays(state, budgeted, wall=10_001 - preparing.REPAID["cpu"])


def test_a_stage_that_its_clock_ends_is_as_long_as_the_clock_says_but_for_its_fade():
    state, repaid = grown(), preparing.REPAID["cpu"]
    state.threads = 2
    fade = round(2 * preparing.CPU_RATE / (preparing.PASSES * operations(state.config.network, 32)) * repaid)
    for seconds, images, repays_it in (
        (repaid - 1, 0, False),
        (repaid, 0, True),
        (1, fade - 10, False),
        (1, fade, True),
    ):
        stage = Stage(32, 0, images, 10**12, floor=5, seconds=seconds)
        assert repays(state, stage, wall=0) is repays_it


@pytest.mark.parametrize(("flag", "known", "then"), [("on", None, True), ("off", True, False), ("auto", True, True)])
def test_what_was_decided_for_a_stage_stays_unless_a_flag_says_otherwise(monkeypatch, flag, known, then):
    monkeypatch.setattr(Preparation, "begin", lambda *_: None)
    state, said = grown("--compile", flag), []
    state.compiled = known
    with Preparation() as ahead:
        ahead.open_graphs(state, STABLE, 0.0, said.append)
    assert state.compiled is then and bool(state.graphs.compiler) is then and len(said) == then
    state.config = replace(state.config, training=replace(state.config.training, compile="auto"))
    again = state_from(state.to_dict(), CPU)
    assert again.compiled is then


def test_growth_forgets_what_was_decided():
    state = new_state(grown().config, CPU)
    state.compiled = True
    state.grow()
    assert state.compiled is None


# ---- whole runs, and the compiler itself


def test_a_run_by_graphs_is_the_run_and_prepares_what_comes_next(settings, monkeypatch, capsys):
    jobs = []
    monkeypatch.setattr(preparing, "inductor", traced)
    monkeypatch.setattr(Preparation, "begin", lambda _, state, stage: jobs.append((state.res, bool(stage.fade))))
    plain = train(settings("--compile", "off", out="plain"))
    assert not jobs
    graphed = train(settings("--compile", "on"))
    assert jobs == [(4, False), (8, True)] and "the steps of 8 px are compiled" in capsys.readouterr().out
    mine, theirs = latest(graphed), latest(plain)
    for values in (mine, theirs):
        del values["config"], values["compiled"], values["sha256"]
    assert_same(mine, theirs)


def test_the_process_beside_the_training_is_gone_when_the_run_is(settings, monkeypatch):
    seen = []
    monkeypatch.setattr(preparing, "inductor", traced)
    real = Preparation.begin

    def begin(self, state, stage):
        real(self, state, stage)
        seen.append(self.process)

    monkeypatch.setattr(Preparation, "begin", begin)
    train(settings("--compile", "on"))
    assert any(seen) and not any(process.is_alive() for process in seen if process)


@pytest.mark.slow
def test_a_hundred_compiled_steps_are_those_of_the_reference_but_for_rounding():
    """Weights move alike to 1e-3. A rounding that lands on the other side of a leaky ReLU's kink bends the path of some
    seeds, as a change of 1e-7 to the first weights does to the reference: so the median of seeds counts."""
    graphs, apart = Graphs(inductor), []
    for seed in range(5):
        moved, losses = [], []
        for way in (Graphs(), graphs):
            sizes = ["--start-res", 8, "--max-res", 8, "--fmap-base", 64, "--fmap-max", 8, "--seed", seed]
            state = new_state(make_settings(Path("cache"), Path("run"), "--batch", 8, *sizes), CPU)
            state.graphs, begun = way, weights_of(state)
            for number in range(100):
                rng = torch.Generator().manual_seed(number)
                step(state, Stage(8, 0, 0, 10**6), torch.rand(8, 3, 8, 8, generator=rng) * 2 - 1)
                state.nimg += 8
            moved.append(weights_of(state) - begun)
            losses.append(state.sums["d"].item())
        assert losses[1] == pytest.approx(losses[0], rel=0.02)
        apart.append(float((moved[1] - moved[0]).norm() / moved[0].norm()))
    assert len(graphs.known) == 2
    assert sorted(apart)[2] < 1e-3 and max(apart) < 0.5, apart


def weights_of(state: TrainState) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in state.G.parameters()])


@pytest.mark.slow
def test_the_compiled_gradient_is_as_near_to_float64_as_the_reference_s(monkeypatch):
    def exactly(turn, settings, G, D, given, now, real=compile.gradients):
        values = {name: value if value is None else value.double() for name, value in vars(given).items()}
        return real(turn, settings, G, D, type(given)(**values), now)

    ways = {"reference": Graphs(), "compiled": Graphs(inductor), "exact": Graphs()}
    found = {name: gradients_of_a_step(graphs) for name, graphs in ways.items() if name != "exact"}
    monkeypatch.setattr(compile, "gradients", exactly)
    found["exact"] = gradients_of_a_step(ways["exact"], torch.float64)
    for player in "dg":
        exact = found["exact"][player]
        errors = [float((found[name][player] - exact).norm() / exact.norm()) for name in ("reference", "compiled")]
        assert errors[1] < max(3 * errors[0], 1e-5), (player, errors)


def gradients_of_a_step(graphs: Graphs, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """{d, g: all their gradients in a row}, float64; no weight is moved."""
    state = new_state(make_settings(Path("cache"), Path("run"), "--batch", 8, loss="wgan-gp"), CPU)
    state.graphs, found = graphs, {}
    for network in (state.G, state.D, state.G_ema):
        network.to(dtype)

    def note(player, network):
        found[player] = torch.cat([p.grad.double().flatten() for p in network.parameters() if p.grad is not None])

    state.opt_D.step, state.opt_G.step = lambda: note("d", state.D), lambda: note("g", state.G)
    reals = torch.rand(8, 3, state.res, state.res, generator=torch.Generator().manual_seed(0)) * 2 - 1
    step(state, Stage(state.res, 0, 0, 10**6), reals.to(dtype))
    return found
