"""The work of packing, spread over processes: each reads some pictures and writes their rows to the levels' files.

The processes are started afresh, so that it is safe after torch has been imported, and import no torch themselves.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pggan import system
from pggan.data.reading import Unreadable
from pggan.data.sources import Source
from pggan.errors import UserError

CHUNK = 8  # pictures handed to a process at a time
FEW = 64  # pictures that are read sooner than a process starts
LINE_SECONDS = 20  # between two lines of progress where there is no terminal

# (row, the reason why the image cannot be read or None, for each resolution: was it enlarged)
ReadResult = tuple[int, str | None, list[bool]]


@dataclass(frozen=True)
class Target:
    """A level's file: rows uint8 [height, width, 3], the first at byte `offset`."""

    path: Path
    offset: int
    width: int
    height: int


@dataclass(frozen=True)
class Job:
    """What all the pictures have in common."""

    source: Source
    fit: str
    targets: list[Target]


def run(job: Job, rows: list[tuple[int, int]], workers: int | None, progress: bool) -> list[ReadResult]:
    """Does the job for each (row, number of the picture), in any order; returns the readings by row.

    Raises UserError for a decompression bomb or a process that died, OSError when a file cannot be written.
    """
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    workers = min(workers or system.usable_cores(), system.MAX_PROCESSES, len(chunks))
    few = len(rows) < FEW or workers == 1
    done = (_do(job, chunk) for chunk in chunks) if few else _in_processes(job, chunks, workers)
    with closing(done):  # an interrupt ends the processes now, not when the traceback is forgotten
        return sorted(reading for readings in _shown(done, len(rows), progress) for reading in readings)


def _do(job: Job, chunk: list[tuple[int, int]]) -> list[ReadResult]:
    """Reads the pictures of a chunk, whose rows follow each other, and writes them; an unreadable one is black."""
    sizes = [(target.width, target.height) for target in job.targets]
    blocks = [np.zeros((len(chunk), target.height, target.width, 3), np.uint8) for target in job.targets]
    readings: list[ReadResult] = []
    for place, (row, number) in enumerate(chunk):
        try:
            fitted = job.source.pyramid(number, sizes, job.fit)
        except Unreadable as error:
            readings.append((row, str(error), []))
            continue
        for block, (pixels, _) in zip(blocks, fitted, strict=True):
            block[place] = pixels
        readings.append((row, None, [enlarged for _, enlarged in fitted]))
    for target, block in zip(job.targets, blocks, strict=True):
        with target.path.open("r+b") as file:
            file.seek(target.offset + chunk[0][0] * block[0].nbytes)
            file.write(block)  # a full disk is an OSError here; through a memory map it would kill the process
    return readings


def _in_processes(job: Job, chunks: list, workers: int) -> Iterator[list[ReadResult]]:
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start, initargs=(job,))
    try:
        with _no_main():
            futures = [pool.submit(_do_mine, chunk) for chunk in chunks]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise UserError("a process that reads pictures died, perhaps for want of memory: free some and retry") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_job: Job  # in a worker process: its job, which travels once


def _start(job: Job) -> None:
    """In a new worker: Ctrl-C is the parent's to handle; and when the parent is killed, leave too."""
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _do_mine(chunk: list[tuple[int, int]]) -> list[ReadResult]:
    return _do(_job, chunk)


@contextmanager
def _no_main() -> Iterator[None]:
    """Processes started within do not import the program's main file again, with torch and seconds of waiting."""
    main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _shown(done: Iterator[list[ReadResult]], total: int, progress: bool) -> Iterator[list[ReadResult]]:
    """Passes chunks on, with a bar on a terminal, or else a line now and then."""
    terminal = sys.stderr.isatty()
    count, spoken = 0, time.monotonic()
    with tqdm(total=total, desc="packing", unit=" pictures", disable=not (progress and terminal)) as bar:
        for readings in done:
            yield readings
            count += len(readings)
            bar.update(len(readings))
            if progress and not terminal and time.monotonic() - spoken > LINE_SECONDS:
                spoken = time.monotonic()
                print(f"packing: {count:,} of {total:,} pictures", file=sys.stderr, flush=True)
