"""`python -m orchestrator.leaderboard`: one line for a folder that has no board, and none of the heavy packages."""

import errno
import json
import subprocess
import sys
from pathlib import Path

from orchestrator.leaderboard.__main__ import main

ROOT = Path(__file__).resolve().parents[3]


def test_folders_without_a_board(tmp_path, capsys, make):
    assert main([str(tmp_path / "none")]) == 2
    assert main([str(tmp_path)]) == 2
    empty = make(tmp_path / "run", [])
    assert main([str(empty), "--step", "9"]) == 2
    (empty / "evaluation" / "x.parquet").write_bytes(b"PAR1 cut")
    assert main([str(empty)]) == 2
    (empty / "config.yaml").unlink()
    assert main([str(empty)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    expected = ("not a folder", "plan.json", "no scores yet", "cannot be read", "config.yaml")
    assert all(text in line for text, line in zip(expected, lines, strict=True))


def test_import_needs_neither_torch_nor_ray_nor_mlflow() -> None:
    code = "import sys; sys.modules.update(torch=None, ray=None, mlflow=None); import orchestrator.leaderboard.__main__"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_board_is_printed_and_nothing_is_written(tmp_path, capsys, score, make):
    run = make(tmp_path / "run", [score("x2/a/l1", 31.25), score("x2/bicubic/-", 30.0)])
    assert main([str(run)]) == 0
    said = capsys.readouterr()
    assert "31.25         +1.25" in said.out and "over images" not in said.out and said.err == ""
    assert not list(run.glob("leaderboard.*"))


def test_images_are_asked_for(tmp_path, capsys, score, make):
    rows = [score(f"x2/{m}/l1", 31.0 + k, image=f"i{k}") for m in "ab" for k in range(3)]
    assert main([str(make(tmp_path / "run", rows)), "--images"]) == 0
    assert "over images" in capsys.readouterr().out


def test_a_folder_that_takes_no_tables_is_one_line(tmp_path, capsys, score, make, refuse_writing):
    run, out = make(tmp_path / "run", [score("x2/a/l1", 31.25), score("x2/bicubic/-", 30.0)]), tmp_path / "out"
    for number in (errno.EROFS, errno.ENOSPC):
        refuse_writing(out, number)
        assert main([str(run), "-o", str(out)]) == 2
    read_only, full = capsys.readouterr().err.splitlines()
    assert read_only.endswith(f": --output: {out} cannot be written (Read-only file system)")
    assert full.endswith(f": the disk of {tmp_path} is full (or your quota)")


def test_several_runs_are_compared_and_written_where_one_says(tmp_path, capsys, score, make):
    runs = [str(make(tmp_path / name, [score(f"x2/{name}/l1", 31.0), score("x2/bicubic/-", 30.0)])) for name in "ab"]
    assert main([*runs, "-o", str(tmp_path / "both")]) == 0
    assert "2 runs on one board: a, b;" in capsys.readouterr().out
    files = {path.name for path in (tmp_path / "both").iterdir()}
    assert files >= {"leaderboard.csv", "leaderboard.json", "leaderboard.md", "leaderboard.tex"}
    assert json.loads((tmp_path / "both" / "leaderboard.json").read_text())["runs"] == {"a": "a", "b": "b"}
    assert main([runs[0], runs[0]]) == 2
