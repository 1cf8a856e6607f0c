"""Figures beside their limits, and functions timed in turns."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """Values in `unit`. Their median should be at most `limit`, or at least that; None: no limit."""

    name: str
    unit: str
    limit: float | None
    values: list[float]
    at_least: bool = False

    @property
    def median(self) -> float:
        return sorted(self.values)[len(self.values) // 2]

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        reached = self.median >= self.limit if self.at_least else self.median <= self.limit
        return "ok" if reached else "UNDER" if self.at_least else "OVER"

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"limit {self.limit:<5g} {self.verdict:<5}"
        spread = f"{min(self.values):.3g} to {max(self.values):.3g}, n {len(self.values)}"
        return f"{self.name:<52} {self.median:9.3g} {self.unit:<8} {limit:<17} ({spread})"


def as_dict(figures: list[Figure]) -> dict[str, object]:
    """The figures for JSON, with facts about the machine."""
    facts = {"python": platform.python_version(), "machine": platform.processor() or platform.machine()}
    return {**facts, "figures": [{**vars(figure), "median": figure.median} for figure in figures]}


def in_turns(repeat: int, *functions: Callable[[], object]) -> list[tuple[float, ...]]:
    """Seconds of each function, called in turns `repeat` times, after one call of each to warm up."""
    for function in functions:
        function()
    return [tuple(clocked(function) for function in functions) for _ in range(repeat)]


def clocked(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
