"""A set scored into one report: means of means, spreads, FID and KID over draws, reasons for what is missing."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor

import sr_models
from eval import PROTOCOLS, benchmarks, weights_command
from eval.__main__ import main
from eval.benchmarks import Benchmark
from eval.metrics import distribution
from eval.metrics.scorer import Scorer
from eval.protocol import METRICS, STABILITY, UNCERTAINTY
from eval.report import Evaluation, score_model
from eval.report_text import table
from eval.score import set_row
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.images.files import pixels_sha256
from sr_models.images.operators import to_float
from sr_models.inference.super_resolve import Options, super_resolve
from sr_models.networks.base import SRNetwork
from sr_models.networks.sigma import SigmaHead, WithSigma
from sr_models.rng import noise_seed


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        write(tmp_path / "mine" / "HR" / f"{name}.png", rng.integers(60, 200, (44, 52, 3)))
    return tmp_path / "mine" / "HR"


@pytest.fixture
def three(hr: Path) -> Benchmark:
    return benchmarks.load("mine", 2, hr)


@pytest.fixture
def noisy() -> SRNetwork:
    torch.manual_seed(0)
    return sr_models.build("noisy_edsr", 2, channels=8, blocks=1, noise=30.0)


class Coloured(Scorer):
    """Stands for one that has Inception: features are four statistics of each channel."""

    def __init__(self, *metrics: str, draws: int = 3) -> None:
        protocol = PROTOCOLS["classical"].model_copy(update={"draws": draws})
        images = [name for name in metrics if name not in ("fid", "kid")]
        super().__init__(protocol, images, scale=2, kernel="matlab-bicubic-replicate-u8")
        self.metrics += [name for name in metrics if name in ("fid", "kid")]

    def features(self, images: np.ndarray | Tensor) -> Tensor:
        x = images if isinstance(images, Tensor) else torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        flat = x.flatten(2).float()
        return torch.cat([flat.mean(2), flat.std(2), flat.amax(2), flat.square().mean(2)], 1)

    def reference_features(self, hashes, read, *, cache=None):  # type: ignore[no-untyped-def]
        return np.concatenate([self.features(read(i)[None]).numpy() for i in range(len(hashes))])


def evaluate(model: SRNetwork, bench: Benchmark, scorer: Scorer, metrics: list[str], seed: int = 5) -> Evaluation:
    return score_model(
        model, bench, name="it", weights_sha256=None, scorer=scorer, metrics=metrics, seed=seed, options=Options(),
        save_in=None, pictures_in=None,
    )  # fmt: skip


def test_spreads_are_taken_per_image_and_then_averaged(three: Benchmark, noisy: SRNetwork) -> None:
    result = evaluate(noisy, three, Coloured("psnr_y"), ["psnr_y"])
    per_draw = np.array([row["per_draw"]["psnr_y"] for row in result.rows])
    assert per_draw.shape == (3, 3)
    means = result.report["means"]
    assert means["psnr_y"] == pytest.approx(per_draw.mean(), rel=1e-12)
    assert means["g_std.psnr_y"] == pytest.approx(per_draw.std(axis=1).mean(), rel=1e-9)
    assert means["l_std"] == pytest.approx(np.mean([row["l_std"] for row in result.rows]), rel=1e-12)
    assert list(means) == ["psnr_y", "g_std.psnr_y", "l_std"]
    text = table(result.report, per_image=True).splitlines()
    assert text[0].startswith("it x2, protocol classical-y-b2-n3, ")
    assert text[0].endswith("means over 3 draws, noise seed 5")
    assert text[2].split() == ["image", "psnr_y", "(dB)", "l_std"]
    assert text[-1].split() == ["G-STD", f"{means['g_std.psnr_y']:.4f}"]


def test_a_deterministic_network_spreads_by_exactly_0_and_says_so(three: Benchmark) -> None:
    metrics = ["psnr_y", "g_std.psnr_y", "l_std"]
    report = evaluate(sr_models.build("bicubic", 2), three, Coloured(*metrics), metrics).report
    assert (report["draws"], report["deterministic"], report["noise_seed"]) == (1, True, None)
    assert (report["means"]["g_std.psnr_y"], report["means"]["l_std"]) == (0.0, 0.0)
    assert "deterministic: one draw, G-STD and L-STD are exactly 0" in table(report, per_image=False).splitlines()[0]


def test_fid_and_kid_are_means_over_draws(three: Benchmark, noisy: SRNetwork) -> None:
    scorer = Coloured("psnr_y", "fid", "kid")
    result = evaluate(noisy, three, scorer, ["psnr_y", "fid", "kid"])
    *rows, whole = result.rows
    assert [row["image"] for row in rows] == ["a", "b", "c"] and whole["image"] == ""
    reference = scorer.reference_features(["", "", ""], lambda i: three.read(i)[1])
    for number in range(3):
        draw = evaluate_draw(noisy, three, scorer, number)
        assert whole["per_draw"]["fid"][number] == pytest.approx(distribution.fid(draw, reference), abs=1e-9)
        assert whole["per_draw"]["kid"][number] == pytest.approx(distribution.kid(draw, reference)[0], abs=1e-9)
    for name in ("fid", "kid"):
        assert whole[name] == result.report["means"][name] == pytest.approx(np.mean(whole["per_draw"][name]))
        assert name not in result.report["images"][0]
    low, high = result.report["set"]["fid"]["interval"]
    assert low <= whole["per_draw"]["fid"][0] <= high
    assert result.report["set"]["fid"]["samples"] == 3
    notes = table(result.report, per_image=False).splitlines()[-2:]
    assert notes[0].startswith("kid: 3 samples")
    assert notes[1].startswith("fid: 95% of redrawn sets in ") and "FID of 3 samples is biased" in notes[1]
    assert whole["lr_sha256"] == three.lr_hash and whole["draws"] == 3


def evaluate_draw(model: SRNetwork, bench: Benchmark, scorer: Scorer, number: int) -> np.ndarray:
    """Features of one draw of every image, drawn again by hand."""
    parts = []
    for i in range(len(bench)):
        lr = bench.read(i)[0]
        sr = super_resolve(model, to_float(lr), seeds=(noise_seed(5, pixels_sha256(lr), number),)).sr
        parts.append(scorer.features(sr).numpy())
    return np.concatenate(parts)


def test_too_few_images_for_fid_are_a_reason_not_an_error(three: Benchmark) -> None:
    one = Benchmark(name="one", scale=2, kernel=three.kernel, pairs=three.pairs[:1])
    metrics = ["psnr_y", "fid", "kid"]
    report = evaluate(sr_models.build("bicubic", 2), one, Coloured(*metrics), metrics).report
    assert list(report["means"]) == ["psnr_y"]
    assert report["not_computed"].keys() == {"fid", "kid"}
    assert "at least 2 samples" in report["not_computed"]["fid"]


def test_a_set_row_counts_patches_by_their_image() -> None:
    draw = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    reference = np.random.default_rng(1).normal(size=(12, 4)).astype(np.float32)
    rows = [{"benchmark": "s", "images": 3, "draws": 1, "deterministic": True}] * 3
    features = [[torch.from_numpy(part)] for part in np.split(draw, 3)]
    row = set_row(rows, features, reference, ["fid"])
    owner = np.repeat([0, 1, 2], 4)
    assert row["fid"] == pytest.approx(distribution.fid(draw, reference))
    assert row["details"]["fid"]["interval"] == list(
        distribution.jackknife_interval(draw, reference, row["fid"], images=owner)
    )
    assert row["kid"] == pytest.approx(distribution.kid(draw, reference)[0])
    assert "fid" not in set_row(rows, features, reference, ["kid"])


def report_of(tmp_path: Path, *arguments: object) -> dict:
    assert main([*map(str, arguments), "--json", str(tmp_path / "report.json")]) == 0
    return json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)


def test_one_level_apart_is_48_1308_db(tmp_path: Path) -> None:
    for name, level in (("hr", 100), ("sr", 101)):
        write(tmp_path / name / "a.png", np.full((40, 40, 3), level))
    ask = ("--images", tmp_path / "sr", "--hr", tmp_path / "hr", "--scale", 2, "--metrics", "psnr_rgb")
    assert report_of(tmp_path, *ask)["means"]["psnr_rgb"] == pytest.approx(48.1308, abs=5e-5)


def test_pictures_are_consistent_with_lr_where_it_is_given(hr: Path, tmp_path: Path) -> None:
    for i, path in enumerate(sorted(hr.iterdir())):
        write(tmp_path / "lr" / path.name, benchmarks.load("mine", 2, hr).read(i)[0])
    ask = ("--hr", hr, "--scale", 2, "--metrics", "psnr_y,consistency")
    model = report_of(tmp_path, "--model", "bicubic", "--lr", tmp_path / "lr", "--save-images", tmp_path / "sr", *ask)
    with_lr = report_of(tmp_path, "--images", tmp_path / "sr", "--lr", tmp_path / "lr", *ask)
    assert with_lr["means"] == model["means"] and with_lr["means"]["consistency"] > 0
    without = report_of(tmp_path, "--images", tmp_path / "sr", *ask)
    assert list(without["means"]) == ["psnr_y"]
    assert without["not_computed"] == {"consistency": "LR images are not known"}
    hr_itself = report_of(tmp_path, "--images", hr, "--lr", tmp_path / "lr", *ask)
    assert hr_itself["means"]["consistency"] == pytest.approx(0, abs=1e-9)


def test_spreads_of_pictures_say_what_they_need(hr: Path, tmp_path: Path) -> None:
    report = report_of(tmp_path, "--images", hr, "--hr", hr, "--scale", 2, "--metrics", "ssim_y,l_std,g_std.ssim_y")
    assert report["not_computed"] == dict.fromkeys(
        ("l_std", "g_std.ssim_y"), "needs draws of a network; pictures are one"
    )


def test_what_cannot_be_had_is_named_and_absent(hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ("--model", "bicubic", "--hr", hr, "--scale", 2, "--metrics", "psnr_y,lpips_alex,fid")
    report = report_of(tmp_path, *ask, "--parquet", tmp_path / "rows.parquet")
    assert list(report["means"]) == ["psnr_y"]
    assert report["not_computed"].keys() == {"lpips_alex", "fid", "kid"}
    assert all(row["lpips_alex"] is None for row in report["images"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["image", "psnr_y", "(dB)"]
    assert [line.split(":")[0] for line in lines[4:]] == ["lpips_alex", "fid, kid"]
    assert "alexnet-owt-7be5be79.pth" in lines[4] and "7be5be791159" in lines[4]
    for row in pq.read_table(tmp_path / "rows.parquet").to_pylist():
        assert row["lpips_alex"] is None and "alexnet" in json.loads(row["not_computed"])["lpips_alex"]

    assert main([*map(str, ask), "--strict"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("python -m eval: lpips_alex: alexnet") and said.err.count("\n") == 1


@pytest.mark.slow
def test_everything_at_once_on_a_stochastic_network(
    hr: Path, noisy: SRNetwork, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """All metrics, the table, rows and pictures; the same again gives the same rows, another seed others."""
    torch.save(noisy.state_dict(), tmp_path / "net.pth")
    ask = ("--model", "noisy_edsr", "--weights", tmp_path / "net.pth", "--hr", hr, "--scale", 2, "--draws", 3,
           "--hyper", "channels=8", "--hyper", "blocks=1", "--metrics", "all",
           "--weights-dir", request.getfixturevalue("weights"))  # fmt: skip
    report = report_of(
        tmp_path, *ask, "--seed", 4, "--parquet", tmp_path / "one.parquet", "--pictures", tmp_path / "pictures"
    )
    of_images = {name for name, metric in METRICS.items() if metric.level == "image"}
    missing = {"niqe", "musiq", "clipiqa", *UNCERTAINTY}  # no pyiqa, no sigma
    assert report["not_computed"].keys() == missing | {f"{STABILITY}{name}" for name in missing}
    computed = of_images - missing
    assert report["means"].keys() == computed | {f"{STABILITY}{name}" for name in computed} | {"l_std", "fid", "kid"}
    assert all(report["means"][f"{STABILITY}{name}"] > 0 for name in computed)
    assert (report["draws"], report["noise_seed"]) == (3, 4)
    assert {"lpips", "dists-pytorch", "torch-fidelity"} == report["versions"].keys() & {
        metric.library for metric in METRICS.values()
    }, "those that computed something"

    drawn = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert {f"{name}_{what}.png" for name in "abc" for what in ("comparison", "draws", "l_std")} <= drawn
    assert {"violin_psnr_y.png", "violin_consistency.png"} <= drawn
    assert all(min(Image.open(tmp_path / "pictures" / name).size) > 300 for name in drawn)

    *rows, whole = pq.read_table(tmp_path / "one.parquet").to_pylist()
    assert (whole["image"], whole["fid"], whole["kid"]) == ("", report["means"]["fid"], report["means"]["kid"])
    assert [(row["benchmark"], row["image"], row["images"], row["draws"]) for row in rows] == [
        ("mine", name, 3, 3) for name in "abc"
    ]
    for row, image in zip(rows, report["images"], strict=True):
        assert all(row[name] == image[name] for name in image if name != "name")
        assert row["weights_sha256"] == report["weights_sha256"]
        assert row["psnr_y"] == pytest.approx(np.mean(dict(row["per_draw"])["psnr_y"]))
    report_of(tmp_path, *ask, "--seed", 4, "--parquet", tmp_path / "two.parquet")
    assert strip(pq.read_table(tmp_path / "two.parquet").to_pylist()) == strip([*rows, whole])
    other = report_of(tmp_path, *ask, "--seed", 5, "--metrics", "psnr_y")["images"]  # one metric tells seeds apart
    assert all(image["psnr_y"] != row["psnr_y"] for image, row in zip(other, rows, strict=True))


def strip(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in ("seconds", "noise_seed")} for row in rows]


def test_a_sigma_head_is_scored_and_drawn(hr: Path, tmp_path: Path) -> None:
    hyper, sigma = {"channels": 8, "blocks": 1}, {"width": 4, "constant": 0.02}
    net = sr_models.build("edsr_baseline", 2, **hyper)
    model = WithSigma(net, SigmaHead(8, 2, **sigma))
    with torch.no_grad():
        model.head.tail[0].weight.mul_(100)  # before it has learned anything it hardly varies
    about = {"scale": 2, "hyper": hyper, "sigma": sigma, "ema": True, "fingerprint": "f" * 64}
    save_checkpoint(tmp_path / "ours", model, model="edsr_baseline", **about)
    report = report_of(
        tmp_path, "--model", "edsr_baseline", "--weights", tmp_path / "ours", "--hr", hr, "--scale", 2,
        "--metrics", ",".join(UNCERTAINTY), "--pictures", tmp_path / "pictures", "--parquet", tmp_path / "rows.parquet",
    )  # fmt: skip
    assert list(report["means"]) == list(UNCERTAINTY) and all(map(math.isfinite, report["means"].values()))
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        *(f"{name}_{what}.png" for name in "abc" for what in ("comparison", "sigma")),
        *(f"violin_{name}.png" for name in UNCERTAINTY),
    }  # fmt: skip
    row = pq.read_table(tmp_path / "rows.parquet").to_pylist()[0]
    assert (row["weights"], row["fingerprint"], row["model"]) == ("ema", "f" * 64, "edsr_baseline")


def test_weights_is_a_command_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[str]] = []
    monkeypatch.setattr(weights_command, "main", lambda argv: heard.append(list(argv)) or 1)
    assert main(["weights", "--fetch"]) == 1
    assert heard == [["--fetch"]]
