"""The film of a run, judged by the frames of its files."""

import json
import sys
import weakref
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import film
import numpy as np
import pytest
from PIL import Image
from runs import refused_here

from pggan.errors import UserError
from pggan.evaluation.grids import GridFile, save_grid
from pggan.run.film import BLUE, Frames, caption, evenly_chosen, grids_of, write_webp

needs_av = pytest.mark.skipif(find_spec("av") is None, reason="PyAV, an extra, is not installed")
GRIDS = [(4, 100), (4, 200), (8, 300), (8, 400), (16, 500)]  # (res, nimg) of grids of 3 x 2 images


def save(path: Path, res: int, color: int = 0, columns: int = 3, rows: int = 2) -> None:
    """A grid as a run draws it, its pixels all different from their neighbors."""
    values = np.arange(rows * columns * res * res, dtype=np.uint32).reshape(-1, res, res)
    images = np.stack([values * 37 % 256, values * 91 % 256, 0 * values + color], -1).astype(np.uint8)
    save_grid(images, columns, path)


@pytest.fixture
def run(tmp_path) -> Path:
    """The folder of a run that grew from 4 to 16 px: each grid's blue says which it is."""
    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    for number, (res, nimg) in enumerate(GRIDS):
        save(run / "samples" / f"{res:04d}-{nimg:08d}.png", res, 50 * number)
    grown(run, (200, 4, 8), (400, 8, 16))
    return run


def grown(run: Path, *steps: tuple[int, int, int]) -> None:
    entries = [{"nimg": nimg, "action": "grow", "from_res": one, "to_res": two} for nimg, one, two in steps]
    (run / "growth.json").write_text(json.dumps(entries))


def made(run: Path, *flags: object) -> None:
    film.main([str(run), "--width", "192", *map(str, flags)])


def pages(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """(RGB frames, milliseconds each is shown) of a WebP."""
    frames, durations = [], []
    with Image.open(path) as file:
        for number in range(file.n_frames):
            file.seek(number)
            frames.append(np.asarray(file.convert("RGB")))
            durations.append(file.info["duration"])
    return frames, durations


def decoded(path: Path) -> tuple[list[np.ndarray], object]:
    """(RGB frames, the stream) of an MP4."""
    import av

    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        stream = file.streams.video[0]
        return frames, (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate)


def blues(frames: list[np.ndarray]) -> list[int]:
    """Which grid each frame shows, by the blue in the middle of its first image."""
    return [round(float(frame[20:40, 20:40, 2].mean()) / 50) for frame in frames]


# ---- the film


def test_the_default_is_a_webp_in_the_run_s_folder_with_every_grid_in_order_of_images_shown(run, capsys):
    made(run)
    frames, durations = pages(run / "film.webp")
    assert blues(frames) == [0, 1, 2, 3, 4]
    assert durations == [125] * 4 + [2000]
    assert "5 grids" in capsys.readouterr().out


def test_the_pace_is_fps_and_the_last_frame_stands_for_two_seconds(run, tmp_path):
    made(run, "--fps", 20, "--out", tmp_path / "a.webp")
    assert pages(tmp_path / "a.webp")[1] == [50] * 4 + [2000]


@needs_av
def test_an_mp4_is_h264_in_yuv420p_with_the_same_frames_and_the_last_for_two_seconds(run, tmp_path):
    made(run, "--out", tmp_path / "a.mp4", "--fps", 10)
    frames, (codec, pixels, rate) = decoded(tmp_path / "a.mp4")
    assert (codec, pixels, rate) == ("h264", "yuv420p", 10)
    assert blues(frames) == [0, 1, 2, 3, *[4] * 20]


@pytest.mark.parametrize(("suffix", "width"), [("webp", 193), ("webp", 334), pytest.param("mp4", 301, marks=needs_av)])
def test_all_frames_are_of_one_even_size(run, tmp_path, width, suffix):
    made(run, "--out", tmp_path / f"a.{suffix}", "--width", width)
    frames = (pages if suffix == "webp" else decoded)(tmp_path / f"a.{suffix}")[0]
    (shape,) = {frame.shape for frame in frames}
    assert shape[0] % 2 == shape[1] % 2 == 0 and width - 1 <= shape[1] <= width
    assert len(set(blues(frames))) == 5


def test_a_film_of_one_grid_is_a_still(run, tmp_path):
    made(run, "--frames", 1)
    with Image.open(run / "film.webp") as file:
        assert not file.is_animated and blues([np.asarray(file.convert("RGB"))]) == [4]


def test_however_many_grids_three_frames_at_most_are_held_at_once(run):
    assert [held(run, count) for count in (2, 9)] == [2, 3]  # the first, one being written, one being drawn


def held(run: Path, count: int) -> int:
    """The most frames that are alive at once while a film of `count` is written."""
    frames = Frames([GridFile(run / "samples" / "0016-00000500.png", 16, 500)] * count, 320)
    real, drawn, alive = frames.frame, [], []

    def watched(grid: GridFile) -> Image.Image:
        frame = real(grid)
        drawn.append(weakref.ref(frame))
        alive.append(sum(reference() is not None for reference in drawn))
        return frame

    frames.frame = watched
    write_webp(frames, run / "film.webp", 8)
    assert len(drawn) == count
    return max(alive)


# ---- which grids


def test_what_an_attempt_that_was_rolled_back_or_killed_left_at_another_resolution_is_not_shown(run):
    save(run / "samples" / "0008-00000150.png", 8, 250)  # it had grown at 140; the run that went on, at 200
    made(run)
    assert blues(pages(run / "film.webp")[0]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("text", ["[{]", "{}", "[]", '[{"action": "grow"}]', '[{"action": "rollback", "nimg": 3}]'])
def test_without_a_growth_log_that_says_more_every_grid_is_shown(run, text):
    (run / "growth.json").write_text(text)
    made(run)
    assert blues(pages(run / "film.webp")[0]) == [0, 1, 2, 3, 4]


def test_a_run_that_never_grew_is_shown_at_the_resolution_it_has(run):
    (run / "growth.json").unlink()
    for res, nimg in GRIDS[:3]:
        (run / "samples" / f"{res:04d}-{nimg:08d}.png").unlink()
    made(run)
    assert blues(pages(run / "film.webp")[0]) == [3, 4]


def test_files_that_are_no_grids_are_passed_over(run):
    for name in ("grid.png", "0016-00000600.png.tmp", "0016-x.png", "notes.txt"):
        (run / "samples" / name).write_text("no image")
    made(run)
    assert blues(pages(run / "film.webp")[0]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("count", "most"), [(1, 1), (7, 1), (7, 2), (7, 3), (7, 7), (7, 9), (1000, 200), (201, 200)])
def test_of_too_many_grids_evenly_chosen_ones_are_shown_the_last_always(count, most):
    found = [GridFile(Path(), 4, nimg) for nimg in range(count)]
    numbers = [grid.nimg for grid in evenly_chosen(found, most)]
    assert len(numbers) == min(count, most) and numbers[-1] == count - 1
    assert numbers[0] == 0 or most == 1
    steps = np.diff(numbers)
    assert len(steps) == 0 or 1 <= steps.min() <= steps.max() <= steps.min() + 1


def test_the_frames_flag_thins_the_film(run):
    made(run, "--frames", 3)
    assert blues(pages(run / "film.webp")[0]) == [0, 2, 4]


# ---- what a frame shows


def test_grids_of_all_resolutions_have_the_same_layout_even_those_from_before_they_had_gaps(run):
    """Each image is in one place from first to last: the gaps of the frames are the same pixels."""
    frames = Frames(grids_of(run), 192)
    black = [(np.asarray(frames.frame(grid))[:100].max(-1) == 0) for grid in frames.grids[1:]]  # the first is all black
    assert all(np.array_equal(one, black[0]) for one in black) and 0.03 < black[0].mean() < 0.2
    Image.new("RGB", (3 * 8, 2 * 8), (9, 9, 200)).save(run / "samples" / "0008-00000300.png")
    assert blues([np.asarray(frames.frame(frames.grids[2]))]) == [4]


def test_a_grid_of_another_shape_is_not_squashed(run):
    frames = Frames(grids_of(run), 192)
    save(run / "samples" / "0008-00000300.png", 8, 200, columns=2, rows=2)
    shown = np.asarray(frames.frame(frames.grids[2]))[: frames.room[1]].max(-1) > 0
    assert abs(shown.any(0).sum() - shown.any(1).sum()) <= 1


@pytest.mark.parametrize(
    ("res", "nimg", "said"), [(64, 250_000, "64 px  250.0 kimg"), (4, 96, "4 px  0.1 kimg"), (8, 0, "8 px  0.0 kimg")]
)
def test_the_caption_says_resolution_and_kimg(res, nimg, said):
    assert caption(GridFile(Path(), res, nimg)) == said


def strips(run: Path, width: int) -> list[np.ndarray]:
    frames = Frames(grids_of(run), width)
    return [np.asarray(frame)[frames.room[1] :].astype(int) for frame in frames]


@pytest.mark.parametrize("width", [192, 320])
def test_the_strip_shows_the_caption_and_a_bar_that_fills_with_the_images_shown(run, width):
    shown = strips(run, width)
    for strip, (_, nimg) in zip(shown, GRIDS, strict=True):
        filled = (strip[-1] == BLUE).all(-1)
        assert filled.sum() == round(width * nimg / 500) and filled[: filled.sum()].all()
        assert (strip[:, : width // 3] > 200).any()  # letters
    assert not any(np.array_equal(one[:-4], two[:-4]) for one, two in pairwise(shown))


def test_the_strip_shows_the_resolutions_reached_bright_and_those_to_come_dim(run):
    right = [strip[:-6, -60:] for strip in strips(run, 768)]  # 16 alone stands that far to the right
    assert [bool((strip[:, -25:] > 200).any()) for strip in right] == [False, False, False, False, True]
    assert all((strip > 60).any() for strip in right)


# ---- what is refused


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out", "a.gif"], "end in .webp or .mp4"),
        (["--out", "a"], "end in .webp or .mp4"),
        (["--out", ""], "--out is empty"),
        (["--fps", "0"], "--fps must be from 1 to 60"),
        (["--width", "100"], "--width must be from 192"),
        (["--frames", "0"], "--frames must be from 1"),
        (["--fsp", "3"], "did you mean --fps"),
    ],
)
def test_bad_flags_are_refused_and_write_nothing(run, tmp_path, monkeypatch, flags, said):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=said):
        film.main([str(run), *flags])
    assert sorted(tmp_path.rglob("*")) == before


def test_an_out_that_is_a_folder_is_refused(run, tmp_path):
    (tmp_path / "a.webp").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        made(run, "--out", tmp_path / "a.webp")


def test_what_is_no_run_or_has_no_grids_is_refused(tmp_path, run):
    for place in (tmp_path / "none", tmp_path, run / "config.json"):
        with pytest.raises(UserError, match="holds no run"):
            made(place)
    for grid in (run / "samples").iterdir():
        grid.unlink()
    with pytest.raises(UserError, match="no sample grids yet"):
        made(run)


@pytest.mark.parametrize("damage", [b"", b"no image", "cut", "flipped"])
def test_a_damaged_grid_is_named_and_an_older_film_is_left_as_it_was(run, damage):
    (run / "film.webp").write_bytes(b"older")
    path = run / "samples" / "0008-00000300.png"
    whole = path.read_bytes()
    flipped = whole[:60] + bytes([whole[60] ^ 255]) + whole[61:]
    path.write_bytes({"cut": whole[:-40], "flipped": flipped}.get(damage, damage))
    with pytest.raises(UserError, match=r"0008-00000300\.png cannot be read .*: delete it"):
        made(run)
    assert (run / "film.webp").read_bytes() == b"older" and not list(run.glob("*.tmp"))


def test_a_frame_too_high_for_any_film_is_refused(run):
    for path in (run / "samples").iterdir():
        save(path, 4, columns=1, rows=64)
    with pytest.raises(UserError, match="lower it"):
        made(run, "--width", 4096)


def test_without_pyav_an_mp4_is_refused_before_anything_is_read_and_a_webp_is_made(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="pip install av"):
        made(tmp_path / "none", "--out", tmp_path / "a.mp4")
    made(run)
    assert len(pages(run / "film.webp")[0]) == 5


def test_as_a_script_it_refuses_with_exit_2_and_one_line(tmp_path):
    assert "holds no run" in refused_here(tmp_path, script="tools/film.py")
