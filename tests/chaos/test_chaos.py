"""A few faults of every kind that needs no server: the same command comes to the same board."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_sweep_comes_to_the_same_board_whatever_befalls_it() -> None:
    kinds = [
        "SIGKILL worker",
        "SIGKILL driver",
        "SIGKILL GCS",
        "storage away",
        "checkpoint.pt: a bit",
        "journal: a bit",
    ]
    command = [sys.executable, str(Path(__file__).parent), "--seed", "0", "--faults", "6"]
    with subprocess.Popen([*command, "--outage", "20", "--only", *kinds], text=True, stdout=subprocess.PIPE) as chaos:
        try:
            print(chaos.communicate(timeout=840)[0])
        except subprocess.TimeoutExpired:
            chaos.terminate()  # then it ends what it has started
            print(chaos.communicate(timeout=50)[0])
    assert chaos.returncode == 0
