"""FLOPs of whatever runs, by torch's own table of them."""

from collections import Counter

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Flops(TorchDispatchMode):
    """Counts, within it, the FLOPs of convolutions and matrix products: two for each product, gradients included.

    `convolutions` and `products` so far. The formulas are those of torch's FlopCounterMode, which itself cannot watch a
    gradient penalty: its record of modules refuses a gradient of what a module was given. Nothing else is counted, and
    nothing inside compiled code is seen.
    """

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        kind = function._overloadpacket
        if kind in flop_registry:
            self.counts["conv" in str(kind)] += flop_registry[kind](*args, **(kwargs or {}), out_val=made)
        return made

    @property
    def convolutions(self) -> int:
        return self.counts[True]

    @property
    def products(self) -> int:
        return self.counts[False]

    @property
    def total(self) -> int:
        return self.counts.total()
