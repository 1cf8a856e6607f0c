"""The Inception network of the Frechet Inception Distance (FID): images to 2048 features each.

The network is torch-fidelity's (Apache-2.0): TensorFlow's Inception v3 of 2015 (Heusel et al. 2017, arXiv 1706.08500),
with batch norm folded into the convolutions; the features stay the same but for float32 rounding. Figures made with
other weights than the published ones cannot be compared with published figures: print `digest` beside each figure.
"""

import hashlib
import io
import math
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d, FeatureExtractorInceptionV3

from pggan.data.sources import user_cache
from pggan.errors import UserError, plain
from pggan.metrics.ahead import ahead
from pggan.metrics.resizing import SIDE

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
# The published name ends in its first eight digits. torch-fidelity and pytorch-fid publish the same file of 95,628,359
# bytes, and many public projects pin these 64 digits.
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SECONDS_WITHOUT_ANSWER = 30  # of a download
WIDTH = 2048  # features of an image
BATCH = {"cpu": 4, "cuda": 64}  # images at a time; four fit the cache of a CPU core


def open_network(weights: str | None = None, device: torch.device | str = "cpu") -> "Network":
    """The network with the weights in the file `weights`; None: the published weights, downloaded once.

    Raises UserError when the file holds no weights of this network, and when the published file is not in the user's
    cache folder and cannot be downloaded.
    """
    path = Path(os.path.expanduser(weights)) if weights else published_file()
    if not path.is_file():
        raise UserError(f"{plain(path)}: there is no such file of Inception weights")
    digest = file_digest(path)
    return Network(load(path, digest), digest, device)


class Network:
    """The network on a device. digest: sha256 of the weights' file; published: whether that is the published file."""

    def __init__(self, layers: nn.Module, digest: str, device: torch.device | str):
        self.device = torch.device(device)
        self.layers = layers.to(self.device, memory_format=torch.channels_last)
        self.digest, self.published = digest, digest == SHA256

    def features(self, images: Tensor | np.ndarray) -> np.ndarray:
        """float32 [N, 2048] of images [N, 3, 299, 299], uint8 or float within 0..255, on any device.

        `resizing` makes such images. Computed in float32, whatever the caller's precision. The features of an image do
        not depend on the other images, except for rounding. Raises ValueError for another shape.
        """
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(np.require(images, requirements="W"))  # copies an array that is read-only
        if images.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(f"features are of images [N, 3, {SIDE}, {SIDE}], not {list(images.shape)}")
        cores = torch.get_num_threads() if self.device.type == "cpu" else 1
        parts = images.split(min(BATCH.get(self.device.type, BATCH["cuda"]), math.ceil(len(images) / cores)))
        run = map if cores == 1 or len(parts) == 1 else partial(ahead, threads=cores)
        # TF32 is what torch uses in convolutions by default.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, fp32_precision="ieee"):
            return torch.cat([*run(self._run, parts)]).numpy()

    @torch.inference_mode()
    def _run(self, images: Tensor) -> Tensor:
        """Features [N, 2048], on the CPU."""
        with torch.autocast(self.device.type, enabled=False):
            images = images.to(self.device).float().contiguous(memory_format=torch.channels_last)
            return self.layers((images - 128) / 128).cpu()  # TensorFlow's range: -1 to 0.992


# ---- the weights


class Inception(FeatureExtractorInceptionV3):
    """torch-fidelity's network without weights. Its own way to load them would run code that is in the file."""

    def __init__(self) -> None:
        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        super().__init__("inception", [str(WIDTH)], feature_extractor_weights_path=nothing)

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state, strict=False, assign=True)

    def layers(self) -> nn.Sequential:
        """[N, 3, 299, 299] in [-1, 1] -> [N, 2048]: the children up to the classifier, with batch norm folded in.

        Folding is computed in float64 and rounded once.
        """
        self.double()
        for module in self.modules():
            if isinstance(module, BasicConv2d):
                module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
        *layers, _classifier = self.float().children()
        return nn.Sequential(*layers, nn.Flatten()).requires_grad_(False)


def load(path: Path, digest: str) -> nn.Sequential:
    """The network on the CPU with the weights in `path`, whose sha256 is `digest`. Raises UserError for other files."""
    with torch.device("meta"):  # draws no random numbers
        net = Inception()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
        problem = _difference(state, net)
    except Exception as error:  # damaged bytes raise nearly anything
        problem = f"it cannot be read: {type(error).__name__}"
    if not problem:
        net.load_state_dict(state)
        layers = net.layers()
        if all(weight.isfinite().all() for weight in layers.state_dict().values()):
            return layers
        problem = "not all of them are finite"
    raise UserError(
        f"{plain(path)} holds no weights of the Inception network ({problem}; its sha256 starts {digest[:12]}, "
        f"that of the published file {SHA256[:12]}): get it from {URL}"
    )


def _difference(state: object, net: nn.Module) -> str | None:
    """How `state` differs from a state dict of `net`, in a few words; None if it does not."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        return "it is no dict of tensors"
    wanted, found = _kinds(net.state_dict()), _kinds(state)
    wrong = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return f"{plain(wrong[0])}: {found.get(wrong[0])}, not {wanted.get(wrong[0])}" if wrong else None


def _kinds(state: dict) -> dict[str, str]:
    """The type and shape of each weight; without batch norm's counters, which no feature depends on."""
    weights = {name: value for name, value in state.items() if not str(name).endswith(".num_batches_tracked")}
    return {name: f"{'float' if w.is_floating_point() else w.dtype} {list(w.shape)}" for name, w in weights.items()}


def published_file() -> Path:
    """The published weights in the user's cache folder; downloads them if they are missing or damaged.

    A download that fails leaves no file. Raises UserError when they cannot be downloaded.
    """
    path = user_cache() / URL.rpartition("/")[2]
    if not path.is_file() or file_digest(path) != SHA256:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _timeout(SECONDS_WITHOUT_ANSWER):
                torch.hub.download_url_to_file(URL, str(path), SHA256, progress=sys.stderr.isatty())
        except Exception as error:  # a server's answer can raise nearly anything
            there = "no Inception weights here" if not path.exists() else f"the file {plain(path)} is damaged"
            raise UserError(
                f"{there}, and they cannot be downloaded ({plain(error)}): get {URL} elsewhere and put it at "
                f"{plain(path)}, or name it with --weights"
            ) from None
    return path


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Ends a connection that brings nothing for so many seconds; torch.hub sets no limit itself."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def file_digest(path: Path) -> str:
    """The sha256 of a file, 64 hexadecimal digits. Raises UserError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{plain(path)} cannot be read: {plain(error)}") from None
