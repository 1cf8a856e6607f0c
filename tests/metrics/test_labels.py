"""The kinds among samples: shares corrected for misreadings, missing kinds, and kinds that cannot be measured."""

import numpy as np
import pytest

from pggan.errors import UserError
from pggan.metrics import labels
from pggan.metrics.labels import Kind, Labels, histogram, read_tags, separated, votes

NAMES = ["a", "b", "c", "d"]


def drawn(seed: int, sizes: list[int], apart: float, dim: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """(points [N, dim], kinds [N]): round clouds of width 1, so far apart, with noise in further dimensions."""
    random = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    return random.standard_normal((len(kinds), dim)) + apart * np.eye(len(sizes), dim)[kinds], kinds


def found(reals: list[int], fakes: list[int], apart: float = 4, seed: int = 0) -> list[Kind]:
    """The histogram of clouds of these sizes."""
    points, kinds = drawn(seed, reals, apart)
    return histogram(points, Labels("kind", kinds, NAMES), drawn(seed + 1, fakes, apart)[0])


def statuses(kinds: list[Kind]) -> list[str]:
    return [kind.status for kind in kinds]


@pytest.mark.parametrize("apart", [2.5, 6])
@pytest.mark.parametrize("fakes", [[50, 50, 50, 50], [120, 60, 15, 5], [0, 100, 0, 100]])
def test_shares_lie_in_their_intervals_however_often_kinds_are_taken_for_each_other(apart, fakes):
    for seed in range(5):
        for kind, count in zip(found([150, 100, 60, 90], fakes, apart, 7 * seed), fakes, strict=True):
            if kind.share is not None:
                assert kind.low - 0.02 <= count / 200 <= kind.high + 0.02
                assert 0 <= kind.low <= kind.share <= kind.high <= 1
                assert abs(kind.share - count / 200) < 0.12


def test_misreadings_are_taken_off():
    points, kinds = drawn(0, [300, 300], 1.2)
    fakes, true = drawn(1, [400, 0], 1.2)
    read = votes(points, kinds, fakes)[1].mean(axis=0)
    first, second = histogram(points, Labels("kind", kinds, NAMES[:2]), fakes)
    assert len(true) == 400 and read[1] > 0.2
    assert second.share < 0.1 < read[1] - second.share and first.share > 0.9


@pytest.mark.parametrize("dropped", range(4))
def test_a_dropped_kind_is_missing_and_no_other_is(dropped):
    fakes = [70] * 4
    fakes[dropped] = 0
    wanted = ["missing" if kind == dropped else "present" for kind in range(4)]
    assert all(statuses(found([100] * 4, fakes, seed=5 * seed)) == wanted for seed in range(4))


def test_where_all_kinds_are_made_none_is_missing_in_fifty_draws():
    points, kinds = drawn(0, [120, 80, 60, 100], 3)
    known = Labels("kind", kinds, NAMES)
    more, _ = drawn(1, [1200, 800, 600, 1000], 3)
    for seed in range(50):
        some = np.random.default_rng(seed).permutation(len(more))[:150]
        assert "missing" not in statuses(histogram(points, known, more[some]))


def test_a_kind_that_is_rare_but_there_is_not_missing():
    assert statuses(found([100] * 4, [90, 90, 90, 40])) == ["present"] * 4


def test_kinds_too_rare_or_too_similar_are_not_called_missing():
    rare = found([100, 100, 100, labels.LEAST - 1], [70, 70, 70, 0])
    assert statuses(rare) == ["present", "present", "present", "rare"]
    assert rare[3].share is rare[3].low is rare[3].high is None and rare[3].real_share == pytest.approx(9 / 309)
    alike = found([100] * 4, [70, 70, 70, 0], apart=0.1)
    assert statuses(alike) == ["unclear"] * 4 and all(kind.share is None for kind in alike)


def test_of_few_samples_the_absence_of_a_kind_says_nothing():
    assert statuses(found([100, 100, 100, 12], [8, 8, 8, 0]))[3] == "unclear"


@pytest.mark.parametrize("numbers", [[0] * 60, [-1] * 60, [0] * 55 + [1] * 5])
def test_with_fewer_than_two_frequent_kinds_nothing_is_measured(numbers):
    points, _ = drawn(0, [60], 1)
    kinds = histogram(points, Labels("kind", np.array(numbers), NAMES[:2]), points)
    assert statuses(kinds) == ["rare", "rare"]


def test_pictures_without_a_tag_are_passed_over():
    points, kinds = drawn(0, [100, 100, 50], 5)
    numbers = np.where(kinds == 2, -1, kinds)
    seen = histogram(points, Labels("kind", numbers, NAMES[:2]), drawn(1, [60, 0], 5)[0])
    assert [kind.real_share for kind in seen] == [0.5, 0.5] and statuses(seen) == ["present", "missing"]


def test_features_that_never_change_and_equal_pictures_do_no_harm():
    points, kinds = drawn(0, [60, 60], 5)
    flat = np.pad(points, ((0, 0), (0, 3)))
    fakes = np.pad(drawn(1, [0, 50], 5)[0], ((0, 0), (0, 3)))
    assert statuses(histogram(flat, Labels("kind", kinds, NAMES[:2]), fakes)) == ["missing", "present"]
    equal = histogram(np.zeros((120, 3)), Labels("kind", kinds, NAMES[:2]), np.zeros((50, 3)))
    assert "missing" not in statuses(equal)


def test_each_real_is_looked_up_where_a_regression_without_it_puts_it(monkeypatch):
    points, kinds = drawn(0, [20, 15], 2, dim=5)
    own = np.eye(2)[kinds]
    monkeypatch.setattr(labels, "PENALTIES", np.array([0.3]))
    reals, fakes = separated(points, own, points)
    scale = points.std(axis=0, ddof=1)
    scale = scale + labels.FLOOR * scale.mean()
    x = (points - points.mean(axis=0)) / scale
    penalty = 0.3 * (np.linalg.svd(x, compute_uv=False) ** 2).mean()

    def regression(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights [5, 2] and the constant [2], with the constant free of the penalty."""
        ones = np.column_stack([x[rows], np.ones(len(rows))])
        square = ones.T @ ones + penalty * np.diag([1] * 5 + [0])
        solved = np.linalg.solve(square, ones.T @ own[rows])
        return solved[:5], solved[5]

    for row in range(len(x)):
        weights, constant = regression(np.delete(np.arange(len(x)), row))
        assert np.allclose(reals[row], x[row] @ weights + constant)
    weights, constant = regression(np.arange(len(x)))
    assert np.allclose(fakes, x @ weights + constant)


def test_features_are_the_same_some_at_a_time_and_not_a_matter_of_contrast():
    random = np.random.default_rng(0)
    pictures = random.integers(60, 200, (5, 24, 24, 3), np.uint8).repeat(3, axis=1).repeat(3, axis=2)
    whole = labels.features(pictures)
    assert whole.shape == (5, 950) and whole.dtype == np.float32
    assert np.allclose(whole[:2], labels.features(pictures[:2]), atol=1e-4)
    pale = (pictures.astype(float) * 0.6 + 50).astype(np.uint8)
    contrast = float(labels.small_images.contrast(labels.small_images.read(pictures)).mean())
    apart = [np.abs(labels.features(pale, brought) - whole).mean() for brought in (None, contrast)]
    assert apart[1] < 0.7 * apart[0]


# ---- tables of tags


PICTURES = ["1.png", "sub/2.png", "3.png"]


def table(place, text: str) -> str:
    (place / "tags.csv").write_text(text, encoding="utf-8")
    return str(place / "tags.csv")


def test_tags_are_read_by_column(tmp_path):
    path = table(tmp_path, '\ufefffile,hair,eyes\nsub/2.png,"long, red",blue\n1.png,green,\n9.png,gray,blue\n')
    hair, eyes = read_tags(path, PICTURES)
    assert (hair.of, hair.names, hair.numbers.tolist()) == ("hair", ["green", "long, red"], [0, 1, -1])
    assert (eyes.of, eyes.names, eyes.numbers.tolist()) == ("eyes", ["blue"], [-1, 0, -1])
    assert [one.of for one in read_tags(path, PICTURES, ["eyes"])] == ["eyes"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no table"),
        ("file,hair\n", "no table"),
        ("file\n1.png\n", "no table"),
        ("file,hair\n1.png\n", "no table"),
        ("file,hair\nother.png,red\n", "names none of the pictures: its first column says other.png"),
    ],
)
def test_a_file_that_is_no_table_of_the_pictures_is_refused(tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        read_tags(table(tmp_path, text), PICTURES)


def test_an_unknown_column_is_refused_with_the_nearest_or_all(tmp_path):
    path = table(tmp_path, "file,hair,eyes\n1.png,red,blue\n")
    with pytest.raises(UserError, match="has no column hiar; did you mean hair"):
        read_tags(path, PICTURES, ["eyes", "hiar"])
    with pytest.raises(UserError, match="has no column file; there are hair, eyes"):
        read_tags(path, PICTURES, ["file"])


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "tags.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match="no table of comma-separated text"):
        read_tags(str(tmp_path / "tags.csv"), PICTURES)
