"""Writes TensorBoard's event files (--tensorboard, an extra). A step is a real image shown: global_step is nimg."""

import io
from pathlib import Path

from PIL import Image

from pggan.errors import UserError


def check_tensorboard() -> None:
    """Raises UserError when the tensorboard package is missing, or torch cannot use it."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UserError("--tensorboard needs another package: pip install tensorboard, or leave it out") from None


class TensorBoardLogger:
    """Writes records and grids to folder/tensorboard. Raises OSError when the disk is full.

    nimg: real images shown so far. What an earlier process wrote after it is hidden, as it will be written again.
    """

    seconds_to_close = 0.0

    def __init__(self, folder: Path, nimg: int = 0):
        from torch.utils.tensorboard import SummaryWriter

        self.last = self.recorded = nimg  # of the last record or grid; of the last record
        self.keys: set[str] = set()  # logged at `recorded`
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=nimg + 1)

    def log(self, nimg: int, values: dict[str, float]) -> None:
        """Writes figures. Two calls with one nimg must have different keys, or the second counts as a rollback."""
        known = self.keys if nimg == self.recorded else set()
        if nimg < self.last or known & set(values):
            self._go_back_to(nimg)
            known = set()
        self.keys = known | set(values)
        for key, value in values.items():
            self.writer.add_scalar(key, value, nimg)
        self.writer.flush()  # so that a killed run loses nothing
        self.last = self.recorded = nimg

    def log_grid(self, nimg: int, path: Path) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        if nimg < self.last:
            self._go_back_to(nimg)
        with Image.open(path) as image:
            (width, height), jpeg = image.size, io.BytesIO()
            image.convert("RGB").save(jpeg, "JPEG", quality=90)  # add_image would write a PNG, in about a second
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=jpeg.getvalue())
        grid = Summary(value=[Summary.Value(tag="samples/grid", image=image)])
        self.writer.file_writer.add_summary(grid, nimg)
        self.writer.flush()
        self.last = nimg

    def close(self) -> None:
        self.writer.close()

    def _go_back_to(self, nimg: int) -> None:
        """Hides everything written from `nimg` on, as a new writer with purge_step would."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self.writer.file_writer.add_event(Event(step=nimg, session_log=SessionLog(status=SessionLog.START)))
