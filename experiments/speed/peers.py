"""Training steps of the peers, by their own classes: pro-gan-pth 3.4 and lightweight-gan 1.2.1.

No code of theirs is copied. Functions here that patch them from outside say which part does not run as published.
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
from case import Case, latents, noise_reals
from torch import Tensor, nn

# Modules that the peers import and never use in a training step. Missing ones are replaced by stand-ins.
UNUSED = (
    *("torch.utils.tensorboard", "torchvision", "torchvision.transforms", "torchvision.utils"),
    *("kornia", "kornia.filters", "adabelief_pytorch", "PIL", "tqdm"),
    "pro_gan_pytorch.data_tools",  # builds torchvision transforms when it is imported
)


class MissingPeer(Exception):
    """A peer is not installed. The message says which one and how to install it."""


class Absent(types.ModuleType):
    """Stands in for a module that is not installed: its names can be imported, but raise when they are used."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return Unusable(f"{self.__name__}.{name}")


class Unusable:
    """A name from a missing module. Good for imports and annotations; raises RuntimeError when called."""

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
        # lightweight-gan asserts that there is a GPU, but its networks run without one
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
    """The reason that a peer cannot be measured; None when it can."""
    try:
        load(MODULES[side])
    except MissingPeer as error:
        return str(error)
    return None


def version(side: str) -> str:
    """The installed version of a peer."""
    return importlib.metadata.version(side)


class ProGanPth:
    """pro-gan-pth: its ProGAN class with WganGP, used as its train() uses them, with our feature maps.

    Its train() takes four steps on the same images and latents. Each counts as a step on new ones, which favors it.
    """

    cycle = 1

    def __init__(self, case: Case):
        if case.loss != "wgan-gp" or case.penalty_interval != 1:
            raise ValueError("pro-gan-pth trains with WGAN-GP and a penalty in every step only")
        gan, networks, layers = (load(f"pro_gan_pytorch.{name}") for name in ("gan", "networks", "custom_layers"))
        layers.EqualizedConvTranspose2d._output_padding = _output_padding
        maps = partial(networks.nf, fmap_base=case.fmap_base, fmap_max=case.fmap_max)
        device = torch.device("cuda", 0) if case.device == "cuda" else torch.device(case.device)  # no DataParallel
        with patch.object(networks, "nf", maps), contextlib.redirect_stdout(io.StringIO()):
            G, D = (kind(case.depth, latent_size=case.latent) for kind in (networks.Generator, networks.Discriminator))
            self.gan = gan.ProGAN(G, D, device=device)
        self.case, self.loss, self.update_average = case, gan.WganGP(), gan.update_average
        self.reals = noise_reals(case)
        if case.layout == "channels_last":
            for network in (self.gan.gen, self.gan.dis, self.gan.gen_shadow):
                network.to(memory_format=torch.channels_last)
            self.gan.dis.register_forward_pre_hook(_contiguous_gradient)
        # its defaults, but for beta1: torch now refuses the integer 0
        adam = partial(torch.optim.Adam, lr=0.003, betas=(0.0, 0.99), eps=1e-8)
        self.opt_G, self.opt_D = adam(self.gan.gen.parameters()), adam(self.gan.dis.parameters())

    @property
    def G(self) -> nn.Module:
        return self.gan.gen

    @property
    def D(self) -> nn.Module:
        return self.gan.dis

    def step(self) -> None:
        z, place = latents(self.case), (self.reals, self.case.depth, self.case.alpha)
        with autocast(self.case):
            self.gan.optimize_discriminator(self.loss, self.opt_D, z, *place)
            self.update_average(self.gan.gen_shadow, self.gan.gen, beta=self.gan.ema_beta)
            self.gan.optimize_generator(self.loss, self.opt_G, z, *place)

    def sample(self) -> Tensor:
        return self.gan.gen(latents(self.case), self.case.depth, self.case.alpha)

    def judge(self, images: Tensor) -> Tensor:
        return self.gan.dis(images, self.case.depth, self.case.alpha)


def _output_padding(self, x, output_size, stride, padding, kernel_size):
    """torch's private method of this name has one argument more than in torch 1.10."""
    return nn.ConvTranspose2d._output_padding(self, x, output_size, stride, padding, kernel_size, num_spatial_dims=2)


class _ContiguousGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.contiguous()


def _contiguous_gradient(_, inputs: tuple) -> tuple:
    """Makes D's input gradient contiguous: the penalty calls `view` on it, which fails in channels_last."""
    return (_ContiguousGradient.apply(inputs[0]), *inputs[1:])


class LightweightGan:
    """lightweight-gan: its Trainer.train(), with our feature maps where it has a setting for them.

    Its loss is fixed: hinge, a gradient penalty on reals and fakes every fourth step, and a reconstruction of reals.
    Settings are as near to ours as it allows: one logit, no augmentation, no attention except in D's 32 px head, which
    always has it. Measured late in a run, where the average is updated every tenth step.
    """

    cycle = 4
    STEPS_BEFORE = 40_000  # a multiple of the cycle

    def __init__(self, case: Case):
        if (case.loss, case.penalty_interval) != ("hinge", 4):
            raise ValueError("lightweight-gan trains with the hinge loss and a penalty every fourth step only")
        if case.alpha < 1:
            raise ValueError("lightweight-gan has no fade")
        if case.res < 32:
            raise ValueError("lightweight-gan begins at 32 px")
        self.module = load("lightweight_gan.lightweight_gan")
        self.case = case
        with self._on_device(), tempfile.TemporaryDirectory() as base:
            self.trainer = self.module.Trainer(
                base_dir=base,  # it makes folders there, and writes nothing into them here
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
        self.trainer.steps = self.STEPS_BEFORE
        batch = noise_reals(case)
        if case.layout == "channels_last":
            self.trainer.GAN.to(memory_format=torch.channels_last)
            batch = batch.to(memory_format=torch.channels_last)
        self.trainer.loader = (batch.clone() for _ in itertools.count())  # train() changes requires_grad of its batch

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
        """On a CPU: `.cuda()` does nothing, and every device that it names is the CPU."""
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
    """torch, except that every device is the CPU."""

    def __getattr__(self, name: str):
        return getattr(torch, name)

    @staticmethod
    def device(_: str) -> torch.device:
        return torch.device("cpu")


def autocast(case: Case) -> torch.autocast:
    """bf16 autocast around a whole step of a peer; disabled in other precisions."""
    return torch.autocast(case.device, dtype=torch.bfloat16, enabled=case.precision == "bf16")


PEERS = {"pro-gan-pth": ProGanPth, "lightweight-gan": LightweightGan}
MODULES = {"pro-gan-pth": "pro_gan_pytorch.gan", "lightweight-gan": "lightweight_gan.lightweight_gan"}
