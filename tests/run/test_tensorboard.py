"""What TensorBoard reads back is what the run logged, over kills and rollbacks too."""

import io
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pggan.errors import UserError
from pggan.run import tensorboard
from pggan.run.tensorboard import TensorBoardLogger, check_tensorboard

needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard, an extra, is missing")


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """{tag: [(step, value)]} as TensorBoard shows them, every one."""
    return {tag: [(event.step, event.value) for event in reader(folder).Scalars(tag)] for tag in tags(folder)}


def reader(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "images": 0})
    made.Reload()
    return made


def tags(folder: Path) -> list[str]:
    return reader(folder).Tags()["scalars"]


def write(board: TensorBoardLogger, *nimgs: int, plus: float = 0) -> None:
    for nimg in nimgs:
        board.log(nimg, {"loss/d": nimg / 8 + plus})


@pytest.fixture(autouse=True)
def fresh_names(monkeypatch):
    """Files are read by name: second, process, number. Processes that go on are seconds apart, these tests are not."""
    if find_spec("tensorboard"):
        from tensorboard.summary.writer import event_file_writer

        monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


@pytest.fixture
def grid(tmp_path) -> Path:
    Image.new("RGB", (6, 4)).save(tmp_path / "grid.png")
    return tmp_path / "grid.png"


def test_without_the_extra_the_module_loads_and_one_plain_line_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard") as caught:
        runpy.run_path(tensorboard.__file__)["check_tensorboard"]()
    assert "\n" not in str(caught.value)


@needs_tensorboard
def test_every_value_is_read_back_under_its_name_at_the_images_shown(tmp_path):
    check_tensorboard()
    board = TensorBoardLogger(tmp_path)
    for nimg in range(0, 5000, 500):
        board.log(nimg, {"loss/d": nimg / 7, "growth/res": 32 if nimg < 2000 else 64})
    board.close()
    found = shown(tmp_path)
    assert list(found) == ["loss/d", "growth/res"]
    assert found["loss/d"] == [(nimg, pytest.approx(nimg / 7, rel=1e-6)) for nimg in range(0, 5000, 500)]
    assert found["growth/res"] == [(nimg, 32 if nimg < 2000 else 64) for nimg in range(0, 5000, 500)]


@needs_tensorboard
def test_measurements_beside_a_record_hide_nothing_and_are_hidden_with_it(tmp_path):
    board = TensorBoardLogger(tmp_path)
    for plus in (0.0, 0.5):  # the second time after a rollback to before 200
        for nimg in (100, 200) if plus == 0 else (200, 300):
            board.log(nimg, {"loss/d": nimg / 8 + plus})
            board.log(nimg, {"quality/rfd": nimg / 4 + plus})
    board.close()
    found = shown(tmp_path)
    assert found["loss/d"] == [(100, 12.5), (200, 25.5), (300, 38.0)]
    assert found["quality/rfd"] == [(100, 25.0), (200, 50.5), (300, 75.5)]


@needs_tensorboard
def test_billions_of_images_are_steps_of_their_own(tmp_path):
    board = TensorBoardLogger(tmp_path)
    write(board, 10**10, 10**10 + 1)
    board.close()
    assert [step for step, _ in shown(tmp_path)["loss/d"]] == [10**10, 10**10 + 1]


@needs_tensorboard
def test_grids_are_read_back_as_images(tmp_path):
    image = np.zeros((60, 90, 3), np.uint8)
    image[:30, :45], image[30:, 45:] = (200, 40, 40), (40, 40, 200)
    Image.fromarray(image).save(tmp_path / "grid.png")
    board = TensorBoardLogger(tmp_path)
    for nimg in (500, 1000):
        board.log(nimg, {"loss/d": 1.0})
        board.log_grid(nimg, tmp_path / "grid.png")
    board.close()
    grids = reader(tmp_path).Images("samples/grid")
    assert [(grid.step, grid.width, grid.height) for grid in grids] == [(500, 90, 60), (1000, 90, 60)]
    with Image.open(io.BytesIO(grids[0].encoded_image_string)) as read:
        difference = np.abs(np.asarray(read).astype(int) - image)
    assert difference.mean() < 5
    assert len(shown(tmp_path)["loss/d"]) == 2


# ---- kills and rollbacks


@needs_tensorboard
def test_everything_logged_is_in_the_file_at_once_so_a_kill_loses_nothing(tmp_path):
    board = TensorBoardLogger(tmp_path)
    write(board, *range(100))
    assert shown(tmp_path)["loss/d"] == [(nimg, nimg / 8) for nimg in range(100)]
    board.close()


@needs_tensorboard
def test_going_on_after_a_kill_hides_what_is_written_again(tmp_path, grid):
    board = TensorBoardLogger(tmp_path)
    write(board, 100, 200, 300, 400)
    board.log_grid(400, grid)
    board.close()
    board = TensorBoardLogger(tmp_path, nimg=200)  # the checkpoint is at 200
    write(board, 300, 400, plus=0.5)
    board.log_grid(400, grid)
    write(board, 500, plus=0.5)
    board.close()
    assert shown(tmp_path)["loss/d"] == [(100, 12.5), (200, 25.0), (300, 38.0), (400, 50.5), (500, 63.0)]
    assert [image.step for image in reader(tmp_path).Images("samples/grid")] == [400]


@needs_tensorboard
def test_going_on_where_nothing_was_lost_hides_nothing(tmp_path, grid):
    board = TensorBoardLogger(tmp_path)
    write(board, 100, 200)
    board.close()
    board = TensorBoardLogger(tmp_path, nimg=200)
    board.log_grid(200, grid)
    write(board, 300)
    board.close()
    assert [step for step, _ in shown(tmp_path)["loss/d"]] == [100, 200, 300]
    assert len(reader(tmp_path).Images("samples/grid")) == 1


@needs_tensorboard
@pytest.mark.parametrize("back", [250, 300, 500])  # 500: rolled back to before it, and there again
def test_a_rollback_hides_what_came_after_it(tmp_path, back):
    board = TensorBoardLogger(tmp_path)
    write(board, 100, 200, 300, 400, 500)
    write(board, back, 600, plus=0.5)
    board.close()
    kept = [(nimg, nimg / 8) for nimg in (100, 200, 300, 400, 500) if nimg < back]
    assert shown(tmp_path)["loss/d"] == [*kept, (back, back / 8 + 0.5), (600, 75.5)]


@needs_tensorboard
def test_a_grid_before_the_first_record_after_a_rollback_hides_what_came_after_it_too(tmp_path, grid):
    board = TensorBoardLogger(tmp_path)
    write(board, 100, 200, 300)
    board.log_grid(300, grid)
    board.log_grid(150, grid)
    write(board, 200, plus=0.5)
    board.close()
    assert shown(tmp_path)["loss/d"] == [(100, 12.5), (200, 25.5)]
    assert [image.step for image in reader(tmp_path).Images("samples/grid")] == [150]
