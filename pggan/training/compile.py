"""Compiled phases: a phase and its gradients as one graph of plain operations, fused by torch's compiler.

torch's tracer (make_fx) runs a phase once on tensors without content and writes down every operation, the first and
second derivatives included. torch's compiler (inductor) makes one function of them. A compiled phase computes the same
as the phase itself, but for the order of rounding.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from pggan.config.schema import TrainingConfig
from pggan.errors import UserError, first_line, out_of_memory
from pggan.training import ema
from pggan.training.phases import Phase, Player, StepInputs, StepScalars

Modules = Mapping[Player, nn.Module]
Found = tuple[list[Tensor | None], dict[str, Tensor]]
Tree = tuple[list, TreeSpec]  # as torch flattens nested containers
Compiler = Callable[[torch.fx.GraphModule, list[Tensor]], Callable[..., tuple[Tensor, ...]]]


def inductor(graph: torch.fx.GraphModule, like: list[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """torch's own compiler. like: tensors without content, of the shapes and types of the inputs."""
    import torch._inductor

    return torch._inductor.compile(graph, like)


def gradients(
    phase: Phase, settings: TrainingConfig, networks: Modules, inputs: StepInputs, scalars: StepScalars
) -> Found:
    """Returns the gradient of a phase's loss for each parameter of its players (None if unused), and the stats.

    The gradients are multiplied by `scalars.scale`.
    """
    loss, stats = phase.loss(settings, networks, inputs, scalars)
    weights = [weight for player in phase.players for weight in networks[player].parameters()]
    return [*torch.autograd.grad(loss * scalars.scale, weights, allow_unused=True)], stats


def graphs_for(setting: str, device: torch.device, say: Callable[[str], None] = print) -> "Graphs":
    """Returns the graphs that --compile asks for. `auto` compiles on CUDA only, and does without if that fails."""
    wanted = setting == "on" or (setting == "auto" and device.type == "cuda")
    return Graphs(inductor if wanted else None, must=setting == "on", say=say)


class Graphs:
    """`gradients` by compiled graphs, one for each phase and shape of inputs.

    compiler: None for no graphs. must: it is an error if a phase cannot be compiled; otherwise the user is told, and
    training goes on without graphs.
    """

    def __init__(self, compiler: Compiler | None = None, must: bool = True, say: Callable[[str], None] = print):
        self.compiler, self.must, self.say = compiler, must, say
        self.known: dict[tuple, Graph] = {}

    def clear(self) -> None:
        """Forgets all graphs: their networks have grown."""
        self.known.clear()

    def gradients(
        self, phase: Phase, settings: TrainingConfig, networks: Modules, inputs: StepInputs, scalars: StepScalars
    ) -> Found:
        """See the function of this name. Raises UserError if a graph must be compiled and cannot be."""
        if not self.compiler:
            return gradients(phase, settings, networks, inputs, scalars)
        weights = {name: ema.tensors(network) for name, network in networks.items()}
        leaves, build = tree_flatten([weights, vars(inputs), vars(scalars)])
        key = (phase.name, *(_kind(leaf) for leaf in leaves))
        if key not in self.known:
            try:
                self.known[key] = Graph(self.compiler, phase, settings, networks, (leaves, build))
            except Exception as error:  # a compiler raises anything
                if out_of_memory(error):
                    raise
                if self.must:
                    why = first_line(error)
                    raise UserError(f"the step cannot be compiled here ({why}): use --compile off") from error
                self.say(f"the step cannot be compiled here, and goes on without ({first_line(error)})")
                self.compiler = None
                return gradients(phase, settings, networks, inputs, scalars)
        return self.known[key]([leaf.detach() for leaf in leaves if isinstance(leaf, Tensor)])


def _kind(leaf: object) -> object:
    """All that a graph depends on: a plain value, or everything of a tensor but its content."""
    return (leaf.dtype, leaf.device, leaf.shape, leaf.stride()) if isinstance(leaf, Tensor) else leaf


class Graph:
    """One phase, traced and compiled for `tree`, the flat form of its networks, inputs and scalars."""

    def __init__(self, compiler: Compiler, phase: Phase, settings: TrainingConfig, networks: Modules, tree: Tree):
        self.used, self.names = [], []
        leaves, build = tree

        def flat(*values: Tensor) -> tuple[Tensor, ...]:
            following = iter(values)
            filled = [next(following) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            tensors, inputs, scalars = tree_unflatten(filled, build)
            named = [(player, name) for player in phase.players for name, _ in networks[player].named_parameters()]
            weights = [tensors[player][name].requires_grad_() for player, name in named]
            functions = {name: _with(network, tensors[name]) for name, network in networks.items()}
            scalars = StepScalars(**scalars)
            loss, stats = phase.loss(settings, functions, StepInputs(**inputs), scalars)
            found = torch.autograd.grad(loss * scalars.scale, weights, allow_unused=True)
            self.used, self.names = [gradient is not None for gradient in found], [*stats]
            return *(gradient for gradient in found if gradient is not None), *stats.values()

        graph = make_fx(flat, tracing_mode="fake")(*(leaf.detach() for leaf in leaves if isinstance(leaf, Tensor)))
        like = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
        self.function = compiler(graph, like)

    @torch.no_grad()
    def __call__(self, values: list[Tensor]) -> Found:
        made = iter(self.function(*values))
        found = [next(made) if used else None for used in self.used]
        return found, dict(zip(self.names, made, strict=True))


def _with(network: nn.Module, weights: dict[str, Tensor]) -> Callable[..., Tensor]:
    return lambda *inputs, **more: functional_call(network, weights, inputs, more)
