"""Batches by index: image 12,345 depends on that number alone."""

import warnings

import numpy as np
import pytest
import torch

from pggan.data.batches import BatchLoader
from pggan.data.packing import ImageCache
from pggan.randomness import Stream

COUNT, WIDTH, HEIGHT = 23, 16, 20


def packed(tmp_path, crop_margin=1.0) -> ImageCache:
    """A cache written by hand: noise, so that every image and every crop can be recognized."""
    shape = COUNT, round(HEIGHT * crop_margin), round(WIDTH * crop_margin), 3
    np.save(tmp_path / "0016.npy", np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    names = [str(number) for number in range(COUNT)]
    facts = {"labels": None, "label_names": [], "label_note": "", "unreadable": [], "brightest": 255}
    facts |= {"ignored": 0, "ignored_names": (), "enlarged": {16: 0}}
    return ImageCache(tmp_path, "print", names, **facts, crop_margin=crop_margin)


def loader(cache, mirror=False, random_crop=False, stream=Stream(5), device="cpu") -> BatchLoader:  # noqa: B008
    return BatchLoader(cache, 16, (WIDTH, HEIGHT), stream, mirror, random_crop, device)


def as_floats(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32)) / 127.5 - 1


def test_a_batch_is_the_packed_images_between_minus_1_and_1(tmp_path):
    cache = packed(tmp_path)
    batch = loader(cache).batch(7, 30)
    assert batch.dtype == torch.float32 and batch.shape == (30, 3, HEIGHT, WIDTH) and batch.is_contiguous()
    assert batch.min() == -1 and batch.max() == 1
    assert torch.equal(batch, as_floats(cache.images(16)[Stream(5).order(7, 30, COUNT)]))


def test_each_pass_visits_every_image_once_in_a_new_order(tmp_path):
    cache = packed(tmp_path)
    place = {as_floats(pixels[None]).numpy().tobytes(): number for number, pixels in enumerate(cache.images(16))}
    batches = [loader(cache).batch(start * COUNT, COUNT) for start in range(3)]
    passes = [[place[image.numpy().tobytes()] for image in batch] for batch in batches]
    assert all(sorted(each) == list(range(COUNT)) for each in passes)
    assert passes[0] != passes[1] != passes[2]


@pytest.mark.parametrize("margin", [1.0, 1.25])
@pytest.mark.parametrize("split", [1, 16, 7])
def test_batch_splits_agree(tmp_path, split, margin):
    batches = loader(packed(tmp_path, margin), mirror=True, random_crop=margin > 1)
    starts = range(0, 64, split)
    parts = [batches.batch(100 + start, min(split, 64 - start)) for start in starts]
    assert torch.equal(torch.cat(parts), batches.batch(100, 64))


def test_mirroring_flips_about_half_of_the_images_exactly(tmp_path):
    cache = packed(tmp_path)
    straight, mirrored = loader(cache).batch(0, 400), loader(cache, mirror=True).batch(0, 400)
    same = (straight == mirrored).flatten(1).all(1)
    flipped = (straight.flip(3) == mirrored).flatten(1).all(1)
    assert (same ^ flipped).all() and 150 < flipped.sum() < 250


def test_random_crops_come_from_anywhere_in_the_margin(tmp_path):
    cache = packed(tmp_path, 1.25)
    batch = loader(cache, random_crop=True).batch(0, 300)
    whole = as_floats(cache.images(16)[Stream(5).order(0, 300, COUNT)])
    seen = set()
    for image, full in zip(batch, whole, strict=True):
        corners = [(top, left) for top in range(6) for left in range(5)]
        places = [(t, x) for t, x in corners if torch.equal(image, full[:, t : t + HEIGHT, x : x + WIDTH])]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 30  # a margin of 5 rows and 4 columns has 6 x 5 places


def test_without_random_crops_the_center_is_taken(tmp_path):
    cache = packed(tmp_path, 1.25)
    whole = as_floats(cache.images(16)[Stream(5).order(0, 9, COUNT)])
    assert torch.equal(loader(cache).batch(0, 9), whole[:, :, 2 : 2 + HEIGHT, 2 : 2 + WIDTH])


def test_another_attempt_sees_another_order_and_the_stream_can_be_replaced(tmp_path):
    batches = loader(packed(tmp_path))
    first = batches.batch(0, COUNT)
    batches.stream = Stream(5, attempt=1)
    assert not torch.equal(batches.batch(0, COUNT), first)
    batches.stream = Stream(5)
    assert torch.equal(batches.batch(0, COUNT), first)


def test_training_cannot_change_the_packed_file(tmp_path):
    cache = packed(tmp_path)
    before = (tmp_path / "0016.npy").read_bytes()
    batches = loader(cache)
    for count in (1, 4):
        batches.batch(0, count).zero_()
    assert (tmp_path / "0016.npy").read_bytes() == before and len(batches) == COUNT


def test_only_the_warning_of_read_only_images_is_silenced(tmp_path, monkeypatch):
    cache, from_numpy = packed(tmp_path), torch.from_numpy
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # otherwise torch gives this warning once, to whatever asks first
    try:
        with pytest.warns(UserWarning, match="not writable"):
            torch.from_numpy(cache.images(16))
        loader(cache)  # a warning would be an error
    finally:
        torch.set_warn_always(always)
    monkeypatch.setattr(torch, "from_numpy", lambda array: warnings.warn("another", stacklevel=1) or from_numpy(array))
    with pytest.warns(UserWarning, match="another"):
        loader(cache)


@pytest.mark.parametrize("random_crop", [False, True])
def test_indexing_on_a_gpu_takes_the_same_pixels(tmp_path, random_crop):
    """The one indexing operation, run on the CPU."""
    source = loader(packed(tmp_path, 1.25), True, random_crop)
    wanted = source.batch(3, 50)
    source._stacked = source._indexed
    assert torch.equal(source.batch(3, 50), wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("room", [0.5, 0.0])
def test_a_gpu_gives_the_same_batches_whether_it_holds_the_images_or_not(tmp_path, monkeypatch, room):
    monkeypatch.setattr("pggan.data.batches.GPU_MEMORY_SHARE", room)
    cache = packed(tmp_path, 1.25)
    here = loader(cache, True, True)
    there = loader(cache, True, True, device="cuda")
    assert there.pixels.is_cuda == (room > 0) and there.batch(3, 50).is_cuda
    assert torch.allclose(there.batch(3, 50).cpu(), here.batch(3, 50), atol=1e-6)
