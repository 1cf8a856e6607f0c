"""The run folder: records, configuration, growth log and grids, as outside programs read them."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from runs import ROOT, TINY

from pggan.config import cli
from pggan.config.presets import preset
from pggan.config.schema import Config, from_dict
from pggan.errors import UserError
from pggan.evaluation.grids import make_grid
from pggan.evaluation.samples import draw, to_uint8
from pggan.randomness import Stream
from pggan.run import loop
from pggan.run.loop import train
from pggan.run.run_dir import CLOCK_KEYS, RunDir
from pggan.training import checkpoint
from pggan.training.loading import load_generator

PREFIXES = ("loss/", "growth/", "speed/", "memory/", "wall/")

pytest_plugins = ["short_runs"]


def settings(tmp: Path, *flags: object) -> Config:
    return cli.parse(
        Config, [*TINY, "--cache", str(tmp / "cache"), "--out", str(tmp / "run"), *map(str, flags)], preset("smoke")
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A whole run, 4 -> 16 px."""
    return train(settings(tmp_path_factory.mktemp("folder")))


def strict(text: str) -> object:
    """JSON without the NaN and Infinity that Python lets through."""

    def refuse(name: str):
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


def lines(run: Path) -> list[str]:
    return (run / "metrics.jsonl").read_text().splitlines()


# ---- metrics.jsonl


def test_every_record_is_one_line_of_strict_json_with_documented_keys(run):
    for line in lines(run):
        record = strict(line)
        assert record["kimg"] == record["nimg"] / 1000
        others = set(record) - {"nimg", "kimg"}
        assert all(key.startswith(PREFIXES) for key in others), others
        assert {key.split("/")[0] + "/" for key in others} == set(PREFIXES)
    assert (run / "metrics.jsonl").read_bytes().endswith(b"}\n")


def test_records_come_at_every_multiple_of_record_kimg_and_name_it(run):
    wanted = [-(-multiple // 8) * 8 for multiple in range(50, 841, 50)]  # the first nimg at or past it, in steps of 8
    assert [strict(line)["nimg"] for line in lines(run)] == wanted


def test_records_have_the_same_keys_in_the_same_order(run):
    assert len({tuple(strict(line)) for line in lines(run)}) == 1


@given(value=st.one_of(st.just(0.0), st.floats(1e-99, 9e99)), key=st.sampled_from(CLOCK_KEYS))
def test_what_depends_on_the_clock_has_one_width(tmp_path_factory, value, key):
    folder = RunDir(tmp_path_factory.mktemp("w"))
    size = folder.append(8, {key + "x": value})
    assert size == folder.append(8, {key + "x": 1.0}) - size
    read = strict(folder.metrics.read_text().splitlines()[0])[key + "x"]
    assert read == pytest.approx(value, rel=1e-6)


@pytest.mark.slow
def test_the_length_of_the_records_does_not_depend_on_the_clock(run, tmp_path):
    slow = iter(range(0, 10**9, 977))
    other = train(settings(tmp_path), clock=lambda: float(next(slow)))
    assert list(map(len, lines(other))) == list(map(len, lines(run)))
    assert lines(other) != lines(run)


def test_losses_are_written_in_full_precision(tmp_path):
    folder = RunDir(tmp_path)
    folder.append(8, {"loss/d": 1 / 3})
    assert folder.last_record()["loss/d"] == 1 / 3


def test_append_returns_the_length_of_the_file_in_bytes(tmp_path):
    folder = RunDir(tmp_path)
    for nimg in (8, 16, 1000):
        assert folder.append(nimg, {"loss/d": nimg / 7}) == folder.metrics.stat().st_size


def test_cut_metrics_leaves_whole_records_up_to_the_length_given(tmp_path):
    folder = RunDir(tmp_path)
    sizes = [folder.append(nimg, {"loss/d": 1.0}) for nimg in (8, 16, 24)]
    folder.cut_metrics(sizes[1])
    assert folder.last_record()["nimg"] == 16
    folder.append(32, {})
    assert [strict(line)["nimg"] for line in lines(tmp_path)] == [8, 16, 32]
    folder.cut_metrics(0)
    assert folder.last_record() == {} and folder.metrics.stat().st_size == 0


def test_cut_metrics_makes_up_nothing_where_the_file_is_shorter_or_gone(tmp_path):
    folder = RunDir(tmp_path / "new")
    folder.cut_metrics(500)
    assert folder.metrics.read_bytes() == b""
    size = folder.append(8, {})
    folder.cut_metrics(size + 100)
    assert folder.metrics.stat().st_size == size


def test_the_last_checkpoint_knows_the_length_of_the_records(run):
    assert checkpoint.load(run / "checkpoints" / "latest.pt")["metrics_bytes"] == (run / "metrics.jsonl").stat().st_size


# ---- config.json and growth.json


def test_config_json_holds_the_resolved_configuration(tmp_path):
    config = cli.parse(Config, [*TINY, "--max-res", "8", "--start-res", "8"], preset("smoke"))
    folder = RunDir(tmp_path)
    folder.write_config(config, {"data": {"fingerprint": "f"}})
    assert folder.config() == config


def test_config_json_resolves_what_was_left_out(tmp_path):
    small = ["--base", "9x9", "--fmap-base", "2048", "--stable-kimg", "0.01", "--stage-minutes", "1e-9"]
    config = settings(tmp_path, *small, "--floor-kimg", "0", "--fade-kimg", "0", "--max-res", "9", "--start-res", "9")
    found = strict((train(config) / "config.json").read_text())["config"]
    assert (found["network"]["start_res"], found["network"]["max_res"]) == (9, 9)


def test_config_json_holds_versions_seed_commit_threads_and_data(run):
    found = strict((run / "config.json").read_text())
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert {"python", "torch", "numpy", "pggan", "commit"} == set(found["versions"])
    assert found["versions"]["torch"] == torch.__version__ and found["versions"]["numpy"] == np.__version__
    if commit:
        assert found["versions"]["commit"].removesuffix("-dirty") == commit
    assert (found["seed"], found["threads"]) == (0, 1)
    assert len(found["data"]["fingerprint"]) == 64
    assert found["data"]["fingerprint"] == checkpoint.load(run / "checkpoints" / "latest.pt")["data"]
    assert (found["data"]["pictures"], found["data"]["unreadable"]) == (40, [])
    assert from_dict(found["config"]).network.stages() == [4, 8, 16]


def test_growth_json_has_exactly_the_documented_keys(run):
    entries = strict((run / "growth.json").read_text())
    assert [list(entry) for entry in entries] == [["nimg", "action", "from_res", "to_res", "reason", "numbers"]] * 3
    assert [(e["nimg"], e["action"], e["from_res"], e["to_res"]) for e in entries] == [
        *((200, "grow", 4, 8), (520, "grow", 8, 16), (840, "stop", 16, 16)),
    ]
    assert all(entry["reason"] and isinstance(entry["numbers"], dict) for entry in entries)
    assert entries == checkpoint.load(run / "checkpoints" / "latest.pt")["growth"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"config": 3}', '{"config": {}}', '{"config": [], "data": {}}', "\x00\xff"]
)
def test_a_damaged_config_json_is_refused_by_a_plain_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        RunDir(tmp_path).config()


def test_settings_of_another_version_are_refused_by_a_plain_line(tmp_path):
    (tmp_path / "config.json").write_text('{"config": {"network": {"wings": 2}}, "data": {"fingerprint": ""}}')
    with pytest.raises(UserError, match="another version"):
        RunDir(tmp_path).config()


def test_a_folder_of_something_else_and_a_file_are_refused_an_empty_folder_is_not(tmp_path):
    (tmp_path / "empty").mkdir()
    RunDir(tmp_path / "empty")
    RunDir(tmp_path / "not" / "there")
    assert not (tmp_path / "not").exists()
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="holds no run"):
        RunDir(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        RunDir(tmp_path / "letter.txt")


def test_a_folder_in_which_a_run_was_killed_at_its_very_start_is_taken(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / "config.json.tmp").write_text('{"conf')
    assert RunDir(tmp_path).config() is None
    assert "stop" in (train(settings(tmp_path / "up", "--max-res", 4, "--out", tmp_path)) / "growth.json").read_text()


def test_nothing_half_written_is_left_in_the_folder(run):
    names = {path.relative_to(run).parts[0] for path in run.rglob("*")}
    kept = {"config.json", "metrics.jsonl", "growth.json", "checkpoints", "samples", "report.html", ".lock"}
    assert names == kept
    assert not list(run.rglob("*.tmp"))
    checkpoints = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert checkpoints == ["latest.pt", "previous.pt", "res-0004.pt", "res-0008.pt", "res-0016.pt"]


# ---- grids


def test_grids_are_named_by_resolution_and_nimg_and_have_its_size(run):
    grids = sorted((run / "samples").iterdir())
    assert [path.name for path in grids][:3] == ["0004-00000104.png", "0004-00000200.png", "0008-00000304.png"]
    assert grids[-1].name == "0016-00000840.png"
    for path in grids:
        with Image.open(path) as picture:
            assert picture.size == (2 * int(path.name[:4]) + 6,) * 2 and picture.format == "PNG"


@pytest.mark.parametrize(("res", "nimg"), [(4, 200), (8, 520), (16, 840)])
def test_grids_show_the_average_at_the_same_latents_every_time(run, res, nimg):
    average, alpha = load_generator(run / "checkpoints" / f"res-{res:04d}.pt")
    latents = torch.from_numpy(Stream(0).normal("samples", 0, 4, 8))
    with torch.no_grad():
        images = to_uint8(average(latents, alpha)).numpy()
    with Image.open(run / "samples" / f"{res:04d}-{nimg:08d}.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(make_grid(images, 2)))


def test_a_grid_in_a_fade_is_drawn_at_its_alpha(tmp_path):
    config = settings(tmp_path, "--max-res", 8, "--sample-kimg", 0.01, "--stable-kimg", 0.04)
    seen = {}
    saved = RunDir.draw

    def spy(folder, state, alpha):
        seen[state.nimg] = alpha, draw(state.G_ema, alpha, 0, 4), draw(state.G_ema, 1.0, 0, 4)
        return saved(folder, state, alpha)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDir, "draw", spy)
        out = train(config)
    alpha, images, full = seen[104]
    assert alpha == (104 - 40) / 120 and not np.array_equal(images, full)
    with Image.open(out / "samples" / "0008-00000104.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(make_grid(images, 2)))


def test_a_metrics_file_that_lost_its_end_is_cut_to_whole_lines(tmp_path, capsys):
    folder = RunDir(tmp_path)
    sizes = [folder.append(nimg, {"loss/d": 1.0}) for nimg in (8, 16, 24)]
    os.truncate(folder.metrics, sizes[2] - 5)
    folder.cut_metrics(sizes[2])
    assert folder.metrics.stat().st_size == sizes[1] and "lost records" in capsys.readouterr().out
    assert folder.last_record()["nimg"] == 16


def test_grids_of_a_killed_try_are_not_taken_for_those_of_a_shorter_run(settings):
    run = train(settings("--max-res", 4, "--sample-kimg", 0.05))
    stale = run / "samples" / "0004-00009999.png"
    shutil.copy(run / "samples" / "0004-00000104.png", stale)
    train(settings("--max-res", 8, "--sample-kimg", 0.05))
    assert not stale.exists() and (run / "samples" / "0004-00000104.png").exists()
    assert "0008-00000304.png" in loop.summary(run)
