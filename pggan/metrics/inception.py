"""The Inception network of the Frechet Inception Distance: pictures to 2048 numbers each, with its weights.

The values are those of torch-fidelity and pytorch-fid in float32 (Heusel et al. 2017, arXiv 1706.08500); only the way
to them is shorter: see inception_layers.py, and each core of a CPU works through pictures of its own.

Figures made of other weights than the published ones cannot be compared with published figures: whoever prints one
prints `digest` beside it, and calls it comparable only if `published`.

Shapes here: N pictures.
"""

import contextlib
import hashlib
import http.client
import math
import os
import urllib.request
import uuid
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pggan.data.reading import plain
from pggan.data.sources import open_source
from pggan.errors import UserError
from pggan.metrics.inception_layers import Inception
from pggan.metrics.resizing import SIDE

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
# Its first eight digits are in the published name, by the custom of torch.hub. torch-fidelity and pytorch-fid give out
# the same file, 95,628,359 bytes; many public projects pin all 64 digits, and agree.
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
WIDTH = 2048  # numbers a picture
BATCH = {"cpu": 4, "cuda": 64}  # pictures at a time; few of them stay in a core's cache
PIECE = 2**18  # bytes of a download
PATIENCE = 30  # seconds without an answer


def open_network(weights: str | None = None, device: torch.device | str = "cpu") -> "Network":
    """The network with the weights in the file `weights`, or else with the published ones, downloaded once.

    Raises UserError when the file is not one of weights of this network, and when the published file is neither in the
    user's cache folder nor to be had.
    """
    path = Path(os.path.expanduser(weights)) if weights else published_file()
    if not path.is_file():
        raise UserError(f"{plain(path)}: there is no such file of Inception weights")
    digest = file_digest(path)
    return Network(read(path, digest), digest, device)


class Network:
    """The network on a device. `digest`: sha256 of the weights' file; `published`: whether it is the published one."""

    def __init__(self, layers: Inception, digest: str, device: torch.device | str):
        self.device = torch.device(device)
        self.layers = layers.to(self.device, memory_format=torch.channels_last)
        self.digest, self.published = digest, digest == SHA256

    def features(self, images: Tensor | np.ndarray) -> np.ndarray:
        """float32 [N, 2048] of pictures [N, 3, 299, 299], uint8 or float within 0..255, on whatever device.

        `resizing` makes such pictures. Each picture's features depend on no other picture, but for rounding. Raises
        ValueError for another shape.
        """
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(np.require(images, requirements="W"))  # a copy of what is read-only
        if images.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(f"features are of pictures [N, 3, {SIDE}, {SIDE}], not {list(images.shape)}")
        if not len(images):
            return np.zeros((0, WIDTH), np.float32)
        cores = torch.get_num_threads() if self.device.type == "cpu" else 1
        batch = min(BATCH.get(self.device.type, BATCH["cuda"]), math.ceil(len(images) / cores))
        parts = [part.cpu() for part in _each_on_a_core(self._read, images.split(batch), cores)]
        return torch.cat(parts).numpy()

    @torch.inference_mode()
    def _read(self, images: Tensor) -> Tensor:
        """Features [N, 2048] on the device, in float32 whatever the precision around it."""
        with _exactly(self.device):
            images = images.to(self.device).float().contiguous(memory_format=torch.channels_last)
            return self.layers((images - 128) / 128)  # the range that TensorFlow had: -1 to 0.992


@contextmanager
def _exactly(device: torch.device):
    """Within it, float32 is float32: without autocast, and on a GPU without TF32, which is torch's default there."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=False, fp32_precision="ieee"))
        yield


def _each_on_a_core(function: Callable[[Tensor], Tensor], parts: tuple[Tensor, ...], cores: int) -> list[Tensor]:
    """function(part) of each, in order, on as many threads as `cores`, none of which waits for the others' layers."""
    if cores == 1 or len(parts) == 1:
        return [function(part) for part in parts]
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, parts))
    finally:
        torch.set_num_threads(cores)  # what threads that are yet to come begin with


# ---- the weights


def read(path: Path, digest: str) -> Inception:
    """The network with the weights in `path`, on the CPU, whose sha256 is `digest`. Raises UserError for others."""
    with torch.device("meta"):  # which draws no random numbers
        net = Inception().eval().requires_grad_(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
        problem = _difference(state, net)
    except Exception as error:  # damaged bytes make the unpickler stumble over anything
        problem = f"it cannot be read: {type(error).__name__}"
    if not problem:
        net.load_state_dict(_weights(state), strict=False, assign=True)
        net.fuse()
        if not all(weight.isfinite().all() for weight in net.state_dict().values()):
            problem = "not all of them are finite"
    if problem:
        raise UserError(
            f"{plain(path)} holds no weights of the Inception network ({problem}; its sha256 starts {digest[:12]}, "
            f"that of the published file {SHA256[:12]}): get it from {URL}"
        )
    return net


def _difference(state: object, net: Inception) -> str | None:
    """In which way `state` is no state dict of `net`, in a few words; None if it is one."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        return "it is no dict of tensors"
    wanted, found = _weights(net.state_dict()), _weights(state)
    for name in sorted({*wanted, *found}, key=str):
        if name not in found:
            return f"{name} is missing"
        if name not in wanted:
            return f"{plain(name)} does not belong there"
        if found[name].shape != wanted[name].shape or not found[name].is_floating_point():
            return f"{name} is {found[name].dtype} {list(found[name].shape)}, not {list(wanted[name].shape)}"
    return None


def _weights(state: dict) -> dict:
    """Without the counters of batches, which nothing is computed from."""
    return {name: value for name, value in state.items() if not str(name).endswith(".num_batches_tracked")}


def published_file() -> Path:
    """The published weights in the user's cache folder, checked, after downloading them if need be.

    Raises UserError when they cannot be had. A damaged file there is replaced.
    """
    path = open_source("builtin", 0).caches[-1] / URL.rpartition("/")[2]
    if not path.is_file() or file_digest(path) != SHA256:
        try:
            download(path)
        except (OSError, http.client.HTTPException, UserError) as error:
            there = "no Inception weights here" if not path.exists() else f"the file {plain(path)} is damaged"
            raise UserError(
                f"{there}, and they cannot be downloaded ({plain(error)}): get {URL} elsewhere and put it at "
                f"{plain(path)}, or name it with --weights"
            ) from None
    return path


def download(path: Path) -> None:
    """Fetches the published weights to `path`, whole or not at all. Raises OSError, HTTPException or UserError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")  # several processes may be at it
    try:
        with urllib.request.urlopen(URL, timeout=PATIENCE) as answer, open(beside, "xb") as file:
            total = int(answer.headers.get("Content-Length", 0))
            look = {"unit": "B", "unit_scale": True, "disable": None, "leave": False}  # None: on a terminal only
            with tqdm(total=total, desc="Inception weights", **look) as bar:
                while piece := answer.read(PIECE):
                    file.write(piece)
                    bar.update(len(piece))
        found = file_digest(beside)
        if found != SHA256:
            raise UserError(f"the sha256 of what came starts {found[:12]}, not {SHA256[:12]}")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """The sha256 of a file, 64 hexadecimal digits. Raises UserError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{plain(path)} cannot be read: {plain(error)}") from None
