"""TensorBoard's event files, beside metrics.jsonl, for those who watch their runs there. An extra: --tensorboard.

A step on TensorBoard's axis is an image shown: global_step is nimg.
"""

import io
from pathlib import Path

from PIL import Image

from pggan.errors import UserError


def check_tensorboard() -> None:
    """Raises UserError when the tensorboard package is missing, or one that torch cannot use."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UserError(
            "--tensorboard needs a package that is not installed: pip install tensorboard, or leave it out"
        ) from None


class TensorBoard:
    """Records and grids on their way to folder/tensorboard.

    purge_step: for a run that goes on, the first nimg that will be written again: what an earlier process wrote from
    there on is hidden. None at the start of a run. Raises OSError when the disk is full.
    """

    def __init__(self, folder: Path, purge_step: int | None = None):
        from torch.utils.tensorboard import SummaryWriter

        self.last = self.recorded = -1 if purge_step is None else purge_step - 1  # of all, and of the numbers
        self.names: set[str] = set()  # of the numbers of `recorded`
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=purge_step)

    def log(self, nimg: int, values: dict[str, float]) -> None:
        """Numbers by their names in metrics.jsonl; of one nimg more than once, under other names."""
        known = self.names if nimg == self.recorded else set()
        if nimg < self.last or known & set(values):
            self._go_back_to(nimg)
            known = set()
        self.names = known | set(values)
        for name, value in values.items():
            self.writer.add_scalar(name, value, nimg)
        self.writer.flush()  # a kill takes what is not on its way to the disk, and no later process writes it again
        self.last = self.recorded = nimg

    def log_grid(self, nimg: int, path: Path) -> None:
        """A sample grid, by its file."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if nimg < self.last:
            self._go_back_to(nimg)
        with Image.open(path) as picture:
            (width, height), jpeg = picture.size, io.BytesIO()
            picture.convert("RGB").save(jpeg, "JPEG", quality=90)  # add_image makes a PNG, whose checksum costs 1 s
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=jpeg.getvalue())
        grid = Summary(value=[Summary.Value(tag="samples/grid", image=image)])
        self.writer.file_writer.add_summary(grid, nimg)
        self.writer.flush()
        self.last = nimg

    def close(self) -> None:
        """Hands the last of it to the disk."""
        self.writer.close()

    def _go_back_to(self, nimg: int) -> None:
        """After a rollback what was written from `nimg` on is hidden: the mark that purge_step leaves, once more."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self.writer.file_writer.add_event(Event(step=nimg, session_log=SessionLog(status=SessionLog.START)))
