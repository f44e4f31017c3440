"""What a paper prints is found by row, test set and metric, and a name that no board could show is refused."""

import pytest

from orchestrator.plan.paper import PaperConfig
from sr_models.errors import InputError

SCORES = {"x2/edsr/l1": {"Set5": {"psnr_y": 38.11}}}


def test_a_test_set_stands_beside_the_benchmark_of_its_name_or_the_one_that_is_said():
    paper = PaperConfig(source="Table 1", scores=SCORES, beside={"photographs": "Set5"})
    assert paper.score("x2/edsr/l1", "Set5", "psnr_y") == paper.score("x2/edsr/l1", "photographs", "psnr_y") == 38.11
    assert (paper.benchmark("photographs"), paper.benchmark("Set14")) == ("Set5", "Set14")
    for row, test_set, metric in (
        ("x2/edsr/l1", "Set14", "psnr_y"),
        ("x2/edsr/l1", "Set5", "ssim_y"),
        ("a", "Set5", "psnr_y"),
    ):
        assert paper.score(row, test_set, metric) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "paper.source: required, and not given"),
        ({"source": "s", "scores": {"a": {"Set5": {"pnsr_y": 1}}}}, "paper.scores: a.Set5: unknown metric 'pnsr_y'"),
        (
            {"source": "s", "printed_only": {"a": {"scores": {"Set5": {"pnsr_y": 1}}}}},
            "paper.printed_only.a.scores: Set5: unknown metric 'pnsr_y'",
        ),
        ({"source": "s", "parameters": {"a": "715K"}}, "paper.parameters.a: "),
    ],
)
def test_what_cannot_be_shown_is_refused(given, said):
    with pytest.raises(InputError) as caught:
        PaperConfig.parse(given, "paper")
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
