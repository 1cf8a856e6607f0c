"""What diversity.py computes: the common size, the verdict with missing kinds, the label sets. Runs: tests/tools."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sets import fill, make_checkpoint

from pggan.evaluation.diversity import Comparison, common_size, labels_of, open_sets
from pggan.evaluation.opening import open_set
from pggan.metrics.labels import Kind


@pytest.mark.parametrize(
    ("sizes", "common"),
    [
        ([(24, 20)] * 3, (24, 20)),  # one size
        ([(24, 20), (48, 40)], (77, 64)),  # one aspect
        ([(24, 20), (20, 24)], (64, 64)),
        ([(5000, 2)], (4096, 2)),
    ],
)
def test_the_common_size_is_that_of_the_samples_or_of_their_aspect(tmp_path, sizes, common):
    for number, size in enumerate(sizes):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    assert common_size(open_set(str(tmp_path))) == common


def test_sets_have_one_size_and_no_more_images_than_are_used(tmp_path):
    samples = fill(tmp_path / "samples", 120, size=(12, 10))
    real, fake, held_out = open_sets("builtin", str(samples), "builtin:1", builtin_images=210, num=101)
    assert (len(real), len(fake), len(held_out)) == (210, 101, 210)
    assert real.size == fake.size == held_out.size == (12, 10)
    checkpoint = make_checkpoint(tmp_path / "latest.pt", fit="pad")
    real, fake, _ = open_sets("builtin", str(checkpoint), builtin_images=210)
    assert (len(real), len(fake)) == (210, 105) and (real.size, real.fit) == ((8, 8), "pad")


def comparison(verdict: str, **kinds: list[str]) -> Comparison:
    """A comparison with missing kinds, by label set."""
    found = {of: [Kind(name, 0.1, 0.0, 0.0, 0.01, "missing") for name in names] for of, names in kinds.items()}
    for each in found.values():
        each.append(Kind("there", 0.5, 0.5, 0.4, 0.6, "present"))
    scores = SimpleNamespace(verdict=verdict, reason="because")
    return Comparison(None, None, None, None, scores, found, np.empty(0))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (comparison("healthy"), ("healthy", "because")),
        (
            comparison("healthy", kind=["a"]),
            ("partial-collapse", "hardly any sample is of these kinds of real pictures: a"),
        ),
        (comparison("too-early", kind=["a", "b"]), ("too-early", "because")),
        (comparison("collapsed", kind=["a", "b"]), ("collapsed", "because; missing kinds: a, b")),
        (
            comparison("memorization", hair=["a", "b", "c"], eyes=["d", "e"]),
            ("memorization", "because; missing kinds: hair a, hair b, hair c and 2 more"),
        ),
    ],
)
def test_missing_kinds_are_a_partial_collapse_unless_there_is_a_worse_finding(found, expected):
    assert found.verdict() == expected


def test_kinds_come_from_tags_or_else_from_classes(folder, tmp_path):
    real = open_set(str(folder))
    (known,) = labels_of(real, None)
    assert known.names == ["a", "b"] and known.numbers.tolist() == [0] * 18 + [1] * 12
    (tmp_path / "tags.csv").write_text("file,hair,eyes\na/00.png,red,blue\nb/29.png,black,\n")
    (hair,) = labels_of(real, str(tmp_path / "tags.csv"), ["hair"])
    assert hair.of == "hair" and sorted(hair.names) == ["black", "red"]
    assert labels_of(open_set(str(fill(tmp_path / "plain", 2))), None) == []
