"""Work done in threads slightly ahead of its use, with a progress bar."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from tqdm import tqdm

THREADS = min(8, os.cpu_count() or 1)
AHEAD = 4 * THREADS  # results prepared before they are asked for


def ahead(work: Callable, items: Iterable) -> Iterator:
    """work(item) of each item, in order, by threads that run at most AHEAD items ahead of the consumer."""
    waiting, cores = deque(), torch.get_num_threads()
    pool = ThreadPoolExecutor(THREADS, initializer=torch.set_num_threads, initargs=(1,))
    with warnings.catch_warnings(), pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # here, as all threads share one list of filters
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


def with_bar(results: Iterator, total: int, what: str) -> Iterator:
    """Passes results on, with a progress bar on a terminal."""
    with tqdm(total=total, desc=what, unit=" pictures", disable=None, leave=False) as bar:
        for result in results:
            yield result
            bar.update()
