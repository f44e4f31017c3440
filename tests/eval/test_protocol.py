"""Protocol ids, ranges and unknown names; the tables import without torch."""

import subprocess
import sys

import pytest

from eval import METRICS, PROTOCOLS, Protocol, get_metric, get_protocol
from sr_models.errors import InputError


@pytest.mark.parametrize(
    ("protocol", "scale", "expected"),
    [
        (PROTOCOLS["classical"], 4, "classical-y-b4"),
        (PROTOCOLS["classical"], 2, "classical-y-b2"),
        (PROTOCOLS["uncropped"], 4, "uncropped-y-b0"),
        (Protocol(name="mine", border=6, luma="y8", uint8=False), 4, "mine-y8-b6-float"),
    ],
)
def test_id_spells_out_the_recipe(protocol: Protocol, scale: int, expected: str) -> None:
    assert protocol.id(scale) == expected


def test_every_field_changes_the_id() -> None:
    base = Protocol(name="p")
    changes = [{"name": "q"}, {"border": 3}, {"luma": "y8"}, {"uint8": False}]
    ids = {base.model_copy(update=change).id(4) for change in [{}, *changes]}
    assert len(ids) == 1 + len(Protocol.model_fields)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "p", "border": -1}, r"p\.border: border must be 'scale' or a number of pixels >= 0 \(got -1\)"),
        ({"name": "p", "lumma": "y"}, "unknown key 'lumma'; did you mean 'luma'"),
        ({"name": "A b"}, r"p\.name: .*\(got 'A b'\)"),
    ],
)
def test_bad_protocols_are_refused(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Protocol.parse(values, "p")


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(InputError, match=r"^unknown metric 'psnr'; did you mean 'psnr_y'\? \(valid: psnr_rgb,"):
        get_metric("psnr")
    with pytest.raises(InputError, match=r"unknown protocol 'clasical'; did you mean 'classical'\?"):
        get_protocol("clasical")


def test_better_follows_the_direction_of_the_metric() -> None:
    assert METRICS["psnr_y"].better(30.0, 29.0)
    assert not METRICS["psnr_y"].better(29.0, 29.0)


def test_tables_import_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from eval import METRICS, PROTOCOLS"
    subprocess.run([sys.executable, "-c", code], check=True)
