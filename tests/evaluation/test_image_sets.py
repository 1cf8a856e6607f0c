"""Picture sets: every kind of argument gives the pictures it says, in order, and what is wrong is one plain line."""

import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pggan.config.schema import Config, DataConfig, NetworkConfig
from pggan.data import builtin, packing, reading
from pggan.data.sources import open_source
from pggan.errors import UserError
from pggan.evaluation import image_sets
from pggan.evaluation.image_sets import AHEAD, is_checkpoint, open_pair, open_set, samples_for
from pggan.evaluation.samples import draw
from pggan.training import checkpoint
from pggan.training.state import load_generator, new_state


def noise(number: int, width: int = 24, height: int = 20) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """30 pictures of 24x20 px in two classes, the file of number i holding noise(i)."""
    for number in range(30):
        path = tmp_path / "pictures" / ("b" if number >= 18 else "a") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(number)).save(path)
    return tmp_path / "pictures"


def make_checkpoint(path: Path, base: str = "4x4", fit: str = "crop", seed: int = 0) -> Path:
    """Networks as they are born, at the first resolution of `base`."""
    rung = min(map(int, base.split("x"))) * 2
    network = NetworkConfig(base=base, start_res=rung, max_res=rung, fmap_base=32, fmap_max=8, latent=8)
    state = new_state(Config(network=network, data=DataConfig(fit=fit)), torch.device("cpu"), attempt=seed)
    checkpoint.save(state.to_dict(), path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("trained") / "latest.pt")


def pixels(pictures) -> np.ndarray:
    return np.stack(list(pictures))


# ---- what comes out


def test_without_a_size_pictures_come_as_they_are_and_in_order(folder):
    pictures = open_set(str(folder))
    assert len(pictures) == 30 and pictures.names[0] == "a/00.png" and pictures.size is None
    assert np.array_equal(pixels(pictures), np.stack([noise(number) for number in range(30)]))
    assert pictures.labels == [0] * 18 + [1] * 12 and pictures.label_names == ["a", "b"]


@pytest.mark.parametrize("fit", reading.FITS)
def test_with_a_size_they_are_the_pictures_that_training_packs(folder, tmp_path, fit):
    packed = packing.pack(open_source(str(folder), 0, tmp_path / "cache"), [(8, 8, 8)], fit, progress=False)
    assert np.array_equal(pixels(open_set(str(folder), size=(8, 8), fit=fit)), packed.images(8))


def test_mixed_sizes_come_each_at_its_own(folder):
    Image.fromarray(noise(99, 50, 3)).save(folder / "a" / "wide.png")
    shapes = [picture.shape for picture in open_set(str(folder))]
    assert shapes.count((20, 24, 3)) == 30 and shapes.count((3, 50, 3)) == 1


def test_a_zip_holds_what_its_folder_holds(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    zipped, plain = open_set(str(tmp_path / "pictures.zip")), open_set(str(folder))
    assert zipped.names == plain.names and zipped.labels == plain.labels
    assert np.array_equal(pixels(zipped), pixels(plain))


@pytest.mark.parametrize("size", [None, (12, 15)])
def test_builtin_is_drawn_at_the_size(size):
    pictures = open_set("builtin:7", size=size, builtin_images=11)
    width, height = size or (256, 256)
    wanted = [builtin.draw(7, index, width, height)[0] for index in range(11)]
    assert np.array_equal(pixels(pictures), np.stack(wanted))
    assert pictures.label_names == list(builtin.KINDS) and len(pictures.labels) == 11


def test_a_checkpoint_gives_the_samples_that_sample_py_draws(trained):
    pictures = open_set(str(trained), num=21, seed=5)
    assert len(pictures) == 21 and pictures.names[20] == "00020" and pictures.labels is None
    assert np.array_equal(pixels(pictures), draw(*load_generator(trained), 5, 21))
    assert np.array_equal(pixels(pictures), pixels(pictures))


def test_samples_at_another_size_are_fitted_as_pictures_are(trained):
    own = draw(*load_generator(trained), 0, 3)
    pictures = open_set(str(trained), num=3, size=(6, 6), fit="crop")
    wanted = [reading.fit(Image.fromarray(sample), 6, 6, "crop") for sample in own]
    assert np.array_equal(pixels(pictures), np.stack(wanted))
    assert "crop to 6x6" in pictures.describe() and "crop" not in open_set(str(trained), num=3).describe()


def test_mapped_prepares_each_picture_and_stacks_batches(folder):
    batches = list(open_set(str(folder)).mapped(lambda picture: picture.mean(axis=(0, 1)), batch=8))
    assert [len(batch) for batch in batches] == [8, 8, 8, 6]
    wanted = np.stack([noise(number).mean(axis=(0, 1)) for number in range(30)])
    assert np.array_equal(np.concatenate(batches), wanted)


def test_pictures_may_be_written_to(folder, trained):
    for pictures in (
        open_set(str(folder)),
        open_set(str(folder), size=(8, 8)),
        open_set(str(trained), num=2, size=(6, 6)),
    ):
        assert all(picture.flags.writeable for picture in pictures)


@pytest.mark.parametrize("count", [10 * AHEAD])
def test_no_more_pictures_are_prepared_than_a_little_ahead(count):
    prepared = []
    pictures = open_set("builtin", size=(4, 4), builtin_images=count)
    for number, _ in enumerate(pictures.mapped(lambda picture: prepared.append(0) or picture, batch=1)):
        assert len(prepared) <= number + 1 + AHEAD
    assert len(prepared) == count


def test_a_pass_that_is_given_up_ends_its_threads_and_leaves_warnings_as_they_were(folder):
    before = list(warnings.filters)
    passing = iter(open_set(str(folder)))
    next(passing)
    passing.close()
    assert list(warnings.filters) == before


def test_an_error_of_prepare_reaches_the_caller(folder):
    with pytest.raises(ZeroDivisionError):
        list(open_set(str(folder)).mapped(lambda picture: 1 // 0, batch=4))


def test_a_part_is_a_random_choice_of_what_can_be_read_in_order(folder, trained):
    (folder / "a" / "04.png").write_text("no picture")
    pictures = open_set(str(folder), size=(8, 8))
    whole = dict(zip([name for name in pictures.names if name != "a/04.png"], pixels(pictures), strict=True))
    part, other = (pictures.part(12, seed) for seed in (0, 1))
    assert len(part) == len(part.labels) == 12 and part.names == sorted(part.names) != other.names
    assert np.array_equal(pixels(part), np.stack([whole[name] for name in part.names]))
    assert part.labels == [int(name.startswith("b")) for name in part.names]
    assert pictures.part(100, 0).names == pictures.names
    for endless in (open_set("builtin:3", size=(8, 8), builtin_images=20), open_set(str(trained), num=20)):
        assert np.array_equal(pixels(endless.part(6, 0)), pixels(endless)[:6])
        assert len(endless.part(30, 0)) == 20


# ---- pairs


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
    assert [samples_for(count) for count in (0, 2, 1000, 1403, 60_000)] == [1000, 1000, 1000, 1403, 50_000]
    assert len(open_pair(str(folder), str(trained))[1]) == 1000
    assert len(open_pair("builtin", str(trained), builtin_images=1234)[1]) == 1234
    assert len(open_pair(str(folder), str(trained), num=3)[1]) == 3


def test_a_checkpoint_against_itself_is_the_same_pictures(trained):
    real, fake = open_pair(str(trained), str(trained), num=5)
    assert np.array_equal(pixels(real), pixels(fake))


# ---- identity


def test_identity_changes_with_whatever_changes_a_picture(folder, trained, tmp_path):
    other = make_checkpoint(tmp_path / "other.pt", seed=1)
    sets = [
        open_set(str(folder)),
        open_set(str(folder), size=(8, 8)),
        open_set(str(folder), size=(8, 8), fit="pad"),
        *(open_set(f"builtin:{seed}", builtin_images=count) for seed in (0, 1) for count in (20, 21)),
        *(open_set(str(path), num=num, seed=s) for path in (trained, other) for num in (3, 4) for s in (0, 1)),
    ]
    identities = [pictures.identity() for pictures in sets]
    Image.fromarray(noise(99)).save(folder / "a" / "07.png")
    identities.append(open_set(str(folder)).identity())
    os.rename(folder / "a" / "07.png", folder / "a" / "7.png")
    identities.append(open_set(str(folder)).identity())
    assert len(set(identities)) == len(identities)


def test_identity_is_of_the_content_and_not_of_the_place(folder, tmp_path):
    before = open_set(str(folder)).identity()
    assert open_set(f"{folder}/../{folder.name}/").identity() == before
    folder.rename(tmp_path / "elsewhere")
    assert open_set(str(tmp_path / "elsewhere")).identity() == before


def test_pictures_that_change_while_they_are_read_are_noticed(folder, trained, tmp_path):
    pictures = open_set(str(folder))
    pictures.identity()
    pictures.check_unchanged()
    Image.fromarray(noise(99)).save(folder / "a" / "07.png")
    with pytest.raises(UserError, match="changed while they were read"):
        pictures.check_unchanged()
    for other in (open_set(str(trained)), open_set("builtin")):
        other.identity()
        other.check_unchanged()


# ---- what cannot be read


def test_unreadable_files_are_left_out_counted_and_named(folder):
    (folder / "a" / "04.png").write_text("no picture")
    (folder / "b" / "bad\n\udcff.png").write_bytes(b"")
    pictures = open_set(str(folder))
    assert pictures.notes() == []
    assert len(pixels(pictures)) == len(pictures) == len(pictures.names) == len(pictures.labels) == 29
    assert "a/04.png" not in pictures.names
    (note,) = pictures.notes()
    assert "2 of 31 pictures" in note and "a/04.png (not a picture" in note and "\n" not in note
    note.encode()


def test_more_than_a_tenth_unreadable_is_refused(folder):
    for number in range(4):
        (folder / "a" / f"{number:02d}.png").write_text("no picture")
    with pytest.raises(UserError, match=r"4 of 30 pictures of .* cannot be read: a/00\.png \(not a picture"):
        list(open_set(str(folder)))


def test_a_single_picture_that_is_a_text_is_refused(tmp_path):
    (tmp_path / "only.png").write_text("no picture")
    with pytest.raises(UserError, match="1 of 1 pictures"):
        list(open_set(str(tmp_path), size=(4, 4)))


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


@pytest.mark.parametrize("wrong", [{"num": 0}, {"num": -1}, {"seed": -1}])
def test_wrong_numbers_are_refused(trained, wrong):
    with pytest.raises(UserError, match=r"--num|--seed"):
        open_set(str(trained), **wrong)
    with pytest.raises(UserError, match=r"--num|--seed"):
        open_pair("builtin", str(trained), **wrong)


@pytest.mark.parametrize("res", [0, -8, 10**9])
def test_a_size_that_cannot_be_is_refused(res):
    with pytest.raises(UserError, match="--res"):
        open_pair("builtin", "builtin:1", res=res)


def test_a_bomb_is_named(folder, monkeypatch):
    monkeypatch.setattr(reading, "MAX_PIXELS", 100)
    with pytest.raises(UserError, match=r"a/00\.png would unpack"):
        list(image_sets.open_set(str(folder)))
