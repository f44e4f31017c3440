"""What a sweep uses of plug-ins: tried out before it begins, in fingerprints, asked of every node."""

import json
from typing import Any

import pytest

from cluster import ray_runtime
from objectives import LOSSES
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.plugins import try_out, used
from orchestrator.plan.text import plan_text
from orchestrator.plan.trial import TrialConfig
from sr_models import MODELS, plugins
from sr_models.checkpoints.folder import CheckpointInfo
from sr_models.errors import InputError

SOURCE = """
from typing import Literal
from eval import Metric
from objectives import OwnLoss
from sr_models.hyper.base import NetworkHyper
from sr_models.hyper.degradation import OwnDegradation
from sr_models.networks.base import SRNetwork
from sr_models.spec import ModelSpec
import torch

class Hyper(NetworkHyper):
    def multiply_adds(self, scale): return 9.0
class Net(SRNetwork):
    def __init__(self, scale):
        super().__init__()
        self.scale, self.feature_channels, self.feature_scale_to_go = scale, CHANNELS, scale
        self.conv = torch.nn.Conv2d(3, 3, 1)
    def features(self, lr): return self.conv(lr)
    def reconstruct(self, feat, lr): return feat.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
NET = ModelSpec(name="own_net", family="regression", module=__name__, cls="Net", hyper=Hyper, scales=(2,), paper="none")
class Loss(OwnLoss):
    kind: Literal["own_loss"] = "own_loss"
    def per_sample(self, mu, y, z, sigma_hat): return LOSS
METRIC = Metric(unit="", higher_is_better=True, reads=("sr",), decimals=2, description="own", compute=lambda sr: VALUE)
class Box(OwnDegradation):
    set: Literal["own_box"] = "own_box"
    def lr(self, hr, scale, rng): return PICTURE
"""
SOUND = {
    "CHANNELS": "3", "LOSS": "(mu - y).square().mean(dim=(1, 2, 3))", "VALUE": "sr.mean(dim=(1, 2, 3))",
    "PICTURE": "hr[::scale, ::scale]",
}  # fmt: skip
POINTS = {
    "models": {"own_net": "NET"}, "objectives": {"own_loss": "Loss"}, "metrics": {"own_metric": "METRIC"},
    "degradations": {"own_box": "Box"},
}  # fmt: skip
STAMPS = {
    "model own_net": "sr-own 1.0", "objective own_loss": "sr-own 1.0", "degradation own_box": "sr-own 1.0",
    "metric own_metric": "sr-own 1.0",
}  # fmt: skip


def installed(plugin: Any, **changes: str) -> None:
    source = SOURCE
    for word, text in (SOUND | changes).items():
        source = source.replace(word, text)
    plugin(source, POINTS)


def planned(**changes: Any) -> Plan:
    base = {
        "name": "p", "models": ["own_net"], "objectives": ["own_loss"], "train": {"degradation": "own_box"},
        "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}},
        "evaluation": {"metrics": ["psnr_y", "own_metric"]},
    }  # fmt: skip
    return make_plan(SweepConfig.parse(base | changes, "test"))


def trial(plan: Plan) -> TrialConfig:
    return plan.trial(plan.combinations[0], {}, 1, "0" * 64, None)


def test_a_sweep_says_what_it_uses_and_tries_it_out(plugin):
    installed(plugin)
    plan = planned()
    assert used(plan) == STAMPS
    line = "by plug-ins: model own_net, objective own_loss, degradation own_box, metric own_metric (sr-own 1.0)"
    assert f"  {line}" in plan_text(plan, 2).splitlines()
    try_out(plan)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"CHANNELS": "4"},
            r"model own_net gives features of two 24x25 LR of shape \(2, 3, 24, 25\), expected \(2, 4, 24, 25\) ",
        ),
        (
            {"LOSS": "(mu - y).square()"},
            r"objective own_loss gives a loss of two samples of shape \(2, 3, 24, 24\), expected \(2,\) ",
        ),
        (
            {"LOSS": "(mu - y).square().mean()"},
            r"objective own_loss gives a loss of two samples of shape \(\), expected \(2,\) ",
        ),
        (
            {"LOSS": "(mu - y).square().mean(dim=(1, 2, 3)) / 0"},
            r"objective own_loss gives a loss of two samples that is not finite \(inf, 2 of 2 numbers\) ",
        ),
        (
            {"LOSS": "(mu - y).square().mean(dim=(1, 2, 3)) * torch.nan"},
            r"objective own_loss gives a loss of two samples that is not finite \(nan, 2 of 2 numbers\) ",
        ),
        (
            {"LOSS": "(mu - mu.detach()).square().sum(dim=(1, 2, 3)).sqrt()"},
            r"objective own_loss gives a gradient of mu that is not finite \(nan, 3456 of 3456 numbers\) ",
        ),
        ({"LOSS": "y.mean(dim=(1, 2, 3))"}, "objective own_loss fails as it is tried out .RuntimeError"),
        (
            {"VALUE": "sr.mean()"},
            r"metric own_metric gives scores of two pictures of shape \(\), expected \(2,\) ",
        ),
        ({"VALUE": "1 / 0"}, "metric own_metric fails as it is tried out .ZeroDivisionError"),
        ({"PICTURE": "hr"}, r"degradation own_box fails as it is tried out .ValueError: Box.lr gives \(48, 48, 3\)"),
        (
            {"PICTURE": "(hr[::2, ::2] * torch.rand(1).item()).astype('uint8')"},
            r"degradation own_box gives other LR from the same rng \(\d+ of 576 pixels\) ",
        ),
    ],
)
def test_what_is_none_of_what_it_says_is_refused_before_anything_is_trained(plugin, changes, said):
    installed(plugin, **changes)
    with pytest.raises(InputError, match=f"^plug-in sr-own 1.0: {said}"):
        try_out(planned())


def test_a_fingerprint_holds_the_version_and_nothing_where_there_is_none(plugin, monkeypatch):
    plain = trial(planned(models=["imdn"], objectives=["l1"], train={}, evaluation={"metrics": ["psnr_y"]}))
    assert "plugins" not in plain.model_dump()
    installed(plugin)
    own = trial(planned())
    assert own.plugins == {row: stamp for row, stamp in STAMPS.items() if not row.startswith("metric")}
    again = TrialConfig.model_validate(json.loads(own.model_dump_json()))
    assert again == own and again.fingerprint == own.fingerprint
    monkeypatch.setattr(plugins, "_stamp", lambda point: "sr-own 2.0")
    assert trial(planned()).fingerprint != own.fingerprint == again.fingerprint
    same = trial(planned(models=["imdn"], objectives=["l1"], train={}))
    assert same.fingerprint == plain.fingerprint  # a metric moves no weights


def test_a_process_without_the_package_names_itself_and_what_it_lacks(plugin, monkeypatch, tmp_path):
    installed(plugin)
    own = trial(planned()).model_dump(mode="json")
    lost = own | {"plugins": {"model own_net": "sr-gone 1.0"}}
    monkeypatch.setattr("platform.node", lambda: "node-7")
    with pytest.raises(ValueError, match=r"plug-in sr-gone 1.0 \(model own_net\) is not installed on node-7"):
        TrialConfig.model_validate(lost)
    info = {"model": "own_net", "scale": 2, "hyper": {}, "sigma": None, "ema": False, "fingerprint": None,
            "weights_sha256": "", "plugins": lost["plugins"]}  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=r"plug-in sr-gone 1.0 \(model own_net\) is not installed on node-7"):
        CheckpointInfo.read(tmp_path)


def test_nodes_that_lack_a_plugin_are_refused_and_nobody_is_asked_without_one(monkeypatch):
    monkeypatch.setattr(ray_runtime, "on_each_node", lambda function, stamps: [("10.0.0.1", []), ("10.0.0.2", ["why"])])
    ray_runtime.check_plugins({})
    with pytest.raises(InputError, match=r"1 of the cluster's 2 nodes lack a plug-in: 10.0.0.2: why"):
        ray_runtime.check_plugins({"model own_net": "sr-own 1.0"})


def test_ours_are_as_they_were():
    assert MODELS.added == LOSSES.added == {}, "the tests' environment has a plug-in installed"
