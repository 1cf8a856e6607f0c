"""Work done in threads slightly ahead of its use, with a progress bar."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from tqdm import tqdm

THREADS = min(8, os.cpu_count() or 1)
AHEAD = 4 * THREADS  # results prepared before they are asked for


def ahead(work: Callable, items: Iterable) -> Iterator:
    """work(item) of each item, in order, by threads that run at most AHEAD items ahead of the consumer."""
    waiting, cores = deque(), torch.get_num_threads()
    with _quiet_pillow(), ThreadPoolExecutor(THREADS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(cores)  # new threads start with the number that was set last


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Ignores Pillow's warnings in all threads, which share one list of filters and restore it as they find it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def with_bar(results: Iterator, total: int, what: str) -> Iterator:
    """Passes results on, with a progress bar on a terminal."""
    with tqdm(total=total, desc=what, unit=" pictures", disable=None, leave=False) as bar:
        for result in results:
            yield result
            bar.update()
