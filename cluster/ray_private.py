"""Everything of Ray's that Ray does not promise to keep: private functions, a private option, switches without a page.

Written against Ray 2.60; what pyproject.toml allows of `ray` ends where nobody has looked at this file again.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NoReturn

from sr_models.command import EXIT_LOST, flush_output

ITEMS_AHEAD = "_generator_backpressure_num_objects"
"""Option of a streaming actor method: how many items it may make before the first is taken."""

SESSION_FOLDER = "_temp_dir"
"""Option of ray.init: where a local cluster keeps its sockets and logs."""

SESSION_BYTES = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.9")
"""What Ray appends to that folder in the longest path of a socket."""

QUICK_TRAIN = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how soon a lost worker and a finished run are noticed
    # How long a group waits for its nodes before Ray counts again which there are: a lost one is counted for some 20 s
    # more, and Ray would wait 60 s for it where fewer workers are enough. A group of fixed size asks for as many again.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",  # both feed a dashboard that a local cluster does not have
}
"""Environment of a process that drives Ray Train."""

QUIET_TUNE = {
    "RAY_AIR_NEW_OUTPUT": "0",  # its boxes ignore verbose=0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the sweep's to handle
}
"""Environment of a process that drives Ray Tune."""

TUNE_WORKER = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep meaning
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600",  # a stopped trial's last line would, past Tune's 2 s, cost the next trial
}
"""Environment of a process that runs trials."""


PATIENT_DRIVER = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",  # after which a driver without a head aborts, with a stack trace
}
"""Environment of a process that connects to Ray, before it imports it."""

_PARTS = {"raylet": "its raylet", "gcs_server": "its head"}


@contextmanager
def on_loopback() -> Iterator[None]:
    """Have the cluster that is started in the `with` block take 127.0.0.1 for its node, as Ray does on macOS."""
    from ray._private import ray_constants

    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def lost_part() -> str | None:
    """What is gone of the Ray that this process is connected to, None if all is there; answers at once."""
    from ray._private import worker

    node = worker._global_node
    if node is None:
        return None
    for kind, name in _PARTS.items():  # of a local cluster
        for info in node.all_processes.get(kind, ()):
            if info.process.poll() is not None:
                return name
    if not node.all_processes:
        if not _answers(socket.AF_UNIX, node.raylet_socket_name):
            return "this machine's raylet"
        host, _, port = node.gcs_address.rpartition(":")
        if not _answers(socket.AF_INET6 if ":" in host else socket.AF_INET, (host.strip("[]"), int(port))):
            return "its head"
    return None


def _answers(family: int, address: Any) -> bool:
    """Whether something listens there; a network that is silent for long is no refusal."""
    with socket.socket(family) as made:
        made.settimeout(2)
        try:
            made.connect(address)
        except TimeoutError:
            return True
        except OSError:
            return False
    return True


def hush() -> None:
    """Let what Ray's processes tell this one stay in their logs: it comes as errors that we report, or as a dump."""
    from ray._private.ray_logging import global_worker_stdstream_dispatcher

    global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")


def without_advice() -> None:
    """Keep Ray, and tqdm below it, from asking for ipywidgets as a notebook imports them: nothing here shows any."""
    logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "IProgress not found")


def abandon() -> None:
    """Leave a Ray that is gone without a word to it, which would wait for an answer; what it started here is ended.

    The process then ends without the interpreter's own last steps, which take Ray's connection apart and crash on it.
    """
    import psutil  # Ray's own, which it puts on the path
    from ray._private import worker

    atexit.unregister(worker.shutdown)
    if (node := worker._global_node) is not None:
        below: list[psutil.Process] = []  # a raylet without a head leaves agents that wait for one for ever
        for info in node.all_processes.get("raylet", ()):
            with suppress(psutil.NoSuchProcess):
                below += psutil.Process(info.process.pid).children(recursive=True)
        node.kill_all_processes(check_alive=False)
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    atexit.register(leave_lost)  # the last registered is the first that is called


def leave_lost() -> NoReturn:
    """End this process at once, with the code of a lost connection."""
    flush_output()
    os._exit(EXIT_LOST)


def read_auth_mode_again() -> None:
    """Have a Ray that was imported before `RAY_AUTH_MODE` was set read it, as ray.init does after its own default."""
    if "ray" in sys.modules:
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")


def forbid_auto_connect() -> None:
    """Have Ray refuse a task before `ray.init`: by itself it joins whatever cluster this machine has known last."""
    from ray._private import auto_init_hook

    auto_init_hook.enable_auto_connect = False


def complete_cluster_file(raw: dict[str, Any]) -> dict[str, Any]:
    """A `ray up` cluster file with Ray's defaults filled in, checked by Ray's schema; `raw` is changed.

    Raises:
        jsonschema.ValidationError: not of the schema; and other exceptions for what Ray trips over before.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    advice = io.StringIO()  # for Ray's Docker mode, but given to everyone
    with redirect_stdout(advice), redirect_stderr(advice):
        config: dict[str, Any] = prepare_config(raw)
    validate_config(config)
    return config


def each_uploaded(folder: Path, note: Callable[[Path], None]) -> None:
    """Call `note` with each path that Ray would upload from `folder` as a job's working directory."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    excludes = [_get_excludes(folder, get_runtime_env_default_excludes())]
    honoured = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"
    _dir_travel(folder, excludes, note, include_gitignore=honoured, logger=logging.getLogger(__name__))
