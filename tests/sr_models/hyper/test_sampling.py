"""Samplings that are refused, in one line; their marks."""

import pytest

from sr_models.errors import InputError
from sr_models.hyper.sampling import Sampling


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sampler": "dimm"}, "sampling.sampler: Input should be 'ancestral', 'ddim'"),
        ({"steps": 0}, "sampling.steps: .*greater than or equal to 1"),
        ({"eta": 0.5}, r"sampling: eta goes with the sampler ddim, not with ancestral \(got 0\.5\)"),
        ({"sampler": "ddim", "eta": 2}, "sampling.eta: .*less than or equal to 1"),
        ({"sampler": "ddim", "t_max": 0.5}, "sampling: t_max goes with the sampler truncated, not with ddim"),
        ({"sampler": "truncated", "t_max": 0.2}, r"sampling: t_min must be below t_max, got 0\.333333 and 0\.2"),
        ({"sampler": "truncated", "t_min": -1}, "sampling.t_min: .*greater than or equal to 0"),
        ({"step": 10}, "sampling: unknown key 'step'; did you mean 'steps'"),
    ],
)
def test_a_sampling_that_is_none_is_refused(values, said):
    with pytest.raises(InputError, match=said) as caught:
        Sampling.parse(values, "sampling")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "mark"),
    [
        ({}, "ancestral"),
        ({"steps": 100}, "ancestral100"),
        ({"sampler": "ddim", "steps": 10}, "ddim10"),
        ({"sampler": "ddim", "steps": 10, "eta": 0.5, "eps": "predicted"}, "ddim10eta0.5eps"),
        ({"sampler": "truncated", "steps": 45}, "truncated45t0.666667-0.333333"),
        ({"sampler": "truncated", "steps": 45, "t_max": 0.5, "jump": "released"}, "truncated45t0.5-0.333333jump"),
        ({"sampler": "unipc", "steps": 20}, "unipc20"),
        ({"steps": 5, "colour_fix": "wavelet"}, "ancestral5wavelet"),
        ({"steps": 5, "colour_fix": "adain", "canvas": "ccsr"}, "ancestral5ccsradain"),
    ],
)
def test_a_mark_says_how_one_samples_and_plain_data_makes_it_again(values, mark):
    sampling = Sampling(**values)
    assert sampling.mark == mark
    assert Sampling.model_validate(sampling.model_dump()) == sampling
