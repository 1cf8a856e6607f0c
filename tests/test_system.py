"""The project starts on systems without POSIX; a lock keeps a second process out; peak memory is in bytes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from runs import ROOT

from pggan import system
from pggan.errors import UserError

# Hides POSIX from the project's own files. Other libraries keep it: they look at sys.platform, which is still Linux.
HIDE_POSIX = """
import builtins, signal, sys
root, load = {root!r}, builtins.__import__
POSIX_ONLY = {{"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix"}}

def without_posix(name, globals=None, *rest):
    importer = (globals or {{}}).get("__file__") or ""
    if importer.startswith(root) and "site-packages" not in importer and name.split(".")[0] in POSIX_ONLY:
        raise ImportError(f"{{importer}} imports {{name}}")
    return load(name, globals, *rest)

builtins.__import__ = without_posix
for name in ("SIGHUP", "SIGKILL", "SIGPIPE", "SIGALRM", "SIGUSR1"):
    delattr(signal, name)
sys.path[:0] = [root, root + "/tools"]
"""
HIDE_POSIX = HIDE_POSIX.format(root=str(ROOT))


def run(code: str, *argv: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, timeout=300)


def sources() -> list[Path]:
    return [ROOT / "train.py", *(ROOT / "pggan").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]


def test_every_module_imports_without_posix():
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in sources()]
    names = [name.removeprefix("tools.") for name in names]
    code = f"{HIDE_POSIX}\nimport importlib\nfor name in {sorted(names)}: importlib.import_module(name)"
    code += "\nfrom pggan import system\nassert system.resource is None and system.peak_memory() > 2**20"
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_only_one_module_makes_calls_of_posix():
    calls = r"import (fcntl|resource|pwd|grp|termios)|\bsignal\.(SIGHUP|SIGKILL|SIGPIPE|SIGALRM|SIGUSR|alarm|setitimer)"
    calls += r"|\bos\.(nice|fork|sched_|kill|setsid|getuid|geteuid|sysconf|getloadavg|sync\b|mkfifo|uname)|/proc/"
    users = {path.name for path in sources() if re.search(calls, path.read_text())}
    assert users == {"system.py"}


def test_help_works_without_posix():
    done = run(f"{HIDE_POSIX}\nimport runpy\nrunpy.run_path('train.py', run_name='__main__')", "--help")
    assert done.returncode == 0 and "--data" in done.stdout, done.stderr


def test_only_one_process_holds_a_lock_and_a_killed_one_leaves_none(tmp_path):
    code = "import sys, time, pathlib; from pggan import system\n"
    code += "lock = system.lock(pathlib.Path(sys.argv[1]), ''); print('held', flush=True); time.sleep(600)"
    path = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(UserError, match="somebody is here"):
                system.lock(path, "somebody is here")
        finally:
            holder.kill()
    lock = system.lock(path, "somebody is here")
    with pytest.raises(UserError):
        system.lock(path, "this very process holds it")
    lock.release()
    system.lock(path, "it was released").release()


def test_a_drive_without_locks_is_named_and_used(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(system.FileLock, "acquire", refuse)
    assert system.lock(tmp_path / ".lock", "") is None
    assert capsys.readouterr().out == (
        f"{tmp_path} cannot be locked (No locks available): start no second process there\n"
    )


def test_signals_that_ask_a_program_to_end():
    assert system.STOP_SIGNALS == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_a_signal_that_is_ignored_at_the_start_stays_ignored():
    """As under nohup, or in the background of a script."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with system.Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.caught == 0
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.caught == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_peak_memory_is_in_bytes():
    assert psutil.Process().memory_info().rss <= system.peak_memory() * 1.01 < psutil.virtual_memory().total


def test_usable_cores_follows_the_affinity_of_the_process():
    assert 1 <= system.usable_cores() <= os.cpu_count()
    assert system.usable_cores() == len(psutil.Process().cpu_affinity())


def test_flushing_changes_nothing_in_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"some bytes")
    system.flush_to_disk(path)
    assert path.read_bytes() == b"some bytes"


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_a_folder_that_cannot_be_written_is_not_called_one_without_locks(tmp_path, monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(system.FileLock, "acquire", refuse)
    with pytest.raises(UserError, match="cannot be written"):
        system.lock(tmp_path / ".lock", "another process")
