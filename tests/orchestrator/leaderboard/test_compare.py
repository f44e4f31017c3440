"""The board compares like with like: means, gains, spread and ranks from rows whose order is known by hand."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.leaderboard import compare as leaderboard
from orchestrator.leaderboard import text as board_text
from orchestrator.leaderboard.over_images import over_images
from orchestrator.leaderboard.over_images import text as images_text
from orchestrator.leaderboard.write import write
from orchestrator.run.records import read_plan
from sr_models.errors import InputError


def test_means_spread_gain_and_order(tmp_path, score, make):
    rows = [
        score("x2/bicubic/-", 30.0), score("x2/bicubic/-", 32.0, image="bird"),
        score("x2/edsr/l1", 31.0), score("x2/edsr/l1", 33.0, image="bird"),
        score("x2/edsr/l1", 31.2, seed=1), score("x2/edsr/l1", 33.2, image="bird", seed=1),
        score("x2/imdn/eco", 32.5), score("x2/imdn/eco", 34.5, image="bird"),
    ]  # fmt: skip
    found = leaderboard.rows(make(tmp_path / "run", rows))
    assert [row["combination"] for row in found] == ["x2/edsr/l1", "x2/bicubic/-", "x2/imdn/eco"], "it lacks a seed"
    edsr, bicubic, imdn = (row["metrics"]["psnr_y"] for row in found)
    assert edsr["mean"] == pytest.approx(32.1) and edsr["gain"] == pytest.approx(1.1)
    assert edsr["std"] == pytest.approx(0.2 / 2**0.5), "sample deviation of 32.0 and 32.2"
    assert edsr["by_seed"] == pytest.approx({0: 32.0, 1: 32.2})
    assert imdn["mean"] == 33.5 and imdn["std"] is None and found[2]["seeds"] == 1
    assert imdn["unranked"] == "1 of 2 seeds" and edsr["unranked"].endswith("no other row to compare with")
    assert bicubic["gain"] == 0.0 and bicubic["unranked"] == ""
    assert "ssim_y" not in found[0]["metrics"], "a metric that was not computed is no column"


def far(score, combination: str, psnr: float, **over: Any) -> dict[str, Any]:
    """A row of x5, of weights that were trained at another scale."""
    trained = None if "bicubic" in combination else int(combination[1])
    return score(combination, psnr, scale=5, benchmark="CAT", protocol="classical-y-b5", trained_scale=trained, **over)


def test_weights_of_another_scale_are_on_a_board_of_their_own_beside_bicubic(tmp_path, score, make):
    rows = [
        score("x4/bicubic/-", 28.0), score("x4/sr3/ddpm", 27.0),
        far(score, "x5/bicubic/-", 26.0), far(score, "x4/sr3/ddpm", 25.0), far(score, "x4/sr3/dream", 25.5),
        far(score, "x2/sr3/ddpm", 27.5),
    ]  # fmt: skip
    run = make(tmp_path / "run", rows)
    boards = leaderboard.boards(run)
    assert [(board.at, [entry.combination for entry in board.entries]) for board in boards] == [
        ("×4", ["x4/bicubic/-", "x4/sr3/ddpm"]),
        ("×5 (trained ×2)", ["x2/sr3/ddpm", "x5/bicubic/-"]),
        ("×5 (trained ×4)", ["x5/bicubic/-", "x4/sr3/dream", "x4/sr3/ddpm"]),
    ]
    gains = {(row["combination"], row["scale"]): row["metrics"]["psnr_y"]["gain"] for row in leaderboard.rows(run)}
    assert gains["x4/sr3/ddpm", 5] == -1.0 and gains["x2/sr3/ddpm", 5] == 1.5
    assert [row.get("trained_scale") for row in leaderboard.rows(run)] == [None, None, 2, 2, 4, 4, 4]
    assert "×5 (trained ×4), classical-y-b5: psnr_y (dB)" in board_text.text(boards)
    head, *lines = board_text.csv_text(leaderboard.rows(run)).splitlines()
    assert head.split(",").count("trained_scale") == 1 and len(lines) == 7


def test_a_ceiling_is_a_row_of_its_own_last_unranked_and_explained(tmp_path, score, winner, make):
    """It takes no part in what the board is sorted by, nor in ranks, whatever its score and its sets."""
    ceiling = {"weights": "ceiling", "fingerprint": "", "seed": -1, "model": "ceiling of vq"}
    rows = [
        score("x4/bicubic/-", 28.0), score("x4/bicubic/-", 26.0, benchmark="Set14"),
        score("x4/ceiling of vq/reconstruction", 35.0, **ceiling),
        *(score(f"x4/{net}/ddpm", psnr + seed / 10, seed=seed, fingerprint=f"{net}{seed}", benchmark=name)
          for net, psnr in (("mine", 27.0), ("other", 29.0)) for seed in (0, 1) for name in ("Set5", "Set14")),
    ]  # fmt: skip
    winners = {f"x4/{net}/ddpm": winner(1, f"{net}0", f"{net}1") for net in ("mine", "other")}
    run = make(tmp_path / "run", rows, winners)
    [board] = leaderboard.boards(run)
    assert [entry.model for entry in board.entries] == ["other", "mine", "bicubic", "ceiling of vq"]
    assert len(board.lead) == 2
    found = {(row["combination"], row["benchmark"]): row for row in leaderboard.rows(run)}
    top = found["x4/ceiling of vq/reconstruction", "Set5"]
    assert top["weights"] == "ceiling" and top["metrics"]["psnr_y"]["rank_first"] is None
    assert not top["metrics"]["psnr_y"]["may_be_best"] and top["metrics"]["psnr_y"]["gain"] == 7.0
    assert found["x4/other/ddpm", "Set5"]["metrics"]["psnr_y"]["rank_first"] == 1
    for shown in (board_text.text([board]), board_text.markdown([board])):
        words = " ".join(shown.split())
        assert "ceiling of vq × reconstruction" in words and "HR through that autoencoder and back" in words
    assert ",ceiling," in board_text.csv_text(leaderboard.rows(run))


def test_a_fraction_is_a_scale_of_its_own_on_boards_and_in_files(tmp_path, score, make):
    half = {"scale": 2.5, "benchmark": "CAT", "protocol": "classical-y-b3"}
    rows = [score("x2.5/bicubic/-", 26.0, **half), score("x4/idm/ddpm", 25.0, **half, trained_scale=4)]
    run = make(tmp_path / "run", [*rows, score("x4/bicubic/-", 24.0), score("x4/idm/ddpm", 24.5)])
    boards = leaderboard.boards(run)
    assert [board.at for board in boards] == ["×2.5 (trained ×4)", "×4"]
    assert [(row["scale"], row["combination"]) for row in leaderboard.rows(run)[:2]] == [
        (2.5, "x2.5/bicubic/-"), (2.5, "x4/idm/ddpm"),
    ]  # fmt: skip
    assert "×2.5 (trained ×4), classical-y-b3: psnr_y (dB)" in board_text.text(boards)


def test_who_cannot_be_scored_at_the_scale_of_a_test_set_is_named(tmp_path, score, make):
    run = make(tmp_path / "run", [far(score, "x5/bicubic/-", 26.0), far(score, "x4/sr3/ddpm", 25.0)])
    unscored = {"CAT x5": ("x4/imdn/l1",), "DOG x3": ("x4/imdn/l1",)}
    read_plan(run).model_copy(update={"unscored": unscored}).write(run / "plan.json")
    [board] = leaderboard.boards(run)
    assert board.notes == ["not scored on CAT x5: x4/imdn/l1, whose weights are of their own scale alone"]


def three(score, **over) -> list[dict[str, Any]]:
    """Rows of one network, residuals 0.1, -0.1 / -0.1, 0.1 / 0, 0: with 2 degrees of freedom s is 0.1 · √2.

    The studentised range of 3 rows at 2 degrees of freedom ends at 8.331 (tables: 8.33), so two means differ where they
    are more than 8.331 · s/√2 = 0.8331 apart, and an interval is the mean ± 0.4166.
    """
    values = {"eco": (32.1, 31.9), "kd": (31.4, 31.6), "l1": (31.0, 31.0)}
    return [
        score(f"x2/edsr/{name}", value, seed=seed, fingerprint=f"{name}{seed}", **over)
        for name, both in values.items()
        for seed, value in enumerate(both, start=1)
    ]


def winners_of(rows, winner) -> dict[str, Any]:
    named = {row["combination"] for row in rows if row["fingerprint"]}
    return {
        name: winner(0, *dict.fromkeys(row["fingerprint"] for row in rows if row["combination"] == name))
        for name in named
    }


def test_rank_ranges_and_intervals_known_by_hand(tmp_path, score, winner, make):
    rows = [*three(score), score("x2/bicubic/-", 30.0)]
    run = make(tmp_path / "run", rows, winners_of(rows, winner))
    with (run / "config.yaml").open("a") as file:
        file.write("board: {baseline: l1}\n")
    [board] = leaderboard.boards(run)
    assert [entry.objective for entry in board.entries] == ["eco", "kd", "l1", "-"]
    assert [e.lead.standing.ranks for e in board.entries[:3]] == [(1, 2), (1, 3), (2, 3)]
    assert board.entries[3].lead.standing is None, "bicubic is a line to compare with, not a method"
    found = {row["objective"]: row["metrics"]["psnr_y"] for row in leaderboard.rows(run)}
    eco, kd, l1 = found["eco"], found["kd"], found["l1"]
    assert (eco["low"], eco["high"]) == pytest.approx((32.0 - 0.4166, 32.0 + 0.4166), abs=1e-4)
    assert (eco["rank_first"], eco["rank_last"], eco["may_be_best"], l1["may_be_best"]) == (1, 2, True, False)
    over = [eco[f"over_baseline{end}"] for end in ("", "_low", "_high")]
    assert over == pytest.approx([1.0, 1.0 - 0.8331, 1.0 + 0.8331], abs=1e-4)
    assert kd["over_baseline_low"] == pytest.approx(0.5 - 0.8331, abs=1e-4) and l1["over_baseline"] is None
    assert {row["lead"]["rank_first"] for row in leaderboard.rows(run)} == {1, 2, None}
    said = board_text.text([board])
    assert "*1-2" in said and "+1.00 [+0.17, +1.83]" in said and "[31.58, 32.42]" in said


def test_a_lower_value_may_be_the_better_one(tmp_path, score, winner, make):
    rows = [row | {"lpips_alex": row["psnr_y"]} for row in three(score)]
    run = make(tmp_path / "run", rows, winners_of(rows, winner))
    (run / "config.yaml").write_text("evaluation: {metrics: [lpips_alex, psnr_y]}\n")
    [board] = leaderboard.boards(run)
    assert [(e.objective, e.lead.standing.ranks) for e in board.entries] == [
        ("l1", (1, 2)), ("kd", (1, 3)), ("eco", (2, 3)),
    ]  # fmt: skip


def test_one_seed_orders_nobody(tmp_path, score, make):
    rows = [score("x2/a/l1", 32.0), score("x2/b/l1", 31.0), score("x2/bicubic/-", 30.0)]
    [board] = leaderboard.boards(make(tmp_path / "run", rows))
    assert [e.lead.standing and e.lead.standing.unranked for e in board.entries] == [
        "order not established: one seed", "order not established: one seed", None,
    ]  # fmt: skip
    said = board_text.text([board])
    assert "order not established: one seed: all rows" in said and "rank" not in said.splitlines()[1]


def test_a_row_that_lacks_a_seed_comes_after_the_ranked_ones(tmp_path, score, winner, make):
    rows = [*three(score), score("x2/edsr/new", 40.0, seed=1, fingerprint="new1"), score("x2/bicubic/-", 30.0)]
    [board] = leaderboard.boards(make(tmp_path / "run", rows, winners_of(rows, winner)))
    assert [e.objective for e in board.entries] == ["eco", "kd", "l1", "-", "new"]
    assert [e.lead.standing.ranks for e in board.entries[:3]] == [(1, 2), (1, 3), (2, 3)], "it moves no rank"
    assert "1 of 2 seeds: edsr × new" in board_text.text([board])


def test_rows_of_one_network_drawn_in_different_numbers_of_steps_are_no_twins(tmp_path, score, winner, make):
    rows = [
        score(f"x2/sr3/ddpm[sampling.steps={steps}]", 20.0 + steps / 10, seed=seed, fingerprint=f"f{seed}",
              protocol=f"classical-y-b2+ddim{steps}", sampler="ddim")
        for steps in (10, 50) for seed in (0, 1)
    ]  # fmt: skip
    [board] = leaderboard.boards(make(tmp_path / "run", rows, winners_of(rows, winner)))
    assert [(entry.drawn, entry.twin_of) for entry in board.entries] == [("ddim50", ""), ("ddim10", "")]
    assert any("drawn by ddim10: sr3 × ddpm[sampling.steps=10]; ddim50: sr3" in note for note in board.notes)


def test_twins_are_named_and_counted_once(tmp_path, score, winner, make):
    """An objective under two labels trains the same trials."""
    rows = three(score)
    rows += [row | {"combination": "x2/edsr/again", "objective": "again"} for row in rows if row["objective"] == "l1"]
    run = make(tmp_path / "run", rows, winners_of(rows, winner))
    (run / "config.yaml").write_text("evaluation: {metrics: [psnr_y]}\nboard: {baseline: l1}\n")
    [board] = leaderboard.boards(run)
    ranks = {e.objective: e.lead.standing.ranks for e in board.entries}
    assert ranks == {"eco": (1, 2), "kd": (1, 3), "l1": (2, 3), "again": (2, 3)}, "of three methods"
    assert {e.objective: e.twin_of for e in board.entries if e.twin_of} == {"l1": "x2/edsr/again/raw/fp32"}
    assert "twins, the same weights, counted once: edsr × l1 = edsr × again" in board_text.text([board])
    over = {row["objective"]: row["metrics"]["psnr_y"]["over_baseline"] for row in leaderboard.rows(run)}
    assert over == {"eco": pytest.approx(1.0), "kd": pytest.approx(0.5), "l1": None, "again": None}


def test_each_kind_of_weights_is_ranked_on_its_own(tmp_path, score, winner, make):
    rows = [*three(score), *(row | {"psnr_y": row["psnr_y"] + 9} for row in three(score, weights="ema"))]
    [board] = leaderboard.boards(make(tmp_path / "run", rows, winners_of(rows, winner)))
    ranks = [(e.objective, e.weights, e.lead.standing.ranks) for e in board.entries]
    assert ranks == [
        (name, weights, ranks)
        for weights in ("ema", "raw")
        for name, ranks in (("eco", (1, 2)), ("kd", (1, 3)), ("l1", (2, 3)))
    ]
    assert "ema and raw weights are ranked apart" in " ".join(board_text.text([board]).split())


def test_trials_of_no_winner_do_not_take_ranks_away(tmp_path, score, winner, make):
    """Scored while the sweep trained, and no run of theirs was full: their seed is the search's."""
    rows = three(score)
    stopped = [score("x2/edsr/dead", 20.0, seed=0, fingerprint="dead")]
    [board] = leaderboard.boards(make(tmp_path / "run", [*rows, *stopped], winners_of(rows, winner)))
    assert [e.lead.standing.ranks for e in board.entries] == [(1, 2), (1, 3), (2, 3), None]


def test_equal_residuals_order_nobody_and_values_that_are_not_finite_neither(tmp_path, score, winner, make):
    same = [score(f"x2/a/{name}", 30.0 + k, seed=seed) for k, name in enumerate("pq") for seed in (1, 2)]
    [board] = leaderboard.boards(make(tmp_path / "same", same, {}))
    assert {e.lead.standing.unranked for e in board.entries} == {
        "order not established: its network's residual is 0"
    }  # fmt: skip
    rows = [*three(score), *(score("x2/edsr/inf", float("inf"), seed=s, fingerprint=f"inf{s}") for s in (1, 2))]
    [board] = leaderboard.boards(make(tmp_path / "inf", rows, winners_of(rows, winner)))
    assert [(e.objective, e.lead.standing.ranks) for e in board.entries] == [
        ("inf", None), ("eco", (1, 2)), ("kd", (1, 3)), ("l1", (2, 3)),
    ]  # fmt: skip


def test_images_are_resampled_with_the_seeds_as_they_are(tmp_path, score, winner, make):
    """Twenty images on all of which eco is 1 dB better, but for ±0.01; kd only as often better as worse."""
    rows = [
        score(
            f"x2/edsr/{name}", 30 + i + gain[i % 2], image=f"i{i:02d}", seed=seed, fingerprint=f"{name}{seed}",
            images=20,
        )
        for name, gain in {"l1": (0.0, 0.0), "eco": (0.99, 1.01), "kd": (0.5, -0.5)}.items()
        for i in range(20)
        for seed in (1, 2)
    ]  # fmt: skip
    run = make(tmp_path / "run", [*rows, score("x2/bicubic/-", 29.0)], winners_of(rows, winner))
    (run / "config.yaml").write_text("evaluation: {metrics: [psnr_y]}\nboard: {baseline: l1}\n")
    [board] = leaderboard.boards(run)
    assert {e.lead.standing.ranks for e in board.entries if e.trained and e.lead} <= {None}, "seeds say nothing here"
    column = next(column for column in board.columns if column not in board.missing)
    found = {name.split("/")[2]: value for name, value in over_images(board, column).items()}
    assert {name: value.standing.ranks for name, value in found.items() if value.standing} == {
        "eco": (1, 1), "kd": (2, 3), "l1": (2, 3),
    }  # fmt: skip
    over = found["eco"].standing.over_baseline
    assert over.value == pytest.approx(1.0) and 0.98 < over.low < 1.0 < over.high < 1.02
    said = images_text([board])
    assert "20 images" in said and max(map(len, said.splitlines())) <= 80
    assert "other pictures of this kind" in " ".join(said.split())


def test_two_images_order_nobody(tmp_path, score, make):
    """A draw with replacement of two gives equal ones as often as not: no width holds."""
    images = [("baby", 0.0), ("bird", 1.0)]
    rows = [score(f"x2/a/{name}", base + more, image=image) for name, base in (("l1", 30.0), ("l2", 31.5))
            for image, more in images]  # fmt: skip
    rows[0]["psnr_y"] += 0.25
    [board] = leaderboard.boards(make(tmp_path / "run", rows))
    found = over_images(board, board.columns[0])
    assert {value.standing.unranked for value in found.values()} == {
        "order not established: 2 images are too few for it"
    }
    assert "inf" not in images_text([board]) and "2 images are too few for it" in images_text([board])


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
    assert [(e.model, e.lead and e.lead.mean) for e in board.entries] == [("b", 36.0), ("a", 35.0), ("c", None)]
    [whole, part] = board.columns
    assert board.lead == [whole]
    text = board_text.text([board])
    assert f"Set5@{part[1]} (1 of 2)" in text and "(2 of 2)" not in text
    assert f"not scored on all of Set5@{whole[1]}: c × l1" in text
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
    assert [[e.model for e in board.entries] for board in boards] == [["b", "a"], ["c", "d"]]


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
    assert [e.model for e in board.entries] == ["a", "b"], "a lower FID is better"
    assert "of whole sets" in images_text([board])
    [column] = board.columns
    cells = board.entries[1].cells[column]
    assert {name: value.mean for name, value in cells.items()} == {"fid": 50.0, "psnr_y": 31.5, "kid": 0.5}
    text = write(run)
    assert "Set5 psnr_y" in text and "Set5 kid" in text and warning in text
    assert "lpips_vgg not computed: vgg16.pth is missing" in text
    assert "vgg16.pth is missing" in (run / "leaderboard.md").read_text()


def test_a_metric_of_a_plugin_that_fails_on_some_images_has_no_cell_and_one_reason(tmp_path, score, make, plugin):
    source = """
from eval import Metric
ROW = Metric(unit="", higher_is_better=True, reads=("sr",), decimals=2, description="own", compute=lambda sr: 1 / 0)
"""
    plugin(source, {"metrics": {"late": "ROW"}}, "pc")
    rows = []
    for model, psnr in (("bicubic", 29.0), ("a", 30.0), ("b", 31.0)):
        for name in ("baby", "bird", "head"):
            why = {} if name == "baby" else {"late": f"plug-in pc 1.0: metric 'late' on {name!r}: ValueError: {psnr}"}
            value = {"late": 0.5 if name == "baby" else None, "not_computed": json.dumps(why)}
            rows.append(score(f"x2/{model}/{'-' if model == 'bicubic' else 'l1'}", psnr, image=name, images=3, **value))
    run = make(tmp_path / "run", rows)
    (run / "config.yaml").write_text("evaluation: {metrics: [late, psnr_y]}\n")
    [board] = leaderboard.boards(run)
    assert all(set(cell) == {"psnr_y"} for entry in board.entries for cell in entry.cells.values())
    [note] = [note for note in board.notes if "not computed" in note]
    assert note == (
        "late in part not computed: plug-in pc 1.0: metric 'late' on 'bird': ValueError: 30.0 (and 5 more like it)"
    )
    assert "30.00" in write(run) and note in (run / "leaderboard.md").read_text()


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


def test_weights_kept_along_training_have_a_board_of_their_own(tmp_path, score, winner, make):
    ids, seeds = ("x2/edsr/l1", "x2/edsr/eco"), (1, 2, 3)
    names = {(one, seed): f"{one}-{seed}" for one in ids for seed in seeds}
    rows = [score("x2/bicubic/-", 30.0)]
    for (one, seed), name in names.items():
        early, late, spread = (31.0, 34.0, 0.01) if one.endswith("l1") else (32.0, 33.0, -0.02)
        rows += [
            score(one, early + spread * (seed - 2), fingerprint=f"{name}@10", seed=seed),
            score(one, late + spread * (seed - 2), fingerprint=name, seed=seed),
        ]
    rows.append(score(ids[0], 99.0, fingerprint="of no winner@10", seed=4))
    run = make(tmp_path / "a dir", rows, {one: winner(0, *(names[one, seed] for seed in seeds)) for one in ids})
    [end], [early] = leaderboard.boards(run), leaderboard.boards(run, step=10)
    assert [entry.objective for entry in end.entries] == ["l1", "eco", "-"]
    assert [entry.objective for entry in early.entries] == ["eco", "l1", "-"]
    assert [entry.lead.mean for entry in early.entries] == pytest.approx([32.0, 31.0, 30.0])
    assert [entry.lead.standing.ranks for entry in early.entries[:2]] == [(1, 1), (2, 2)]
    assert "weights after 10 steps" in early.notes and early.entries[0].training.train_seconds is None
    with pytest.raises(
        InputError, match=r"--step 20: no weights after that step are scored; there are 10 \(train"
    ) as caught:
        leaderboard.boards(run, step=20)
    assert f"orchestrator.evaluate --run '{run}' --snapshots" in str(caught.value), "to be typed as it is"


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
