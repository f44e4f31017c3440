"""A board with a paper's numbers: where they stand, what stands beside them, which boards they do not belong to."""

import csv
import io
import itertools
import json
from pathlib import Path

import pytest

from orchestrator.leaderboard.compare import boards
from orchestrator.leaderboard.paper import beside_paper
from orchestrator.leaderboard.text import WIDTH, markdown, text
from orchestrator.leaderboard.write import write

CONFIG = """
evaluation: {metrics: [psnr_y, ssim_y], tile: TILE}
paper:
  source: Table 1 of a paper, https://arxiv.org/abs/2312.17526
  scores:
    x2/edsr/l1: {Set5: {psnr_y: 33.505, ssim_y: 0.9}, Set14: {psnr_y: 30.0}}
    x2/bicubic/-: {Set5: {psnr_y: 29.0}}
    x2/unknown/l1: {Set5: {psnr_y: 50}}
  parameters: {x2/edsr/l1: 1370000}
"""


@pytest.fixture
def run(tmp_path: Path, score, make) -> Path:
    """Two networks and bicubic on Set5, of which a paper prints some, and on photographs, of which it prints none."""
    return _run(tmp_path, score, make)


def _run(tmp_path: Path, score, make, tile: str = "null", **over) -> Path:
    rows = [
        score(f"x2/{name}", psnr, benchmark=benchmark, ssim_y=0.91, **over)
        for benchmark in ("Set5", "photographs")
        for name, psnr in (("edsr/l1", 33.0), ("edsr/kd", 31.0), ("bicubic/-", 29.5))
    ]
    folder = make(tmp_path / "run", rows)
    (folder / "config.yaml").write_text(CONFIG.replace("TILE", tile))
    return folder


def test_ours_the_papers_and_the_difference_stand_side_by_side(run: Path) -> None:
    [board] = boards(run)
    said = text([board])
    shown = said[said.index("×2, beside the paper: ") :].splitlines()
    assert [" ".join(line.split()) for line in shown[:4]] == [
        "×2, beside the paper: Table 1 of a paper, https://arxiv.org/abs/2312.17526",
        "model × objective Set5 paper difference Set5 ssim_y paper difference",
        "edsr × l1 33.00 33.505 -0.51 0.9100 0.9000 +0.0100",
        "bicubic 29.50 29.00 +0.50 0.9100 - -",
    ]
    page = markdown([board])
    assert "### ×2, beside the paper: Table 1" in page
    assert "| edsr × l1 | 33.00 | 33.505 | -0.51 | 0.9100 | 0.9000 | +0.0100 |" in page
    assert "as printed" in said and "1.37 M" in said, "the paper's count of parameters stands beside ours"


def test_what_is_printed_is_in_the_files(run: Path) -> None:
    write(run)
    data = json.loads((run / "leaderboard.json").read_text())
    assert data["paper"] == "Table 1 of a paper, https://arxiv.org/abs/2312.17526"
    by_row = {(row["combination"], row["benchmark"]): row["metrics"]["psnr_y"] for row in data["rows"]}
    found = by_row["x2/edsr/l1", "Set5"]
    assert (found["paper"], found["over_paper"]) == (33.505, pytest.approx(-0.505))
    assert by_row["x2/edsr/kd", "Set5"]["paper"] is by_row["x2/edsr/l1", "photographs"]["paper"] is None
    table = list(csv.DictReader(io.StringIO((run / "leaderboard.csv").read_text())))
    [line] = [line for line in table if line["psnr_y_paper"] == "33.505"]
    assert (line["combination"], line["benchmark"], line["paper_parameters"]) == ("x2/edsr/l1", "Set5", "1370000")


def test_the_lead_has_a_printed_mean_only_where_all_of_its_columns_are_printed(tmp_path: Path, score, make) -> None:
    both = {"Set5": 33.505, "Set14": 30.0}
    rows = [score("x2/edsr/l1", 33.0, benchmark=name) for name in both]
    folder = make(tmp_path / "run", rows)
    (folder / "config.yaml").write_text(CONFIG.replace("TILE", "null"))
    [board] = boards(folder)
    assert board.entries[0].lead.paper == pytest.approx((33.505 + 30.0) / 2)
    (folder / "config.yaml").write_text(CONFIG.replace("TILE", "null").replace(", Set14: {psnr_y: 30.0}", ""))
    assert boards(folder)[0].entries[0].lead.paper is None


@pytest.mark.parametrize(
    ("protocol", "tile", "shown"),
    [
        ("classical-y-b2", "null", True),
        ("classical-y-b2+tile96o8", "96", True),
        ("classical-y-b2-noise0.01", "null", True),
        ("classical-y-b2-noise1e-05+tile96o8", "96", True),
        ("classical-y-b2+x8", "null", False),
        ("classical-y-b2+tile96o8+x8", "null", False),
        ("uncropped-y-b0", "null", False),
    ],
)
def test_a_board_of_another_protocol_has_no_papers_numbers(tmp_path: Path, score, make, protocol, tile, shown) -> None:
    [board] = boards(_run(tmp_path, score, make, tile, protocol=protocol))
    assert (beside_paper(board) is not None) is shown


def test_a_smaller_run_says_that_its_differences_mean_nothing(run: Path) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text() + "  scaled_down: true\n  beside: {photographs: Set5}\n")
    said = text(boards(run))
    assert "scaled down: images, steps and channels" in said and "photographs  paper Set5  difference" in said
    assert "as printed, full size" in said


def test_a_narrow_terminal_gets_further_tables(tmp_path: Path, score, make) -> None:
    name = "a_network_with_a_long_name"
    printed = {f"Set{i}": {"psnr_y": 30.0, "ssim_y": 0.9} for i in range(5)}
    folder = make(tmp_path / "run", [score(f"x2/{name}/l1", 31.0, benchmark=b, ssim_y=0.9) for b in printed])
    paper = {"source": "s", "scores": {f"x2/{name}/l1": printed}}
    (folder / "config.yaml").write_text(json.dumps({"evaluation": {"metrics": ["psnr_y"]}, "paper": paper}))
    said = text(boards(folder))
    lines = said[said.index("×2, beside the paper") : said.index("cost:")].splitlines()
    assert max(map(len, lines)) <= WIDTH == 80 and sum(line.count("paper") for line in lines[1:]) == 10


def test_rows_that_are_printed_only_are_shown_as_such_and_ranked_nowhere(tmp_path: Path, score, make) -> None:
    rows = [score("x2/edsr/l1", 33.0 + i, image=f"{i}", seconds=taken) for i, taken in enumerate((9.0, 0.25, 0.125))]
    folder = make(tmp_path / "run", rows)
    other = {"scores": {"Set5": {"psnr_y": 35.25}}, "parameters": 1409110000, "seconds": 18.9}
    paper = {
        "source": "s",
        "seconds": {"x2/edsr/l1": 2.22},
        "printed_only": {"StableSR": other, "PASD": {"seconds": 6.11}},
    }
    (folder / "config.yaml").write_text(json.dumps({"evaluation": {"metrics": ["psnr_y"]}, "paper": paper}))
    said = write(folder)
    shown = said[said.index("×2, printed only: rows of the paper that nothing here has trained") :].splitlines()
    assert [" ".join(line.split()) for line in shown[1:4]] == [
        "row Set5 psnr_y parameters s/picture", "StableSR 35.25 1409.11 M 18.9", "PASD - - 6.11",
    ]  # fmt: skip
    heads, ours = next((a, b) for a, b in itertools.pairwise(said.splitlines()) if "s/picture" in a and "edsr" in b)
    assert "as printed s" in heads and "0.25" in ours and "2.22" in ours, "ours is the median: the first one warms up"
    assert "| StableSR | 35.25 | 1409.11 M | 18.9 |" in (folder / "leaderboard.md").read_text()
    files = (folder / "leaderboard.json").read_text() + (folder / "leaderboard.csv").read_text()
    assert "StableSR" not in files and "StableSR" not in said[: said.index("printed only")]


def test_a_run_without_a_paper_shows_none(tmp_path: Path, score, make) -> None:
    folder = make(tmp_path / "run", [score("x2/edsr/l1", 33.0)])
    said = write(folder).replace(str(tmp_path), "")
    assert "paper" not in said and "paper" not in json.loads((folder / "leaderboard.json").read_text())
