"""Classes from folders and from dataset.json."""

import json
import zipfile

import pytest
from image_files import opened, packed, save, zipped

from pggan.data import sources


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


A, B = "00000/a.png", "00001/b.png"
UNUSED = {
    "incomplete": ([[A, 1]], "00001/b.png has none"),
    "without a label": ([[A]], "not in StyleGAN's format"),
    "no list": ("abc", "not in StyleGAN's format"),
    "vectors of floats": ([[A, [0.5, 0.25]], [B, [0.1, 0.9]]], "0.5 is not a whole number"),
    "all zero": ([[A, [0, 0]], [B, [0, 0]]], "vectors, not one class"),
    "several classes of a picture": ([[A, [1, 1]], [B, [0, 1]]], "vectors, not one class"),
    "a larger number beside the 1": ([[A, [2, 1]], [B, [0, 1]]], "vectors, not one class"),
    "two labels of a picture": ([[A, 1], [A, 2], [B, 1]], "00000/a.png has several"),
    "a part of a class": ([[A, 1.5], [B, 2]], "1.5 is not a whole number"),
    "true": ([[A, True], [B, False]], "True is not a whole number"),
    "text": ([[A, "cat"], [B, "dog"]], "cat is not a whole number"),
    "infinity": ([[A, float("inf")], [B, 1]], "inf is not a whole number"),
}


@pytest.mark.parametrize("how", UNUSED)
def test_labels_that_name_no_single_class_are_left_unused_and_said(tmp_path, png, how):
    labels, reason = UNUSED[how]
    source = described(tmp_path, png, {"labels": labels})
    assert source.names == [A, B] and source.labels is None and source.label_names == []
    assert source.label_note.startswith("the labels in dataset.json are not used") and reason in source.label_note
    assert source.label_note in packed(tmp_path / "stylegan.zip").notes()


def test_whole_floats_are_classes(tmp_path, png):
    source = described(tmp_path, png, {"labels": [[A, [0.0, 1.0]], [B, [1.0, 0.0]]]})
    assert source.labels == [1, 0] and source.label_note == ""
    assert described(tmp_path, png, {"labels": [[A, 3.0], [B, 1]]}).label_names == ["1", "3"]


@pytest.mark.parametrize("wrap", ["", "ffhq/", "ffhq/v2/"])
@pytest.mark.parametrize("own", ["", "./"])
def test_a_dataset_json_inside_wrapping_folders_is_found(tmp_path, png, wrap, own):
    labels = json.dumps({"labels": [[own + A, 7], [own + B, 3]]}).encode()
    files = {f"{wrap}{A}": png, f"{wrap}{B}": png, f"{wrap}dataset.json": labels}
    source = opened(zipped(tmp_path / "z.zip", files))
    assert source.labels == [1, 0] and source.label_names == ["3", "7"] and source.ignored == 0
    zipfile.ZipFile(tmp_path / "z.zip").extractall(tmp_path / "unpacked")
    assert opened(tmp_path / "unpacked").labels == [1, 0]


def test_a_dataset_json_of_one_folder_among_others_is_not_that_of_all(tmp_path, png):
    files = {"x/a.png": png, "y/b.png": png, "x/dataset.json": b'{"labels": [["a.png", 1]]}'}
    source = opened(zipped(tmp_path / "z.zip", files))
    assert source.label_names == ["x", "y"] and source.ignored == 1


def test_dataset_json_is_read_in_a_folder_too(small_folder):
    labels = [[name, place % 2] for place, name in enumerate(opened(small_folder).names)]
    (small_folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert opened(small_folder).labels == [0, 1, 0] and opened(small_folder).ignored == 0


@pytest.mark.parametrize("text", ['{"labels": [["a.png", Infinity]]}', "[" * 100_000])
def test_a_dataset_json_that_makes_no_sense_costs_no_picture(tmp_path, text):
    save(tmp_path / "a.png")
    (tmp_path / "dataset.json").write_text(text)
    source = sources.open_source(str(tmp_path), 0)
    assert source.names == ["a.png"] and source.labels is None and "dataset.json" in source.label_note
    assert "\n" not in source.label_note


def test_changed_labels_change_the_fingerprint(tmp_path, png):
    first = described(tmp_path, png, {"labels": [["00000/a.png", 0], ["00001/b.png", 1]]}).fingerprint
    assert described(tmp_path, png, {"labels": [["00000/a.png", 1], ["00001/b.png", 0]]}).fingerprint != first
