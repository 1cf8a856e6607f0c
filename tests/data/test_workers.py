"""Packing in several processes, and its progress."""

import io
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from image_files import SIZES, packed, save, spoil
from PIL import Image
from runs import ROOT

from pggan.data import workers
from pggan.errors import UserError


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """More images than are read without other processes; one is damaged."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(workers.FEW + 10):
        save(folder / f"{number:03d}.png", number)
    spoil(folder / "033.png")
    return folder


def test_processes_pack_what_one_process_packs(many, tmp_path, decodes):
    parallel = packed(many, cache=tmp_path / "a", num_workers=2)
    assert decodes == []  # all of it was done elsewhere
    alone = packed(many, cache=tmp_path / "b", num_workers=1)
    assert parallel.names == alone.names and parallel.unreadable == alone.unreadable and len(alone) == workers.FEW + 9
    for res, _, _ in SIZES:
        assert np.array_equal(parallel.images(res), alone.images(res))


def test_processes_import_neither_torch_nor_the_program(many, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\nassert __name__ == '__main__', 'imported by a worker'\n"
        "from pggan.data import packing, sources\n"
        f"packing.pack(sources.open_source({str(many)!r}, 0, {str(tmp_path)!r}), [(8, 8, 8)], num_workers=2)\n"
        "assert 'torch' not in sys.modules"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and done.stderr.startswith("packed 73 pictures at 8 px in "), done.stderr


def test_a_bomb_met_by_another_process_is_one_plain_line(many, tmp_path):
    shutil.copytree(many, tmp_path / "data")
    Image.new("1", (14_000, 13_000)).save(tmp_path / "data" / "bomb.png")
    with pytest.raises(UserError, match=r"bomb\.png would unpack"):
        packed(tmp_path / "data", num_workers=2)


def test_a_process_that_dies_is_one_plain_line(many, tmp_path, monkeypatch):
    class Dying:
        def __init__(self, *_, **__):
            pass

        def submit(self, *_):
            future = Future()
            future.set_exception(BrokenProcessPool())
            return future

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Dying)
    with pytest.raises(UserError, match="a process that reads pictures died"):
        packed(many, cache=tmp_path, num_workers=2)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BlockingIOError(11, "Resource temporarily unavailable"), "Resource temporarily unavailable"),
        (BrokenPipeError(32, "Broken pipe"), "a new one ended at once"),
    ],
)
def test_processes_that_cannot_be_started_are_one_plain_line_and_none_is_left(
    many, tmp_path, monkeypatch, error, reason
):
    kind, started = multiprocessing.get_context("spawn").Process, []
    original = kind.start

    def start_one_only(process):
        if started:
            raise error
        original(process)
        started.append(process)

    monkeypatch.setattr(kind, "start", start_one_only)
    with pytest.raises(UserError, match=f"^the processes that read pictures cannot be started: {reason}; "):
        packed(many, cache=tmp_path, num_workers=2)
    assert len(started) == 1 and started[0] not in multiprocessing.active_children()


def test_progress_is_a_bar_on_a_terminal_and_plain_lines_elsewhere(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(workers, "LINE_SECONDS", -1)
    packed(folder, cache=tmp_path / "a", progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "packing: 8 of 12 pictures" and lines[-1].startswith("packed 12 pictures at 8, 16 px in ")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    packed(folder, cache=tmp_path / "b", progress=True)
    assert "12/12" in sys.stderr.getvalue()
    packed(folder, cache=tmp_path / "c", progress=False)
    assert capsys.readouterr().err == ""
