"""Random numbers that depend on what they are for, not on what was drawn before.

Every number is a function of (seed, attempt, purpose, index in the image stream). Sample grids, evaluations, restarts
and the batch size therefore change nothing: image 12,345 of a run always has the same latent, real image and crop.
numpy's Philox generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") computes such numbers from
a key and a counter.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

WORDS_PER_COUNT = 4  # Philox 4x64 gives four 64-bit words for each value of its counter


@dataclass(frozen=True)
class Stream:
    """The random numbers of one attempt of one run.

    seed: of the run. attempt: each rollback adds 1, so that the next attempt does not fail in the same way.
    """

    seed: int
    attempt: int = 0

    def words(self, purpose: str, index: int, count: int, width: int) -> np.ndarray:
        """uint64 [count, width]: `width` random words for each of the images index .. index + count - 1."""
        counts = -(-width // WORDS_PER_COUNT)  # values of the counter for each image
        source = np.random.Philox(key=self.key(purpose), counter=index * counts)
        raw = source.random_raw(count * counts * WORDS_PER_COUNT)
        return raw.reshape(count, counts * WORDS_PER_COUNT)[:, :width]

    def uniform(self, purpose: str, index: int, count: int, width: int) -> np.ndarray:
        """float64 [count, width], uniform in [0, 1)."""
        return (self.words(purpose, index, count, width) >> np.uint64(11)) * 2.0**-53

    def normal(self, purpose: str, index: int, count: int, width: int) -> np.ndarray:
        """float32 [count, width], standard normal: Box and Muller (1958) on the two halves of each word."""
        words = self.words(purpose, index, count, -(-width // 2))
        radius = np.sqrt(-2 * np.log(((words >> np.uint64(32)) + 1.0) * 2.0**-32))  # the uniform is in (0, 1]
        angle = 2 * np.pi * ((words & np.uint64(0xFFFFFFFF)) * 2.0**-32)
        both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
        return both.reshape(count, 2 * words.shape[1])[:, :width].astype(np.float32)

    def order(self, index: int, count: int, total: int) -> np.ndarray:
        """int64 [count]: which of `total` data set images are shown at index .. index + count - 1.

        Each pass over the data is a new permutation, so every image is shown once before any is shown again.
        """
        passes, places = np.divmod(np.arange(index, index + count), total)
        return np.concatenate([_permutation(self, int(n), total)[places[passes == n]] for n in np.unique(passes)])

    def integer(self, purpose: str) -> int:
        """One integer in [0, 2^63), as a seed for another library's generator."""
        return int(self.words(purpose, 0, 1, 1)[0, 0] >> np.uint64(1))

    def key(self, purpose: str) -> np.ndarray:
        """uint64 [2]: the key of Philox."""
        digest = hashlib.sha256(f"{self.seed}/{self.attempt}/{purpose}".encode()).digest()
        return np.frombuffer(digest[:16], dtype=np.uint64)


@lru_cache(maxsize=4)
def _permutation(stream: Stream, number: int, total: int) -> np.ndarray:
    source = np.random.Philox(key=stream.key(f"order of {total}, pass {number}"))
    return np.random.Generator(source).permutation(total)
