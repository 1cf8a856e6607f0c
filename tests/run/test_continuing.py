"""Going on: after a signal, with other settings, from a checkpoint, and two processes at once."""

import json
import os
import shutil
import signal
from pathlib import Path

import grow
import pytest
from PIL import Image
from runs import assert_same, assert_same_run, content, records
from short import growth, interrupt_at, latest, make_settings, watch_steps

import train as command
from pggan.config.presets import preset, with_settings
from pggan.errors import Interrupted, UserError
from pggan.run import loop
from pggan.run.loop import train
from pggan.run.run_dir import RunDir
from pggan.run.setup import open_folder
from pggan.training import checkpoint

pytest_plugins = ["short_runs"]

# ---- going on


@pytest.mark.slow
@pytest.mark.parametrize("nimg", [0, 96, 104, 192, 200, 296])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(settings, monkeypatch, nimg):
    whole = train(settings(out="whole"))
    with monkeypatch.context() as patch:
        interrupt_at(patch, nimg)
        with pytest.raises(Interrupted) as caught:
            train(settings())
    assert caught.value.number == signal.SIGTERM and latest(Path(settings().run.out))["nimg"] == nimg + 8
    assert_same_run(whole, train(settings()))


@pytest.mark.slow
def test_interrupted_in_the_paper_s_fade_and_right_at_its_end_it_goes_on_the_same(settings, monkeypatch):
    whole = train(settings(base="paper", out="whole"))
    for nimg in (152, 200):  # 200 + 8 is past the fade's end at 204: Adam has been reset just before the save
        with monkeypatch.context() as patch:
            interrupt_at(patch, nimg)
            with pytest.raises(Interrupted):
                train(settings(base="paper"))
    assert_same_run(whole, train(settings(base="paper")))


def test_signals_have_their_old_meaning_after_a_run(settings):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train(settings("--max-res", 4))
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(10):
        Image.new("RGB", (9, 9), (number, 20 * number, 0)).save(folder / f"{number}.png")
    return folder


def test_changed_pictures_are_refused_when_a_run_goes_on(settings, pictures):
    flags = ["--data", pictures]
    train(settings(*flags, "--max-res", 4))
    Image.new("RGB", (9, 9), (200, 200, 0)).save(pictures / "3.png")
    before = {path: path.read_bytes() for path in Path(settings().run.out).rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"are not those of .* \(3\.png\): put them back"):
        train(settings(*flags))
    assert before == {path: path.read_bytes() for path in Path(settings().run.out).rglob("*") if path.is_file()}


def test_other_pictures_are_refused_by_a_finished_run_too(settings, pictures):
    train(settings("--data", pictures, "--max-res", 4))
    others = pictures.parent / "others" / "pictures"
    others.mkdir(parents=True)
    for number in range(10):
        Image.new("RGB", (9, 9), (0, number, 200)).save(others / f"{number}.png")
    with pytest.raises(
        UserError, match=r"others/pictures are not those of .*, which was begun with .*/pictures \(0\.png"
    ):
        train(settings("--data", others, "--max-res", 4))
    shutil.rmtree(pictures)
    with pytest.raises(UserError, match="no such folder"):
        train(settings("--data", pictures, "--max-res", 4))


def test_a_damaged_picture_may_be_deleted_and_the_run_goes_on(settings, pictures):
    for number in range(10, 30):
        Image.new("RGB", (9, 9), (0, number, 99)).save(pictures / f"{number}.png")
    (pictures / "damaged.png").write_text("no picture")
    train(settings("--data", pictures, "--max-res", 4))
    (pictures / "damaged.png").unlink()
    train(settings("--data", pictures))
    assert latest(Path(settings().run.out))["res"] == 8


def test_a_damaged_picture_that_was_repaired_is_another_set(settings, pictures):
    for number in range(10, 30):
        Image.new("RGB", (9, 9), (0, number, 99)).save(pictures / f"{number}.png")
    (pictures / "damaged.png").write_text("no picture")
    train(settings("--data", pictures, "--max-res", 4))
    Image.new("RGB", (9, 9), (1, 2, 3)).save(pictures / "damaged.png")
    with pytest.raises(UserError, match="are not those of"):
        train(settings("--data", pictures))


def test_a_run_inside_the_folder_of_its_pictures_goes_on(settings, pictures):
    flags = ["--data", pictures, "--out", pictures / "runs" / "x"]
    train(settings(*flags, "--max-res", 4, "--sample-kimg", "0.05"))
    assert list((pictures / "runs" / "x" / "samples").glob("*.png"))
    train(settings(*flags))
    assert latest(pictures / "runs" / "x")["res"] == 8


def test_foreign_files_among_the_samples_are_left_alone(settings):
    run = train(settings("--max-res", 4, "--sample-kimg", "0.05"))
    own = {path.name for path in (run / "samples").iterdir()}
    (run / "samples" / "0008-99999999.png").mkdir()
    foreign = {"grid.png", "0000-00004.png", "7-1.png", "notes.txt"}
    for name in foreign:
        (run / "samples" / name).write_bytes(b"foreign")
    train(settings("--sample-kimg", "0.05"))
    assert {path.name for path in (run / "samples").iterdir()} > own | foreign | {"0008-99999999.png"}
    assert (run / "samples" / "7-1.png").read_bytes() == b"foreign" and (run / "report.html").is_file()


@pytest.mark.parametrize(
    ("data", "name"), [("faces.v1", "faces.v1"), ("faces.v2.zip", "faces.v2"), ("builtin:3", "builtin-3")]
)
def test_the_default_run_folder_keeps_the_dots_of_the_data(data, name):
    config = with_settings(preset("smoke"), {"data": data})
    assert open_folder(config).path == Path(f"runs/{name}-smoke-256")


def test_pictures_changed_before_the_first_checkpoint_are_refused_too(settings, pictures, monkeypatch):
    flags = ["--data", pictures]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "run_stages", lambda *_: None)  # killed when config.json was all there was
        run = train(settings(*flags))
    assert not (run / "checkpoints").exists()
    (pictures / "new.png").write_bytes((pictures / "3.png").read_bytes())
    with pytest.raises(UserError, match="are not those of"):
        train(settings(*flags))


def test_fewer_pictures_than_a_batch_are_refused_before_anything_is_written(settings, pictures):
    config = settings("--data", pictures, "--batch", "4:8,8:12")
    with pytest.raises(UserError, match="10 pictures, fewer than a batch of 12"):
        train(config)
    assert not Path(config.run.out).exists()


CHANGES = {
    "--max-res": 8,
    "--fade-kimg": 0.05,
    "--stable-kimg": 0.11,
    "--stage-minutes": "9",
    "--floor-kimg": 0.5,
    "--save-minutes": 7.0,
    "--record-kimg": 0.07,
    "--sample-kimg": 0.09,
    "--grid": "3x1",
    "--wandb": "auto",
}


def test_all_that_may_be_changed_is_accepted_when_a_run_goes_on(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    train(settings("--max-res", 4))
    run = train(settings(*(word for pair in CHANGES.items() for word in pair), "--device", "auto", "--threads", 0))
    assert growth(run)[-1]["from_res"] == 8
    kept = json.loads((run / "config.json").read_text())["config"]
    assert (kept["run"]["grid"], kept["schedule"]["stable_kimg"]) == ("3x1", "0.11")


@pytest.mark.parametrize(
    "flags",
    [
        *(["--lr", "0.1"], ["--batch", 4], ["--seed", 3], ["--no-mirror"], ["--random-crop"], ["--latent", 16]),
        *(["--loss", "wgan-gp"], ["--fit", "pad"], ["--base", "4x5"], ["--start-res", 8], ["--beta1", 0.5]),
        *(["--ema-kimg", "3"], ["--adam-at-growth", "reset", "--warmup-kimg", 0], ["--builtin-images", 50]),
    ],
    ids=lambda flags: flags[0],
)
def test_any_other_change_is_refused_with_the_difference(settings, cache, tmp_path_factory, flags, started):
    config = settings(*flags)
    shutil.copytree(started, config.run.out)
    with pytest.raises(UserError, match=f"{flags[0].replace('--no-', '--')}: .* -> "):
        train(config)


def test_a_run_whose_config_json_is_damaged_or_gone_is_refused(settings, started):
    out = Path(settings().run.out)
    shutil.copytree(started, out)
    (out / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        train(settings())
    (out / "config.json").unlink()
    with pytest.raises(UserError, match="holds no run"):
        train(settings())
    assert (out / "checkpoints" / "latest.pt").exists()


def test_lost_records_do_not_keep_a_run_from_going_on(settings, started):
    out = Path(settings().run.out)
    shutil.copytree(started, out)
    (out / "metrics.jsonl").unlink()
    assert records(train(settings()))[-1]["nimg"] == 304


@pytest.mark.slow
def test_a_full_disk_is_told_plainly_and_the_run_goes_on_once_there_is_room(settings, monkeypatch):
    whole = train(settings(out="whole"))
    out = Path(settings().run.out)
    (out / "checkpoints").mkdir(parents=True)
    (out / "config.json").write_bytes((whole / "config.json").read_bytes())

    def fill(state, *_):
        if state.nimg == 152:
            (out / "checkpoints" / "next.pt.tmp").symlink_to("/dev/full")
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        watch_steps(patch, before=fill)
        with pytest.raises(UserError, match="the disk is full"):
            train(settings())
    assert latest(out)["nimg"] == 104
    assert_same_run(whole, train(settings()))


# ---- starting from a checkpoint


def resumed(cache: Path, ckpt: Path, out: Path) -> Path:
    command.main(["--resume", str(ckpt), "--out", str(out), "--cache", str(cache), "--wandb", "off"])
    return out


@pytest.fixture
def grown(started, tmp_path) -> Path:
    grow.main([str(started / "checkpoints" / "latest.pt"), "--out", str(tmp_path / "grown.pt")])
    return tmp_path / "grown.pt"


def test_a_grown_checkpoint_starts_a_new_run_that_a_kill_does_not_disturb(cache, grown, tmp_path, monkeypatch):
    whole = resumed(cache, grown, tmp_path / "whole")
    assert [(e["action"], e["from_res"], e["to_res"]) for e in growth(whole)][-2:] == [("grow", 4, 8), ("stop", 8, 8)]
    assert latest(whole)["res"] == 8
    with monkeypatch.context() as patch:
        interrupt_at(patch, 152)
        with pytest.raises(SystemExit) as end:
            resumed(cache, grown, tmp_path / "run")
    assert end.value.code == 128 + signal.SIGTERM
    assert_same_run(whole, resumed(cache, grown, tmp_path / "run"))


@pytest.mark.slow
def test_a_grown_checkpoint_trains_on_to_what_the_run_itself_would_have_become(cache, grown, settings, tmp_path):
    straight, outside = train(settings()), resumed(cache, grown, tmp_path / "outside")
    one, two = (content(run / "checkpoints" / "latest.pt") for run in (straight, outside))
    for part in ("G", "D", "G_ema", "opt_G", "opt_D", "nimg"):
        assert_same(one[part], two[part], part)
    assert one["stage"]["plan"] == two["stage"]["plan"]


def test_resume_over_the_folder_of_another_run_is_refused(cache, grown, started, settings):
    out = Path(settings().run.out)
    shutil.copytree(started, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="holds another run"):
        resumed(cache, grown, out)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("flags", [["--fmap-base", "64"], ["--base", "4x5"], ["--start-res", "8"]])
def test_resume_with_other_networks_is_refused_by_name(cache, grown, tmp_path, flags):
    with pytest.raises(UserError, match="was made with"):
        command.main(["--resume", str(grown), "--out", str(tmp_path / "r"), "--cache", str(cache), *flags])
    assert not (tmp_path / "r").exists()


def test_a_finished_checkpoint_resumed_into_a_new_folder_trains_on_when_asked_for_more(cache, started, tmp_path):
    ckpt = started / "checkpoints" / "latest.pt"
    command.main(["--resume", str(ckpt), "--out", str(tmp_path / "r"), "--cache", str(cache), "--max-res", "8"])
    assert growth(tmp_path / "r")[-1]["from_res"] == 8


# ---- two at once


def test_a_second_process_in_a_run_s_folder_is_refused_and_changes_nothing(settings, started):
    out = Path(settings().run.out)
    shutil.copytree(started, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with RunDir(out), pytest.raises(UserError, match="another process is training"):
        train(settings("--grid", "3x3"))
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_process_whose_new_folder_was_taken_while_it_packed_stops_and_does_not_go_back(settings, monkeypatch):
    """While the second process packs, the first one trains to its end."""
    real, ran = loop.load_images, []

    def load(state, folder):
        images = real(state, folder)
        if not ran:
            ran.append(True)
            train(settings())
        return images

    monkeypatch.setattr(loop, "load_images", load)
    steps = []
    watch_steps(monkeypatch, after=lambda state, *_: steps.append(state.nimg))
    with pytest.raises(UserError, match="another process has begun a run"):
        train(settings())
    assert len(steps) == 38 and steps == sorted(set(steps))


def test_the_last_checkpoint_of_a_finished_run_is_refused_whatever_its_name(cache, started, tmp_path):
    for name in ("latest.pt", "res-0004.pt"):
        path = started / "checkpoints" / name
        flags = ["--resume", path, "--max-res", 4]
        with pytest.raises(UserError, match="is the end of its run"):
            train(make_settings(cache, tmp_path / "new", *flags))
    assert not (tmp_path / "new").exists()


def test_a_run_begun_from_one_that_diverged_has_its_own_learning_rate_and_attempts(cache, started, tmp_path):
    values = latest(started)
    del values["sha256"]
    checkpoint.save({**values, "lr_factor": 0.125, "attempt": 3}, tmp_path / "diverged.pt")
    run = train(make_settings(cache, tmp_path / "new", "--resume", tmp_path / "diverged.pt", "--max-res", 8))
    assert (latest(run)["lr_factor"], latest(run)["attempt"]) == (1.0, 0)


def test_a_place_that_cannot_be_written_is_refused_before_the_images_are_packed(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"--out .* cannot be written in"):
        train(make_settings(tmp_path / "cache", tmp_path / "deep" / "run", "--max-res", 4))
    assert not (tmp_path / "cache").exists()
