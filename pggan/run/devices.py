"""The device that training runs on, its precision and its memory."""

import torch

from pggan import system
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
    # On a CPU without instructions for bf16 (AVX-512, AMX, ARM), it is many times slower than fp32.
    known = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}  # not in torch before 2.12
    return "bf16" if any(have for name, have in known.items() if name.endswith("bf16")) else "fp32"


def peak_memory(device: torch.device) -> int:
    """The most memory used so far, in bytes: of the GPU if `device` is one, else of this process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else system.peak_memory()
