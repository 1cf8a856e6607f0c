"""Augmentation in whole runs: killed, rolled back, begun from a checkpoint."""

from pathlib import Path

import pytest
import torch
from runs import assert_same_run, records
from short import interrupt_at, latest, watch_losses

import train as command
from pggan.errors import Interrupted
from pggan.run.loop import train
from pggan.training import checkpoint

pytest_plugins = ["short_runs"]

PIECES = ["--augment", "translation:0.8,color:0.3"]
CONTROLLED = [*PIECES, "--ada", "--ada-target", "0.05", "--ada-kimg", "1", "--record-kimg", "0.008"]


def p_of(run: Path) -> list[float]:
    return [record["growth/ada_p"] for record in records(run)]


def test_a_controlled_run_that_is_interrupted_goes_on_bit_for_bit(settings, monkeypatch):
    whole = train(settings(*CONTROLLED, out="whole"))
    for nimg in (48, 152):  # in the first stage, and in the fade
        with monkeypatch.context() as patch:
            interrupt_at(patch, nimg)
            with pytest.raises(Interrupted):
                train(settings(*CONTROLLED))
    run = train(settings(*CONTROLLED))
    assert_same_run(whole, run)
    assert len(set(p_of(run))) > 5 and 0 <= min(p_of(run)) < max(p_of(run)) <= 0.8
    assert latest(run)["augment"]["p"].item() == pytest.approx(p_of(run)[-1])


def test_a_rollback_takes_p_back_too(settings, monkeypatch):
    """One that is no number would stay none for ever."""
    calls = []

    def discriminator(*_: object) -> float | None:
        calls.append(1)
        return float("nan") if len(calls) == 6 else None

    with monkeypatch.context() as patch:
        watch_losses(patch, discriminator=discriminator)
        run = train(settings(*CONTROLLED, "--max-res", "4"))
    assert latest(run)["attempt"] == 1 and torch.isfinite(latest(run)["augment"]["p"])


@pytest.mark.parametrize("before", [[], PIECES], ids=["none", "fixed"])
def test_control_that_begins_with_a_checkpoint_s_run_begins_at_nothing(settings, cache, tmp_path, before):
    ckpt = train(settings(*before, "--max-res", "4")) / "checkpoints" / "latest.pt"
    flags = ["--resume", ckpt, "--out", tmp_path / "new", "--cache", cache, "--max-res", 8, *CONTROLLED]
    command.main([str(flag) for flag in flags])
    assert p_of(tmp_path / "new")[0] <= 8 / 1000


def test_control_goes_on_from_the_p_of_a_checkpoint(settings, cache, tmp_path):
    values = latest(train(settings(*CONTROLLED, "--max-res", "4")))
    del values["sha256"]
    checkpoint.save({**values, "augment": {**values["augment"], "p": torch.tensor(0.5)}}, tmp_path / "begin.pt")
    flags = ["--resume", tmp_path / "begin.pt", "--out", tmp_path / "new", "--cache", cache, "--max-res", 8]
    command.main([str(flag) for flag in flags])
    assert p_of(tmp_path / "new")[0] == pytest.approx(0.5, abs=8 / 1000 + 1e-6)
