"""Whole runs that repeat another one by its growth.json."""

import json
from pathlib import Path

import pytest
from clocks import Clock, budgeted, leave, loaded, steady
from runs import assert_same, content, records
from short import growth, latest

from pggan.errors import Interrupted, UserError
from pggan.run.loop import train

pytest_plugins = ["short_runs"]


def assert_repeated(run: Path, again: Path) -> None:
    names = sorted(path.name for path in (run / "checkpoints").glob("*.pt") if path.name != "previous.pt")
    assert names == sorted(path.name for path in (again / "checkpoints").glob("*.pt") if path.name != "previous.pt")
    for name in names:
        one, two = (content(folder / "checkpoints" / name) for folder in (run, again))
        plans = [values["stage"]["plan"] for values in (one, two)]
        assert [plans[0][key] for key in ("start", "fade")] == [plans[1][key] for key in ("start", "fade")]
        for part in ("nimg", "res", "G", "D", "G_ema", "opt_G", "opt_D"):
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
        ([ENTRY, {**STOP, "action": "grow", "to_res": 16, "nimg": 120}], "before its start or its fade"),
        ([ENTRY, {**STOP, "nimg": 96}], "before its start or its fade"),
        ([], "no stage at 4 px"),
        ([ENTRY], "no stage at 8 px"),
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
    with pytest.raises(UserError, match=r"none\.json cannot be read \(No such file or directory\): name"):
        train(settings("--plan", tmp_path / "none.json"))
    with pytest.raises(UserError, match=r"^--plan \S+ is a folder: name the growth\.json of a run$"):
        train(settings("--plan", tmp_path))
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
