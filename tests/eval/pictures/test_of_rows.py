"""Which pictures an evaluation leaves: what each kind of network has to show, under its image's name."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sr_models
from eval import PROTOCOLS, benchmarks
from eval.benchmarks import Benchmark
from eval.metrics.scorer import Scorer
from eval.pictures import of_rows
from eval.score import score_image
from sr_models.networks.base import SRNetwork
from sr_models.networks.sigma import SigmaHead, WithSigma

SMALL = {"channels": 8, "blocks": 1}


@pytest.fixture
def bench(tmp_path: Path) -> Benchmark:
    (tmp_path / "mine").mkdir()
    pixels = np.random.default_rng(0).integers(60, 200, (44, 52, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine" / "a.png")
    return benchmarks.load("mine", 2, tmp_path / "mine")


def drawn(model: SRNetwork | WithSigma, bench: Benchmark, folder: Path, name: str = "net") -> set[str]:
    """The pictures of the set's only image, scored with two draws."""
    scorer = Scorer(PROTOCOLS["classical"], ["psnr_y", "ssim_y"], scale=2, kernel=bench.kernel)
    torch.manual_seed(0)
    scored = score_image(model, bench, 0, scorer=scorer, draws=2, seed=5)
    of_rows.draw_image(folder, bench, scored, name=name, scorer=scorer)
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple]]:
    """The (label, metrics) of the panels of each comparison."""
    found, comparison = [], of_rows.comparison

    def keep(path: Path, *, panels: list, **given: object) -> object:
        found.append([(label, list(scores or {})) for label, _, scores in panels])
        return comparison(path, panels=panels, **given)

    monkeypatch.setattr(of_rows, "comparison", keep)
    return found


def test_a_deterministic_network_is_compared_with_bicubic_and_hr(bench, tmp_path, compared):
    assert drawn(sr_models.build("edsr_baseline", 2, **SMALL), bench, tmp_path / "out") == {"a_comparison.png"}
    scores = ["psnr_y", "ssim_y"]
    assert compared == [[("LR", []), ("bicubic", scores), ("net", scores), ("HR", [])]]


def test_bicubic_is_not_compared_with_itself(bench, tmp_path, compared):
    drawn(sr_models.build("bicubic", 2), bench, tmp_path / "out", name="bicubic")
    assert [label for label, _ in compared[0]] == ["LR", "bicubic", "HR"]


def test_a_stochastic_network_shows_its_draws_and_where_they_differ(bench, tmp_path, compared):
    net = sr_models.build("noisy_edsr", 2, **SMALL, noise=30.0)
    assert drawn(net, bench, tmp_path / "out") == {"a_comparison.png", "a_draws.png", "a_l_std.png"}
    assert compared[0][2][0] == "net, draw 0 of 2"


def test_draws_of_several_samplers_name_the_protocol_of_each(bench, tmp_path, monkeypatch):
    """That of the last one stood under all."""
    said = []
    for kind in ("best_and_worst", "l_std_map"):
        monkeypatch.setattr(of_rows, kind, lambda *_, protocol, **__: said.append(protocol))
    scorer = Scorer(PROTOCOLS["classical"], ["psnr_y"], scale=2, kernel=bench.kernel)
    net = sr_models.build("noisy_edsr", 2, **SMALL, noise=30.0)
    a, b, c = (score_image(net, bench, 0, scorer=scorer, draws=2, seed=5) for _ in range(3))
    for scored, protocol in ((a, "p+ddim5"), (b, "p+unipc5"), (c, "p+ddim5")):
        scored.row["protocol"] = protocol
    methods = {"a": a, "b": b, "c": c}
    of_rows.draw_extremes(tmp_path / "draws.png", methods, title="", metrics=["psnr_y"])
    of_rows.draw_l_std(tmp_path / "l_std.png", methods, title="")
    assert said == ["p+ddim5 and p+unipc5"] * 2


def test_a_sigma_head_is_held_against_the_error(bench, tmp_path):
    model = WithSigma(sr_models.build("edsr_baseline", 2, **SMALL), SigmaHead(8, 2, width=4))
    assert drawn(model, bench, tmp_path / "out") == {"a_comparison.png", "a_sigma.png"}


def test_a_set_has_a_violin_for_each_metric_that_every_image_has(bench, tmp_path):
    def row(**values: float) -> dict:
        return {"per_draw": {"psnr_y": [], "ssim_y": [], "lpips_alex": []}, "protocol": "classical-y-b2", **values}

    rows = [row(psnr_y=30.0, ssim_y=0.9, lpips_alex=math.inf), row(psnr_y=math.inf, lpips_alex=math.inf)]
    of_rows.draw_set(tmp_path / "out", bench, rows, name="net")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["violin_psnr_y.png"]
