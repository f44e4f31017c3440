"""What this machine offers a sweep: cores, memory and GPUs, counted as Ray will, without waiting for it or torch.

GPUs are asked of NVIDIA's driver by its library (https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html);
limits of a container stand in https://docs.kernel.org/admin-guide/cgroup-v2.html.
"""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cluster.ray_runtime import LOCAL_SLOTS, Node, Resources

_CGROUP = Path("/sys/fs/cgroup")
_NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU of this machine."""

    name: str
    memory: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """This machine."""

    cpus: int
    memory: int
    """Bytes; 0: not known."""
    gpus: tuple[Gpu, ...] = ()
    """Those that work may be placed on."""
    unusable: str | None = None
    """Why the installed torch uses none of them; None: it does, or there are none."""
    may_have_more: bool = False
    """Whether GPUs of another maker may be here, which only Ray counts."""

    @property
    def resources(self) -> Resources:
        """As a cluster of this one node, which a sweep without an address starts."""
        gpus = 0 if self.unusable else len(self.gpus)
        node = Node(address="127.0.0.1", cpus=self.cpus, gpus=gpus, head=True, memory=self.memory)
        return Resources(cpus=self.cpus, gpus=gpus, nodes=(node,), slots=LOCAL_SLOTS)


def machine() -> Machine:
    """This one, as it is now."""
    gpus, built = _gpus(), _torch_built_for()
    unusable = "the installed torch is built without CUDA" if gpus and "cuda" not in built else None
    return Machine(cpus=_cpus(), memory=_memory(), gpus=gpus, unusable=unusable, may_have_more=bool(built - {"cuda"}))


def gpus_text(gpus: tuple[Gpu, ...]) -> str:
    """`2 GPUs (NVIDIA H200, 139 GiB)`; each kind once."""
    kinds = dict.fromkeys(f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB" for gpu in gpus)
    return f"{len(gpus)} GPU{'s'[: len(gpus) != 1]}" + (f" ({'; '.join(kinds)})" if kinds else "")


def _cpus() -> int:
    """All, or as many as a container may use, rounded down as Ray does."""
    every = os.cpu_count() or 1
    limit = _CGROUP / "cpu.max"
    quota, period = (limit.read_text().split() if limit.exists() else ["max", "1"])[:2]
    return every if quota == "max" else max(min(int(quota) // int(period), every), 1)


def _memory() -> int:
    """Bytes of all of it, or as many as a container may use."""
    every = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _CGROUP / "memory.max"
    most = limit.read_text().strip() if limit.exists() else "max"
    return every if most == "max" else min(int(most), every)


def _torch_built_for() -> set[str]:
    """Which kinds of GPU the installed torch knows: of cuda, hip and xpu, read off its version file, not imported."""
    spec = find_spec("torch")
    places = spec.submodule_search_locations if spec else None
    about = Path(places[0]) / "version.py" if places else None
    if about is None or not about.exists():
        return set()
    lines = re.findall(r"^(cuda|hip|xpu)\b[^=\n]*=\s*(.+)$", about.read_text(encoding="utf-8"), re.MULTILINE)
    return {kind for kind, value in lines if value.strip() != "None"}


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def _gpus() -> tuple[Gpu, ...]:
    """NVIDIA's, as many as CUDA_VISIBLE_DEVICES leaves; none where there is no driver."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return ()
    if nvml.nvmlInit_v2() != 0:
        return ()
    try:
        count = ctypes.c_uint()
        found = []
        for i in range(count.value if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 else 0):
            device, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(_NAME_BYTES), _Memory()
            if (
                nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(i), ctypes.byref(device)) != 0
                or nvml.nvmlDeviceGetName(device, name, ctypes.c_uint(_NAME_BYTES)) != 0
                or nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) != 0
            ):
                continue  # one that does not answer trains nothing
            found.append(Gpu(name=name.value.decode(errors="replace") or "GPU", memory=memory.total))
    finally:
        nvml.nvmlShutdown()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(found)
    chosen: list[Gpu] = []
    for one in (each.strip() for each in visible.split(",")):
        if one.isdecimal() and int(one) < len(found):
            chosen.append(found[int(one)])
        elif one.startswith(("GPU-", "MIG-")) and len(chosen) < len(found):
            chosen.append(found[len(chosen)])  # named by UUID: which kind it is, is not looked up
        else:
            break  # as CUDA does: what follows an entry that means none is not seen
    return tuple(chosen)
