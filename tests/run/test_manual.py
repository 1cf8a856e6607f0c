"""--schedule manual: one resolution at a time, grown by hand in between, comes to what a fixed run comes to."""

import shlex
import shutil
from pathlib import Path

import grow
import pytest
from runs import assert_same, content, records
from short import growth, interrupt_at, latest

from pggan.errors import Interrupted, UserError
from pggan.run.loop import train
from pggan.run.run_dir import RunDir

pytest_plugins = ["short_runs"]


def by_hand(settings, *flags: object, **more: str):
    return settings("--schedule", "manual", "--max-res", 16, *flags, **more)


def type_what_was_said(said: str) -> None:
    """The command after `to grow:`, as a shell would take it apart."""
    (line,) = [line for line in said.splitlines() if line.startswith("to grow:")]
    python, script, *words = shlex.split(line.removeprefix("to grow:").partition(", then")[0])
    assert (python, script) == ("python", "tools/grow.py")
    grow.main(words)


@pytest.mark.parametrize("arch", ["paper", pytest.param("dcgan", marks=pytest.mark.slow)])
def test_a_run_grown_by_hand_equals_a_fixed_one(settings, capsys, arch):
    whole = train(settings("--max-res", 16, arch=arch, out="whole"))
    capsys.readouterr()
    for res in (4, 8):
        run = train(by_hand(settings, arch=arch))
        said = capsys.readouterr().out
        assert f"come to the end of {res} px" in said and latest(run)["res"] == res
        assert growth(run)[-1]["action"] == "stop" and growth(run)[-1]["from_res"] == res
        type_what_was_said(said)
        assert latest(run)["res"] == 2 * res and f"grown from {res} to {2 * res} px" in capsys.readouterr().out
    train(by_hand(settings, arch=arch))
    assert "come to the end" not in capsys.readouterr().out
    assert [(e["action"], e["from_res"]) for e in growth(run)] == [
        *(("stop", 4), ("grow", 4), ("stop", 8), ("grow", 8), ("stop", 16))
    ]
    assert [entry["numbers"].get("fade_nimg") for entry in growth(run)] == [None, 100, None, 100, None]
    for name in ("res-0004.pt", "res-0008.pt", "res-0016.pt", "latest.pt"):
        one, two = (content(folder / "checkpoints" / name) for folder in (whole, run))
        for part in ("nimg", "stage", "G", "D", "G_ema", "opt_G", "opt_D"):
            assert_same(one[part], two[part], f"{name}/{part}")
    assert records(whole) == records(run)


def test_the_same_command_before_growing_says_what_to_do_and_changes_nothing(settings, capsys):
    run = train(by_hand(settings))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    train(by_hand(settings))
    said = capsys.readouterr().out
    assert "to grow:" in said and str(run / "checkpoints" / "latest.pt") in said
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_stage_by_hand_goes_on_with_more_kimg_as_it_says(settings, capsys):
    run = train(by_hand(settings))
    train(by_hand(settings, "--stable-kimg", 0.2))
    assert (latest(run)["res"], latest(run)["nimg"]) == (4, 200)
    assert [entry["action"] for entry in growth(run)] == ["stop", "stop"]


def test_interrupted_in_the_fade_that_was_grown_by_hand_it_goes_on_the_same(settings, monkeypatch, capsys):
    whole = train(settings("--max-res", 8, out="whole"))
    run = train(by_hand(settings, "--max-res", 8))
    grow.main([str(run / "checkpoints" / "latest.pt")])
    with monkeypatch.context() as patch:
        interrupt_at(patch, 152)
        with pytest.raises(Interrupted):
            train(by_hand(settings, "--max-res", 8))
    train(by_hand(settings, "--max-res", 8))
    for part in ("nimg", "G", "D", "G_ema", "opt_G", "opt_D"):
        assert_same(latest(whole)[part], latest(run)[part], part)


def test_growing_the_latest_of_a_run_that_is_training_is_refused(settings):
    run = train(by_hand(settings))
    before = latest(run)
    with RunDir(run), pytest.raises(UserError, match="another process is training"):
        grow.main([str(run / "checkpoints" / "latest.pt")])
    assert_same(before, latest(run))


def test_only_a_manual_run_s_own_latest_is_replaced(settings, started, tmp_path):
    fixed = tmp_path / "fixed"
    shutil.copytree(started, fixed)
    ckpt = fixed / "checkpoints" / "latest.pt"
    before = ckpt.read_bytes()
    grow.main([str(ckpt)])
    assert ckpt.read_bytes() == before and (fixed / "checkpoints" / "grown-0008.pt").exists()
    run = train(by_hand(settings))
    alone = Path(shutil.copy(run / "checkpoints" / "latest.pt", tmp_path / "latest.pt"))
    for flags in ([str(alone)], [str(run / "checkpoints" / "latest.pt"), "--out", str(tmp_path / "other.pt")]):
        kept = latest(run)
        grow.main(flags)
        assert_same(kept, latest(run))
    assert latest(run)["res"] == 4 and (tmp_path / "grown-0008.pt").exists() and (tmp_path / "other.pt").exists()
