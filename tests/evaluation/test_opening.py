"""What the user wrote is opened as the set it names, at the size and fit of a checkpoint, or refused in one line."""

import os
import zipfile

import numpy as np
import pytest
from sets import make_checkpoint

from pggan.errors import UserError
from pggan.evaluation.opening import is_checkpoint, open_pair, open_set


def pixels(pictures) -> np.ndarray:
    return np.stack(list(pictures))


def test_reals_are_fitted_as_the_checkpoint_s_training_did(folder, tmp_path):
    path = make_checkpoint(tmp_path / "wide.pt", base="5x4", fit="pad")
    real, fake = open_pair(str(folder), str(path), num=2)
    assert real.size == fake.size == (10, 8) and real.fit == "pad"
    assert "pad to 10x8" in real.describe()
    assert {picture.shape for picture in (*real, *fake)} == {(8, 10, 3)}


def test_either_place_may_be_a_checkpoint_and_the_fake_s_size_goes_first(folder, trained, tmp_path):
    wide = make_checkpoint(tmp_path / "wide.pt", base="5x4")
    assert open_pair(str(trained), str(folder))[1].size == (8, 8)
    real, fake = open_pair(str(trained), str(wide), num=2)
    assert real.size == fake.size == (10, 8)


def test_two_folders_come_as_they_are_unless_res_says_a_size(folder):
    assert [pictures.size for pictures in open_pair(str(folder), str(folder))] == [None, None]
    assert [pictures.size for pictures in open_pair(str(folder), str(folder), res=12)] == [(12, 12)] * 2


def test_res_keeps_the_checkpoint_s_aspect(folder, tmp_path):
    path = make_checkpoint(tmp_path / "wide.pt", base="5x4")
    assert open_pair(str(folder), str(path), num=2, res=16)[0].size == (20, 16)


def test_as_many_samples_as_reals_within_bounds(folder, trained):
    assert len(open_pair(str(folder), str(trained))[1]) == 1000
    for count, samples in ((1000, 1000), (1403, 1403), (50_001, 50_000)):
        assert len(open_pair("builtin", str(trained), builtin_images=count)[1]) == samples
    assert len(open_pair(str(folder), str(trained), num=3)[1]) == 3


def test_a_checkpoint_against_itself_is_the_same_pictures(trained):
    real, fake = open_pair(str(trained), str(trained), num=5)
    assert np.array_equal(pixels(real), pixels(fake))


# ---- what is refused


def test_what_is_no_set_is_refused_in_one_line(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "garbage.zip").write_bytes(b"PK\x03\x04garbage")
    with zipfile.ZipFile(tmp_path / "nothing.zip", "w"):
        pass
    with zipfile.ZipFile(tmp_path / "fake.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"garbage")
    os.mkfifo(tmp_path / "pipe.pt")
    for directory in ("checkpoints", "samples"):
        (tmp_path / "run" / directory).mkdir(parents=True)
    said = {
        "": "an empty name",
        "missing": "no such folder, zip file or checkpoint",
        "a\nname": "no such folder",
        "empty": "holds no pictures",
        "text.pt": "no checkpoint of this project",
        "text.txt": "neither a folder nor a zip",
        "garbage.zip": "cannot be read as a zip",
        "nothing.zip": "holds no pictures",
        "fake.pt": "no checkpoint of this project",
        "pipe.pt": "neither a folder nor a zip",
        "run": "is the folder of a run: name a checkpoint in it",
        "builtin:x": "the seed of the built-in pictures",
    }
    for name, words in said.items():
        spec = str(tmp_path / name) if name and not name.startswith("builtin") else name
        for opening in (lambda spec=spec: open_set(spec), lambda spec=spec: open_pair(str(folder), spec)):
            with pytest.raises(UserError, match=words) as caught:
                opening()
            assert "\n" not in str(caught.value)


def test_a_folder_named_like_a_checkpoint_is_a_folder(folder, tmp_path):
    assert not is_checkpoint(str(folder.rename(tmp_path / "latest.pt")))
    assert len(open_set(str(tmp_path / "latest.pt"))) == 30


def test_a_checkpoint_is_known_by_its_content_and_not_by_its_name(trained, tmp_path):
    copy = tmp_path / "generator"
    copy.write_bytes(trained.read_bytes())
    assert is_checkpoint(str(copy)) and len(open_set(str(copy), num=2)) == 2


@pytest.mark.parametrize("res", [0, -8, 10**9])
def test_a_size_that_cannot_be_is_refused(res):
    with pytest.raises(UserError, match="--res"):
        open_pair("builtin", "builtin:1", res=res)
