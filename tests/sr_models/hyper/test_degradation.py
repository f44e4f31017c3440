"""Named sets hold the papers' ranges; what is given is laid over them, and what cannot be drawn from is refused."""

import pytest
from pydantic import TypeAdapter

from sr_models.errors import InputError
from sr_models.hyper.degradation import NAMES, SEATS, AnyDegradation, parse_degradation


def test_the_named_sets_are_those_of_the_papers():
    real, mild = (parse_degradation({"set": name}, "d") for name in ("realesrgan", "ccsr"))
    assert (real.usm, mild.usm) == (True, False)
    expected = {
        "sigma": [(0.2, 3), (0.2, 1.5), (0.2, 1.5), (0.2, 1)],
        "blur_share": [1, 0.8, 1, 0.5],
        "sinc_share": [0.1] * 4,
        "kernel_size": [(7, 21)] * 4,
        "kernel_shares": [(0.45, 0.25, 0.12, 0.03, 0.12, 0.03)] * 4,
        "beta_generalised": [(0.5, 4), (0.5, 4), (0.5, 2), (0.5, 2)],
        "beta_plateau": [(1, 2), (1, 2), (1, 1.5), (1, 1.5)],
        "resize_shares": [(0.2, 0.7, 0.1), (0.3, 0.4, 0.3)] * 2,
        "resize": [(0.15, 1.5), (0.3, 1.2), (0.3, 1.5), (0.6, 1.2)],
        "gaussian_share": [0.5] * 4,
        "noise": [(1, 30), (1, 25), (1, 15), (1, 12)],
        "poisson": [(0.05, 3), (0.05, 2.5), (0.05, 2), (0.05, 1)],
        "grey_share": [0.4] * 4,
        "jpeg": [(30, 95), (30, 95), (60, 95), (60, 100)],
        "jpeg_share": [1] * 4,
    }
    rounds = [real.first, real.second, mild.first, mild.second]
    assert {name: [getattr(one, name) for one in rounds] for name in expected} == expected
    assert expected.keys() == type(real.first).model_fields.keys()
    assert real.final_sinc_share == mild.final_sinc_share == 0.8


def test_what_is_given_is_laid_over_its_set():
    made = parse_degradation({"set": "ccsr", "second": {"jpeg": [50, 60]}, "usm": True}, "d")
    assert made.second.jpeg == (50, 60) and made.second.noise == (1, 12) and made.first.jpeg == (60, 95) and made.usm


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_read_back_as_it_was_written_and_by_its_name_alone(name):
    adapter = TypeAdapter(AnyDegradation)
    made = adapter.validate_python(name)
    assert made == parse_degradation({"set": name}, "d") == adapter.validate_python(made.model_dump(mode="json"))
    assert name in ", ".join(SEATS).split(", ")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"set": "realesragn"}, "unknown set 'realesragn'; did you mean 'realesrgan'?"),
        ({}, "unknown set None"),
        ({"set": "ccsr", "usn": 1}, "unknown key 'usn'; did you mean 'usm'?"),
        ({"set": "ccsr", "first": {"jpg": [1, 2]}}, "d.first: unknown key 'jpg'; did you mean 'jpeg'?"),
        ({"set": "ccsr", "first": {"jpeg": [90, 60]}}, "must rise and lie within 1 to 100"),
        ({"set": "ccsr", "second": {"noise": [1, 300]}}, "must rise and lie within 0 to 255"),
        ({"set": "ccsr", "first": {"kernel_size": [8, 21]}}, "must rise from 3 to 51 and be odd"),
        ({"set": "ccsr", "first": {"kernel_shares": [1, 1, 0, 0, 0, 0]}}, "kernel_shares must sum to 1"),
        ({"set": "ccsr", "first": {"resize_shares": [0.5, 0.5, 0.5]}}, "resize_shares must sum to 1"),
        ({"set": "ccsr", "first": {"resize": [0.2, 0.9]}}, "resize must hold 1"),
        ({"set": "ccsr", "first": 3}, "d.first: "),
        ({"set": "ccsr", "final_resize": "bicubic"}, "d.final_resize: "),
        ({"set": "bsrgan", "noise": [2.5, 25]}, "noise is drawn among whole numbers"),
        ({"set": "bsrgan_plus", "jpeg": [30, 95.5]}, "jpeg is drawn among whole numbers"),
        ({"set": "bsrgan_plus", "resize_shares": [1, 1, 0]}, "resize_shares must sum to 1"),
        ({"set": "additive", "noise": [-1, 3]}, "must rise and lie within 0 to 255"),
        ({"set": "additive", "grey_share": True}, "true and false are no numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_from_is_refused(given, said):
    with pytest.raises(InputError) as error:
        parse_degradation(given, "d")
    assert said in str(error.value) and str(error.value).startswith("d")
