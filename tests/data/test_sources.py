"""Folders, zips and built-in images: their lists, labels and fingerprints, and what is refused."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pggan.data import fingerprints, sources
from pggan.data.reading import Unreadable
from pggan.errors import UserError


def save(path: Path, seed: int = 0, size=(40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def zipped(path: Path, files: dict[str, bytes], how=zipfile.ZIP_STORED, encrypted: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for name in encrypted:
            archive.getinfo(name).flag_bits |= sources.ENCRYPTED
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    for number, name in enumerate(["b.jpg", "a.png", "deep/er/c.webp"]):
        save(tmp_path / "data" / name, number)
    return tmp_path / "data"


@pytest.fixture
def png(tmp_path) -> bytes:
    save(tmp_path / "one.png")
    return (tmp_path / "one.png").read_bytes()


def opened(place, cache=None) -> sources.Source:
    return sources.open_source(str(place), 10, cache)


# ---- folders


def test_a_folder_is_searched_through_and_sorted(folder):
    assert opened(folder).names == ["a.png", "b.jpg", "deep/er/c.webp"]


def test_other_files_are_counted_and_hidden_ones_are_not(folder):
    for name in ["tags.csv", "deep/notes.txt", ".hidden.jpg", ".cache/x.png", "__MACOSX/a.png", "Thumbs.db"]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    source = opened(folder)
    assert len(source) == 3 and source.ignored == 2


def test_the_first_few_other_files_are_named_in_order(folder, tmp_path, png):
    for name in ["tags.csv", "deep/notes.txt", "b.md", "z.md", "dataset.json"]:
        (folder / name).write_text("{}")
    archive = zipped(tmp_path / "z.zip", {"b.txt": b"x", "dataset.json": b"{}", "a.png": png, "a.txt": b"x"})
    assert opened(folder).ignored == 4 and opened(folder).ignored_names == ("b.md", "deep/notes.txt", "tags.csv")
    assert opened(archive).ignored == 2 and opened(archive).ignored_names == ("a.txt", "b.txt")


def test_the_ending_may_be_written_in_capitals(folder):
    (folder / "b.jpg").rename(folder / "B.JPG")
    assert "B.JPG" in opened(folder).names


def test_names_that_are_no_utf8_do_no_harm(folder, tmp_path):
    shutil.copy(folder / "a.png", os.fsencode(folder) + b"/\xff.png")
    source = opened(folder, tmp_path / "cache")
    assert len(source) == 4 and len(source.fingerprint) == 64


def test_linked_folders_are_followed_once(folder, tmp_path):
    save(tmp_path / "elsewhere" / "d.png")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    assert opened(folder).names == ["a.png", "b.jpg", "deep/er/c.webp", "link/d.png"]


def test_an_empty_file_and_a_broken_link_are_unreadable(folder):
    (folder / "a.png").write_bytes(b"")
    (folder / "b.jpg").unlink()
    (folder / "b.jpg").symlink_to("nowhere.jpg")
    source = opened(folder)
    for number, reason in enumerate(["empty file", "No such file"]):
        with pytest.raises(Unreadable, match=reason):
            source.pyramid(number, [(8, 8)], "crop")


# ---- classes


def test_a_folder_for_each_class_gives_labels(tmp_path):
    for name in ["monet/1.png", "monet/2.png", "ink/1.png", "ink/old/2.png"]:
        save(tmp_path / name)
    source = opened(tmp_path)
    assert source.label_names == ["ink", "monet"] and source.labels == [0, 0, 1, 1]


def test_classes_are_found_below_a_shared_folder(png, tmp_path):
    archive = zipped(tmp_path / "z.zip", {"all/train/ink/1.png": png, "all/train/oil/1.png": png})
    assert opened(archive).label_names == ["ink", "oil"]


@pytest.mark.parametrize("names", [["1.png", "ink/2.png"], ["ink/1.png", "ink/2.png"], ["1.png"]])
def test_no_labels_unless_every_image_is_in_one_of_several_classes(tmp_path, names):
    for name in names:
        save(tmp_path / name)
    assert opened(tmp_path).labels is None and opened(tmp_path).label_names == []


def described(tmp_path, png, content) -> sources.Source:
    files = {"00000/a.png": png, "00001/b.png": png, "dataset.json": json.dumps(content).encode()}
    return opened(zipped(tmp_path / "stylegan.zip", files))


def test_a_stylegan_zip_takes_its_labels_from_dataset_json(tmp_path, png):
    source = described(tmp_path, png, {"labels": [["00001/b.png", 7], ["00000/a.png", 3]]})
    assert source.labels == [0, 1] and source.label_names == ["3", "7"] and source.ignored == 0
    one_hot = described(tmp_path, png, {"labels": [["00000/a.png", [0, 1]], ["00001/b.png", [1, 0]]]})
    assert one_hot.labels == [1, 0]


@pytest.mark.parametrize("content", [{"labels": None}, {}, [1, 2]])
def test_a_stylegan_zip_without_labels_has_none_and_its_folders_are_no_classes(tmp_path, png, content):
    assert described(tmp_path, png, content).labels is None


@pytest.mark.parametrize("labels", [[["00000/a.png", 1]], [["00000/a.png"]], "abc", [["00000/a.png", [0.5]]]])
def test_labels_that_are_incomplete_or_malformed_are_one_plain_line(tmp_path, png, labels):
    with pytest.raises(UserError, match=r"dataset\.json"):
        described(tmp_path, png, {"labels": labels})


def test_dataset_json_is_read_in_a_folder_too(folder):
    labels = [[name, place % 2] for place, name in enumerate(opened(folder).names)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert opened(folder).labels == [0, 1, 0] and opened(folder).ignored == 0


# ---- zips


def test_a_zip_is_read_like_a_folder(folder, tmp_path):
    archive = zipped(
        tmp_path / "z.zip", {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}
    )
    inside, outside = opened(archive), opened(folder)
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
def test_a_damaged_dataset_json_in_a_zip_is_one_plain_line(tmp_path, png, how):
    content = json.dumps({"labels": [], "other": list(range(200))}).encode()
    archive = zipped(tmp_path / "z.zip", {"dataset.json": content, "a.png": png}, how)
    assert opened(archive).labels is None
    whole = archive.read_bytes()
    start = 30 + len("dataset.json") + 9  # past the settings of an lzma stream, some of which change nothing
    for place in range(start, start + 20):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"dataset\.json in .*z\.zip cannot be read \(.+\): mend or") as caught:
            opened(archive)
        assert "\n" not in str(caught.value)


def test_an_encrypted_dataset_json_is_one_plain_line(tmp_path, png):
    files = {"dataset.json": b"{}", "a.png": png}
    with pytest.raises(UserError, match=r"dataset\.json in .*z\.zip cannot be read \(encrypted"):
        opened(zipped(tmp_path / "z.zip", files, encrypted=("dataset.json",)))


def test_a_dataset_json_that_unpacks_to_too_much_is_not_unpacked(tmp_path, png, monkeypatch):
    monkeypatch.setattr(sources, "MAX_MEMBER_BYTES", 100)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("unpacked"))
    archive = zipped(tmp_path / "z.zip", {"dataset.json": b" " * 101, "a.png": png}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"dataset\.json would unpack to 101 bytes"):
        opened(archive)


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
    bad_json = zipped(tmp_path / "json.zip", {"a.png": png, "dataset.json": b"{"})
    places = {
        tmp_path / "nowhere": "no such folder",
        tmp_path / "cut.zip": "cannot be read as a zip",
        tmp_path / "rotten.zip": "cannot be read as a zip",
        tmp_path / "named.zip": "cannot be read as a zip",
        tmp_path / "text.txt": "neither a folder nor a zip",
        tmp_path / "one.png": "neither a folder nor a zip",
        tmp_path / "empty": "holds no pictures",
        tmp_path / "bare.zip": "holds no pictures.*1 other",
        bad_json: r"dataset\.json",
        "builtin:x": "whole number",
        "builtin:-1": "whole number",
    }
    for place, message in places.items():
        with pytest.raises(UserError, match=message) as caught:
            opened(place)
        assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    def listing(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", listing)
    with pytest.raises(UserError, match="deep cannot be listed: Permission denied"):
        opened(folder)


# ---- fingerprints


def test_copying_a_folder_keeps_its_fingerprint(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    assert opened(folder).fingerprint == opened(tmp_path / "copy").fingerprint


def test_changing_moving_adding_or_removing_a_image_changes_the_fingerprint(folder):
    seen = {opened(folder).fingerprint}
    data = bytearray((folder / "a.png").read_bytes())
    data[-1] ^= 1
    (folder / "a.png").write_bytes(data)  # of the same size, moments later
    seen.add(opened(folder).fingerprint)
    (folder / "b.jpg").rename(folder / "bb.jpg")
    seen.add(opened(folder).fingerprint)
    save(folder / "new.png")
    seen.add(opened(folder).fingerprint)
    (folder / "bb.jpg").unlink()
    seen.add(opened(folder).fingerprint)
    assert len(seen) == 5


def test_changed_labels_change_the_fingerprint(tmp_path, png):
    first = described(tmp_path, png, {"labels": [["00000/a.png", 0], ["00001/b.png", 1]]}).fingerprint
    assert described(tmp_path, png, {"labels": [["00000/a.png", 1], ["00001/b.png", 0]]}).fingerprint != first


def test_a_second_start_reads_no_file_and_sees_a_touched_one(folder, monkeypatch):
    for path in folder.rglob("*.*"):
        os.utime(path, (10**9, 10**9))
    first = opened(folder).fingerprint
    read, digest = [], fingerprints.hashlib.file_digest
    monkeypatch.setattr(
        fingerprints.hashlib, "file_digest", lambda file, how: read.append(file.name) or digest(file, how)
    )
    assert opened(folder).fingerprint == first and read == []
    os.utime(folder / "a.png", (2 * 10**9, 10**9 + 1))
    assert opened(folder).fingerprint == first and read == [str(folder / "a.png")]


def test_a_damaged_or_unwritable_memory_only_costs_time(folder, monkeypatch):
    first = opened(folder).fingerprint
    for path in (folder / sources.CACHE_NAME).glob("fingerprints-*.json"):
        path.write_text("{")
    assert opened(folder).fingerprint == first
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert opened(folder).fingerprint == first
    monkeypatch.undo()
    monkeypatch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert opened(folder).fingerprint == first


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


def test_sources_travel_to_other_processes(folder, tmp_path, png):
    archive = opened(zipped(tmp_path / "z.zip", {"a.png": png}))
    archive.read(0)
    for source in (opened(folder), archive, opened("builtin")):
        again = pickle.loads(pickle.dumps(source))
        assert again == source
        assert np.array_equal(again.pyramid(0, [(8, 8)], "crop")[0][0], source.pyramid(0, [(8, 8)], "crop")[0][0])


def test_a_source_does_not_carry_the_names_of_all_other_files(tmp_path, png):
    few = {"a.png": png, **{f"{number:05d}.txt": b"" for number in range(3)}}
    many = {"a.png": png, **{f"{number:05d}.txt": b"" for number in range(5000)}}
    few, many = (opened(zipped(tmp_path / "z.zip", files)) for files in (few, many))
    assert many.ignored == 5000 and len(pickle.dumps(many)) < len(pickle.dumps(few)) + 10


def test_the_cache_lies_beside_the_data_or_in_the_users_folder(folder, tmp_path, png, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    user = tmp_path / "home" / "pggan"
    archive = zipped(tmp_path / "z.zip", {"a.png": png})
    assert sources.cache_folder(opened(folder).caches) == folder / sources.CACHE_NAME
    assert sources.cache_folder(opened(archive).caches) == tmp_path / sources.CACHE_NAME
    assert sources.cache_folder(opened("builtin").caches) == user
    assert opened(folder, tmp_path / "mine").caches == (tmp_path / "mine",)
    assert opened(folder).names == ["a.png", "b.jpg", "deep/er/c.webp"]  # the cache itself is not searched


@pytest.mark.parametrize("refusing", ["mkdir", "access"])
def test_read_only_data_is_packed_in_the_users_folder(folder, tmp_path, monkeypatch, refusing):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    mkdir = Path.mkdir

    def refuse(path, *args, **options):
        if folder in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return mkdir(path, *args, **options)

    if refusing == "mkdir":
        monkeypatch.setattr(Path, "mkdir", refuse)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: folder not in Path(path).parents)
    assert sources.cache_folder(opened(folder).caches) == tmp_path / "home" / "pggan"


def test_no_writable_folder_at_all_is_one_plain_line(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="cannot be written to"):
        sources.cache_folder(opened(folder).caches)


def test_a_pipe_named_like_a_image_is_not_waited_on(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert sources.open_source(str(tmp_path), 0).names == ["a.png"]


def test_a_user_without_a_home_is_no_reason_to_stop(tmp_path, monkeypatch):
    save(tmp_path / "a.png")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert not any(str(cache).startswith("~") for cache in sources.open_source(str(tmp_path), 0).caches)


@pytest.mark.parametrize("text", ['{"labels": [["a.png", Infinity]]}', "[" * 100_000])
def test_a_dataset_json_that_makes_no_sense_is_refused_plainly(tmp_path, text):
    save(tmp_path / "a.png")
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match="dataset"):
        sources.open_source(str(tmp_path), 0)
