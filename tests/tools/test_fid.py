"""fid.py as a command: every figure names what it depends on, and only FID is called FID."""

import json
from pathlib import Path

import fid
import numpy as np
import pytest
import torch
from PIL import Image
from runs import refused
from sets import fill, make_checkpoint

from pggan.errors import UserError
from pggan.evaluation import distances, features, image_sets
from pggan.evaluation.features import gather
from pggan.evaluation.opening import open_set
from pggan.metrics import inception, resizing
from pggan.metrics.extractors import open_extractor
from pggan.metrics.frechet import frechet_distance, moments
from pggan.metrics.random_features import balance, random_features
from pggan.metrics.small_images import read_one


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    """Folders `reals` (31 pictures) and `fakes` (23), of one size, and a checkpoint as it is born, at 16 px."""
    place = tmp_path_factory.mktemp("sets")
    fill(place / "reals", 31, 0, (20, 18))
    fill(place / "fakes", 23, 1, (20, 18))
    make_checkpoint(place / "latest.pt", res=16)
    return place


@pytest.fixture
def measured(tmp_path, sets, capsys):
    """measured(real, fake, *flags) -> (figures of the JSON, what was printed); names are those of `sets`."""

    def measure(real: str, fake: str, *flags: object) -> tuple[dict, str]:
        paths = [name if name.startswith("builtin") else str(sets / name) for name in (real, fake)]
        more = [*map(str, flags)]
        more += [] if "--features" in more or "--weights" in more else ["--features", "rand"]
        more += [] if "--swd" in more else ["--swd", "0"]
        fid.main([*paths, "--cache", str(tmp_path / "cache"), "--json", str(tmp_path / "out.json"), *more])
        return json.loads((tmp_path / "out.json").read_text()), capsys.readouterr().out

    return measure


class Quick:
    """A network that is quick: mean colors of 2x2 places."""

    digest, published, device = "abcdef" * 10, True, torch.device("cpu")

    def features(self, images: np.ndarray) -> np.ndarray:
        return torch.nn.functional.adaptive_avg_pool2d(torch.as_tensor(images), 2).flatten(1).numpy()


@pytest.fixture
def network(monkeypatch) -> Quick:
    """The network that fid.py takes for Inception."""
    quick = Quick()
    monkeypatch.setattr(inception, "open_network", lambda weights, device: quick)
    return quick


RAND = ["kid_rand", "kid_rand_low", "kid_rand_high", "kid_rand_floor", "rfd", "rfd_floor"]
RAND += ["precision_rand", "recall_rand", "density_rand", "coverage_rand"]
FACTS = ["reals", "fakes", "seed", "protocol", "notes"]


def test_rand_needs_no_download_and_calls_nothing_fid(measured):
    figures, said = measured("reals", "fakes")
    assert list(figures) == [*RAND, *FACTS]
    assert (figures["reals"], figures["fakes"]) == (31, 23)
    assert "RFD" in said and not {"FID", "KID"} & set(said.replace(",", " ").split())
    assert "protocol: RFD" in said and "sha256" in said and "float64" in said


def test_other_spaces_have_names_of_their_own(measured):
    figures, said = measured("reals", "fakes", "--features", "handcrafted")
    assert {"frechet_handcrafted", "kid_handcrafted", "precision_handcrafted"} <= set(figures)
    assert "Frechet distance" in said and "FID" not in said


def test_rfd_is_the_frechet_distance_of_balanced_random_features(measured, sets):
    read = (np.stack([read_one(picture) for picture in open_set(str(sets / name))]) for name in ("reals", "fakes"))
    real, fake = map(random_features, read)
    balanced = balance(real)
    wanted = frechet_distance(moments(balanced(real)), moments(balanced(fake)))
    assert measured("reals", "fakes")[0]["rfd"] == pytest.approx(wanted, rel=1e-4)


def test_a_set_measured_with_itself_is_at_no_distance(measured):
    figures, _ = measured("reals", "reals", "--swd", 50)
    assert figures["rfd"] == pytest.approx(0, abs=1e-6) and figures["swd_mean"] == 0
    assert figures["precision_rand"] == figures["recall_rand"] == figures["coverage_rand"] == 1
    assert figures["kid_rand"] <= 0  # unbiased for independent sets; here each picture meets itself


@pytest.mark.parametrize(
    ("real", "fake", "words"),
    [
        ("reals", "latest.pt", ["folder reals, crop to 16x16", "checkpoint latest.pt, seed 3"]),
        ("builtin:4", "latest.pt", ["built-in pictures, seed 4, 16x16", "fakes 12 ("]),
        ("latest.pt", "fakes", ["fakes 23 (folder fakes, crop to 16x16)", "reals 12 (checkpoint"]),
        ("latest.pt", "latest.pt", ["reals 12", "fakes 12"]),
    ],
)
def test_each_argument_may_be_of_any_kind_and_the_protocol_says_which(measured, real, fake, words):
    flags = ["--num", 12, "--seed", 3, "--builtin-images", 15, "--swd", 12]
    figures, said = measured(real, fake, *flags)
    assert all(word in figures["protocol"] for word in words) and f"protocol: {figures['protocol']}" in said
    assert {"swd_16", "swd_mean"} <= set(figures)


@pytest.mark.parametrize("how", ["tf", "clean"])
def test_a_fid_says_its_weights_and_its_resize_and_is_that_of_the_resized_pictures(measured, sets, network, how):
    figures, said = measured("reals", "fakes", "--features", "inception", "--resize", how)
    assert list(figures) == [
        name.replace("rand", f"inception_{how}").replace("rfd", f"fid_inception_{how}") for name in [*RAND, *FACTS]
    ]
    assert f"FID 2048-d Inception (weights sha256 abcdefab..., published), resize {how}, reals 31" in said

    def features(name: str) -> np.ndarray:
        images = np.stack([resizing.to_inception(picture, how) for picture in open_set(str(sets / name))])
        return network.features(images)

    wanted = frechet_distance(*(moments(features(name)) for name in ("reals", "fakes")))
    assert figures[f"fid_inception_{how}"] == pytest.approx(wanted, rel=1e-6)


def test_the_two_ways_of_resizing_are_never_taken_for_each_other(measured, network):
    tf, clean = (measured("reals", "fakes", "--features", "inception", "--resize", how)[0] for how in ("tf", "clean"))
    assert tf["fid_inception_tf"] != clean["fid_inception_clean"]
    again = measured("reals", "fakes", "--features", "inception", "--resize", "tf")[0]
    assert again == tf


def test_other_weights_than_the_published_ones_are_said_to_be_others(measured, network):
    network.published = False
    figures, said = measured("reals", "reals", "--features", "inception")
    assert "fid_unpublished_tf" in figures and not any("inception" in key for key in figures)
    assert "FID, other weights" in said and "abcdefab..., not the published ones" in said
    assert figures["fid_unpublished_tf"] == pytest.approx(0, abs=1e-9)


def test_a_wrong_weights_file_is_refused_by_its_hash(measured, sets, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    digest = inception.file_digest(tmp_path / "weights.pth")
    with pytest.raises(UserError, match=f"sha256 starts {digest[:12]}"):
        measured("reals", "fakes", "--weights", tmp_path / "weights.pth")
    with pytest.raises(UserError, match="no such file"):
        measured("reals", "fakes", "--weights", tmp_path / "missing.pth")


def test_without_weights_it_says_the_url_and_the_path(measured, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(UserError) as caught:
        measured("reals", "fakes", "--features", "inception")
    assert inception.URL in str(caught.value) and str(tmp_path / "home" / "pggan") in str(caught.value)


# ---- the cache, the floor, the numbers


def test_reals_are_read_once_and_again_when_one_changes(measured, sets, monkeypatch, tmp_path):
    read = []
    real = image_sets.SourceSet.image
    monkeypatch.setattr(image_sets.SourceSet, "image", lambda *given: read.append(given) or real(*given))
    folder = fill(sets / "changing", 12)
    first, _ = measured("changing", "fakes")
    again, _ = measured("changing", "fakes")
    assert len(read) == 12 + 23 + 23 and again == first
    fill(folder, 1, seed=77)
    changed, _ = measured("changing", "fakes")
    assert len(read) == 12 + 23 + 23 + 12 + 23 and changed["rfd"] != first["rfd"]


def test_the_floor_is_half_of_the_reals_against_the_other_half(measured, sets):
    figures, said = measured("reals", "fakes")
    gathered = gather(open_set(str(sets / "reals")), open_extractor("rand"), 32, 0, None)
    balanced = balance(gathered.features)
    halves = [moments(balanced(gathered.kept(part))) for part in ("first", "second")]
    assert figures["rfd_floor"] == pytest.approx(frechet_distance(*halves), rel=1e-6)
    assert "(16 reals against 15)" in said
    assert measured("reals", "fakes", "--seed", 1)[0]["rfd_floor"] != figures["rfd_floor"]


def test_few_pictures_lead_with_the_unbiased_distance_and_many_with_the_usual_one(measured, monkeypatch):
    few, said = measured("reals", "fakes")
    assert said.startswith("kernel distance") and "31 reals and 23 fakes make the RFD too high" in said
    monkeypatch.setattr(distances, "MANY", 20)
    many, said = measured("reals", "fakes")
    assert said.startswith("RFD") and "too high" not in said
    assert {key: few[key] for key in RAND} == {key: many[key] for key in RAND}


def test_of_more_pictures_than_are_kept_the_protocol_says_how_many_were(measured, monkeypatch):
    whole, _ = measured("reals", "fakes")
    monkeypatch.setattr(features, "KEPT", 25)
    figures, _ = measured("reals", "fakes", "--seed", 5)
    assert "all but RFD of 25 reals chosen at random by seed 5" in figures["protocol"]
    assert "25 fakes" not in figures["protocol"]
    assert figures["kid_rand"] != whole["kid_rand"] and figures["rfd"] == pytest.approx(whole["rfd"], rel=0.3)


def test_each_figure_says_how_many_it_needs(measured, sets):
    fill(sets / "two", 2)
    fill(sets / "one", 1)
    figures, said = measured("two", "fakes")
    assert {"rfd", "kid_rand"} <= set(figures) and not {"rfd_floor", "kid_rand_floor", "precision_rand"} & set(figures)
    assert "precision, recall, density, coverage need 6 reals and 4 fakes, not 2 and 23: left out" in said
    for pair, name in ((("one", "fakes"), "REAL"), (("fakes", "one"), "FAKE")):
        with pytest.raises(UserError, match=f"{name} has only 1 image: .* need 2 or more a side, precision"):
            measured(*pair)


def test_mixed_sizes_are_measured_but_for_swd_which_says_why(measured, sets):
    fill(sets / "mixed", 6)
    Image.new("RGB", (40, 33)).save(sets / "mixed" / "other.png")
    figures, said = measured("reals", "mixed", "--swd", 30)
    assert "rfd" in figures and "swd_mean" not in figures and "SWD is left out: " in said and "--res" in said
    assert "swd_32" in measured("reals", "mixed", "--swd", 30, "--res", 32)[0]


def test_unreadable_files_are_named_and_the_same_from_the_cache(measured, sets):
    folder = fill(sets / "odd", 12)
    (folder / "bad\n.png").write_text("no picture")
    for _ in range(2):
        figures, said = measured("odd", "fakes")
        assert figures["reals"] == 12 and "1 of 13 pictures" in said and "bad .png (not a picture" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num", 0], "--num"),
        (["--num", -1], "--num"),
        (["--seed", -1], "--seed"),
        (["--swd", -1], "--swd"),
        (["--res", 0], "--res"),
        (["--builtin-images", 0], "--builtin-images"),
        (["--features", "vgg"], "--features"),
        (["--resize", "pil"], "--resize"),
        (["--weights", ""], "--weights is empty"),
        (["--json", ""], "--json is empty"),
        (["--json", "nowhere/x.json"], "--json nowhere/x.json cannot be written"),
        (["--weights", "x", "--features", "rand"], "--weights"),
        (["--wieghts", "x"], "did you mean --weights"),
    ],
)
def test_bad_flags_are_refused(measured, flags, said):
    with pytest.raises(UserError, match=said):
        measured("reals", "latest.pt", *flags)


def test_as_a_process_it_refuses_with_exit_2_and_one_line(tmp_path):
    assert "--swd must be at least 0, not -1" in refused("a", "b", "--swd", -1, script="tools/fid.py", cwd=tmp_path)
