"""Image sets give the images they name, in order; what cannot be read is one plain line."""

import os
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image
from sets import make_checkpoint, noise

from pggan.data import builtin, packing, reading
from pggan.data.sources import open_source
from pggan.errors import UserError
from pggan.evaluation.opening import open_set
from pggan.evaluation.samples import draw
from pggan.metrics.ahead import AHEAD, THREADS
from pggan.training.loading import load_generator


def pixels(pictures) -> np.ndarray:
    return np.stack(list(pictures))


# ---- what comes out


def test_without_a_size_pictures_come_as_they_are_and_in_order(folder):
    pictures = open_set(str(folder))
    assert len(pictures) == 30 and pictures.names[0] == "a/00.png" and pictures.size is None
    assert np.array_equal(pixels(pictures), np.stack([noise(number) for number in range(30)]))
    assert pictures.labels == [0] * 18 + [1] * 12 and pictures.source.label_names == ["a", "b"]


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
    assert pictures.source.label_names == list(builtin.KINDS) and len(pictures.labels) == 11


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


def test_all_images_may_be_read_into_one_array_and_some_by_number(folder, trained):
    (folder / "a" / "04.png").write_text("no picture")
    sets = [open_set(str(folder), size=(8, 8)), open_set(str(trained), num=30)]
    for images in sets:
        whole = pixels(images)
        assert np.array_equal(images.read(lambda image: image, batch=8), whole) and images.readable[0] == 0
        assert np.array_equal(images.at([7, 3]), whole[[7, 3]])
    assert [len(images.readable) for images in sets] == [29, 30]


def test_what_is_measured_of_a_set_is_remembered_with_what_cannot_be_read(folder, tmp_path):
    (folder / "a" / "04.png").write_text("no picture")

    def means(images, folder, **key) -> np.ndarray:
        def make():
            return {"means": np.stack([image.mean() for image in images])}

        return images.remembered(key, make, folder)["means"]

    sets = [open_set(str(folder), size=(8, 8)) for _ in range(2)]
    first, second = (means(images, tmp_path / "cache", what=1) for images in sets)
    assert np.array_equal(first, second) and sets[0].unreadable == sets[1].unreadable != {}
    assert len(list((tmp_path / "cache").iterdir())) == 1
    means(sets[0], None, what=2)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    means(sets[0], tmp_path / "cache", what=2)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_pictures_may_be_written_to(folder, trained):
    for pictures in (
        open_set(str(folder)),
        open_set(str(folder), size=(8, 8)),
        open_set(str(trained), num=2, size=(6, 6)),
    ):
        assert all(picture.flags.writeable for picture in pictures)


def test_no_more_pictures_are_prepared_than_a_little_ahead():
    prepared, most = [], AHEAD * THREADS
    count = 10 * most
    pictures = open_set("builtin", size=(4, 4), builtin_images=count)
    for number, _ in enumerate(pictures.mapped(lambda picture: prepared.append(0) or picture, batch=1)):
        assert len(prepared) <= number + 1 + most
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


def test_a_bomb_is_named(folder, monkeypatch):
    monkeypatch.setattr(reading, "MAX_PIXELS", 100)
    with pytest.raises(UserError, match=r"a/00\.png would unpack"):
        list(open_set(str(folder)))
