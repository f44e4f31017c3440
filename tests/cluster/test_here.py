"""What this machine has, counted as Ray counts it: cores, and GPUs as far as the driver and the environment say."""

import ctypes
from pathlib import Path

import pytest

from cluster import here
from cluster.here import Gpu, Machine, gpus_text, machine

H200 = Gpu(name="NVIDIA H200", memory=139 * 2**30)


class Driver:
    """NVIDIA's library, with two GPUs."""

    def nvmlInit_v2(self) -> int:
        return 0

    nvmlShutdown = nvmlInit_v2

    def nvmlDeviceGetCount_v2(self, count: object) -> int:
        count._obj.value = 2  # type: ignore[attr-defined]
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, _index: object, _device: object) -> int:
        return 0

    def nvmlDeviceGetName(self, _device: object, name: ctypes.Array, _size: object) -> int:
        name.value = H200.name.encode()
        return 0

    def nvmlDeviceGetMemoryInfo(self, _device: object, memory: object) -> int:
        memory._obj.total = H200.memory  # type: ignore[attr-defined]
        return 0


@pytest.mark.parametrize(
    ("visible", "count"), [(None, 2), ("", 0), ("-1", 0), ("1", 1), ("0,1", 2), ("GPU-a,GPU-b,c", 2)]
)
def test_gpus_are_those_that_the_environment_leaves(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int
) -> None:
    monkeypatch.setattr(here.ctypes, "CDLL", lambda _: Driver())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = machine()
    assert found.gpus == (H200,) * count and found.resources.nodes[0].gpus in (count, 0)


def test_a_torch_without_cuda_uses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "_gpus", lambda: (H200,))
    monkeypatch.setattr(here, "_torch_built_for", set)
    found = machine()
    assert found.unusable == "the installed torch is built without CUDA" and found.resources.gpus == 0
    monkeypatch.setattr(here, "_torch_built_for", lambda: {"cuda"})
    assert machine().unusable is None and machine().resources.gpus == 1


def test_a_container_has_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "_CGROUP", tmp_path)
    monkeypatch.setattr(here.os, "cpu_count", lambda: 8)
    assert machine().cpus == 8
    (tmp_path / "cpu.max").write_text("350000 100000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert (machine().cpus, machine().memory) == (3, 1_000_000)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine().cpus == 8


def test_gpus_are_named_once_a_kind() -> None:
    assert gpus_text((H200, H200)) == "2 GPUs (NVIDIA H200, 139 GiB)" and gpus_text(()) == "0 GPUs"
    assert Machine(cpus=2, memory=0).resources.nodes[0].holds(1, 0) == 2
