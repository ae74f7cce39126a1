"""What a run costs: seconds per epoch, peak memory and parameters, which a table of methods shows beside their errors.

Memory is that of the GPU where there is one, and otherwise of the process, with all it has imported.
"""

from __future__ import annotations

import re
import statistics
import sys
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .session import Training


def cost_of(training: Training) -> dict[str, Any]:
    """The cost of a training so far.

    Returns:
        {"seconds_per_epoch": median over this process's epochs, each with its validation, None without any;
        "memory_mib": peak of this process; "parameters": what the model and the objective can learn; "device"}.
    """
    learns = [*training.model.parameters(), *training.objective.parameters()]
    device = training.runtime.device
    return {
        "seconds_per_epoch": round(statistics.median(training.took), 4) if training.took else None,
        "memory_mib": round(_peak_memory(device) / 2**20, 1),
        "parameters": sum(p.numel() for p in learns if p.requires_grad),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def _peak_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        with open("/proc/self/status") as status:  # the system's own count for a process passes on to what it starts
            return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status.read())[0])
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
