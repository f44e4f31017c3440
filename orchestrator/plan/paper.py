"""What a paper prints for the rows of a sweep, so that boards show it beside their own numbers."""

from __future__ import annotations

from pydantic import Field, field_validator

from eval.protocol import get_metric
from sr_models.params import Params


class PrintedRow(Params):
    """What a paper prints for a row that no sweep here trains: shown as such, and ranked nowhere."""

    scores: dict[str, dict[str, float]] = Field(default={}, description="benchmark -> metric -> printed value")
    parameters: int | None = Field(default=None, ge=0, description="printed number of parameters, in ones")
    seconds: float | None = Field(default=None, ge=0, description="printed seconds that one picture takes")

    @field_validator("scores")
    @classmethod
    def _known_metrics(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for benchmark, printed in value.items():
            for metric in printed:
                get_metric(metric, benchmark)
        return value


class PaperConfig(Params):
    """What a paper prints for rows of this sweep; moves no trial and no score, so it is in no run's name."""

    source: str = Field(min_length=1, description="which table of which paper, with its address")
    scores: dict[str, dict[str, dict[str, float]]] = Field(
        default={}, description="id of a row (x2/edsr/l1, x2/bicubic/-) -> benchmark -> metric -> printed value"
    )
    parameters: dict[str, int] = Field(
        default={}, description="id of a row -> printed number of parameters, in ones: 715000 where 715K is printed"
    )
    seconds: dict[str, float] = Field(
        default={},
        exclude_if=lambda seconds: not seconds,  # so that configs of runs stay what they were
        description="id of a row -> printed seconds that one picture takes; the costs show them beside ours",
    )
    printed_only: dict[str, PrintedRow] = Field(
        default={},
        exclude_if=lambda rows: not rows,  # likewise
        description="name of a row of the paper that this sweep has not -> what is printed for it: {scores: BENCHMARK "
        "-> metric -> value, parameters, seconds}, in a table of its own",
    )
    beside: dict[str, str] = Field(
        default={}, description="test set of this sweep -> the benchmark whose printed numbers stand beside its own"
    )
    scaled_down: bool = Field(
        default=False, description="said by scale_down=tiny: rows are of another size than what is printed"
    )

    @field_validator("scores")
    @classmethod
    def _known_metrics(cls, value: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
        for row, benchmarks in value.items():
            for benchmark, printed in benchmarks.items():
                for metric in printed:
                    get_metric(metric, f"{row}.{benchmark}")
        return value

    def benchmark(self, test_set: str) -> str:
        """The printed benchmark that stands beside one of the sweep's test sets: of that name, or as `beside` says."""
        return self.beside.get(test_set, test_set)

    def score(self, row: str, test_set: str, metric: str) -> float | None:
        """What is printed for a row, a test set of the sweep and a metric; None where nothing is."""
        return self.scores.get(row, {}).get(self.benchmark(test_set), {}).get(metric)
