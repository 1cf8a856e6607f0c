"""bench.py: FLOPs are checked by hand, shares and times by arithmetic. No test depends on the speed of the machine."""

import ast
import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import bench
import pytest
import torch
import torch.nn.functional as F
from benchmarks import limits, rates, report, training
from benchmarks.breakdown import shares, shares_with_penalty
from benchmarks.flops import Flops
from benchmarks.report import stage_seconds, whole_run
from benchmarks.timing import measured, steady
from benchmarks.training import Record, measure_all
from benchmarks.trial import FAR, Trial, open_images
from runs import ROOT, refused
from torch.utils.flop_counter import FlopCounterMode

from pggan.config.network import NetworkConfig
from pggan.config.presets import preset
from pggan.config.schema import Config
from pggan.data.packing import ImageCache
from pggan.errors import UserError
from pggan.run import profiling
from pggan.schedule.stages import Stage
from pggan.training import compile

CPU = torch.device("cpu")
TINY = [
    *("--preset", "smoke", "--data", "builtin:3", "--builtin-images", "40", "--start-res", "4", "--max-res", "8"),
    *("--fmap-base", "32", "--fmap-max", "8", "--latent", "8", "--batch", "8", "--threads", "1", "--device", "cpu"),
    *("--stable-kimg", "2", "--fade-kimg", "1", "--seconds", "0.02", "--repeat", "2"),
]


@pytest.fixture(scope="module", autouse=True)
def little_work():
    """No test depends on how fast the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "SIDE_CPU", 64)
        patch.setattr(training, "MOST_CYCLES", 2)
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def config(cache):
    """config(*flags) -> the Config that bench.py train makes of TINY and these flags."""

    def make(*flags: object) -> Config:
        argv = [*TINY, "--cache", str(cache), *map(str, flags)]
        default = bench.defaults(argv)
        return bench.settings(bench.cli.parse(bench.Train, argv, default), default)[0]

    return make


@pytest.fixture
def images(config) -> ImageCache:
    return open_images(config(), [4, 8])


@pytest.fixture(scope="module")
def measuring(cache, tmp_path_factory) -> tuple[list[dict], str]:
    """(the file of --json, the output) of a whole command."""
    path = tmp_path_factory.mktemp("json") / "records.json"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        bench.main(["train", *TINY, "--cache", str(cache), "--json", str(path)])
    return json.loads(path.read_text()), said.getvalue()


# ---- the whole command


def test_there_is_a_record_for_each_resolution_and_for_each_fade(measuring):
    records, said = measuring
    assert [(record["res"], record["alpha"], record["batch"]) for record in records] == [
        *((4, 1.0, 8), (8, 1.0, 8), (8, 0.5, 8))
    ]
    assert sum("GiB" in line for line in said.splitlines()) == 3
    assert "a whole run of 5.0 kimg" in said and "where the time of a step goes:" in said


def test_a_record_has_every_figure_and_the_facts(measuring):
    for record in measuring[0]:
        assert set(record) >= set(Record.__dataclass_fields__)
        assert record["peak_bytes"] > 0 and record["micro_batches"] == 1 and record["precision"] in ("fp32", "bf16")
        assert record["threads"] == 1 and record["torch"] == torch.__version__
        assert record["settings"]["fmap_base"] == 32 and record["settings"]["loss"] == "logistic"
        assert record["device"].startswith("cpu") and "commit" in record
        assert set(record["seconds"]) == {"data", "d", "penalty", "g", "ema"}


def test_speeds_and_shares_follow_from_seconds_and_flops(measuring):
    for record in measuring[0]:
        least, middle, most = record["step_s"]
        assert 0 < least <= middle <= most
        assert record["images_per_s"] == pytest.approx(record["batch"] / middle)
        assert record["flops_per_s"] == pytest.approx(record["flops_per_image"] * record["images_per_s"])
        assert record["limit_share"] == pytest.approx(record["flops_per_s"] / max(record["conv_rates"].values()))
        assert record["matmul_share"] == pytest.approx(record["flops_per_s"] / record["matmul_rate"])
        assert record["data_share"] > 0


def test_the_run_is_that_of_the_schedule_at_these_speeds(measuring):
    first, stable, fading = (1000 / record["images_per_s"] for record in measuring[0])
    for record in measuring[0]:
        assert record["run_s"] == pytest.approx(2 * first + fading + 2 * stable)


def test_without_all_resolutions_there_is_no_run(config):
    records = measure_all(config(), CPU, [4], 0.01, 1, breakdown=False)
    assert [(record.res, record.seconds) for record in records] == [(4, None)]
    *_, last = lines = list(report.closing(config(), records))
    assert "leave out --res" in last and not any("where the time" in line for line in lines)
    assert report.as_json(config(), CPU, records)[0]["run_s"] is None


def test_a_batch_that_fits_in_no_way_is_said_in_a_line(config, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training, "measure", full)
    with pytest.raises(UserError, match="out of memory at 4 px"):
        measure_all(config(), CPU, [4], 0.01, 1)


# ---- FLOPs


def counted(work) -> int:
    with Flops() as flops:
        work()
    return flops.total


def cycle(config: Config, packed: ImageCache, alpha: float = 1.0) -> float:
    """FLOPs an image."""
    trial = Trial(config, 8, alpha, packed, CPU)
    return counted(trial.cycle) / trial.images_a_cycle


@pytest.mark.parametrize(("transposed", "stride", "kernel"), [(False, 1, 3), (False, 2, 4), (True, 2, 4)])
def test_a_convolution_is_counted_with_its_gradients_and_their_gradient(transposed, stride, kernel):
    x = torch.randn(4, 6, 8, 8, requires_grad=True)
    weight = torch.randn((6, 10, kernel, kernel) if transposed else (10, 6, kernel, kernel), requires_grad=True)
    function, side = (F.conv_transpose2d, 8) if transposed else (F.conv2d, 8 // stride)
    once = 2 * 4 * 6 * 10 * kernel**2 * side**2  # two for each product: images, maps, maps, weights, places

    def forward():
        return function(x, weight, stride=stride, padding=1).square().sum()

    def penalty():
        (gradient,) = torch.autograd.grad(forward(), x, create_graph=True)
        gradient.square().sum().backward()

    assert counted(forward) == once
    assert counted(lambda: forward().backward()) == 3 * once  # and the gradients of input and of weights
    assert counted(penalty) == 6 * once  # forward, gradient of input, the two gradients of each of these


def by_hand(network: torch.nn.Module) -> dict[str, int]:
    """Forward FLOPs an image of each layer of the paper's networks at 8 px, but of that which is for the fade alone.

    A convolution that enlarges its picture needs four of nine products.
    """
    found = {}
    for name, layer in network.named_modules():
        if hasattr(layer, "weight") and name != "rgb.4":
            places = (8 if ".8" in name else 4) ** 2 if layer.weight.ndim == 4 else 1
            found[name] = 2 * layer.weight.numel() * places * (4 if getattr(layer, "up", False) else 9) // 9
    return found


def test_the_counter_agrees_with_torch_s_own_where_that_can_count():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.Flatten(), torch.nn.Linear(180, 7))
    work = lambda: network(torch.randn(2, 3, 8, 8)).sum().backward()  # noqa: E731
    with FlopCounterMode(display=False) as theirs:
        work()
    assert counted(work) == theirs.get_total_flops() > 0
    with torch.no_grad():
        assert counted(lambda: network(torch.randn(2, 3, 8, 8))) == 2 * 2 * (27 * 5 * 36 + 180 * 7)


@pytest.mark.parametrize("loss", ["bce", "logistic"])
def test_the_flops_of_a_step_are_the_sum_of_its_layers_by_hand(config, images, loss):
    """G: forward for D without gradients; forward and both gradients for its own turn, none of its latents.

    D: forward and both gradients of reals and of fakes, none of the images; forward and gradient of inputs for G.
    With R1 also the gradients of the images: once for the penalty, whose own gradient takes two for each layer but
    one for the last, and then in the backward pass of reals and fakes.
    """
    trial = Trial(config("--loss", loss), 8, 1.0, images, CPU)
    g, d = by_hand(trial.state.G), by_hand(trial.state.D)
    G, D, latents, rgb = sum(g.values()), sum(d.values()), g["input.dense"], d["rgb.8"]
    expected = G + 3 * G - latents + 6 * D - 2 * rgb + 2 * D
    if loss == "logistic":
        expected += 3 * D - d["output.dense1"] + 2 * rgb
    assert counted(trial.cycle) == 8 * expected


@pytest.mark.parametrize("arch", ["dcgan", "style"])
def test_the_flops_of_an_image_do_not_depend_on_the_batch(config, images, arch):
    four, eight = (cycle(config("--arch", arch, "--batch", n), images, alpha=0.5) for n in (4, 8))
    assert four == eight > cycle(config("--arch", arch), images)


def test_a_lazy_penalty_is_counted_as_often_as_it_is_taken(config, images):
    every, lazy = (cycle(config("--penalty-interval", k), images) for k in (1, 4))
    bare = cycle(config("--loss", "bce"), images)
    assert bare < lazy < every


# ---- the trial


def test_a_fade_is_measured_in_its_middle_while_alpha_moves_as_in_a_run(config, images):
    trial = Trial(config(), 8, 0.5, images, CPU)
    assert trial.state.alpha == pytest.approx(0.5, abs=1e-3)
    before = trial.state.alpha
    trial.cycle()
    assert before < trial.state.alpha < 0.501
    assert trial.state.nimg >= FAR and len(trial.waits) == 1


def test_a_cycle_has_one_penalty(config, images):
    trial = Trial(config("--penalty-interval", 3), 8, 1.0, images, CPU)
    for number in (1, 2):
        trial.cycle()
        assert (trial.state.counts["d"], trial.state.counts["penalty"]) == (3 * number, number)


FEATURES = ("--features", "efficientnet-lite0", "--d-interval", "2")


def test_with_heads_on_features_a_cycle_has_d_and_its_penalty_as_often_as_a_run(config, images):
    trial = Trial(config(*FEATURES, "--penalty-interval", 2), 8, 1.0, images, CPU)
    trial.cycle()
    assert {name: trial.state.counts[name] for name in ("d_features", "d", "penalty")} == {
        "d_features": 4,
        "d": 2,
        "penalty": 1,
    }


def test_the_flops_of_the_heads_are_counted_and_those_of_d_as_often_as_it_acts(config, images):
    bare, every, second = (
        cycle(config("--loss", "hinge", *flags), images) for flags in ((), (*FEATURES, "--d-interval", 1), FEATURES)
    )
    assert bare < second < every
    heads = every - bare
    assert second == pytest.approx(heads + (bare + without_d(config, images)) / 2)


def without_d(config, images: ImageCache) -> float:
    """FLOPs an image of G alone: its forward passes and its gradient, in a step in which only heads judge it."""
    trial = Trial(config("--loss", "hinge"), 8, 1.0, images, CPU)
    G, latents = trial.state.G, torch.zeros(8, 8, requires_grad=True)

    def work():
        with torch.no_grad():
            G(latents.detach(), 1.0, None)
        made = G(latents.detach(), 1.0, None)
        torch.autograd.grad(made.sum(), [*G.parameters()], allow_unused=True)

    return counted(work) / 8


@pytest.mark.parametrize("flags", [(), ("--penalty-interval", "2"), ("--loss", "hinge"), FEATURES])
def test_the_parts_of_a_step_are_told_apart_and_leave_no_hook(config, images, flags):
    trial = Trial(config(*flags), 8, 1.0, images, CPU)
    found = shares(trial, cycles=1)
    assert set(found) == {"data", "d", "g", "ema"} and all(value > 0 for value in found.values())
    taken = shares_with_penalty(trial, cycles=1)
    assert (taken["penalty"] != 0) == ("hinge" not in flags)
    assert not trial.state.config.training.penalty_weight
    for adam in trial.state.optimizers.values():
        assert not adam._optimizer_step_post_hooks


def test_the_memory_is_that_of_a_whole_batch(config, images):
    found = []
    for n in (8, 16, 32):
        trial = Trial(config("--batch", n), 8, 1.0, images, CPU)
        trial.cycle()
        found.append(training.peak_bytes(trial))
    assert found[2] - found[1] == pytest.approx(2 * (found[1] - found[0]), rel=0.01) and found[0] > 0
    assert found[2] == pytest.approx(profiling.step_cost(config("--batch", 32), 8, CPU).memory, rel=0.25)


# ---- the machine's limits


def test_the_layers_of_a_resolution_are_those_with_most_of_its_work():
    network = NetworkConfig()
    assert rates.layers(network, 128) == [(16, 512, 16, 16), (32, 256, 32, 32), (64, 128, 64, 64), (128, 64, 128, 128)]
    assert rates.layers(network, 8) == [(8, 512, 8, 8)]  # at 4 px there is a quarter of it
    assert rates.flops((8, 3, 8, 8), batch=5) == 2 * 5 * 9 * 3 * 3 * 64


def test_rates_are_flops_over_the_best_seconds(monkeypatch):
    def measured(work, device, seconds, repeat):
        work()
        return [0.5, 0.25], 0.0

    monkeypatch.setattr(rates, "measured", measured)
    network = preset("smoke").network
    assert rates.matmul_rate(torch.float32, CPU) == 2 * 64**3 / 0.25
    found = rates.convolution_rates(network, 8, 2, torch.float32, CPU)
    assert found == {layer[0]: rates.flops(layer, 2) / 0.25 for layer in rates.layers(network, 8)}
    assert not torch.backends.cudnn.benchmark


def test_a_speed_is_steady_when_three_agree_and_none_was_faster():
    assert not steady([1.0]) and not steady([1.0, 1.0])
    assert steady([60.0, 50.0, 1.0, 1.05, 0.98])
    assert not steady([60.0, 1.0, 1.0]) and not steady([1.0, 1.0, 1.2]) and not steady([0.5, 1.0, 1.0, 1.0])


def test_work_is_done_as_often_as_it_is_counted(monkeypatch):
    clock = [0.0]
    costs = iter([30.0, 10.0, *[1.0] * 100])  # the first two are compiled
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: clock[0])

    def work():
        clock[0] += next(costs)

    assert measured(work, CPU, seconds=12.0, repeat=4) == ([1.0] * 4, 38.0)
    assert clock[0] == 30 + 10 + 3 + 4 * 3


# ---- the run


def test_a_fade_is_at_its_own_speed():
    assert stage_seconds(Stage(8, 0, fade=100, stable=300), fading=10.0, stable=20.0) == 10 + 15


def test_a_clock_ends_a_stage_but_not_before_its_floor():
    stage = Stage(8, 0, fade=100, stable=300, floor=40, seconds=20.0)
    assert stage_seconds(stage, 10.0, 20.0) == 20
    assert stage_seconds(replace(stage, seconds=5.0), 10.0, 20.0) == 10 + 2
    assert stage_seconds(replace(stage, seconds=90.0), 10.0, 20.0) == 25


def test_the_run_has_all_stages_and_the_first_has_no_fade(config):
    speeds = [(4, 1, 100.0), (8, 1, 10.0), (8, 0.5, 5.0), (16, 1, 1.0), (16, 0.5, 0.5)]
    records = [SimpleNamespace(res=res, alpha=alpha, images_per_s=speed) for res, alpha, speed in speeds]
    stages = whole_run(config("--max-res", 16), records)
    assert [(stage.res, stage.start, seconds) for stage, seconds in stages] == [
        *((4, 0, 20.0), (8, 2000, 200 + 200), (16, 5000, 2000 + 2000))
    ]


# ---- the commands


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["train", "--res", "33"], "--res 33 is no resolution of --base 4x4: 4, 8, 16"),
        (["train", "--res", "big"], "--res takes resolutions such as 64 or 32,64, not 'big'"),
        (["limits", "--pictures", "3"], "--pictures has been renamed: use --builtin-images"),
        (["train", "--loss", "hinge", "--penalty-weight", "3"], "has no gradient penalty"),
        (["train", "--res", "512", "--batch", "6"], "--batch 6 at 32 px is not a multiple"),
        (["train", "--budget", "3m"], "leave out --budget"),
        (["train", "--seconds", "0"], "--seconds must be above 0"),
        (["train", "--repeat", "0"], "--repeat must be at least 1"),
        (["train", "--json", "/nowhere/at/all.json"], "--json /nowhere/at/all.json cannot be written"),
        (["train", "--data", "builtin", "--builtin-images", "3", "--device", "cpu"], "fewer than a batch"),
        (["limits", "--res", "32"], "there is no flag --res"),
        (["--batch", "8"], "there is no flag --batch"),
        (["trian"], "bench.py measures limits, train, not 'trian'"),
    ],
)
def test_what_cannot_be_measured_is_refused(argv, said, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError) as caught:
        bench.main(argv)
    assert said in str(caught.value)


@pytest.mark.slow
def test_as_a_process_it_refuses_with_exit_2_and_one_line():
    assert "is no resolution of" in refused("train", "--res", "33", script="tools/bench.py")


def test_without_a_name_the_limits_are_measured(monkeypatch, capsys, tmp_path):
    asked = []
    monkeypatch.setattr(limits, "limits", lambda *given: asked.append(given[1:]) or [])
    bench.main(["--repeat", "2"])
    bench.main(["limits", "--data", "DIR", "--json", str(tmp_path / "figures.json")])
    assert asked == [("builtin", 1400, 2), ("DIR", 1400, 5)]
    assert json.loads((tmp_path / "figures.json").read_text())["figures"] == []


def test_an_arch_and_a_loss_bring_their_defaults_along(config):
    default = bench.defaults(["--arch", "dcgan", "--loss=wgan"])
    assert default.config() == replace(
        preset("paintings", "dcgan", "wgan"), data=replace(default.data, builtin_images=bench.IMAGES)
    )
    made = config("--beta1", 0.5, "--stddev-group", 0, "--arch", "style")
    assert (made.training.beta1, made.network.stddev_group, made.network.arch) == (0.5, 0, "style")


def test_the_measuring_needs_no_tyro_and_no_wandb():
    """By the imports at the top of each module, from the report on."""
    found, new = set(), {"benchmarks.report"}
    while new:
        found |= new
        paths = [ROOT / part / f"{name.replace('.', '/')}.py" for name in new for part in ("", "tools")]
        nodes = [node for path in paths if path.is_file() for node in ast.parse(path.read_text()).body]
        names = [
            (node.module, alias.name) for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
        ]
        plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        new = (plain | {name for module, inner in names for name in (module, f"{module}.{inner}")}) - found
    assert {"pggan.training.step", "benchmarks.rates", "torch"} <= found
    assert not {name.partition(".")[0] for name in found} & {"tyro", "wandb", "tensorboard"}


# ---- what else is measured


def test_the_shares_of_a_run_are_weighted_by_time(tmp_path):
    rows = [(10.0, 0.2, 0.1), (30.0, 0.1, 0.05)]  # seconds so far, share of all else, share of waiting
    lines = [{"wall/seconds": s, "speed/other_share": other, "speed/data_share": data} for s, other, data in rows]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data, other = limits.shares(tmp_path)
    assert data == pytest.approx(100 * 2 / 26) and other == pytest.approx(100 * 4 / 30)


@pytest.mark.parametrize(("flag", "known"), [("on", 2), ("off", 0), ("auto", 0)])  # auto: on CUDA only
def test_a_trial_is_compiled_where_the_run_would_be(config, images, monkeypatch, flag, known):
    monkeypatch.setattr(compile, "inductor", lambda graph, like: graph)
    compiled = Trial(config("--compile", flag), 8, 1.0, images, CPU)
    compiled.cycle()
    assert len(compiled.state.graphs.known) == known
