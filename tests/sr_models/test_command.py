"""What every `python -m` does alike: exit codes, one error line, Ctrl-C, SIGTERM, and output that nobody reads."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import submit, validate
from eval import __main__ as evaluation
from eval import weights_command
from orchestrator import export, replay, status, sweep, upscale
from orchestrator.evaluate import __main__ as evaluate
from orchestrator.leaderboard import __main__ as leaderboard
from orchestrator.tracking import __main__ as tracking
from sr_models import __main__ as networks
from sr_models import command
from sr_models.command import Parser, run_command
from sr_models.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
MAINS = {
    "sr_models": networks.main,
    "eval": evaluation.main,
    "eval weights": weights_command.main,
    "cluster.submit": submit.main,
    "cluster.validate": validate.main,
    "orchestrator.evaluate": evaluate.main,
    "orchestrator.export": export.main,
    "orchestrator.leaderboard": leaderboard.main,
    "orchestrator.replay": replay.main,
    "orchestrator.status": status.main,
    "orchestrator.sweep": sweep.main,
    "orchestrator.tracking": tracking.main,
    "orchestrator.upscale": upscale.main,
}


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain ä × 日本\n\tnext", "plain ä × 日本\n\tnext"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("\r\x00\x7f\x9b2J", "\\r\\x00\\x7f\\x9b2J"),
        ("gpj.\u202egnp", "gpj.\\u202egnp"),
        ("caf\udce9", "caf\\udce9"),
    ],
)
def test_nothing_is_printed_that_a_terminal_would_obey(
    text: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command.say(text)
    command.tell(text)
    assert run_command("prog", raising(InputError(text)), []) == 2
    said = capsys.readouterr()
    assert said.out == printed + "\n"
    assert said.err == f"{printed}\nprog: {printed}\n".replace(
        "\n\tnext\nprog: plain ä × 日本\n\t", "\n\tnext\nprog: plain ä × 日本\\n\t"
    )


def raising(error: BaseException) -> Callable[[list[str]], int]:
    def body(_: list[str]) -> int:
        raise error

    return body


def python(*arguments: str, stdout: int | None = subprocess.PIPE) -> subprocess.Popen[str]:
    """A process of ours, buffered unless `arguments` say otherwise."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True
    )


def without_a_reader(*arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a process whose stdout is a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = python(*arguments, stdout=writing)
    finally:
        os.close(writing)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_the_exit_codes() -> None:
    codes = {name: code for name, code in vars(command).items() if name.startswith("EXIT_")}
    table = codes.pop("EXIT_CODES")
    assert codes == {
        "EXIT_DONE": 0, "EXIT_FAILED": 1, "EXIT_INPUT": 2, "EXIT_LOST": 3, "EXIT_UNSCORED": 4, "EXIT_BUDGET": 5,
        "EXIT_INTERRUPTED": 130,
    }  # fmt: skip
    assert set(table) == set(codes.values()) and all(table.values())


def test_the_code_and_the_arguments_are_the_commands_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prog", "of", "this", "process"])
    assert run_command("prog", len, ["one"]) == 1
    assert run_command("prog", len, []) == 0
    assert run_command("prog", len, None) == 3


@pytest.mark.parametrize("name", MAINS)
def test_every_command_says_its_version(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        MAINS[name](["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out.startswith("sr-sweep ")


@pytest.mark.parametrize("name", MAINS)
def test_a_mistake_is_one_line_and_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert MAINS[name](["--no-such-option"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"python -m {name}: "), said.err


@pytest.mark.parametrize(
    ("error", "how", "said"),
    [
        (KeyboardInterrupt(), "", "\ninterrupted\n"),
        (KeyboardInterrupt(), "the same command goes on", "\ninterrupted; the same command goes on\n"),
        (KeyboardInterrupt("go on with: this"), "or that", "\ninterrupted; go on with: this\n"),
    ],
)
def test_ctrl_c_is_130_and_says_how_to_go_on(
    error: BaseException, how: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("prog", raising(error), [], interrupted=how) == 130
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("error", [ValueError("ours"), BrokenPipeError(32, "of a socket")])
def test_a_defect_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        run_command("prog", raising(error), [])
    assert caught.value is error


def test_subcommands_complain_alike() -> None:
    parser = Parser(prog="prog")
    parser.add_subparsers(dest="verb").add_parser("list").add_argument("--count", type=int)
    with pytest.raises(InputError, match=r"^argument --count: invalid int value: 'x'$"):
        parser.parse_args(["list", "--count", "x"])


WAITING = """
import sys, time
from eval import __main__, command
def wait(request):
    print("here", flush=True)
    time.sleep(60)
command.prepare_outputs = wait
{before}
sys.exit(__main__.main(["--model", "bicubic", "--scale", "2", "--hr", "x"]))
"""


@pytest.mark.parametrize(
    ("signum", "before"),
    [
        (signal.SIGINT, "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"),
        (signal.SIGTERM, "from sr_models.command import interrupt_on_sigterm; interrupt_on_sigterm()"),
    ],
)
def test_a_signal_ends_python_m_eval_with_a_word(signum: int, before: str) -> None:
    process = python("-c", WAITING.format(before=before))
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    began = time.monotonic()
    process.send_signal(signum)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "\ninterrupted\n")
    assert time.monotonic() - began < 30


# ---- output that nobody reads


@pytest.mark.parametrize(
    "arguments",
    [
        ("sr_models", "list"),
        ("sr_models", "list", "--json"),  # more than a buffer holds: the print itself fails
        ("eval", "--help"),
        ("cluster.submit", "--help"),
        ("cluster.validate", "cluster/autoscale.yaml"),
        ("orchestrator.evaluate", "--run", "x", "--help"),
        ("orchestrator.leaderboard", "--help"),
        ("orchestrator.sweep", "--keys"),
        ("orchestrator.sweep", "--preset", "quick", "--dry-run"),
        ("orchestrator.tracking", "--help"),
    ],
    ids=" ".join,
)
def test_a_closed_pipe_ends_a_command_quietly(arguments: tuple[str, ...]) -> None:
    assert without_a_reader("-m", *arguments) == (0, "")


@pytest.mark.parametrize("unbuffered", [[], ["-u"]])
def test_one_that_goes_while_we_print_does_too(unbuffered: list[str]) -> None:
    """As in `python -m sr_models list | head -1`."""
    process = python(*unbuffered, "-m", "sr_models", "list", "--json")
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "[\n"
    process.stdout.close()
    said = process.stderr.read()
    assert (process.wait(timeout=60), said) == (0, "")


def test_a_closed_pipe_does_not_change_a_verdict(tmp_path: Path) -> None:
    """Whoever reads one line of faults, or none, still gets the code that says there are some."""
    (tmp_path / "Dockerfile").write_text("FROM debian\n")
    assert without_a_reader("-m", "cluster.validate", str(tmp_path / "Dockerfile")) == (1, "")
    code, said = without_a_reader("-m", "cluster.validate", "cluster/autoscale.yaml", str(tmp_path / "none"))
    assert code == 2 and said.startswith("python -m cluster.validate: ") and said.count("\n") == 1


@pytest.mark.parametrize("stdout", ["read", "closed"])
def test_a_pipe_of_somebody_else_is_not_hidden(stdout: str) -> None:
    """Neither while stdout is read, nor where there is none (`>&-`)."""
    body = "import os; os.close(1); sys.stdout = None" if stdout == "closed" else ""
    script = f"""
import socket, sys
from sr_models.command import run_command
{body}
def work(_):
    here, there = socket.socketpair()
    there.close()
    here.send(b"x")
sys.exit(run_command("prog", work, []))
"""
    process = python("-c", script)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and said.splitlines()[-1] == "BrokenPipeError: [Errno 32] Broken pipe"


def test_a_report_is_written_though_nobody_reads_the_table(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "hr").mkdir()
    for i in range(100):  # more lines than a buffer holds
        Image.new("RGB", (16, 16), (i, 0, 0)).save(tmp_path / "hr" / f"{'long_' * 20}{i}.png")
    code = without_a_reader(
        "-m", "eval", "--images", str(tmp_path / "hr"), "--hr", str(tmp_path / "hr"), "--scale", "2", "--per-image",
        "--json", str(tmp_path / "report.json"), "--metrics", "psnr_y",
    )  # fmt: skip
    assert code == (0, "") and (tmp_path / "report.json").stat().st_size > 10_000
