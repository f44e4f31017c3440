"""A search's picture: lines where hyperparameters lie, stopped trials without an end, importance or a reason."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from eval.pictures.trials import Axis, Search, trials
from sr_models.errors import InputError

AXES = [
    Axis(name="target.length", low=0.25, high=1.0), Axis(name="train.lr", low=1e-4, high=1e-2, log=True),
    Axis(name="target.shape", choices=("linear", "cosine", "step")),
]  # fmt: skip
SEARCH = Search(
    title="edsr × eco", axes=AXES, importance={}, reason="no importance from fewer than 10 full trials (here 2)",
    tried=[
        ({"target.length": 1.0, "train.lr": 1e-3, "target.shape": "linear"}, 30.0),
        ({"target.length": 0.25, "train.lr": 1e-4, "target.shape": "step"}, 30.5),
        ({"target.length": 0.5, "train.lr": 1e-2, "target.shape": "cosine"}, None),
    ],
)  # fmt: skip


def test_lines_go_where_values_lie_and_stopped_trials_end_before_the_metric(
    tmp_path: Path, drawn: list[Figure], check_readable
) -> None:
    shares = {"target.length": 0.7, "train.lr": 0.1, "target.shape": 0.2}
    other = replace(SEARCH, importance={"fANOVA": shares, "PED-ANOVA": dict(reversed(shares.items()))}, reason="")
    trials(tmp_path / "x.png", [SEARCH, other], metric="ema.psnr_y", title="t", caption="c")
    across, why, _, bars = drawn[0].axes
    lines = [line.get_ydata() for line in across.lines if len(line.get_xdata()) > 2]
    assert [pytest.approx(line) for line in lines] == [[1, 0.5, 0, 0], [0, 0, 1, 1], [1 / 3, 1, 0.5]]
    thick = [line.get_linewidth() > 2 for line in across.lines if len(line.get_xdata()) > 2]
    assert thick == [False, True, False]
    assert {"30.00", "30.50", "linear", "0.0001"} <= {text.get_text() for text in across.texts}
    assert "fewer than 10" in " ".join(why.texts[0].get_text().split())
    assert [bar.get_width() for bar in bars.patches] == [0.7, 0.1, 0.2] * 2, "in the order of the axes"
    check_readable(drawn[0])


def test_less_is_better_of_some_metrics(tmp_path: Path, drawn: list[Figure]) -> None:
    trials(tmp_path / "x.png", [SEARCH], metric="lpips_alex", title="t")
    thick = [line for line in drawn[0].axes[0].lines if line.get_linewidth() > 2]
    assert [pytest.approx(line.get_ydata()) for line in thick] == [[1, 0.5, 0, 0]]


def test_nothing_that_ran_in_full_is_no_picture(tmp_path: Path) -> None:
    for searches in ([], [replace(SEARCH, tried=SEARCH.tried[2:])]):
        with pytest.raises(InputError, match="at least one trial"):
            trials(tmp_path / "x.png", searches, metric="psnr_y", title="t")
