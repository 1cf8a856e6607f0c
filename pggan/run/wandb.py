"""wandb, in a thread of its own: it can neither stop nor block the training. metrics.jsonl is the source of truth."""

import contextlib
import netrc
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

SECONDS_TO_START = 20
SECONDS_TO_FINISH = 60
SECONDS_UNTIL_TOLD = 2  # of waiting for it at the end of a run
GRID = "samples/grid"  # what stands before the slash is a section of panels
WAITING_AT_MOST = 1000  # records kept while the service is slow; later ones are dropped, and counted


class Tracker:
    """Records and grids on their way to wandb. mode: off, offline, online, or auto (online when logged in)."""

    def __init__(self, mode: str, folder: Path, name: str, settings: dict, say: Callable[[str], None]):
        self.mode = automatic() if mode == "auto" else mode
        self.folder, self.name, self.settings, self.say = folder, name, settings, say
        self.waiting: queue.Queue = queue.Queue(WAITING_AT_MOST)
        self.thread: threading.Thread | None = None
        self.dropped = 0
        self.step = 0  # the last one of the run in wandb, which drops what comes with an earlier one

    @property
    def seconds_to_close(self) -> float:
        """About what close() will take, for who plans by the clock."""
        return 0.0 if self.mode == "off" else SECONDS_UNTIL_TOLD

    def log(self, nimg: int, values: dict[str, float]) -> None:
        """Numbers by their names in metrics.jsonl."""
        self._put((nimg, values, None))

    def log_grid(self, nimg: int, path: Path) -> None:
        """A sample grid, by its file."""
        self._put((nimg, {}, path))

    def close(self) -> None:
        """Hands over what is waiting, for a minute at most."""
        if self.thread is None:
            return
        if self.thread.is_alive():
            with contextlib.suppress(queue.Full):
                self.waiting.put(None, timeout=SECONDS_TO_FINISH)
        self.thread.join(SECONDS_UNTIL_TOLD)
        if self.thread.is_alive():
            self.say("handing the last records to wandb")
            self.thread.join(SECONDS_TO_FINISH + SECONDS_TO_START)
        if self.dropped:
            self.say(f"wandb was too slow for {self.dropped} records; metrics.jsonl has them all")

    def _put(self, item: tuple | None) -> None:
        if self.mode == "off":
            return
        if self.thread is None:  # not before the first record: the first step comes first
            self.thread = threading.Thread(target=self._work, name="wandb", daemon=True)
            self.thread.start()
        try:
            self.waiting.put_nowait(item)
        except queue.Full:
            self.dropped += 1

    def _work(self) -> None:
        try:
            run = self._start()
            while (item := self.waiting.get()) is not None:
                self._send(run, *item)
            run.finish()
        except Exception as error:  # whatever fails in wandb or its service is no reason to stop training
            self.say(f"wandb is off from here on ({_first_line(error)}); metrics.jsonl has all records")
            self.mode = "off"

    def _start(self):
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it reports home, offline and without a key too
        import wandb

        os.environ.setdefault("WANDB_CACHE_DIR", str(self.folder.resolve() / "wandb"))  # its service keeps a log there
        settings = wandb.Settings(
            init_timeout=SECONDS_TO_START, finish_timeout=SECONDS_TO_FINISH, silent=True, console="off"
        )
        common = {"project": "pggan", "name": self.name, "dir": self.folder, "config": self.settings}
        identity = {"id": run_id(self.folder), "resume": "allow", "settings": settings}
        try:
            run = wandb.init(mode=self.mode, **common, **identity)
        except Exception as error:
            if self.mode == "offline":
                raise
            self.say(f"wandb cannot be reached ({_first_line(error)}): recording offline; `wandb sync` sends it later")
            identity.pop("resume")
            wandb.teardown(exit_code=0)  # its service still holds the run that failed, and refuses the id a second time
            run = wandb.init(mode="offline", **common, **identity)
        self.step = run.step  # not 0 where an online run goes on
        run.define_metric("kimg")
        run.define_metric("*", step_metric="kimg")
        return run

    def _send(self, run, nimg: int, values: dict[str, float], grid: Path | None) -> None:
        record = {"kimg": nimg / 1000, **values}
        if grid is not None:
            import wandb
            from PIL import Image

            with Image.open(grid) as picture:
                record[GRID] = wandb.Image(picture.convert("RGB"), file_type="jpg")
        self.step = max(self.step, nimg)  # a rollback takes nimg back
        run.log(record, step=self.step)  # one step for all that has the same nimg


def automatic() -> str:
    """off, offline or online: what wandb's own WANDB_MODE says, else online when logged in, else offline."""
    said = os.environ.get("WANDB_MODE", "")
    if said in ("offline", "online", "disabled"):
        return said.replace("disabled", "off")
    return "online" if logged_in() else "offline"


def logged_in() -> bool:
    """Whether a wandb key is on this machine, found without importing wandb or asking the network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc().hosts
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError):
        return False
    return any("wandb" in host or "coreweave" in host for host in hosts)


def run_id(folder: Path) -> str:
    """The same id every time this folder's run goes on; kept in the folder."""
    path = folder / "wandb" / "id.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(os.urandom(8).hex())
    return path.read_text().strip()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
