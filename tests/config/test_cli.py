"""Bad input is refused in one plain line before anything is written, and the help explains every setting."""

import json
import os
import re
import signal
import struct
import sys
import textwrap
import time
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import grow
import pytest
import sample
import torch
from PIL import Image
from runs import ROOT, TINY, finish, refused, start

import train
from pggan.config import cli
from pggan.config.presets import before_flags, preset
from pggan.config.schema import Config, flat, to_dict
from pggan.config.tables import PRESETS
from pggan.errors import Diverged, Interrupted, UserError
from pggan.run.report import facts
from pggan.run.report.page import Report
from pggan.training import checkpoint
from pggan.training.state import new_state


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with all that can be wrong in it."""
    place = tmp_path_factory.mktemp("place")
    for name in ("empty", "texts", "few", "else"):
        (place / name).mkdir()
    (place / "texts" / "a.txt").write_text("no picture")
    (place / "else" / "thesis.doc").write_text("precious")
    (place / "file").write_text("x")
    for number in range(4):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(place / "few" / f"{number}.png")
    climbing_zip(place / "climbing.zip")
    (place / "bomb").mkdir()
    (place / "bomb" / "a.png").write_bytes(bomb())
    whole = made(place)
    (place / "cut.pt").write_bytes(whole[: len(whole) // 2])
    other_shape(place)
    return place


def climbing_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped.png", b"x")


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def made(place: Path) -> bytes:
    """Returns the file latest.pt of a run that begins at 4 px."""
    flags = ["--max-res", "4", "--cache", str(place / "cache"), "--out", str(place / "run")]
    path = place / "run" / "checkpoints" / "latest.pt"
    path.parent.mkdir(parents=True)
    argv = [*TINY, *flags]
    state = new_state(cli.parse(Config, argv, before_flags(argv)), torch.device("cpu"))
    checkpoint.save(state.to_dict(), path)
    return path.read_bytes()


def other_shape(place: Path) -> None:
    values = checkpoint.load(place / "run" / "checkpoints" / "latest.pt")
    values.pop("sha256")
    values["G"]["input.dense.weight"] = torch.zeros(3, 3)
    checkpoint.save(values, place / "shape.pt")


# what is wrong -> flags, and words that the line must have
BAD = {
    "a folder without pictures": (["--data", "{place}/texts"], "holds no pictures"),
    "an empty folder": (["--data", "{place}/empty"], "holds no pictures"),
    "a missing folder": (["--data", "{place}/nowhere"], "no such folder"),
    "a file that is no zip": (["--data", "{place}/file"], "neither a folder nor a zip"),
    "fewer pictures than a batch": (["--data", "{place}/few"], "4 pictures, fewer than a batch of 8"),
    "a zip with climbing paths": (["--data", "{place}/climbing.zip"], "not trusted"),
    "a decompression bomb": (["--data", "{place}/bomb", "--batch", "1"], "a.png"),
    "no seed for builtin": (["--data", "builtin:x"], "whole number"),
    "max-res below start-res": (["--start-res", "16", "--max-res", "8"], "--max-res 8 is below --start-res 16"),
    "a max-res that is no resolution": (["--max-res", "24"], "--max-res 24 is no resolution of --base 4x4"),
    "negative max-res": (["--max-res", "-8"], "is no resolution"),
    "a folder of something else": (["--out", "{place}/else"], "holds no run"),
    "an --out that is a file": (["--out", "{place}/file"], "is a file"),
    "a checkpoint cut short": (["--resume", "{place}/cut.pt"], "cut short"),
    "a checkpoint of other shape": (["--resume", "{place}/shape.pt"], "another shape"),
    "a missing checkpoint": (["--resume", "{place}/none.pt"], "there is no checkpoint"),
    "a checkpoint that is a picture": (["--resume", "{place}/few/0.png"], "no checkpoint"),
    "a checkpoint that is a folder": (["--resume", "{place}/run"], "is a folder"),
    "a flag misspelt": (["--bacth", "8"], "there is no flag --bacth; did you mean --batch?"),
    "a flag misspelt with underscores": (["--max_rse", "8"], "there is no flag --max_rse; did you mean --max-res?"),
    "a flag misspelt with its value": (["--bacth=8"], "did you mean --batch?"),
    "flags after a --": (["--", "--out", "x"], "flags after -- are not read: leave the -- out"),
    "a flag like no other": (["--qqqqq", "8"], "there is no flag --qqqqq; --help lists all flags"),
    "a word without a flag": (["pictures"], "'pictures' belongs to no flag"),
    "a choice that is none": (["--device", "tpu"], "'auto', 'cuda', 'mps', 'cpu'"),
    "a preset that is none": (["--preset", "huge"], "huge"),
    "a preset left out": (["--preset"], "--preset"),
    "a value left out": (["--lr"], "--lr"),
    "a number that is none": (["--latent", "many"], "--latent"),
    "drift with logistic": (["--drift", "0.1"], "--drift belongs to --loss wgan-gp"),
    "batch not a multiple of the group": (["--batch", "6"], "not a multiple of --stddev-group 4"),
    "warm-up with reset": (["--adam-at-growth", "reset"], "--warmup-kimg belongs to --adam-at-growth carry"),
    "a rate twice": (["--lr", "4:1,4:2"], "two values for one resolution"),
    "half a picture": (["--batch", "4.5"], "whole number"),
    "seed -1": (["--seed", "-1"], "--seed"),
    "lr nan": (["--lr", "nan"], "--lr"),
    "lr 0": (["--lr", "0"], "--lr"),
    "lr inf": (["--lr", "inf"], "--lr"),
    "batch 0": (["--batch", "0"], "--batch"),
    "fade-kimg -1": (["--fade-kimg", "-1"], "--fade-kimg"),
    "stable-kimg 0": (["--stable-kimg", "0"], "--stable-kimg"),
    "floor-kimg nan": (["--floor-kimg", "nan"], "--floor-kimg"),
    "floor-kimg inf": (["--floor-kimg", "inf"], "--floor-kimg"),
    "warmup-kimg nan": (["--warmup-kimg", "nan"], "--warmup-kimg"),
    "ema-rampup nan": (["--ema-rampup", "nan"], "--ema-rampup"),
    "save-minutes 0": (["--save-minutes", "0"], "--save-minutes"),
    "record-kimg 0": (["--record-kimg", "0"], "--record-kimg"),
    "sample-kimg inf": (["--sample-kimg", "inf"], "--sample-kimg"),
    "threads -1": (["--threads", "-1"], "--threads"),
    "builtin-images 0": (["--builtin-images", "0"], "--builtin-images"),
    "grid 0x3": (["--grid", "0x3"], "--grid 0x3"),
    "grid 3": (["--grid", "3"], "--grid 3"),
    "base 1x1": (["--base", "1x1"], "--base 1x1"),
    "latent 0": (["--latent", "0"], "--latent"),
    "beta2 1": (["--beta2", "1"], "--beta2"),
    **{
        f"an empty --{name}": ([f"--{name}", ""], f"--{name}")
        for name in ("data", "out", "lr", "base", "cache", "resume", "grid", "batch", "seed", "fade-kimg", "device")
    },
}


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_plain_line_and_nothing_is_written(name, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags, words = BAD[name]
    cache = place / "caches" / name.replace(" ", "-")  # the one thing that may be written
    shape = TINY if "--resume" not in flags else []
    argv = [*shape, "--cache", cache, "--out", tmp_path / "run", *(flag.format(place=place) for flag in flags)]
    before = [path for path in everything(place) if "caches" not in path.parts]
    with pytest.raises(UserError) as caught:
        train.main(list(map(str, argv)))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert everything(tmp_path) == []
    assert before == [path for path in everything(place) if "caches" not in path.parts]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_here_is_refused_before_anything_is_written(place, tmp_path, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    argv = [*TINY, "--cache", str(place / "cache"), "--out", str(tmp_path / "run"), "--device", device]
    with pytest.raises(UserError, match=f"--device {device} is not available"):
        train.main(argv)
    assert everything(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a missing folder", "a flag misspelt"])
def test_as_a_process_too_it_is_exit_2_and_one_line(name, place, tmp_path):
    flags, words = BAD[name]
    argv = [*TINY, "--cache", place / "cache", "--out", tmp_path / "run"]
    assert words in refused(*argv, *(flag.format(place=place) for flag in flags), cwd=tmp_path)
    assert everything(tmp_path) == []


# ---- exit codes


def ended(monkeypatch, capsys, main, *argv: object) -> tuple[int, str]:
    """Returns (exit code, stderr) of a command."""
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, argv)])
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    return end.value.code, capsys.readouterr().err


def raising(error: BaseException):
    def main(_):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("two\nlines  of it"), 2, "error: two lines of it\n"),
        (Diverged("beyond help"), 3, "error: beyond help\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (OSError(28, "No space left on device"), 2, "error: the disk is full (while writing): free some room"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: /x: Permission denied; see that"),
        (NotADirectoryError(20, "Not a directory", "/x/y"), 2, "error: /x/y: Not a directory; see that"),
    ],
)
def test_errors_become_exit_codes_and_one_line(monkeypatch, capsys, error, code, said):
    number, told = ended(monkeypatch, capsys, raising(error))
    assert number == code and told.startswith(said) and told.count("\n") == 1


def test_an_out_that_cannot_be_made_is_exit_2_and_one_line(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = [*TINY, "--cache", place / "cache", "--out", place / "file" / "run"]
    code, told = ended(monkeypatch, capsys, train.main, *argv)
    assert code == 2 and everything(tmp_path) == []
    assert told.count("error: ") == 1 and "file/run" in told.splitlines()[-1]


@pytest.mark.parametrize("error", [RuntimeError("a defect"), OSError("no file to blame"), ValueError("a defect")])
def test_a_defect_of_the_program_keeps_its_traceback(monkeypatch, error):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(type(error)):
        cli.run(raising(error))


@pytest.fixture
def started(monkeypatch) -> list[Config]:
    """The settings that training is started with."""
    got = []
    monkeypatch.setattr("pggan.run.loop.train", lambda config, clock: got.append(config) or Path())
    monkeypatch.setattr("pggan.run.loop.summary", lambda folder: "")
    return got


def test_the_command_without_any_flag_is_the_default_run(started):
    train.main([])
    assert started == [preset()]


def test_a_signal_becomes_128_plus_its_number(monkeypatch):
    def interrupted(*_):
        raise Interrupted(15, 1500)

    monkeypatch.setattr("pggan.run.loop.train", interrupted)
    with pytest.raises(SystemExit) as end:
        train.main([])
    assert end.value.code == 143


# ---- flags


def parsed(*argv: str) -> Config:
    return cli.parse(Config, list(argv), Config(), prog="train.py")


def test_both_spellings_of_a_flag_are_accepted():
    assert parsed("--max-res", "64").network.max_res == parsed("--max_res", "64").network.max_res == 64
    assert parsed("--max-res=64").network.max_res == 64


@pytest.mark.parametrize("name", PRESETS)
def test_flags_go_over_the_preset_which_is_named_either_way(name, started):
    train.main(["--preset", name])
    train.main([f"--preset={name}", "--batch", "12"])
    config = preset(name)
    assert started[0] == config
    assert started[1] == replace(config, training=replace(config.training, batch="12"))


def test_resume_takes_its_settings_from_the_checkpoint(place, started):
    train.main(["--resume", str(place / "run" / "checkpoints" / "latest.pt"), "--max-res", "8"])
    (config,) = started
    assert (config.network.latent, config.network.max_res, config.preset) == (8, 8, "smoke")
    assert config.run.out is None and config.data.cache is None


def test_a_run_of_an_older_version_is_refused_in_one_line_and_kept(tmp_path):
    old = to_dict(preset("smoke"))
    old["training"]["augment_control"] = old["training"].pop("ada")
    (tmp_path / "config.json").write_text(json.dumps({"config": old, "data": {"fingerprint": ""}}))
    (tmp_path / "checkpoints").mkdir()
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match=r"^.*another version.* setting augment_control, .*$") as caught:
        train.main([*TINY, "--out", str(tmp_path)])
    assert "\n" not in str(caught.value) and (tmp_path / "config.json").read_text() == before


def test_a_checkpoint_with_a_loss_of_another_version_is_refused_wherever_it_is_read(place, tmp_path):
    values = checkpoint.load(place / "run" / "checkpoints" / "latest.pt")
    values.pop("sha256")
    values["config"]["training"]["loss"] = "cubic"
    path = tmp_path / "checkpoints" / "latest.pt"
    checkpoint.save(values, path)
    new = ["--out", str(tmp_path / "new")]
    config = {"config": values["config"], "data": {"fingerprint": ""}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for main, argv in [
        (train.main, ["--resume", str(path), *new]),
        (train.main, [*TINY, "--out", str(tmp_path)]),
        (train.main, [*TINY, "--out", str(tmp_path), "--dry-run"]),
        (grow.main, [str(path)]),
        (sample.main, [str(path), *new]),
    ]:
        with pytest.raises(UserError, match=r"^this run was made by another version .*'cubic'.*logistic.*new run$"):
            main(argv)
    assert facts.read(tmp_path).config is None and Report(tmp_path).write().exists()


def test_where_the_output_is_ascii_the_line_is_as_plain(monkeypatch):
    messages = set()
    for encoding in ("utf-8", "ascii"):
        with open(os.devnull, "w", encoding=encoding) as nowhere, pytest.raises(UserError) as caught:
            monkeypatch.setattr(sys, "stdout", nowhere)
            parsed("--device", "tpu")
        messages.add(str(caught.value))
    (message,) = messages
    assert message.startswith("invalid choice 'tpu'") and message.endswith("; --help lists all flags")


def help_text(capsys, main) -> str:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert not end.value.code
    return squeezed(capsys.readouterr().out)


def squeezed(text: str) -> str:
    """Without frames and line breaks."""
    return re.sub(r"[\s│|╭╮╰╯─-]+", "", text)


def docstrings() -> dict[str, str]:
    """{field: its docstring} of every setting, read from the source."""
    text = "".join((ROOT / "pggan" / "config" / file).read_text() for file in ("network.py", "schema.py"))
    found = re.findall(r'^    (\w+): [^\n]+\n    """(.+?)"""', text, flags=re.MULTILINE | re.DOTALL)
    return {name: textwrap.dedent(words) for name, words in found}


def test_help_has_every_flag_with_its_docstring(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    page, words = help_text(capsys, train.main), docstrings()
    assert set(words) == set(flat(Config()))
    for name, text in words.items():
        assert squeezed("--" + name.replace("_", "-")) in page
        assert squeezed(text) in page, name


@pytest.mark.slow
def test_help_is_quick_to_come_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    for script in ("train.py", "tools/grow.py", "tools/sample.py"):
        code, page, err = finish("--help", script=script, PYTHONPATH=str(tmp_path))
        assert code == 0 and "usage" in page, err


def test_a_signal_before_training_is_one_plain_line_and_what_was_begun_is_cleaned_up(monkeypatch, capsys):
    handler, cleaned = signal.getsignal(signal.SIGTERM), []

    def main(_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            cleaned.append(True)

    try:
        assert ended(monkeypatch, capsys, main) == (143, "terminated\n") and cleaned
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_preset_and_resume_together_are_refused():
    with pytest.raises(UserError, match="exclude each other"):
        train.main(["--preset", "cpu", "--resume", "x.pt"])


@pytest.mark.slow
def test_a_reader_that_leaves_does_not_stop_the_training(tmp_path):
    process = start(*TINY, "--cache", tmp_path / "cache", "--out", tmp_path / "run")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=300) == 0
    assert (tmp_path / "run" / "checkpoints" / "res-0016.pt").exists()
    process.stderr.close()


@pytest.mark.parametrize(("old", "new"), cli.RENAMED.items())
def test_a_flag_of_an_older_version_is_refused_with_its_new_name(old, new):
    underscores, negated = "--" + old[2:].replace("-", "_"), f"--no-{old[2:]}"
    for words in ([old, "1"], [f"{old}=1"], [underscores, "1"]):
        with pytest.raises(UserError, match=f"{words[0].removesuffix('=1')} has been renamed: use {new}$"):
            cli.parse(Config, words)
    with pytest.raises(UserError, match=f"{negated} has been renamed: use --no-{new[2:]}$"):
        cli.parse(Config, [negated])
