"""Metrics that networks compute: their weights are at hand before a sweep trains anything, and reach its workers."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval.metrics import backbones as weights
from orchestrator import backbones
from orchestrator.plan.config import SweepConfig
from orchestrator.run.access import LocalAccess
from orchestrator.run.mirrored import MirroredAccess
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError
from sr_models.images.files import sha256_file

ALEX = "alexnet-owt-7be5be79.pth"


def config(**changes: Any) -> SweepConfig:
    base = {
        "name": "s", "models": ["imdn"], "objectives": ["l1"], "search": {"metric": ["psnr_y", "lpips_alex"]},
        "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}},
    }  # fmt: skip
    return SweepConfig.parse(base | changes, "test")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file that passes for AlexNet's weights; the machine's own places are not looked into."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    made = tmp_path / "weights"
    made.mkdir()
    (made / ALEX).write_bytes(b"layers")
    right = replace(weights.BACKBONES[ALEX], sha256=sha256_file(made / ALEX))
    monkeypatch.setitem(weights.BACKBONES, ALEX, right)
    return made


def test_weights_that_are_not_there_are_named_before_anything_is_trained(folder, monkeypatch):
    said = f"^validations measure lpips_alex, which needs {ALEX}, and it is not there: put it into .*torch_home"
    for wanted in (config(), config(search={}, validation={"metrics": ["lpips_alex"]})):
        with pytest.raises(InputError, match=said) as caught:
            backbones.check(wanted)
        assert "evaluation.weights_dir or SR_WEIGHTS_DIR" in str(caught.value) and "\n" not in str(caught.value)
    backbones.check(config(search={}, evaluation={"metrics": ["psnr_y", "lpips_alex"]}))  # evaluation's says so itself
    backbones.check(config(evaluation={"weights_dir": str(folder)}))
    monkeypatch.setenv(weights.VARIABLE, str(folder))
    backbones.check(config())
    (folder / ALEX).write_bytes(b"something else")
    with pytest.raises(InputError, match=r"validations measure lpips_alex: .* is corrupt"):
        backbones.check(config())
    with pytest.raises(InputError, match=r"lpips_vgg, which needs vgg16-397923af\.pth"):
        backbones.check(config(search={"metric": "lpips_vgg"}))
    tuned = {"objectives": {"two": {"recipe": "ccsr_decoder"}}, "search": {}}
    with pytest.raises(InputError, match=r"^objectives\.two has a perceptual_weight, .* needs vgg16-397923af\.pth"):
        backbones.check(config(**tuned))
    backbones.check(config(**tuned | {"objectives": {"two": {"recipe": "ccsr_decoder", "loss.perceptual_weight": 0}}}))


def test_torch_is_imported_only_for_such_a_metric():
    code = (
        "import sys; from orchestrator import backbones, sweep; from orchestrator.plan.read import load; "
        "backbones.check(load('quick')); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_images_too_small_for_a_network_are_refused():
    stores: Any = {4: SimpleNamespace(sizes=lambda _: {"large": (40, 50), "small": (9, 30)})}
    with pytest.raises(InputError, match="lpips_alex, which needs 31 px a side: of small at x4 28 are left inside"):
        backbones.check_sizes(config(scales=[4]), stores)
    backbones.check_sizes(config(scales=[4], validation={"images": 1}), stores)
    with pytest.raises(InputError, match="of large at x4 24 are left"):
        backbones.check_sizes(config(scales=[4], validation={"images": 1, "crop": 32}), stores)
    backbones.check_sizes(config(scales=[4], search={}), stores)


def test_workers_find_the_weights_where_the_driver_does_or_in_the_run(folder, tmp_path):
    own = config(evaluation={"weights_dir": str(folder)})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()

    def supplied(access: Any, wanted: SweepConfig) -> Any:
        session: Any = SimpleNamespace(config=wanted, home=SimpleNamespace(access=access))
        backbones.supply(session)
        return session.home.access

    local = LocalAccess(tmp_path / "run")
    assert supplied(local, own).for_workers().weights_dir() == folder
    assert supplied(local, config(search={})).weights_dir() is None
    stored = MirroredAccess(Storage.parse(str(tmp_path / "far"), "--storage"), "run", tmp_path / "run")
    there = supplied(stored, own).for_workers().weights_dir()
    assert there != folder and (there / ALEX).read_bytes() == b"layers"
