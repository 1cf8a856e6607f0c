"""Where training runs, and in which precision."""

import torch

from pggan.errors import UserError


def pick_device(name: str) -> torch.device:
    """`auto`: cuda, else mps, else cpu. Raises UserError when the one asked for is not here."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, here in have.items() if here)
    if not have[name]:
        raise UserError(f"--device {name} is not available here: use --device auto")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> str:
    """`auto`: bf16 on a GPU or CPU that computes with it, fp16 on another GPU, fp32 elsewhere."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Whether the processor has instructions for it (AVX-512, AMX, ARM): without, it is many times slower than fp32."""
    known = getattr(torch.cpu, "get_capabilities", dict)()  # not in torch before 2.12
    return any(have for name, have in known.items() if name.endswith("bf16"))
