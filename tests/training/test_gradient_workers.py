"""Several processes train as one does; a worker that ends, ends the run in one line; no worker outlives its run."""

import os
import signal
import time
from pathlib import Path

import failing_phases
import featured
import psutil
import pytest
import torch
import torch.multiprocessing
from hypothesis import given
from hypothesis import strategies as st
from runs import TINY, assert_same, content, finish, records, start
from short import make_settings

from pggan.config.presets import preset
from pggan.errors import UserError
from pggan.run.setup import processes_for
from pggan.schedule.stages import Stage
from pggan.system import STOP_SIGNALS
from pggan.training import gradient_workers as workers
from pggan.training.gradient_workers import gradient_workers, ranks_for
from pggan.training.loading import state_from
from pggan.training.phases import Phase
from pggan.training.state import TrainState, new_state
from pggan.training.step import optimize, step, step_inputs, step_phases, step_scalars

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    """A process of several trains with its share of the threads, and rounding depends on their number."""
    with workers.fewer_threads(1):
        yield


def fresh(*flags: object, **kind: str) -> TrainState:
    return new_state(make_settings(Path("cache"), Path("run"), "--batch", 24, "--max-res", 8, *flags, **kind), CPU)


def take(state: TrainState, steps: int) -> None:
    for _ in range(steps):
        reals = torch.rand(state.batch(), 3, state.res, state.res, generator=torch.Generator().manual_seed(state.nimg))
        step(state, 2 * reals - 1)
        state.nimg += state.batch()


def whole_run(state: TrainState, count: int) -> TrainState:
    """A first stage, a fade, then the same state from its checkpoint, as after a rollback."""
    with gradient_workers(count, threads=1) as state.workers:
        if count == 1:
            state.stage.micro_batches = 2
        take(state, 3)
        state.grow(Stage(8, state.nimg, fade=200, stable=10**6))
        if count == 1:
            state.stage.micro_batches = 2
        take(state, 2)
        again = state_from(state.to_dict(), CPU, state.config)
        again.workers = state.workers
        take(again, 2)
    again.stage.micro_batches = 1
    return again


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ({"arch": "paper", "loss": "wgan-gp"}, ["--penalty-interval", 2]),
        ({"arch": "style", "loss": "relativistic"}, ["--augment", "color:0.3", "--ada"]),
        ({"arch": "dcgan", "loss": "bce"}, []),
    ],
    ids=["penalty", "ada", "batch norm"],
)
def test_two_processes_are_one_with_two_micro_batches_bit_for_bit(kind, flags):
    one, two = (whole_run(fresh(*flags, **kind), count) for count in (1, 2))
    if kind["arch"] != "dcgan":  # the statistics of batch norm, which only samples use, are those of rank 0
        assert_same(one.to_dict(), two.to_dict())
    for name in ("G", "D"):
        assert_same(dict(one.players[name].named_parameters()), dict(two.players[name].named_parameters()))


def test_two_processes_share_the_heads_on_features():
    """Not bit for bit: one process improves the vectors of spectral norm once for each micro-batch."""
    found = {}
    for count in (1, 2):
        state = featured.fresh("--d-interval", 2)
        state.stage.micro_batches = 2 // count
        with gradient_workers(count, threads=1) as state.workers:
            step(state, featured.reals(state))
        found[count] = torch.cat([w.grad.flatten() for w in state.heads.parameters()])
    assert (found[1] - found[2]).norm() < 0.01 * found[1].norm()


def test_heads_continue_from_a_checkpoint_bit_for_bit():
    """The vectors of spectral norm are the same in all processes."""
    ends = []
    for stops in (False, True):
        state = featured.fresh("--d-interval", 2)
        for _ in range(2):
            if stops:
                state = state_from(state.to_dict(), CPU, state.config)
            with gradient_workers(2, threads=1) as workers_now:
                state.workers = workers_now
                step(state, featured.reals(state))
                state.nimg += state.batch()
                if not stops:
                    step(state, featured.reals(state))
                    state.nimg += state.batch()
                    break
        ends.append(state)
    assert_same(ends[0].to_dict(), ends[1].to_dict())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_three_processes_are_one_with_three_micro_batches_bit_for_bit(precision):
    found = {}
    for count in (1, 3):
        config = make_settings(Path("cache"), Path("run"), "--batch", 24, "--max-res", 8)
        state = new_state(config, CPU, precision=precision)
        state.stage.micro_batches = 3 // count
        with gradient_workers(count, threads=1) as state.workers:
            take(state, 1)
        found[count] = {name: network.state_dict() for name, network in state.networks.items()}
    assert_same(found[1], found[3])


def test_micro_batches_are_shared_up_to_the_order_of_their_sum():
    found = {}
    for count in (1, 2):
        state = fresh("--batch", 16)
        state.stage.micro_batches = 4 // count
        with gradient_workers(count, threads=1) as state.workers:
            take(state, 1)
        found[count] = torch.cat([w.grad.flatten() for w in state.D.parameters() if w.grad is not None])
    assert (found[1] - found[2]).norm() < 1e-5 * found[1].norm()


def test_ranks_that_share_a_batch_have_all_threads(monkeypatch):
    """Two of three ranks can share a batch of 8: each has two of four threads, and a whole batch all four."""
    used, real = [], workers.part_gradients
    monkeypatch.setattr(workers, "part_gradients", lambda *all: used.append(torch.get_num_threads()) or real(*all))
    for batch in (8, 4):
        state = fresh("--batch", batch)
        with workers.fewer_threads(4), gradient_workers(3, threads=4) as state.workers:
            take(state, 1)
    assert set(used[: len(used) // 2]) == {2} and set(used[len(used) // 2 :]) == {4}


def test_with_batch_norm_there_is_one_process_unless_more_are_asked_for():
    config = preset("cpu", arch="dcgan")
    assert config.training.processes == 1 and preset("cpu").training.processes == 0


@given(st.integers(1, 64), st.integers(0, 8), st.integers(1, 4), st.integers(1, 9))
def test_ranks_share_whole_groups_equally(batch, group, micro_batches, count):
    groups = batch // (min(group, batch) or 1)
    if groups % micro_batches:
        return
    fits = [n for n in range(1, count + 1) if (groups / micro_batches / n).is_integer()]
    assert ranks_for(batch, group, micro_batches, count) == fits[-1]


def test_a_rank_without_a_part_adds_nothing():
    one, two = fresh("--batch", 4), fresh("--batch", 4)
    take(one, 2)
    with gradient_workers(2, threads=1) as two.workers:
        take(two, 2)
    assert_same(one.to_dict(), two.to_dict())


@pytest.mark.parametrize("rank", ["MainProcess", "1", "all"])
def test_if_any_rank_runs_out_of_memory_all_go_on_with_smaller_micro_batches(rank, monkeypatch):
    monkeypatch.setenv("SCARCE", rank)
    phase, said, found = Phase("D", ("D",), failing_phases.scarce), [], {}
    for count in (1, 2):
        state = fresh("--batch", 16)
        state.stage.micro_batches = 4 // count**2
        inputs = step_inputs(state, torch.zeros(16, 3, 4, 4))
        with gradient_workers(count, threads=1) as state.workers:
            stats = optimize(state, phase, inputs, step_scalars(state), said.append)
            optimize(state, phase, inputs, step_scalars(state), said.append)
        found[count] = torch.cat([w.flatten() for w in state.D.parameters()])
    assert state.stage.micro_batches == 2 and len(said) == 1 and "out of memory" in said[0]
    assert stats["d_loss"].isfinite() and (found[1] - found[2]).abs().max() < 1e-5


def test_a_worker_that_ends_is_an_error_of_one_line():
    state = fresh()
    with gradient_workers(2, threads=1) as state.workers:
        take(state, 1)
        state.workers.processes[0].kill()
        with pytest.raises(UserError, match=r"a worker process has ended \(exit code -9\): give the same command"):
            take(state, 1)
    assert state.finite() and not workers_of(os.getpid())


def test_the_error_of_a_worker_is_raised_with_its_traceback():
    state = fresh()
    inputs = step_inputs(state, torch.zeros(24, 3, 4, 4))
    with (
        gradient_workers(2, threads=1) as state.workers,
        pytest.raises(RuntimeError, match=r'(?s)failing_phases.py", line .* broken in a worker'),
    ):
        optimize(state, Phase("D", ("D",), failing_phases.broken), inputs, step_scalars(state), print)


def test_too_little_shared_memory_is_an_error_of_one_line(monkeypatch, tmp_path):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(workers, "SHARED_MEMORY", tmp_path)
    state = fresh()
    with (
        gradient_workers(2, threads=1) as state.workers,
        pytest.raises(UserError, match=r"has less than \d+ MiB left, which --processes 2 needs: make it larger"),
    ):
        take(state, 1)


def test_the_error_of_rank_0_stays_what_it_is():
    state = fresh()
    phase = step_phases(state)[0]
    with gradient_workers(2, threads=1) as state.workers:
        take(state, 1)
        with pytest.raises(RuntimeError, match="to have 3 channels, but got 5"):
            state.workers.gradients(state, phase, step_inputs(state, torch.zeros(24, 5, 4, 4)), step_scalars(state))


def test_processes_are_as_many_as_there_are_groups_to_share(monkeypatch):
    config = fresh("--batch", "8,8:16").config
    monkeypatch.setattr("pggan.run.setup.usable_cores", lambda: 3)
    auto = fresh("--batch", "8,8:16", "--processes", 0).config
    assert processes_for(auto, CPU) == 2 and processes_for(auto, CPU, known=4) == 4
    assert processes_for(config, CPU) == 1 and processes_for(config, CPU, known=2) == 1
    assert processes_for(auto, torch.device("cuda")) == 1
    five = fresh("--batch", "8,8:16", "--processes", 5).config
    with pytest.raises(
        UserError,
        match="--processes 5: no batch has whole groups of 4 images for each of so many processes: give 4, or",
    ):
        processes_for(five, CPU)
    with pytest.raises(UserError, match="--processes 5 is for the CPU"):
        processes_for(five, torch.device("cuda"))


def workers_of(pid: int) -> list[psutil.Process]:
    """Worker processes of the process `pid`."""
    return [child for child in psutil.Process(pid).children() if any("spawn_main" in word for word in child.cmdline())]


def waited(condition, seconds: float = 60.0) -> object:
    """What `condition` returns, once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


@pytest.fixture
def handlers_put_back():
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_workers_ignore_signals_from_the_first_moment(handlers_put_back):
    """SIGINT of Ctrl-C, and SIGTERM, come to rank 0 alone, which saves."""
    state = fresh()
    for number in STOP_SIGNALS:  # where a shell starts the tests in the background, SIGINT is ignored
        signal.signal(number, signal.default_int_handler)
    with gradient_workers(2, threads=1) as state.workers:
        for number in STOP_SIGNALS:
            os.kill(state.workers.processes[0].pid, number)
        take(state, 1)
    assert all(signal.getsignal(number) is signal.default_int_handler for number in STOP_SIGNALS)


@pytest.mark.slow
def test_a_run_on_two_processes_survives_kills_and_ends_as_without_them(tmp_path):
    """Killed are once rank 0, once its worker. No worker is left."""
    flags = [*TINY, "--processes", 2, "--cache", tmp_path / "cache"]
    code, _, err = finish(*flags, "--out", tmp_path / "whole")
    assert code == 0, err
    for victim in ("rank 0", "worker"):
        process = start(*flags, "--out", tmp_path / "killed")
        (worker,) = waited(lambda process=process: workers_of(process.pid))
        saved = tmp_path / "killed" / "checkpoints" / "latest.pt"
        waited(lambda saved=saved: saved.exists() and len(list(saved.parent.parent.glob("metrics.jsonl"))))
        (process if victim == "rank 0" else worker).kill()
        _, err = process.communicate(timeout=60)
        if victim == "worker":
            assert process.returncode == 2 and "a worker process has ended" in err and "Traceback" not in err
        waited(lambda worker=worker: not worker.is_running())
    code, _, err = finish(*flags, "--out", tmp_path / "killed")
    assert code == 0, err
    whole, killed = (content(tmp_path / name / "checkpoints" / "latest.pt") for name in ("whole", "killed"))
    assert_same(whole, killed)
    assert records(tmp_path / "whole") == records(tmp_path / "killed")
    assert whole["processes"] == 2
