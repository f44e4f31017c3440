"""Where a row's weights lie, which row is asked for, and the line that puts one to use."""

import pytest

from orchestrator.leaderboard import use
from orchestrator.leaderboard.compare import boards
from orchestrator.leaderboard.text import markdown, text
from orchestrator.run.folder import RunDir
from sr_models.errors import InputError

TRIAL = "0123456789abcdef" + "0" * 48


@pytest.fixture
def run(tmp_path, score, winner, make):
    rows = [
        score("x2/bicubic/-", 33.0),
        score("x2/edsr/l1", 31.0, fingerprint=TRIAL, seed=2),
        score("x2/edsr/l1", 30.0, fingerprint="f" * 64, seed=1),
        score("x2/edsr/l1", 32.0, fingerprint=TRIAL, seed=2, weights="ema"),
        score("x2/edsr/l1", 32.0, fingerprint=TRIAL, seed=3, weights="ema"),
        score("x4/edsr/[a]", 29.0),
    ]
    return make(
        tmp_path / "a run",
        rows,
        {"x2/edsr/l1": winner(1, "f" * 64, TRIAL), "x4/edsr/[a]": winner(1, "x4/edsr/[a]#0")},
    )


def test_every_row_says_where_its_first_seed_lies(run):
    board, _ = boards(run)
    assert {entry.id: entry.folder for entry in board.entries} == {
        "x2/bicubic/-/none/fp32": "",
        "x2/edsr/l1/raw/fp32": "shared/trials/ffffffffffffffff/model",
        "x2/edsr/l1/ema/fp32": "shared/trials/0123456789abcdef/model_ema",
    }
    entry = board.entries[1]
    assert (entry.weights, use.weights_folder(RunDir(run), entry, 5)) == (
        "ema",
        "shared/trials/0123456789abcdef/snapshots/5/model_ema",
    )


def test_every_board_ends_with_the_line_for_its_best_row(run):
    line = f"python -m orchestrator.upscale '{run}' PHOTOS -o OUT --row "
    first, second = boards(run)
    assert use.upscale_line(first, first.entries[1]) == line + "x2/edsr/l1/ema/fp32", "several rows are of it"
    assert text([first]).endswith(f"\n  {line}x2/edsr/l1/ema/fp32"), "in one piece, to be copied"
    assert markdown([second]).endswith(f"- photographs by edsr × [a]: `{line}'x4/edsr/[a]'`\n")
    second.trained_scale = 2
    assert use.upscale_line(second, second.entries[0]) == line + "'x4/edsr/[a]' --scale 4"


@pytest.mark.parametrize(
    ("row", "scale", "id"),
    [
        (None, 2, "x2/edsr/l1/ema/fp32"),
        ("1", 2, "x2/bicubic/-/none/fp32"),
        ("x2/edsr/l1", None, "x2/edsr/l1/ema/fp32"),
        ("x2/edsr/l1/raw/fp32", None, "x2/edsr/l1/raw/fp32"),
        ("x4/edsr/[a]", 8, "x4/edsr/[a]/raw/fp32"),
    ],
)
def test_rows_are_chosen_by_place_by_name_or_as_the_best_that_was_trained(run, row, scale, id):
    assert use.chosen(boards(run), row, scale)[1].id == id


@pytest.mark.parametrize(
    ("row", "scale", "said"),
    [
        (None, None, "--scale: boards at ×2, ×4 have rows of their own"),
        ("1", None, "--scale: boards at ×2, ×4"),
        ("4", 2, "--row: the board at ×2 has rows 1 to 3, got 4"),
        (None, 3, "--scale: no board at ×3; there are ×2, ×4"),
        ("x2/edsr/l2", None, "--row: no row 'x2/edsr/l2'; did you mean"),
    ],
)
def test_what_is_no_row_is_refused(run, row, scale, said):
    with pytest.raises(InputError, match="^" + said.replace("--", "\\-\\-")):
        use.chosen(boards(run), row, scale)
