"""Numbers that fail: back to the last good state, again, and no further."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import TINY, assert_same_run, records
from short import SHORT, growth, latest, watch_losses, watch_pictures, watch_steps

import train as command
from pggan.config import cli
from pggan.errors import Diverged, Interrupted
from pggan.randomness import Stream
from pggan.run.loop import train
from pggan.run.rollback import MOST_ROLLBACKS
from pggan.training import checkpoint

pytest_plugins = ["short_runs"]


def fail_at(monkeypatch, nimg: int, attempts: set[int], player: str = "generator") -> None:
    """The loss of one player is no number at image `nimg`, in these attempts."""
    now = {}
    watch_steps(monkeypatch, before=lambda state, *_: now.update(nimg=state.nimg, attempt=state.attempt))

    def factor(*_):
        return float("nan") if now["nimg"] == nimg and now["attempt"] in attempts else None

    watch_losses(monkeypatch, **{player: factor})


def assert_all_finite(values: object) -> None:
    if isinstance(values, dict):
        for value in values.values():
            assert_all_finite(value)
    elif isinstance(values, torch.Tensor):
        assert values.isfinite().all()


def guard_saves(monkeypatch) -> list[dict]:
    """Every checkpoint that is written, checked as it is."""
    saves, real = [], checkpoint.save

    def save(values, path):
        assert_all_finite(values)
        saves.append({"nimg": values["nimg"], "attempt": values["attempt"], "name": path.name})
        real(values, path)

    monkeypatch.setattr(checkpoint, "save", save)
    return saves


@pytest.mark.parametrize("player", ["generator", "discriminator"])
@pytest.mark.parametrize(
    "minutes", [5.0, pytest.param(1e-9, marks=pytest.mark.slow)], ids=["saving seldom", "saving always"]
)
def test_one_nan_rolls_back_to_the_last_good_state_with_another_attempt_and_half_the_rate(
    settings, monkeypatch, capsys, player, minutes
):
    saves = guard_saves(monkeypatch)
    fail_at(monkeypatch, 152, {0}, player)
    run = train(settings("--save-minutes", minutes))
    grew, back, stopped = growth(run)
    assert [entry["action"] for entry in (grew, back, stopped)] == ["grow", "rollback", "stop"]
    good = 152 if minutes < 1 else 104  # the last save before the failure
    assert back["nimg"] == good and back["from_res"] == back["to_res"] == 8 and "finite" in back["reason"]
    failed = 160 if minutes < 1 or 160 // 50 > 152 // 50 else 200
    assert back["numbers"] == {"failed_nimg": failed, "lr_factor": 0.5}
    assert {save["attempt"] for save in saves if save["nimg"] > 152} == {1}
    assert (latest(run)["attempt"], latest(run)["lr_factor"]) == (1, 0.5)
    after = [record for record in records(run) if record["growth/attempt"] == 1]
    assert after and all(record["growth/lr"] == 0.001 for record in after)
    assert f"back to {good / 1000:.2f} kimg" in capsys.readouterr().out
    assert latest(run)["nimg"] == 304


def test_a_rollback_draws_other_latents_and_takes_the_pictures_in_another_order():
    one, two = Stream(3, 0), Stream(3, 1)
    assert not np.array_equal(one.normal("latents G", 152, 8, 8), two.normal("latents G", 152, 8, 8))
    assert not np.array_equal(one.order(0, 40, 40), two.order(0, 40, 40))


@pytest.mark.slow
def test_after_a_rollback_the_pictures_come_from_the_new_stream(settings, monkeypatch):
    fail_at(monkeypatch, 152, {0})
    streams, opened = [], watch_pictures(monkeypatch)
    watch_steps(monkeypatch, before=lambda state, *_: streams.append((state.stream, opened[-1].stream)))
    train(settings())
    assert all(mine == theirs for mine, theirs in streams) and streams[-1][0] == Stream(0, 1)


def test_a_rollback_is_exactly_resumable(settings, monkeypatch):
    with monkeypatch.context() as patch:
        fail_at(patch, 152, {0})
        whole = train(settings(out="whole"))
    with monkeypatch.context() as patch:
        fail_at(patch, 152, {0})
        watch_steps(
            patch,
            before=lambda state, *_: state.attempt == 1 and state.nimg == 176 and os.kill(os.getpid(), signal.SIGTERM),
        )
        with pytest.raises(Interrupted):
            train(settings())
    assert_same_run(whole, train(settings()))


def test_nan_that_comes_back_ends_in_diverged_after_the_set_number_of_rollbacks(settings, monkeypatch):
    saves = guard_saves(monkeypatch)
    fail_at(monkeypatch, 152, set(range(99)))
    with pytest.raises(Diverged, match="after 3 rollbacks") as caught:
        train(settings())
    assert "\n" not in str(caught.value) and max(save["nimg"] for save in saves) == 104
    run = Path(settings().run.out)
    assert [entry["action"] for entry in growth(run)] == ["grow", *["rollback"] * MOST_ROLLBACKS, "stop"]
    assert [entry["numbers"]["lr_factor"] for entry in growth(run)[1:]] == [0.5, 0.25, 0.125, 0.125]
    assert latest(run)["nimg"] == 104


def test_the_command_ends_with_3_and_one_line_when_it_diverged(settings, monkeypatch, capsys, cache, tmp_path):
    fail_at(monkeypatch, 16, set(range(99)))
    monkeypatch.setattr(sys, "argv", ["train.py", *TINY, *SHORT, "--cache", str(cache), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as end:
        cli.run(command.main)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert end.value.code == 3 and "rollbacks" in line


def test_a_weight_that_is_no_number_at_the_end_of_a_stage_leaves_no_checkpoint_of_it(settings, monkeypatch):
    saves = guard_saves(monkeypatch)
    fail_at(monkeypatch, 96, {0})  # the first stage's last step, after its last record
    run = train(settings("--record-kimg", 0.05))
    assert [entry["action"] for entry in growth(run)] == ["rollback", "grow", "stop"]
    assert [save["attempt"] for save in saves if save["name"] == "res-0004.pt"] == [1]
