"""Batches of real pictures by their place in the image stream.

Which picture is image 12,345 of a run, whether it is flipped and where it is cropped, follow from that number alone:
no earlier batch, no batch size and no restart makes a difference.
"""

import warnings

import numpy as np
import torch

from pggan.data.packing import ImageCache
from pggan.randomness import Stream

HELD_FRACTION = 0.5  # of the free memory of a GPU that the pictures of a resolution may take up


class BatchLoader:
    """The packed pictures of one resolution, ready for training.

    size: (width, height) in pixels. stream: gives the order, flips and crops.
    mirror: half of the images are flipped left to right. random_crop: cut from anywhere in the packed margin, or else
    from its center. The whole level is moved to a GPU that has room for it; a CPU maps the file.
    """

    def __init__(
        self,
        pack: ImageCache,
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
        self.pixels = _tensor(pack.images(res))  # uint8 [N, packed height, packed width, 3], never to be written to
        self.room = self.pixels.shape[1] - self.height, self.pixels.shape[2] - self.width  # for the crop
        if self.device.type == "cuda" and self.pixels.nbytes < HELD_FRACTION * torch.cuda.mem_get_info(self.device)[0]:
            self.pixels = self.pixels.to(self.device)

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, index: int, count: int) -> torch.Tensor:
        """float32 [count, 3, H, W] in [-1, 1]: the images index .. index + count - 1 of the stream, on the device."""
        flips = self.stream.uniform("flip", index, count, 1)[:, 0] < 0.5 if self.mirror else np.zeros(count, bool)
        places = self.stream.uniform("crop", index, count, 2) if self.random_crop else np.full((count, 2), 0.5)
        corners = (places * (np.array(self.room) + self.random_crop)).astype(np.int64)  # [count, 2]: top, left
        return self._gather(self.stream.order(index, count, len(self)), corners, flips)

    def _gather(self, numbers: np.ndarray, corners: np.ndarray, flips: np.ndarray) -> torch.Tensor:
        gather = self._indexed if self.pixels.is_cuda else self._stacked
        pixels = gather(numbers, corners, flips).permute(0, 3, 1, 2)  # [count, 3, H, W]
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)

    def _stacked(self, numbers: np.ndarray, corners: np.ndarray, flips: np.ndarray) -> torch.Tensor:
        """uint8 [count, H, W, 3], picture by picture, in one copy: what a mapped file is read fastest by."""
        places = zip(numbers.tolist(), *corners.T.tolist(), flips.tolist(), strict=True)
        return torch.stack([self._view(*place) for place in places]).to(self.device, non_blocking=True)

    def _view(self, number: int, top: int, left: int, flip: bool) -> torch.Tensor:
        view = self.pixels[number, top : top + self.height, left : left + self.width]  # [H, W, 3]
        return view.flip(1) if flip else view

    def _indexed(self, numbers: np.ndarray, corners: np.ndarray, flips: np.ndarray) -> torch.Tensor:
        """The same by one operation, which a GPU that holds the pictures is not waited for."""
        columns = np.arange(self.width)
        across = corners[:, 1:] + np.where(flips[:, None], columns[::-1], columns)  # [count, W]
        down = corners[:, :1] + np.arange(self.height)  # [count, H]
        places = (numbers[:, None, None], down[:, :, None], across[:, None, :])
        return self.pixels[tuple(torch.from_numpy(at).to(self.device, non_blocking=True) for at in places)]


def _tensor(mapped: np.ndarray) -> torch.Tensor:
    """A read-only array as a tensor, without torch's warning that it is one: here nothing writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(mapped)
