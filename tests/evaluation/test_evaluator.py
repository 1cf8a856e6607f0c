"""Quality and diversity during training: measured without a trace in the run, and the best samples kept."""

import contextlib
import io
import json
import math
import os
import random
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runs import TINY, assert_same, assert_same_run, content, finish, start
from short import growth, interrupt_at, latest, make_settings, watch_losses, watch_steps

from pggan.config.presets import preset
from pggan.config.tables import PRESETS
from pggan.data.packing import ImageCache
from pggan.errors import Diverged, Interrupted, UserError
from pggan.evaluation import evaluator, figures
from pggan.evaluation.figures import FIGURES, Figure
from pggan.evaluation.samples import draw
from pggan.metrics.reference import Reference
from pggan.metrics.verdict import VERDICTS
from pggan.models.networks import Generator
from pggan.run import loop
from pggan.run.events import Events
from pggan.run.loop import train
from pggan.training import checkpoint
from pggan.training.loading import state_from
from pggan.training.state import new_state

pytest_plugins = ["short_runs"]

# 16 px in 13 steps, then 32 px in 25: measured at 56, 104 (its end), 152, 200, 256 and 304 (its end)
MEASURED = ["--start-res", 16, "--max-res", 32, "--builtin-images", 200]
MEASURED += ["--eval-kimg", 0.05, "--eval-samples", 100]
ONCE = [*MEASURED, "--max-res", 16, "--stable-kimg", 0.05]  # 16 px alone, measured at 56 images
BRIEF = [*MEASURED, "--stable-kimg", 0.05, "--fade-kimg", 0.05]  # measured at 56 (an end), 104, 152 and 160 (an end)
ENDS = [56, 104, 152, 200, 256, 304]


@dataclass
class Scorer:
    """Stands in for `score`: returns given values in turn, the last one forever, and keeps the samples it got.

    given: (verdict, quality) of the average; G itself gets 99.
    """

    given: list[tuple[str, float]]

    def __post_init__(self):
        self.seen: list[np.ndarray] = []
        self.raw: list[np.ndarray] = []

    def __call__(
        self, reference: object, fakes: np.ndarray, copies: bool = True, in_training: bool = False
    ) -> SimpleNamespace:
        (self.seen if copies else self.raw).append(fakes)
        verdict, quality = self.given[min(len(self.seen), len(self.given)) - 1] if copies else ("collapsed", 99.0)
        diversity = SimpleNamespace(value=0.5, low=0.4, high=0.6)
        return SimpleNamespace(diversity=diversity, rfd=quality, verdict=verdict, reason=f"quality is {quality:g}")


def measures(monkeypatch, *given: tuple[str, float], count: int = 10) -> Scorer:
    """Stands in for the measures. count: of held-out reals, which bounds the number of samples."""
    scorer = Scorer(list(given) or [("healthy", 1.0)])
    monkeypatch.setattr(evaluator, "score", scorer)
    monkeypatch.setattr(evaluator, "reference", lambda *_: SimpleNamespace(count=count))
    some = ("diversity/score", "diversity/verdict", "quality/rfd")
    monkeypatch.setattr(figures, "FIGURES", [figure for figure in FIGURES if figure.key in some])
    return scorer


def measured(run: Path) -> list[dict]:
    """The lines of metrics.jsonl about quality and diversity."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "diversity/verdict" in line]


def best(run: Path) -> dict[int, int]:
    """{resolution: nimg} of the best checkpoints."""
    found = [checkpoint.load(path) for path in sorted((run / "checkpoints").glob("best-*.pt"))]
    return {values["res"]: values["nimg"] for values in found}


# ---- the real measures


@pytest.fixture(scope="module")
def real(cache, tmp_path_factory) -> Path:
    """A run of 16 px alone that nothing in the measures was replaced for."""
    return train(make_settings(cache, tmp_path_factory.mktemp("real") / "run", *MEASURED, "--max-res", 16))


def test_a_run_writes_all_figures_of_the_average_and_a_few_of_g_itself(real):
    lines = measured(real)
    assert [line["nimg"] for line in lines] == ENDS[:2]
    for line in lines:
        for figure in FIGURES:
            for key in (figure.key, *([figure.raw_key] if figure.raw else [])):
                value = line[key]
                assert math.isfinite(value) and (figure.low is None or value >= figure.low)
                if figure.band:
                    assert line[f"{key}_low"] <= line[f"{key}_high"]
        assert 0 < line["speed/eval_share"] < 1 and line["kimg"] == line["nimg"] / 1000


def test_what_samples_look_like_after_a_hundred_images_is_not_called_healthy(real):
    assert measured(real)[-1]["diversity/verdict"] != VERDICTS.index("healthy")
    assert best(real) == {}


def test_the_images_are_measured_once_for_all_runs_on_them(real, settings, monkeypatch, capsys):
    monkeypatch.setattr(Reference, "of", None)
    again = train(settings(*ONCE))
    assert measured(again)[0]["diversity/score"] == measured(real)[0]["diversity/score"]
    assert "once" not in capsys.readouterr().out


# ---- when, and what


@dataclass
class Story:
    """A run of both stages whose evaluations were given, and what was seen of it."""

    run: Path
    scorer: Scorer
    said: list[str]
    evaluations: list[dict]


@pytest.fixture(scope="module")
def story(cache, tmp_path_factory) -> Story:
    given = [("collapsed", 1), ("healthy", 5), ("partial-collapse", 1), ("healthy", 1), ("healthy", 4), ("healthy", 4)]
    said, evaluations, real_evaluate = io.StringIO(), [], evaluator.evaluate

    def evaluate(state, alpha, *more):
        found = real_evaluate(state, alpha, *more)
        evaluations.append(found.record(state.nimg, state.res, alpha))
        return found

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        scorer = measures(patch, *given)
        patch.setattr(evaluator, "evaluate", evaluate)
        run = train(make_settings(cache, tmp_path_factory.mktemp("story") / "run", *MEASURED))
    return Story(run, scorer, said.getvalue().splitlines(), evaluations)


def test_every_multiple_and_every_end_of_a_stage_is_measured_once(story):
    assert [line["nimg"] for line in measured(story.run)] == ENDS
    assert [fakes.shape[:2] for fakes in story.scorer.seen] == [(10, 16)] * 2 + [(10, 32)] * 4
    assert [len(fakes) for fakes in story.scorer.raw] == [10] * 6
    kept = [checkpoint.load(story.run / "checkpoints" / f"res-{res:04d}.pt") for res in (16, 32)]
    assert [values["history"][-1]["nimg"] for values in kept] == [104, 304]


def test_a_fade_is_measured_at_its_alpha(story):
    assert [found["alpha"] for found in story.evaluations] == [1, 1, 0.48, 0.96, 1, 1]


def test_the_user_is_told_when_the_verdict_changes_and_why(story):
    assert [line for line in story.said if "quality is" in line] == [
        "16 px at 0.06 kimg: collapsed; quality is 1",
        "16 px at 0.10 kimg: healthy; quality is 5",
        "32 px at 0.15 kimg: partial-collapse; quality is 1",
        "32 px at 0.20 kimg: healthy; quality is 1",
    ]
    assert [line["diversity/verdict"] for line in measured(story.run)] == [2, 0, 1, 0, 0, 0]


def test_an_evaluation_is_a_plain_record_for_the_state(story, tmp_path):
    torch.save(story.evaluations, tmp_path / "history.pt")
    assert torch.load(tmp_path / "history.pt", weights_only=True) == story.evaluations
    for found, line in zip(story.evaluations, measured(story.run), strict=True):
        assert list(found) == ["nimg", "res", "alpha", "figures", "verdict", "reason"]
        assert found["figures"].items() <= line.items() and found["nimg"] == line["nimg"]


def test_one_entry_adds_a_figure(settings, monkeypatch):
    measures(monkeypatch)
    darkness = Figure("quality/darkness", "darkness", "share", "none", raw=True, of=lambda scores: scores.rfd / 2)
    monkeypatch.setattr(figures, "FIGURES", [*figures.FIGURES, darkness])
    line = measured(train(settings(*ONCE)))[0]
    assert (line["quality/darkness"], line["quality/raw_darkness"]) == (0.5, 49.5)


def test_no_more_samples_are_drawn_than_count_and_fewer_of_g_itself(settings, monkeypatch):
    scorer = measures(monkeypatch, count=250)
    train(settings(*ONCE, "--eval-samples", 300))
    assert {len(fakes) for fakes in scorer.seen} == {250}
    assert {len(fakes) for fakes in scorer.raw} == {evaluator.RAW_SAMPLES} == {200}


def test_nothing_is_measured_below_16_px_or_where_it_is_switched_off(settings, monkeypatch):
    monkeypatch.setattr(evaluator, "reference", None)
    assert [evaluator.wanted(settings(*MEASURED), res) for res in (8, 16, 32)] == [False, True, True]
    off = train(settings(*ONCE, "--eval-kimg", "0,64:1"))
    assert measured(off) == [] and latest(off)["history"] == [] and latest(off)["best"] == {}


def test_few_pictures_are_not_measured_and_one_line_says_so(settings, capsys):
    run = train(settings(*ONCE, "--builtin-images", 40))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "not measured" in line]
    assert line.startswith("quality and diversity are not measured at 16 px: ") and "200 real" in line
    assert measured(run) == [] and growth(run)[-1]["action"] == "stop"


def test_the_samples_are_the_same_latents_every_time_and_not_those_of_the_grids(settings, monkeypatch):
    given, real_draw = [], evaluator.draw_batches
    monkeypatch.setattr(evaluator, "draw_batches", lambda *args, **more: given.append(args) or real_draw(*args, **more))
    scorer = measures(monkeypatch)
    run = train(settings(*MEASURED, "--max-res", 16))
    assert len({args[2] for args in given}) == 1 and given[0][2] != 0
    state = state_from(latest(run), torch.device("cpu"))
    assert np.array_equal(scorer.seen[-1], draw(state.G_ema, 1.0, given[0][2], 10, batch=8))
    assert np.array_equal(scorer.raw[-1], draw(state.G, 1.0, given[0][2], 10, batch=8))
    assert not np.array_equal(scorer.seen[-1], draw(state.G_ema, 1.0, 0, 10, batch=8))


def test_no_number_that_is_none_is_written(settings, monkeypatch):
    measures(monkeypatch, ("healthy", math.nan))
    run = train(settings(*ONCE))
    assert all("quality/rfd" not in line and "quality/raw_rfd" in line for line in measured(run))
    assert best(run) == {}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_how_often_it_measures(name):
    run = preset(name).run
    assert run.eval_samples >= 100 and all(run.eval_kimg.at(res) >= 0 for res in (16, 32, 256))


# ---- it disturbs nothing


@pytest.mark.parametrize("arch", ["dcgan", "style"])  # with batch norm, and with noise
def test_measuring_does_not_change_training(settings, monkeypatch, arch):
    scorer = measures(monkeypatch)
    flags = [*MEASURED, "--max-res", 16]
    runs = [train(settings(*flags, *more, out=str(len(more)), arch=arch)) for more in ([], ["--eval-kimg", "0"])]
    assert scorer.seen
    one, two = (latest(run) for run in runs)
    for part in ("G", "D", "G_ema", "opt_G", "opt_D", "sums", "counts"):
        assert_same(one[part], two[part], part)


def test_g_is_drawn_from_in_full_precision_and_at_rest_and_left_as_it_was(settings):
    state = new_state(settings(*MEASURED, arch="dcgan"), torch.device("cpu"), precision="bf16")
    before = {name: tensor.clone() for name, tensor in state.G.state_dict().items()}
    with pytest.raises(KeyError), evaluator.at_rest(state.G) as raw:
        assert raw.autocast_dtype is None and not any(module.training for module in raw.modules())
        draw(raw, 1.0, 0, 4)
        raise KeyError
    assert state.G.autocast_dtype is torch.bfloat16 and all(module.training for module in state.G.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.G.state_dict().items())


def test_without_memory_samples_are_drawn_in_smaller_batches(settings, monkeypatch):
    G, batches, real_synthesize = new_state(settings(*MEASURED), torch.device("cpu")).G_ema, [], Generator.synthesize

    def synthesize(self, h, *more):
        batches.append(len(h))
        if len(h) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real_synthesize(self, h, *more)

    whole = draw(G, 1.0, 5, 10)
    monkeypatch.setattr(Generator, "synthesize", synthesize)
    drawn = evaluator.samples(G, 1.0, 5, 10, batch=16)
    assert batches == [16, 8, 4, *[2] * 5] and np.abs(drawn.astype(int) - whole).max() <= 1
    monkeypatch.setattr(Generator, "synthesize", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        evaluator.samples(G, 1.0, 5, 10, batch=16)


def test_what_the_user_can_mend_is_said_and_the_run_goes_on_unmeasured(settings, monkeypatch, capsys):
    measures(monkeypatch)
    seen = []
    monkeypatch.setattr(evaluator, "evaluate", lambda *_: seen.append(1) or (_ for _ in ()).throw(UserError("no luck")))
    run = train(settings(*BRIEF))
    said = capsys.readouterr().out
    assert "nothing more is measured at 16 px: no luck" in said and "at 32 px: no luck" in said and len(seen) == 2
    assert measured(run) == [] and growth(run)[-1]["action"] == "stop"


def test_a_defect_in_the_measures_ends_the_run_and_what_was_saved_goes_on(whole, settings, monkeypatch):
    by_place(monkeypatch)
    with monkeypatch.context() as patch:
        good = evaluator.evaluate
        patch.setattr(evaluator, "evaluate", lambda state, *more: good(state, *more) if state.nimg < 104 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(settings(*BRIEF))
    assert_same_run(whole, train(settings(*BRIEF)))


def test_a_weight_that_is_no_number_is_rolled_back_and_never_measured(settings, monkeypatch):
    scorer = measures(monkeypatch)

    def spoil(state, *_):
        if state.nimg == 48 and state.attempt == 0:
            next(state.G_ema.parameters()).data.fill_(math.nan)

    watch_steps(monkeypatch, after=spoil)
    run = train(settings(*MEASURED, "--max-res", 16))
    assert [entry["action"] for entry in growth(run)] == ["rollback", "stop"]
    assert len(scorer.seen) == 2 and [line["nimg"] for line in measured(run)] == ENDS[:2]


# ---- the pictures


def packed(pixels: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(images=lambda res: pixels)


def test_pictures_are_cut_from_the_center_of_a_packed_margin():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 25, 3), np.uint8)
    assert np.array_equal(evaluator.reals(packed(pixels), 16, (20, 16)), pixels[:, 2:18, 2:22])


def test_of_many_pictures_the_same_5000_are_measured():
    pixels = np.arange(6000 * 3, dtype=np.uint16).astype(np.uint8).reshape(6000, 1, 1, 3)
    one, two = (evaluator.reals(packed(pixels), 16, (1, 1)) for _ in range(2))
    assert len(one) == evaluator.MAX_REALS == 5000 and np.array_equal(one, two)
    assert not np.array_equal(one, pixels[:5000])


@pytest.mark.parametrize(("height", "width", "kept"), [(32, 32, (32, 32)), (64, 64, (64, 64)), (128, 160, (64, 64))])
def test_pictures_are_kept_no_larger_than_the_measures_look_at_them(height, width, kept):
    assert evaluator.shrunk(np.zeros((height, width, 3), np.uint8)).shape == (*kept, 3)


def test_what_is_remembered_of_the_pictures_depends_on_all_that_makes_them(settings, monkeypatch):
    keys = []
    monkeypatch.setattr(evaluator, "remembered", lambda key, *_: keys.append(json.dumps(key)) or {})
    monkeypatch.setattr(evaluator, "from_arrays", lambda *_: None)
    facts = {"names": [], "labels": None, "label_names": [], "unreadable": [], "ignored": 0, "ignored_names": ()}
    facts |= {"label_note": "", "brightest": 255}
    pack = ImageCache(folder=Path(), fingerprint="one", enlarged={}, crop_margin=1.0, **facts)
    config = settings(*MEASURED)
    evaluator.reference(config, pack, 16, print)
    evaluator.reference(config, pack, 32, print)
    evaluator.reference(settings(*MEASURED, "--fit", "pad"), pack, 16, print)
    evaluator.reference(settings(*MEASURED, "--base", "4x5"), pack, 16, print)
    evaluator.reference(config, replace(pack, fingerprint="two"), 16, print)
    evaluator.reference(config, replace(pack, unreadable=[("a.png", "empty file")]), 16, print)
    evaluator.reference(config, replace(pack, crop_margin=1.25), 16, print)
    assert len(set(keys)) == len(keys) == 7
    evaluator.reference(settings(*MEASURED, "--seed", 5, "--batch", 16, out="other"), pack, 16, print)
    assert keys[-1] == keys[0]


# ---- the best


def test_the_best_of_a_resolution_is_the_lowest_quality_of_those_healthy_and_past_the_fade(story):
    run = story.run
    assert best(run) == {16: 104, 32: 256}  # at 152 and 200 it fades; at 304 it is no better
    assert latest(run)["best"] == {16: 5, 32: 4}
    kept = checkpoint.load(run / "checkpoints" / "best-0032.pt")
    assert kept["best"] == latest(run)["best"] and kept["metrics_bytes"] < latest(run)["metrics_bytes"]


def test_the_best_is_a_whole_checkpoint_that_a_run_can_begin_from_with_a_best_of_its_own(settings, monkeypatch):
    measures(monkeypatch, ("healthy", 5), ("healthy", 7))
    run = train(settings(*MEASURED, "--max-res", 16))
    assert best(run) == {16: 56}
    measures(monkeypatch, ("healthy", 9))
    start = run / "checkpoints" / "best-0016.pt"
    other = train(settings(*MEASURED, "--max-res", 16, "--resume", start, out="other"))
    assert best(other) == {16: 104} and latest(other)["best"] == {16: 9}


def test_a_checkpoint_from_before_there_was_measuring_is_read(settings, monkeypatch):
    measures(monkeypatch)
    values = latest(train(settings(*MEASURED, "--max-res", 16)))
    old = {name: value for name, value in values.items() if name not in ("history", "best")}
    state = state_from(old, torch.device("cpu"))
    assert (state.history, state.best) == ([], {}) and old.keys() < values.keys()


def test_the_end_of_a_run_names_the_best(settings, monkeypatch):
    measures(monkeypatch, ("collapsed", 1))
    run = train(settings(*ONCE))
    assert "the best" not in loop.summary(run)
    measures(monkeypatch)
    run = train(settings(*ONCE, out="other"))
    assert f"the best     {run}/checkpoints/best-0016.pt" in loop.summary(run).splitlines()


# ---- killed, and rolled back


class Killed(BaseException):
    """What SIGKILL would do: nothing is saved any more."""


GIVEN = {56: 5, 152: 4, 160: 3}  # quality; in the fade it does not matter


def by_place(monkeypatch) -> None:
    """Measures that depend on the samples alone, as the real ones do: each is healthy, and better than the last."""
    measures(monkeypatch)
    real_evaluate = evaluator.evaluate

    def evaluate(state, *more):
        monkeypatch.setattr(evaluator.score, "given", [("healthy", GIVEN.get(state.nimg, 1.0))])
        return real_evaluate(state, *more)

    monkeypatch.setattr(evaluator, "evaluate", evaluate)


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory) -> Path:
    """The run of `by_place` that nobody disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        by_place(patch)
        return train(make_settings(cache, tmp_path_factory.mktemp("whole") / "run", *BRIEF))


SELDOM, ALWAYS = 5.0, 1e-9  # minutes between saves


@pytest.mark.parametrize(
    ("how", "nimg", "minutes"),
    [
        (Killed, 48, ALWAYS),  # in the stage's last step
        (Interrupted, 48, SELDOM),
    ],
)
def test_killed_and_started_again_a_measured_run_is_the_same_to_its_best(
    whole, settings, monkeypatch, how, nimg, minutes
):
    by_place(monkeypatch)
    with monkeypatch.context() as patch:
        if how is Killed:
            watch_steps(patch, before=lambda state, *_: state.nimg == nimg and (_ for _ in ()).throw(Killed()))
        else:
            interrupt_at(patch, nimg)
        with pytest.raises(how):
            train(settings(*BRIEF, "--save-minutes", minutes))
    run = train(settings(*BRIEF, "--save-minutes", minutes))
    assert best(run) == {16: 56, 32: 160}
    assert_same_run(whole, run)


@pytest.mark.parametrize(("name", "count", "when"), [("best", 1, "before"), ("best", 2, "after"), ("res", 1, "after")])
def test_a_kill_around_any_save_leaves_the_same_run(whole, settings, monkeypatch, name, count, when):
    by_place(monkeypatch)
    with monkeypatch.context() as patch:
        real_save, left = loop.RunDir.save, [count]

        def save(folder, state, kind="latest"):
            left[0] -= kind == name
            dies = kind == name and left[0] == 0
            if not (dies and when == "before"):
                real_save(folder, state, kind)
            if dies:
                raise Killed

        patch.setattr(loop.RunDir, "save", save)
        with pytest.raises(Killed):
            train(settings(*BRIEF))
    assert_same_run(whole, train(settings(*BRIEF)))


def fail_at(monkeypatch, nimg: int) -> None:
    """The first attempt's loss is no number at image `nimg`."""
    now = {}
    watch_steps(monkeypatch, before=lambda state, *_: now.update(nimg=state.nimg, attempt=state.attempt))
    watch_losses(monkeypatch, generator=lambda *_: math.nan if now == {"nimg": nimg, "attempt": 0} else None)


def test_a_rollback_keeps_the_best_that_is_there(settings, monkeypatch):
    measures(monkeypatch, ("healthy", 3), ("healthy", 5), ("healthy", 4))
    fail_at(monkeypatch, 64)
    run = train(settings(*MEASURED, "--max-res", 16))
    assert [entry["action"] for entry in growth(run)] == ["rollback", "stop"]
    assert [line["quality/rfd"] for line in measured(run)] == [3, 5, 4]
    kept = checkpoint.load(run / "checkpoints" / "best-0016.pt")
    assert (kept["nimg"], kept["attempt"]) == (56, 0) and latest(run)["best"] == {16: 3}
    assert latest(run)["metrics_bytes"] == (run / "metrics.jsonl").stat().st_size


def test_a_measured_rollback_is_exactly_resumable(settings, monkeypatch):
    by_place(monkeypatch)
    runs, flags = [], [*MEASURED, "--max-res", 16]
    for out, nimg in (("whole", None), ("run", 80)):
        with monkeypatch.context() as patch:
            fail_at(patch, 64)
            if nimg:
                watch_steps(
                    patch, before=lambda state, *_: (state.attempt, state.nimg) == (1, 80) and os.kill(os.getpid(), 15)
                )
                with pytest.raises(Interrupted):
                    train(settings(*flags, out=out))
            runs.append(train(settings(*flags, out=out)))
    assert_same_run(*runs)


def test_a_run_that_diverges_ends_as_without_measures(settings, monkeypatch):
    measures(monkeypatch)
    now = {}
    watch_steps(monkeypatch, before=lambda state, *_: now.update(nimg=state.nimg))
    watch_losses(monkeypatch, generator=lambda *_: math.nan if now["nimg"] == 64 else None)
    with pytest.raises(Diverged):
        train(settings(*MEASURED, "--max-res", 16))


@pytest.mark.slow
def test_sigkill_at_random_moments_leaves_a_measured_run_as_it_would_have_been(cache, tmp_path):
    flags = [*TINY, *MEASURED, "--max-res", 16, "--cache", cache]
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert finish(*flags, "--out", whole)[0] == 0
    seed = random.randrange(10**6)
    print("dice", seed)
    dice, killed = random.Random(seed), 0
    while True:
        process = start(*flags, "--out", out, "--save-minutes", 0.005)
        if killed < 2:
            before = len(measured(out)) if (out / "metrics.jsonl").exists() else 0
            while process.poll() is None and (not out.exists() or len(complete(out)) <= before):
                time.sleep(0.02)
            time.sleep(dice.uniform(0, 1.0))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
        _, err = process.communicate(timeout=600)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
    assert killed and measured(whole)
    assert_same_run(whole, out)


def complete(run: Path) -> list[bytes]:
    """The whole lines about quality and diversity of a run that goes on."""
    path = run / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [line for line in lines if b"diversity/verdict" in line]


# ---- what it costs


def test_what_measuring_costs_is_in_the_records_and_in_what_a_budget_plans_for(settings, monkeypatch):
    now, asked, ahead = SimpleNamespace(seconds=10.0), [], Events.seconds_to_finish
    real_step = loop.step

    def taking(seconds, call):
        def slow(*given, **more):
            now.seconds += seconds
            return call(*given, **more)

        return slow

    measures(monkeypatch)
    monkeypatch.setattr(evaluator, "reference", taking(3.0, evaluator.reference))
    monkeypatch.setattr(evaluator, "evaluate", taking(5.0, evaluator.evaluate))
    monkeypatch.setattr(loop, "step", taking(1.0, real_step))
    monkeypatch.setattr(Events, "seconds_to_finish", lambda run: asked.append(ahead(run)) or asked[-1])
    run = train(settings(*MEASURED, "--budget", "100s"), lambda: now.seconds)
    assert 95 <= now.seconds <= 100
    lines = measured(run)
    assert lines[0]["speed/eval_share"] == pytest.approx((3 + 5) / (3 + 7 + 5))
    assert lines[-1]["nimg"] == latest(run)["nimg"] == growth(run)[-1]["nimg"]
    assert max(asked) >= 6.0


def test_before_an_evaluation_was_timed_a_budget_guesses_by_samples_and_speed(settings):
    few, many = (evaluator.seconds(settings("--eval-samples", num), 0.12) for num in (100, 500))
    assert few == pytest.approx(200 * (0.004 + 0.02)) and many == pytest.approx(few * 3.5)


def test_an_interrupted_evaluation_line_is_never_left_in_half(settings, monkeypatch):
    """The line that is written last is the one that tells the next process how long the run has taken."""
    measures(monkeypatch)
    run = train(settings(*MEASURED, "--max-res", 16))
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["nimg"] == 104 and "diversity/score" in last and last["wall/seconds"] > 0
    assert content(run / "checkpoints" / "latest.pt")["metrics_bytes"] == (run / "metrics.jsonl").stat().st_size
