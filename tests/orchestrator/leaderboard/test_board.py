"""What a board's rows and columns are called, and which numbers are said of a value."""

from orchestrator.leaderboard.board import Board, Column, Entry, Value
from orchestrator.leaderboard.statistics import Difference, Standing

SET5: Column = ("Set5", "aaaaaaaa")


def value(mean: float, std: float | None = None) -> Value:
    return Value(mean, std, None, {0: mean})


def entry(model: str = "edsr", objective: str = "l1", weights: str = "raw", precision: str = "fp32", **over) -> Entry:
    return Entry(f"x2/{model}/{objective}", model, objective, "hr", "l1", weights, precision, **over)


def board(*entries: Entry, columns: tuple[Column, ...] = (SET5,), missing: dict | None = None) -> Board:
    return Board(
        2, "classical-y-b2", "psnr_y", list(columns), list(columns), list(entries), ["psnr_y"], ["psnr_y"],
        missing or {}, [],
    )  # fmt: skip


def test_the_numbers_of_a_value_are_those_of_where_it_stands() -> None:
    over = Difference(0.5, -0.25, 1.25)
    stands = Standing("a", "edsr", 2, 32.0, 0.1, (31.75, 32.25), (1, 3), over, "")
    assert Value(32.0, 0.1, 2.0, {0: 31.9, 1: 32.1}, {"baby": 32.0}, stands).numbers == {
        "mean": 32.0, "std": 0.1, "gain": 2.0, "low": 31.75, "high": 32.25, "rank_first": 1, "rank_last": 3,
        "may_be_best": True, "unranked": "", "over_baseline": 0.5, "over_baseline_low": -0.25,
        "over_baseline_high": 1.25, "paper": None, "over_paper": None, "by_seed": {0: 31.9, 1: 32.1},
    }  # fmt: skip
    printed = Value(32.0, None, None, {0: 32.0}, paper=32.25).numbers
    assert (printed["paper"], printed["over_paper"]) == (32.25, -0.25)
    alone = Standing("a", "edsr", 1, 32.0, None, None, None, None, "order not established: one seed")
    found = Value(32.0, None, None, {0: 32.0}, {}, alone).numbers
    assert found["unranked"] == "order not established: one seed"
    assert {found[name] for name in ("low", "high", "rank_first", "rank_last", "may_be_best", "over_baseline")} == {
        None
    }
    assert value(30.0).numbers["unranked"] == "", "a reference has no rank and needs no reason"


def test_seeds_are_the_fewest_behind_any_cell() -> None:
    both, one = Value(1.0, None, None, {0: 1.0, 1: 1.0}), value(1.0)
    assert entry(cells={SET5: {"psnr_y": both}}).seeds == 2
    assert entry(cells={SET5: {"psnr_y": both}, ("Set14", "b"): {"psnr_y": both, "ssim_y": one}}).seeds == 1
    assert entry().seeds == 0


def test_a_row_is_named_by_what_tells_it_apart() -> None:
    alone, bicubic = entry("imdn", "eco"), entry("bicubic", "-", weights="none")
    raw, ema = entry(), entry(weights="ema")
    made = board(alone, bicubic, raw, ema)
    assert [made.name(one) for one in made.entries] == ["imdn × eco", "bicubic", "edsr × l1 (raw)", "edsr × l1 (ema)"]
    made = board(entry(), entry(precision="bf16"), entry(weights="ema"))
    assert [made.name(one) for one in made.entries] == [
        "edsr × l1 (raw, fp32)", "edsr × l1 (raw, bf16)", "edsr × l1 (ema, fp32)",
    ]  # fmt: skip


def test_trials_without_a_winner_are_named_by_their_fingerprint() -> None:
    first, second = entry(trial="1" * 64), entry(trial="2" * 64)
    made = board(first, second)
    assert [made.name(one) for one in made.entries] == ["edsr × l1 (11111111)", "edsr × l1 (22222222)"]
    assert board(first).name(first) == "edsr × l1", "there is no other"
    unfinished = entry(trial="3" * 64 + "@50")
    assert board(unfinished).name(unfinished) == "edsr × l1 (33333333@50)"


def test_a_column_is_titled_by_its_set_and_what_tells_it_apart() -> None:
    other, set14 = ("Set5", "bbbbbbbb"), ("Set14", "cccccccc")
    assert board().title(SET5) == "Set5"
    made = board(columns=(SET5, other, set14), missing={other: (3, 5), set14: (9, 14)})
    titles = [made.title(column) for column in made.columns]
    assert titles == ["Set5@aaaaaaaa", "Set5@bbbbbbbb (3 of 5)", "Set14 (9 of 14)"]
