"""wandb neither stops nor delays a run, whatever it does, and gets what metrics.jsonl has when it works."""

import json
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from runs import ROOT, TINY

from pggan.config import cli
from pggan.config.presets import preset
from pggan.config.schema import Config
from pggan.evaluation.figures import FIGURES
from pggan.run import wandb
from pggan.run.loop import train
from pggan.run.wandb import WandbLogger, logged_in, run_id


class Service:
    """A wandb module that does as it is told, and remembers. Its init and log wait for an event each."""

    def __init__(self):
        self.inits, self.logged, self.steps, self.metrics, self.finished = [], [], [], [], 0
        self.step, self.held = 0, set()  # where the run is, and the ids that a service process still holds
        self.go_init, self.go_log = threading.Event(), threading.Event()
        self.begun = threading.Event()
        self.go_init.set()
        self.go_log.set()
        self.bad_modes, self.bad_log = set(), False
        self.Settings = lambda **settings: settings
        self.Image = lambda image, file_type: ("image", image.size, file_type)

    def init(self, **options):
        self.inits.append(options)
        self.begun.set()
        self.go_init.wait(60)
        if options["id"] in self.held:  # as wandb 0.31 does after an init that failed
            raise RuntimeError(f"run ID {options['id']} is in use")
        self.held.add(options["id"])
        if options["mode"] in self.bad_modes:
            raise RuntimeError("no route to host\nsecond line")
        self.run = SimpleNamespace(
            log=self.log,
            step=self.step,
            finish=self.finish,
            define_metric=lambda *names, **more: self.metrics.append((names, more)),
        )
        return self.run

    def teardown(self, exit_code):
        self.held.clear()

    def log(self, record, step):
        self.go_log.wait(60)
        if self.bad_log:
            raise OSError("broken pipe")
        self.logged.append(record)
        self.steps.append(step)

    def finish(self):
        self.held.clear()
        self.finished += 1


@pytest.fixture
def service(monkeypatch, tmp_path):
    fake = Service()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb-cache"))
    yield fake
    fake.go_init.set()
    fake.go_log.set()


@pytest.fixture
def printed():
    return []


@pytest.fixture
def logger(tmp_path, printed):
    return WandbLogger("offline", tmp_path / "a run", {"lr": "0.1"}, printed.append)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(wandb, "SECONDS_TO_START", 0.05)
    monkeypatch.setattr(wandb, "SECONDS_TO_FINISH", 0.05)
    monkeypatch.setattr(wandb, "SECONDS_UNTIL_TOLD", 0.05)


# ---- when it works


def test_records_arrive_in_order_over_kimg_and_the_run_is_finished(service, logger, printed):
    for nimg in range(0, 5000, 500):
        logger.log(nimg, {"loss/d": nimg / 7})
    logger.close()
    assert service.logged == [{"kimg": nimg / 1000, "loss/d": nimg / 7} for nimg in range(0, 5000, 500)]
    assert service.metrics[:2] == [(("kimg",), {}), (("*",), {"step_metric": "kimg"})]
    assert (service.finished, printed) == (1, [])
    (options,) = service.inits
    assert options["config"] == {"lr": "0.1"} and options["name"] == "a run"


def test_of_every_figure_wandb_keeps_the_best_value_and_the_last(service, logger):
    logger.log(8, {})
    logger.close()
    kept = {key: more["summary"] for (key,), more in service.metrics[2:]}
    best = {"higher": "max,last", "lower": "min,last", "none": None}
    assert all(kept[figure.key] == best[figure.better] for figure in FIGURES)
    assert {figure.raw_key for figure in FIGURES if figure.raw} == set(kept) - {figure.key for figure in FIGURES}


def test_grids_arrive_as_images(service, logger, tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "grid.png")
    logger.log_grid(1500, tmp_path / "grid.png")
    logger.close()
    assert service.logged == [{"kimg": 1.5, "samples/grid": ("image", (6, 4), "jpg")}]


def test_a_record_and_a_grid_of_one_nimg_are_one_step(service, logger, tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "grid.png")
    for nimg in (500, 1000):
        logger.log(nimg, {"loss/d": 1.0})
        logger.log_grid(nimg, tmp_path / "grid.png")
    logger.close()
    assert service.steps == [500, 500, 1000, 1000]


def test_steps_never_go_back_when_a_rollback_takes_nimg_back(service, logger):
    for nimg in (500, 1000, 600, 900, 1200):
        logger.log(nimg, {})
    logger.close()
    assert service.steps == [500, 1000, 1000, 1000, 1200]
    assert [record["kimg"] for record in service.logged] == [0.5, 1.0, 0.6, 0.9, 1.2]


def test_steps_go_on_from_where_wandb_has_an_online_run(service, tmp_path, printed):
    service.step = 1001
    logger = WandbLogger("online", tmp_path, {}, printed.append)
    for nimg in (800, 1200):
        logger.log(nimg, {})
    logger.close()
    assert service.steps == [1001, 1200]


def test_a_run_sends_what_metrics_jsonl_has(service, tmp_path):
    flags = ["--max-res", "4", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]
    config = cli.parse(Config, [*TINY, *flags, "--wandb", "offline"], preset("smoke"))
    train(config)
    names = [record for record in service.logged if "samples/grid" not in record]
    assert [record["kimg"] for record in names] == [0.056, 0.104, 0.152, 0.2]
    assert all("loss/d" in record and "speed/images_per_s" in record for record in names)
    assert (
        sum("samples/grid" in record for record in service.logged) == 3
    )  # two on the way, one at the end of the stage


def test_the_same_id_when_a_run_goes_on(service, tmp_path, printed):
    for folder in ("one", "one", "two"):
        logger = WandbLogger("offline", tmp_path / folder, {}, printed.append)
        logger.log(8, {})
        logger.close()
    first, again, other = (options["id"] for options in service.inits)
    assert first == again == run_id(tmp_path / "one") != other
    assert all(options["resume"] == "allow" for options in service.inits)
    assert all(
        options["dir"] == tmp_path / name for options, name in zip(service.inits, ("one", "one", "two"), strict=True)
    )


# ---- when it does not


def test_log_returns_at_once_while_init_hangs(service, logger, impatient, printed):
    service.go_init.clear()
    for nimg in range(50):
        logger.log(nimg, {})
    assert service.begun.wait(10)
    assert logger.waiting.qsize() == 50 and service.logged == []
    service.go_init.set()
    logger.thread.join(0.01)
    logger.close()


def test_close_gives_a_hanging_init_up_after_its_time(service, logger, impatient):
    service.go_init.clear()
    logger.log(8, {})
    logger.close()
    assert logger.thread.is_alive() and logger.thread.daemon  # left behind, and no reason to stay
    assert service.finished == 0


def test_close_gives_a_hanging_service_up_after_its_time(service, logger, impatient, printed):
    service.go_log.clear()
    for nimg in range(20):
        logger.log(nimg, {})
    logger.close()
    assert logger.thread.is_alive() and printed == ["sending the last records to wandb"]


@pytest.mark.parametrize("where", ["init", "log"])
def test_an_error_switches_it_off_with_one_plain_line(service, logger, printed, where):
    service.bad_modes, service.bad_log = ({"offline"}, False) if where == "init" else (set(), True)
    logger.log(8, {})
    logger.thread.join(10)
    for nimg in range(5):
        logger.log(nimg, {})
    logger.close()
    assert len(printed) == 1 and "metrics.jsonl has all records" in printed[0] and "\n" not in printed[0]
    assert service.logged == [] and logger.waiting.qsize() <= 2  # the first record, and the end: no more is kept


def test_a_wandb_that_cannot_be_imported_switches_it_off_with_one_plain_line(monkeypatch, logger, printed):
    monkeypatch.setitem(sys.modules, "wandb", None)
    logger.log(8, {})
    logger.close()
    assert len(printed) == 1 and "wandb is off" in printed[0]


def test_after_an_online_init_that_fails_it_records_offline_with_one_line(service, tmp_path, printed):
    service.bad_modes = {"online"}
    logger = WandbLogger("online", tmp_path, {}, printed.append)
    logger.log(8, {"loss/d": 1.0})
    logger.close()
    assert [options["mode"] for options in service.inits] == ["online", "offline"]
    assert service.inits[0]["id"] == service.inits[1]["id"]
    assert service.logged == [{"kimg": 0.008, "loss/d": 1.0}] and service.finished == 1
    assert printed == [
        "wandb cannot be reached (no route to host): recording offline; `wandb sync` sends it later",
    ]


@pytest.mark.parametrize("trouble", ["hanging init", "failing log"])
def test_training_ends_as_ever_whatever_the_service_does(service, impatient, tmp_path, trouble):
    if trouble == "hanging init":
        service.go_init.clear()
    service.bad_log = trouble == "failing log"
    flags = ["--max-res", "4", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]
    run = train(cli.parse(Config, [*TINY, *flags, "--wandb", "offline"], preset("smoke")))
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 4
    assert (run / "checkpoints" / "res-0004.pt").exists()


# ---- which mode


@pytest.fixture
def stranger(monkeypatch, tmp_path):
    """A machine without a wandb key."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(asked: str) -> str:
    return WandbLogger(asked, Path(), {}, print).mode


def test_auto_is_offline_without_a_key(stranger):
    assert not logged_in() and mode("auto") == "offline"


def test_auto_is_online_with_a_key_in_the_environment(stranger, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "")
    assert mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert mode("auto") == "online"


@pytest.mark.parametrize(
    ("host", "wanted"), [("api.wandb.ai", "online"), ("wandb.example.org", "online"), ("github.com", "offline")]
)
def test_auto_is_online_with_a_key_of_wandb_in_netrc(stranger, host, wanted):
    (stranger / ".netrc").write_text(f"machine {host}\n  login user\n  password {'k' * 40}\n")
    (stranger / ".netrc").chmod(0o600)
    assert mode("auto") == wanted


@pytest.mark.parametrize("damage", [b"machine", b"\xff\xfe\x00nonsense \x81"])
def test_a_damaged_netrc_is_no_key(stranger, damage):
    (stranger / ".netrc").write_bytes(damage)
    assert mode("auto") == "offline"


@pytest.mark.parametrize("asked", ["off", "offline", "online"])
def test_what_is_asked_for_is_done_with_or_without_a_key(stranger, monkeypatch, asked):
    assert mode(asked) == asked
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert mode(asked) == asked


@pytest.mark.parametrize(
    ("printed", "wanted"), [("disabled", "off"), ("offline", "offline"), ("online", "online"), ("shared", "offline")]
)
def test_auto_follows_wandb_s_own_mode_and_a_flag_goes_over_it(stranger, monkeypatch, printed, wanted):
    monkeypatch.setenv("WANDB_MODE", printed)
    assert mode("auto") == wanted
    assert mode("off") == "off" and mode("online") == "online"


def test_off_starts_nothing_and_writes_nothing(tmp_path, printed):
    logger = WandbLogger("off", tmp_path, {}, printed.append)
    logger.log(8, {})
    logger.log_grid(8, tmp_path / "none.png")
    logger.close()
    assert logger.thread is None and not list(tmp_path.iterdir()) and printed == []


def test_without_wandb_the_module_loads_and_off_works(monkeypatch, tmp_path, printed):
    monkeypatch.setitem(sys.modules, "wandb", None)
    logger = runpy.run_path(wandb.__file__)["WandbLogger"]("off", tmp_path, {}, printed.append)
    logger.log(8, {})
    logger.close()
    assert printed == []


# ---- the real one


REAL = """
import json, sys
from pathlib import Path
from PIL import Image
from pggan.run import wandb

folder, mode = Path(sys.argv[1]), sys.argv[2]
if mode == "online":
    wandb.SECONDS_TO_START, wandb.SECONDS_TO_FINISH = 3, 15
printed = []
logger = wandb.WandbLogger(mode, folder, {}, printed.append)
Image.new("RGB", (6, 4)).save(folder / "grid.png")
for nimg in map(int, sys.argv[3:]):
    logger.log(nimg, {"loss/d": nimg / 7})
    logger.log_grid(nimg, folder / "grid.png")
logger.close()
print(json.dumps(printed))
"""


def real(folder: Path, mode: str, *nimgs: int, cwd: Path, **env: str) -> list[str]:
    """Records and grids through the real wandb, in a process of its own; returns what it told the user."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", REAL, str(folder), mode, *map(str, nimgs)]
    inherited = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    env = {**inherited, "PYTHONPATH": str(ROOT), "HOME": str(cwd), "XDG_CACHE_HOME": str(cwd / "cache"), **env}
    done = subprocess.run(command, cwd=cwd, env=env, check=True, capture_output=True, text=True, timeout=120)
    return [line for line in json.loads(done.stdout.splitlines()[-1]) if "sending the last" not in line]


def log_of(offline_run: Path) -> Iterator:
    """The records of a real offline run's folder, from its log: chunks with 7 bytes of header, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    (log,) = offline_run.glob("*.wandb")
    data, at, whole = log.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a record in one chunk, or the last chunk of one
            yield Record.FromString(whole)
            whole = b""


def recorded(offline_run: Path) -> list[dict]:
    """The steps in a real offline run's folder: {name: value}, nested names with a dot."""
    histories = [record.history.item for record in log_of(offline_run) if record.HasField("history")]
    return [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items} for items in histories
    ]


@pytest.fixture(scope="module")
def offline(tmp_path_factory) -> SimpleNamespace:
    """A run recorded offline by the real wandb, and continued by a second process."""
    run, cwd = tmp_path_factory.mktemp("real") / "run", tmp_path_factory.mktemp("cwd")
    printed = []
    for nimgs in ([100, 200, 300, 250], [400, 500]):  # 250: after a rollback
        printed += real(run, "auto", *nimgs, cwd=cwd, WANDB_API_KEY="")
    return SimpleNamespace(run=run, cwd=cwd, printed=printed, parts=sorted((run / "wandb").glob("offline-run-*")))


@pytest.mark.slow
def test_a_real_offline_run_stays_in_the_run_s_folder_and_goes_on_under_one_id(offline):
    assert offline.printed == [] and len(offline.parts) == 2
    assert {folder.name.rpartition("-")[2] for folder in offline.parts} == {run_id(offline.run)}
    assert not [path for path in offline.cwd.rglob("*") if path.is_file()]  # also its home


@pytest.mark.slow
def test_a_continued_real_run_s_steps_go_on_and_hold_the_record_and_the_grid(offline):
    steps = [step for part in offline.parts for step in recorded(part)]
    assert [step["_step"] for step in steps] == [100, 200, 300, 400, 500]
    assert [step["kimg"] for step in steps] == [0.1, 0.2, 0.25, 0.4, 0.5]
    assert all("loss/d" in step and any("samples/grid" in key for key in step) for step in steps)


@pytest.mark.slow
def test_a_real_run_s_panels_are_over_kimg_the_grids_too(offline):
    metrics = [record.metric for record in log_of(offline.parts[0]) if record.HasField("metric")]
    axes = {metric.name or metric.glob_name: metric.step_metric for metric in metrics}
    assert axes.pop("kimg") == "" and axes["*"] == "kimg" and set(axes.values()) == {"kimg"}
    steps = recorded(offline.parts[0])
    assert all("kimg" in step for step in steps)  # else a key would have no place on the axis
    names = {key.partition("/")[0] for step in steps for key in step if not key.startswith("_")}
    assert names == {"kimg", "loss", "samples"}  # the group is the section of a panel


@pytest.mark.slow
def test_with_a_key_and_no_server_the_real_wandb_records_offline(tmp_path):
    key = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0123456789" * 4}
    (line,) = real(tmp_path / "run", "online", 100, 200, 300, cwd=tmp_path, **key)
    assert "wandb cannot be reached" in line and "recording offline" in line
    (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert [(step["_step"], step["kimg"]) for step in recorded(folder)] == [(100, 0.1), (200, 0.2), (300, 0.3)]
