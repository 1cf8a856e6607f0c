"""Signals that ask a run to stop: it ends the step under way, saves, and leaves."""

import signal

from pggan.system import STOP_SIGNALS


class Signals:
    """While entered, remembers the last of STOP_SIGNALS in `caught` (0: none) instead of dying of it."""

    def __enter__(self) -> "Signals":
        self.caught = 0
        self.before = {number: signal.signal(number, self._remember) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _frame: object) -> None:
        self.caught = number
