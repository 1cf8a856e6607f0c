"""The loop: what a step is given, when stages end, and what happens when the numbers fail or the settings change."""

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import grow
import numpy as np
import pytest
import torch
from PIL import Image
from runs import TINY, assert_same, assert_same_run, content, records

import train as command
from pggan import checkpoint, cli, starting, training
from pggan.config import Config, at
from pggan.data.packing import Pack
from pggan.errors import Diverged, Interrupted, UserError
from pggan.folder import RunFolder
from pggan.losses import LOSSES, Loss
from pggan.networks import Generator, fade_reals
from pggan.presets import preset
from pggan.randomness import Stream
from pggan.schedule import stage_of
from pggan.state import new_state
from pggan.training import train

# 4 -> 8 px in 38 steps
SHORT = ["--max-res", "8", "--stable-kimg", "0.1", "--fade-kimg", "0.1", "--sample-kimg", "10"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def settings(cache, tmp_path):
    """settings(*flags, base="smoke") -> Config of a short run in tmp_path/run."""

    def make(*flags: object, base: str = "smoke", out: str = "run") -> Config:
        places = ["--cache", cache, "--out", tmp_path / out]
        return cli.parse(Config, [*TINY[2:], *SHORT, *map(str, places), *map(str, flags)], preset(base))

    return make


def growth(run: Path) -> list[dict]:
    return json.loads((run / "growth.json").read_text())


def latest(run: Path) -> dict:
    return checkpoint.load(run / "checkpoints" / "latest.pt")


def watch_steps(monkeypatch, before=None, after=None) -> None:
    """Calls before(state, stage, pictures) and after(...) around every step."""
    real = training.step

    def step(run, state, stage, pictures):
        if before:
            before(state, stage, pictures)
        real(run, state, stage, pictures)
        if after:
            after(state, stage, pictures)

    monkeypatch.setattr(training, "step", step)


def watch_losses(monkeypatch, discriminator=None, generator=None) -> None:
    """Calls discriminator(reals, fakes, mix, weight), generator(fakes) for every loss; either may return a factor."""
    real = LOSSES["logistic"]

    def d(critic, reals, fakes, mix, weight, drift):
        factor = discriminator and discriminator(reals, fakes, mix, weight)
        loss, stats = real.discriminator(critic, reals, fakes, mix, weight, drift)
        return (loss, stats) if factor is None else (loss * factor, {**stats, "d": stats["d"] * factor})

    def g(critic, fakes):
        factor = generator and generator(fakes)
        loss, stats = real.generator(critic, fakes)
        return (loss, stats) if factor is None else (loss * factor, {"g": stats["g"] * factor})

    monkeypatch.setitem(training.LOSSES, "logistic", Loss(d, g))


def interrupt_at(monkeypatch, nimg: int) -> None:
    """SIGTERM during the step that begins at image `nimg`."""
    watch_steps(monkeypatch, before=lambda state, *_: state.nimg == nimg and os.kill(os.getpid(), signal.SIGTERM))


# ---- what a step is given


def test_reals_are_the_images_of_the_stream_in_turn_faded_as_the_networks_are(settings, monkeypatch):
    given, wanted, alphas = [], [], []

    def expect(state, stage, pictures):
        alphas.append(stage.alpha(state.nimg))
        wanted.append(fade_reals(pictures.batch(state.nimg, 8), alphas[-1]))

    watch_steps(monkeypatch, before=expect)
    watch_losses(monkeypatch, discriminator=lambda reals, *_: given.append(reals.detach().clone()))
    run = train(settings())
    assert all(torch.equal(a, b) for a, b in zip(given, wanted, strict=True))
    first, second = 13, 25  # steps of each stage: 100 images, then 200
    assert len(given) == first + second and latest(run)["nimg"] == 8 * (first + second)
    assert [tuple(batch.shape) for batch in (given[0], given[-1])] == [(8, 3, 4, 4), (8, 3, 8, 8)]
    assert alphas[:first] == [1.0] * first
    assert alphas[first:] == [min(8 * number / 100, 1.0) for number in range(second)]


def test_each_image_is_seen_once_before_any_is_seen_again(settings, monkeypatch):
    indices = []
    watch_steps(monkeypatch, before=lambda state, *_: indices.extend(state.stream.order(state.nimg, 8, 40)))
    train(settings())
    passes = [sorted(indices[start : start + 40]) for start in range(0, len(indices) - 39, 40)]
    assert passes and all(one == list(range(40)) for one in passes)


def test_latents_differ_within_a_step_and_from_step_to_step(settings, monkeypatch):
    given, real = [], Generator.forward

    def forward(self, z, alpha=1.0):
        given.append(z.clone())
        return real(self, z, alpha)

    monkeypatch.setattr(Generator, "forward", forward)
    run = train(settings())
    rows = torch.cat(given)
    assert len(given) == 2 * latest(run)["nimg"] // 8
    assert len({tuple(row.tolist()) for row in rows}) == len(rows)
    assert abs(rows.mean()) < 0.1 and abs(rows.std() - 1) < 0.1


@pytest.mark.slow
def test_penalty_mixes_differ_from_step_to_step_and_lie_within_0_and_1(settings, monkeypatch):
    mixes = []
    watch_losses(monkeypatch, discriminator=lambda reals, fakes, mix, weight: mixes.append(mix.clone()))
    train(settings())
    every = torch.cat(mixes)
    assert every.dtype == torch.float32 and len(every.unique()) == len(every)
    assert every.min() >= 0 and every.max() <= 1


def test_the_penalty_moves_evenly_in_ratio_through_the_fade(settings, monkeypatch):
    weights = []
    watch_losses(monkeypatch, discriminator=lambda reals, fakes, mix, weight: weights.append(weight))
    train(settings("--penalty", "4:1,8:16"))
    assert weights[:13] == [1.0] * 13
    assert weights[13:] == pytest.approx([16 ** min(8 * number / 100, 1) for number in range(25)])


def test_the_discriminator_s_fakes_carry_no_graph_and_its_weights_no_gradient_of_the_generator_s(settings, monkeypatch):
    carried = []
    watch_losses(monkeypatch, discriminator=lambda reals, fakes, mix, weight: carried.append(fakes.requires_grad))
    kept = {}
    watch_steps(monkeypatch, after=lambda state, *_: kept.update(D=all(p.requires_grad for p in state.D.parameters())))
    train(settings("--max-res", 4))
    assert not any(carried) and kept["D"]


def test_the_half_life_of_the_average_is_at_most_its_share_of_the_images_shown(settings, monkeypatch):
    factors, real = [], training.ema.update
    monkeypatch.setattr(training.ema, "update", lambda a, b, *both: (factors.append(both[0]), real(a, b, *both)))
    train(settings("--max-res", 4, "--ema-kimg", "0.004", "--ema-ramp", "0.05"))
    halves = [min(4.0, 0.05 * 8 * (number + 1)) for number in range(13)]
    assert factors == pytest.approx([0.5 ** (8 / half) for half in halves])


# ---- stages


def test_stages_start_and_end_at_the_first_nimg_at_or_past_the_plan(settings):
    run = train(settings("--max-res", 16))
    starts, schedule = [0], settings().schedule
    for entry, res in zip(growth(run), (4, 8, 16), strict=True):
        planned = stage_of(schedule, res, starts[-1], first=res == 4).end
        assert planned <= entry["nimg"] < planned + 8 and entry["numbers"] == {"planned_nimg": planned}
        starts.append(entry["nimg"])
    for res, start, end in zip((4, 8, 16), starts[:-1], starts[1:], strict=True):
        kept = checkpoint.load(run / "checkpoints" / f"res-{res:04d}.pt")
        assert (kept["res"], kept["nimg"], kept["stage_start"]) == (res, end, start)


def test_alpha_and_resolution_in_the_records_follow_the_schedule(settings):
    config = settings("--record-kimg", 0.008, "--sample-kimg", 1)
    run = train(config)
    for record in records(run):
        res = 4 if record["nimg"] <= 104 else 8
        stage = stage_of(config.schedule, res, 0 if res == 4 else 104, first=res == 4)
        assert (record["growth/res"], record["growth/alpha"]) == (res, stage.alpha(record["nimg"]))
        assert (record["growth/batch"], record["growth/lr"], record["growth/attempt"]) == (8, 0.002, 0)


def test_batch_and_learning_rate_follow_their_ladders(settings, monkeypatch):
    seen = []
    watch_steps(monkeypatch, after=lambda state, *_: seen.append((state.batch(), state.adam_g.param_groups[0]["lr"])))
    run = train(settings("--batch", "4:20,8:4", "--lr", "4:0.001,8:0.0005"))
    assert seen == [(20, 0.001)] * 5 + [(4, 0.0005)] * 50
    assert [entry["nimg"] for entry in growth(run)] == [100, 300]


def step_counts(state) -> dict[str, float]:
    counts = {}
    for name, optimizer, network in (("G", state.adam_g, state.G), ("D", state.adam_d, state.D)):
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
    watch_steps(monkeypatch, after=lambda state, *_: rates.append([group["lr"] for group in state.adam_d.param_groups]))
    train(settings("--warmup-kimg", 0.08))
    assert {kept for kept, _ in rates} == {0.002}
    assert [new for _, new in rates[13:]] == pytest.approx([0.002 * min(1, 8 * n / 80) for n in range(1, 26)])
    assert {new for _, new in rates[:13]} == {0.002}


def test_growth_inside_the_loop_changes_nothing_at_alpha_0(settings, monkeypatch):
    from pggan.growth import Probe
    from pggan.state import TrainState

    real, grown = TrainState.grow, []

    def checked(state):
        probe = Probe(state)
        real(state)
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
        (["--loss", "wgan-gp", "--drift", 0.001, "--penalty", 10], {4: (4, 4), 8: (8, 8)}),
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
            assert grid.size == (2 * width, 2 * height)
        assert (run / "checkpoints" / f"res-{entry['from_res']:04d}.pt").exists()


def test_random_crop_and_mirror_off_reach_the_pictures(settings, monkeypatch):
    seen = []
    watch_steps(monkeypatch, before=lambda state, stage, pictures: seen.append(pictures))
    train(settings("--random-crop", "--no-mirror", "--max-res", 4))
    assert seen[0].random_crop and not seen[0].mirror and tuple(seen[0].pixels.shape[1:3]) == (5, 5)


@pytest.mark.slow
def test_a_new_seed_is_another_run(settings):
    one, two = train(settings(out="one")), train(settings("--seed", 1, out="two"))
    assert not torch.equal(latest(one)["G"]["input.dense.weight"], latest(two)["G"]["input.dense.weight"])
    assert records(one) != records(two)


# ---- numbers that fail


def fail_at(monkeypatch, nimg: int, attempts: set[int], player: str = "generator") -> None:
    """The loss of one player is no number at image `nimg`, in these attempts."""
    now = {}
    watch_steps(monkeypatch, before=lambda state, *_: now.update(nimg=state.nimg, attempt=state.attempt))

    def factor(*_):
        return float("nan") if now["nimg"] == nimg and now["attempt"] in attempts else None

    watch_losses(monkeypatch, **{player: factor})


def assert_all_finite(values: object) -> None:
    if isinstance(values, dict):
        for value in values.values():
            assert_all_finite(value)
    elif isinstance(values, torch.Tensor):
        assert values.isfinite().all()


def guard_saves(monkeypatch) -> list[dict]:
    """Every checkpoint that is written, checked as it is."""
    saves, real = [], checkpoint.save

    def save(values, path):
        assert_all_finite(values)
        saves.append({"nimg": values["nimg"], "attempt": values["attempt"], "name": path.name})
        real(values, path)

    monkeypatch.setattr(checkpoint, "save", save)
    return saves


@pytest.mark.parametrize("player", ["generator", "discriminator"])
@pytest.mark.parametrize(
    "minutes", [5.0, pytest.param(1e-9, marks=pytest.mark.slow)], ids=["saving seldom", "saving always"]
)
def test_one_nan_rolls_back_to_the_last_good_state_with_another_attempt_and_half_the_rate(
    settings, monkeypatch, capsys, player, minutes
):
    saves = guard_saves(monkeypatch)
    fail_at(monkeypatch, 152, {0}, player)
    run = train(settings("--save-minutes", minutes))
    grew, back, stopped = growth(run)
    assert [entry["action"] for entry in (grew, back, stopped)] == ["grow", "rollback", "stop"]
    good = 152 if minutes < 1 else 104  # the last save before the failure
    assert back["nimg"] == good and back["from_res"] == back["to_res"] == 8 and "finite" in back["reason"]
    failed = 160 if minutes < 1 or 160 // 50 > 152 // 50 else 200
    assert back["numbers"] == {"failed_nimg": failed, "lr_factor": 0.5}
    assert {save["attempt"] for save in saves if save["nimg"] > 152} == {1}
    assert (latest(run)["attempt"], latest(run)["lr_factor"]) == (1, 0.5)
    after = [record for record in records(run) if record["growth/attempt"] == 1]
    assert after and all(record["growth/lr"] == 0.001 for record in after)
    assert f"back to {good / 1000:.2f} kimg" in capsys.readouterr().out
    assert latest(run)["nimg"] == 304


def test_a_rollback_draws_other_latents_and_takes_the_pictures_in_another_order():
    one, two = Stream(3, 0), Stream(3, 1)
    assert not np.array_equal(one.normal("latents G", 152, 8, 8), two.normal("latents G", 152, 8, 8))
    assert not np.array_equal(one.order(0, 40, 40), two.order(0, 40, 40))


@pytest.mark.slow
def test_after_a_rollback_the_pictures_come_from_the_new_stream(settings, monkeypatch):
    fail_at(monkeypatch, 152, {0})
    streams = []
    watch_steps(monkeypatch, before=lambda state, stage, pictures: streams.append((state.stream, pictures.stream)))
    train(settings())
    assert all(mine == theirs for mine, theirs in streams) and streams[-1][0] == Stream(0, 1)


def test_a_rollback_is_exactly_resumable(settings, monkeypatch):
    with monkeypatch.context() as patch:
        fail_at(patch, 152, {0})
        whole = train(settings(out="whole"))
    with monkeypatch.context() as patch:
        fail_at(patch, 152, {0})
        watch_steps(
            patch,
            before=lambda state, *_: state.attempt == 1 and state.nimg == 176 and os.kill(os.getpid(), signal.SIGTERM),
        )
        with pytest.raises(Interrupted):
            train(settings())
    assert_same_run(whole, train(settings()))


def test_nan_that_comes_back_ends_in_diverged_after_the_set_number_of_rollbacks(settings, monkeypatch):
    saves = guard_saves(monkeypatch)
    fail_at(monkeypatch, 152, set(range(99)))
    with pytest.raises(Diverged, match="after 3 rollbacks") as caught:
        train(settings())
    assert "\n" not in str(caught.value) and max(save["nimg"] for save in saves) == 104
    run = Path(settings().run.out)
    assert [entry["action"] for entry in growth(run)] == ["grow", *["rollback"] * training.MOST_ROLLBACKS, "stop"]
    assert [entry["numbers"]["lr_factor"] for entry in growth(run)[1:]] == [0.5, 0.25, 0.125, 0.125]
    assert latest(run)["nimg"] == 104


def test_the_command_ends_with_3_and_one_line_when_it_diverged(settings, monkeypatch, capsys, cache, tmp_path):
    fail_at(monkeypatch, 16, set(range(99)))
    monkeypatch.setattr(sys, "argv", ["train.py", *TINY, *SHORT, "--cache", str(cache), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as end:
        cli.run(command.main)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert end.value.code == 3 and "rollbacks" in line


def test_a_weight_that_is_no_number_at_the_end_of_a_stage_leaves_no_checkpoint_of_it(settings, monkeypatch):
    saves = guard_saves(monkeypatch)
    fail_at(monkeypatch, 96, {0})  # the first stage's last step, after its last record
    run = train(settings("--record-kimg", 0.05))
    assert [entry["action"] for entry in growth(run)] == ["rollback", "grow", "stop"]
    assert [save["attempt"] for save in saves if save["name"] == "res-0004.pt"] == [1]


# ---- clocks


class Clock:
    """A second a step, and none for anything else."""

    def __init__(self, monkeypatch, now: float = 0.0):
        self.now = now
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
    for now, nimg in ((0.0, 152), (7000.0, 200), (-30.0, None)):
        with monkeypatch.context() as patch:
            clock = Clock(patch, now)
            if nimg is None:
                run = train(settings(*flags), clock)
                continue
            interrupt_at(patch, nimg)
            with pytest.raises(Interrupted):
                train(settings(*flags), clock)
    last = growth(run)[-1]
    assert (last["nimg"], last["numbers"]["seconds"]) == (104 + 8 * 20, 20.0)
    assert latest(run)["stage_seconds"] == 20.0


def test_without_a_stage_clock_no_clock_changes_the_run(settings):
    ticks = iter(range(10**9))
    one = train(settings(out="one"), clock=lambda: 100.0 * next(ticks))  # it saves all the time
    two = train(settings(out="two"), clock=lambda: 0.0)  # it never does, but at the ends of stages
    assert_same_run(one, two)
    assert (one / "metrics.jsonl").stat().st_size == (two / "metrics.jsonl").stat().st_size


# ---- going on


@pytest.mark.slow
@pytest.mark.parametrize("nimg", [0, 96, 104, 192, 200, 296])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(settings, monkeypatch, nimg):
    whole = train(settings(out="whole"))
    with monkeypatch.context() as patch:
        interrupt_at(patch, nimg)
        with pytest.raises(Interrupted) as caught:
            train(settings())
    assert caught.value.number == signal.SIGTERM and latest(Path(settings().run.out))["nimg"] == nimg + 8
    assert_same_run(whole, train(settings()))


def test_interrupted_in_the_paper_s_fade_and_right_at_its_end_it_goes_on_the_same(settings, monkeypatch):
    whole = train(settings(base="paper", out="whole"))
    for nimg in (152, 200):  # 200 + 8 is past the fade's end at 204: Adam has been reset just before the save
        with monkeypatch.context() as patch:
            interrupt_at(patch, nimg)
            with pytest.raises(Interrupted):
                train(settings(base="paper"))
    assert_same_run(whole, train(settings(base="paper")))


def test_signals_have_their_old_meaning_after_a_run(settings):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train(settings("--max-res", 4))
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(10):
        Image.new("RGB", (9, 9), (number, 20 * number, 0)).save(folder / f"{number}.png")
    return folder


def test_changed_pictures_are_refused_when_a_run_goes_on(settings, pictures):
    flags = ["--data", pictures]
    train(settings(*flags, "--max-res", 4))
    Image.new("RGB", (9, 9), (200, 200, 0)).save(pictures / "3.png")
    before = {path: path.read_bytes() for path in Path(settings().run.out).rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="are not those of"):
        train(settings(*flags))
    assert before == {path: path.read_bytes() for path in Path(settings().run.out).rglob("*") if path.is_file()}


def test_pictures_changed_before_the_first_checkpoint_are_refused_too(settings, pictures, monkeypatch):
    flags = ["--data", pictures]
    with monkeypatch.context() as patch:
        patch.setattr(training, "run_stages", lambda *_: None)  # killed when config.json was all there was
        run = train(settings(*flags))
    assert not (run / "checkpoints").exists()
    (pictures / "new.png").write_bytes((pictures / "3.png").read_bytes())
    with pytest.raises(UserError, match="are not those of"):
        train(settings(*flags))


def test_fewer_pictures_than_a_batch_are_refused_before_anything_is_written(settings, pictures):
    config = settings("--data", pictures, "--batch", "4:8,8:12")
    with pytest.raises(UserError, match="10 pictures, fewer than a batch of 12"):
        train(config)
    assert not Path(config.run.out).exists()


CHANGES = {
    "--max-res": 8,
    "--fade-kimg": 0.05,
    "--stable-kimg": 0.11,
    "--stage-minutes": "9",
    "--floor-kimg": 0.5,
    "--save-minutes": 7.0,
    "--record-kimg": 0.07,
    "--sample-kimg": 0.09,
    "--grid": "3x1",
    "--wandb": "auto",
}


def test_all_that_may_be_changed_is_accepted_when_a_run_goes_on(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    train(settings("--max-res", 4))
    run = train(settings(*(word for pair in CHANGES.items() for word in pair), "--device", "auto", "--threads", 0))
    assert growth(run)[-1]["from_res"] == 8
    kept = json.loads((run / "config.json").read_text())["config"]
    assert (kept["run"]["grid"], kept["schedule"]["stable_kimg"]) == ("3x1", "0.11")


@pytest.mark.parametrize(
    "flags",
    [
        *(["--lr", "0.1"], ["--batch", 4], ["--seed", 3], ["--no-mirror"], ["--random-crop"], ["--latent", 16]),
        *(["--loss", "wgan-gp"], ["--fit", "pad"], ["--base", "4x5"], ["--start-res", 8], ["--beta1", 0.5]),
        *(["--ema-kimg", "3"], ["--adam-at-growth", "reset", "--warmup-kimg", 0], ["--builtin-pictures", 50]),
    ],
    ids=lambda flags: flags[0],
)
def test_any_other_change_is_refused_with_the_difference(settings, cache, tmp_path_factory, flags, started):
    config = settings(*flags)
    shutil.copytree(started, config.run.out)
    with pytest.raises(UserError, match=f"{flags[0].replace('--no-', '--')}: .* -> "):
        train(config)


@pytest.fixture(scope="module")
def started(cache, tmp_path_factory) -> Path:
    """A finished run at 4 px."""
    out = tmp_path_factory.mktemp("started") / "run"
    flags = [*TINY, *SHORT, "--max-res", "4", "--cache", str(cache), "--out", str(out)]
    return train(cli.parse(Config, flags, preset("smoke")))


def test_a_run_whose_config_json_is_damaged_or_gone_is_refused(settings, started):
    out = Path(settings().run.out)
    shutil.copytree(started, out)
    (out / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        train(settings())
    (out / "config.json").unlink()
    with pytest.raises(UserError, match="holds no run"):
        train(settings())
    assert (out / "checkpoints" / "latest.pt").exists()


def test_lost_records_do_not_keep_a_run_from_going_on(settings, started):
    out = Path(settings().run.out)
    shutil.copytree(started, out)
    (out / "metrics.jsonl").unlink()
    assert records(train(settings()))[-1]["nimg"] == 304


@pytest.mark.slow
def test_a_full_disk_is_told_plainly_and_the_run_goes_on_once_there_is_room(settings, monkeypatch):
    whole = train(settings(out="whole"))
    out = Path(settings().run.out)
    (out / "checkpoints").mkdir(parents=True)
    (out / "config.json").write_bytes((whole / "config.json").read_bytes())

    def fill(state, *_):
        if state.nimg == 152:
            (out / "checkpoints" / "next.pt.tmp").symlink_to("/dev/full")
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        watch_steps(patch, before=fill)
        with pytest.raises(UserError, match="the disk is full"):
            train(settings())
    assert latest(out)["nimg"] == 104
    assert_same_run(whole, train(settings()))


# ---- starting from a checkpoint


def resumed(cache: Path, ckpt: Path, out: Path) -> Path:
    command.main(["--resume", str(ckpt), "--out", str(out), "--cache", str(cache), "--wandb", "off"])
    return out


@pytest.fixture
def grown(started, tmp_path) -> Path:
    grow.main([str(started / "checkpoints" / "latest.pt"), "--out", str(tmp_path / "grown.pt")])
    return tmp_path / "grown.pt"


def test_a_grown_checkpoint_starts_a_new_run_that_a_kill_does_not_disturb(cache, grown, tmp_path, monkeypatch):
    whole = resumed(cache, grown, tmp_path / "whole")
    assert [(e["action"], e["from_res"], e["to_res"]) for e in growth(whole)][-2:] == [("grow", 4, 8), ("stop", 8, 8)]
    assert latest(whole)["res"] == 8
    with monkeypatch.context() as patch:
        interrupt_at(patch, 152)
        with pytest.raises(SystemExit) as end:
            resumed(cache, grown, tmp_path / "run")
    assert end.value.code == 128 + signal.SIGTERM
    assert_same_run(whole, resumed(cache, grown, tmp_path / "run"))


@pytest.mark.slow
def test_a_grown_checkpoint_trains_on_to_what_the_run_itself_would_have_become(cache, grown, settings, tmp_path):
    straight, outside = train(settings()), resumed(cache, grown, tmp_path / "outside")
    one, two = (content(run / "checkpoints" / "latest.pt") for run in (straight, outside))
    for part in ("G", "D", "average", "moments_g", "moments_d", "nimg", "stage_start"):
        assert_same(one[part], two[part], part)


def test_resume_over_the_folder_of_another_run_is_refused(cache, grown, started, settings):
    out = Path(settings().run.out)
    shutil.copytree(started, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="holds another run"):
        resumed(cache, grown, out)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("flags", [["--fmap-base", "64"], ["--base", "4x5"], ["--start-res", "8"]])
def test_resume_with_other_networks_is_refused_by_name(cache, grown, tmp_path, flags):
    with pytest.raises(UserError, match="was made with"):
        command.main(["--resume", str(grown), "--out", str(tmp_path / "r"), "--cache", str(cache), *flags])
    assert not (tmp_path / "r").exists()


def test_a_finished_checkpoint_resumed_into_a_new_folder_trains_on_when_asked_for_more(cache, started, tmp_path):
    ckpt = started / "checkpoints" / "latest.pt"
    command.main(["--resume", str(ckpt), "--out", str(tmp_path / "r"), "--cache", str(cache), "--max-res", "8"])
    assert growth(tmp_path / "r")[-1]["from_res"] == 8


# ---- two at once


def test_a_second_process_in_a_run_s_folder_is_refused_and_changes_nothing(settings, started):
    out = Path(settings().run.out)
    shutil.copytree(started, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with RunFolder(out), pytest.raises(UserError, match="another process is training"):
        train(settings("--grid", "3x3"))
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_process_whose_new_folder_was_taken_while_it_packed_stops_and_does_not_go_back(settings, monkeypatch):
    """While the second process packs, the first one trains to its end."""
    real, ran = training.load_pictures, []

    def load(config, state, folder):
        pictures = real(config, state, folder)
        if not ran:
            ran.append(True)
            train(settings())
        return pictures

    monkeypatch.setattr(training, "load_pictures", load)
    steps = []
    watch_steps(monkeypatch, after=lambda state, *_: steps.append(state.nimg))
    with pytest.raises(UserError, match="another process has begun a run"):
        train(settings())
    assert len(steps) == 38 and steps == sorted(set(steps))


# ---- small things


def test_the_default_folder_is_named_by_data_preset_and_size_never_by_the_time():
    config = Config()
    assert starting.default_folder(config) == "runs/builtin-paintings-256"
    for data, name in (("builtin:7", "builtin-7"), ("some/birds.zip", "birds"), ("some/birds/", "birds")):
        named = replace(config, data=replace(config.data, data=data))
        assert starting.default_folder(named) == f"runs/{name}-paintings-256"


def test_a_device_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda is not available"):
        starting.pick_device("cuda")


def test_threads_are_stored_with_the_run_and_taken_up_again(settings, monkeypatch):
    run = train(settings("--max-res", 4, "--threads", 1))
    seen = SimpleNamespace(threads=[])
    monkeypatch.setattr(torch, "set_num_threads", seen.threads.append)
    train(settings("--threads", 0))
    assert set(seen.threads) == {1} and latest(run)["threads"] == 1


def test_all_stages_left_are_packed_at_once_before_the_first_step(settings, monkeypatch):
    levels = []
    monkeypatch.setattr(training, "run_stages", lambda run, state, pack, signals: levels.append(pack))
    train(settings("--max-res", 16))
    (packed,) = levels
    assert isinstance(packed, Pack) and [packed.level(res).shape[1] for res in (4, 8, 16)] == [4, 8, 16]
    assert at("8", 4) == 8 and len(packed) == 40


def test_a_moment_of_adam_that_overflowed_is_not_a_state_to_return_to(settings):
    state = new_state(settings(), torch.device("cpu"))
    (moment, *_) = [value["exp_avg_sq"] for value in moments_after_a_step(state)]
    assert state.finite()
    moment.fill_(float("inf"))
    assert not state.finite()


def moments_after_a_step(state) -> list[dict]:
    state.G(torch.randn(4, state.config.network.latent)).sum().backward()
    state.adam_g.step()
    return list(state.adam_g.state.values())


def test_running_out_of_memory_is_one_plain_line(settings, monkeypatch):
    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB\nmore words")

    monkeypatch.setattr(training, "step", exhausted)
    with pytest.raises(UserError, match="smaller --batch") as caught:
        train(settings())
    assert "\n" not in str(caught.value)


def test_a_defect_is_not_taken_for_want_of_memory(settings, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(training, "step", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        train(settings())


def test_a_run_whose_checkpoints_are_gone_does_not_start_over(settings):
    run = train(settings())
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="are gone"):
        train(settings())


def test_a_start_left_out_is_the_run_s_own_when_it_is_taken_further(settings):
    first = settings("--max-res", 4)
    first = replace(first, network=replace(first.network, start_res=None))
    run = train(first)
    further = settings("--max-res", 8)
    train(replace(further, network=replace(further.network, start_res=None)))
    assert [entry["to_res"] for entry in growth(run)] == [4, 8, 8]
