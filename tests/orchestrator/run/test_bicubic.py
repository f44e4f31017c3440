"""What bicubic scores on validation images: read as written, nothing of earlier runs."""

import pytest

from orchestrator.run.bicubic import BicubicRecord, bicubic_path, read_bicubic
from orchestrator.run.folder import RunDir
from sr_models.errors import InputError


def test_it_is_read_as_written_and_damage_is_named(tmp_path):
    run = RunDir(tmp_path / "run")
    assert read_bicubic(run) == {}
    BicubicRecord(scales={"x2": {"psnr_y": 33.36}}).write(bicubic_path(run))
    assert read_bicubic(run) == {"x2": {"psnr_y": 33.36}}
    bicubic_path(run).write_text(bicubic_path(run).read_text().replace("33.36", "43.36"))
    with pytest.raises(InputError, match=r"bicubic\.json is damaged"):
        read_bicubic(run)
