"""The clock of a run."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Timer:
    """Measures how long a run has taken, and how long each kind of work in it takes.

    clock: seconds since this process began (tests bring their own). earlier: seconds that earlier processes of the run
    took. startup: seconds from the start of the process to the call of `train`.
    """

    def __init__(self, clock: Callable[[], float], earlier: float = 0.0, startup: float = 0.0):
        self.clock, self.earlier, self.startup = clock, earlier, startup
        self.made = clock()
        self.marks: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.sums: dict[str, float] = defaultdict(float)

    def total(self) -> float:
        """Seconds since the start of the run, over all its processes."""
        return self.earlier + self.clock()

    @contextmanager
    def measure(self, work: str) -> Iterator[None]:
        """Measures its body: `last[work]` is the time that it took, `sums[work]` grows by it."""
        start = self.clock()
        yield
        self.last[work] = self.clock() - start
        self.sums[work] += self.last[work]

    def share(self, *work: str) -> float:
        """The share of this process's time that all work of these kinds took."""
        return sum(self.sums[each] for each in work) / max(self.clock() - self.made, 1e-9)

    def since(self, mark: str) -> float:
        """Seconds since `restart(mark)`, or since this timer was made."""
        return self.clock() - self.marks.get(mark, self.made)

    def restart(self, mark: str) -> float:
        """Starts counting from now on; returns the seconds counted until now."""
        seconds = self.since(mark)
        self.marks[mark] = self.clock()
        return seconds
