"""Folders, zips and built-in images: their lists, labels and fingerprints, and what is refused."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from image_files import opened, save, zipped
from PIL import Image

from pggan.data import listing, sources
from pggan.data.reading import Unreadable
from pggan.errors import UserError

# ---- folders


def test_a_folder_is_searched_through_and_sorted(small_folder):
    assert opened(small_folder).names == ["a.png", "b.jpg", "deep/er/c.webp"]


def test_other_files_are_counted_and_hidden_ones_are_not(small_folder):
    for name in ["tags.csv", "deep/notes.txt", ".hidden.jpg", ".cache/x.png", "__MACOSX/a.png", "Thumbs.db"]:
        (small_folder / name).parent.mkdir(exist_ok=True)
        (small_folder / name).write_bytes(b"x")
    source = opened(small_folder)
    assert len(source) == 3 and source.ignored == 2


def test_the_first_few_other_files_are_named_in_order(small_folder, tmp_path, png):
    for name in ["tags.csv", "deep/notes.txt", "b.md", "z.md", "dataset.json"]:
        (small_folder / name).write_text("{}")
    archive = zipped(tmp_path / "z.zip", {"b.txt": b"x", "dataset.json": b"{}", "a.png": png, "a.txt": b"x"})
    for place, *wanted in [(small_folder, 4, ("b.md", "deep/notes.txt", "tags.csv")), (archive, 2, ("a.txt", "b.txt"))]:
        assert [opened(place).ignored, opened(place).ignored_names] == wanted


def test_the_ending_may_be_written_in_capitals(small_folder):
    (small_folder / "b.jpg").rename(small_folder / "B.JPG")
    assert "B.JPG" in opened(small_folder).names


def test_names_that_are_no_utf8_do_no_harm(small_folder, tmp_path):
    shutil.copy(small_folder / "a.png", os.fsencode(small_folder) + b"/\xff.png")
    source = opened(small_folder, tmp_path / "cache")
    assert len(source) == 4 and len(source.fingerprint) == 64


def test_linked_folders_are_followed_once(small_folder, tmp_path):
    save(tmp_path / "elsewhere" / "d.png")
    (small_folder / "link").symlink_to(tmp_path / "elsewhere")
    (small_folder / "loop").symlink_to(small_folder)
    assert opened(small_folder).names == ["a.png", "b.jpg", "deep/er/c.webp", "link/d.png"]


def test_an_empty_file_and_a_broken_link_are_unreadable(small_folder):
    (small_folder / "a.png").write_bytes(b"")
    (small_folder / "b.jpg").unlink()
    (small_folder / "b.jpg").symlink_to("nowhere.jpg")
    source = opened(small_folder)
    for number, reason in enumerate(["empty file", "No such file"]):
        with pytest.raises(Unreadable, match=reason):
            source.pyramid(number, [(8, 8)], "crop")


# ---- zips


def test_a_zip_is_read_like_a_folder(small_folder, tmp_path):
    archive = zipped(
        tmp_path / "z.zip", {p.relative_to(small_folder).as_posix(): p.read_bytes() for p in small_folder.rglob("*.*")}
    )
    inside, outside = opened(archive), opened(small_folder)
    assert inside.names == outside.names
    for number in range(3):
        (a, _), (b, _) = inside.pyramid(number, [(16, 16)], "crop") + outside.pyramid(number, [(16, 16)], "crop")
        assert np.array_equal(a, b)


def test_rubbish_in_a_zip_is_left_out(tmp_path, png):
    names = {"a.png": png, "__MACOSX/._a.png": b"x", ".DS_Store": b"x", "readme.md": b"x", "Thumbs.db": b"x"}
    source = opened(zipped(tmp_path / "z.zip", names))
    assert source.names == ["a.png"] and source.ignored == 1


@pytest.mark.parametrize("name", ["../up.png", "/abs.png", "a/../../b.png", "..\\up.png", "C:\\x.png", "../notes.txt"])
def test_a_zip_with_climbing_paths_is_refused(tmp_path, png, name):
    with pytest.raises(UserError, match="leads out of the zip"):
        opened(zipped(tmp_path / "z.zip", {"fine.png": png, name: png}))


@pytest.mark.parametrize("name", ["./a.png", "x\\a.png", "a:0.png", ".//x/./a.png"])
def test_names_in_a_zip_are_normalized_before_they_are_judged(tmp_path, png, name):
    source = opened(zipped(tmp_path / "z.zip", {name: png, "./.hidden.png": png, "__MACOSX\\b.png": png}))
    assert source.names == [name.replace("\\", "/").replace(".//x/./", "x/").removeprefix("./")]
    assert source.pyramid(0, [(8, 8)], "crop")[0][0].shape == (8, 8, 3)


def test_a_damaged_member_is_unreadable_and_the_others_are_not(tmp_path, png):
    archive = zipped(tmp_path / "z.zip", {"a.png": png, "b.png": png})
    data = bytearray(archive.read_bytes())
    data[200] ^= 255  # in the stored bytes of the first
    archive.write_bytes(data)
    source = opened(archive)
    with pytest.raises(Unreadable, match="CRC"):
        source.pyramid(0, [(8, 8)], "crop")
    assert source.pyramid(1, [(8, 8)], "crop")[0][0].shape == (8, 8, 3)


def test_a_member_that_unpacks_to_too_much_is_refused_by_name(tmp_path, png, monkeypatch):
    source = opened(zipped(tmp_path / "z.zip", {"huge.png": png}))
    monkeypatch.setattr(sources, "MAX_MEMBER_BYTES", 100)
    with pytest.raises(UserError, match=r"huge\.png would unpack"):
        source.pyramid(0, [(8, 8)], "crop")


def test_an_encrypted_member_is_unreadable_and_the_others_are_not(tmp_path, png):
    source = opened(zipped(tmp_path / "z.zip", {"a.png": png, "b.png": png}, encrypted=("a.png",)))
    with pytest.raises(Unreadable, match=r"^encrypted: zip it again without a password$"):
        source.pyramid(0, [(8, 8)], "crop")
    assert source.pyramid(1, [(8, 8)], "crop")[0][0].shape == (8, 8, 3)


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_dataset_json_in_a_zip_costs_no_picture(tmp_path, png, how):
    content = json.dumps({"labels": [], "other": list(range(200))}).encode()
    archive = zipped(tmp_path / "z.zip", {"dataset.json": content, "a.png": png}, how)
    assert opened(archive).labels is None
    whole = archive.read_bytes()
    start = 30 + len("dataset.json") + 9  # past the settings of an lzma stream, some of which change nothing
    for place in range(start, start + 20):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        source = opened(archive)
        assert source.names == ["a.png"] and source.label_note.startswith("dataset.json is damaged and not used (")
        assert "\n" not in source.label_note


def test_an_encrypted_dataset_json_costs_no_picture(tmp_path, png):
    files = {"dataset.json": b"{}", "a.png": png}
    source = opened(zipped(tmp_path / "z.zip", files, encrypted=("dataset.json",)))
    assert source.names == ["a.png"] and "not used (encrypted" in source.label_note


def test_a_dataset_json_that_unpacks_to_too_much_is_not_unpacked(tmp_path, png, monkeypatch):
    monkeypatch.setattr(sources, "MAX_MEMBER_BYTES", 100)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("unpacked"))
    archive = zipped(tmp_path / "z.zip", {"dataset.json": b" " * 101, "a.png": png}, zipfile.ZIP_DEFLATED)
    assert "dataset.json would unpack to 101 bytes" in opened(archive).label_note


# ---- files of our own


def test_a_run_and_drawn_samples_below_the_folder_are_no_pictures(small_folder):
    first = opened(small_folder)
    save(small_folder / "runs" / "x" / "samples" / "0032-00001000.png")
    for name in ("config.json", "growth.json"):
        (small_folder / "runs" / "x" / name).write_text("{}")
    save(small_folder / "drawn" / "grid.png")
    (small_folder / "drawn" / listing.OUTPUT_MARK).touch()
    again = opened(small_folder)
    assert again.names == first.names and again.fingerprint == first.fingerprint
    assert again.ignored_names == ("drawn/ (made by pggan)", "runs/x/ (made by pggan)")
    assert opened(small_folder / "drawn").names == ["grid.png"]  # named on purpose, as for fid.py
    assert opened(small_folder / "runs" / "x" / "samples").names == ["0032-00001000.png"]
    with pytest.raises(UserError, match="is the folder of a run, not of pictures"):
        opened(small_folder / "runs" / "x")


# ---- what is refused


def test_bad_places_are_one_plain_line_each(tmp_path, png):
    whole = zipped(tmp_path / "whole.zip", {"a.png": png}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:60])
    (tmp_path / "rotten.zip").write_bytes(whole.replace(b"PK\x01\x02", b"XXXX"))
    named = zipped(tmp_path / "named.zip", {"é.png": png}).read_bytes()
    (tmp_path / "named.zip").write_bytes(named.replace("é".encode(), b"\xff\xff"))
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    zipped(tmp_path / "bare.zip", {"a.txt": b"x"})
    places = {
        tmp_path / "nowhere": "no such folder",
        tmp_path / "cut.zip": "cannot be read as a zip",
        tmp_path / "rotten.zip": "cannot be read as a zip",
        tmp_path / "named.zip": "cannot be read as a zip",
        tmp_path / "text.txt": "neither a folder nor a zip",
        tmp_path / "one.png": "neither a folder nor a zip",
        tmp_path / "empty": r"holds no pictures \(.*\)$",
        tmp_path / "bare.zip": r"holds no pictures.*only 1 other file$",
        "builtin:x": "whole number",
        "builtin:-1": "whole number",
    }
    for place, message in places.items():
        with pytest.raises(UserError, match=message) as caught:
            opened(place)
        assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_listed_is_named(small_folder, monkeypatch):
    def listing(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", listing)
    with pytest.raises(UserError, match="deep cannot be listed: Permission denied"):
        opened(small_folder)


# ---- fingerprints


def test_a_zip_is_known_by_its_contents(tmp_path, png):
    one = opened(zipped(tmp_path / "one.zip", {"a.png": png, "b.png": png}))
    same = opened(zipped(tmp_path / "two.zip", {"b.png": png, "a.png": png}))
    other = opened(zipped(tmp_path / "three.zip", {"a.png": png, "b.png": png[:-1]}))
    assert one.fingerprint == same.fingerprint != other.fingerprint


# ---- the built-in images


def test_builtin_images_are_known_by_seed_and_count():
    fingerprints = [sources.open_source(*which).fingerprint for which in [("builtin", 10), ("builtin:1", 10)]]
    fingerprints.append(sources.open_source("builtin", 11).fingerprint)
    assert len(set(fingerprints)) == 3
    assert sources.open_source("builtin:0", 10).fingerprint == fingerprints[0]


def test_builtin_images_are_labeled_by_what_is_drawn():
    from pggan.data import builtin

    source = opened("builtin:3")
    assert source.label_names == list(builtin.KINDS)
    for number in range(3):
        pixels, kind = builtin.draw(3, number, 32, 40)
        [(same, enlarged)] = source.pyramid(number, [(32, 40)], "crop")
        assert np.array_equal(pixels, same) and source.labels[number] == kind and not enlarged


# ---- processes and caches


def test_sources_travel_to_other_processes(small_folder, tmp_path, png):
    archive = opened(zipped(tmp_path / "z.zip", {"a.png": png}))
    archive.read(0)
    for source in (opened(small_folder), archive, opened("builtin")):
        again = pickle.loads(pickle.dumps(source))
        assert again == source
        assert np.array_equal(again.pyramid(0, [(8, 8)], "crop")[0][0], source.pyramid(0, [(8, 8)], "crop")[0][0])


def test_a_source_does_not_carry_the_names_of_all_other_files(tmp_path, png):
    few = {"a.png": png, **{f"{number:05d}.txt": b"" for number in range(3)}}
    many = {"a.png": png, **{f"{number:05d}.txt": b"" for number in range(5000)}}
    few, many = (opened(zipped(tmp_path / "z.zip", files)) for files in (few, many))
    assert many.ignored == 5000 and len(pickle.dumps(many)) < len(pickle.dumps(few)) + 10


def test_the_cache_lies_beside_the_data_or_in_the_users_folder(small_folder, tmp_path, png, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    user = tmp_path / "home" / "pggan"
    archive = zipped(tmp_path / "z.zip", {"a.png": png})
    assert sources.cache_folder(opened(small_folder).caches) == small_folder / sources.CACHE_NAME
    assert sources.cache_folder(opened(archive).caches) == tmp_path / sources.CACHE_NAME
    assert sources.cache_folder(opened("builtin").caches) == user
    assert opened(small_folder, tmp_path / "mine").caches == (tmp_path / "mine",)
    assert opened(small_folder).names == ["a.png", "b.jpg", "deep/er/c.webp"]  # the cache itself is not searched


@pytest.mark.parametrize("refusing", ["mkdir", "access"])
def test_read_only_data_is_packed_in_the_users_folder(small_folder, tmp_path, monkeypatch, refusing):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    mkdir = Path.mkdir

    def refuse(path, *args, **options):
        if small_folder in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return mkdir(path, *args, **options)

    if refusing == "mkdir":
        monkeypatch.setattr(Path, "mkdir", refuse)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: small_folder not in Path(path).parents)
    assert sources.cache_folder(opened(small_folder).caches) == tmp_path / "home" / "pggan"


def test_no_writable_folder_at_all_is_one_plain_line(small_folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="cannot be written to"):
        sources.cache_folder(opened(small_folder).caches)


def test_a_pipe_named_like_an_image_is_not_waited_on(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert sources.open_source(str(tmp_path), 0).names == ["a.png"]


def test_a_user_without_a_home_is_no_reason_to_stop(tmp_path, monkeypatch):
    save(tmp_path / "a.png")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert not any(str(cache).startswith("~") for cache in sources.open_source(str(tmp_path), 0).caches)
