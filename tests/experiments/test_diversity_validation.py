"""The fast part of experiments/diversity-validation: the verdict on sets that are known to be varied or not."""

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments" / "diversity-validation"))

import figures
import run
from baselines import SIGNALS, baselines, ms_ssim, ms_ssim_of_pairs
from cases import (
    COLLAPSED,
    HEALTHY,
    MEMORIZATION,
    NOT_HEALTHY,
    PARTIAL,
    TOO_EARLY,
    Case,
    cases,
    copied,
    distinct,
    held_out,
    noise_of,
    one_mode,
    only,
    worse,
)
from pictures import DRAWN, Split, split

from pggan.config.schema import NetworkConfig
from pggan.evaluation.samples import draw
from pggan.metrics.random_features import random_features
from pggan.metrics.reference import Reference
from pggan.metrics.scores import Scores, score
from pggan.models.networks import Generator

N = {"builtin": 150, "shapes": 250}  # samples
IMAGES = {"builtin": 500, "shapes": 1600}  # twice as many as samples are reals


@cache
def bench(name: str) -> tuple[Split, Reference]:
    """A split, and the measures of its reals."""
    parts = split(DRAWN[name](6, IMAGES[name]), 2 * N[name], 0)
    return parts, Reference.of(parts.reals)


def scored(name: str, make, copies: bool = False) -> Scores:
    parts, reference = bench(name)
    return score(reference, make(parts, N[name], np.random.default_rng(0)), copies=copies)


def test_a_case_for_which_every_verdict_is_right_counts_for_nothing():
    row = {"part": "frozen", "source": "x", "case": "4 kimg", "reason": "", "right": True, "right with network": True}
    row |= {"verdict": "too-early", "with network": "too-early"}
    rows = [
        row | {"group": "young", "expected": sorted(run.UNJUDGED)},
        row | {"group": "noise", "expected": ["too-early"]},
    ]
    page = figures.verdicts({"rows": rows, "about": {"commits": ["c"], "torch": "2", "core seconds": 1}})
    assert "| young | 1 |  |  |" in page and "| all | 2 | 1 of 1 | 1 of 1 |" in page


@pytest.mark.parametrize(("k", "right"), [(4, COLLAPSED), (60, PARTIAL), (N["builtin"], HEALTHY)])
def test_k_distinct_images_get_the_right_verdict(k, right):
    assert scored("builtin", distinct(k)).verdict in right


def test_jitter_does_not_make_four_pictures_many():
    assert scored("builtin", distinct(4, shift=2, noise=8.0, light=0.05)).verdict in COLLAPSED


@pytest.mark.parametrize(("p", "right"), [(0.1, PARTIAL), (0.9, COLLAPSED)])
def test_a_share_of_one_image_is_seen(p, right):
    found = scored("builtin", one_mode(p))
    assert found.verdict in right
    assert found.evidence.largest == pytest.approx(p, abs=0.02)


def test_three_of_four_shapes_dropped_are_seen():
    assert scored("shapes", only({0})).verdict in NOT_HEALTHY


def test_the_dropped_shape_is_found():
    parts, reference = bench("shapes")
    dropped = parts.kind_names.index("square")
    found = scored("shapes", only(set(range(len(parts.kind_names))) - {dropped}))
    shares, fitted = max(found.dropped.values(), key=np.sum), reference.order[reference.count :]
    assert found.verdict in PARTIAL
    assert shares[parts.real_kinds[fitted] == dropped].sum() > 0.8 * shares.sum()


def test_a_blur_is_no_collapse():
    assert scored("builtin", worse("gaussian", 1.5)).verdict == "healthy"


@pytest.mark.parametrize("kind", ["white", "blobs"])
def test_noise_is_not_like_the_reals(kind):
    assert scored("builtin", noise_of(kind)).verdict in TOO_EARLY | COLLAPSED


@pytest.mark.parametrize("how", ["flipped", "shifted"])
def test_copies_are_memorized(how):
    found = scored("builtin", copied(0.3, how), copies=True)
    assert found.verdict in MEMORIZATION
    assert 0.2 < found.evidence.copied < 0.32


@pytest.mark.parametrize("name", ["builtin", "shapes"])
def test_held_out_sets_are_healthy(name):
    parts, reference = bench(name)
    for seed in range(3):
        found = score(reference, held_out(parts, 100 + 20 * seed, np.random.default_rng(seed)), copies=seed == 0)
        assert found.verdict == "healthy", found.reason


def test_a_generator_truncated_to_almost_nothing_has_collapsed():
    config = NetworkConfig(arch="style", fmap_base=128, fmap_max=16, latent=16, start_res=32, max_res=32)
    generator = Generator(config, torch.Generator().manual_seed(0)).eval()
    reference = Reference.of(draw(generator, 1.0, 0, 200, batch=50))
    fakes = {psi: draw(generator, 1.0, 1, 100, psi, batch=50) for psi in (1.0, 0.1)}
    found = {psi: score(reference, some, copies=False) for psi, some in fakes.items()}
    assert found[1.0].verdict == "healthy"
    assert found[0.1].verdict == "collapsed"


@pytest.mark.parametrize("part", ["development", "frozen"])
def test_every_case_makes_the_same_images_twice(part):
    parts, _ = bench("shapes")
    for case in cases(part, parts, 40, thorough=True):
        once, again = (case.make(parts, 40, np.random.default_rng(1)) for _ in range(2))
        assert once.dtype == np.uint8 and once.shape == (len(once), 64, 64, 3)
        assert np.array_equal(once, again), case.name
        assert 30 <= len(once) <= 40


def test_a_row_of_the_table_has_the_verdict_and_every_measure(monkeypatch):
    monkeypatch.setattr(run, "RANGE", 2)
    case = Case("copies", "all", copied(1.0, "as they are"), MEMORIZATION, copies=True)
    row = run.Bench("builtin", bench("builtin")[0]).row("frozen", case, 100)
    assert row["right"] and row["verdict"] == "memorization" and row["evidence"]["copied"] > 0.9
    assert row["others right"].keys() == row["lowest"].keys() == set(SIGNALS)
    assert "| copies: all | 100 | = memorization |" in figures.every([row])


def test_ms_ssim_is_one_for_equal_images_and_low_for_noise():
    noise = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert ms_ssim(noise, noise) == pytest.approx(torch.ones(4), abs=1e-5)
    assert ms_ssim(noise, noise.flip(0)).max() < 0.2
    assert ms_ssim_of_pairs(np.repeat(bench("builtin")[0].pool[:1], 8, axis=0)) == pytest.approx(1, abs=1e-5)


def test_other_measures_fall_to_zero_for_one_image():
    parts, reference = bench("builtin")
    reals = reference.random.astype(np.float64)
    fakes = np.repeat(parts.pool[:1], 150, axis=0)
    found = baselines(reals, fakes, reference.balance(random_features(fakes)))
    assert found["vendi"] == pytest.approx(1, abs=1e-4)
    assert found["distance"] == pytest.approx(0, abs=1e-6)
    assert found["ms-ssim"] == pytest.approx(0, abs=1e-5)
    assert found["recall"] == 0
    assert found["coverage"] < 0.1
