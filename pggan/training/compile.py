"""A turn and its gradients as one graph of plain operations, compiled: fused, and without a Python call for each.

torch's tracer runs a turn once on tensors without content and writes down every operation, those of the first and the
second derivatives among them; torch's compiler (inductor) makes one function of it. What a compiled step computes is
what the other one computes, in another order of rounding.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from pggan.config.schema import TrainingConfig
from pggan.errors import UserError, out_of_memory
from pggan.models.networks import Growing
from pggan.training import ema, phases
from pggan.training.phases import Inputs, Numbers, Turn

Found = tuple[list[Tensor | None], dict[str, Tensor]]
Compiler = Callable[[torch.fx.GraphModule, list[Tensor]], Callable[..., tuple[Tensor, ...]]]


def inductor(graph: torch.fx.GraphModule, like: list[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """torch's own compiler. like: tensors, without content, of the shapes and kinds that are to come."""
    import torch._inductor

    return torch._inductor.compile(graph, like)


def gradients(turn: Turn, settings: TrainingConfig, G: Growing, D: Growing, given: Inputs, now: Numbers) -> Found:
    """The gradient of a turn's loss at each parameter of the player whose turn it is, None where it plays no part, and
    the turn's stats. The gradients are `now.scale` times as large."""
    loss, stats = turn(settings, G, D, given, now)
    weights = [*(G if turn is phases.generator else D).parameters()]
    return [*torch.autograd.grad(loss * now.scale, weights, allow_unused=True)], stats


class Graphs:
    """`gradients` by compiled graphs, one for each turn and shape of what goes in.

    compiler: None for no graphs: the reference. must: what cannot be compiled is an error; else it is said, and the
    steps are taken without.
    """

    def __init__(self, compiler: Compiler | None = None, must: bool = True, say: Callable[[str], None] = print):
        self.compiler, self.must, self.say = compiler, must, say
        self.known: dict[tuple, Graph] = {}

    def gradients(
        self, turn: Turn, settings: TrainingConfig, G: Growing, D: Growing, given: Inputs, now: Numbers
    ) -> Found:
        """See the function of this name. Raises UserError where a graph must be, and cannot."""
        graph, values = self.graph(turn, settings, G, D, given, now) if self.compiler else (None, [])
        return graph(values) if graph else gradients(turn, settings, G, D, given, now)

    def graph(
        self, turn: Turn, settings: TrainingConfig, G: Growing, D: Growing, given: Inputs, now: Numbers
    ) -> tuple["Graph | None", list[Tensor]]:
        """(the graph for what goes in, compiled now if it is the first of its kind; the tensors it takes)."""
        leaves, build = tree_flatten([ema.tensors(G), ema.tensors(D), vars(given), vars(now)])
        key = (turn.__name__, *(_kind(leaf) for leaf in leaves))
        if key not in self.known:
            try:
                self.known[key] = Graph(turn, settings, G, D, leaves, build, self.compiler)
            except Exception as error:  # of the compiler's making, of whatever kind
                if out_of_memory(error):
                    raise
                what = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
                if self.must:
                    raise UserError(f"the step cannot be compiled here ({what}): use --compile off") from error
                self.say(f"the step cannot be compiled here, and is taken as it is ({what})")
                self.compiler = None
                return None, []
        return self.known[key], [leaf.detach() for leaf in leaves if isinstance(leaf, Tensor)]


def _kind(leaf: object) -> object:
    """What a graph is made for: of a tensor all but its content."""
    return (leaf.dtype, leaf.device, leaf.shape, leaf.stride()) if isinstance(leaf, Tensor) else leaf


class Graph:
    """One turn, traced and compiled for `leaves`, which `build` makes what the turn takes."""

    def __init__(
        self,
        turn: Turn,
        settings: TrainingConfig,
        G: Growing,
        D: Growing,
        leaves: list,
        build: TreeSpec,
        compiler: Compiler,
    ):
        self.used, self.names = [], []

        def flat(*values: Tensor) -> tuple[Tensor, ...]:
            following = iter(values)
            filled = [next(following) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            of_g, of_d, given, now = tree_unflatten(filled, build)
            mine, player = (of_g, G) if turn is phases.generator else (of_d, D)
            weights = [mine[name].requires_grad_() for name, _ in player.named_parameters()]
            now = Numbers(**now)
            loss, stats = turn(settings, _with(G, of_g), _with(D, of_d), Inputs(**given), now)
            found = torch.autograd.grad(loss * now.scale, weights, allow_unused=True)
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
    return lambda *given: functional_call(network, weights, given)
