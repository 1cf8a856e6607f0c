"""The kinds of network. To add one: a file beside these that ends in an `ARCH`, and a row here; then its name
(ArchName) and default settings (ARCH_TABLE) in config/.
"""

from pggan.models.archs import dcgan, paper, style
from pggan.models.archs.arch import Arch

ARCHS: dict[str, Arch] = {
    "paper": paper.ARCH,
    "dcgan": dcgan.ARCH,
    "style": style.ARCH,
}
