"""Packing: once, in parallel, each resolution independent of the others, and never incomplete."""

import errno
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from image_files import SIZES, packed, save, spoil
from PIL import Image

from pggan.data import index, reading, sources, workers
from pggan.errors import UserError

REAL = Path(os.environ.get("PGGAN_TEST_DATA", "nowhere"))  # a folder with paintings/CLASS/IMAGE


# ---- what is packed


def test_every_resolution_holds_each_image_fitted_by_lanczos(folder):
    result = packed(folder)
    assert len(result) == 12 and result.names == sources.open_source(str(folder), 0).names
    for res, width, height in SIZES:
        images = result.images(res)
        assert images.shape == (12, height, width, 3) and images.dtype == np.uint8
        for pixels, name in zip(images, result.names, strict=True):
            image = Image.open(folder / name).crop((5, 0, 35, 30))
            assert np.array_equal(pixels, np.asarray(image.resize((width, height), Image.Resampling.LANCZOS)))


def test_labels_and_class_names_come_along(folder):
    result = packed(folder)
    assert result.label_names == ["ink", "oil"] and result.labels == [0] * 8 + [1] * 4


@pytest.mark.parametrize("fit", reading.FITS)
def test_fit_margin_and_aspect_are_as_asked(folder, fit):
    result = packed(folder, [(16, 16, 20)], fit=fit, crop_margin=1.25)
    assert result.images(16).shape == (12, 25, 20, 3) and result.crop_margin == 1.25
    image = reading.decode(folder / result.names[3])
    assert np.array_equal(result.images(16)[3], reading.fit(image, 20, 25, fit))


def test_fit_margin_aspect_and_fingerprint_each_have_a_cache_of_their_own(folder):
    options = [{}, {"fit": "pad"}, {"crop_margin": 1.25}, {"sizes": [(16, 16, 20)]}]
    folders = [packed(folder, **each).folder for each in options]
    save(folder / "ink" / "new.png", 99)
    assert len({*folders, packed(folder).folder}) == 5


def test_resolutions_of_different_aspects_are_a_mistake(folder):
    with pytest.raises(ValueError, match="one aspect ratio"):
        packed(folder, [(8, 8, 8), (16, 16, 20)])


def test_builtin_images_are_drawn_at_each_size(tmp_path):
    from pggan.data import builtin

    result = packed("builtin:4", cache=tmp_path)
    assert np.array_equal(result.images(16)[5], builtin.draw(4, 5, 16, 16)[0])
    assert result.labels == [builtin.draw(4, number, 8, 8)[1] for number in range(12)]
    assert result.label_names == list(builtin.KINDS) and result.enlarged == {8: 0, 16: 0}


def test_enlarged_images_are_counted_at_each_resolution_and_told(folder):
    save(folder / "ink" / "tiny.png", 50, (10, 30))
    result = packed(folder)
    assert result.enlarged == {8: 0, 16: 1}
    assert "1 of 13 pictures are smaller than 16 px and were enlarged" in result.notes()


# ---- the cache


def test_packing_again_decodes_nothing(folder, decodes):
    first = packed(folder)
    assert len(decodes) == 12
    decodes.clear()
    assert packed(folder) == first and decodes == []


def test_a_copy_of_the_folder_uses_the_same_cache(folder, tmp_path, decodes):
    packed(folder, cache=tmp_path / "cache")
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns(sources.CACHE_NAME))
    decodes.clear()
    packed(tmp_path / "copy", cache=tmp_path / "cache")
    assert decodes == []


def test_resolutions_packed_later_equal_those_packed_together(folder, tmp_path, decodes):
    together = packed(folder, cache=tmp_path / "a")
    decodes.clear()
    packed(folder, SIZES[1:], cache=tmp_path / "b")
    stamp = next((tmp_path / "b").rglob("0016.npy")).stat().st_mtime_ns
    later = packed(folder, cache=tmp_path / "b")
    assert len(decodes) == 24 and (later.folder / "0016.npy").stat().st_mtime_ns == stamp  # only what was missing
    for res, _, _ in SIZES:
        assert np.array_equal(together.images(res), later.images(res))


def test_git_is_told_to_leave_the_cache_alone(folder):
    assert (packed(folder).folder.parent / ".gitignore").read_text() == "*\n"


# ---- unreadable images


def test_an_unreadable_image_is_named_counted_and_left_out(folder):
    (folder / "ink" / "005.jpg").write_text("no picture")
    for number in range(20, 30):
        save(folder / "oil" / f"{number}.png", number)
    result = packed(folder)
    assert result.unreadable == [("ink/005.jpg", "not a picture, or of a kind that Pillow cannot read")]
    assert len(result) == 22 and result.labels == [0] * 8 + [1] * 14
    for pixels, name in zip(result.images(16), result.names, strict=True):
        assert np.array_equal(pixels, reading.fit(reading.decode(folder / name), 16, 16))
    note = next(line for line in result.notes() if line.startswith("1 cannot be read and are left out: ink/005.jpg"))
    assert note.endswith("; config.json lists all")
    assert packed(folder) == result


def test_a_resolution_packed_later_leaves_out_the_same_images(folder, decodes):
    for number in range(20, 30):
        save(folder / "oil" / f"{number}.png", number)
    spoil(folder / "ink" / "01.png")
    first = packed(folder, SIZES[:1])
    decodes.clear()
    later = packed(folder)
    assert later.names == first.names and len(later.images(16)) == 21 and "ink/01.png" not in decodes


def test_more_than_a_tenth_unreadable_is_refused_and_nothing_is_kept(folder):
    for name in ["ink/01.png", "ink/02.png", "ink/04.png", "ink/05.png"]:
        spoil(folder / name)
    with pytest.raises(UserError, match=r"^4 of 12 pictures cannot be read: 4 such as ink/01\.png \([^/]*\)$"):
        packed(folder)
    assert not [path for path in (folder / sources.CACHE_NAME).glob("*/*") if path.is_file()]


def test_no_readable_image_at_all_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(UserError, match="1 of 1 pictures cannot be read"):
        packed(tmp_path)


def test_a_zip_with_a_password_is_refused_for_that_reason(tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for number in range(2):
            save(tmp_path / "one.png", number)
            archive.write(tmp_path / "one.png", f"{number}.png")
        for member in archive.filelist:
            member.flag_bits |= sources.ENCRYPTED
    with pytest.raises(
        UserError, match=r"^2 of 2 pictures cannot be read: 2 such as 0\.png \(encrypted: zip it again without"
    ):
        packed(tmp_path / "z.zip")


def test_a_image_lost_since_the_first_packing_is_named(folder, monkeypatch):
    packed(folder, SIZES[:1])
    monkeypatch.setattr(sources.Folder, "read", lambda *_: b"")
    with pytest.raises(UserError, match=r"could be read before .*\(empty file\)"):
        packed(folder)


def test_a_refusal_counts_unreadable_images_by_reason(folder, monkeypatch):
    for name in ["ink/01.png", "ink/02.png", "oil/03.png"]:
        (folder / name).write_bytes(b"")
    for number in range(2):
        (folder / "ink" / f"{number}.heic").write_bytes(b"x")
    monkeypatch.setattr(reading, "pillow_heif", None)
    with pytest.raises(
        UserError, match=r"^5 of 14 .*: 3 such as ink/01\.png \(empty file\); 2 such as ink/0\.heic \(HEIC"
    ):
        packed(folder)


def test_images_that_could_not_be_read_do_not_count_for_the_fingerprint(folder):
    whole = packed(folder).fingerprint
    for number in range(1):
        (folder / "ink" / f"{number}.jpg").write_bytes(b"x")
    with_damaged = packed(folder)
    assert with_damaged.unreadable and with_damaged.fingerprint == whole
    source = sources.open_source(str(folder), 0)
    assert source.fingerprint != whole and index.changed_since(source, whole, []) == []
    (folder / "ink" / "0.jpg").unlink()
    assert packed(folder).fingerprint == whole


def test_changed_images_are_named(folder):
    before = packed(folder).fingerprint
    shutil.copy(folder / "ink" / "01.png", folder / "ink" / "new.png")
    (folder / "oil" / "03.png").unlink()
    save(folder / "ink" / "02.png", 99)
    source = sources.open_source(str(folder), 0)
    assert index.changed_since(source, before, []) == ["ink/02.png", "ink/new.png", "oil/03.png"]
    assert index.changed_since(source, "another fingerprint", []) is None


@pytest.mark.parametrize("put_back", [False, True])
def test_a_picture_that_changes_while_it_is_packed_is_refused_and_nothing_is_kept(folder, monkeypatch, put_back):
    path = folder / "ink" / "01.png"
    original, read = path.read_bytes(), sources.Folder.read

    def changing(source, number):
        if source.names[number] == "ink/01.png":
            save(path, 77)
            other = read(source, number)
            if put_back:
                path.write_bytes(original)
            return other
        return read(source, number)

    monkeypatch.setattr(sources.Folder, "read", changing)
    with pytest.raises(UserError, match="changed while they were read: start again"):
        packed(folder)
    monkeypatch.undo()
    path.write_bytes(original)
    result = packed(folder)
    assert (
        np.array_equal(result.images(16)[0], reading.fit(reading.decode(path), 16, 16))
        and result.names[0] == "ink/01.png"
    )


def test_dark_images_are_said(tmp_path):
    """12-bit values in 16-bit files, as CT sets have them."""
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 4096, (20, 20), dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / f"{number}.tif")
    assert any(
        line.startswith("all pictures are dark: no pixel is brighter than 1") for line in packed(tmp_path).notes()
    )
    save(tmp_path / "bright.png")
    assert not any(line.startswith("all pictures are dark") for line in packed(tmp_path).notes())


def test_a_decompression_bomb_is_refused_by_name(folder, monkeypatch):
    save(folder / "ink" / "bomb.png", 0, (80, 80))
    monkeypatch.setattr(reading, "MAX_PIXELS", 2000)
    with pytest.raises(UserError, match=r"ink/bomb\.png would unpack"):
        packed(folder)


# ---- disks and interruptions


def test_an_interrupted_packing_leaves_nothing_that_is_taken_for_whole(folder, monkeypatch, decodes):
    do, calls = workers._do, []

    def interrupted(job, chunk):
        calls.append(chunk)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return do(job, chunk)

    monkeypatch.setattr(workers, "_do", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packed(folder)
    decodes.clear()
    assert len(packed(folder)) == 12 and len(decodes) == 12


def test_a_file_of_packed_images_that_was_damaged_is_packed_again(folder, decodes):
    first = packed(folder)
    good, path = first.images(16).copy(), first.folder / "0016.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 255
    path.write_bytes(data)
    decodes.clear()
    assert np.array_equal(packed(folder).images(16), good) and len(decodes) == 12


def test_a_copied_cache_is_checked_once_and_used(folder, decodes):
    first = packed(folder)
    shutil.copytree(first.folder, first.folder.with_name("copy"))
    shutil.rmtree(first.folder)
    first.folder.with_name("copy").rename(first.folder)
    decodes.clear()
    assert packed(folder) == first and not decodes
    stamps = json.loads((first.folder / "0016.json").read_text())["stamp"]
    assert stamps[-1] == (first.folder / "0016.npy").stat().st_ino


BAD_INDEXES = ["5", "null", "[1]", "{}", "[" * 10_000, '{"names": 5}', '{"names": [1], "digests": ["a"]}', "", "\0"]


@pytest.mark.parametrize("text", BAD_INDEXES)
@pytest.mark.parametrize("name", ["index.json", "0016.json"])
def test_cache_files_of_other_shapes_are_written_again(folder, text, name):
    first = packed(folder)
    (first.folder / name).write_text(text)
    assert packed(folder) == first


def test_a_cache_emptied_during_the_run_is_one_plain_line(folder):
    result = packed(folder)
    shutil.rmtree(result.folder)
    with pytest.raises(UserError, match="start again to pack them"):
        result.images(16)


def test_only_a_missing_resolution_is_called_gone(folder, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    result = packed(folder)
    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(UserError, match=r"cannot be read: Cannot allocate memory$"):
        result.images(16)


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="asks Linux how the file is mapped")
def test_a_resolution_larger_than_memory_can_be_mapped(folder):
    images = packed(folder).images(16)
    (mapped,) = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("/0016.npy")]
    assert mapped.split()[1] == "r--s" and not images.flags.writeable  # shared pages need no memory of their own


def test_two_packings_at_once_do_no_harm(folder, monkeypatch):
    run, inner = workers.run, []

    def both(*args):
        if not inner:
            inner.append("started")
            inner.append(packed(folder))  # another process begins and ends while this one is at work
        return run(*args)

    monkeypatch.setattr(workers, "run", both)
    outer = packed(folder)
    assert outer == inner[1] and not list(outer.folder.glob("*.tmp"))


def test_notes_count_classes_and_other_files(folder):
    for name in ["tags.csv", "ink/notes\n.txt", "b.md"]:
        (folder / name).write_text("x")
    notes = packed(folder).notes()
    assert notes[0].startswith("12 pictures in 2 classes, packed in ")
    assert notes[1] == "3 other files are not pictures: b.md, ink/notes .txt, tags.csv"
    (folder / "a.csv").write_text("x")
    assert packed(folder).notes()[1] == "4 other files are not pictures: a.csv, b.md, ink/notes .txt ..."
    assert json.loads((packed(folder).folder / "index.json").read_text())["label_names"] == ["ink", "oil"]


# ---- real images


@pytest.mark.skipif(not (REAL / "paintings").is_dir(), reason="PGGAN_TEST_DATA names no folder")
def test_real_paintings_are_packed_whole_and_only_once(tmp_path, decodes):
    for kind in sorted((REAL / "paintings").iterdir()):
        for path in sorted(kind.iterdir())[:10]:
            (tmp_path / "data" / kind.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "data" / kind.name)
    sizes = [(res, res, res) for res in (32, 64, 128, 256)]
    result = packed(tmp_path / "data", sizes, num_workers=1)
    assert len(decodes) == 30 == len(result) and len(result.label_names) == 3 and result.unreadable == []
    for number in (0, 17, 29):
        image = reading.decode(tmp_path / "data" / result.names[number])
        assert np.array_equal(result.images(128)[number], reading.fit(image, 128, 128))
        small = np.asarray(Image.fromarray(result.images(256)[number]).resize((32, 32), Image.Resampling.BOX), int)
        assert np.abs(small - result.images(32)[number]).mean() < 8  # the same image at every resolution
    decodes.clear()
    assert packed(tmp_path / "data", sizes) == result and decodes == []
