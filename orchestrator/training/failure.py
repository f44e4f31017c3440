"""Why a trial failed, in one line; what is a defect and no outcome of it stays an error."""

from __future__ import annotations

import torch

OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")
"""How a plain RuntimeError of torch, CUDA, cuDNN or cuBLAS says that memory ran out."""


class TrialFailure(Exception):
    """The trial cannot go on (a loss that is not finite, no memory left); its message becomes the recorded cause."""


def failure_cause(error: BaseException, device: str) -> str | None:
    """Why a trial failed, in one line; None for an error that is a defect and not an outcome of the trial."""
    text = str(error).partition("\n")[0]
    if isinstance(error, TrialFailure):
        return text
    # torch has no type of its own for host memory
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(s in text for s in OUT_OF_MEMORY):
        return f"out of memory on {device}: {text or 'no more is known'}"
    return None
