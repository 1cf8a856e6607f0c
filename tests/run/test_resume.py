"""A run that is killed, by whatever and whenever, and started again with the same command is the same run."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from runs import TINY, assert_same_run, finish, records, refused, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def straight(cache: Path, out: Path, *flags: object) -> Path:
    code, _, err = finish(*TINY, "--cache", cache, "--out", out, *flags)
    assert code == 0, err
    return out


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """The run that nobody disturbed."""
    return straight(cache, tmp_path_factory.mktemp("whole") / "run")


def bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def kill_often(cache: Path, out: Path, dice: random.Random, kills: int, *flags: object) -> int:
    """Starts the run, SIGKILLs it at random moments, starts it again, until it is done; how often it was killed."""
    killed = 0
    while True:
        process = start(*TINY, "--cache", cache, "--out", out, *flags)
        if killed < kills:
            before = bytes_of(out / "metrics.jsonl")
            while process.poll() is None and bytes_of(out / "metrics.jsonl") <= before:
                time.sleep(0.02)  # it trains by now
            time.sleep(dice.uniform(0, 0.8))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
        _, err = process.communicate(timeout=600)
        if process.returncode == 0:
            return killed
        assert process.returncode == -signal.SIGKILL, err


@pytest.mark.parametrize("minutes", [5.0, 0.002], ids=["default interval", "saving all the time"])
def test_sigkill_at_random_moments_leaves_the_run_as_it_would_have_been(whole, cache, tmp_path, minutes):
    seed = random.randrange(10**6)
    print("dice", seed)
    killed = kill_often(cache, tmp_path / "run", random.Random(seed), 5, "--save-minutes", minutes)
    assert killed >= 2
    assert_same_run(whole, tmp_path / "run")


def test_sigkill_at_random_moments_is_harmless_with_two_threads_and_wider_networks_too(cache, tmp_path):
    wide = ["--threads", 2, "--start-res", 16, "--max-res", 32, "--fmap-base", 512, "--fmap-max", 32]
    seed = random.randrange(10**6)
    print("dice", seed)
    alone = straight(cache, tmp_path / "whole", *wide)
    assert kill_often(cache, tmp_path / "run", random.Random(seed), 2, *wide, "--save-minutes", 0.005) >= 1
    assert_same_run(alone, tmp_path / "run")


def test_sigkill_before_the_first_record_starts_over_cleanly(whole, cache, tmp_path):
    out = tmp_path / "run"
    process = start(*TINY, "--cache", cache, "--out", out)
    while not (out / "config.json").exists():
        time.sleep(0.01)
    process.kill()
    process.communicate()
    straight(cache, out)
    assert_same_run(whole, out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_leave_with_128_plus_n_and_lose_no_step(whole, cache, tmp_path, number):
    out = tmp_path / "run"
    process = start(*TINY, "--cache", cache, "--out", out)
    while not bytes_of(out / "metrics.jsonl"):
        time.sleep(0.02)
    process.send_signal(number)
    said, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "saved at" in said
    kept = torch.load(out / "checkpoints" / "latest.pt", weights_only=True)
    assert kept["nimg"] >= records(out)[-1]["nimg"] > 0
    straight(cache, out)
    assert_same_run(whole, out)


def test_a_latest_checkpoint_cut_short_is_never_taken_for_whole(whole, cache, tmp_path):
    out = straight(cache, tmp_path / "run", "--max-res", 8)
    latest = out / "checkpoints" / "latest.pt"
    os.truncate(latest, latest.stat().st_size // 2)
    code, said, err = finish(*TINY, "--cache", cache, "--out", out, "--max-res", 16)
    assert code == 0, err
    assert "cut short" in said and "previous.pt" in said
    assert_same_states(whole, out)


def assert_same_states(a: Path, b: Path) -> None:
    one, two = (torch.load(run / "checkpoints" / "res-0016.pt", weights_only=True) for run in (a, b))
    assert all(torch.equal(one["G_ema"][name], two["G_ema"][name]) for name in one["G_ema"])


def test_raising_max_res_on_a_finished_run_goes_on_to_where_one_run_would_have_come(whole, cache, tmp_path):
    out = straight(cache, tmp_path / "run", "--max-res", 8)
    straight(cache, out, "--max-res", 16)
    assert_same_states(whole, out)
    assert [entry["action"] for entry in json.loads((out / "growth.json").read_text())] == [
        *("grow", "stop", "grow", "stop")
    ]


def test_a_finished_run_says_so_and_changes_nothing(whole, cache):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    code, said, _ = finish(*TINY, "--cache", cache, "--out", whole)
    assert code == 0 and "is finished" in said
    assert before == {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}


def test_the_average_and_the_grids_do_not_disturb_the_run(whole, cache, tmp_path):
    out = straight(cache, tmp_path / "run", "--sample-kimg", 0.03, "--save-minutes", 0.001)
    one, two = (torch.load(run / "checkpoints" / "latest.pt", weights_only=True) for run in (whole, out))
    assert all(torch.equal(one[net][name], two[net][name]) for net in ("G", "D", "G_ema") for name in one[net])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--lr", "0.001"], "--lr: 0.002 -> 0.001"),
        (["--seed", "7"], "--seed: 0 -> 7"),
        (["--data", "builtin:4"], "--data: builtin:3 -> builtin:4"),
        (["--builtin-images", "41"], "--builtin-images: 40 -> 41"),
        (["--max-res", "8"], "at 16 px already"),
    ],
)
def test_another_run_s_folder_is_refused_with_the_difference(whole, cache, flags, named):
    assert named in refused(*TINY, "--cache", cache, "--out", whole, *flags)


def test_a_second_process_in_the_same_folder_is_refused_and_harms_nothing(whole, cache, tmp_path):
    out = tmp_path / "run"
    first = start(*TINY, "--cache", cache, "--out", out)
    while not bytes_of(out / "metrics.jsonl"):
        time.sleep(0.02)
    first.send_signal(signal.SIGSTOP)  # holds the folder for as long as the test wants
    said = refused(*TINY, "--cache", cache, "--out", out)
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=600)
    assert "another process" in said
    assert_same_run(whole, out)
