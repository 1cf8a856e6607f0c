"""experiments/rivals: all sides get the same images, finished runs stay, and the judge tells good samples from bad."""

import argparse
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from runs import ROOT

sys.path.insert(0, str(ROOT / "experiments" / "speed"))
sys.path.insert(0, str(ROOT / "experiments" / "rivals"))

import images
import judge

from pggan.evaluation.opening import open_set

SCRIPT = ROOT / "experiments" / "rivals" / "run.py"
spec = importlib.util.spec_from_file_location("rivals_run", SCRIPT)  # other experiments have a run.py
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)


def test_each_pass_shows_every_image_once_and_about_half_of_them_mirrored():
    pixels = np.zeros((60, 64, 64, 3), np.uint8)
    pixels[:, :, :32] = np.arange(60)[:, None, None, None] + 1  # the left half has the image's number
    reals = images.batches(pixels, 20, seed=0)
    shown = torch.cat([next(reals) for _ in range(6)])
    halves = ((shown[:, 0, 0, [0, 63]] + 1) * 127.5).round().long()
    numbers, mirrored = halves.amax(dim=1), halves[:, 1] > 0
    assert numbers[:60].sort().values.tolist() == numbers[60:].sort().values.tolist() == list(range(1, 61))
    assert numbers[:60].tolist() != numbers[60:].tolist()
    assert 40 <= mirrored.sum() <= 80  # of 120: 3.7 standard deviations


def test_every_side_reads_the_same_center_squares(tmp_path):
    wide = np.zeros((128, 256, 3), np.uint8)
    wide[:, 64:192] = 200
    source = tmp_path / "pictures" / "kind"
    source.mkdir(parents=True)
    images.Image.fromarray(wide).save(source / "a.png")
    images.make_data(str(tmp_path / "pictures"), tmp_path / "reals")
    assert np.array_equal(images.read(tmp_path / "reals"), np.full((1, 64, 64, 3), 200))


@pytest.fixture
def started(monkeypatch) -> list[list[str]]:
    """The commands that run.py has started."""
    commands = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: commands.append(command) or argparse.Namespace(returncode=0)
    )
    return commands


def test_only_unfinished_runs_are_started(monkeypatch, tmp_path, started):
    done, cut_off = (tmp_path / "monet" / f"pggan-{seed}" for seed in (0, 1))
    done.mkdir(parents=True)
    (done / "run.json").write_text("{}")
    cut_off.mkdir()
    flags = ["--data", "somewhere/monet", "--checkouts", "x", "--side", "pggan", "--runs", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["run.py", *flags, "--minutes", "7"])
    run.main()
    assert [command[-1] for command in started] == ["1", "2"]
    assert all(command[command.index("--minutes") + 1] == "7.0" for command in started)


def test_the_judge_puts_real_images_before_noise_and_says_who_is_ahead(monkeypatch, tmp_path):
    monkeypatch.setattr(judge, "SPACES", {name: judge.SPACES[name] for name in ("handcrafted", "rand")})
    pixels = np.stack(list(open_set("builtin:1", builtin_images=120, size=(64, 64))))
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)
    images.save(pixels[:60], tmp_path / "reals")
    for seed in (0, 1):
        images.save(pixels[60 + 30 * seed : 90 + 30 * seed], tmp_path / f"pggan-{seed}" / "averaged")
        images.save(noise, tmp_path / f"other-{seed}" / "averaged")
    judge.judge(tmp_path / "reals", sorted(tmp_path.glob("*-?/averaged")), tmp_path / "results")
    found = json.loads((tmp_path / "results" / "figures.json").read_text())
    for space in judge.SPACES:
        kernel = {(row["side"], row["seed"]): row["figures"][space]["kernel"] for row in found["rows"]}
        floor = abs(found["held_out"][space]["kernel"])
        assert all(kernel["other", seed] > 10 * max(floor, abs(kernel["pggan", seed])) for seed in (0, 1))
    table = (tmp_path / "results" / "table.md").read_text()
    assert table.count("| 2 of 2 |") == 2
    with images.Image.open(tmp_path / "results" / "grid.jpg") as grid:
        assert grid.height == 3 * 66  # real images and two sides


@pytest.mark.filterwarnings("ignore")
def test_projected_gan_gets_the_weights_of_its_network(monkeypatch):
    pytest.importorskip("timm")
    import trainers

    from pggan.models.pretrained import open_network

    network, shown = trainers.lite0("tf_efficientnet_lite0", pretrained=True).eval(), torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        x = network.act1(network.bn1(network.conv_stem(shown * (127.5 / 128) + 0.5 / 128)))
        last = network.blocks(x)
        ours = open_network("efficientnet-lite0")(shown)[-1]
    assert torch.allclose(last, ours, atol=1e-4 * ours.abs().max())
