"""Why a trial failed, in one line, and whether it would again; what is a defect and no outcome stays an error."""

from __future__ import annotations

import torch

from orchestrator.run.journal import Why

OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")
"""How a plain RuntimeError of torch, CUDA, cuDNN or cuBLAS says that memory ran out."""

LOST = "its workers were lost more often than max_restarts allows"
NODE_OUT_OF_MEMORY = "out of memory: Ray ended a worker because its node ran low"


class TrialFailure(Exception):
    """The trial's numbers do not let it go on (a loss that is not finite); its message becomes the recorded cause."""


def failure_cause(error: BaseException, device: str) -> str | None:
    """Why a trial failed, in one line; None for an error that is a defect and not an outcome of the trial."""
    text = str(error).partition("\n")[0]
    if isinstance(error, TrialFailure):
        return text
    # torch has no type of its own for host memory
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(s in text for s in OUT_OF_MEMORY):
        return f"out of memory on {device}: {text or 'no more is known'}"
    return None


def failure_why(error: BaseException) -> Why:
    """Whether a trial's numbers ended it, or its environment."""
    return "numbers" if isinstance(error, TrialFailure) else "environment"
