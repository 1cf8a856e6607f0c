"""Inception's features are those of the usual libraries, and only complete weights are used.

The published weights are not needed: both sides get the same random ones.
"""

import contextlib
import hashlib
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from inception_weights import pytorch_fid_network, random_weights
from PIL import Image
from scipy.linalg import sqrtm
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.utils import create_feature_extractor, extract_featuresdict_from_input_id

from pggan.data.builtin import draw
from pggan.errors import UserError
from pggan.metrics import inception
from pggan.metrics.frechet import frechet_distance, moments
from pggan.metrics.inception import WIDTH, Network, open_network
from pggan.metrics.resizing import to_inception

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cleanfid import fid as cleanfid


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A complete file of weights, but not the published ones."""
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(random_weights(torch.Generator().manual_seed(0)), path)
    return path


@pytest.fixture(scope="module")
def network(weights) -> Network:
    before = torch.get_rng_state()
    network = open_network(str(weights))
    assert torch.equal(torch.get_rng_state(), before)  # opening draws no random numbers
    return network


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """uint8 [3, 3, 299, 299]"""
    return torch.from_numpy(np.stack([draw(7, index, 299, 299)[0] for index in range(3)])).movedim(-1, 1)


@pytest.fixture(scope="module")
def features(network, images) -> np.ndarray:
    torch.set_num_threads(1)
    return network.features(images)


def folder(path: Path, sizes: list[tuple[int, int]], seed: int) -> Path:
    """Built-in pictures of these (width, height) as PNG files."""
    path.mkdir()
    for index, size in enumerate(sizes):
        Image.fromarray(draw(seed, index, *size)[0]).save(path / f"{index}.png")
    return path


def pictures(path: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(file)) for file in sorted(path.iterdir())]


def ours(network: Network, path: Path, how: str) -> np.ndarray:
    return network.features(np.stack([to_inception(picture, how) for picture in pictures(path)]))


def distance(one: np.ndarray, two: np.ndarray) -> float:
    """The distance of one array from another, relative to the norm of the other."""
    return float(np.linalg.norm(one - two) / np.linalg.norm(two))


# ---- the same features


def test_features_are_torch_fidelity_s_in_float64(network, weights, images, features):
    kind = {"feature_extractor_weights_path": str(weights), "feature_extractor_internal_dtype": "float64"}
    exact = FeatureExtractorInceptionV3("inception", ["2048"], **kind)(images)[0].numpy()
    assert distance(features, exact) < 2e-6
    varied = features - features.mean(axis=0)
    assert (varied.std(axis=0) > 0.01).mean() > 0.8 and distance(varied, exact - exact.mean(axis=0)) < 2e-5


def test_features_are_pytorch_fid_s(weights, images, features):
    with torch.no_grad():
        theirs = pytorch_fid_network(torch.load(weights))(images[:1] / 256)[0][:, :, 0, 0].numpy()
    assert distance(features[:1], theirs) < 2e-6


def test_pictures_in_bytes_and_in_floats_are_the_same(network, images, features):
    assert features.shape == (3, WIDTH) and features.dtype == np.float32
    locked = images.numpy().copy()
    locked.flags.writeable = False
    for form in (images.float().contiguous(memory_format=torch.channels_last), locked):
        assert np.array_equal(network.features(form), features)


def test_features_do_not_depend_on_company_or_cores(network, images, features):
    assert distance(network.features(images[2:]), features[2:]) < 1e-6
    torch.set_num_threads(2)
    assert distance(network.features(images), features) < 1e-6
    assert torch.get_num_threads() == 2


def test_half_precision_around_it_changes_nothing(network, images, features):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert distance(network.features(images[:1]), features[:1]) < 1e-6


def test_other_shapes_are_refused(network, images):
    for wrong in (images[0], images[:, :1], images[..., :298]):
        with pytest.raises(ValueError, match=r"images \[N, 3, 299, 299\]"):
            network.features(wrong)


# ---- the same figures


MIXED = [(32, 48), (299, 299), (512, 300)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """Pictures of mixed sizes."""
    place = tmp_path_factory.mktemp("folders")
    return folder(place / "one", MIXED, seed=1), folder(place / "two", MIXED, seed=2)


def test_resize_tf_gives_torch_fidelity_s_features_and_fid(network, weights, folders):
    how = {"feature_extractor_weights_path": str(weights), "batch_size": 1, "cuda": False, "cache": False}
    extractor = create_feature_extractor("inception-v3-compat", ["2048"], verbose=False, **how)
    theirs = [torch_fidelity_features(path, extractor, how) for path in folders]
    mine = [ours(network, path, "tf") for path in folders]
    for a, b in zip(mine, theirs, strict=True):
        assert distance(a, b.numpy()) < 2e-6
    few = slice(0, WIDTH, 64)  # the eigenvalues of all take many seconds
    wanted = fid_statistics_to_metric(*(fid_features_to_statistics(b[:, few]) for b in theirs), verbose=False)
    found = frechet_distance(*(moments(a[:, few]) for a in mine))
    assert found == pytest.approx(wanted["frechet_inception_distance"], rel=1e-3) and found > 0.1


def torch_fidelity_features(path: Path, extractor: FeatureExtractorInceptionV3, how: dict) -> torch.Tensor:
    """Features of a folder, read by torch-fidelity itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = extract_featuresdict_from_input_id(1, extractor, input1=str(path), verbose=False, **how)
    return found["2048"]


def test_resize_clean_gives_clean_fid_s_features_and_fid(network, folders, monkeypatch):
    theirs = [clean_fid(network, path) for path in folders]
    mine = [ours(network, path, "clean") for path in folders]
    for a, b in zip(mine, theirs, strict=True):
        assert distance(a, b) < 1e-5
    few = np.argsort(np.concatenate(theirs).std(axis=0))[-2:]  # fewer than images: no root of a singular matrix
    monkeypatch.setattr(cleanfid.linalg, "sqrtm", lambda matrix, disp: (sqrtm(matrix), None))  # as before SciPy 1.18
    wanted = cleanfid.fid_from_feats(*(b[:, few] for b in theirs))
    found = frechet_distance(*(moments(a[:, few]) for a in mine))
    assert found == pytest.approx(wanted, rel=1e-3) and found > 0.001


def clean_fid(network: Network, path: Path) -> np.ndarray:
    """Features of a folder, read and resized by clean-fid itself, from our network."""

    def model(batch: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(network.features(batch))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Pillow, about the mode
        return cleanfid.get_folder_features(
            str(path), model, num_workers=0, batch_size=2, device=torch.device("cpu"), mode="clean", verbose=False
        )


# ---- the weights


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_other_weights_are_used_for_what_they_are(network, weights):
    assert network.digest == digest(weights) and not network.published


def test_the_pinned_digest_begins_as_the_published_name_says():
    assert len(inception.SHA256) == 64 and f"-{inception.SHA256[:8]}.pth" in inception.URL


def thin(**changes: object) -> dict:
    """A state dict whose weights are all 0.5, and small in a file. changes: values by name; None removes a name."""
    with torch.device("meta"):
        state = inception.Inception().state_dict()
    state = {name: torch.full((), 0.5).expand(value.shape) for name, value in state.items()} | changes
    return {name: value for name, value in state.items() if value is not None}


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


BIAS, KERNEL = "Mixed_6b.branch7x7_2.bn.bias", "Conv2d_1a_3x3.conv.weight"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no weights at all", "UnpicklingError"),
        (pickle.dumps([1, 2, 3]), "cannot be read"),
        ([torch.zeros(3)], "no dict of tensors"),
        (thin(**{BIAS: None}), rf"{BIAS}: None, not float \[128\]"),
        (thin(**{BIAS: torch.zeros(64)}), rf"{BIAS}: float \[64\], not float \[128\]"),
        (thin(**{BIAS: torch.zeros(128, dtype=torch.int64)}), f"{BIAS}: torch.int64"),
        (thin(**{"AuxLogits.fc.weight": torch.zeros(3)}), r"AuxLogits.fc.weight: float \[3\], not None"),
        (thin(**{"fc.bias": torch.zeros(1000)}), "fc.bias"),  # of ImageNet, as torchvision has it
        (thin(**{KERNEL: torch.full((32, 3, 3, 3), torch.nan)}), "finite"),
        (thin(**{"Conv2d_2a_3x3.bn.running_var": -torch.ones(32)}), "finite"),
    ],
)
def test_other_files_are_refused_in_one_line_with_both_hashes(tmp_path, content, said):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=said) as caught:
        open_network(str(path))
    line = str(caught.value)
    assert "\n" not in line and line.startswith(str(path))
    assert digest(path)[:12] in line and inception.SHA256[:12] in line


def test_weights_cut_short_are_refused(weights, tmp_path):
    whole = weights.read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        open_network(str(tmp_path / "cut.pth"))


@pytest.mark.parametrize("name", ["missing.pth", "."])
def test_a_file_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="no such file"):
        open_network(str(tmp_path / name))


def test_code_in_a_file_is_never_run(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "made"))
    torch.save({**thin(), "bomb": Bomb()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="cannot be read"):
        open_network(str(tmp_path / "weights.pth"))
    assert not (tmp_path / "made").exists()


# ---- the published file, which is another one here


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The folder for the published weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "pggan"


@pytest.fixture
def published(tmp_path, monkeypatch) -> Path:
    """A file behind URL whose sha256 is pinned."""
    path = tmp_path / "weights-abc.pth"
    torch.save(thin(), path)
    monkeypatch.setattr(inception, "URL", path.as_uri())
    monkeypatch.setattr(inception, "SHA256", digest(path))
    return path


@contextlib.contextmanager
def no_network():
    """Changes URL to a server that does not answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "URL", "http://127.0.0.1:9/" + inception.URL.rpartition("/")[2])
        patch.setenv("no_proxy", "127.0.0.1")
        yield


def test_the_published_weights_are_downloaded_once(cache, published):
    assert open_network().published
    assert [file.name for file in cache.iterdir()] == [published.name]
    with no_network():
        network = open_network()
    assert network.published and network.digest == digest(published)


def test_the_published_weights_are_known_wherever_they_lie(cache, published):
    assert open_network(str(published)).published
    assert not cache.exists()


def test_without_a_network_the_url_and_the_place_are_said_in_one_line(cache, published):
    with no_network(), pytest.raises(UserError) as caught:
        open_network()
    assert "\n" not in str(caught.value) and "http://127.0.0.1:9/weights-abc.pth" in str(caught.value)
    assert f"put it at {cache / 'weights-abc.pth'}, or name it with --weights" in str(caught.value)
    assert not list(cache.iterdir())


def test_what_comes_with_another_hash_is_thrown_away(cache, published):
    published.write_bytes(published.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"got .{digest(published)}"):
        open_network()
    assert not list(cache.iterdir())


def test_a_damaged_file_in_the_cache_is_replaced_or_else_refused(cache, published):
    cache.mkdir(parents=True)
    (cache / published.name).write_bytes(b"damaged")
    with no_network(), pytest.raises(UserError, match="is damaged"):
        open_network()
    assert open_network().published
    assert digest(cache / published.name) == digest(published)


def test_a_cache_that_cannot_be_written_is_said(tmp_path, published, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be downloaded"):
        open_network()
