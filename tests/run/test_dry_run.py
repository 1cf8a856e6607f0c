"""--dry-run prints what a run would do, and leaves no trace."""

import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from runs import TINY, finish
from short import growth, make_settings
from torch.profiler import ProfilerActivity, profile

import pggan.run.dry_run as dry_run_module
from pggan.config.schema import Config
from pggan.errors import UserError
from pggan.run import profiling
from pggan.run.dry_run import dry_run, estimate, step_costs
from pggan.run.loop import train
from pggan.run.profiling import MemoryWatch, StepCost, lasting, step_cost, trial_state
from pggan.schedule.budget import SLOWER

pytest_plugins = ["short_runs"]

CPU = torch.device("cpu")
ROW = re.compile(
    r"^ *(?P<res>\d+)px +(?P<batch>\d+) +(?P<fade>[\d.]+) +(?P<stable>[\d.]+) +(?P<speed>[\d.]+) +"
    r"(?P<memory>[\d.]+) GiB +(?P<time>\w+)(?P<more>.*)$"
)


def rows(text: str) -> list[dict]:
    found = [match.groupdict() for line in text.splitlines() if (match := ROW.match(line))]
    return [{key: float(v) if re.fullmatch(r"[\d.]+", v) else v for key, v in row.items()} for row in found]


def files(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def speeds(monkeypatch, of: dict[int, float]) -> None:
    """Steps are as fast as the test says."""
    known_costs(monkeypatch, {res: StepCost(speed, 2**20 * res) for res, speed in of.items()})


def known_costs(monkeypatch, costs: dict[int, StepCost]) -> None:
    monkeypatch.setattr(dry_run_module, "step_cost", lambda config, res, device, workers: costs[res])


# ---- what is printed


@pytest.mark.parametrize("arch", ["paper", "dcgan", "style"])
def test_every_stage_is_printed_with_what_it_will_be(settings, capsys, arch):
    dry_run(settings("--max-res", 16, "--batch", "4:12,16:8", "--fade-kimg", "0.1,16:0.2", arch=arch))
    said = capsys.readouterr().out
    table = rows(said)
    assert [(row["res"], row["batch"], row["fade"], row["stable"]) for row in table] == [
        *((4, 12, 0, 0.1), (8, 12, 0.1, 0.1), (16, 8, 0.2, 0.1))
    ]
    assert all(row["speed"] > 0 and re.fullmatch(r"\d+s|\d+m\d+s", row["time"]) for row in table)
    assert f"{arch} networks of" in said and "0.60 kimg, about" in said and "40 pictures" in said


@pytest.mark.slow
def test_the_networks_are_those_of_the_last_resolution(settings, capsys):
    config = settings("--max-res", 16)
    dry_run(config)
    (said,) = re.findall(r"networks of ([\d.]+) and ([\d.]+) million", capsys.readouterr().out)
    run = torch.load(train(config) / "checkpoints" / "res-0016.pt", weights_only=True)
    newest = [sum(v.numel() for name, v in run[net].items() if name != "rgb.8") for net in ("G", "D")]
    assert [float(text) for text in said] == pytest.approx([count / 1e6 for count in newest], abs=0.006)


def test_times_are_images_over_speed_and_those_of_a_clock_are_not_longer(settings, monkeypatch, capsys):
    speeds(monkeypatch, {4: 10.0, 8: 2.0})
    dry_run(settings("--stable-kimg", 1, "--fade-kimg", 0.2))
    assert [row["time"] for row in rows(capsys.readouterr().out)] == ["1m40s", "10m00s"]
    dry_run(settings("--stable-kimg", 1, "--fade-kimg", 0.2, "--stage-minutes", 4, "--floor-kimg", 0.1))
    assert [row["time"] for row in rows(capsys.readouterr().out)] == ["1m40s", "4m00s"]
    dry_run(settings("--stable-kimg", 1, "--fade-kimg", 0.2, "--stage-minutes", 1, "--floor-kimg", 0.1))
    assert [row["time"] for row in rows(capsys.readouterr().out)] == ["1m00s", "2m30s"]  # the fade and the floor


def test_micro_batches_and_estimates_are_marked(settings, monkeypatch, capsys):
    costs = {
        4: StepCost(10.0, 2**30, micro_batches=2),
        8: StepCost(5.0, 2**31, micro_batches=4, recompute=True),
        16: StepCost(5.0, 2**31, recompute=True, estimated=True),
    }
    known_costs(monkeypatch, costs)
    dry_run(settings("--max-res", 16))
    more = [row["more"].strip() for row in rows(capsys.readouterr().out)]
    assert more == ["in 2 micro-batches", "in 4 micro-batches, recomputed", "recomputed  estimated"]


# ---- budgets and plans


@pytest.mark.parametrize("total", [60, 3600])
def test_the_stages_of_a_budget_add_up_to_it(settings, monkeypatch, capsys, total):
    speed = {4: 90.0, 8: 40.0, 16: 16.0}
    speeds(monkeypatch, speed)
    dry_run(settings("--max-res", 16, "--budget", f"{total}s"))
    said = capsys.readouterr().out
    stages = [(speed[int(row["res"])], 1000 * row["fade"], 1000 * row["stable"]) for row in rows(said)]
    took = [(fade + stable) / each for each, fade, stable in stages]
    assert sum(took) + dry_run_module.SECONDS_TO_START == pytest.approx(total, rel=0.02)
    assert took == pytest.approx([sum(took) / 3] * 3, rel=0.03)
    assert [fade / (fade + stable) for _, fade, stable in stages] == pytest.approx([0, 0.2, 0.2], abs=0.02)
    assert f"of a budget of {total}s" in said


def test_a_budget_that_is_gone_before_it_begins_has_no_images(settings, monkeypatch, capsys):
    speeds(monkeypatch, {4: 10.0, 8: 10.0})
    dry_run(settings("--budget", "3s"))
    assert [row["stable"] for row in rows(capsys.readouterr().out)] == [0, 0]


def test_a_plan_is_printed_as_it_will_be_repeated(settings, capsys):
    run = train(settings("--max-res", 8))
    dry_run(settings("--max-res", 16, "--plan", run / "growth.json", out="again"))
    table = rows(capsys.readouterr().out)
    assert [(row["res"], row["fade"], row["stable"]) for row in table] == [(4, 0, 0.1), (8, 0.1, 0.1)]  # and no 16 px
    assert growth(run)[-1]["nimg"] == 304


# ---- what it leaves, and what it refuses


@pytest.mark.parametrize("kind", ["folder", "zip", "builtin"])
def test_nothing_at_all_is_written(tmp_path, monkeypatch, capsys, kind):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.chdir(home)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(12):
        Image.new("RGB", (9, 9), (number, 20 * number, 0)).save(pictures / f"{number}.png")
    if kind == "zip":
        shutil.make_archive(str(tmp_path / "packed"), "zip", pictures)
    data = {"folder": pictures, "zip": tmp_path / "packed.zip", "builtin": "builtin:9"}[kind]
    before = files(tmp_path)
    config = make_settings(tmp_path / "cache", tmp_path / "run", "--data", data)
    places = {"out": None if kind == "folder" else config.run.out}
    dry_run(Config(**{**vars(config), "run": type(config.run)(**{**vars(config.run), **places})}))
    assert len(rows(capsys.readouterr().out)) == 2
    assert files(tmp_path) == before and [path.name for path in home.iterdir()] == []


def test_the_folder_of_a_run_is_read_and_left_as_it_is(settings, started, capsys):
    out = Path(settings().run.out)
    shutil.copytree(started, out)
    before = files(out)
    dry_run(settings())
    assert "is at 4 px, 0.10 kimg, and would go on from there" in capsys.readouterr().out
    assert files(out) == before
    with pytest.raises(UserError, match="holds another run"):
        dry_run(settings("--seed", 5))
    assert files(out) == before


def test_bad_data_is_refused_as_by_the_run_itself(settings, tmp_path):
    with pytest.raises(UserError):
        dry_run(settings("--data", tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        dry_run(settings("--data", tmp_path / "empty"))
    with pytest.raises(UserError, match="40 pictures, fewer than a batch of 48"):
        dry_run(settings("--batch", "4:8,8:48"))
    with pytest.raises(UserError, match="none cannot be read"):
        dry_run(settings("--plan", tmp_path / "none"))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_resolution_that_never_fits_into_memory_is_refused_by_name(settings, monkeypatch, error):
    def exhausted(*_):
        raise error

    monkeypatch.setattr("pggan.training.micro_batches._backward", exhausted)
    with pytest.raises(UserError, match="out of memory at 4 px"):
        dry_run(settings())


def test_a_defect_in_a_trial_step_is_not_taken_for_a_lack_of_memory(settings, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr("pggan.training.micro_batches._backward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        dry_run(settings())


@pytest.mark.slow
def test_the_command_prints_the_table_and_exits_with_0(cache, tmp_path):
    code, said, err = finish(*TINY, "--cache", cache, "--out", tmp_path / "run", "--dry-run")
    assert code == 0, err
    assert [row["res"] for row in rows(said)] == [4, 8, 16] and not (tmp_path / "run").exists()


# ---- speed and memory


def steps_tried(monkeypatch, seconds_an_image: float) -> list[int]:
    """Batches of the steps that are taken, on a machine with a clock of its own."""
    tried, now = [], [0.0]

    def step(state, reals, say):
        tried.append(len(reals))
        assert len(reals) == state.batch() and 0 < state.alpha <= 1
        now[0] += seconds_an_image * len(reals) + 0.1

    monkeypatch.setattr(profiling, "step", step)
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: now[0])
    return tried


@pytest.mark.parametrize(
    ("seconds", "batches", "speed"),
    [
        (0.001, [4, 24, 24], 24 / 0.124),  # the whole batch, once more without the watch
        (0.05, [4, 24, 24], 24 / 1.3),
        (0.11, [4, 4, 4], 4 / 0.54),  # 24 images would take more than SLOW_STEP
        (2.0, [4, 4], 4 / 8.1),  # nor is a slow step taken a third time
    ],
)
def test_the_whole_batch_is_timed_unless_that_takes_too_long(settings, monkeypatch, seconds, batches, speed):
    tried = steps_tried(monkeypatch, seconds)
    cost = step_cost(settings("--batch", 24), 8, CPU)
    assert tried == batches and cost.images_per_s == pytest.approx(speed)


def test_the_speed_is_about_that_of_a_run(settings, monkeypatch):
    """By the processor's clock, from which other processes take nothing."""
    monkeypatch.setattr(profiling.time, "perf_counter", time.process_time)
    config = settings("--batch", 32, "--max-res", 16, "--fmap-base", 256, "--fmap-max", 32)
    expected = step_cost(config, 16, CPU).images_per_s
    state = trial_state(config, 16, CPU)
    profiling._timed(state, 32)
    start = time.process_time()
    for _ in range(5):
        profiling._timed(state, 32)
    assert 0.4 < expected / (5 * 32 / (time.process_time() - start)) < 2.5


def test_resolutions_too_slow_to_try_are_estimated_from_those_before(settings, monkeypatch):
    now, tried = [0.0], []

    def slow(config, res, device, workers):
        tried.append(res)
        now[0] += {4: 5.0, 8: 70.0}[res]
        return StepCost({4: 40.0, 8: 10.0}[res], {4: 100, 8: 300}[res])

    monkeypatch.setattr(dry_run_module, "step_cost", slow)
    monkeypatch.setattr(dry_run_module.time, "monotonic", lambda: now[0])
    config = settings("--max-res", 32)
    costs = step_costs(config, CPU, (4, 8, 16, 32))
    assert tried == [4, 8] and [cost.estimated for cost in costs.values()] == [False, False, True, True]
    assert costs[16].images_per_s == pytest.approx(2.5) and costs[32].images_per_s == pytest.approx(0.625)
    monkeypatch.undo()
    counted = [step_cost(config, res, CPU).memory for res in (16, 32)]
    assert [costs[res].memory for res in (16, 32)] == pytest.approx(counted, rel=0.001)  # but for Adam's counts


def test_an_estimate_has_the_micro_batches_of_the_resolution_below_as_far_as_the_batch_can(settings):
    config = settings("--batch", "4:32,8:24", "--stddev-group", 4)
    below = {4: StepCost(10.0, 100, micro_batches=4, recompute=True)}
    cost = estimate(config, below, 8, CPU)
    assert (cost.images_per_s, cost.micro_batches, cost.recompute) == (pytest.approx(10 / SLOWER), 3, True)
    assert cost.memory < estimate(config, {4: StepCost(10.0, 100)}, 8, CPU).memory


def storages(tensors: list[torch.Tensor]) -> int:
    return sum({tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}.values())


def test_the_watch_counts_storages_once_and_forgets_what_is_freed():
    known = torch.zeros(100)
    with MemoryWatch([known, known.view(10, 10)]) as watch:
        assert watch.alive == 400
        a = torch.ones(1000)
        view = a.view(10, 100)[2:].t()
        b = a + 1
        assert watch.alive == watch.peak == 8400
        del a
        assert watch.alive == 8400  # the view holds it
        del view, b
        assert watch.alive == 400 and watch.peak == 8400
        torch.ones(500).add_(1)
        assert watch.peak == 8400


def profiled_peak(state, batch: int) -> int:
    """Bytes at the most in one step, by the profiler's record of every allocation; it sees no end of older tensors."""
    grads = [weight.grad for net in (state.G, state.D) for weight in net.parameters()]
    base = storages(lasting(state)) - storages([grad for grad in grads if grad is not None])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        profiling._timed(state, batch)
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return base + peak


@pytest.mark.parametrize(("arch", "loss"), [("paper", "logistic"), ("dcgan", "bce"), ("style", "logistic")])
def test_the_memory_is_what_the_profiler_sees(settings, arch, loss):
    """Within a sixth: buffers that a kernel makes and frees by itself are seen by the profiler alone."""
    config = settings("--batch", 16, "--max-res", 32, "--fmap-base", 256, "--fmap-max", 16, arch=arch, loss=loss)
    cost = step_cost(config, 32, CPU)
    state = trial_state(config, 32, CPU)
    profiling._timed(state, 4)
    assert cost.memory == pytest.approx(profiled_peak(state, 16), rel=1 / 6)


def test_between_two_steps_all_that_lasts_is_counted(settings):
    state = trial_state(settings(), 8, CPU)
    profiling._timed(state, 4)
    with MemoryWatch(lasting(state)) as watch:
        profiling._timed(state, 4)
    assert watch.alive == pytest.approx(storages(lasting(state)), abs=200)  # and the last losses


def test_memory_of_a_few_images_is_scaled_to_the_batch(settings, monkeypatch):
    config = settings("--batch", 32, "--max-res", 16, "--fmap-base", 256)
    whole = step_cost(config, 16, CPU)
    monkeypatch.setattr(profiling, "SLOW_STEP", 0.0)
    few = step_cost(config, 16, CPU)
    assert few.memory == pytest.approx(whole.memory, rel=0.1)
