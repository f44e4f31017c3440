"""What the released code computes on small inputs (../shared/spec/oracles), where it is there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"


@pytest.fixture
def oracle() -> Callable[[str], dict[str, Any]]:
    """Name of an oracle -> its arrays."""

    def read(name: str) -> dict[str, Any]:
        if not SPEC.is_dir():
            pytest.skip("needs ../shared/spec")
        with np.load(SPEC / "oracles" / f"{name}_handover.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return read
