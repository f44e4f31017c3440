"""The board compares like with like: ranks, gains, spread and ties from rows whose means are known by hand."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.leaderboard import compare as leaderboard
from orchestrator.leaderboard import text as board_text
from orchestrator.leaderboard.write import write
from sr_models.errors import InputError


def test_means_spread_gain_and_order(tmp_path, score, make):
    rows = [
        score("x2/bicubic/-", 30.0), score("x2/bicubic/-", 32.0, image="bird"),
        score("x2/edsr/l1", 31.0), score("x2/edsr/l1", 33.0, image="bird"),
        score("x2/edsr/l1", 31.2, seed=1), score("x2/edsr/l1", 33.2, image="bird", seed=1),
        score("x2/imdn/eco", 32.5), score("x2/imdn/eco", 34.5, image="bird"),
    ]  # fmt: skip
    found = leaderboard.rows(make(tmp_path / "run", rows))
    assert [row["combination"] for row in found] == ["x2/imdn/eco", "x2/edsr/l1", "x2/bicubic/-"]
    assert [row["rank"] for row in found] == [1, 2, 3]
    edsr = found[1]["metrics"]["psnr_y"]
    assert edsr["mean"] == pytest.approx(32.1) and edsr["gain"] == pytest.approx(1.1)
    assert edsr["std"] == pytest.approx(0.2 / 2**0.5), "sample deviation of 32.0 and 32.2"
    assert edsr["by_seed"] == pytest.approx({0: 32.0, 1: 32.2})
    assert found[0]["metrics"]["psnr_y"]["std"] is None and found[0]["seeds"] == 1
    assert found[2]["metrics"]["psnr_y"]["gain"] == 0.0
    assert "ssim_y" not in found[0]["metrics"], "a metric that was not computed is no column"


@pytest.mark.parametrize(("second", "tie"), [(32.05, True), (31.5, False)])
def test_neighbours_within_the_seeds_spread_are_ties(second, tie, tmp_path, score, make):
    rows = [
        score("x2/a/l1", 32.0),
        score("x2/a/l1", 32.2, seed=1),
        score("x2/b/l1", second),
        score("x2/bicubic/-", 30.0),
    ]
    [board] = leaderboard.boards(make(tmp_path / "run", rows))
    assert [(entry.model, entry.tie) for entry in board.entries] == [("a", False), ("b", tie), ("bicubic", False)]
    assert ("≈2" in board_text.text([board])) == tie


def test_a_gain_is_over_bicubic_on_the_same_inputs_only(tmp_path, score, make):
    rows = [
        score("x2/bicubic/-", 30.0), score("x2/a/l1", 31.0), score("x2/a/l1", 41.0, lr_sha256="bb", kernel="other"),
        score("x2/a/l1", 51.0, protocol="uncropped-y-b0"), score("x4/a/l1", 25.0), score("x4/bicubic/-", 24.0),
    ]  # fmt: skip
    boards = leaderboard.boards(make(tmp_path / "run", rows))
    assert [(b.scale, b.protocol) for b in boards] == [
        (2, "classical-y-b2"),
        (2, "uncropped-y-b0"),
        (4, "classical-y-b4"),
    ]
    flat = leaderboard.rows(tmp_path / "run")
    gains = {row["metrics"]["psnr_y"]["mean"]: row["metrics"]["psnr_y"]["gain"] for row in flat if row["model"] == "a"}
    assert gains == {31.0: 1.0, 41.0: None, 51.0: None, 25.0: 1.0}
    assert [row["rank"] for row in flat if row["metrics"]["psnr_y"]["mean"] in (41.0, 51.0)] == [1, 1], "no rival there"
    text = board_text.text(boards)
    assert text.count("Set5@") >= 2, "two kinds of LR inputs are two columns"


def test_an_unfinished_image_set_is_not_compared(tmp_path, score, make):
    rows = [score("x2/a/l1", 30.0), score("x2/a/l1", 20.0, image="bird"), score("x2/b/l1", 30.0)]
    assert len({row["lr_inputs"] for row in leaderboard.rows(make(tmp_path / "run", rows))}) == 2


def test_missing_images_are_shown_and_not_ranked_against_complete_sets(tmp_path, score, make):
    rows = [
        score(f"x2/{model}/l1", psnr + 10 * (image == "bird"), image=image, images=2)
        for model, psnr in (("a", 30.0), ("b", 31.0))
        for image in ("baby", "bird")
    ]
    rows += [score("x2/c/l1", 99.0, images=2)]  # its other image was refused
    [board] = leaderboard.boards(make(tmp_path / "run", rows))
    assert [(e.model, e.rank, e.lead and e.lead.mean) for e in board.entries] == [
        ("b", 1, 36.0), ("a", 2, 35.0), ("c", None, None),
    ]  # fmt: skip
    [whole, part] = board.columns
    assert board.lead == [whole]
    text = board_text.text([board])
    assert f"Set5@{part[1]} (1 of 2)" in text and "(2 of 2)" not in text
    flat = leaderboard.rows(tmp_path / "run")
    assert {(row["model"], row["images"], row["of_images"]) for row in flat} == {("a", 2, 2), ("b", 2, 2), ("c", 1, 2)}
    alone = make(tmp_path / "alone", [score("x2/c/l1", 99.0, images=2)])
    assert "Set5 (1 of 2)" in board_text.text(leaderboard.boards(alone)), "also where all rows lack the same image"


def test_protocols_are_never_ranked_together_and_equal_ones_are(tmp_path, score, make):
    """n4: with another number of draws it is another protocol."""
    rows = [
        score("x2/a/l1", 31.0), score("x2/b/l1", 32.0), score("x2/c/l1", 99.0, protocol="classical-y-b2-n4"),
        score("x2/d/l1", 98.0, protocol="classical-y-b2-n4"),
    ]  # fmt: skip
    boards = leaderboard.boards(make(tmp_path / "run", rows))
    assert [[(e.model, e.rank) for e in board.entries] for board in boards] == [
        [("b", 1), ("a", 2)], [("c", 1), ("d", 2)],
    ]  # fmt: skip
    assert {row["rank"] for row in leaderboard.rows(tmp_path / "run")} == {1, 2}


def test_metrics_of_sets_have_their_own_columns_and_no_part_in_means(tmp_path, score, make):
    warning = "FID of 2 samples is biased upward"
    details = json.dumps({"fid": {"text": "", "warning": warning}})
    rows: list[dict[str, Any]] = []
    for model, psnr, fid in (("a", 30.0, 20.0), ("b", 31.0, 50.0)):
        rows += [score(f"x2/{model}/l1", psnr + i, image=name, images=2) for i, name in enumerate(("baby", "bird"))]
        rows += [score(f"x2/{model}/l1", None, image="", images=2, lr_sha256="all", fid=fid, kid=0.5, details=details)]  # type: ignore[arg-type]
    run = make(tmp_path / "run", rows)
    (run / "config.yaml").write_text("evaluation: {metrics: [fid, psnr_y, lpips_vgg]}\n")
    why = {"not_computed": json.dumps({"lpips_vgg": "vgg16.pth is missing"})}
    pq.write_table(pa.Table.from_pylist([{**rows[0], **why}]), run / "evaluation" / "0.parquet")
    [board] = leaderboard.boards(run)
    assert [(e.model, e.rank) for e in board.entries] == [("a", 1), ("b", 2)], "a lower FID is better"
    [column] = board.columns
    cells = board.entries[1].cells[column]
    assert {name: value.mean for name, value in cells.items()} == {"fid": 50.0, "psnr_y": 31.5, "kid": 0.5}
    text = write(run)
    assert "Set5 psnr_y" in text and "Set5 kid" in text and warning in text
    assert "lpips_vgg not computed: vgg16.pth is missing" in text
    assert "vgg16.pth is missing" in (run / "leaderboard.md").read_text()


def test_spreads_over_draws_are_cells_where_a_network_is_stochastic(tmp_path, score, make):
    noisy = {"deterministic": False, "noise_seed": 0, "g_std.psnr_y": 0.25, "l_std": 0.01, "protocol": "classical-y-b2"}
    rows = [score("x2/a/l1", 31.0, **noisy), score("x2/a/l1", 41.0, **(noisy | {"noise_seed": 3}))]
    rows += [score("x2/bicubic/-", 30.0, **{"deterministic": True, "g_std.psnr_y": 0.0, "l_std": 0.0})]
    run = make(tmp_path / "run", rows)
    [board] = leaderboard.boards(run)
    cells = board.entries[0].cells[board.columns[0]]
    assert {name: value.mean for name, value in cells.items()} == {"psnr_y": 31.0, "g_std.psnr_y": 0.25, "l_std": 0.01}
    text = write(run)
    assert "Set5 l_std" in text and "g_std" not in text, "on the terminal only where the config asks for it"
    assert "g_std.psnr_y" in (run / "leaderboard.md").read_text()


def test_a_former_winner_leaves_the_board(tmp_path, score, winner, make):
    rows = [score("x2/a/l1", 31.0, fingerprint="old"), score("x2/a/l1", 35.0, fingerprint="new")]
    [row] = leaderboard.rows(make(tmp_path / "run", rows, {"x2/a/l1": winner(1, "new")}))
    assert row["metrics"]["psnr_y"]["mean"] == 35.0 and row["seeds"] == 1


def test_a_row_without_a_shared_benchmark_does_not_move_the_order(tmp_path, score, make):
    rows = [score("x2/a/l1", 31.0), score("x2/b/l1", 32.0), score("x2/a/l1", 99.0, benchmark="Set14")]
    [board] = leaderboard.boards(make(tmp_path / "run", rows))
    assert [c[0] for c in board.lead] == ["Set5"] and [e.model for e in board.entries] == ["b", "a"]


def test_weights_are_separate_rows(tmp_path, score, make):
    rows = [score("x2/a/l1", 31.0), score("x2/a/l1", 32.0, weights="ema"), score("x2/b/l1", 30.0)]
    [board] = leaderboard.boards(make(tmp_path / "run", rows))
    assert [board.name(e) for e in board.entries] == ["a × l1 (ema)", "a × l1 (raw)", "b × l1"]


def test_the_config_names_the_leading_metric(tmp_path, score, make):
    rows = [score("x2/a/l1", 31.0, ssim_y=0.8), score("x2/b/l1", 30.0, ssim_y=0.9)]
    run = make(tmp_path / "run", rows)
    (run / "config.yaml").write_text("evaluation: {metrics: [ssim_y, psnr_y]}\n")
    [board] = leaderboard.boards(run)
    assert board.metric == "ssim_y" and [e.model for e in board.entries] == ["b", "a"]


def test_unknown_leading_metric(tmp_path, score, make):
    run = make(tmp_path / "run", [score("x2/a/l1", 30.0)])
    (run / "config.yaml").write_text("evaluation: {metrics: [psnr]}\n")
    with pytest.raises(InputError, match="psnr_y"):
        leaderboard.boards(run)
