"""Classes from folders and from dataset.json."""

import json

import pytest
from image_files import opened, save, zipped

from pggan.data import sources
from pggan.errors import UserError


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


def test_dataset_json_is_read_in_a_folder_too(small_folder):
    labels = [[name, place % 2] for place, name in enumerate(opened(small_folder).names)]
    (small_folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert opened(small_folder).labels == [0, 1, 0] and opened(small_folder).ignored == 0


@pytest.mark.parametrize("text", ['{"labels": [["a.png", Infinity]]}', "[" * 100_000])
def test_a_dataset_json_that_makes_no_sense_is_refused_plainly(tmp_path, text):
    save(tmp_path / "a.png")
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match="dataset"):
        sources.open_source(str(tmp_path), 0)


def test_changed_labels_change_the_fingerprint(tmp_path, png):
    first = described(tmp_path, png, {"labels": [["00000/a.png", 0], ["00001/b.png", 1]]}).fingerprint
    assert described(tmp_path, png, {"labels": [["00000/a.png", 1], ["00001/b.png", 0]]}).fingerprint != first
