"""Batches of real images by their index in the image stream.

The index alone decides which image is number 12,345 of a run, whether it is flipped and how it is cropped. Earlier
batches, the batch size and restarts make no difference.
"""

import warnings

import numpy as np
import torch

from pggan.data.packing import ImageCache
from pggan.randomness import Stream

GPU_MEMORY_SHARE = 0.5  # of a GPU's free memory, which the images of a resolution may use


class BatchLoader:
    """The images of one resolution, as batches for training.

    size: (width, height) in pixels. stream: decides order, flips and crops; it may be replaced. mirror: flips half of
    the images left to right. random_crop: crops at a random place, otherwise at the center. The images are copied to a
    GPU with enough room; otherwise they are read from the mapped file.
    """

    def __init__(
        self,
        cache: ImageCache,
        res: int,
        size: tuple[int, int],
        stream: Stream,
        mirror: bool,
        random_crop: bool,
        device: torch.device | str,
    ):
        self.width, self.height = size
        self.stream, self.mirror, self.random_crop = stream, mirror, random_crop
        self.device = torch.device(device)
        self.pixels = _tensor(cache.images(res))  # uint8 [N, H + margin, W + margin, 3]; never write to it
        self.margin = self.pixels.shape[1] - self.height, self.pixels.shape[2] - self.width
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if self.pixels.nbytes < GPU_MEMORY_SHARE * free:
                self.pixels = self.pixels.to(self.device)

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, index: int, count: int) -> torch.Tensor:
        """float32 [count, 3, H, W] in [-1, 1] on the device: images index .. index + count - 1 of the stream."""
        flips = self.stream.uniform("flip", index, count, 1)[:, 0] < 0.5 if self.mirror else np.zeros(count, bool)
        places = self.stream.uniform("crop", index, count, 2) if self.random_crop else np.full((count, 2), 0.5)
        corners = (places * (np.array(self.margin) + self.random_crop)).astype(np.int64)  # [count, 2]: top, left
        gather = self._indexed if self.pixels.is_cuda else self._stacked
        pixels = gather(self.stream.order(index, count, len(self)), corners, flips).permute(0, 3, 1, 2)
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)

    def _stacked(self, numbers: np.ndarray, corners: np.ndarray, flips: np.ndarray) -> torch.Tensor:
        """uint8 [count, H, W, 3], cut out one by one: the fastest way to read a mapped file."""
        places = zip(numbers.tolist(), *corners.T.tolist(), strict=True)
        views = (self.pixels[n, top : top + self.height, left : left + self.width] for n, top, left in places)
        flipped = [view.flip(1) if flip else view for view, flip in zip(views, flips, strict=True)]
        return torch.stack(flipped).to(self.device, non_blocking=True)

    def _indexed(self, numbers: np.ndarray, corners: np.ndarray, flips: np.ndarray) -> torch.Tensor:
        """The same in one operation, for images on a GPU: it does not wait for the GPU."""
        columns = np.arange(self.width)
        across = corners[:, 1:] + np.where(flips[:, None], columns[::-1], columns)  # [count, W]
        down = corners[:, :1] + np.arange(self.height)  # [count, H]
        places = (numbers[:, None, None], down[:, :, None], across[:, None, :])
        return self.pixels[tuple(torch.from_numpy(at).to(self.device, non_blocking=True) for at in places)]


def _tensor(array: np.ndarray) -> torch.Tensor:
    """A read-only array as a tensor, without torch's warning that it must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)
