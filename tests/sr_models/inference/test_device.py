"""A device is tried before anything is loaded for it."""

import pytest

from sr_models.errors import InputError
from sr_models.inference.device import check_device


def test_what_computes_here_is_taken() -> None:
    check_device("cpu", "--device")


@pytest.mark.parametrize("name", ["foo", "cuda:99", "cuda:-1", "", "meta"])
def test_what_does_not_is_one_line(name: str) -> None:
    with pytest.raises(InputError) as caught:
        check_device(name, "--device")
    said = str(caught.value)
    assert said.startswith(f"--device: {name!r} cannot be used here (") and "\n" not in said
    assert said.endswith("); give cpu, cuda or cuda:N")
