"""Where records and sample grids go, besides metrics.jsonl. To add a place, write a class and open it here."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pggan.config.schema import Config, to_dict
from pggan.run.tensorboard import TensorBoardLogger
from pggan.run.wandb import WandbLogger


class Logger(Protocol):
    """Takes records and grids. seconds_to_close: about how long `close` takes, for runs with a time budget."""

    seconds_to_close: float

    def log(self, nimg: int, values: dict[str, float]) -> None:
        """Takes figures by their keys in metrics.jsonl. nimg: real images shown; lower than before after a rollback."""

    def log_grid(self, nimg: int, path: Path) -> None:
        """Takes a sample grid, a PNG file."""

    def close(self) -> None:
        """Writes or sends all that is still waiting."""


def open_loggers(config: Config, folder: Path, nimg: int, print_line: Callable[[str], None]) -> list[Logger]:
    """The loggers that the settings ask for. nimg: real images shown so far by the run in `folder`."""
    loggers: list[Logger] = [WandbLogger(config.run.wandb, folder, to_dict(config), print_line)]
    if config.run.tensorboard:
        loggers.append(TensorBoardLogger(folder, nimg))
    return loggers
