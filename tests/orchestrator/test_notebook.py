"""A sweep in a Jupyter kernel: what stands under its cells, and its interrupt, after which the same cell goes on.

nbclient (https://nbclient.readthedocs.io) runs the cells as a browser would ask for them.
"""

import asyncio
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from orchestrator.run import journal
from orchestrator.run.journal import JOURNAL

ROOT = Path(__file__).resolve().parents[2]
MARK = "SR_NOTEBOOK_TEST"
"""Environment variable that the kernel and all that it starts inherit."""
SECONDS = 250
"""Longest one cell may take; an idle machine needs a tenth."""

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(3 * SECONDS),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes it started in /proc"),
]


def started(mark: str) -> list[str]:
    """Commands of the kernel's processes, without its own."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_text().replace("\0", " ")[:80])
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return [command for command in found if "ipykernel" not in command]


def under_way(runs: Path) -> bool:
    """Whether a trial has validated and not ended."""
    found = [journal.read(path) for path in runs.glob(f"shared/trials/*/{JOURNAL}")]
    return any(entries and journal.end(entries) is None for entries in found)


def streams(cell: Any) -> dict[str, str]:
    """Its standard output and standard error."""
    said = {"stdout": "", "stderr": ""}
    for output in cell.outputs:
        if output.output_type == "stream":
            said[output.name] += output.text
    return said


def test_cells_say_how_far_it_is_end_at_an_interrupt_and_go_on(photographs, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient (the extra [notebook])")
    pytest.importorskip("ipykernel", reason="needs ipykernel (the extra [notebook])")
    import nbformat

    config = {
        "name": "tiny", "models": {"edsr_baseline": {"channels": 8, "blocks": 1}}, "objectives": {"charbonnier": {}},
        "data": {
            "train": [{"hr": str(photographs(tmp_path / "train", 1))}],
            "validation": [{"hr": str(photographs(tmp_path / "validation", 1, 1))}],
            "test": {"own": {"hr": str(photographs(tmp_path / "test", 1, 2))}},
        },
        "train": {"steps": 600, "batch_size": 4, "patch": 8, "validate_every": 50, "checkpoint_every": 50},
        "search": {"trials": 2}, "evaluation": {"metrics": ["psnr_y"]},
    }  # fmt: skip
    cells = [nbformat.v4.new_code_cell(source) for source in (
        f"from orchestrator.api import load_run, run_sweep\nconfig = {config!r}",
        "run = run_sweep(config)", "run = run_sweep(config)", "run.board", "run.board.to_dataframe()",
        "other = run_sweep(config, ['name=other'])", "print(load_run(other.folder).board.best.name)",
    )]  # fmt: skip
    mark, left = uuid.uuid4().hex, []
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "PYTEST_"))}
    client = nbclient.NotebookClient(
        nbformat.v4.new_notebook(cells=cells), kernel_name="python3", timeout=SECONDS, allow_errors=True,
        resources={"metadata": {"path": str(tmp_path)}},
    )  # fmt: skip

    async def interrupt() -> None:
        while not under_way(tmp_path / "runs"):
            await asyncio.sleep(0.05)
        await client.km.interrupt_kernel()

    async def look(**_: Any) -> None:
        for _attempt in range(50):
            if not (found := started(mark)):
                break
            await asyncio.sleep(0.1)
        left.append(found)

    async def execute() -> None:
        client.on_cell_executed = look
        interrupting = asyncio.create_task(interrupt())
        await client.async_execute(env=clean | {"PYTHONPATH": str(ROOT), MARK: mark})
        assert interrupting.done()

    asyncio.run(execute())
    _, cut, whole, board, frame, second, last = cells
    print(streams(cut)["stderr"], streams(whole)["stderr"], streams(whole)["stdout"])

    assert cut.outputs[-1].output_type == "error"
    assert (cut.outputs[-1].ename, cut.outputs[-1].evalue) == ("KeyboardInterrupt", "go on with: the same call")
    for cell in (cut, whole, second):
        said = streams(cell)
        lines = said["stderr"].splitlines()
        assert lines[0].startswith("device: ") and len(lines) < 60, "nothing of it was cleared, and it is short"
        assert "\r" not in said["stderr"] and "\x1b" not in said["stderr"] and "arning" not in said["stderr"]
        assert cell is cut or {output.output_type for output in cell.outputs} == {"stream"}
    assert "\nsearch 0% 0/1200 step" in streams(cut)["stderr"] and "\nsearch 100% 1200/1200" in streams(whole)["stderr"]
    assert "\nalready there: 3 of 3 trials" in streams(second)["stderr"]
    assert left == [[]] * len(cells)

    table = board.outputs[0].data["text/plain"]
    assert table in streams(whole)["stdout"] and table.count("edsr_baseline × charbonnier") >= 2
    assert "<table" in frame.outputs[0].data["text/html"]
    assert streams(last)["stdout"] == "edsr_baseline × charbonnier\n"
