"""Stages in whole runs: when they begin and end, by images and by the clock, and in runs of other shapes."""

import pytest
import torch
from PIL import Image
from runs import assert_same_run, records
from short import growth, interrupt_at, latest, watch_pictures, watch_steps

from pggan.config.schema import ScheduleConfig
from pggan.errors import Interrupted
from pggan.run.loop import train
from pggan.schedule.fixed import FixedScheduler
from pggan.schedule.stages import Stage, StageStart
from pggan.training import checkpoint

pytest_plugins = ["short_runs"]

# ---- stages


def stage_of(schedule: ScheduleConfig, res: int, start: int) -> Stage:
    return FixedScheduler(schedule).begin(StageStart(res, start, start, fades=res > 4), [])


def test_stages_start_and_end_at_the_first_nimg_at_or_past_the_plan(settings):
    run = train(settings("--max-res", 16))
    starts, schedule = [0], settings().schedule
    for entry, res in zip(growth(run), (4, 8, 16), strict=True):
        planned = stage_of(schedule, res, starts[-1]).end
        fades = {"fade_nimg": 100} if entry["action"] == "grow" else {}  # of the stage that it begins
        assert planned <= entry["nimg"] < planned + 8 and entry["numbers"] == {"planned_nimg": planned, **fades}
        starts.append(entry["nimg"])
    for res, start, end in zip((4, 8, 16), starts[:-1], starts[1:], strict=True):
        kept = checkpoint.load(run / "checkpoints" / f"res-{res:04d}.pt")
        assert (kept["res"], kept["nimg"], kept["stage"]["plan"]["start"]) == (res, end, start)


def test_alpha_and_resolution_in_the_records_follow_the_schedule(settings):
    config = settings("--record-kimg", 0.008, "--sample-kimg", 1)
    run = train(config)
    for record in records(run):
        res = 4 if record["nimg"] <= 104 else 8
        stage = stage_of(config.schedule, res, 0 if res == 4 else 104)
        assert (record["growth/res"], record["growth/alpha"]) == (res, stage.alpha(record["nimg"]))
        assert (record["growth/batch"], record["growth/lr"], record["growth/attempt"]) == (8, 0.002, 0)


def test_batch_and_learning_rate_follow_their_ladders(settings, monkeypatch):
    seen = []
    watch_steps(monkeypatch, after=lambda state, *_: seen.append((state.batch(), state.opt_G.param_groups[0]["lr"])))
    run = train(settings("--batch", "4:20,8:4", "--lr", "4:0.001,8:0.0005"))
    assert seen == [(20, 0.001)] * 5 + [(4, 0.0005)] * 50
    assert [entry["nimg"] for entry in growth(run)] == [100, 300]


def step_counts(state) -> dict[str, float]:
    counts = {}
    for name, optimizer, network in (("G", state.opt_G, state.G), ("D", state.opt_D, state.D)):
        for key, parameter in network.named_parameters():
            counts[f"{name}.{key}"] = float(optimizer.state.get(parameter, {}).get("step", 0))
    return counts


def counts_by_step(settings, monkeypatch, *flags, base="smoke") -> list[dict]:
    counts = []
    watch_steps(monkeypatch, after=lambda state, *_: counts.append(step_counts(state)))
    train(settings(*flags, base=base))
    return counts


def test_adam_is_carried_over_growth_and_counts_on_for_what_stays(settings, monkeypatch):
    counts = counts_by_step(settings, monkeypatch)
    assert set(counts[12].values()) == {13}
    for name, count in counts[-1].items():
        wanted = 25 if "blocks.8" in name or "rgb.8" in name else 38
        assert count == (26 if "rgb.4" in name else wanted), name  # which leaves with the fade, after 13 steps
    assert any("rgb.8" in name for name in counts[-1])


def test_the_paper_s_preset_resets_adam_at_both_ends_of_the_fade(settings, monkeypatch):
    counts = counts_by_step(settings, monkeypatch, base="paper")
    one = [max(count.values()) for count in counts]
    assert all(len(set(count.values()) - {0.0}) == 1 for count in counts)
    assert one == [*range(1, 14), *range(1, 14), *range(1, 13)]  # the fade of 100 images is over after 13 steps


def test_new_weights_warm_up_and_kept_ones_do_not(settings, monkeypatch):
    rates = []
    watch_steps(monkeypatch, after=lambda state, *_: rates.append([group["lr"] for group in state.opt_D.param_groups]))
    train(settings("--warmup-kimg", 0.08))
    assert {kept for kept, _ in rates} == {0.002}
    assert [new for _, new in rates[13:]] == pytest.approx([0.002 * min(1, 8 * n / 80) for n in range(1, 26)])
    assert {new for _, new in rates[:13]} == {0.002}


def test_growth_inside_the_loop_changes_nothing_at_alpha_0(settings, monkeypatch):
    from pggan.training.growth import Probe
    from pggan.training.state import TrainState

    real, grown = TrainState.grow, []

    def checked(state, *decided):
        probe = Probe(state)
        real(state, *decided)
        probe.check(state)
        grown.append(state.res)

    monkeypatch.setattr(TrainState, "grow", checked)
    train(settings("--max-res", 16))
    assert grown == [8, 16]


# ---- other shapes of run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "sizes"),
    [
        (["--base", "3x3", "--start-res", 3, "--max-res", 12], {3: (3, 3), 6: (6, 6), 12: (12, 12)}),
        (["--base", "4x5"], {4: (4, 5), 8: (8, 10)}),
        (["--base", "5x4"], {4: (5, 4), 8: (10, 8)}),
        (["--start-res", 8, "--max-res", 16], {8: (8, 8), 16: (16, 16)}),
        (["--start-res", 8], {8: (8, 8)}),
        (["--random-crop"], {4: (4, 4), 8: (8, 8)}),
        (["--no-mirror"], {4: (4, 4), 8: (8, 8)}),
        (["--fade-kimg", 0], {4: (4, 4), 8: (8, 8)}),
        (["--loss", "wgan-gp", "--drift", 0.001, "--penalty-weight", 10], {4: (4, 4), 8: (8, 8)}),
        (["--stddev-group", 8, "--batch", 8], {4: (4, 4), 8: (8, 8)}),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_runs_of_other_shapes_go_through(settings, flags, sizes):
    run = train(settings(*flags))
    entries = growth(run)
    assert [entry["from_res"] for entry in entries] == list(sizes)
    assert [entry["action"] for entry in entries] == ["grow"] * (len(sizes) - 1) + ["stop"]
    for entry, (width, height) in zip(entries, sizes.values(), strict=True):
        with Image.open(run / "samples" / f"{entry['from_res']:04d}-{entry['nimg']:08d}.png") as grid:
            assert grid.size == (2 * width + 6, 2 * height + 6)  # with gaps of 2
        assert (run / "checkpoints" / f"res-{entry['from_res']:04d}.pt").exists()


def test_random_crop_and_mirror_off_reach_the_pictures(settings, monkeypatch):
    seen = watch_pictures(monkeypatch)
    train(settings("--random-crop", "--no-mirror", "--max-res", 4))
    assert seen[0].random_crop and not seen[0].mirror and tuple(seen[0].pixels.shape[1:3]) == (5, 5)


@pytest.mark.slow
def test_a_new_seed_is_another_run(settings):
    one, two = train(settings(out="one")), train(settings("--seed", 1, out="two"))
    assert not torch.equal(latest(one)["G"]["input.dense.weight"], latest(two)["G"]["input.dense.weight"])
    assert records(one) != records(two)


# ---- clocks


class Clock:
    """A second a step, and none for anything else."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        watch_steps(monkeypatch, after=lambda *_: self.tick())

    def tick(self):
        self.now += 1.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "steps", "reason"),
    [
        (2, 18, "stage clock ran out"),  # 100 images of fade and a floor of 40 are 18 steps
        (20, 20, "stage clock ran out"),
        (24, 24, "stage clock ran out"),
        (60, 25, "planned kimg reached"),
    ],
)
def test_the_stage_clock_ends_a_stage_but_not_before_the_floor_after_the_fade(
    settings, monkeypatch, seconds, steps, reason
):
    flags = ["--stage-minutes", f"4:0,8:{seconds / 60}", "--floor-kimg", 0.04]
    run = train(settings(*flags), Clock(monkeypatch))
    first, last = growth(run)
    assert (first["nimg"], first["reason"]) == (104, "planned kimg reached")
    assert (last["nimg"], last["reason"]) == (104 + 8 * steps, reason)
    assert last["numbers"]["planned_nimg"] == 304 and last["numbers"].get("seconds", steps) == steps


def test_the_stage_clock_leaves_the_floor_to_the_first_stage_too(settings, monkeypatch):
    run = train(settings("--stage-minutes", 1e-3, "--floor-kimg", 0.04), Clock(monkeypatch))
    assert [entry["nimg"] for entry in growth(run)] == [40, 40 + 144]


def test_the_stage_clock_sums_its_time_over_restarts(settings, monkeypatch):
    flags = ["--stage-minutes", f"4:0,8:{20 / 60}", "--floor-kimg", 0.01]
    for nimg in (152, 200, None):
        with monkeypatch.context() as patch:
            clock = Clock(patch)
            if nimg is None:
                run = train(settings(*flags), clock)
                continue
            interrupt_at(patch, nimg)
            with pytest.raises(Interrupted):
                train(settings(*flags), clock)
    last = growth(run)[-1]
    assert (last["nimg"], last["numbers"]["seconds"]) == (104 + 8 * 20, 20.0)
    assert latest(run)["stage"]["seconds"] == 20.0


@pytest.mark.slow
def test_without_a_stage_clock_no_clock_changes_the_run(settings):
    ticks = iter(range(10**9))
    one = train(settings(out="one"), clock=lambda: 100.0 * next(ticks))  # it saves all the time
    two = train(settings(out="two"), clock=lambda: 0.0)  # it never does, but at the ends of stages
    assert_same_run(one, two)
    assert (one / "metrics.jsonl").stat().st_size == (two / "metrics.jsonl").stat().st_size
