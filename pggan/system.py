"""Locks, signals, memory, cores and file replacement, in a way that works on Linux, macOS and Windows.

No other module of the project uses a call that only some of these systems have.
"""

import errno
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from pggan.errors import UserError

try:
    import resource
except ImportError:  # Windows
    resource = None

# Signals that ask a program to end. SIGHUP: its terminal was closed; Windows has none.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SIGPIPE = getattr(signal, "SIGPIPE", 13)  # the number in the exit code, also where the signal does not exist
MAX_PROCESSES = 61  # Windows cannot wait for more


def lock(path: Path, held: str) -> FileLock | None:
    """Locks the file `path` until `release()` is called or this process ends, however it ends.

    None, after a warning on stdout, on a drive without locks (some network drives).
    Raises UserError with the message `held` when another process holds the lock, and if the folder cannot be written.
    """
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(held) from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
            raise UserError(f"{path.parent} cannot be written ({reason}): name another folder") from None
        print(f"{path.parent} cannot be locked ({reason}): start no second process there", flush=True)
        return None
    return lock


class Signals:
    """While entered, remembers the last of STOP_SIGNALS in `caught` (0: none) instead of dying of it.

    A signal that is ignored stays ignored: so `nohup` goes on when its terminal is closed.
    """

    def __enter__(self) -> "Signals":
        self.caught = 0
        heard = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        self.before = {number: signal.signal(number, self._remember) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _frame: object) -> None:
        self.caught = number


@contextmanager
def ignored_by_children() -> Iterator[None]:
    """Processes that are started meanwhile ignore STOP_SIGNALS: Ctrl-C goes to all processes of a terminal.

    Windows does not pass this on.
    """
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def peak_memory() -> int:
    """The most main memory that this process has used so far, in bytes."""
    if resource is None:
        memory = psutil.Process().memory_info()
        return getattr(memory, "peak_wset", memory.rss)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def usable_cores() -> int:
    """How many cores this process may use; macOS does not limit them per process."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1


@contextmanager
def replacing(path: Path, unique: bool = False) -> Iterator[Path]:
    """Gives a temporary path in the same folder, whose file replaces `path` at the end; after an error it is removed.

    So `path` is always a complete file. unique: for files that several processes may write at the same time.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp" if unique else f"{path.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # the error that came before says more
            temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Waits until the disk holds what was written to the file `path`, so that a power cut does not lose it."""
    with path.open("r+b") as file:  # Windows flushes only files that are open for writing
        os.fsync(file.fileno())
