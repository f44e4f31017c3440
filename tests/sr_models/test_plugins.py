"""Rows of plug-ins: found without being imported, held to what ours are, refused by name of their distribution."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sr_models
from eval.metrics.scorer import Scorer
from eval.protocol import METRICS, PROTOCOLS, RESERVED, all_metrics, get_metric, library
from eval.rows import SCHEMA, plugins_of
from objectives import LOSSES, RECIPES, OwnLoss, check_legal, resolve
from objectives import pixel as losses
from orchestrator.leaderboard.board import Training
from sr_models import MODELS
from sr_models.__main__ import rows, table
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.errors import InputError
from sr_models.hyper.degradation import DEGRADATIONS, parse_degradation
from sr_models.images.degrade import degrade
from sr_models.plugins import absent, plugins_text, require
from sr_models.rng import keyed

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/plugin"

HEAD = """
from typing import ClassVar, Literal
from eval import Metric
from objectives import OwnLoss
from sr_models.hyper.base import NetworkHyper
from sr_models.hyper.degradation import OwnDegradation
from sr_models.networks.base import SRNetwork
from sr_models.params import SearchRange, searchable
from sr_models.spec import ModelSpec
import torch

class Hyper(NetworkHyper):
    channels: int = 4
    def multiply_adds(self, scale): return 36.0

class Net(SRNetwork):
    def __init__(self, scale, channels):
        super().__init__()
        self.scale, self.feature_channels, self.feature_scale_to_go = scale, 3, scale
        self.conv = torch.nn.Conv2d(3, 3, 1)
    def features(self, lr): return self.conv(lr)
    def reconstruct(self, feat, lr): return feat.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)

def spec(**changes):
    return ModelSpec(**{"name": "own", "family": "regression", "module": __name__, "cls": "Net", "hyper": Hyper,
                        "scales": (2,), "paper": "none"} | changes)

def metric(**changes):
    return Metric(**{"unit": "", "higher_is_better": True, "reads": ("sr",), "decimals": 2, "description": "own",
                     "compute": lambda sr: sr.mean(dim=(1, 2, 3))} | changes)
"""


def example(plugin):
    """Install examples/plugin."""
    about = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    points = {
        group.removeprefix("sr_sweep."): {name: found.partition(":")[2] for name, found in named.items()}
        for group, named in about["entry-points"].items()
    }
    source = (EXAMPLE / "sr_sweep_example.py").read_text().replace('module="sr_sweep_example"', "module=__name__")
    plugin(source, points, about["name"], about["version"])


def test_the_example_and_the_documented_degradation_add_a_row_to_each_table(plugin, documented):
    before = [len(of) for of in (MODELS, LOSSES, METRICS, DEGRADATIONS)]
    example(plugin)
    plugin(documented, {"degradations": {"box": "Box"}}, "sr-box")
    assert [len(of) for of in (MODELS, LOSSES, METRICS, DEGRADATIONS)] == [count + 1 for count in before]
    assert list(MODELS)[-1] == "tiny_net" and MODELS.stamp("imdn") == {}
    assert MODELS.stamp("tiny_net") == {"model tiny_net": "sr-sweep-example 0.1"}
    assert MODELS["tiny_net"].counts == {2: 12_483, 4: 21_763}
    assert [sr_models.build("tiny_net", scale).scale for scale in (2, 4)] == [2, 4]  # counted as it is built
    assert all(of.sound()[1] == [] for of in (MODELS, LOSSES, METRICS, DEGRADATIONS))
    assert len((EXAMPLE / "sr_sweep_example.py").read_text().splitlines()) < 60


def test_a_loss_of_a_plugin_is_an_objective_under_any_target(plugin):
    example(plugin)
    spec = resolve("tiny_huber")
    assert isinstance(spec.loss, OwnLoss) and spec.target == RECIPES["l1"].target
    assert resolve(spec.model_dump(mode="json")) == spec == type(spec).model_validate_json(spec.model_dump_json())
    eco = resolve({"recipe": "eco", "loss": "tiny_huber", "loss.delta": 0.2})
    assert eco.loss.model_dump() == {"kind": "tiny_huber", "delta": 0.2} and eco.needs == {"mu", "mu_lr"}
    check_legal(eco, "regression")
    with pytest.raises(InputError, match="cannot train a diffusion network"):
        check_legal(eco, "diffusion")
    mu, y = torch.rand(2, 2, 3, 8, 8)
    miss = (mu - y).abs()
    by_hand = torch.where(miss < 0.2, miss**2 / 0.4, miss - 0.1).mean(dim=(1, 2, 3))
    torch.testing.assert_close(losses.loss(eco.loss, mu, y, None), by_hand)
    for given, said in {
        "tiny_hubr": "unknown objective 'tiny_hubr'; did you mean 'tiny_huber'",
        "delta": "m.loss: tiny_huber.delta: .*greater than 0.*-1",
    }.items():
        with pytest.raises(InputError, match=said):
            resolve(given if given != "delta" else {"recipe": "l1", "loss": {"kind": "tiny_huber", "delta": -1}}, "m")


def test_a_metric_of_a_plugin_is_scored_under_the_protocol(plugin):
    example(plugin)
    assert (get_metric("mean_error").library, library("mean_error")) == ("sr-sweep-example",) * 2
    assert get_metric("g_std.mean_error").level == "draws" and "g_std.mean_error" in all_metrics()
    scorer = Scorer(PROTOCOLS["classical"], ["mean_error", "psnr_y"], scale=2)
    hr = torch.zeros(2, 3, 20, 20)
    sr = torch.full_like(hr, 10.4 / 255)
    sr[:, :, :2] = 1  # cropped, and the rest rounded
    assert scorer.image(sr, hr)["mean_error"].tolist() == pytest.approx([10, 10])
    assert plugins_of("imdn", ["psnr_y"]) == "" and "sr-sweep-example 0.1" in plugins_of("imdn", ["g_std.mean_error"])


def test_a_degradation_of_a_plugin_makes_lr(plugin, documented):
    plugin(documented, {"degradations": {"box": "Box"}})
    how = parse_degradation({"set": "box", "noise": 0}, "d")
    hr = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    pair = degrade(hr, 2, how, keyed(0, 0, 0, "degrade"))
    assert pair.lr.tolist() == [[[8, 9, 10], [14, 15, 16]]] and (pair.hr == hr).all()


def test_lists_name_the_distribution_and_what_cannot_be_used(plugin, documented):
    example(plugin)
    plugin(documented, {"degradations": {"box": "Box"}}, "sr-box")
    plugin("import no_such_module", {"models": {"gone": "X"}}, "sr-broken", "3.1")
    text = table()
    assert "tiny_net: by the plug-in sr-sweep-example 0.1" in text
    assert "plug-in sr-broken 3.1: model 'gone' cannot be imported (ModuleNotFoundError: No module named" in text
    assert [row["plugin"] for row in rows() if "plugin" in row] == ["sr-sweep-example 0.1"] * 2
    from orchestrator.plan.keys import keys_text

    keys = keys_text()
    assert "models.tiny_net.channels" in keys and "train.degradation box" in keys and "loss tiny_huber" in keys
    assert keys.splitlines()[-1].startswith("  plug-in sr-broken 3.1: model 'gone' cannot be imported")


def test_lists_and_commands_go_on_beside_a_package_that_claims_our_names(plugin, tmp_path, capsys):
    from eval.__main__ import main as evaluate
    from orchestrator.sweep import main as sweep
    from orchestrator.upscale import main as upscale
    from sr_models.__main__ import main as listing

    assert listing(["list"]) == 0
    before = capsys.readouterr().out
    hyper, folder, photo = {"channels": 8, "blocks": 1}, tmp_path / "net", tmp_path / "photo.png"
    net = sr_models.build("edsr_baseline", 2, **hyper)
    about = {"model": "edsr_baseline", "scale": 2, "hyper": hyper, "sigma": None, "ema": False, "fingerprint": None}
    save_checkpoint(folder, net, **about)
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(photo)
    planned = ["--dry-run", "--output", str(tmp_path / "runs"), "models=[edsr_baseline]", "objectives=[l1]"]
    assert sweep(planned) == 0
    plan = capsys.readouterr().out

    names = {"models": "edsr_baseline", "objectives": "l1", "metrics": "psnr_y", "degradations": "ccsr"}
    plugin("1 / 0", {group: {name: "X"} for group, name in names.items()}, "pc")
    assert listing(["list"]) == 0
    line = "plug-in pc 1.0: model 'edsr_baseline' has a name that is taken here; give it another one"
    assert capsys.readouterr().out == before + line + "\n"
    assert sweep(planned) == 0 and sweep(["--keys"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(plan.partition("\n  disk:")[0]) and f"  {line}" in said.splitlines()
    assert upscale([str(folder), str(photo), "-o", str(tmp_path / "out")]) == 0
    assert evaluate(["--weights", str(folder), "--hr", str(tmp_path), "--include", "photo.png"]) == 0


def test_a_broken_package_is_no_business_of_who_does_not_name_it(plugin):
    plugin("1 / 0", {group: {"own_row": "X"} for group in ("models", "objectives", "metrics", "degradations")})
    assert "own_row" in MODELS and sr_models.build("bicubic", 2).scale == 2 and resolve("l1") == RECIPES["l1"]
    assert get_metric("psnr_y") and "own_row" in all_metrics() and parse_degradation({"set": "ccsr"}, "d")
    for look in (
        lambda: sr_models.build("own_row", 2),
        lambda: resolve("own_row"),
        lambda: get_metric("own_row"),
        lambda: parse_degradation({"set": "own_row"}, "d"),
    ):
        with pytest.raises(InputError, match=r"^plug-in sr-own 1.0: .* 'own_row' cannot be imported \(ZeroDivision"):
            look()


@pytest.mark.parametrize(
    ("group", "name", "found", "said"),
    [
        ("models", "zoo", "spec(name='zoo')", "has a name that is taken here"),
        ("models", "Own", "spec(name='Own')", "must be named by at most 50 lower case letters"),
        ("models", "own", "missing", "cannot be imported .AttributeError"),
        ("models", "own", "Net", "is no sr_models.spec.ModelSpec"),
        ("models", "own", "spec(name='other')", "calls itself 'other'"),
        ("models", "own", "spec(family='diffusion')", "must be of the family regression"),
        ("models", "own", "spec(hyper=dict)", "must have hyperparameters of a NetworkHyper"),
        ("models", "own", "spec(scales=())", "must have scales that are whole numbers from 1 to 64"),
        ("models", "own", "spec(scales=(2.5,))", "must have scales that are whole numbers"),
        ("models", "own", "spec(counts={3: 5})", "must count parameters at its scales"),
        ("models", "own", "spec(hyper=NetworkHyper)", "must say its multiply_adds"),
        ("models", "own", "spec(hyper=type('H', (Hyper,), {'__annotations__': {'a': int}}))", "a: required"),
        ("objectives", "eco", "OwnLoss", "has a name that is taken here"),
        ("objectives", "own", "Hyper", "is no class below objectives.OwnLoss"),
        ("objectives", "own", "OwnLoss", "must have the field `kind"),
        ("objectives", "own", "NoValues", "has no per_sample"),
        ("objectives", "own", "Latent", "must be of the family regression"),
        ("objectives", "own", "Range", "at an end of its search range.w: .*less than or equal to 1"),
        ("metrics", "seed", "metric()", "has a name that is taken here"),
        ("metrics", "psnr_y_low", "metric()", "may not begin with psnr_y_"),
        ("metrics", "own", "metric(compute=None)", "is no eval.Metric with `compute`"),
        ("metrics", "own", "metric(reads=('sr', 'sigma'))", "must read SR and HR or SR alone"),
        ("metrics", "own", "metric(cost='set', level='set')", "must read SR and HR or SR alone, at cost light"),
        ("metrics", "own", "metric(decimals=20)", "must have 0 to 8 decimals"),
        ("degradations", "own", "Net", "is no class below"),
        ("degradations", "own", "OwnDegradation", "must have the field `set"),
        ("degradations", "own", "NoLr", "has no lr"),
    ],
)
def test_a_row_is_held_to_what_ours_are(plugin, group, name, found, said):
    source = f"""{HEAD}
class NoValues(OwnLoss):
    kind: Literal["own"] = "own"
class Latent(NoValues):
    family: ClassVar[str] = "diffusion"
    def per_sample(self, mu, y, z, sigma_hat): return mu
class Range(NoValues):
    w: float = searchable(0.5, SearchRange(low=0.1, high=2), "weight", le=1)
    def per_sample(self, mu, y, z, sigma_hat): return mu
class NoLr(OwnDegradation):
    set: Literal["own"] = "own"
{"" if found == "missing" else f"row = {found}"}
"""
    plugin(source, {group: {name: "row"}})
    table = {"models": MODELS, "objectives": LOSSES, "metrics": METRICS, "degradations": DEGRADATIONS}[group]
    assert name in table
    with pytest.raises(InputError, match=rf"^plug-in sr-own 1.0: {table.kind} '{name}' .*{said}") as caught:
        table[name]
    assert "\n" not in str(caught.value)


def test_a_name_of_ours_means_our_row_whatever_claims_it(plugin):
    own = [MODELS["imdn"], LOSSES["l1"], METRICS["psnr_y"], DEGRADATIONS["ccsr"]]
    claimed = {"models": ["imdn", "zoo"], "objectives": ["l1", "eco"], "metrics": ["psnr_y"], "degradations": ["ccsr"]}
    plugin("1 / 0", {group: dict.fromkeys(names, "X") for group, names in claimed.items()}, "pc")
    assert [MODELS["imdn"], LOSSES["l1"], METRICS["psnr_y"], DEGRADATIONS["ccsr"]] == own
    assert (
        [MODELS.stamp(name) for name in claimed["models"]] == [LOSSES.stamp(name) for name in ("l1", "eco")] == [{}] * 2
    )
    assert MODELS.added == LOSSES.added == METRICS.added == DEGRADATIONS.added == {}
    assert plugins_of("imdn", ["psnr_y"]) == "" and get_metric("psnr_y") == own[2]
    assert sr_models.build("imdn", 2, channels=16, blocks=1).scale == 2 and sr_models.spec("zoo").name == "zoo"
    assert resolve("l1") == RECIPES["l1"] and resolve("eco") == RECIPES["eco"]
    assert resolve({"recipe": "eco", "loss": "l1"}) and parse_degradation({"set": "ccsr"}, "d")
    for of, names in zip((MODELS, LOSSES, METRICS, DEGRADATIONS), claimed.values(), strict=True):
        rows, lines = of.sound()
        assert rows == of.own
        taken = "has a name that is taken here; give it another one"
        assert lines == [f"plug-in pc 1.0: {of.kind} {name!r} {taken}" for name in sorted(names)]


def test_a_name_that_two_distributions_give_is_refused(plugin):
    for name in ("sr-own", "sr-other"):
        plugin(HEAD + "row = spec()", {"models": {"own": "row"}}, name)
    with pytest.raises(InputError, match=r"given by several distributions \(sr-other 1.0, sr-own 1.0\)"):
        sr_models.spec("own")
    assert "own" not in list(MODELS)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("spec(counts={2: 99})", "has 12 trainable parameters at scale 2, and its row counts 99"),
        ("spec(cls='Plain')", "must be a sr_models.networks.base.SRNetwork with scale 2"),
        ("spec(module='no_such_module')", "cannot be built at scale 2 .ModuleNotFoundError"),
    ],
)
def test_a_network_is_what_its_row_says(plugin, row, said):
    plain = "\nclass Plain(torch.nn.Module):\n    def __init__(self, scale, channels): super().__init__()\n"
    plugin(f"{HEAD}{plain}row = {row}", {"models": {"own": "row"}})
    with pytest.raises(InputError, match=said):
        sr_models.build("own", 2)


def test_what_a_machine_lacks_is_said_with_its_name(plugin, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "node-7")
    example(plugin)
    assert absent({"model tiny_net": "sr-sweep-example 0.1"}) == absent({}) == []
    other = {"model tiny_net": "sr-sweep-example 0.2", "objective own": "sr-own 1.0"}
    assert absent(other) == [
        "plug-in sr-sweep-example 0.2 (model tiny_net): node-7 has version 0.1",
        "plug-in sr-own 1.0 (objective own) is not installed on node-7",
    ]
    assert absent(other, exact=False) == absent(other)[1:]
    with pytest.raises(InputError, match="is not installed on node-7"):
        require(other, exact=False)
    assert plugins_text(other | {"metric own": "sr-own 1.0"}) == (
        "model tiny_net (sr-sweep-example 0.2), objective own, metric own (sr-own 1.0)"
    )


def test_no_metric_of_a_plugin_is_called_as_another_column():
    columns = {field.name for field in SCHEMA} - {*all_metrics()}
    assert columns | Training.__dataclass_fields__.keys() <= RESERVED


def test_names_are_read_without_importing_a_package(tmp_path):
    code = "import sys, sr_models, eval, objectives; print(len(sr_models.MODELS), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(MODELS)), "False"]
