"""Augmentation does not leak: G learns the reals, not the augmented reals. Tested on a GAN of two layers each.

The reals have a bright top, a dark part below on the right, and no gray: turned, shifted, cut or recolored, they would
be told from the others. The measures are tried on planted leaks first.
"""

import pytest
import torch
import torch.nn.functional as F
from leaks import color_cast, cut_places, wrongly_turned
from torch import Tensor, nn

from pggan.config.augmentation import Augmentation
from pggan.config.presets import with_settings
from pggan.config.schema import Config
from pggan.config.validation import validate
from pggan.models.noise import latents
from pggan.randomness import Stream
from pggan.training.augment import augment, augment_draws

CPU = torch.device("cpu")
SIDE, BATCH, STEPS, LATENT, WIDTH, R1 = 8, 64, 250, 8, 64, 0.1
STREAM = Stream(1)


# As much as the settings allow of all at once.
ALLOWED = Augmentation(translation=0.8, cutout=0.8, color=0.3, turns=0.5)


def reals(index: int, count: int) -> Tensor:
    """[count, 3, 8, 8]: three flat fields, each of a brightness that varies by image."""
    fields = torch.empty(3, SIDE, SIDE)
    fields[:, :4] = torch.tensor([0.7, 0.5, 0.9])[:, None, None]
    fields[:, 4:, :4] = torch.tensor([0.3, 0.8, -0.4])[:, None, None]
    fields[:, 4:, 4:] = torch.tensor([-0.6, -0.3, -0.8])[:, None, None]
    factors = 0.8 + 0.4 * torch.from_numpy(STREAM.uniform("reals", index, count, 4)).float()
    places = torch.tensor([0, 0, 1, 2]).reshape(2, 2)  # which factor is that of which quarter
    return fields * factors[:, places].repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]


def learned(of_reals: Augmentation, of_fakes: Augmentation, seed: int = 0) -> Tensor:
    """[1000, 3, 8, 8]: samples of a G trained by logistic loss and R1 with augmented images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        G, D = (
            nn.Sequential(nn.Linear(before, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, after))
            for before, after in ((LATENT, 3 * SIDE * SIDE), (3 * SIDE * SIDE, 1))
        )
    opt_G, opt_D = (torch.optim.Adam(player.parameters(), lr=0.002, betas=(0.0, 0.99)) for player in (G, D))

    def fakes(purpose: str, index: int, count: int = BATCH) -> Tensor:
        return G(latents(STREAM, purpose, index, count, LATENT, CPU)).unflatten(1, (3, SIDE, SIDE))

    def logits(images: Tensor, augmentation: Augmentation, purpose: str, index: int) -> Tensor:
        draws = augment_draws(STREAM, purpose, index, BATCH, CPU, augmentation)
        return D(augment(images, draws, 1.0, augmentation).flatten(1))

    for index in range(0, STEPS * BATCH, BATCH):
        real = reals(index, BATCH).requires_grad_()
        above, below = logits(real, of_reals, "a", index), logits(fakes("D", index).detach(), of_fakes, "b", index)
        (slope,) = torch.autograd.grad(above.sum(), real, create_graph=True)
        opt_D.zero_grad()
        (F.softplus(-above) + F.softplus(below) + R1 / 2 * slope.square().sum() / BATCH).mean().backward()
        opt_D.step()
        opt_G.zero_grad()
        F.softplus(-logits(fakes("G", index), of_fakes, "c", index)).mean().backward()
        opt_G.step()
    return fakes("samples", 0, 1000).detach()


HELD = reals(10**6, 1000)


# --- the measures see what is planted, and nothing in reals


def test_other_reals_have_none_of_it():
    others = reals(2 * 10**6, 1000)
    assert color_cast(others, HELD) < 0.02 and cut_places(others, HELD) == 0 and wrongly_turned(others, HELD) == 0


@pytest.mark.parametrize("offset", [[0.1, 0, 0], [0, -0.1, 0.05], [-0.1, -0.1, -0.1]])
def test_a_planted_cast_is_seen(offset):
    tinted = reals(2 * 10**6, 1000) + torch.tensor(offset)[:, None, None]
    assert color_cast(tinted, HELD) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("rows", [slice(0, 2), slice(-2, None)])
@pytest.mark.parametrize("columns", [slice(0, 2), slice(-2, None)])
def test_a_planted_cut_corner_is_seen(rows, columns):
    cut = reals(2 * 10**6, 1000)
    cut[:70, :, rows, columns] = 0.01
    assert cut_places(cut, HELD) == pytest.approx(0.07)


@pytest.mark.parametrize("way", [(slice(0, 1), slice(None)), (slice(None), slice(-1, None))])
def test_a_planted_empty_edge_is_seen(way):
    cut = reals(2 * 10**6, 1000)
    cut[30:90][:, :, *way] = 0
    assert cut_places(cut, HELD) == pytest.approx(0.06)


def test_planted_turns_and_flips_are_seen():
    turned = reals(2 * 10**6, 1000)
    turned[:50], turned[50:90], turned[90:120] = (
        turned[:50].rot90(1, (2, 3)),
        turned[50:90].flip(2),
        turned[90:120].flip(3),
    )
    assert wrongly_turned(turned, HELD) == pytest.approx(0.12)


# --- what G learns


def test_as_much_as_is_allowed_does_not_leak():
    validate(with_settings(Config(), {"augment": ",".join(f"{k}:{v}" for k, v in ALLOWED.strengths().items())}))
    samples = learned(ALLOWED, ALLOWED)
    assert color_cast(samples, HELD) < 0.05
    assert cut_places(samples, HELD) < 0.01
    assert wrongly_turned(samples, HELD) < 0.01


def test_turns_of_every_image_do_leak():
    """This is why there is a bound. G settles on one of the four orientations; some seeds find the right one."""
    always = Augmentation(turns=1.0)
    assert wrongly_turned(learned(always, always), HELD) > 0.9


def test_changing_the_reals_alone_does_leak():
    samples = learned(Augmentation(translation=0.8, cutout=0.8), Augmentation())
    assert color_cast(samples, HELD) > 0.07 and cut_places(samples, HELD) > 0.03
