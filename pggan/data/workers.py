"""Packing in several processes: each reads some images and writes their rows to the files of all resolutions.

The processes are spawned, which is safe after torch was imported and works on every system. They do not import torch.
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
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pggan import system
from pggan.data.cache_files import PartialFile
from pggan.data.reading import Unreadable
from pggan.data.sources import Source
from pggan.errors import UserError

CHUNK = 8  # images handed to a process at a time
FEW = 64  # fewer images are read faster than a process starts
LINE_SECONDS = 20  # between two lines of progress where there is no terminal


class ReadResult(NamedTuple):
    """error: the reason why the image cannot be read, or None. enlarged: at each resolution, whether it was.
    brightest: of all its pixels, 0 to 255."""

    row: int
    error: str | None
    enlarged: list[bool]
    brightest: int


@dataclass(frozen=True)
class Job:
    """What is the same for all images: where to read, how to fit, and a file for each resolution."""

    source: Source
    fit: str
    files: list[PartialFile]


def run(job: Job, rows: list[tuple[int, int]], num_workers: int | None, progress: bool) -> list[ReadResult]:
    """Reads and writes the image of each (row, number of the image). Returns the results by row.

    Raises UserError for a decompression bomb and when a process dies, OSError when a file cannot be written.
    """
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    count = min(num_workers or system.usable_cores(), system.MAX_PROCESSES, len(chunks))
    alone = len(rows) < FEW or count == 1
    done = (_do(job, chunk) for chunk in chunks) if alone else _in_processes(job, chunks, count)
    with closing(done):  # after Ctrl-C, the processes end now
        return sorted(result for results in _shown(done, len(rows), progress) for result in results)


def _do(job: Job, chunk: list[tuple[int, int]]) -> list[ReadResult]:
    """Reads the images of a chunk and writes their rows, which are consecutive. An unreadable image is black."""
    sizes = [(file.width, file.height) for file in job.files]
    blocks = [np.zeros((len(chunk), height, width, 3), np.uint8) for width, height in sizes]
    results = []
    for place, (row, number) in enumerate(chunk):
        try:
            fitted = job.source.pyramid(number, sizes, job.fit)
        except Unreadable as error:
            results.append(ReadResult(row, str(error), [], 0))
            continue
        for block, (pixels, _) in zip(blocks, fitted, strict=True):
            block[place] = pixels
        brightest = max(int(pixels.max()) for pixels, _ in fitted)
        results.append(ReadResult(row, None, [enlarged for _, enlarged in fitted], brightest))
    for file, block in zip(job.files, blocks, strict=True):
        with file.path.open("r+b") as opened:
            opened.seek(file.offset + chunk[0][0] * block[0].nbytes)
            opened.write(block)  # not through a memory map: there a full disk would kill the process
    return results


def _in_processes(job: Job, chunks: list, count: int) -> Iterator[list[ReadResult]]:
    spawn = multiprocessing.get_context("spawn")
    with _starting():
        pool = ProcessPoolExecutor(count, mp_context=spawn, initializer=_start, initargs=(job,))
    try:
        with _starting():
            futures = [pool.submit(_do_mine, chunk) for chunk in chunks]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        died = "a process that reads pictures died, or could not be started"
        raise UserError(f"{died}, perhaps for lack of memory: free some and retry") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_job: Job  # of this worker process; it is sent once


def _start(job: Job) -> None:
    """In a new worker: leaves Ctrl-C to the parent, and ends when the parent is killed."""
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _do_mine(chunk: list[tuple[int, int]]) -> list[ReadResult]:
    return _do(_job, chunk)


@contextmanager
def _starting() -> Iterator[None]:
    """Processes started within do not import the program's main file, which would import torch and take seconds.

    Raises UserError when they cannot be started.
    """
    main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    try:
        yield
    except OSError as error:
        at_once = isinstance(error, BrokenPipeError) or not error.strerror
        reason = "a new one ended at once" if at_once else error.strerror
        advice = "free some memory, or allow more processes"
        raise UserError(f"the processes that read pictures cannot be started: {reason}; {advice}") from None
    finally:
        sys.modules["__main__"] = main


def _shown(done: Iterator[list[ReadResult]], total: int, progress: bool) -> Iterator[list[ReadResult]]:
    """Passes the results on and shows progress: a bar on a terminal, a line now and then elsewhere."""
    terminal = sys.stderr.isatty()
    printed = time.monotonic()
    with tqdm(total=total, desc="packing", unit=" pictures", disable=not (progress and terminal)) as bar:
        count = 0
        for results in done:
            yield results
            count += len(results)
            bar.update(len(results))
            if progress and not terminal and time.monotonic() - printed > LINE_SECONDS:
                printed = time.monotonic()
                print(f"packing: {count:,} of {total:,} pictures", file=sys.stderr, flush=True)
