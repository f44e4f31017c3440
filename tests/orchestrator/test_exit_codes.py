"""What a sweep's exit code says of its rows; the stages and what they run on are stood in for."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from orchestrator import session, stages
from orchestrator.sweep import main
from sr_models.errors import InputError

CONFIG = {
    "name": "s", "models": ["imdn"], "objectives": ["l1"],
    "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("unscored", "code", "last"),
    [
        ([], 0, ""),
        (["x2/imdn/l1 seed 1: NaN"], 4, "python -m orchestrator.sweep: 1 without a score: x2/imdn/l1 seed 1: NaN"),
        ([*"abcde"], 4, "python -m orchestrator.sweep: 5 without a score: a; b; c; and 2 more"),
        (InputError("no such thing"), 2, "python -m orchestrator.sweep: no such thing"),
    ],
)
@pytest.mark.parametrize("as_job", [False, True])
def test_rows_without_a_score(
    unscored: list[str] | InputError,
    code: int,
    last: str,
    as_job: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def run(_session: object) -> list[str]:
        print("the board")
        if isinstance(unscored, InputError):
            raise unscored
        return unscored

    monkeypatch.setattr(session, "opened", lambda *_, group: nullcontext())
    monkeypatch.setattr(stages, "run", run)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(CONFIG))
    line = [str(tmp_path / "s.yaml"), "--output", str(tmp_path / "runs"), *["--as-job"] * as_job]
    assert main(line) == (0 if as_job else code)
    said = capfd.readouterr()
    assert said.out == "the board\n" and said.err == (f"{last}\n" if last else "")


def test_a_job_that_was_lost_or_is_defect_does_not_pass_for_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_session: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "opened", lambda *_, group: nullcontext())
    monkeypatch.setattr(stages, "run", run)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(CONFIG))
    assert main([str(tmp_path / "s.yaml"), "--output", str(tmp_path / "runs"), "--as-job"]) == 130
