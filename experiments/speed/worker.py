#!/usr/bin/env python3
"""One side in a process of its own: it trains when asked to, and is asleep else.

`python worker.py '{"side": "pggan", "res": 64}'` answers lines of JSON on stdin with lines of JSON on stdout: first
{"seconds_to_start"}, then {"images", "seconds", ...} for {"measure": SECONDS}, and what sides.work() counts for
{"work": true}.
"""

import contextlib
import json
import os
import subprocess
import sys
import time

import environment  # noqa: F401

WARM_CYCLES, WARM_SECONDS = 2, 10  # after the first cycle, whichever comes first


class SideFailed(Exception):
    """A side's process ended, or said what is wrong. The message says which and what."""


def main() -> None:
    answers, sys.stdout = os.fdopen(os.dup(1), "w", buffering=1), open(os.devnull, "w")  # noqa: SIM115
    began = time.perf_counter()
    import torch
    from peers import MissingPeer
    from sides import Case, open_side, work

    case = Case(**json.loads(sys.argv[1]))
    if case.threads:
        torch.set_num_threads(case.threads)
    if case.device == "cuda" and case.side != "pggan":
        torch.backends.cudnn.benchmark = True  # no peer sets it; it is to have its best
    torch.manual_seed(0)
    try:
        side = open_side(case)
    except MissingPeer as error:
        print(json.dumps({"missing": str(error)}), file=answers)
        return
    timed(side, 1)
    warm = time.perf_counter()
    for _ in range(WARM_CYCLES):
        if time.perf_counter() - warm < WARM_SECONDS:
            estimate = timed(side, 1)
    print(json.dumps({"seconds_to_start": time.perf_counter() - began}), file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        if "work" in asked:
            print(json.dumps(work(case)), file=answers)
            continue
        cycles = max(1, round(asked["measure"] / estimate))
        if case.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = timed(side, cycles)
        estimate = seconds / cycles
        answer = {"images": cycles * side.cycle * case.batch, "seconds": seconds}
        if case.device == "cuda":
            answer["peak_bytes"] = torch.cuda.max_memory_allocated()
        print(json.dumps(answer), file=answers)


def timed(side, cycles: int) -> float:
    """Seconds of so many whole cycles of steps, the GPU's work included."""
    start = time.perf_counter()
    for _ in range(cycles * side.cycle):
        side.step()
    finish(side.case.device)
    return time.perf_counter() - start


def finish(device: str) -> None:
    """Waits for what a GPU has still to do."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


class Worker:
    """The other end: such a process, from the process that compares. A context manager; raises SideFailed."""

    def __init__(self, case):
        self.case = case
        command = [sys.executable, __file__, json.dumps(vars(case))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.seconds_to_start = self._answer()["seconds_to_start"]
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def measure(self, seconds: float) -> dict[str, float]:
        """{images, seconds, and peak_bytes on a GPU} of about so many seconds of training."""
        return self._ask({"measure": seconds})

    def work(self) -> dict[str, float]:
        return self._ask({"work": True})

    def _ask(self, what: dict) -> dict:
        with contextlib.suppress(BrokenPipeError):  # it has ended: the missing answer says so
            print(json.dumps(what), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        name = f"{self.case.side} at {self.case.res} px ({self.case.variant()})"
        if not line:
            raise SideFailed(f"{name} ended with {self.process.wait()}: see above")
        answer = json.loads(line)
        if "missing" in answer:
            raise SideFailed(f"{name}: {answer['missing']}")
        return answer

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.process.kill()  # whatever it is at
        self.process.communicate()  # nothing more: it ends


if __name__ == "__main__":
    main()
