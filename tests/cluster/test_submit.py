"""What may not travel is refused by name; a real head with a token runs the line, and its exit code is ours."""

import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster import submit
from sr_models.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "ab" * 32

FAKE_SWEEP = """
import sys, time
if "--dry-run" in sys.argv:
    if "typo=1" in sys.argv:
        sys.exit(print("python -m orchestrator.sweep: unknown key 'typo'", file=sys.stderr) or 2)
    sys.exit(print("the plan"))
given = dict(word.split("=") for word in sys.argv[1:] if "=" in word)
print("flags", sys.argv[1:], flush=True)
time.sleep(float(given.get("sleep", 0)))
print("the board in it: http://127.0.0.1:5000/#/experiments/1")
sys.exit(int(given.get("code", 0)))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the shape of ours: a package whose sweep does what its overrides say, and a config."""
    folder = tmp_path / "project"
    (folder / "orchestrator").mkdir(parents=True)
    (folder / "orchestrator" / "__init__.py").touch()
    (folder / "orchestrator" / "sweep.py").write_text(FAKE_SWEEP)
    (folder / "mine.yaml").write_text("name: mine\n")
    return folder


def check(folder: Path, config: str = "mine.yaml") -> None:
    submit.check_upload(submit.travelling(folder), folder, config)


# ---- what travels ----


def test_ignored_files_stay_and_the_rest_travels(project: Path) -> None:
    for name in ("runs/a/big.bin", ".venv/lib.py", "docs/page.md", "docs/deep/page.md"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    (project / ".gitignore").write_text("runs/\n")
    (project / ".rayignore").write_text("/docs/\n")
    assert set(map(str, submit.travelling(project))) == {
        ".gitignore", ".rayignore", "mine.yaml", "orchestrator/__init__.py", "orchestrator/sweep.py",
    }  # fmt: skip
    check(project)


def test_our_own_tree_is_light(capfd: pytest.CaptureFixture) -> None:
    files = submit.travelling(ROOT)
    submit.check_upload(files, ROOT, "examples/set5_set14.yaml")
    assert sum(files.values()) < 4 * 2**20
    assert {"orchestrator", "cluster", "sr_models"} <= {path.parts[0] for path in files}
    assert not {"tests", "docs", "runs", ".git"} & {path.parts[0] for path in files}


@pytest.mark.parametrize(
    ("names", "size", "said"),
    [
        (["old/runs/mine-1234/journal.jsonl"], 10, r"would upload run folders: old/runs \(0.0 MB\)"),
        (["results/studies.db"], 10, "would upload run folders: results/studies.db"),
        (["photos/a.png", "photos/b.JPG"], 2**20, r"would upload data: photos/a.png \(1.0 MB\), photos/b.JPG"),
        (["net.safetensors", "pic.png"], 2**20, r"would upload data: .*net.safetensors \(1.0 MB\)"),
        (["a/b/c.txt", "a/b/d.txt", "e.txt"], 8 * 2**20, r"24.0 MB, over 20.0 MB: a/b \(16.0 MB\), e.txt \(8.0 MB\)"),
        (["conf/head.pem"], 10, "secret: conf/head.pem"),
        (["auth_token"], 10, "secret: auth_token"),
    ],
)
def test_what_may_not_travel_is_named(names: list[str], size: int, said: str, project: Path) -> None:
    for name in names:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        with (project / name).open("wb") as file:
            file.truncate(size)
    with pytest.raises(InputError, match=said) as refused:
        check(project)
    assert "\n" not in str(refused.value) and ".rayignore" in str(refused.value)


def test_a_small_picture_is_no_data_set(project: Path) -> None:
    (project / "logo.png").write_bytes(bytes(submit.DATA_BYTES))
    check(project)
    (project / "logo.png").write_bytes(bytes(submit.DATA_BYTES + 1))
    with pytest.raises(InputError, match=r"would upload data: logo\.png"):
        check(project)


def test_the_config_must_travel_and_our_output_must_not(project: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.yaml").write_text("name: x")
    with pytest.raises(InputError, match=r"\.\./outside.yaml: would not travel"):
        check(project, "../outside.yaml")
    with pytest.raises(InputError, match="means another file on the cluster"):
        check(project, str(project / "mine.yaml"))
    check(project, "quick")  # a preset, which comes with the code

    code = (
        "from pathlib import Path\nfrom cluster import submit\nfrom sr_models.errors import InputError\n"
        "folder = Path.cwd()\n"
        "try:\n    submit.check_upload(submit.travelling(folder), folder, 'mine.yaml')\n"
        "except InputError as error:\n    raise SystemExit(str(error))\n"
    )
    with (project / "ok.txt").open("w") as out:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=out, stderr=subprocess.PIPE, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1 and b"output goes to ok.txt" in done.stderr


# ---- token, address, head, line ----


def test_the_token(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="RAY_AUTH_MODE=: expected token"):
        submit.check_token({}, tmp_path)
    with pytest.raises(InputError, match="RAY_AUTH_MODE=disabled: expected token"):
        submit.check_token({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": TOKEN}, tmp_path)
    with pytest.raises(InputError, match=r"no token: .*auth_token is not there or empty"):
        submit.check_token({"RAY_AUTH_MODE": "token"}, tmp_path)
    path = tmp_path / "cluster.token"
    path.write_text(TOKEN)
    path.chmod(0o644)
    given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
    with pytest.raises(InputError, match=r"others can read the token \(mode 644\)") as refused:
        submit.check_token(given, tmp_path)
    assert TOKEN not in str(refused.value)
    path.chmod(0o600)
    submit.check_token(given, tmp_path)
    submit.check_token({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}, tmp_path)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8265", "http://host", "http://host:x", "ray://h:1", "http://u:p@h:1", "http://h:1/x"]
)
def test_addresses_of_the_wrong_form(address: str) -> None:
    with pytest.raises(InputError, match="expected http://HOST:PORT"):
        submit.check_address(address)


def test_a_token_in_clear_over_a_network_is_warned_of(capsys: pytest.CaptureFixture) -> None:
    assert submit.check_address("http://127.0.0.1:8265/") == "http://127.0.0.1:8265"
    assert submit.check_address("https://head.lab:8265") == "https://head.lab:8265"
    assert capsys.readouterr().err == ""
    submit.check_address("http://10.0.0.5:8265")
    assert "not encrypted" in capsys.readouterr().err


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server on loopback that answers everything with one status and notes whether a token came along."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert "Authorization" not in self.headers
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_an_open_head_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody; a tunnel's end is not behind it
    with answering(401) as address:
        submit.check_head(address, allow_anonymous=False)
    with answering(200) as address:
        submit.check_head(address, allow_anonymous=True)
        with pytest.raises(InputError, match="answers requests without a token"):
            submit.check_head(address, allow_anonymous=False)
    with answering(404) as address, pytest.raises(InputError, match=r"answers 404 .* not a Ray head"):
        submit.check_head(address, allow_anonymous=False)
    with pytest.raises(InputError, match="nobody answers"):
        submit.check_head(address, allow_anonymous=False)


def test_the_line_depends_on_what_was_typed_alone_and_holds_no_password() -> None:
    assert submit.entrypoint("mine.yaml", ["train.steps=5"], ["--storage", "s3://b/runs"]) == [
        *["python", "-m", "orchestrator.sweep", "mine.yaml", "train.steps=5", "--storage", "s3://b/runs"]
    ]
    for word in (
        "--studies-uri=postgresql+psycopg://sr:hunter2@db/optuna",
        "s3://KEY:hunter2@bucket/runs",
        "postgresql://sr:hun/ter2@db/optuna",
        "http://host/x?a=b&sig=hunter2",
    ):
        with pytest.raises(InputError, match=r"no place for a password") as refused:
            submit.entrypoint("mine.yaml", [], ["--x", word])
        assert "hunter2" not in str(refused.value)


class StartingHead:
    """A Jobs client whose head has no process for jobs until it was asked `refusals` times."""

    def __init__(self, refusals: int, said: str = "status code 500: No available agent to submit job") -> None:
        self.refusals, self.said = refusals, said

    def list_jobs(self) -> list[object]:
        return []

    def submit_job(self, **given: object) -> str:
        self.refusals -= 1
        if self.refusals >= 0:
            raise RuntimeError(self.said)
        return str(given["entrypoint"])


def test_a_head_that_is_still_starting_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert submit.submit(StartingHead(1), ["python", "a b"], ROOT) == "python 'a b'"
    with pytest.raises(ConnectionError, match="status code 413"):  # anything else is not asked for twice
        submit.submit(StartingHead(1, "status code 413: too\nlarge"), ["python"], ROOT)
    monkeypatch.setattr(submit, "AGENT_S", 0.0)
    with pytest.raises(ConnectionError, match="No available agent"):
        submit.submit(StartingHead(9), ["python"], ROOT)


def test_the_board_is_read_off_the_output() -> None:
    assert submit.board_link("x\nthe board in it: http://h:1/#/a?b=c\n") == "http://h:1/#/a?b=c"
    assert submit.board_link("the board in it: not delivered yet, see tracking.log\n") is None
    assert submit.board_link("nothing\n") is None


def test_a_config_that_the_sweep_refuses_is_refused_in_its_words(project: Path) -> None:
    assert submit.check_config(submit.entrypoint("mine.yaml", [], []), project) == "the plan\n"
    with pytest.raises(InputError, match=r"^unknown key 'typo'$"):
        submit.check_config(submit.entrypoint("mine.yaml", ["typo=1"], []), project)


@pytest.mark.timeout(90)
def test_the_real_sweep_judges_configs() -> None:
    assert "10 combinations" in submit.check_config(submit.entrypoint("quick", [], []), ROOT)
    with pytest.raises(InputError, match=r"unknown key 'step'.*did you mean 'steps'"):
        submit.check_config(submit.entrypoint("quick", ["train.step=5"], []), ROOT)


# ---- a real head ----


def command(head: dict[str, str], *words: str) -> list[str]:
    return [sys.executable, "-m", "cluster.submit", "mine.yaml", "--address", head["ADDRESS"], *words]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_job_runs_and_its_exit_code_is_ours(head: dict[str, str], project: Path) -> None:
    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(head, *words),
            cwd=project, env={**head, **environment}, capture_output=True, text=True, timeout=80,
        )  # fmt: skip

    for method in ("GET", "POST"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(urllib.request.Request(f"{head['ADDRESS']}/api/jobs/", method=method), timeout=10)

    # An address in the environment would silently win inside Ray's client.
    good = run("a=1", "--", "--storage", "s3://bucket/runs", RAY_ADDRESS="http://127.0.0.1:9")
    assert good.returncode == 0, good.stderr
    assert "the plan" in good.stdout and "flags ['mine.yaml', 'a=1', '--storage', 's3://bucket/runs']" in good.stdout
    assert "board:  http://127.0.0.1:5000/#/experiments/1" in good.stdout
    resume = f"python -m cluster.submit mine.yaml --address {head['ADDRESS']} a=1 -- --storage s3://bucket/runs"
    assert f"resume: {resume}" in good.stdout

    bad = run("code=7")
    assert bad.returncode == 7 and "FAILED" in bad.stderr

    wrong = run("a=2", RAY_AUTH_TOKEN="0" * 64)
    assert wrong.returncode == 2 and "Authentication failed" in wrong.stderr
    assert not any(TOKEN in done.stdout + done.stderr for done in (good, bad, wrong))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ctrl_c_detaches_a_twin_is_refused_and_a_stopped_job_ends_with_130(head: dict[str, str], project: Path) -> None:
    first = subprocess.Popen(
        command(head, "sleep=100"),
        cwd=project, env=head, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in a shell's background ignore it
    )  # fmt: skip
    try:
        assert first.stdout is not None
        while "flags" not in (line := first.stdout.readline()):
            assert line, first.communicate()
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=30)
    finally:
        first.kill()
    assert first.returncode == 130
    assert "goes on" in said and "ray job logs -f" in said and "ray job stop" in said and "resume: python -m" in said

    job = said.split("detached; ")[1].split()[0]
    follower = (
        "import os, sys\nfrom cluster import submit\n"
        f"client = submit.connect({head['ADDRESS']!r})\n"
        "line = submit.entrypoint('mine.yaml', ['sleep=100'], [])\n"
        "try:\n    submit.submit(client, line, None)\n"
        "except submit.InputError as error:\n    print('REFUSED', error)\n"
        f"client.stop_job({job!r})\n"
        f"sys.exit(submit.follow(client, {job!r}, print))\n"
    )
    done = subprocess.run([sys.executable, "-c", follower], env=head, capture_output=True, text=True, timeout=80)
    assert f"REFUSED this sweep runs already, as {job}" in done.stdout, done.stderr
    assert done.returncode == 130 and "STOPPED" in done.stderr


def test_output_that_nobody_reads_is_no_lost_head(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def get_address(self) -> str:
            return "http://127.0.0.1:8265"

    def follow(*_: object) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(submit, "follow", follow)
    with pytest.raises(BrokenPipeError):  # which `run_command` answers
        submit._watch(Client(), "job", "the same line")
