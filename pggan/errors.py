"""The errors that end a command early, with their exit codes; and how full disks and full memory are recognized."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something that the user can correct. The message is one line: what is wrong, and what to do. Exit code 2."""


def refuse_if(wrong: object, message: str) -> None:
    """Raises UserError(message) if `wrong` is true."""
    if wrong:
        raise UserError(message)


class OtherFormat(UserError):
    """A checkpoint of another version. It is intact: nothing may replace it."""


class Diverged(Exception):
    """Losses or weights are still not finite after all rollbacks that a run may make. Exit code 3."""


class NonFiniteError(Exception):
    """A loss or a weight is not a finite number. The message says which; the loop rolls back."""


class Interrupted(Exception):
    """A signal asked the run to end, and it has saved. number: of the signal; nimg: when. Exit code 128 + number."""

    def __init__(self, number: int, nimg: int):
        super().__init__(f"signal {number} at image {nimg}")
        self.number, self.nimg = number, nimg


def plain(text: object) -> str:
    """`text` on one line that any terminal can print. A file's name may hold any bytes, escape sequences included."""
    line = " ".join(str(text).encode(errors="replace").decode().split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 120 characters; its type if it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def disk_full(error: BaseException) -> bool:
    """Whether the disk, or the user's quota on it, is full. torch's writer gives no error number, only words."""
    words = ("No space", "inline_container")
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(word in str(error) for word in words)


def out_of_memory(error: BaseException) -> bool:
    """Whether the memory of the GPU or of the machine ran out. Most libraries say so in words only."""
    said = str(error).lower()
    words = ("out of memory", "alloc_failed", "allocate memory", "not enough memory")
    words += ("could not create a primitive", "could not create a memory object")  # oneDNN
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in said for word in words))


@contextmanager
def explaining_full_memory(advice: str) -> Iterator[None]:
    """Raises UserError, with `advice` and the first line of the error, if memory runs out in its body."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"{advice} ({first_line(error)})") from error
