"""Work done in threads slightly ahead of its use."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

THREADS = min(8, os.cpu_count() or 1)
AHEAD = 4  # results for each thread that are prepared before they are asked for


def ahead(work: Callable, items: Iterable, threads: int = THREADS) -> Iterator:
    """work(item) of each item, in order, by threads that run at most 4 * threads items ahead of the consumer.

    In each of them torch computes on one core.
    """
    waiting, cores = deque(), torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    with warnings.catch_warnings(), pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # here, as all threads share one list of filters
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(cores)  # new threads start with the number that was set last
