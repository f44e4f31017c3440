"""Which release this is, and which numerics its trials have: what `--version` of every command says."""

from __future__ import annotations

from importlib.metadata import version

DISTRIBUTION = "sr-sweep"
"""The name that this project is installed by."""

NUMERICS_VERSION = 1
"""Raised when a fixed defect changes what a trial computes: every fingerprint it touched changes with it."""

SIGMA_NUMERICS_VERSION = 2
"""The same of objectives with a sigma branch, whose head starts and reads features otherwise since 2."""

NOISY_NUMERICS_VERSION = 3
"""The same of objectives whose loss draws noise, which is drawn by torch on the trial's device since 3."""


def release() -> str:
    """The installed distribution's version; "not installed" where this is a bare folder of sources."""
    try:
        return version(DISTRIBUTION)
    except ModuleNotFoundError:  # as which importlib says that no such distribution is installed
        return "not installed"


def version_text() -> str:
    """`sr-sweep 0.1.0, numerics 1 (σ branch 2, noise in the loss 3)`: what two machines of one sweep must share."""
    numerics = f"{NUMERICS_VERSION} (σ branch {SIGMA_NUMERICS_VERSION}, noise in the loss {NOISY_NUMERICS_VERSION})"
    return f"{DISTRIBUTION} {release()}, numerics {numerics}"
