"""FLOPs of any code that runs, from torch's own formulas."""

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Flops(TorchDispatchMode):
    """Counts FLOPs of convolutions and matrix products while it is entered, gradients included; a multiply-add is two.

    torch's own FlopCounterMode has the same formulas, but fails on a gradient penalty: it follows modules, and refuses
    a gradient at the input of one. Nothing inside compiled code is counted.
    """

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        count = flop_registry.get(function.overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=made) if count else 0
        return made
