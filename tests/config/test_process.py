"""Commands as processes: closed standard files, ignored signals, and what a terminal is shown."""

import subprocess
import sys

import pytest
from runs import ROOT

BEGIN = "import os, signal, sys\nfrom pggan.config import cli\nfrom pggan.errors import UserError\n"


def finished(code: str, closed: str = "", before: str = "") -> subprocess.CompletedProcess:
    """A process that runs `code`, with some standard files closed by the shell. before: a command of the shell."""
    command = f"{before}exec '{sys.executable}' -c '{BEGIN}{code}' {closed}"
    return subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)


WRITES = """
def main(argv):
    sys.stdin.read()
    with open(os.environ["PGGAN_FILE"], "w") as file:
        print("out")
        print("err", file=sys.stderr)
        os.system("echo child >&2")
        file.write("mine")
cli.run(main)
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_file_changes_nothing(tmp_path, monkeypatch, closed):
    monkeypatch.setenv("PGGAN_FILE", str(tmp_path / "file"))
    done = finished(WRITES, closed if "<" in closed else f"{closed} </dev/null")
    assert done.returncode == 0 and (tmp_path / "file").read_text() == "mine"
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "out\n")


def test_sigterm_ignored_by_the_parent_stays_ignored():
    code = "cli.run(lambda _: (os.kill(os.getpid(), signal.SIGTERM), print(1)))"
    ignoring = finished(code, before="trap '' TERM; ")
    assert (ignoring.returncode, ignoring.stdout) == (0, "1\n")
    heard = finished(code)
    assert (heard.returncode, heard.stdout) == (143, "") and heard.stderr == "terminated\n"


def test_an_error_shows_no_escape_sequence():
    done = finished('def main(_): raise UserError("no \\x1b[31mred\\x1b]0;title\\x07 file")\ncli.run(main)')
    assert (done.returncode, done.stderr) == (2, "error: no ?[31mred?]0;title? file\n")


@pytest.mark.parametrize("tool", ["sample", "fid", "diversity", "grow", "film", "export", "kinds", "report", "bench"])
def test_a_tool_may_be_started_as_a_module(tool):
    started = [sys.executable, "-m", f"tools.{tool}", "--help"]
    done = subprocess.run(started, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "usage" in done.stdout
