"""Sends records and grids to wandb, from a thread of its own: wandb can neither stop training nor make it wait."""

import netrc
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from pggan.errors import first_line
from pggan.evaluation.figures import FIGURES

SECONDS_TO_START = 20
SECONDS_TO_FINISH = 60
SECONDS_UNTIL_TOLD = 2  # `close` waits so long before it tells the user why
GRID = "samples/grid"
BEST = {"higher": "max,last", "lower": "min,last"}  # Figure.better: the values in wandb's summary


class WandbLogger:
    """Records and grids on their way to wandb.

    mode: off, offline, online, or auto (online when logged in). folder: of the run; its name is the run's name.
    settings: shown as the run's configuration. print_line: tells the user about failures; nothing is raised.
    """

    def __init__(self, mode: str, folder: Path, settings: dict, print_line: Callable[[str], None]):
        self.mode = auto_mode() if mode == "auto" else mode
        self.folder, self.settings, self.print_line = folder, settings, print_line
        self.waiting: queue.SimpleQueue = queue.SimpleQueue()
        self.thread: threading.Thread | None = None
        self.step = 0  # wandb drops records with a lower step than the last one

    @property
    def seconds_to_close(self) -> float:
        return 0.0 if self.mode == "off" else SECONDS_UNTIL_TOLD

    def log(self, nimg: int, values: dict[str, float]) -> None:
        self._put(nimg, values, None)

    def log_grid(self, nimg: int, path: Path) -> None:
        self._put(nimg, {}, path)

    def close(self) -> None:
        """Sends all that is waiting; gives up after SECONDS_TO_FINISH."""
        if self.thread is None:
            return
        self.waiting.put(None)
        self.thread.join(SECONDS_UNTIL_TOLD)
        if self.thread.is_alive():
            self.print_line("sending the last records to wandb")
            self.thread.join(SECONDS_TO_FINISH + SECONDS_TO_START)

    def _put(self, *item) -> None:
        if self.mode == "off":
            return
        if self.thread is None:  # wandb starts with the first record, not before the first step
            self.thread = threading.Thread(target=self._work, name="wandb", daemon=True)
            self.thread.start()
        self.waiting.put(item)

    def _work(self) -> None:
        try:
            run = self._start()
            while (item := self.waiting.get()) is not None:
                self._send(run, *item)
            run.finish()
        except Exception as error:  # no failure of wandb stops the training
            self.print_line(f"wandb is off from now on ({first_line(error)}); metrics.jsonl has all records")
            self.mode = "off"

    def _start(self):
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would send crash reports even when offline
        import wandb

        os.environ.setdefault("WANDB_CACHE_DIR", str(self.folder.resolve() / "wandb"))
        limits = {"init_timeout": SECONDS_TO_START, "finish_timeout": SECONDS_TO_FINISH}
        common = {"project": "pggan", "name": self.folder.resolve().name, "id": run_id(self.folder)}
        common |= {"dir": self.folder, "config": self.settings}
        common["settings"] = wandb.Settings(**limits, silent=True, console="off")
        try:
            run = wandb.init(mode=self.mode, resume="allow", **common)
        except Exception as error:
            if self.mode == "offline":
                raise
            reason = first_line(error)
            self.print_line(f"wandb cannot be reached ({reason}): recording offline; `wandb sync` sends it later")
            wandb.teardown(exit_code=0)  # frees the run's id, which the failed start still holds
            run = wandb.init(mode="offline", **common)
        self.step = run.step  # above 0 when an online run is continued
        run.define_metric("kimg")
        run.define_metric("*", step_metric="kimg")
        for figure in FIGURES:
            for key in (figure.key, figure.raw_key) if figure.raw else (figure.key,):
                run.define_metric(key, step_metric="kimg", summary=BEST.get(figure.better))
        return run

    def _send(self, run, nimg: int, values: dict[str, float], grid: Path | None) -> None:
        record = {"kimg": nimg / 1000, **values}
        if grid is not None:
            import wandb
            from PIL import Image

            with Image.open(grid) as image:
                record[GRID] = wandb.Image(image.convert("RGB"), file_type="jpg")
        self.step = max(self.step, nimg)  # a rollback lowers nimg
        run.log(record, step=self.step)  # a record and a grid of one nimg become one step


def auto_mode() -> str:
    """`off`, `offline` or `online`: from WANDB_MODE, else online when logged in, else offline."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("offline", "online", "disabled"):
        return mode.replace("disabled", "off")
    return "online" if logged_in() else "offline"


def logged_in() -> bool:
    """Whether this machine has a wandb key. Neither imports wandb nor asks the network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc().hosts
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError):
        return False
    return any("wandb" in host or "coreweave" in host for host in hosts)


def run_id(folder: Path) -> str:
    """The id in wandb of the run in `folder`: kept there, the same whenever the run is continued."""
    path = folder / "wandb" / "id.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(os.urandom(8).hex())
    return path.read_text().strip()
