"""A wall-clock budget: its shares as pure functions, whole runs by a clock of their own, and their repetition."""

import json
import os
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from runs import TINY, assert_same, content, finish, records
from short import growth, latest, watch_steps

from pggan.config.schema import ScheduleConfig, seconds
from pggan.errors import Interrupted, UserError
from pggan.run import loop
from pggan.run.loop import train
from pggan.run.run_dir import RunDir
from pggan.schedule import budget
from pggan.schedule.stages import ENDLESS, budget_spent, stage_of

pytest_plugins = ["short_runs"]

FEW = examples(max_examples=60, deadline=None)
LADDER = [32, 64, 128, 256]
SECONDS = st.floats(1, 1e6)
WEIGHTS = st.lists(st.floats(0.1, 50), min_size=4, max_size=4)


def schedule(total: float, weights: list[float] = (2, 3, 4, 5)) -> ScheduleConfig:
    shares = ",".join(f"{res}:{weight}" for res, weight in zip(LADDER, weights, strict=True))
    return ScheduleConfig(budget=f"{total:.6f}s", budget_share=shares)


def ends(config: ScheduleConfig, spent: float = 0.0) -> list[float]:
    """When each resolution ends if every one of them ends just when it should."""
    times = []
    for number, res in enumerate(LADDER):
        spent = budget.until(config, res, LADDER[number + 1 :], spent)
        times.append(spent)
    return times


# ---- shares


@FEW
@given(total=SECONDS, weights=WEIGHTS)
def test_shares_add_up_to_the_budget_and_are_as_their_weights(total, weights):
    times = [0.0, *ends(schedule(total, weights))]
    assert times == sorted(times) and times[-1] == pytest.approx(total)
    for (start, end), weight in zip(pairwise(times), weights, strict=True):
        assert (end - start) / total == pytest.approx(weight / sum(weights))


@FEW
@given(total=SECONDS, weights=WEIGHTS, late=st.floats(0, 3))
def test_no_end_lies_past_the_budget_and_what_one_stage_overran_is_taken_from_all_others(total, weights, late):
    config, spent = schedule(total, weights), late * total
    times = ends(config, spent)
    assert all(end == pytest.approx(max(total, spent)) or end < max(total, spent) for end in times)
    left = max(total - spent, 0)
    assert times[0] - spent == pytest.approx(left * weights[0] / sum(weights), abs=1e-6 * (1 + spent))


@FEW
@given(total=SECONDS, more=SECONDS, spent=SECONDS)
def test_a_larger_budget_ends_no_stage_sooner(total, more, spent):
    for later in (LADDER[1:], []):
        assert budget.until(schedule(total + more), 32, later, spent) >= budget.until(schedule(total), 32, later, spent)


@FEW
@given(total=SECONDS, share=st.floats(0, 1.5), speed=st.floats(0.01, 1e4))
def test_a_fade_takes_its_share_of_the_stage_at_the_speed_that_is_expected(total, share, speed):
    spent = share * total
    decided = budget.decide(schedule(total), 64, [128], spent, speed)
    time = budget.until(schedule(total), 64, [128], spent) - spent
    assert decided["fade"] == pytest.approx(max(1, budget.FADE_SHARE * time * speed), abs=0.51)
    assert budget.decide(schedule(total), 64, [128], spent, None)["fade"] == 0
    assert decided["until"] == pytest.approx(spent + time, abs=1e-3)


# ---- speeds


@FEW
@given(first=st.floats(0.1, 1e4), ratio=st.floats(0.5, 8), known=st.integers(2, 5), ahead=st.integers(1, 3))
def test_speeds_that_fall_by_a_ratio_are_continued_by_it(first, ratio, known, ahead):
    speeds = {str(32 << doublings): first / ratio**doublings for doublings in range(known)}
    wanted = first / ratio ** (known - 1 + ahead)
    assert budget.expected_speed(speeds, 32 << (known - 1 + ahead)) == pytest.approx(wanted)


def test_the_last_two_speeds_count_in_order_of_size_not_of_the_alphabet():
    speeds = {"128": 25.0, "16": 9999.0, "64": 100.0, "32": 1000.0}
    assert budget.expected_speed(speeds, 256) == pytest.approx(6.25)


def test_a_gap_between_two_known_speeds_is_shared_by_the_doublings_in_it():
    assert budget.expected_speed({"16": 64.0, "64": 4.0}, 128) == pytest.approx(1.0)
    assert budget.expected_speed({"3": 8.0, "6": 4.0}, 12) == pytest.approx(2.0)  # --base 3x3


def test_of_one_speed_the_next_is_the_measured_ratio_below():
    assert budget.expected_speed({"32": 100.0}, 64) == pytest.approx(100 / budget.SLOWER)


# ---- ends of stages


@FEW
@given(total=SECONDS, spent=st.floats(0, 2e6), ahead=st.floats(0, 100), nimg=st.integers(0, 2000))
def test_a_budgeted_stage_ends_by_its_share_after_the_fade_or_at_once_when_all_is_spent(total, spent, ahead, nimg):
    config = schedule(total)
    stage = stage_of(config, 64, 0, first=False, decided={"fade": 1000, "until": total / 2})
    assert stage.end >= ENDLESS
    decision = budget_spent(config, stage, nimg, spent, ahead)
    over = spent + ahead >= seconds(config.budget)
    assert bool(decision) == (over or (spent >= total / 2 and nimg >= 1000))
    if decision:
        assert decision.stops == over and decision.numbers["seconds"] == round(spent, 1)


def test_a_stage_has_a_step_at_least_however_small_its_share():
    stage = stage_of(schedule(100), 32, 8, first=True, decided={"fade": 0, "until": 1.0})
    assert not budget_spent(schedule(100), stage, 8, 50, 1)
    assert budget_spent(schedule(100), stage, 16, 50, 1) and budget_spent(schedule(100), stage, 8, 99, 1).stops


def test_without_a_budget_no_time_ends_a_stage():
    assert budget_spent(ScheduleConfig(), stage_of(ScheduleConfig(), 32, 0, first=True), 10, 1e9, 1e9) is None


# ---- whole runs


class Clock:
    """Seconds that one process has spent: `start` to get going, then as each step, checkpoint and grid takes.

    trains: whether the steps do anything but take time.
    """

    def __init__(self, patch, step, start: float = 0.0, save: float = 0.0, draw: float = 0.0, trains: bool = False):
        self.now = start
        if not trains:
            patch.setattr(loop, "step", lambda *_: None)
        watch_steps(patch, after=lambda state, *_: self.tick(step(state.res, self.now)))
        for name, cost in (("save", save), ("draw", draw)):
            patch.setattr(RunDir, name, self.taking(cost, getattr(RunDir, name)))

    def taking(self, cost: float, real):
        def slow(*given):
            self.tick(cost)
            return real(*given)

        return slow

    def tick(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def steady(cost: float):
    """A step costs twice as much at each resolution as at the one before."""
    return lambda res, now: cost * res / 4


def loaded(cost: float, since: float):
    """The machine is three times slower from a moment on."""
    return lambda res, now: cost * res / 4 * (3 if now >= since else 1)


def budgeted(settings, *flags: object, total: float = 100, **more: str):
    return settings("--budget", f"{total}s", "--record-kimg", 0.008, "--max-res", 16, *flags, **more)


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


class Killed(BaseException):
    """What SIGKILL would do: nothing is saved any more."""


def leave(patch, nimg: int, how: type[BaseException]) -> None:
    def at(state, *_):
        if state.nimg == nimg:
            if how is Killed:
                raise Killed
            os.kill(os.getpid(), signal.SIGTERM)

    watch_steps(patch, before=at)


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
    monkeypatch.setattr(loop, "images_per_s", lambda config, res, device: 16.0)
    flags = ["--resume", tmp_path / "grown.pt", "--start-res", 4, "--max-res", 8]
    run = train(budgeted(settings, *flags), Clock(monkeypatch, steady(0.25)))
    fade = latest(run)["stage"]["plan"]["fade"]
    assert fade == pytest.approx(budget.FADE_SHARE * 100 * 16, abs=1)
    assert growth(run)[-1]["nimg"] - latest(run)["stage"]["plan"]["start"] == pytest.approx(100 / 0.5 * 8, rel=0.05)


# ---- repeated by its growth.json


def assert_repeated(run: Path, again: Path) -> None:
    names = sorted(path.name for path in (run / "checkpoints").glob("*.pt") if path.name != "previous.pt")
    assert names == sorted(path.name for path in (again / "checkpoints").glob("*.pt") if path.name != "previous.pt")
    for name in names:
        one, two = (content(folder / "checkpoints" / name) for folder in (run, again))
        for part in ("nimg", "res", "stage", "G", "D", "G_ema", "opt_G", "opt_D"):
            assert_same(one[part], two[part], f"{name}/{part}")
    assert records(run) == records(again)
    told, repeated = (
        [(e["nimg"], e["action"], e["from_res"], e["to_res"], e["numbers"].get("fade_nimg")) for e in growth(folder)]
        for folder in (run, again)
    )
    assert [entry for entry in told if entry[1] == "grow"] == [entry for entry in repeated if entry[1] == "grow"]
    assert told[-1] == repeated[-1]


def repeat(settings, run: Path, *flags: object) -> Path:
    return train(settings("--plan", run / "growth.json", "--record-kimg", 0.008, "--max-res", 16, *flags, out="again"))


@pytest.mark.parametrize(
    "total",
    [60, *(pytest.param(total, marks=pytest.mark.slow) for total in (46.4, 44, 3))],
    ids=["whole", "a short end", "a shorter one", "no time at all"],
)
def test_a_plan_repeats_a_budgeted_run_bit_for_bit(settings, monkeypatch, total):
    with monkeypatch.context() as patch:
        run = train(budgeted(settings, total=total), Clock(patch, loaded(0.5, since=30), start=2, trains=True))
    assert_repeated(run, repeat(settings, run))


def test_a_budget_that_runs_out_in_mid_fade_is_repeated_to_the_same_image(settings, monkeypatch):
    with monkeypatch.context() as patch:
        jam = Clock(patch, lambda res, now: 0.5 if res < 16 else 9.0, trains=True)
        run = train(budgeted(settings), jam)
    assert 0 < latest(run)["nimg"] - latest(run)["stage"]["plan"]["start"] < latest(run)["stage"]["plan"]["fade"]
    assert_repeated(run, repeat(settings, run))


@pytest.mark.slow
def test_a_plan_of_a_run_that_was_continued_leads_to_its_last_end(settings, monkeypatch):
    for total, top in ((30, 8), (70, 16)):
        with monkeypatch.context() as patch:
            run = train(budgeted(settings, "--max-res", top, total=total), Clock(patch, steady(0.5), trains=True))
    assert [entry["action"] for entry in growth(run)].count("stop") == 2
    assert_repeated(run, repeat(settings, run))


@pytest.mark.slow
def test_a_repetition_that_is_interrupted_goes_on_to_the_same_end(settings, monkeypatch):
    with monkeypatch.context() as patch:
        run = train(budgeted(settings, total=40), Clock(patch, steady(0.5), trains=True))
    with monkeypatch.context() as patch:
        leave(patch, growth(run)[0]["nimg"] + 8, Interrupted)
        with pytest.raises(Interrupted):
            repeat(settings, run)
    assert_repeated(run, repeat(settings, run))


@pytest.mark.slow
def test_a_plan_repeats_a_run_by_images_too(settings):
    run = train(settings("--record-kimg", 0.008))
    assert_repeated(run, repeat(settings, run, "--max-res", 8))


ENTRY = {"nimg": 104, "action": "grow", "from_res": 4, "to_res": 8, "reason": "", "numbers": {"fade_nimg": 50}}
STOP = {**ENTRY, "nimg": 200, "action": "stop", "from_res": 8, "numbers": {}}


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ("{", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        ({}, "no growth.json"),
        ([3], "no growth.json"),
        ([{**ENTRY, "nimg": "104"}], "no growth.json"),
        ([{**ENTRY, "nimg": -8}], "no growth.json"),
        ([{**ENTRY, "numbers": None}], "no growth.json"),
        ([{**ENTRY, "numbers": {"fade_nimg": 1.5}}], "no growth.json"),
        ([{**ENTRY, "numbers": {"fade_nimg": -1}}], "no growth.json"),
        ([{key: value for key, value in ENTRY.items() if key != "to_res"}], "no growth.json"),
        ([ENTRY, {**STOP, "action": "grow", "to_res": 16, "nimg": 120}], "before it has begun or faded in"),
        ([ENTRY, {**STOP, "nimg": 96}], "before it has begun or faded in"),
        ([], "says nothing of 4 px"),
        ([ENTRY], "says nothing of 8 px"),
        ([{**ENTRY, "numbers": {}}, STOP], "older version"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value)[:20],
)
def test_a_bad_plan_is_refused_in_one_line_with_nothing_written(settings, tmp_path, plan, says):
    path = tmp_path / "growth.json"
    path.write_bytes(plan if isinstance(plan, bytes) else (plan if plan == "{" else json.dumps(plan)).encode())
    with pytest.raises(UserError, match=says) as caught:
        train(settings("--plan", path))
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_plan_that_is_missing_or_not_the_run_s_own_is_refused(settings, tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        train(settings("--plan", tmp_path / "none.json"))
    (tmp_path / "plan.json").write_text(json.dumps([ENTRY, STOP]))
    train(settings("--plan", tmp_path / "plan.json", "--max-res", 8))
    (tmp_path / "plan.json").write_text(json.dumps([ENTRY, {**STOP, "nimg": 300}]))
    with pytest.raises(UserError, match="not the plan that this run began with"):
        train(settings("--plan", tmp_path / "plan.json"))


def test_a_plan_is_for_a_new_run_and_is_kept_to(settings, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps([{**ENTRY, "action": "stop", "to_res": 4}]))
    train(settings("--max-res", 4, out="without"))
    with pytest.raises(UserError, match="did not begin with a plan"):
        train(settings("--max-res", 8, "--plan", path, out="without"))
    train(settings("--plan", path, out="with"))
    with pytest.raises(UserError, match="repeats a plan: give --plan again"):
        train(settings(out="with"))
    path.unlink()
    train(settings("--plan", path, out="with"))  # it is in the checkpoint


@pytest.mark.parametrize("shares", ["1", "4:0.0001,8:1"], ids=["even", "nothing left for the stage under way"])
def test_a_budget_given_to_a_run_under_way_knows_its_speed(settings, monkeypatch, shares):
    train(settings("--max-res", 4, "--stable-kimg", 1))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "images_per_s", lambda *_: 16.0)
        budget_of_100 = settings("--budget", "100s", "--budget-share", shares, "--max-res", 8, "--stable-kimg", 1)
        run = train(budget_of_100, Clock(patch, steady(0.5)))
    grew = next(entry for entry in growth(run) if entry["action"] == "grow")
    assert 0 < grew["numbers"]["fade_nimg"] <= 0.2 * 100 * 16
    assert growth(run)[-1]["from_res"] == 8


def test_what_a_plan_says_last_of_a_resolution_counts():
    stop = {**STOP, "action": "stop", "from_res": 8, "to_res": 8}
    later = {**ENTRY, "from_res": 8, "to_res": 16, "nimg": 400}
    assert budget.replayed([ENTRY, stop], 8) == {"fade": 50, "end": 200, "stops": True}
    assert budget.replayed([ENTRY, stop, later], 8) == {"fade": 50, "end": 400, "stops": False}
    assert budget.replayed([ENTRY, stop, later], 4) == {"fade": 0, "end": 104, "stops": False}
    back = {**ENTRY, "action": "rollback", "from_res": 8, "to_res": 8, "nimg": 999}
    assert budget.replayed([ENTRY, back, stop], 8)["end"] == 200


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
