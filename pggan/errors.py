"""The three ways a run ends early, and the exit codes they become; and what all files fail of in the same way."""

import errno


class UserError(Exception):
    """Something the user can mend. The message is one plain line: what is wrong, what to do. Exit code 2."""


class Diverged(Exception):
    """The numbers are beyond help after all the rollbacks a run is allowed. Exit code 3."""


class NonFiniteError(Exception):
    """A loss or a weight is not a finite number. The message says which; the loop rolls back."""


class Interrupted(Exception):
    """A signal asked the run to leave, and it has saved. number: the signal's; nimg: where it left. Exit 128 + n."""

    def __init__(self, number: int, nimg: int):
        super().__init__(f"signal {number} at image {nimg}")
        self.number, self.nimg = number, nimg


def disk_full(error: BaseException) -> bool:
    """Whether there was no room: on the disk, or in the user's share of it. torch's writer hides the number."""
    words = ("No space", "inline_container")
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(word in str(error) for word in words)


def out_of_memory(error: BaseException) -> bool:
    """Of the device or of the machine; torch and the libraries below it tell most of that in words only."""
    said = str(error).lower()
    words = ("out of memory", "alloc_failed", "allocate memory", "not enough memory")
    words += ("could not create a primitive", "could not create a memory object")  # oneDNN
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in said for word in words))
