"""Facts about the machine that the figures were measured on."""

import os
import platform
import time
from pathlib import Path

import environment  # noqa: F401
import torch
from worker import finish

from pggan.run.run_dir import commit

UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # instruction sets that decide the speed of a step


def facts(threads: int = 0) -> dict:
    """Processor, instruction sets, cores, memory, GPU, versions, commit, and the current load."""
    info = _cpuinfo()
    return {
        "processor": info.get("model name") or platform.processor() or platform.machine(),
        "units": [unit for unit in UNITS if unit in info.get("flags", "").split()],
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads or torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit() or "unknown",
        "load": load(),
    }


def bf16_over_fp32(device: str, threads: int = 0) -> float:
    """Time of a convolution in bf16 over that in float32, forward and backward: 16 images of 64 maps of 32x32."""
    if threads:
        torch.set_num_threads(threads)
    took = []
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(16, 64, 32, 32, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(64, 64, 3, 3, device=device, dtype=dtype, requires_grad=True)
        took.append(min(_seconds(x, weight) for _ in range(5)))
    return took[1] / took[0]


def _seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    finish(x.device.type)
    start = time.perf_counter()
    torch.conv2d(x, weight, padding=1).sum().backward()
    finish(x.device.type)
    return time.perf_counter() - start


def load() -> float:
    """Mean number of running or runnable processes during the last minute."""
    return round(os.getloadavg()[0], 2)


def _cpuinfo() -> dict[str, str]:
    """/proc/cpuinfo of the first processor; empty where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}
