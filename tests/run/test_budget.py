"""Whole runs under a wall-clock budget, by a clock of their own."""

import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from clocks import Clock, Killed, budgeted, leave, loaded, steady
from runs import TINY, finish
from short import growth, latest

from pggan.errors import Interrupted
from pggan.run import planning
from pggan.run.loop import train
from pggan.run.profiling import StepCost
from pggan.schedule.budget import FADE_SHARE

pytest_plugins = ["short_runs"]


@pytest.mark.parametrize(
    ("total", "step", "costs"),
    [
        (60, steady(0.3), {}),
        (100, steady(0.5), {"start": 9, "save": 0.4, "draw": 0.6}),
        (100, loaded(0.2, since=50), {"save": 0.1, "draw": 0.1}),
        (100, loaded(0.2, since=20), {"start": 5, "draw": 0.1}),
        (3600, steady(20), {"start": 12, "save": 6, "draw": 3}),
    ],
    ids=["short", "slow to start and to save", "loaded in the middle", "loaded early", "an hour"],
)
def test_a_run_ends_within_five_per_cent_of_its_budget(settings, monkeypatch, total, step, costs):
    clock = Clock(monkeypatch, step, **costs)
    run = train(budgeted(settings, total=total), clock)
    assert 0.95 * total <= clock.now <= 1.05 * total
    entries = growth(run)
    assert [(entry["action"], entry["from_res"]) for entry in entries] == [("grow", 4), ("grow", 8), ("stop", 16)]
    shares = [entry["numbers"]["seconds"] for entry in entries]
    start = costs.get("start", 0)
    wanted = [start + (total - start) / 3, start + (total - start) * 2 / 3]  # equal weights below 32 px
    assert shares[:2] == pytest.approx(wanted, rel=0.15) and shares[2] >= 0.9 * total
    for before, entry in pairwise(entries):
        assert 0 < before["numbers"]["fade_nimg"] < entry["nimg"] - before["nimg"]  # every fade was finished


@pytest.mark.parametrize("how", [Interrupted, Killed])
def test_the_budget_is_summed_over_restarts_with_the_start_of_each_process(settings, monkeypatch, how):
    spent = 0.0
    for nimg in (80, 240, 320, None):
        with monkeypatch.context() as patch:
            clock = Clock(patch, steady(0.5), start=4)
            if nimg is None:
                run = train(budgeted(settings), clock)
            else:
                leave(patch, nimg, how)
                with pytest.raises(how):
                    train(budgeted(settings), clock)
        spent += clock.now
    assert 95 <= spent <= 105
    assert growth(run)[-1]["action"] == "stop" and latest(run)["seconds"] == pytest.approx(spent, abs=1)


@pytest.mark.parametrize("total", [2, 20])
def test_a_budget_too_small_stops_cleanly_says_so_and_goes_on_when_it_is_raised(settings, monkeypatch, capsys, total):
    with monkeypatch.context() as patch:
        clock = Clock(patch, steady(1), start=1)
        run = train(budgeted(settings, total=total), clock)
    assert clock.now <= total and "the budget is spent" in capsys.readouterr().out
    (*_, last) = growth(run)
    assert last["action"] == "stop" and last["reason"] == "the budget is spent"
    assert latest(run)["nimg"] == last["nimg"]
    with monkeypatch.context() as patch:
        more = Clock(patch, steady(1), start=1)
        train(budgeted(settings, total=200), more)
    assert 190 <= clock.now + more.now <= 210
    assert growth(run)[-1]["from_res"] == 16 and growth(run)[-1]["nimg"] > last["nimg"]


def test_a_finished_run_taken_further_trains_for_the_time_that_was_added(settings, monkeypatch):
    spent, ends = 0.0, []
    for total, top in ((60, 8), (100, 8), (160, 16)):
        with monkeypatch.context() as patch:
            clock = Clock(patch, steady(0.5), start=2)
            run = train(budgeted(settings, "--max-res", top, total=total), clock)
        spent += clock.now
        ends.append(growth(run)[-1]["nimg"])
        assert 0.95 * total <= spent <= 1.05 * total, total
        assert growth(run)[-1]["from_res"] == top
    assert ends == sorted(set(ends))


def test_the_same_command_on_a_run_whose_budget_is_spent_says_so_and_changes_nothing(settings, monkeypatch, capsys):
    run = train(budgeted(settings), Clock(monkeypatch, steady(2)))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    train(budgeted(settings), lambda: 3.0)
    assert "is finished" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_grown_checkpoint_fades_by_a_speed_that_is_measured(settings, started, monkeypatch, tmp_path):
    import grow

    grow.main([str(started / "checkpoints" / "latest.pt"), "--out", str(tmp_path / "grown.pt")])
    monkeypatch.setattr(planning, "step_cost", lambda *_: StepCost(16.0, memory=0))
    flags = ["--resume", tmp_path / "grown.pt", "--start-res", 4, "--max-res", 8]
    run = train(budgeted(settings, *flags), Clock(monkeypatch, steady(0.25)))
    fade = latest(run)["stage"]["plan"]["fade"]
    assert fade == pytest.approx(FADE_SHARE * 100 * 16, abs=1)
    assert growth(run)[-1]["nimg"] - latest(run)["stage"]["plan"]["start"] == pytest.approx(100 / 0.5 * 8, rel=0.05)


@pytest.mark.parametrize("shares", ["1", "4:0.0001,8:1"], ids=["even", "nothing left for the stage under way"])
def test_a_budget_given_to_a_run_under_way_knows_its_speed(settings, monkeypatch, shares):
    train(settings("--max-res", 4, "--stable-kimg", 1))
    with monkeypatch.context() as patch:
        patch.setattr(planning, "step_cost", lambda *_: StepCost(16.0, memory=0))
        budget_of_100 = settings("--budget", "100s", "--budget-share", shares, "--max-res", 8, "--stable-kimg", 1)
        run = train(budget_of_100, Clock(patch, steady(0.5)))
    grew = next(entry for entry in growth(run) if entry["action"] == "grow")
    assert 0 < grew["numbers"]["fade_nimg"] <= 0.2 * 100 * 16
    assert growth(run)[-1]["from_res"] == 8


# ---- the real clock


def timed(call: Callable) -> tuple[float, object]:
    start = time.monotonic()
    value = call()
    return time.monotonic() - start, value


@pytest.mark.slow
def test_a_budget_of_20_s_takes_20_s_from_start_to_exit(cache, tmp_path):
    """Within 5 %, and what the process cannot see: the interpreter's start before the first line of the project, and
    its end after the last. A busy machine needs more for that, so it is measured: by the same command once more.
    """
    kimg = [place for place, word in enumerate(TINY) if word in ("--stable-kimg", "--fade-kimg")]
    flags = [word for place, word in enumerate(TINY) if place not in kimg and place - 1 not in kimg]
    command = [*flags, "--cache", cache, "--out", tmp_path / "run", "--budget", "20s"]
    (took, (code, said, err)), (unseen, (_, again, _)) = (timed(lambda: finish(*command)) for _ in range(2))
    assert code == 0, err
    assert 0.95 * 20 - unseen <= took <= 1.05 * 20 + unseen, (took, unseen, said)
    assert "is finished" in again
    assert growth(tmp_path / "run")[-1]["action"] == "stop"
