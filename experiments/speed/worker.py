#!/usr/bin/env python3
"""One side in a process of its own, which trains when asked and sleeps otherwise.

`python worker.py '{"side": "pggan", "res": 64}'` reads requests and writes answers, one line of JSON each. It first
writes {"seconds_to_start"}. It answers {"measure": SECONDS} with {"images", "seconds", ...}, and {"work": true} with
the counts of sides.work().
"""

import contextlib
import json
import os
import subprocess
import sys
import time

import environment  # noqa: F401

WARM_CYCLES, WARM_SECONDS = 2, 10  # warm-up after the first cycle: whichever limit is reached first


class SideFailed(Exception):
    """The process of a side ended, or reported an error. The message names the side and the error."""


def main() -> None:
    answers, sys.stdout = os.fdopen(os.dup(1), "w", buffering=1), open(os.devnull, "w")  # noqa: SIM115
    began = time.perf_counter()
    import torch
    from case import OURS, Case
    from peers import MissingPeer
    from sides import open_side, work

    case = Case(**json.loads(sys.argv[1]))
    if case.threads:
        torch.set_num_threads(case.threads)
    if case.device == "cuda" and case.side != OURS:
        torch.backends.cudnn.benchmark = True  # no peer sets it, and each peer shall be measured at its best
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
        request = json.loads(line)
        if "work" in request:
            print(json.dumps(work(case)), file=answers)
            continue
        cycles = max(1, round(request["measure"] / estimate))
        if case.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = timed(side, cycles)
        estimate = seconds / cycles
        answer = {"images": cycles * side.cycle * case.batch, "seconds": seconds}
        if case.device == "cuda":
            answer["peak_bytes"] = torch.cuda.max_memory_allocated()
        print(json.dumps(answer), file=answers)


def timed(side, cycles: int) -> float:
    """Seconds of `cycles` cycles of steps, including the wait for the GPU."""
    start = time.perf_counter()
    for _ in range(cycles * side.cycle):
        side.step()
    finish(side.case.device)
    return time.perf_counter() - start


def finish(device: str) -> None:
    """Waits until a GPU has finished its work; returns at once on a CPU."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


class Worker:
    """Starts such a process and talks to it. A context manager. Raises SideFailed."""

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
        """Trains for about `seconds`. Returns {images, seconds}, and peak_bytes on a GPU."""
        return self._ask({"measure": seconds})

    def work(self) -> dict[str, float]:
        return self._ask({"work": True})

    def _ask(self, request: dict) -> dict:
        with contextlib.suppress(BrokenPipeError):  # the process has ended; _answer() will notice
            print(json.dumps(request), file=self.process.stdin, flush=True)
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
            self.process.kill()
        self.process.communicate()  # closes its stdin, which ends it


if __name__ == "__main__":
    main()
