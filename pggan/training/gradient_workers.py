"""Worker processes that compute a part of each gradient, so that a run uses all cores of a CPU.

The operations of small networks on small images are too short for two threads: more cores need more processes. The
process of the run, rank 0, sends the inputs of each phase. All ranks share the memory of the weights. Each computes the
gradients of its own micro-batches, and rank 0 adds them up in the order of the ranks. Everything else happens at rank 0
alone: decisions, random numbers, optimizer steps, measuring and saving.
"""

import pickle
import shutil
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.multiprocessing
from torch import Tensor

from pggan.config.schema import Config
from pggan.errors import UserError, first_line, out_of_memory
from pggan.system import ignored_by_children
from pggan.training.compile import graphs_for
from pggan.training.loading import load_weights
from pggan.training.micro_batches import part_gradients, training_only
from pggan.training.phases import Phase, Player, StepInputs, StepScalars
from pggan.training.state import TrainState, allow_tf32, new_state

SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps it; in a container it may be small
Stats = list[dict[str, Tensor]]


@dataclass
class Job:
    """Gradients to compute: those of a phase, in `count` micro-batches, of which a rank takes `parts`.

    threads: of each rank.
    """

    config: Config
    phase: Phase
    inputs: StepInputs
    scalars: StepScalars
    count: int
    parts: slice
    recompute: bool
    threads: int


@dataclass
class Copy:
    """The networks of rank 0 for a worker. weights: the parameters, in shared memory. gradients: room for as many
    values as all parameters have, in shared memory, too. buffers: all other tensors that a checkpoint holds, as pickled
    {player: {name: tensor}}: what is pickled here has a memory of its own.
    """

    config: Config
    res: int
    precision: str
    weights: dict[Player, dict[str, Tensor]]
    buffers: bytes
    gradients: Tensor


class GradientWorkers:
    """count - 1 worker processes, and the process of the run. Call `start` first, and `close` at the end.

    threads: of all processes together.
    """

    def __init__(self, count: int, threads: int):
        self.count, self.threads = count, threads
        self.known: list[object] = []  # the networks that the workers have, and their resolution
        self.found: list[Tensor] = []  # the gradients of each worker
        self.pipes, self.processes = [], []

    def start(self) -> None:
        """Starts the workers, and does not wait until they are ready. Raises UserError if they cannot be started."""
        context = torch.multiprocessing.get_context("spawn")
        for rank in range(1, self.count):
            mine, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs,), name=f"gradients {rank}", daemon=True)
            try:
                with ignored_by_children():  # signals are for rank 0, which saves first
                    process.start()
            except OSError as error:
                why = error.strerror or error
                raise UserError(f"a worker process cannot be started ({why}): give --processes 1") from error
            theirs.close()  # so that its end is noticed here
            self.pipes.append(mine)
            self.processes.append(process)

    def gradients(self, state: TrainState, phase: Phase, inputs: StepInputs, scalars: StepScalars) -> Stats:
        """Like `part_gradients` of all micro-batches, computed by all ranks.

        Raises UserError if a worker has ended, RuntimeError if the memory of any rank runs out, and any error of
        rank 0.
        """
        micro_batches, group = state.stage.micro_batches, state.config.network.stddev_group
        sharing = ranks_for(len(inputs.mix), group, micro_batches, self.count)
        if sharing == 1:
            return part_gradients(state, phase, inputs, scalars, micro_batches)
        if (networks := [*map(weakref.ref, state.players.values()), state.res]) != self.known:
            self._share(state)
            self.known = networks
        known, self.known = self.known, []  # after an error, the workers get all networks anew
        count, threads = micro_batches * sharing, max(1, self.threads // sharing)
        job = Job(state.config, phase, inputs, scalars, count, slice(0), state.stage.recompute, threads)
        for rank in range(1, sharing):
            job.parts = slice(rank, None, sharing)
            self._send(rank, pickle.dumps(job))
        try:
            with fewer_threads(threads):
                stats = part_gradients(state, phase, inputs, scalars, count, slice(0, None, sharing))
        finally:  # no worker writes into shared memory when this is left
            answers = [self._receive(rank) for rank in range(1, sharing)]
        if failure := next((said for _, said in answers if said), ""):
            raise RuntimeError(failure)
        self._add(state, phase, sharing)
        self.known = known
        return [*stats, *(each for some, _ in answers for each in some)]

    def _share(self, state: TrainState) -> None:
        """Moves the weights into shared memory, and tells the workers where they are."""
        parameters = {player: dict(network.named_parameters()) for player, network in state.players.items()}
        every = [weight for named in parameters.values() for weight in named.values()]
        numbers, self.found = sum(weight.numel() for weight in every), []
        new = sum(weight.numel() for weight in every if not weight.is_shared())
        size = 4 * (new + numbers * (self.count - 1))  # bytes
        if SHARED_MEMORY.exists() and shutil.disk_usage(SHARED_MEMORY).free < size:
            small = f"{SHARED_MEMORY} has less than {size / 2**20:.0f} MiB left, which --processes {self.count} needs"
            raise UserError(f"{small}: make it larger (docker run --shm-size), or give --processes 1")
        self.found = [torch.zeros(numbers).share_memory_() for _ in self.processes]
        weights = {
            player: {name: weight.detach().share_memory_() for name, weight in named.items()}
            for player, named in parameters.items()
        }
        buffers = {
            player: {name: value for name, value in network.state_dict().items() if name not in weights[player]}
            for player, network in state.players.items()
        }
        for rank, gradients in enumerate(self.found, start=1):
            self._send(rank, Copy(state.config, state.res, state.precision, weights, pickle.dumps(buffers), gradients))
            self._receive(rank)  # until then, the copy holds a file descriptor for each weight

    def _add(self, state: TrainState, phase: Phase, sharing: int) -> None:
        """Adds the gradients of the workers to those of rank 0."""
        parameters = [weight for player in phase.players for weight in state.players[player].parameters()]
        for flat in self.found[: sharing - 1]:
            for weight, values in zip(parameters, _split(flat, parameters), strict=True):
                if weight.grad is not None:
                    weight.grad.add_(values)

    def _send(self, rank: int, message: object) -> None:
        with self._explaining(rank):
            self.pipes[rank - 1].send(message)

    def _receive(self, rank: int) -> tuple[Stats, str]:
        with self._explaining(rank):
            return pickle.loads(self.pipes[rank - 1].recv())

    @contextmanager
    def _explaining(self, rank: int) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            process = self.processes[rank - 1]
            process.join(5)
            if process.exitcode is None:
                raise
            advice = "give the same command again, with --processes 1 if this comes back"
            raise UserError(f"a worker process has ended (exit code {process.exitcode}): {advice}") from error

    def close(self) -> None:
        """Ends the workers."""
        for process in self.processes:
            process.kill()
        for process, pipe in zip(self.processes, self.pipes, strict=True):
            process.join()
            process.close()
            pipe.close()


@contextmanager
def gradient_workers(processes: int, threads: int) -> Iterator[GradientWorkers | None]:
    """Gives the workers of a run on so many processes, None for a single one, and ends them afterwards.

    threads: of all processes together.
    """
    if processes == 1:
        yield None
        return
    workers = GradientWorkers(processes, threads)
    try:
        workers.start()
        yield workers
    finally:
        workers.close()


def ranks_for(batch: int, group: int, micro_batches: int, count: int) -> int:
    """Of `count` ranks, how many can share a batch: each gets whole groups of minibatch stddev, and equally many."""
    groups = batch // (min(group, batch) or 1)
    return max(ranks for ranks in range(1, count + 1) if groups % (micro_batches * ranks) == 0)


@contextmanager
def fewer_threads(threads: int) -> Iterator[None]:
    """Sets the number of torch's threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def serve(pipe: Connection) -> None:
    """A worker: computes its part of each job until rank 0 ends."""
    copy = state = None
    with suppress(EOFError, OSError):  # of the pipe: rank 0 has ended
        while True:
            message, answer = pipe.recv(), ([], "")
            if isinstance(message, Copy):
                copy, state = message, None
            else:
                try:
                    state = state or _networks(copy)
                    answer = _computed(state, pickle.loads(message), copy.gradients), ""
                except Exception as error:  # rank 0 decides what to do
                    full = out_of_memory(error)
                    said = f"out of memory in a worker process ({first_line(error)})"
                    answer = [], said if full else traceback.format_exc()
            pipe.send(pickle.dumps(answer))


def _computed(state: TrainState, job: Job, gradients: Tensor) -> Stats:
    """Puts the gradients of a job into the shared memory; returns the stats."""
    torch.set_num_threads(job.threads)
    state.config, state.stage.recompute = job.config, job.recompute
    with training_only(state, job.phase):
        stats = part_gradients(state, job.phase, job.inputs, job.scalars, job.count, job.parts)
    parameters = [weight for player in job.phase.players for weight in state.players[player].parameters()]
    for weight, room in zip(parameters, _split(gradients, parameters), strict=True):
        if weight.grad is not None:
            room.copy_(weight.grad)
    return stats


def _split(flat: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    """Views of the first values of `flat`, in the shapes of the parameters."""
    sizes = [weight.numel() for weight in parameters]
    parts = flat[: sum(sizes)].split(sizes)
    return [part.view_as(weight) for part, weight in zip(parts, parameters, strict=True)]


def _networks(copy: Copy) -> TrainState:
    """The networks of rank 0, in a state that holds nothing else of the run."""
    allow_tf32(copy.precision)
    state, buffers = new_state(copy.config, torch.device("cpu"), precision=copy.precision), pickle.loads(copy.buffers)
    for player, network in state.players.items():
        load_weights(network, copy.weights[player] | buffers[player], copy.res)
        for name, weight in network.named_parameters():
            weight.data = copy.weights[player][name]
    state.graphs = graphs_for(copy.config.training.compile, state.device, say=lambda _: None)
    return state
