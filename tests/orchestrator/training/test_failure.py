"""Which errors are an outcome of a trial, and which are a defect."""

import pytest
import torch

from orchestrator.training.failure import TrialFailure, failure_cause, failure_why


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (TrialFailure("the loss is not finite\nat step 3"), "the loss is not finite"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried\nto"), "out of memory on cuda: CUDA out of memory. Tried"),
        (MemoryError(), "out of memory on cuda: no more is known"),
        (RuntimeError("DefaultCPUAllocator: not enough"), "out of memory on cuda: DefaultCPUAllocator: not enough"),
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), "out of memory on cuda: CUDNN_STATUS_ALLOC_FAILED"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (RuntimeError("a defect\nout of memory"), None),  # what follows the first line is no word of torch
        (ValueError("wrong"), None),
        (KeyboardInterrupt(), None),
    ],
)  # fmt: skip
def test_a_cause_is_one_line_and_a_defect_has_none(error: BaseException, cause: str | None) -> None:
    assert failure_cause(error, "cuda") == cause


def test_only_what_the_numbers_did_is_final() -> None:
    assert failure_why(TrialFailure("the loss is not finite")) == "numbers"
    for error in (MemoryError(), torch.OutOfMemoryError(), OSError("gone"), ValueError("damaged")):
        assert failure_why(error) == "environment"
