"""`python -m cluster.submit CONFIG [key=value ...] [-- SWEEP FLAGS]`: send a sweep to a cluster as a Ray job.

Before anything travels it checks the token, the head, the config and the upload. The job's own command line depends on
what was typed alone, so the same line again resumes the same run. Jobs API and its client:
https://docs.ray.io/en/latest/cluster/running-applications/job-submission/sdk.html (Ray 2.60).
"""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.ray_private import each_uploaded
from cluster.ray_runtime import secure
from cluster.secrets import PASSWORD, SECRET_VALUE
from sr_models.command import EXIT_DONE, EXIT_FAILED, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_LOST, Parser, run_command, say
from sr_models.errors import InputError
from sr_models.text_table import counted

PROG = "python -m cluster.submit"

UPLOAD_BYTES = 20 * 2**20
"""The most that may travel. The code is below 2 MB; Ray itself only refuses 100 MiB, after packing and sending it."""

DATA_BYTES = 2**20
"""Images, tensors and tables beyond this many bytes are taken for data sets and results."""

DATA_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".npy", ".npz", ".arrow", ".parquet", ".lmdb", ".mat"),
    *(".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".zip", ".tar", ".gz", ".zst", ".db"),
}
RUN_NAMES = {"runs", "mlruns", "mlartifacts", "studies.db", "mlflow.db"}
SECRET_NAMES = {"auth_token", ".env", "id_rsa", "id_ed25519", ".pgpass", "credentials"}
SECRET_SUFFIXES = {".pem", ".key", ".token"}

BOARD = "the board in it: "
"""What the line of the sweep's output starts with that names the board (orchestrator/stages.py)."""

AGENT_S = 60.0
"""How long a head whose dashboard answers may refuse jobs because the process that runs them is still starting."""

SETTLE_S = 30.0
"""How long the head may take to record a job's end after its log has ended."""

REQUEST_S = 10.0


# ---- the checks ----


def check_token(environment: Mapping[str, str], home: Path) -> None:
    """Raise InputError unless Ray's token mode is set and a token is at hand that only its owner can read."""
    if environment.get("RAY_AUTH_MODE") != "token":
        raise InputError(
            f"RAY_AUTH_MODE={environment.get('RAY_AUTH_MODE', '')}: expected token, with the cluster's token in "
            "RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN; --allow-anonymous for an open head"
        )
    if environment.get("RAY_AUTH_TOKEN"):
        return
    path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or home / ".ray" / "auth_token").expanduser()
    if not path.is_file() or not path.read_text(encoding="utf-8").strip():
        raise InputError(
            f"no token: {path} is not there or empty; copy the cluster's there, or set RAY_AUTH_TOKEN_PATH"
        )
    if path.stat().st_mode & 0o077:
        raise InputError(f"{path}: others can read the token (mode {path.stat().st_mode & 0o777:o}); chmod 600 {path}")


def check_address(address: str) -> str:
    """The address of a dashboard without its trailing slash; a warning where a token would cross a network in clear.

    Raises:
        InputError: something else than `http(s)://host:port`, or with a user name in it.
    """
    parts = urllib.parse.urlsplit(address)
    try:
        complete = bool(parts.hostname and parts.port) and parts.scheme in ("http", "https")
    except ValueError:  # a port that is no number
        complete = False
    if not complete or parts.path.strip("/") or parts.query or parts.username:
        raise InputError(f"--address {address!r}: expected http://HOST:PORT, such as http://127.0.0.1:8265")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        print(f"warning: {address} is not encrypted and takes the token along; use an SSH tunnel", file=sys.stderr)
    return address.rstrip("/")


def check_head(address: str, *, allow_anonymous: bool) -> None:
    """Raise InputError unless a Ray head answers at `address` and turns a request without a token away.

    A tunnel makes every head look like this machine, so loopback is no excuse for an open one.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a tunnel is not reached through a proxy
    try:
        with opener.open(f"{address}/api/jobs/", timeout=REQUEST_S) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    except (OSError, ValueError) as error:
        raise InputError(f"{address}: nobody answers ({error}); is the tunnel open? see docs/cluster.md") from None
    if status not in (200, 401, 403):
        raise InputError(f"{address}: answers {status} to GET /api/jobs/, so it is not a Ray head's dashboard")
    if status == 200 and not allow_anonymous:
        raise InputError(
            f"{address}: answers requests without a token, so whoever reaches it may run code there; "
            "start its Ray with RAY_AUTH_MODE=token, or --allow-anonymous"
        )


def check_config(line: Sequence[str], folder: Path) -> str:
    """The plan that `--dry-run` prints for the job's command line; cluster/ may not import the orchestrator.

    Raises:
        InputError: what the sweep has against the config, in its own words.
    """
    command = [sys.executable, *line[1:], "--dry-run"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == EXIT_INPUT:
        said = done.stderr.strip().splitlines() or ["refused without a word"]
        raise InputError(said[-1].split(": ", 1)[-1])
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def travelling(folder: Path) -> dict[Path, int]:
    """Files that Ray would upload from `folder` (relative path -> bytes), by Ray's own reading of the ignore files."""
    found: dict[Path, int] = {}

    def note(path: Path) -> None:
        if path.is_file():
            found[path.relative_to(folder)] = path.stat().st_size

    each_uploaded(folder, note)
    return found


def check_upload(files: Mapping[Path, int], folder: Path, config: str) -> None:
    """Raise InputError if secrets, runs, data sets, too much, or this command's own output would travel.

    Args:
        files: what `travelling` found in `folder`.
        config: the sweep's config as given; where it is a file, it has to travel.
    """
    cure = "name them in .rayignore, or give data by URI"
    secret = [p for p in files if p.name in SECRET_NAMES or p.suffix in SECRET_SUFFIXES]
    if secret:
        raise InputError(f"would upload what looks like a secret: {_names(secret)}; name it in .rayignore")
    runs = {p: size for p, size in files.items() if RUN_NAMES & set(p.parts)}
    if runs:
        raise InputError(f"would upload run folders: {_biggest(runs)}; {cure}")
    data = {p: size for p, size in files.items() if p.suffix.lower() in DATA_SUFFIXES}
    if sum(data.values()) > DATA_BYTES:
        raise InputError(f"would upload data: {_biggest(data)}; {cure}")
    if sum(files.values()) > UPLOAD_BYTES:
        total = _megabytes(sum(files.values()))
        raise InputError(f"would upload {total}, over {_megabytes(UPLOAD_BYTES)}: {_biggest(files)}; {cure}")
    written = {(s.st_dev, s.st_ino) for s in (os.fstat(1), os.fstat(2))}
    own = [p for p in files if ((s := (folder / p).stat()).st_dev, s.st_ino) in written]
    if own:  # Ray hashes the folder before it packs it, so a file that grows in between is never found again
        raise InputError(f"this command's own output goes to {_names(own)}, which would travel; write it elsewhere")
    if Path(config).is_absolute():
        raise InputError(f"{config}: means another file on the cluster; give its path from {folder}")
    if (folder / config).is_file() and (folder / config).resolve() not in {(folder / p).resolve() for p in files}:
        raise InputError(f"{config}: would not travel; put it below {folder} and outside what the ignore files name")


# ---- the job ----


def entrypoint(config: str, overrides: Sequence[str], flags: Sequence[str]) -> list[str]:
    """The job's command line, from nothing but what was typed.

    Raises:
        InputError: a password in a URI: a job's line stands in Ray's records and logs.
    """
    for word in (*overrides, *flags):
        found, value = PASSWORD.search(word), SECRET_VALUE.search(word)
        if found or value:
            shown = f"{found[1]}:***@..." if found else f"...{value[1]}***" if value else ""
            raise InputError(
                f"{shown}: a job's line is no place for a password; the head has it "
                "(instance profile, PGPASSWORD, peer login)"
            )
    return ["python", "-m", "orchestrator.sweep", config, *overrides, *flags]


def submit(client: Any, line: Sequence[str], folder: Path) -> str:
    """Send the job; returns its id. A head that has just started is given `AGENT_S` to find its feet.

    Raises:
        InputError: a job with this very line runs already, and two would write to one run.
        ConnectionError: the head did not take the job.
    """
    import requests

    command = shlex.join(line)
    until = time.monotonic() + AGENT_S
    while True:
        try:
            twins = [job.submission_id for job in client.list_jobs() if job.entrypoint == command and not _ended(job)]
            if twins:
                again = _job_line("logs -f", client, twins[0])
                raise InputError(f"this sweep runs already, as {twins[0]}; follow it with: {again}")
            return str(client.submit_job(entrypoint=command, runtime_env={"working_dir": str(folder)}))
        except (RuntimeError, requests.RequestException) as error:
            if "No available agent" not in str(error) or time.monotonic() > until:
                raise ConnectionError(" ".join(str(error).split())) from error
        time.sleep(1)


def follow(client: Any, job: str, show: Callable[[str], object]) -> int:
    """Pass the job's log on until its end; returns its exit code (130 for a stopped one).

    Raises:
        ConnectionError: the head was lost; the job may go on.
    """
    import aiohttp
    import requests

    async def tail() -> None:
        async for text in client.tail_job_logs(job):
            show(text)

    try:
        asyncio.run(tail())
        until = time.monotonic() + SETTLE_S
        while not _ended(found := client.get_job_info(job)):
            if time.monotonic() > until:
                raise ConnectionError(f"the log ended and {job} did not")
            time.sleep(0.2)
    except (RuntimeError, aiohttp.ClientError, requests.RequestException) as error:
        raise ConnectionError(str(error)) from error
    if found.status == "SUCCEEDED":
        return EXIT_DONE
    reason = (found.message or "no reason given").split(", last available logs")[0]  # which have streamed already
    say(f"\n{job} {found.status}: {' '.join(reason.split())}")
    if found.status == "STOPPED":
        return EXIT_INTERRUPTED
    code = found.driver_exit_code or EXIT_FAILED
    return code if code > 0 else 128 - code  # -9: killed by signal 9, 137 in a shell


def board_link(log: str) -> str | None:
    """The address of the board, from the last line of a sweep's output that names it."""
    links = [line.removeprefix(BOARD).strip() for line in log.splitlines() if line.startswith(BOARD)]
    return links[-1] if links and "://" in links[-1] else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code is the job's, 2 for what cannot be sent, 3 for a lost head, 130 for Ctrl-C."""
    return run_command(PROG, _run, argv)


def _run(typed: Sequence[str]) -> int:
    flags = typed[typed.index("--") + 1 :] if "--" in typed else []
    arguments = _parser().parse_intermixed_args(typed[: typed.index("--")] if "--" in typed else typed)
    folder = Path.cwd()
    line = entrypoint(arguments.config, arguments.overrides, flags)
    address = check_address(arguments.address)
    secure(local=False)
    if not arguments.allow_anonymous:
        check_token(os.environ, Path.home())
    if not (folder / "orchestrator" / "sweep.py").is_file():
        raise InputError(f"{folder}: not the project's root, which is what travels; start it there")
    print(check_config(line, folder))
    files = travelling(folder)
    check_upload(files, folder, arguments.config)
    check_head(address, allow_anonymous=arguments.allow_anonymous)
    try:
        client = connect(address)
        job = submit(client, line, folder)
    except ConnectionError as error:
        print(f"{PROG}: {arguments.address} did not take the job: {error}", file=sys.stderr)
        return EXIT_LOST
    size = f"{counted(len(files), 'file')}, {_megabytes(sum(files.values()))}"
    print(f"{job}: {shlex.join(line)}  ({size})\n", flush=True)
    return _watch(client, job, shlex.join(["python", "-m", "cluster.submit", *typed]))


def connect(address: str) -> Any:
    """A Jobs client for the head at `address`.

    Raises:
        InputError: the head is away, or refuses the token.
    """
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):  # either would win over the address we were given
        os.environ.pop(name, None)
    # The token goes to the head, not to a proxy on the way that was set for something else.
    around = [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), urllib.parse.urlsplit(address).hostname]
    os.environ["no_proxy"] = ",".join(filter(None, around))
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise InputError(f"{address}: {str(error).splitlines()[0]}") from None
    except (ConnectionError, RuntimeError) as error:
        raise InputError(f"{address}: {' '.join(str(error).split())}") from None


def _watch(client: Any, job: str, resume: str) -> int:
    """Follow the job to its end and say how to come back; returns the command's exit code."""
    tail = ""

    def show(text: str) -> None:
        nonlocal tail
        tail = (tail + text)[-20_000:]
        print(text, end="", flush=True)

    ways = f"follow: {_job_line('logs -f', client, job)}\nstop:   {_job_line('stop', client, job)}"
    try:
        code = follow(client, job, show)
    except KeyboardInterrupt:
        print(f"\ndetached; {job} goes on\n{ways}\nresume: {resume}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # our reader went, not the head
        raise
    except ConnectionError as error:
        print(f"\nlost the head ({error}); {job} may go on\n{ways}\nresume: {resume}", file=sys.stderr)
        return EXIT_LOST
    print(f"\nboard:  {board_link(tail) or 'not named in the output'}\nresume: {resume}")
    return code


def _parser() -> Parser:
    made = Parser(
        prog=PROG,
        description="Send a sweep to a Ray cluster and follow it; the same line again resumes it.",
        epilog="after -- come flags of python -m orchestrator.sweep, such as --storage and --studies-uri",
    )
    made.add_argument("config", metavar="CONFIG", help="a sweep's config below this folder, or a preset's name")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="dotted overrides of the config")
    made.add_argument(
        "--address", default="http://127.0.0.1:8265", metavar="URL", help="the head's dashboard (default: %(default)s)"
    )
    made.add_argument("--allow-anonymous", action="store_true", help="send it to a head that asks for no token")
    return made


def _ended(job: Any) -> bool:
    return job.status in ("SUCCEEDED", "FAILED", "STOPPED")


def _job_line(verb: str, client: Any, job: str) -> str:
    return f"ray job {verb} --address {client.get_address()} {job}"


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, sorted(paths)[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _biggest(files: Mapping[Path, int]) -> str:
    """The three heaviest files, or folders two levels down, with their sizes."""
    weights: Counter[str] = Counter()
    for path, size in files.items():
        weights["/".join(path.parts[:2])] += size
    heaviest = sorted(weights.items(), key=lambda weighed: (-weighed[1], weighed[0]))[:3]
    return ", ".join(f"{name} ({_megabytes(size)})" for name, size in heaviest)


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
