"""The line that tells how far a run is."""

import io
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pggan.run import progress
from pggan.run.devices import peak_memory
from pggan.run.progress import ProgressBar, duration


@pytest.fixture
def plain(monkeypatch):
    """The time in seconds, to be changed by the test; no terminal anywhere."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    return clock


def show(bar: ProgressBar, nimg: int = 1500) -> None:
    bar.show(64, nimg, alpha=0.25, images_per_s=123.4, memory=3 * 2**29, seconds_left=7500, done=nimg)


def test_a_line_tells_resolution_alpha_kimg_speed_memory_and_time_left(plain, capsys):
    bar = ProgressBar(10_000, 0)
    show(bar)
    bar.close()
    told = capsys.readouterr()
    for part in ("64 px", "alpha 0.25", "1.50 kimg", "123.4 img/s", "1.50 GiB", "about 2h05m left"):
        assert part in told.out
    assert told.out.count("\n") == 1 and "\r" not in told.out and told.err == ""


def test_without_a_terminal_lines_are_seconds_apart(plain, capsys):
    bar = ProgressBar(10_000, 0)
    for seconds in (0, 1, progress.SECONDS_BETWEEN_LINES - 1, progress.SECONDS_BETWEEN_LINES + 1):
        plain.now = 100.0 + seconds
        show(bar, nimg=1000 * (seconds + 1))
    lines = capsys.readouterr().out.splitlines()
    assert [re.search(r"([\d.]+) kimg", line)[1] for line in lines] == ["1.00", f"{seconds + 1}.00"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch) -> Terminal:
    """Called in the test itself: pytest puts its own stderr in place before each."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_on_a_terminal_it_is_one_bar_that_goes_on_where_the_run_does(monkeypatch, capsys):
    terminal = on_a_terminal(monkeypatch)
    bar = ProgressBar(10_000, 2500)
    show(bar, nimg=5000)
    show(bar, nimg=7500)
    bar.close()
    drawn = terminal.getvalue()
    assert "50%" in drawn and "75%" in drawn and "5.00 kimg" in drawn
    assert drawn.count("\n") == 1 and capsys.readouterr().out == ""


def test_a_bar_never_passes_its_end_and_comes_back_after_a_rollback(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    bar = ProgressBar(10_000, 0)
    for nimg in (10_008, 4000):
        show(bar, nimg)
    bar.close()
    assert "100%" in terminal.getvalue() and "40%" in terminal.getvalue() and "101%" not in terminal.getvalue()


def test_a_printed_line_is_a_line_of_its_own(plain, capsys):
    bar = ProgressBar(10, 0)
    bar.print_line("saved")
    bar.close()
    assert capsys.readouterr().out == "saved\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0s"), (0.4, "0s"), (59.4, "59s"), (59.6, "1m00s"), (200, "3m20s"), (3599.4, "59m59s")),
        *((3599.6, "1h00m"), (3600, "1h00m"), (7500, "2h05m"), (360_000, "100h00m")),
    ],
)
def test_durations_are_rounded_before_they_are_split(seconds, text):
    assert duration(seconds) == text


@given(seconds=st.floats(0, 1e15))
def test_no_duration_shows_sixty(seconds):
    assert not re.search(r"(?<!\d)60[ms]", duration(seconds))


def test_peak_memory_is_in_bytes_and_never_falls():
    before = peak_memory(torch.device("cpu"))
    held = torch.ones(2**24)  # 64 MiB
    after = peak_memory(torch.device("cpu"))
    assert held.sum() == 2**24 and 2**26 < before <= after < 2**42
