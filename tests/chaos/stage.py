"""What a sweep under chaos runs on: its folder, its process, and the servers that it was given."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
MARK = "SR_CHAOS"
"""Environment variable that every process of one sweep inherits, Ray's daemons and workers included."""
PATIENCE = 180
"""Longest that one command may take (s); an idle machine needs a fifth."""


def write_config(folder: Path) -> Path:
    """The smallest sweep that has everything: a teacher, centroids, searches, winners, scores."""
    for i, (split, count, side) in enumerate([("train", 3, 48), ("validation", 1, 48), ("test", 3, 160)]):
        (folder / split).mkdir(parents=True)
        for k in range(count):
            blocks = np.random.Generator(np.random.Philox(10 * i + k)).integers(0, 256, (side // 4, side // 4, 3))
            fine = np.kron(blocks, np.ones((4, 4, 1), np.int64)).astype(np.uint8)
            Image.fromarray(fine).save(folder / split / f"{k}.png")
    config = {
        "name": "chaos",
        "models": {"edsr_baseline": {"channels": 16, "blocks": 2}, "imdn": {"channels": 16, "blocks": 1}},
        "objectives": {"eco": {"search": []}, "expectation": {"sigma.width": 8, "search": ["sigma.beta"]}},
        "teacher": {"hyper": {"channels": 8, "blocks": 1}, "train": {"steps": 20}},
        "data": {
            "train": [{"hr": str(folder / "train")}],
            "validation": [{"hr": str(folder / "validation")}],
            "test": {"toy": {"hr": str(folder / "test")}},
        },
        "train": {
            "steps": 50, "batch_size": 8, "patch": 12, "lr": 1e-3, "validate_every": 10, "checkpoint_every": 10,
        },
        "search": {"trials": 3, "startup_trials": 2},
        "seeds": 1,
        # One at a time: halving looks at what has reported so far, so only then two sweeps come to the same board.
        "resources": {"max_concurrent": 1},
    }  # fmt: skip
    path = folder / "chaos.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Postgres:
    """A server of its own for one sweep; as root it runs as the user `postgres`."""

    folder: Path
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.account = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        self.folder.mkdir()
        if self.account:
            shutil.chown(self.folder, "postgres", "postgres")
        self._run("initdb", "-U", "sr", "--auth=trust", "--encoding=UTF8", "--no-sync")
        self._control("start")
        self.url = f"postgresql+psycopg://sr@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [f"{Stage.postgres_bin()}/{program}", "-D", str(self.folder / "data"), *words],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, **self.account,
        )  # fmt: skip

    def _control(self, what: str) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self._run("pg_ctl", "-w", "-m", "fast", "-l", str(self.folder / "log"), "-o", options, what)

    def restart(self) -> None:
        self._control("restart")

    def end(self) -> None:
        self._run("pg_ctl", "-m", "immediate", "stop")


@dataclass
class Server:
    """`mlflow server` on the database file that the checker reads."""

    folder: Path
    port: int = field(default_factory=free_port)

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--artifacts-destination", str(self.folder / "artifacts")]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < until, "the MLflow server did not start"
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Stage:
    """One sweep in a folder of its own, run by one command as often as it takes.

    Args:
        folder: new; everything lies below it.
        needs: what the sweep is given (`Fault.needs`).
        pause: seconds for which faults of a while last.
        outage: seconds for which a storage is away.
    """

    def __init__(self, folder: Path, config: Path, needs: str = "", *, pause: float, outage: float) -> None:
        self.folder, self.disk, self.storage = folder, folder / "disk", folder / "storage"
        self.output = self.disk / "runs"
        self.pause, self.outage = pause, outage
        self.mark = uuid.uuid4().hex
        self.process: subprocess.Popen[bytes] | None = None
        self.damaged: list[Path] = []
        """What was damaged since the sweep was last found whole."""
        self.postgres: Postgres | None = None
        self.server: Server | None = None
        self.disk.mkdir(parents=True)
        self.mounted = needs == "disk"
        if self.mounted:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "chaos", str(self.disk)], check=True)
        self.words = [str(config), "--output", str(self.output)]
        if needs == "storage":
            self.storage.mkdir()
            self.words += ["--storage", f"file://{self.storage}"]
        if needs == "postgres":
            folder.chmod(0o711)
            self.postgres = Postgres(folder / "postgres")
            self.words += ["--studies-uri", self.postgres.url]
        if needs == "server":
            self.server = Server(folder)
            self.server.start()
            self.words += ["--tracking-uri", f"http://127.0.0.1:{self.server.port}"]
        self.commands = 0

    @staticmethod
    def postgres_bin() -> Path | None:
        """Debian's place for the newest PostgreSQL."""
        return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)

    @property
    def run(self) -> Path:
        [found] = self.output.glob("chaos-*/")
        return found

    @property
    def studies_url(self) -> str:
        return self.postgres.url if self.postgres else f"sqlite:///{self.run / 'studies.db'}"

    @property
    def mlflow_db(self) -> Path:
        return (self.folder if self.server else self.output) / "mlflow.db"

    def trials(self) -> list[Path]:
        return sorted(self.output.glob("shared/trials/*/"))

    @property
    def stderr(self) -> Path:
        """Of the last command."""
        return self.folder / f"{self.commands}.err"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """The same command, again."""
        self.commands += 1
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "PYTEST_", "SR_"))}
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SR_CACHE": str(self.folder / "cache")}
        with self.stderr.open("wb") as err, self.stderr.with_suffix(".out").open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.sweep", *self.words],
                cwd=self.folder, env={**inherited, **own, MARK: self.mark}, stdout=out, stderr=err,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def ends_within(self, seconds: float) -> bool:
        assert self.process is not None
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def alive(self) -> dict[int, str]:
        """The sweep's processes: process id -> command line."""
        return dict(self._alive())

    def _alive(self) -> Iterator[tuple[int, str]]:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                marked = f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
                if marked and (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                    yield int(entry.name), (entry / "cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has just ended, or is another user's
                continue

    def kill_all(self) -> None:
        """As a machine that loses its power: all processes at once."""
        for pid in self.alive():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.process is not None:
            self.process.wait()
        self.process = None

    def end(self, *, keep: bool) -> None:
        """End everything that was started here, and remove the folder unless it is to be looked at."""
        self.kill_all()
        if self.server:
            self.server.kill()
        if self.postgres:
            self.postgres.end()
        if self.mounted:
            if keep:
                shutil.copytree(self.disk, self.folder / "kept")
            subprocess.run(["umount", "-l", str(self.disk)], check=True)
        if not keep:
            shutil.rmtree(self.folder)
