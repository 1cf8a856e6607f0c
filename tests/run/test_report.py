"""The report page: what it says of a run, that it harms nobody, and that it works in a browser."""

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import report as report_tool
import sample
from PIL import Image
from runs import ROOT, refused_here

import pggan.run.loop
import train
from pggan.config.presets import preset, with_settings
from pggan.config.schema import Config, flat, from_dict, to_dict
from pggan.evaluation.figures import FIGURES
from pggan.evaluation.grids import GridFile, save_grid
from pggan.run.report import Report, grids
from pggan.run.report.charts import alpha_of, charts, fades
from pggan.run.report.commands import commands
from pggan.run.report.facts import read
from pggan.run.report.records import MAX_POINTS, places, read_records, running_mean, thinned

pytest_plugins = ["short_runs"]
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
STOP = {"nimg": 2000, "action": "stop", "numbers": {"planned_nimg": 2000}}


def record(nimg: int, **values: float) -> dict:
    """A record as the run writes them: two stages, 8 px to 1,000 images, a fade to 1,500."""
    res, alpha = (8, 1.0) if nimg <= 1000 else (16, min(1.0, (nimg - 1000) / 500))
    return {
        "nimg": nimg,
        "kimg": nimg / 1000,
        "loss/d": 1 + math.sin(nimg / 300),
        "loss/g": 2.0,
        "loss/real_logit": 0.5,
        "loss/fake_logit": -0.5,
        "loss/penalty": 0.01,
        "growth/res": res,
        "growth/alpha": alpha,
        "growth/attempt": 0,
        "speed/images_per_s": 31.5,
        "wall/seconds": nimg / 31.5,
        "memory/peak_bytes": 2.0**30,
        **values,
    }


def grown(nimg: int, **values: object) -> dict:
    reason = {"reason": "planned kimg reached", "numbers": {"planned_nimg": nimg}}
    return {"nimg": nimg, "action": "grow", "from_res": 8, "to_res": 16, **reason, **values}


def append(folder: Path, *records: dict) -> None:
    with open(folder / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps(each) + "\n" for each in records)


def draw(folder: Path, res: int, nimg: int) -> Path:
    """A grid of one color, which tells the nimg."""
    path = folder / "samples" / f"{res:04d}-{nimg:08d}.png"
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (4 * res, 3 * res), (nimg // 10 % 256, 80, 160)).save(path)
    return path


def made(folder: Path, config: Config | None = None, reason: str = "planned kimg reached") -> Path:
    """A run folder: 20 records, four grids, one growth, two checkpoints."""
    folder.mkdir(parents=True)
    config = config or with_settings(preset("smoke"), {"start_res": 8, "max_res": 16, "lr": "0.004"})
    versions = {"torch": "2.11", "pggan": "0.1.0"}
    (folder / "config.json").write_text(json.dumps({"config": to_dict(config), "versions": versions, "threads": 1}))
    append(folder, *map(record, range(100, 2001, 100)))
    (folder / "growth.json").write_text(json.dumps([grown(1000, reason=reason)]))
    for nimg in (500, 1000, 1250, 2000):
        draw(folder, 8 if nimg <= 1000 else 16, nimg)
    (folder / "checkpoints").mkdir()
    for name in ("latest.pt", "res-0008.pt"):
        (folder / "checkpoints" / name).write_bytes(b"")
    return folder


@pytest.fixture
def run(tmp_path) -> Path:
    return made(tmp_path / "run")


def embedded(page: str, name: str) -> object:
    """The data that a page carries for its script."""
    start = page.index(">", page.index(f'id="data-{name}"')) + 1
    return json.loads(page[start : page.index("</script>", start)])


# ---- what the page says


def test_a_folder_with_nothing_in_it_yet_gives_a_page_that_says_so(tmp_path):
    page = Report(tmp_path).write().read_text()
    assert "There is no run in this folder yet." in page
    assert embedded(page, "grids") == [] and embedded(page, "curves")["charts"] == []


def test_the_state_is_said_in_a_sentence_and_the_end_with_it(run):
    assert "Training at 16 px after 2.0 kimg, in 1m03s, 31.5 images per second." in Report(run).page()
    entries = [grown(1000), grown(2000, action="stop", from_res=16, to_res=16)]
    (run / "growth.json").write_text(json.dumps(entries))
    assert "Finished at 16 px after 2.0 kimg" in Report(run).page()
    append(run, record(2100))  # it was taken further
    assert "Training at 16 px" in Report(run).page()


def test_a_run_that_diverged_is_not_called_finished(run):
    stop = grown(2000, action="stop", to_res=16, reason="loss/d not finite", numbers={"lr_factor": 0.125})
    (run / "growth.json").write_text(json.dumps([stop]))
    assert "Diverged and stopped at 16 px" in Report(run).page()


def test_each_grid_has_its_resolution_kimg_and_alpha(run):
    told = [grid["caption"] for grid in embedded(Report(run).page(), "grids")]
    assert told == [
        *("8 px, 0.5 kimg, alpha 1.00", "8 px, 1.0 kimg, alpha 1.00"),
        *("16 px, 1.2 kimg, alpha 0.50", "16 px, 2.0 kimg, alpha 1.00"),
    ]


def test_alpha_before_the_first_record_of_a_stage_grows_from_0(run):
    assert alpha_of(16, 1050, read_records(run / "metrics.jsonl"), [grown(1000)]) == pytest.approx(0.1)


def test_a_fade_is_shaded_from_the_growth_to_where_alpha_reaches_1(run):
    assert np.allclose(fades(read_records(run / "metrics.jsonl")), [[1.0, 1.5]])


def test_related_series_share_a_chart_and_a_band_belongs_to_its_key():
    keys = ["nimg", "kimg", "loss/d", "loss/g", "quality/kid", "quality/kid_low", "quality/kid_high", "odd/a_low", "z"]
    found = charts({key: np.ones(2) for key in keys})
    assert [chart["group"] for chart in found] == ["loss", "quality", "odd", "other"]
    assert [series["key"] for series in found[0]["series"]] == ["loss/d", "loss/g"]
    band = {"low": "quality/kid_low", "high": "quality/kid_high"}
    assert found[1]["series"] == [{"key": "quality/kid", "name": "kid", **band}]
    assert found[2]["series"] == [{"key": "odd/a_low", "name": "a low"}]


def test_g_and_its_average_share_a_chart_each_with_its_interval(run):
    ends = {f"diversity/{name}score_{end}": 0.5 for name in ("", "raw_") for end in ("low", "high")}
    line = {"nimg": 1000, "kimg": 1.0, "diversity/score": 0.5, "diversity/raw_score": 0.4, **ends}
    append(run, {**line, "speed/eval_share": 0.01})
    curves = embedded(Report(run).page(), "curves")
    (both,) = (chart for chart in curves["charts"] if chart["group"] == "diversity")
    assert [(series["key"], series["low"], series["high"]) for series in both["series"]] == [
        (f"diversity/{name}score", f"diversity/{name}score_low", f"diversity/{name}score_high") for name in ("", "raw_")
    ]
    assert [series["name"] for series in both["series"]] == ["G_ema", "G"] and (both["low"], both["high"]) == (0, 1)
    assert [value for value in curves["data"]["diversity/raw_score"] if value is not None] == [0.4]


def test_every_figure_of_an_evaluation_has_a_chart_made_of_its_entry():
    found = {chart["series"][0]["key"]: chart for chart in charts({figure.key: np.ones(2) for figure in FIGURES})}
    assert list(found) == [figure.key for figure in sorted(FIGURES, key=lambda figure: figure.key.split("/")[0])]
    for figure in FIGURES:
        chart = found[figure.key]
        assert chart["title"].startswith(figure.label) and ("share" in chart["unit"]) == (figure.unit == "share")
        assert (chart["low"], chart["high"], chart["names"]) == (figure.low, figure.high, figure.names)
        assert chart["step"] == bool(figure.names) and chart["log"] == figure.log


def test_no_axis_is_logarithmic_where_a_value_is_0():
    (chart,) = charts({"quality/rfd": np.array([1.0, 0.0, np.nan])})
    assert not chart["log"]


def test_numbers_that_are_none_are_gaps(run):
    append(run, record(2100, **{"quality/kid": math.nan, "loss/g": None, "loss/d": math.inf, "note": "text"}))
    curves = embedded(Report(run).page(), "curves")
    assert [curves["data"][key][-1] for key in ("quality/kid", "loss/g", "loss/d")] == [None] * 3
    assert "note" not in curves["data"]


def test_settings_that_differ_from_the_preset_are_marked(run):
    page = Report(run).page()
    assert '<tr class="changed"><th scope=row>lr</th><td>0.004<small>preset: 0.002</small>' in page
    assert "<tr><th scope=row>latent</th><td>32</td>" in page
    assert "<tr><th scope=row>threads</th><td>1</td>" in page  # what the run used, beside the settings


@pytest.mark.parametrize("text", ["", "{", "[]", '{"config": {"preset": "gone", "future": 1}}', '{"config": 3}'])
def test_a_configuration_that_cannot_be_read_leaves_the_rest(run, text):
    (run / "config.json").write_text(text)
    (run / "growth.json").write_text(text)
    page = Report(run).page()
    assert "16 px after 2.0 kimg" in page and "train.py --" not in page


# ---- the records


def everything(path: Path) -> dict[str, list]:
    return {key: values.tolist() for key, values in read_records(path).items()}


def test_a_last_line_that_is_not_complete_is_skipped(run):
    path = run / "metrics.jsonl"
    before = everything(path)
    path.write_bytes(path.read_bytes() + b'{"nimg": 2300, "ki')
    assert everything(path) == before and len(before["nimg"]) == 20


def test_after_a_rollback_the_records_of_the_failed_attempt_are_gone(run):
    append(run, record(1800, **{"loss/g": 7.0}), record(1900, **{"loss/g": 7.0}))
    table = everything(run / "metrics.jsonl")
    assert table["nimg"] == [*range(100, 2000, 100)]
    assert table["loss/g"] == [2.0] * 17 + [7.0] * 2


def test_a_measurement_that_comes_later_takes_its_place_among_the_records(run):
    append(run, {"nimg": 1000, "kimg": 1.0, "quality/kid": 0.5}, record(2100))
    table = everything(run / "metrics.jsonl")
    assert table["nimg"] == sorted(table["nimg"]) and len(table["nimg"]) == 22
    assert [nimg for nimg, kid in zip(table["nimg"], table["quality/kid"], strict=True) if kid == 0.5] == [1000]


def test_lines_that_are_no_record_are_passed_over(run):
    before = everything(run / "metrics.jsonl")
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'no json\n[1]\n\xff\n{"nimg": "x"}\n{"kimg": 1}\n\n' + b"[" * 100_000 + b"\n")
    assert everything(run / "metrics.jsonl") == before


def test_thinning_keeps_the_extremes_and_the_end():
    values = np.random.default_rng(0).normal(size=30_011)
    values[12_345], values[20_001] = 99.0, -99.0
    sparse = np.where(np.arange(len(values)) % 5000 == 7, 1.0, np.nan)
    thin = thinned({"kimg": np.arange(len(values)) / 10, "loss/d": values, "quality/kid": sparse})
    assert all(len(column) <= MAX_POINTS + 1 for column in thin.values())
    assert (thin["loss/d"].max(), thin["loss/d"].min(), thin["loss/d"][-1]) == (99.0, -99.0, values[-1])
    assert abs(thin["kimg"][thin["loss/d"].argmax()] - 1234.5) < 5
    assert (np.diff(thin["kimg"]) >= 0).all() and np.isfinite(thin["quality/kid"]).sum() >= 7


def test_a_running_mean_is_the_mean_of_the_numbers_around():
    values = np.random.default_rng(0).normal(size=20_000)
    values[::3] = np.nan
    at = places(len(values))
    told = running_mean(values, 100)
    assert np.allclose(told, [np.nanmean(values[max(0, i - 50) : i + 51]) for i in at])
    assert np.isnan(running_mean(np.full(10, np.nan), 4)).all()


def test_from_many_records_on_a_running_mean_is_drawn(run):
    assert "mean" not in embedded(Report(run).page(), "curves")["charts"][0]["series"][0]
    append(run, *map(record, range(2100, 20_000, 100)))
    curves = embedded(Report(run).page(), "curves")
    assert curves["charts"][0]["series"][0]["mean"] == "loss/d mean"
    assert len(curves["data"]["loss/d mean"]) == len(curves["data"]["kimg"]) == 199


def test_the_page_is_under_3_mb_without_its_grids(tmp_path):
    append(tmp_path, *({"nimg": 8 * n, **{f"loss/{k}": math.sin(k * n) for k in range(40)}} for n in range(4000)))
    assert len(Report(tmp_path).page()) < 3e6


# ---- the grids


def test_grids_are_spread_over_the_run_with_the_newest_and_the_end_of_each_stage():
    made = [GridFile(Path(), 32 if number < 77 else 64, number) for number in range(250)]
    for count in range(1, 250):
        shown = [grid.nimg for grid in grids.spread(made[:count])]
        assert len(shown) <= grids.MAX_GRIDS + 2 and shown == sorted(set(shown))
        assert shown[0] == 0 and shown[-1] == count - 1
        assert count <= 77 or 76 in shown
        assert max(np.diff(shown), default=0) <= max(1, count / 25)


def test_a_grid_is_encoded_once_and_again_only_when_it_is_another(run, monkeypatch):
    calls = []
    encoded = grids.encoded
    monkeypatch.setattr(grids, "encoded", lambda grid: calls.append(grid.nimg) or encoded(grid))
    report = Report(run)
    report.write(), report.write()
    assert calls == [2000, 1250, 1000, 500]
    os.utime(draw(run, 16, 2000), (1, 1))
    draw(run, 16, 2500)
    report.write()
    assert calls[4:] == [2500, 2000]


def test_beside_training_a_long_past_comes_back_a_few_grids_at_a_time_the_newest_first(run):
    for nimg in range(2100, 2600, 100):
        draw(run, 16, nimg)
    report, counts = Report(run), []
    for _ in range(3):
        report.update()
        counts.append([grid["nimg"] for grid in embedded(report.path.read_text(), "grids")])
    assert counts[0] == [2200, 2300, 2400, 2500]
    assert [len(shown) for shown in counts] == [4, 8, 9] and counts[2] == sorted(counts[2])


def test_a_grid_that_cannot_be_read_is_left_out(run):
    (run / "samples" / "0016-00001250.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    (run / "samples" / "0016-00001300.png.tmp").write_bytes(b"")
    (run / "samples" / "notes.png").write_bytes(b"")
    assert [grid["nimg"] for grid in embedded(Report(run).page(), "grids")] == [500, 1000, 2000]


@pytest.mark.parametrize(("res", "width"), [(4, 512), (32, 768), (256, 1024)])
def test_grids_are_scaled_for_the_page(tmp_path, res, width):
    save_grid(np.zeros((12, res, res, 3), np.uint8), 6, tmp_path / "grid.png")
    found = grids.encoded(GridFile(tmp_path / "grid.png", res, 0))
    assert width - 6 <= found["width"] <= width and found["height"] < found["width"] / 2


# ---- the file


def test_the_page_is_replaced_whole_or_not_at_all_and_a_failure_is_told_once(run, monkeypatch):
    report, said = Report(run), []
    before = report.write().read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    append(run, record(2100))
    report.update(said.append), report.update(said.append)
    assert report.path.read_text() == before
    assert len(said) == 1 and "No space left" in said[0]
    monkeypatch.undo()
    report.update(said.append)
    assert "2.1 kimg" in report.path.read_text() and len(said) == 1


def test_making_the_page_needs_no_torch_and_nothing_of_the_loop():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pggan.run.report; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(process.stdout.split()) & {
        "torch",
        "wandb",
        "scipy",
        "pggan.run.events",
        "pggan.run.loop",
        "pggan.run.run_dir",
    }


def test_the_tool_makes_the_page_and_says_where(run, capsys):
    report_tool.main([str(run)])
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert (run / "report.html").read_text().startswith("<!doctype html>")


def test_the_tool_refuses_what_is_no_run_in_one_line(tmp_path):
    said = refused_here(tmp_path, script="tools/report.py")
    assert "config.json" in said and list(tmp_path.iterdir()) == []


# ---- the commands


def asked_for(text: str, monkeypatch) -> Config:
    """The settings that a command of the page makes train.py train with."""
    python, script, *words = shlex.split(text)
    assert (python, script) == ("python", "train.py")
    taken = []
    monkeypatch.setattr(pggan.run.loop, "train", lambda config, *_: taken.append(config))
    monkeypatch.setattr(pggan.run.loop, "summary", lambda _: "")
    train.main(words)
    return taken[0]


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        (preset(), {}),
        (preset("paper"), {"start_res": 8, "max_res": 16, "drift": 0.002}),
        (preset("demo"), {"data": "/my pictures/it's; $HOME", "random_crop": True, "mirror": False, "cache": "-c"}),
        (preset("cpu"), {"base": "3x3", "start_res": 24, "max_res": 96, "seed": 3, "lr": "32:0.001,64:0.002"}),
        (preset("demo"), {"budget": "25m"}),
        (preset("smoke", "dcgan", "wgan"), {"fmap_base": 512}),
        (preset("smoke", "dcgan"), {}),
        (preset("cpu", None, "wgan-gp"), {"penalty_weight": "5"}),
    ],
)
def test_the_command_to_go_on_has_the_settings_of_the_run(tmp_path, monkeypatch, base, changes):
    config = with_settings(base, changes)
    start, top = config.network.ends()
    config = replace(config, network=replace(config.network, start_res=start, max_res=top))
    folder = made(tmp_path / "a run; rm -rf $HOME", config)
    command = commands(folder, read(folder), end=None)[0].text
    now = asked_for(command, monkeypatch)
    start, top = now.network.ends()
    assert {**flat(now), "start_res": start, "max_res": top} == {**flat(config), "out": str(folder)}


def test_a_finished_run_is_taken_one_resolution_further(run, monkeypatch):
    first, second, third = commands(run, read(run), end=STOP)
    assert asked_for(first.text, monkeypatch).network.max_res == 32
    place = run / "checkpoints"
    assert second.text.splitlines() == [
        f"python tools/grow.py {place}/res-0008.pt",
        f"python train.py --resume {place}/grown-0016.pt --out {run}-16",
    ]
    assert third.text == f"python tools/sample.py {place}/latest.pt --num 64 --seed 1 --psi 0.8 --out samples"


def test_a_run_that_another_s_checkpoint_began_begins_there_again_only_when_nothing_is_saved(run):
    record = json.loads((run / "config.json").read_text())
    record["config"]["run"]["resume"] = "grown.pt"
    (run / "config.json").write_text(json.dumps(record))
    assert "--resume" not in commands(run, read(run), end=None)[0].text
    (run / "checkpoints" / "latest.pt").unlink()
    text = commands(run, read(run), end=None)[0].text
    assert "--resume grown.pt" in text and "--preset" not in text and "--lr 0.004" in text


def test_a_run_that_diverged_is_not_taken_further(run):
    diverged = {**STOP, "numbers": {"lr_factor": 0.125}}
    assert not any("train.py --preset" in command.text for command in commands(run, read(run), diverged))


def test_no_command_is_offered_that_the_run_is_not_ready_for(run):
    shutil.rmtree(run / "checkpoints")
    assert [command.name for command in commands(run, read(run), end=None)] == [
        "Continue from the last checkpoint, if training was interrupted"
    ]


# ---- in a browser

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium or chromedriver is not there")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.execute_cdp_cmd("Network.enable", {})
    yield driver
    driver.quit()


class Browser:
    """A page in a window of its own size."""

    def __init__(self, driver, page: Path, width: int = 1200, scheme: str = "light"):
        self.driver = driver
        for kind in ("browser", "performance"):
            driver.get_log(kind)  # forget the page before
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        driver.get(page.resolve().as_uri())

    def js(self, code: str, *values: object) -> object:
        return self.driver.execute_script(code, *values)

    def text(self, selector: str) -> str:
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def texts(self, selector: str) -> list[str]:
        return self.js("return [...document.querySelectorAll(arguments[0])].map((x) => x.textContent)", selector)

    def find(self, selector: str):
        return self.driver.find_element("css selector", selector)

    def wait(self, code: str) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 10, 0.05).until(lambda _: self.js(code))

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """What was asked for, but for the page itself and what it carries."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        assert any(url.startswith("file:") for url in asked)  # requests are seen at all
        return [url for url in asked if not url.startswith(("file:", "data:", "chrome:"))]


@pytest.fixture
def browser(chromium, run) -> Browser:
    append(run, {**record(2050), "quality/kid": 0.5, "quality/kid_low": 0.25, "quality/kid_high": 0.75})
    return Browser(chromium, Report(run).write())


INK = "return [...document.querySelectorAll('canvas')].map((c) => c.getContext('2d')"
INK += ".getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 == 3 && v).length)"


def test_the_page_opens_from_disk_without_complaints_or_requests(browser):
    drawn = browser.js(INK)
    assert len(drawn) == len(browser.texts(".chart")) == 10 and min(drawn) > 1000
    assert browser.complaints() == [] and browser.requests() == []


def test_the_slider_moves_the_grid_and_its_caption(browser):
    source = "return document.getElementById('grid').src"
    assert browser.text("#caption") == "16 px, 2.0 kimg, alpha 1.00"
    newest, slider = browser.js(source), browser.find("#slider")
    slider.send_keys("\ue012")  # the left arrow
    assert browser.text("#caption") == "16 px, 1.2 kimg, alpha 0.50"
    assert browser.js(source) != newest
    assert slider.get_attribute("aria-valuetext") == "16 px, 1.2 kimg, alpha 0.50"
    assert "1.2 kimg" in browser.find("#grid").get_attribute("alt")
    browser.js("arguments[0].value = 0; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert browser.text("#caption") == "8 px, 0.5 kimg, alpha 1.00"
    browser.wait("return document.getElementById('grid').naturalWidth === 512")


def test_the_samples_play_from_first_to_last(browser):
    seen = "window.seen = []; new MutationObserver(() => seen.push(document.getElementById('caption').textContent))"
    browser.js(seen + ".observe(document.getElementById('caption'), {childList: true})")
    browser.find("#play").click()
    browser.wait("return seen.length >= 4 && document.getElementById('play').textContent === 'Play'")
    assert [text.partition(",")[0] for text in browser.js("return seen")] == ["8 px", "8 px", "16 px", "16 px"]


def test_the_legend_tells_the_values_under_the_cursor_in_all_charts(browser):
    assert "kid0.5 (0.25 to 0.75)" in browser.texts(".u-series")
    before = browser.texts(".u-series .u-value")
    over = "const over = document.querySelector('.u-over'), at = over.getBoundingClientRect();"
    where = "{clientX: at.x + at.width / 4, clientY: at.y + 9, bubbles: true}"
    for event in ("mouseenter", "mousemove"):
        browser.js(f"{over} over.dispatchEvent(new MouseEvent('{event}', {where}))")
    browser.wait("return document.querySelector('.u-value').textContent === '0.6'")
    after = browser.texts(".u-series .u-value")
    assert after[0] == "0.6" and after.count("0.6") == 10 and before.count("2.05") == 10
    assert after[1] == f"{record(600)['loss/d']:.4g}"


def test_a_name_hides_its_line_by_key_too(browser):
    browser.js("document.querySelectorAll('.u-series th')[1].focus()")
    browser.driver.switch_to.active_element.send_keys("\n")
    assert browser.js("return document.querySelectorAll('.u-series')[1].classList.contains('u-off')")


def test_a_command_is_copied(browser):
    browser.driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
    browser.find("button.copy").click()
    browser.wait("return document.querySelector('button.copy').textContent === 'Copied'")


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1600, "light")])
def test_the_page_fits_windows_of_any_width_in_both_schemes(chromium, run, width, scheme):
    browser = Browser(chromium, Report(run).write(), width, scheme)
    assert browser.js("return document.documentElement.scrollWidth <= innerWidth")
    ground = browser.js("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 150) == (scheme == "dark")


def test_hostile_names_and_values_run_no_script(chromium, tmp_path):
    config = with_settings(preset("smoke"), {"data": HOSTILE, "start_res": 8, "max_res": 16})
    folder = made(tmp_path / "<img src=x onerror=window.hacked=1>{{css}}", config, reason=HOSTILE)
    append(folder, record(2100, **{HOSTILE: 1.0, f"loss/{HOSTILE}": 1.0}))
    browser = Browser(chromium, Report(folder).write())
    assert browser.js("return window.hacked === undefined && !document.querySelector('img:not(#grid)')")
    assert browser.text("h1") == folder.name == browser.driver.title
    assert HOSTILE in browser.text(".growth td:last-child") and HOSTILE in browser.text(".settings")
    assert browser.js("return document.scripts.length") == 4
    assert browser.complaints() == [] and browser.requests() == []


def test_the_page_of_a_run_with_nothing_yet_has_no_complaints(chromium, tmp_path):
    browser = Browser(chromium, Report(tmp_path).write())
    assert browser.find("#no-grids").is_displayed() and browser.find("#no-curves").is_displayed()
    assert browser.complaints() == []


# ---- a run really trained


def test_the_page_of_a_trained_run_and_its_commands(chromium, tiny_run, tmp_path, monkeypatch):
    folder = tiny_run
    browser = Browser(chromium, Report(folder).write())
    assert browser.text(".state").startswith("Finished at 16 px after")
    assert browser.texts(".stages span") == ["4 px", "8 px", "16 px"]
    assert min(browser.js(INK)) > 1000 and browser.complaints() == []
    known = from_dict(json.loads((folder / "config.json").read_text())["config"])
    facts = read(folder)
    assert flat(asked_for(commands(folder, facts, end=None)[0].text, monkeypatch)) == flat(known)
    words = shlex.split(commands(folder, facts, end=STOP)[-1].text)
    sample.main([*words[2:-1], str(tmp_path / "out")])
    assert (tmp_path / "out" / "grid.png").exists()
