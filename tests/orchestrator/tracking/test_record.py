"""What tracking.json looks like to the byte, that it comes back, and how a wrong one is refused."""

from pathlib import Path

import pytest

from orchestrator.tracking.record import DeliveredRun, TrackingRecord
from sr_models.errors import InputError

TRACKING = TrackingRecord(
    uri="sqlite:///mlflow.db", experiments={"quick": "1"}, runs={"parent": DeliveredRun(id="r", status="running")},
    files={"plan.json": ("plan.json", 2812, 1795857882565853474)},
)  # fmt: skip
TRACKING_TEXT = """{
 "uri": "sqlite:///mlflow.db",
 "experiments": {
  "quick": "1"
 },
 "runs": {
  "parent": {
   "id": "r",
   "status": "running",
   "step": -1,
   "size": -1,
   "attempt": 0
  }
 },
 "files": {
  "plan.json": [
   "plan.json",
   2812,
   1795857882565853474
  ]
 }
}
"""
REFUSED_TEXT = TRACKING_TEXT[: -len("\n}\n")] + ',\n "refused": {\n  "trial/a": "deleted"\n }\n}\n'
SCORED_TEXT = TRACKING_TEXT[: -len("\n}\n")] + ',\n "scores": "s"\n}\n'


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (TRACKING, TRACKING_TEXT),
        (TRACKING.model_copy(update={"scores": "s"}), SCORED_TEXT),
        (TRACKING.model_copy(update={"refused": {"trial/a": "deleted"}}), REFUSED_TEXT),
    ],
)
def test_what_is_written_to_the_byte_and_comes_back(record: TrackingRecord, text: str, tmp_path: Path) -> None:
    path = tmp_path / "tracking.json"
    record.write(path)
    assert path.read_text() == text
    assert TrackingRecord.read(path) == record


def test_what_has_changed_since_it_was_written_stands_below_it(tmp_path: Path) -> None:
    path = tmp_path / "tracking.json"
    now = TRACKING.model_copy(deep=True)
    now.write(path)
    now.runs["trial/a"] = DeliveredRun(id="a", status="running")
    now.append(path, "runs", "trial/a")
    now.runs["trial/a"].step = 50
    now.append(path, "runs", "trial/a")
    now.files["plan.json"] = ("plan.json", 2813, 1795857882565853475)
    now.append(path, "files", "plan.json")
    now.refused["file/plan.json"] = "too\nlarge"
    now.append(path, "refused", "file/plan.json")
    assert path.read_text().startswith(TRACKING_TEXT) and TrackingRecord.read(path) == now
    del now.runs["trial/a"]
    now.append(path, "runs", "trial/a")
    assert TrackingRecord.read(path) == now
    whole = path.read_text()
    now.runs["trial/b"] = DeliveredRun(id="b", status="running")
    now.append(path, "runs", "trial/b")
    added = path.read_text().removeprefix(whole)
    for size in range(len(added)):
        path.write_text(whole + added[:size])
        assert "trial/b" not in TrackingRecord.read(path).runs, "half a line that a crash left"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((text, "is not JSON") for text in ("", '{"name": ', "\x00")),
        ("[]", "expected a mapping"),
        (TRACKING_TEXT.replace('"id": "r",', ""), "tracking.json.runs.parent.id: required"),
        (TRACKING_TEXT[:-1] + "{}\n", "is not JSON ('{}' follows it)"),
        *(
            (f'{TRACKING_TEXT}["files", "a", ["a", 1, 2]]\n{line}\n', "tracking.json: line 2 below the record")
            for line in ('["runs", "tri', "", "3", '["runs", "a"]', '["uri", "a", {}]', '["uri", "a", null]')
        ),
        (f'{TRACKING_TEXT}["runs", "trial/a", {{"id": "r"}}]\n', "tracking.json.runs.trial/a.status: required"),
        (f'{TRACKING_TEXT}["run", "trial/a", {{}}]\n', "unknown key 'run'"),
        (TRACKING_TEXT.replace("files", "file"), "unknown key 'file'; did you mean 'files'?"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_name(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "tracking.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        TrackingRecord.read(path)
    message = str(caught.value)
    assert said in message and str(path) in message and "\n" not in message
    assert message.endswith("; delete it, and run the same sweep, which writes it again")
