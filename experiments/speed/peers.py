"""The peers' training steps, by their own classes: pro-gan-pth 3.4 and lightweight-gan 1.2.1.

Nothing of theirs is copied. What does not run as published is mended from outside, and each mend is a function here.
"""

import contextlib
import importlib
import importlib.metadata
import io
import itertools
import sys
import tempfile
import types
from collections.abc import Iterator
from functools import partial
from unittest.mock import patch

import torch
from sides import Case, depth, latents, reals
from torch import Tensor, nn

# What the peers' modules import and their training steps never touch; used only where it is not installed.
UNUSED = (
    *("torch.utils.tensorboard", "torchvision", "torchvision.transforms", "torchvision.utils"),
    *("kornia", "kornia.filters", "adabelief_pytorch", "PIL", "tqdm"),
    "pro_gan_pytorch.data_tools",  # which makes torchvision's transforms as it is imported
)


class MissingPeer(Exception):
    """A peer is not installed. The message says which, and how to mend that."""


class Absent(types.ModuleType):
    """Stands in for a module that is not installed. Whatever is taken from it can be named, and not used."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return Unusable(f"{self.__name__}.{name}")


class Unusable:
    """A name from a module that is not installed, as it stands in imports and annotations."""

    def __init__(self, name: str):
        self.name = name

    def __getattr__(self, name: str):
        return Unusable(f"{self.name}.{name}")

    def __call__(self, *_, **__):
        raise RuntimeError(f"{self.name} is not installed")


def load(module: str) -> types.ModuleType:
    """A peer's module. Raises MissingPeer."""
    stand_ins = [name for name in UNUSED if not _installed(name)]
    sys.modules.update({name: Absent(name) for name in stand_ins})
    try:
        # lightweight-gan asserts that there is a GPU, which its networks do not need
        with patch("torch.cuda.is_available", lambda: True), contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingPeer(f"{error.name} is not installed: see experiments/speed/README.md") from None
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _installed(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


def missing(side: str) -> str | None:
    """Why a peer cannot be measured, or None."""
    try:
        load(MODULES[side])
    except MissingPeer as error:
        return str(error)
    return None


def version(side: str) -> str:
    """The installed version of a peer."""
    return importlib.metadata.version(side)


class ProGanPth:
    """pro-gan-pth: ProGAN with its WganGP, driven as its train() does, at our feature maps.

    Its train() takes four steps on the same reals and latents; each is counted as one of fresh images, in its favor.
    """

    cycle = 1

    def __init__(self, case: Case):
        if case.loss != "wgan-gp" or case.penalty_interval != 1:
            raise ValueError("pro-gan-pth has WGAN-GP with its penalty at every step")
        gan, networks, layers = (load(f"pro_gan_pytorch.{name}") for name in ("gan", "networks", "custom_layers"))
        layers.EqualizedConvTranspose2d._output_padding = _output_padding
        maps = partial(networks.nf, fmap_base=case.fmap_base, fmap_max=case.fmap_max)
        device = torch.device("cuda", 0) if case.device == "cuda" else torch.device(case.device)  # no DataParallel
        with patch.object(networks, "nf", maps), contextlib.redirect_stdout(io.StringIO()):
            G, D = (kind(depth(case), latent_size=case.latent) for kind in (networks.Generator, networks.Discriminator))
            self.gan = gan.ProGAN(G, D, device=device)
        self.case, self.loss, self.update_average = case, gan.WganGP(), gan.update_average
        self.reals = reals(case)
        if case.layout == "channels_last":
            for network in (self.gan.gen, self.gan.dis, self.gan.gen_shadow):
                network.to(memory_format=torch.channels_last)
            self.gan.dis.register_forward_pre_hook(_contiguous_gradient)
        # train() has the betas (0, 0.99), which torch now refuses: all others are its defaults
        adam = partial(torch.optim.Adam, lr=0.003, betas=(0.0, 0.99), eps=1e-8)
        self.opt_G, self.opt_D = adam(self.gan.gen.parameters()), adam(self.gan.dis.parameters())

    @property
    def G(self) -> nn.Module:
        return self.gan.gen

    @property
    def D(self) -> nn.Module:
        return self.gan.dis

    def step(self) -> None:
        z, place = latents(self.case), (self.reals, depth(self.case), self.case.alpha)
        with autocast(self.case):
            self.gan.optimize_discriminator(self.loss, self.opt_D, z, *place)
            self.update_average(self.gan.gen_shadow, self.gan.gen, beta=self.gan.ema_beta)
            self.gan.optimize_generator(self.loss, self.opt_G, z, *place)

    def sample(self) -> Tensor:
        return self.gan.gen(latents(self.case), depth(self.case), self.case.alpha)

    def judge(self, images: Tensor) -> Tensor:
        return self.gan.dis(images, depth(self.case), self.case.alpha)


def _output_padding(self, x, output_size, stride, padding, kernel_size):
    """torch's private method of this name takes one argument more than it did in torch 1.10."""
    return nn.ConvTranspose2d._output_padding(self, x, output_size, stride, padding, kernel_size, num_spatial_dims=2)


class _ContiguousGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.contiguous()


def _contiguous_gradient(_, given: tuple) -> tuple:
    """Its penalty takes `view` of D's input gradient, which a channels_last one does not have."""
    return (_ContiguousGradient.apply(given[0]), *given[1:])


class LightweightGan:
    """lightweight-gan: its Trainer.train(), at our feature maps where it has a setting for them.

    Its loss cannot be chosen: hinge, with the penalty on reals and fakes every fourth step, and the reconstruction of
    reals. As near to ours as settings go: no attention but the fixed one of D's 32-px head, one logit, no augmentation.
    The steps measured are those of a run well under way, where the average is updated every tenth step.
    """

    cycle = 4
    WELL_UNDER_WAY = 40_000  # steps; a multiple of the cycle

    def __init__(self, case: Case):
        if (case.loss, case.penalty_interval) != ("hinge", 4):
            raise ValueError("lightweight-gan has the hinge loss, and a penalty every fourth step")
        if case.alpha < 1:
            raise ValueError("lightweight-gan has no fade")
        if case.res < 32:
            raise ValueError("lightweight-gan begins at 32 px")
        self.module = load("lightweight_gan.lightweight_gan")
        self.case = case
        with self._on_device(), tempfile.TemporaryDirectory() as base:
            self.trainer = self.module.Trainer(
                base_dir=base,  # for its folders, into which it writes nothing here
                image_size=case.res,
                batch_size=case.batch,
                latent_dim=case.latent,
                fmap_max=case.fmap_max,
                fmap_inverse_coef=case.fmap_base.bit_length() - 1,
                disc_output_size=1,
                save_every=10**9,
                evaluate_every=10**9,
                amp=case.precision == "amp",
                use_aim=False,
            )
            self.trainer.init_GAN()
        self.trainer.steps = self.WELL_UNDER_WAY
        batch = reals(case)
        if case.layout == "channels_last":
            self.trainer.GAN.to(memory_format=torch.channels_last)
            batch = batch.to(memory_format=torch.channels_last)
        self.trainer.loader = (batch.clone() for _ in itertools.count())  # train() marks what it gets

    @property
    def G(self) -> nn.Module:
        return self.trainer.GAN.G

    @property
    def D(self) -> nn.Module:
        return self.trainer.GAN.D

    def step(self) -> None:
        with self._on_device(), autocast(self.case):
            self.trainer.train()

    def sample(self) -> Tensor:
        return self.G(latents(self.case))

    def judge(self, images: Tensor) -> object:
        return self.D(images)

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        """Without a GPU: its calls to move to one do nothing, and its devices are the CPU."""
        if self.case.device == "cuda":
            yield
            return
        with (
            patch.object(torch.Tensor, "cuda", lambda tensor, *_: tensor),
            patch.object(nn.Module, "cuda", lambda module, *_: module),
            patch.object(self.module, "torch", _TorchOnCPU("torch")),
        ):
            yield


class _TorchOnCPU(types.ModuleType):
    """torch, for whom every device is the CPU."""

    def __getattr__(self, name: str):
        return getattr(torch, name)

    @staticmethod
    def device(_: str) -> torch.device:
        return torch.device("cpu")


def autocast(case: Case) -> torch.autocast:
    """bf16 around a peer's whole step, or nothing."""
    return torch.autocast(case.device, dtype=torch.bfloat16, enabled=case.precision == "bf16")


PEERS = {"pro-gan-pth": ProGanPth, "lightweight-gan": LightweightGan}
MODULES = {"pro-gan-pth": "pro_gan_pytorch.gan", "lightweight-gan": "lightweight_gan.lightweight_gan"}
