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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((text, "is not JSON") for text in ("", '{"name": ', "\x00")),
        ("[]", "expected a mapping"),
        (TRACKING_TEXT.replace('"id": "r",', ""), "tracking.json.runs.parent.id: required"),
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
