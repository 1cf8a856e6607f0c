"""Grids have gaps, and can be cut into their images again."""

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pggan.errors import UserError
from pggan.evaluation.grids import fit_grid, grid_files, make_grid, save_grid, scaled, split_grid


def images_of(count: int, height: int = 3, width: int = 4) -> np.ndarray:
    return np.random.default_rng(count).integers(1, 256, (count, height, width, 3), dtype=np.uint8)


def test_images_stand_row_by_row_with_black_gaps_and_black_unused_places():
    images = images_of(3)
    grid = np.asarray(make_grid(images, 2))
    assert grid.shape == (2 * 3 + 3 * 2, 2 * 4 + 3 * 2, 3)
    for number, (top, left) in enumerate([(2, 2), (2, 8), (7, 2)]):
        assert np.array_equal(grid[top : top + 3, left : left + 4], images[number])
    assert (grid > 0).all(-1).sum() == 3 * 3 * 4  # nothing else


def test_without_a_gap_images_touch():
    assert make_grid(images_of(3), 2, gap=0).size == (8, 6)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (1, 8), (3, 2), (3, 8), (48, 8)])
def test_a_saved_grid_is_split_into_the_images_it_was_made_of(tmp_path, count, columns):
    images = images_of(count)
    save_grid(images, columns, tmp_path / "grid.png")
    found, found_columns = split_grid(tmp_path / "grid.png")
    assert np.array_equal(found, images) and found_columns == min(count, columns)


def test_a_grid_without_a_layout_counts_as_one_image(tmp_path):
    whole = images_of(1, 12, 16)
    Image.fromarray(whole[0]).save(tmp_path / "grid.png")
    found, columns = split_grid(tmp_path / "grid.png")
    assert np.array_equal(found, whole) and columns == 1


@pytest.mark.parametrize("damage", ["cut", "layout", "other layout"])
def test_a_damaged_grid_is_refused_in_one_plain_line(tmp_path, damage):
    path = tmp_path / "grid.png"
    save_grid(images_of(4), 2, path)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-30])
    else:
        info = {"layout": "{", "other layout": '{"count": 4, "columns": 3, "gap": 2, "size": [4, 3]}'}[damage]
        text = PngInfo()
        text.add_text("pggan grid", info)
        make_grid(images_of(4), 2).save(path, pnginfo=text)
    with pytest.raises(UserError, match="cannot be read") as caught:
        split_grid(path)
    assert "\n" not in str(caught.value)


def test_grid_files_are_those_with_a_run_s_names_oldest_first(tmp_path):
    for name in ("0008-00000200.png", "0004-00000200.png", "0004-00000100.png", "grid.png", "0004-00000300.png.tmp"):
        (tmp_path / name).write_bytes(b"")
    assert [(grid.nimg, grid.res) for grid in grid_files(tmp_path)] == [(100, 4), (200, 4), (200, 8)]
    assert grid_files(tmp_path / "none") == []


def test_a_fitted_grid_fills_its_room_whatever_the_size_of_its_images():
    sizes = {fit_grid(images_of(6, res, res), 3, (64, 1000)).size for res in (4, 8, 16, 100)}
    assert sizes == {(3 * 18 + 4 * 2, 2 * 18 + 3 * 2)}


def test_enlarged_images_keep_their_pixels_as_squares():
    small = Image.fromarray(images_of(1)[0])
    assert np.array_equal(np.asarray(scaled(small, (28, 21))), np.asarray(small).repeat(7, 0).repeat(7, 1))


@pytest.mark.parametrize("width", [30, 37])
def test_scaled_by_no_whole_number_each_pixel_still_has_its_place_and_color(width):
    small = images_of(1, 8, 12)[0]
    big = np.asarray(scaled(Image.fromarray(small), (width, round(width * 2 / 3))))
    middles = [round((number + 0.5) * width / 12 - 0.5) for number in range(12)]
    assert np.abs(big[1, middles].astype(int) - small[0].astype(int)).max() <= 2


def test_reduced_images_have_no_aliasing():
    stripes = np.zeros((256, 384, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the result can show: gray
    small = np.asarray(scaled(Image.fromarray(stripes), (96, 64))).astype(int)
    assert small[:, 4:-4].min() >= 125 and small[:, 4:-4].max() <= 130
