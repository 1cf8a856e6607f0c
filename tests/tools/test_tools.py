"""grow.py, sample.py and export.py, judged by the files they write."""

from pathlib import Path

import export
import grow
import numpy as np
import pytest
import sample
import torch
from PIL import Image
from runs import assert_same, refused_here

import train
from pggan.config.schema import NetworkConfig, from_dict
from pggan.data.listing import OUTPUT_MARK
from pggan.errors import UserError
from pggan.evaluation import samples
from pggan.models.layers import downsample, upsample
from pggan.models.networks import Discriminator, Generator
from pggan.randomness import Stream
from pggan.training import checkpoint, growth
from pggan.training.loading import load_generator

pytest_plugins = ["short_runs"]


@pytest.fixture(scope="module")
def run(tiny_run) -> Path:
    """The checkpoints of a whole run, 4 -> 16 px."""
    return tiny_run / "checkpoints"


def network(kind: type, values: dict, name: str, first: int) -> torch.nn.Module:
    """The network `name` of a checkpoint, built here: grown from `first` px to its resolution."""
    made = kind(from_dict(values["config"]).network)
    while made.res < values["res"]:
        made.grow()
    assert first == made.config.stages()[0]
    made.load_state_dict(values[name])
    return made


def edited(path: Path, to: Path, **changes: object) -> Path:
    """A checkpoint with other values and the checksum that belongs to them."""
    values = checkpoint.load(path)
    values.pop("sha256")
    checkpoint.save({**values, **changes}, to)
    return to


# ---- grow.py


@pytest.fixture(scope="module", params=[4, 8, 16])
def pair(request, run, tmp_path_factory) -> tuple[dict, dict]:
    """(values before, values after) of grow.py at each resolution."""
    out = tmp_path_factory.mktemp("grown") / "grown.pt"
    grow.main([str(run / f"res-{request.param:04d}.pt"), "--out", str(out)])
    return checkpoint.load(run / f"res-{request.param:04d}.pt"), checkpoint.load(out)


@pytest.mark.parametrize("name", ["G", "G_ema"])
@torch.no_grad()
def test_at_alpha_0_the_grown_generator_is_the_old_one_upsampled(pair, name):
    old, new = (network(Generator, values, name, 4) for values in pair)
    z = torch.randn(7, 8, generator=torch.Generator().manual_seed(1))
    assert new.res == 2 * old.res
    assert torch.equal(new(z, 0.0), upsample(old(z)))
    assert not torch.equal(new(z, 1.0), upsample(old(z)))


@torch.no_grad()
def test_at_alpha_0_the_grown_discriminator_is_the_old_one_on_the_downsampled_image(pair):
    old, new = (network(Discriminator, values, "D", 4) for values in pair)
    images = torch.randn(8, 3, new.res, new.res, generator=torch.Generator().manual_seed(1))
    assert torch.equal(new(images, 0.0), old(downsample(images)))
    assert not torch.equal(new(images, 1.0), old(downsample(images)))


def test_kept_weights_average_and_moments_are_the_old_ones(pair):
    old, new = pair
    for part in ("G", "D", "G_ema", "opt_G", "opt_D"):
        kept = set(old[part]) & set(new[part])
        assert len(kept) >= len(old[part]) - 2, part  # at most an RGB layer of two resolutions down has gone
        for name in kept:
            assert_same(new[part][name], old[part][name], f"{part}/{name}")
    assert all(f".{2 * old['res']}." not in name for part in ("opt_G", "opt_D") for name in new[part])
    assert any(not torch.equal(old["G"][name], old["G_ema"][name]) for name in old["G"])


def test_new_weights_of_the_average_are_the_generator_s(pair):
    old, new = pair
    fresh = set(new["G"]) - set(old["G"])
    assert fresh and all(torch.equal(new["G"][name], new["G_ema"][name]) for name in fresh)


def test_only_two_rgb_layers_are_left(pair):
    for part in ("G", "D"):
        resolutions = {name.split(".")[1] for name in pair[1][part] if name.startswith("rgb.")}
        assert resolutions == {str(pair[0]["res"]), str(2 * pair[0]["res"])}


def test_the_new_stage_begins_where_the_old_one_ended_and_growth_is_recorded(pair):
    old, new = pair
    assert (new["res"], new["nimg"], new["stage"]["plan"]["start"]) == (2 * old["res"], old["nimg"], old["nimg"])
    entry = new["growth"][-1]
    assert list(entry) == ["nimg", "action", "from_res", "to_res", "reason", "numbers"]
    assert (entry["nimg"], entry["action"]) == (old["nimg"], "grow")
    assert (entry["from_res"], entry["to_res"]) == (old["res"], 2 * old["res"])
    assert new["growth"][:-1] == old["growth"]
    assert from_dict(new["config"]).network.max_res == max(16, new["res"])


def test_the_default_name_is_grown_res_beside_it(run, tmp_path, capsys):
    path = tmp_path / "latest.pt"
    path.write_bytes((run / "res-0008.pt").read_bytes())
    grow.main([str(path)])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["grown-0016.pt", "latest.pt"]
    assert path.read_bytes() == (run / "res-0008.pt").read_bytes()
    said = capsys.readouterr().out
    assert "checked" in said and f"--resume {tmp_path / 'grown-0016.pt'}" in said


def test_growing_twice_is_refused_until_the_fade_is_over_and_names_the_kimg_left(run, tmp_path):
    grow.main([str(run / "res-0004.pt"), "--out", str(tmp_path / "a.pt")])
    with pytest.raises(UserError, match=r"8 px is not over: 0\.12 kimg are left"):
        grow.main([str(tmp_path / "a.pt")])
    later = edited(tmp_path / "a.pt", tmp_path / "b.pt", nimg=200 + 119)
    with pytest.raises(UserError, match=r"0\.00 kimg are left"):
        grow.main([str(later)])
    grow.main([str(edited(later, tmp_path / "c.pt", nimg=200 + 120)), "--out", str(tmp_path / "d.pt")])
    assert checkpoint.load(tmp_path / "d.pt")["res"] == 16


def test_the_last_resolution_is_not_grown(run, tmp_path):
    over = run / "res-0016.pt"
    for nimg in (10**6, 10**7):  # fmap_base 32 leaves 2 maps at 32 px and 1 at 64
        grow.main([str(over), "--out", str(tmp_path / "a.pt")])
        over = edited(tmp_path / "a.pt", tmp_path / f"{nimg}.pt", nimg=nimg)
    with pytest.raises(UserError, match="64 px is as far as these networks go"):
        grow.main([str(over), "--out", str(tmp_path / "c.pt")])
    assert not (tmp_path / "c.pt").exists()


def test_the_checkpoint_itself_is_not_overwritten(run, tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes((run / "res-0004.pt").read_bytes())
    with pytest.raises(UserError, match="is the checkpoint itself"):
        grow.main([str(path), "--out", f"{tmp_path}/../{tmp_path.name}/a.pt"])
    assert path.read_bytes() == (run / "res-0004.pt").read_bytes()


def perturb(network: torch.nn.Module) -> None:
    """Changes a weight that growth keeps."""
    with torch.no_grad():
        next(parameter for name, parameter in network.named_parameters() if "rgb.4" in name).add_(1e-4)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: perturb(state.G), "generator"),
        (lambda state: perturb(state.D), "discriminator"),
        (lambda state: perturb(state.G_ema), "average"),
        (lambda state: state.G_ema.load_state_dict(state.G.state_dict()), "average"),
    ],
)
def test_the_check_fails_when_growth_changes_a_network(run, tmp_path, monkeypatch, change, named):
    real = growth.TrainState.grow
    monkeypatch.setattr(growth.TrainState, "grow", lambda state, plan: (real(state, plan), change(state)))
    with pytest.raises(RuntimeError, match=f"changed the {named}"):
        grow.main([str(run / "res-0004.pt"), "--out", str(tmp_path / "a.pt")])
    assert not (tmp_path / "a.pt").exists()


# ---- sample.py


def drawn(ckpt: Path, out: Path, *flags: object) -> dict[str, bytes]:
    sample.main([str(ckpt), "--out", str(out), *map(str, flags)])
    assert (out / OUTPUT_MARK).exists()  # so that training never takes these for pictures to learn from
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.png"))}


def test_image_i_of_a_seed_is_the_same_whatever_num(run, tmp_path):
    many = drawn(run / "latest.pt", tmp_path / "a", "--num", 40, "--seed", 5)
    for num in (1, 16, 17):
        few = drawn(run / "latest.pt", tmp_path / str(num), "--num", num, "--seed", 5)
        assert len(few) == num + 1
        assert all(many[name] == data for name, data in few.items() if name != "grid.png"), num


def test_another_batch_changes_no_image_by_more_than_its_last_bit(run):
    average, alpha = load_generator(run / "latest.pt")
    one = samples.draw(average, alpha, 5, 37, batch=37).astype(int)
    for batch in (1, 3, 16):
        assert abs(samples.draw(average, alpha, 5, 37, batch=batch) - one).max() <= 1


def test_loading_a_generator_leaves_the_random_numbers_of_its_user_alone(run):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load_generator(run / "latest.pt")
    assert torch.equal(torch.rand(2), expected)


def test_two_runs_are_byte_for_byte_the_same_and_seeds_differ(run, tmp_path):
    one = drawn(run / "latest.pt", tmp_path / "a", "--num", 6, "--seed", 1)
    assert one == drawn(run / "latest.pt", tmp_path / "b", "--num", 6, "--seed", 1)
    other = drawn(run / "latest.pt", tmp_path / "c", "--num", 6, "--seed", 2)
    assert not set(one.values()) & set(other.values())
    assert sorted(one) == [*(f"0001-{number:05d}.png" for number in range(6)), "grid.png"]


def spread(images: np.ndarray) -> float:
    return float(images.astype(float).std(axis=0).mean())


def test_psi_pulls_towards_one_image(run):
    average, alpha = load_generator(run / "latest.pt")
    images = {psi: samples.draw(average, alpha, 0, 24, psi) for psi in (0, 0.5, 1)}
    assert len(np.unique(images[0], axis=0)) == 1
    assert 0 < spread(images[0.5]) < spread(images[1])
    assert np.array_equal(images[1], samples.draw(average, alpha, 0, 24))


def test_psi_works_where_the_latent_s_normalization_cannot_undo_it(run, tmp_path):
    half = drawn(run / "latest.pt", tmp_path / "a", "--num", 4, "--psi", 0.5)
    assert half != drawn(run / "latest.pt", tmp_path / "b", "--num", 4)


def test_samples_come_from_the_average_and_never_from_the_raw_generator(run, tmp_path):
    values = checkpoint.load(run / "latest.pt")
    noise = {name: torch.randn_like(value) for name, value in values["G"].items()}
    raw = edited(run / "latest.pt", tmp_path / "raw.pt", G=noise)
    mean = edited(run / "latest.pt", tmp_path / "mean.pt", G_ema=noise)
    images = drawn(run / "latest.pt", tmp_path / "a", "--num", 3)
    assert drawn(raw, tmp_path / "b", "--num", 3) == images
    assert drawn(mean, tmp_path / "c", "--num", 3) != images


def test_a_checkpoint_in_its_fade_is_sampled_at_its_alpha(run, tmp_path):
    grow.main([str(run / "res-0008.pt"), "--out", str(tmp_path / "grown.pt")])
    images = {}
    for nimg in (520, 520 + 60, 520 + 120, 520 + 500):
        path = edited(tmp_path / "grown.pt", tmp_path / f"{nimg}.pt", nimg=nimg)
        average, alpha = load_generator(path)
        assert alpha == min((nimg - 520) / 120, 1.0)
        with torch.no_grad():
            z = torch.from_numpy(Stream(0).normal("samples", 0, 2, 8))
            wanted = samples.to_uint8(average(z, alpha)).numpy()
        drawn(path, tmp_path / str(nimg), "--num", 2)
        images[nimg] = [np.asarray(Image.open(tmp_path / str(nimg) / f"0000-0000{n}.png").copy()) for n in (0, 1)]
        assert np.array_equal(np.stack(images[nimg]), wanted)
    assert np.array_equal(images[520 + 120], images[520 + 500])
    assert not np.array_equal(images[520], images[520 + 60])


def test_the_grid_shows_the_images_row_by_row(run, tmp_path):
    drawn(run / "res-0008.pt", tmp_path / "a", "--num", 5, "--columns", 3)
    with Image.open(tmp_path / "a" / "grid.png") as grid:
        sheet = np.asarray(grid)
    assert sheet.shape == (2 * 8 + 6, 3 * 8 + 8, 3) and not sheet[12:, 22:].any()
    with Image.open(tmp_path / "a" / "0000-00004.png") as last:
        assert np.array_equal(sheet[12:20, 12:20], np.asarray(last))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num", "0"], "--num"),
        (["--columns", "-1"], "--columns"),
        (["--seed", "-1"], "--seed"),
        (["--psi", "nan"], "--psi"),
        (["--psi", "-0.5"], "--psi"),
        (["--device", "tpu"], "--device"),
        (["--nmu", "3"], "did you mean --num"),
        (["--out", ""], "--out"),
    ],
)
def test_bad_flags_of_sample_are_refused_and_write_nothing(run, tmp_path, monkeypatch, flags, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        sample.main([str(run / "latest.pt"), "--out", str(tmp_path / "a"), *flags])
    assert not list(tmp_path.iterdir())


def test_an_out_that_is_a_file_is_refused_and_left_as_it_was(run, tmp_path):
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(UserError, match="is a file"):
            sample.main([str(run / "latest.pt"), "--num", "1", "--out", str(out)])
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("main", [grow.main, sample.main], ids=["grow", "sample"])
def test_what_is_no_checkpoint_is_refused(run, tmp_path, main):
    (tmp_path / "garbage.pt").write_bytes(b"\x80\x02garbage" * 50)
    whole = (run / "latest.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[:-100])
    values = checkpoint.load(run / "latest.pt")
    edited(run / "latest.pt", tmp_path / "shape.pt", G_ema={**values["G_ema"], "input.bias": torch.zeros(99)})
    edited(run / "latest.pt", tmp_path / "res.pt", res=24)
    for name in ("garbage.pt", "cut.pt", "shape.pt", "res.pt", "missing.pt", "."):
        with pytest.raises(UserError) as caught:
            main([str(tmp_path / name), "--out", str(tmp_path / "out")])
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_as_scripts_they_refuse_with_exit_2_and_one_line(run, tmp_path):
    grow.main([str(run / "res-0004.pt"), "--out", str(tmp_path / "a.pt")])
    assert "0.12 kimg are left" in refused_here(tmp_path / "a.pt", script="tools/grow.py")
    assert "no checkpoint" in refused_here(tmp_path / "none.pt", script="tools/sample.py")


def test_a_generator_of_the_public_api_draws_what_its_docstring_says():
    images = Generator(NetworkConfig(start_res=8, max_res=8, fmap_base=32, latent=8))(torch.zeros(2, 8), 1.0)
    assert images.shape == (2, 3, 8, 8) and images.dtype == torch.float32


# ---- export.py


def test_a_generator_s_file_is_small_and_sampled_like_its_checkpoint(run, tmp_path, capsys):
    export.main([str(run / "latest.pt"), "--out", str(tmp_path / "g.safetensors")])
    assert "16 px" in capsys.readouterr().out
    assert (tmp_path / "g.safetensors").stat().st_size < (run / "latest.pt").stat().st_size / 8
    one, other = (
        drawn(path, tmp_path / path.stem, "--num", 4) for path in (run / "latest.pt", tmp_path / "g.safetensors")
    )
    assert one.keys() == other.keys()
    pixels = [np.asarray(Image.open(tmp_path / stem / "grid.png")).astype(int) for stem in ("latest", "g")]
    assert np.abs(pixels[0] - pixels[1]).max() <= 2


def test_export_names_its_file_after_the_checkpoint(run, tmp_path):
    (tmp_path / "a.pt").write_bytes((run / "latest.pt").read_bytes())
    export.main([str(tmp_path / "a.pt")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "a.safetensors"]


def test_a_run_starts_from_an_exported_start_file(run, tmp_path, capsys):
    export.main([str(run / "res-0008.pt"), "--out", str(tmp_path / "start.pt")])
    assert "all networks at 8 px" in capsys.readouterr().out
    train.main(["--resume", str(tmp_path / "start.pt"), "--out", str(tmp_path / "run"), "--wandb", "off"])
    begun, start = (checkpoint.load(path) for path in (tmp_path / "run/checkpoints/latest.pt", tmp_path / "start.pt"))
    assert (begun["res"], start["res"]) == (16, 8) and begun["nimg"] > start["nimg"]
    assert [entry["action"] for entry in begun["growth"]] == ["grow", "stop"]


def test_export_refuses_in_one_line(run, tmp_path):
    path = tmp_path / "g.safetensors"
    assert "no checkpoint" in refused_here(tmp_path / "none.pt", script="tools/export.py")
    assert "must end in .safetensors or .pt" in refused_here(
        run / "latest.pt", "--out", tmp_path / "g.bin", script="tools/export.py"
    )
    assert "is a folder" in refused_here(".", script="tools/export.py")
    copied = tmp_path / "a.pt"
    copied.write_bytes((run / "latest.pt").read_bytes())
    assert "exists" in refused_here(run / "latest.pt", "--out", copied, script="tools/export.py")
    assert copied.read_bytes() == (run / "latest.pt").read_bytes()
    export.main([str(run / "latest.pt"), "--out", str(path)])
    for script in ("tools/export.py", "tools/grow.py"):
        assert "holds a generator alone" in refused_here(path, script=script)
    assert "holds a generator alone" in refused_here("--resume", path, "--out", tmp_path / "new", script="train.py")
