"""diversity.py as a command: its figures, its verdict, and what it refuses."""

import json
import os

import diversity
import numpy as np
import pytest
from PIL import Image

from pggan.data.builtin import draw
from pggan.errors import UserError

EVERY = ("d", "d_unclipped", "score_low", "score_high", "alike", "duplicate_share", "dropped_share", "coverage", "ndb")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """reals: 220 built-in pictures in a folder for each kind; others: 110 of another seed; one: 110 times a picture."""
    root = tmp_path_factory.mktemp("pictures")
    for name, seed, count in (("reals", 0, 220), ("others", 1, 110)):
        for index in range(count):
            folder = root / name / (f"kind{index % 10}" if name == "reals" else "")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw(seed, index, 32, 32)[0]).save(folder / f"{index:03d}.png")
    (root / "one").mkdir()
    for index in range(110):
        picture = draw(1, 3, 32, 32)[0] ^ np.uint8(index % 2)
        Image.fromarray(picture).save(root / "one" / f"{index:03d}.png")
    return root


@pytest.fixture
def measured(folders, tmp_path, capsys):
    """measured(real, fake, *flags) -> (the JSON, what was printed)."""

    def run(real: str, fake: str, *flags: str):
        out = tmp_path / "figures.json"
        places = (folders / real, folders / fake, "--json", out, "--cache", folders / "cache")
        diversity.main([*map(str, places), "--device", "cpu", *flags])
        return json.loads(out.read_text()), capsys.readouterr().out

    return run


def test_every_figure_the_verdict_and_its_reason_are_in_the_json(measured):
    figures, said = measured("reals", "others")
    assert all(np.isfinite(figures[name]) for name in EVERY)
    assert figures["verdict"] in ("healthy", "partial-collapse") and figures["reason"] in said
    assert 0.8 < figures["d"] <= 1 and "protocol:" in said and "sha256" not in figures["reason"]


def test_one_picture_is_a_collapse_and_the_training_pictures_themselves_are_copies(measured):
    assert measured("reals", "one", "--no-copies")[0]["verdict"] == "collapsed"
    figures, _ = measured("reals", "reals")
    assert figures["verdict"] == "memorization" and figures["copied_share"] == 1


def test_a_second_time_the_reals_are_remembered_and_the_figures_are_the_same(measured):
    assert measured("reals", "others")[0] == measured("reals", "others")[0]


def test_the_montage_is_a_picture(measured, tmp_path):
    measured("reals", "one", "--montage", str(tmp_path / "sheet.png"))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 200 and len(sheet.convert("RGB").getcolors(2**24)) > 50


def test_too_few_pictures_are_refused_with_the_numbers_needed(measured, folders):
    with pytest.raises(UserError, match="200"):
        measured("others", "reals")
    few = folders / "few"
    few.mkdir(exist_ok=True)
    for index in range(99):
        os.link(folders / "others" / f"{index:03d}.png", few / f"{index:03d}.png")
    with pytest.raises(UserError, match="100"):
        measured("reals", "few")


@pytest.mark.parametrize("flags", [["--num", "0"], ["--seed", "-1"], ["--montage", "x.txt"], ["--json", "no/x.json"]])
def test_bad_flags_are_refused_before_anything_is_read(measured, flags):
    with pytest.raises(UserError, match=flags[0]):
        measured("reals", "others", *flags)
