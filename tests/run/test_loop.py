"""What each step of the loop is given, and what a run is packed and started with."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from short import growth, latest, watch_losses, watch_pictures, watch_steps

from pggan.config.schema import Config
from pggan.data.packing import ImageCache
from pggan.errors import UserError
from pggan.models.networks import Generator, fade_reals
from pggan.run import loop, setup
from pggan.run.loop import train
from pggan.training import ema
from pggan.training.state import new_state

pytest_plugins = ["short_runs"]

# ---- what a step is given


def test_reals_are_the_images_of_the_stream_in_turn_faded_as_the_networks_are(settings, monkeypatch):
    given, wanted, alphas, opened = [], [], [], watch_pictures(monkeypatch)

    def expect(state, _):
        alphas.append(state.alpha)
        wanted.append(fade_reals(opened[-1].batch(state.nimg, 8), alphas[-1]))

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

    def forward(self, z, *more):
        given.append(z.clone())
        return real(self, z, *more)

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
    train(settings("--penalty-weight", "4:1,8:16"))
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
    factors, real = [], ema.update
    monkeypatch.setattr(ema, "update", lambda a, b, *both: (factors.append(both[0]), real(a, b, *both)))
    train(settings("--max-res", 4, "--ema-kimg", "0.004", "--ema-rampup", "0.05"))
    halves = [min(4.0, 0.05 * 8 * (number + 1)) for number in range(13)]
    assert factors == pytest.approx([0.5 ** (8 / half) for half in halves])


# ---- small things


def test_the_default_folder_is_named_by_data_preset_and_size_never_by_the_time():
    config = Config()
    assert setup.open_folder(config).path == Path("runs/builtin-paintings-256")
    for data, name in (("builtin:7", "builtin-7"), ("some/birds.zip", "birds"), ("some/birds/", "birds")):
        named = replace(config, data=replace(config.data, data=data))
        assert setup.open_folder(named).path == Path(f"runs/{name}-paintings-256")


def test_a_device_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda is not available"):
        setup.pick_device("cuda")


def test_threads_are_stored_with_the_run_and_taken_up_again(settings, monkeypatch):
    run = train(settings("--max-res", 4, "--threads", 1))
    seen = SimpleNamespace(threads=[])
    monkeypatch.setattr(torch, "set_num_threads", seen.threads.append)
    train(settings("--threads", 0))
    assert set(seen.threads) == {1} and latest(run)["threads"] == 1


def test_all_stages_left_are_packed_at_once_before_the_first_step(settings, monkeypatch):
    levels = []
    monkeypatch.setattr(loop, "run_stages", lambda events, state, images: levels.append(images))
    train(settings("--max-res", 16))
    (packed,) = levels
    assert isinstance(packed, ImageCache) and [packed.images(res).shape[1] for res in (4, 8, 16)] == [4, 8, 16]
    assert len(packed) == 40


def test_a_moment_of_adam_that_overflowed_is_not_a_state_to_return_to(settings):
    state = new_state(settings(), torch.device("cpu"))
    (moment, *_) = [value["exp_avg_sq"] for value in moments_after_a_step(state)]
    assert state.finite()
    moment.fill_(float("inf"))
    assert not state.finite()


def moments_after_a_step(state) -> list[dict]:
    state.G(torch.randn(4, state.config.network.latent)).sum().backward()
    state.opt_G.step()
    return list(state.opt_G.state.values())


def test_running_out_of_memory_is_one_plain_line(settings, monkeypatch):
    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB\nmore words")

    monkeypatch.setattr(loop, "step", exhausted)
    with pytest.raises(UserError, match="smaller --batch") as caught:
        train(settings())
    assert "\n" not in str(caught.value)


def test_a_defect_is_not_taken_for_want_of_memory(settings, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(loop, "step", broken)
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
