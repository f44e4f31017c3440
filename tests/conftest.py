"""One thread a process, for all tests; a Ray head with a token, for tests that send jobs to one."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import submit
from eval.protocol import METRICS
from objectives import LOSSES
from sr_models import MODELS, plugins
from sr_models.errors import InputError
from sr_models.hyper.degradation import DEGRADATIONS

# Before PyTorch is imported, here and in every process that tests start: networks this small take longer on several
# threads than on one, and many times longer where something else keeps a core busy.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parents[1]
SPEC = ROOT.parent / "shared" / "spec"
TOKEN = "ab" * 32


@pytest.fixture
def oracle() -> Callable[[str], dict[str, Any]]:
    """Name of what released code computes on small inputs (../shared/spec/oracles) -> its arrays, where it is there."""

    def read(name: str) -> dict[str, Any]:
        if not SPEC.is_dir():
            pytest.skip("needs ../shared/spec")
        with np.load(SPEC / "oracles" / f"{name}_handover.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return read


_refusing: dict[Path, int] = {}
"""Folder -> the number of the error that writing below it ends with."""


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    """Of CPython's audit events, end those that write: https://docs.python.org/3/library/audit_events.html"""
    if not _refusing or event not in ("open", "os.mkdir", "os.remove", "os.rename"):
        return
    if isinstance(args[0], int) or (event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        return
    path = os.fsdecode(args[0])
    for folder, number in _refusing.items():
        if Path(path).absolute().is_relative_to(folder):
            raise OSError(number, os.strerror(number), path)


@pytest.fixture(scope="session")
def _watched() -> None:
    sys.addaudithook(_refuse)  # it cannot be taken away again


@pytest.fixture
def refuse_writing(_watched: None) -> Iterator[Callable[[Path, int], None]]:
    """`refuse_writing(folder, errno.EROFS)`: what Python writes there fails, as on a disk that is mounted to be read.

    A folder's mode would not do: root, as whom tests may run, ignores it.
    """
    yield _refusing.__setitem__
    _refusing.clear()


@pytest.fixture(scope="session")
def latent_parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Hyperparameters of tiny networks in the latent space of seeded parts, whose numbers mean nothing."""
    pytest.importorskip("diffusers", reason="needs the extra [latent]")
    import safetensors.torch
    import torch

    from sr_models.diffusion.latent import AutoencoderLayout, UNetLayout, autoencoder, unet

    folder = tmp_path_factory.mktemp("parts")
    of_both: dict[str, Any] = {"mults": (1, 1), "blocks": 1}
    sizes: dict[str, Any] = {"attention": (1,), "head": 16, "context": 12}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {"unet": unet(UNetLayout(channels=32, **of_both, **sizes)),
                "autoencoder": autoencoder(AutoencoderLayout(channels=32, **of_both))}  # fmt: skip
    for name, net in made.items():
        safetensors.torch.save_file(net.state_dict(), folder / f"{name}.safetensors")
    files = {name: str(folder / f"{name}.safetensors") for name in made}
    return files | sizes | of_both | {"channels": 32, "vae_channels": 32, "vae_mults": (1, 1), "vae_blocks": 1}


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny autoencoder of VQ-f4's kind with seeded weights: what it encodes means nothing."""
    import safetensors.torch
    import torch

    from sr_models.diffusion.autoencoder import VQAutoencoder

    path = tmp_path_factory.mktemp("vq") / "stand_in.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        coder = VQAutoencoder(channels=32, mults=(1, 1, 1), blocks=1, codes=16)
    safetensors.torch.save_file(coder.state_dict(), path)
    return path


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Has a package installed, as far as this process sees: (source, {"models": {name: object}}, name, version)."""
    made: list[str] = []

    def install(source: str, points: dict[str, dict[str, str]], name: str = "sr-own", version: str = "1.0") -> None:
        made.append(module := name.replace("-", "_"))
        folder = tmp_path / "site" / module
        info = folder / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        groups = [
            f"[sr_sweep.{group}]\n" + "".join(f"{point} = {module}:{found}\n" for point, found in rows.items())
            for group, rows in points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(groups))
        monkeypatch.syspath_prepend(folder)
        plugins._found.cache_clear()

    yield install
    monkeypatch.undo()
    plugins._found.cache_clear()
    for table in (MODELS, LOSSES, METRICS, DEGRADATIONS):
        table._rows.clear()
    for module in made:
        sys.modules.pop(module, None)


@pytest.fixture
def documented() -> str:
    """The module of the degradation `box` that docs/extending.md shows."""
    [found] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text("utf-8"), re.DOTALL)
    return str(found)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for made in sockets:
            made.bind(("127.0.0.1", 0))
        return [made.getsockname()[1] for made in sockets]
    finally:
        for made in sockets:
            made.close()


def with_argument(text: str) -> list[int]:
    """Processes that have `text` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:  # it has just ended
            continue
    return [pid for pid in found if pid != os.getpid()]


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    """The environment of a Ray head of its own (ports, folder, token) and, as ADDRESS, its dashboard.

    Every process that names its folder ends with it.
    """
    folder = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))  # short: Ray puts sockets below it
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment = {
        **clean,
        "PATH": f"{Path(sys.executable).parent}:{clean['PATH']}", "HOME": str(folder), "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    gcs, dashboard, client, agent = free_ports(4)
    command = [
        *["ray", "start", "--head", "--block", f"--port={gcs}", "--num-cpus=2", f"--temp-dir={folder}/ray"],
        *[f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1", f"--ray-client-server-port={client}"],
        *[f"--dashboard-agent-listen-port={agent}", "--object-store-memory=100000000"],
        *['--resources={"trial_slot": 4}'],
    ]
    with (folder / "out").open("w") as out:
        started = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    address = f"http://127.0.0.1:{dashboard}"
    try:
        until = time.monotonic() + 60
        while True:
            try:
                submit.check_head(address, allow_anonymous=False)
                break
            except InputError:
                assert time.monotonic() < until and started.poll() is None, (folder / "out").read_text()
                time.sleep(0.3)
        yield {**environment, "ADDRESS": address}
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait(10)
        for pid in with_argument(str(folder)):
            os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 10
        while with_argument(str(folder)) and time.monotonic() < until:
            time.sleep(0.1)
        assert not with_argument(str(folder))
        shutil.rmtree(folder)
