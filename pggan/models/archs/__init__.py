"""The kinds of network: each is a file that ends in its `ARCH`, and a row here. Settings: config/tables.py."""

from pggan.models.archs import dcgan, paper, style
from pggan.models.archs.arch import Arch

ARCHS: dict[str, Arch] = {
    "paper": paper.ARCH,
    "dcgan": dcgan.ARCH,
    "style": style.ARCH,
}
