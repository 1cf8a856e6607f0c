"""experiments/speed: every side trains, with the same feature maps, and the ratios are computed as described."""

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from graphlib import TopologicalSorter

import pytest
import torch
from runs import ROOT

sys.path.insert(0, str(ROOT / "experiments" / "speed"))

import compare
import gpu
import machine
import peers
from case import OURS, Case
from ratios import Match, Speed, ratio, work_lines
from sides import open_side, work
from worker import SideFailed

HERE = ROOT / "experiments" / "speed"
SMALL = {"batch": 4, "fmap_base": 128, "fmap_max": 16}
CASES = {
    "pggan": Case(OURS, 8, **SMALL),
    "pro-gan-pth": Case("pro-gan-pth", 8, **SMALL, layout="contiguous"),
    "lightweight-gan": Case("lightweight-gan", 32, **{**SMALL, "batch": 1}, loss="hinge", penalty_interval=4),
}


def case_of(side: str, **changes) -> Case:
    """A small case; the test is skipped where its side is not installed."""
    why = side in peers.MODULES and peers.missing(side)
    if why:
        pytest.skip(why)
    return replace(CASES[side], **changes)


def weights(network: torch.nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in network.parameters()]


def changed(before: list[torch.Tensor], network: torch.nn.Module) -> float:
    """The share of the parameters that are others now."""
    pairs = list(zip(before, network.parameters(), strict=True))
    return sum(not torch.equal(was, now) for was, now in pairs) / len(pairs)


@pytest.mark.parametrize("side", ["pggan", "pro-gan-pth"])
@pytest.mark.parametrize(("precision", "layout"), [("fp32", "contiguous"), ("bf16", "channels_last")])
def test_a_step_trains_both_networks_and_moves_the_average(side, precision, layout):
    opened = open_side(case_of(side, precision=precision, layout=layout))
    average = opened.state.G_ema if side == OURS else opened.gan.gen_shadow
    before = [weights(network) for network in (opened.G, opened.D, average)]
    opened.step()
    opened.step()  # pro-gan-pth takes the average before it trains G
    # and it keeps the RGB layers of lower resolutions, which take no part
    assert all(changed(*pair) > 0.7 for pair in zip(before, (opened.G, opened.D, average), strict=True))
    images = opened.sample()
    assert images.shape == (4, 3, 8, 8)
    assert images.isfinite().all()


def test_a_step_of_lightweight_gan_trains_all_of_it_with_a_penalty_in_the_first_of_a_cycle():
    opened = open_side(case_of("lightweight-gan"))
    average = opened.trainer.GAN.GE  # moved in every tenth step, of which the first is one
    before = [weights(network) for network in (opened.G, opened.D, average)]
    opened.step()
    assert all(changed(*pair) > 0.7 for pair in zip(before, (opened.G, opened.D, average), strict=True))
    assert opened.trainer.last_gp_loss > 0
    opened.trainer.last_gp_loss = None
    opened.step()
    assert opened.trainer.last_gp_loss is None
    assert opened.sample().isfinite().all()


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_ours_is_where_it_should_be_in_its_fade(alpha):
    opened = open_side(case_of("pggan", alpha=alpha))
    assert opened.G.grown
    assert opened.state.alpha == pytest.approx(alpha)


def test_pro_gan_pth_has_our_feature_maps():
    ours, theirs = (open_side(case_of(side, res=16)) for side in ("pggan", "pro-gan-pth"))

    def shapes(network):  # of its 3x3 convolutions, and the RGB layers in use
        return Counter(tuple(w.shape) for w in network.parameters() if w.ndim == 4 and w.shape[-1] == 3)

    assert shapes(ours.G) == shapes(theirs.G)
    assert shapes(ours.D) == shapes(theirs.D)


def test_lightweight_gan_has_our_feature_maps_in_its_generator():
    ours, theirs = (open_side(case_of(side, res=32)) for side in ("pggan", "lightweight-gan"))
    config = ours.state.config.network
    maps = [layer[0][-2].num_features // 2 for layer in theirs.G.layers]  # its batch norms, before the gates
    assert maps == [config.fmaps(level) for level in (1, 2, 3)]


def test_the_memory_format_changes_nothing_but_the_speed_of_pro_gan_pth():
    after = []
    for layout in ("contiguous", "channels_last"):
        torch.manual_seed(0)
        opened = open_side(case_of("pro-gan-pth", layout=layout))
        opened.step()
        after.append([*weights(opened.D), *weights(opened.G)])
    moved = [(one - other).abs().max() for one, other in zip(*after, strict=True)]
    assert max(moved) < 1e-3  # a step of Adam is 3e-3


def test_a_module_that_stands_in_cannot_be_used_and_does_not_stay():
    absent = peers.Absent("kornia.filters")
    with pytest.raises(RuntimeError, match=r"kornia\.filters\.filter2d is not installed"):
        absent.filter2d(1)
    peers.missing("lightweight-gan")
    assert not any(isinstance(module, peers.Absent) for module in sys.modules.values())


def test_a_peer_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(peers.MODULES, "pro-gan-pth", "no_such_peer.gan")
    assert peers.missing("pro-gan-pth") == "no_such_peer is not installed: see experiments/speed/README.md"


def test_the_work_of_both_sides_is_of_one_size():
    ours, theirs = (work(case_of(side)) for side in ("pggan", "pro-gan-pth"))
    assert ours["parameters_g"] == theirs["parameters_g"]
    assert ours["parameters_d"] == theirs["parameters_d"]
    # G twice forward, back with two products a layer; D three times forward and back, the penalty, and in G's turn
    # forward and back to the input
    for counted in (ours, theirs):
        assert 3 * counted["flop_g"] + 8 * counted["flop_d"] < counted["flop_step"]
        assert counted["flop_step"] < 5 * counted["flop_g"] + 16 * counted["flop_d"]


# ---- the arithmetic


def speed(side: str, values: list[float], *roles: str) -> Speed:
    return Speed(side, f"of {side}", roles, values)


def test_a_ratio_is_of_medians_and_its_spread_is_of_rounds():
    found = ratio("same precision", speed("pggan", [10.0, 30.0, 24.0]), speed("peer", [10.0, 12.0, 6.0]))
    assert (found.value, found.least, found.most) == (2.4, 1.0, 4.0)
    with pytest.raises(ValueError):
        ratio("same precision", speed("pggan", [1.0]), speed("peer", [1.0, 2.0]))


# (side, precision) -> images per second; bf16 of the peer does not run
SPEEDS = {("pggan", "fp32"): 30.0, ("pggan", "bf16"): 40.0, ("pro-gan-pth", "fp32"): 10.0}
TURNS: list[Case] = []


class FakeWorker:
    """Answers at once; the peer is twice as fast in channels_last."""

    def __init__(self, case: Case):
        self.case = case
        if (case.side, case.precision) not in SPEEDS:
            raise SideFailed("no such speed")

    def measure(self, seconds: float) -> dict:
        TURNS.append(self.case)
        faster = 2 if self.case.side != OURS and self.case.layout == "channels_last" else 1
        images = SPEEDS[self.case.side, self.case.precision] * faster * seconds
        return {"images": images, "seconds": seconds}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def pretend(monkeypatch, bf16_over_fp32: float) -> None:
    """Pretends that pro-gan-pth is installed; nothing is computed."""
    counted = dict.fromkeys(("parameters_g", "parameters_d", "flop_g", "flop_d", "flop_step"), 1e6)
    monkeypatch.setattr(compare, "work", lambda case: counted)
    monkeypatch.setattr(compare, "pick_precision", lambda asked, device: "fp32")  # whatever this CPU can do
    monkeypatch.setattr(peers, "missing", lambda side: None)
    monkeypatch.setattr(peers, "version", lambda side: "3.4")
    monkeypatch.setattr(machine, "bf16_over_fp32", lambda device, threads: bf16_over_fp32)
    TURNS.clear()


def test_the_comparison_takes_turns_and_keeps_three_kinds_of_ratio(tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, 0.6)
    path = tmp_path / "new" / "cpu.json"
    words = ["--peers", "pro-gan-pth", "--res", "32", "--rounds", "2", "--compile", "off", "--json", str(path)]
    compare.main(words, FakeWorker)
    report = json.loads(path.read_text())
    assert [match["alpha"] for match in report["matches"]] == [1.0, 0.5]
    for match in report["matches"]:
        values = {one["kind"]: one["value"] for one in match["ratios"]}
        assert values == {"as they come": 3.0, "same precision": 1.5, "each at its best": 2.0}
    stable = report["matches"][0]
    cases = len(stable["speeds"])
    turns = TURNS[-2 * cases :]
    assert turns[:cases] == turns[: cases - 1 : -1]  # turned round
    assert stable["failed"] == ["no such speed"] * 2
    assert len(report["work"]) == 2
    assert report["machine"]["torch"] == torch.__version__
    said = capsys.readouterr().out
    assert "as they come      3.00x   (3.00 to 3.00)" in said
    assert work_lines(report["work"])[1] in said


@pytest.mark.parametrize(("slower", "tried"), [(1.4, {"fp32", "bf16"}), (9.0, {"fp32"})])
def test_bf16_is_left_out_where_it_is_slow(slower, tried, monkeypatch):
    pretend(monkeypatch, slower)
    compare.main(["--peers", "pro-gan-pth", "--res", "32", "--rounds", "1"], FakeWorker)
    assert {case.precision for case in TURNS if case.side == OURS} == tried


def test_the_time_of_a_convolution_is_taken():
    assert 0.05 < machine.bf16_over_fp32("cpu", 1) < 500


def test_a_peer_that_is_missing_is_said_and_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peers, "missing", lambda side: f"{side} is not installed")
    path = tmp_path / "cpu.json"
    monkeypatch.setattr(machine, "bf16_over_fp32", lambda device, threads: 9.0)
    compare.main(["--json", str(path)], FakeWorker)
    assert json.loads(path.read_text())["matches"] == []
    assert "pro-gan-pth is left out: pro-gan-pth is not installed" in capsys.readouterr().out


def test_the_machine_is_described():
    found = machine.facts(2)
    assert found["threads"] == 2
    assert found["processor"]
    assert found["commit"]
    assert found["load"] >= 0


def test_the_modules_import_each_other_one_way_only():
    names = {path.stem: path for path in HERE.glob("*.py")}
    graph = {}
    for name, path in names.items():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        graph[name] = names.keys() & (plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom)})
    assert set(TopologicalSorter(graph).static_order()) == names.keys()  # raises CycleError


# ---- the processes, and what they need


def without(*modules: str, run: str, argv: tuple[str, ...] = (), given: str = "") -> str:
    """What a script of the experiment prints where these modules are not installed."""
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({modules!r})); sys.argv[:] = {[run, *argv]!r}\n"
        f"runpy.run_path({str(HERE / run)!r}, run_name='__main__')"
    )
    paths = [str(HERE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]  # where the peers may be
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("side", ["pggan", "pro-gan-pth"])
def test_a_worker_needs_torch_and_numpy_only(side):
    case = case_of(side)
    asked = "".join(json.dumps(what) + "\n" for what in ({"measure": 0.01}, {"work": True}))
    told = without(
        *("tyro", "wandb", "PIL", "tqdm", "scipy", "torchvision", "safetensors", "tensorboard"),
        run="worker.py",
        argv=(json.dumps(vars(case)),),
        given=asked,
    )
    start, measured, counted = map(json.loads, told.splitlines())
    assert start["seconds_to_start"] > 0
    assert measured["images"] % 4 == 0
    assert measured["seconds"] > 0
    assert counted == work(case)


@pytest.mark.slow
def test_the_gpu_script_runs_without_tyro_and_wandb(tmp_path):
    path = tmp_path / "gpu.json"
    words = (
        "--device cpu --compile off --res 8 --batch 4 --fmap-base 64 --fmap-max 8 --rounds 2 --seconds 0.01 --matrix 64"
    )
    argv = (*words.split(), "--json", str(path))
    said = without("tyro", "wandb", "pro_gan_pytorch", run="gpu.py", argv=argv)
    report = json.loads(path.read_text())
    assert report["failed"] == {}
    assert [row["res"] for row in report["ours"]] == [8]
    assert len(report["data"]) == 1
    assert len(report["ours"][0]["s_per_kimg"]) == 2
    assert "pro-gan-pth is left out: pro_gan_pytorch.gan is not installed" in said
    assert "8 px, of the matrix rate:" in said


def test_the_goals_are_judged_as_they_are_written():
    assert gpu.goal("256 px, s/kimg", 1.9, 2.0).endswith("ok")
    assert gpu.goal("256 px, s/kimg", 2.1, 2.0).endswith("NOT REACHED")
    assert gpu.goal("of the matrix rate", 0.36, 0.35, at_least=True).endswith("ok")
    row = {"peak_bytes": None, "flop_step": 1e9}
    report = {
        "ours": [
            {**row, "res": 256, "s_per_kimg": [1.6, 1.5, 1.7], "limit_share": 0.3},
            {**row, "res": 256, "s_per_kimg": [2.6, 2.5, 2.7], "limit_share": 0.2},
            {**row, "res": 64, "s_per_kimg": [0.08, 0.1, 0.12], "limit_share": 0.2},
        ],
        "data": [{"res": 256, "host_share": 0.02}],
    }
    said = gpu.goals(report)
    assert said[:4] == [
        "256 px, s/kimg: 1.6, at most 2: ok",
        "256 px, of the matrix rate: 0.3, at least 0.35: NOT REACHED",
        "cost of 256 px over 64 px, times: 16, at most 16: ok",
        "256 px, of the time for data: 0.02, at most 0.01: NOT REACHED",
    ]


def test_a_match_is_told_in_plain_lines():
    kinds = ("as they come", "same precision", "each at its best")
    match = Match(
        "peer", 64, 0.5, "wgan-gp", [speed("pggan", [4.0, 5.0], *kinds), speed("peer", [2.0, 2.0], *kinds)], []
    )
    assert match.lines()[0] == "64 px, alpha 0.5, ours (wgan-gp) beside peer: images/s, median (range), 2 rounds"
    assert match.as_json()["ratios"][0]["value"] == 2.25
