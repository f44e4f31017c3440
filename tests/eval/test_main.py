"""`python -m eval`: the published bicubic rows, weights from file and folder, strict JSON, one line for bad input."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sr_models
from eval.__main__ import main
from eval.rows import read_file
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.diffusion.base import Denoiser
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.images.files import read_image, sha256_file
from sr_models.images.matlab import KERNEL, downscale

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
KEYS = {
    "protocol", "model", "scale", "parameters", "weights_sha256", "lr_sha256", "versions", "seconds_per_image",
    "means", "images", "not_computed", "options", "draws", "deterministic", "noise_seed", "set", "refused", "kernel",
}  # fmt: skip


def write(path: Path, height: int = 33, width: int = 41, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a.png", "sub/b.bmp")):
        write(tmp_path / "hr" / name, seed=seed)
    return tmp_path / "hr"


def report(tmp_path: Path, *arguments: object) -> dict:
    assert main([*map(str, arguments), "--json", str(tmp_path / "out" / "report.json")]) == 0
    return json.loads((tmp_path / "out" / "report.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(("scale", "db", "similarity"), [(2, 33.674, 0.9303), (3, 30.405, 0.8689), (4, 28.430, 0.8111)])
def test_bicubic_rows_of_set5(
    scale: int, db: float, similarity: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bicubic on RGB, then float Y. The printed 33.66/.9299, 30.39/.8682, 28.42/.8104 are of bicubic on a rounded Y."""
    folder = SHARED / "data" / "Set5" / f"X{scale}"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/Set5")
    ask = ("--model", "bicubic", "--scale", scale, "--hr", folder / "HR")
    made, read = report(tmp_path, *ask), report(tmp_path, *ask, "--lr", folder / "LR")
    assert made["means"] == read["means"]
    assert made["means"] == {"psnr_y": pytest.approx(db, abs=6e-4), "ssim_y": pytest.approx(similarity, abs=6e-5)}
    assert made["lr_sha256"] == read["lr_sha256"]  # our LR is, pixel for pixel, the one that was published
    means = made["means"]
    assert f"mean of 5        {means['psnr_y']:.2f}  {means['ssim_y']:.4f}" in capsys.readouterr().out


def test_a_fraction_is_a_scale_like_any_other(hr: Path, tmp_path: Path) -> None:
    ask = ("--model", "bicubic", "--scale", "2.5", "--hr", hr, "--metrics", "psnr_y,consistency")
    made = report(tmp_path, *ask, "--parquet", tmp_path / "rows.parquet", "--pictures", tmp_path / "drawn",
                  "--save-images", tmp_path / "sr")  # fmt: skip
    assert (made["scale"], made["protocol"]) == (2.5, "classical-y-b3")
    assert made["means"]["psnr_y"] > 5 and made["means"]["consistency"] > 0
    rows = [row for row in read_file(tmp_path / "rows.parquet") if row["image"]]
    assert [(row["scale"], row["height"], row["width"]) for row in rows] == [(2.5, 30, 40)] * 2
    assert read_image(tmp_path / "sr" / "a.png").shape == (30, 40, 3)
    assert report(tmp_path, *ask[:3], "3.0", *ask[4:])["scale"] == 3
    for scale in ("2.31", "0.5", "two"):
        assert main([*map(str, (*ask[:3], scale, *ask[4:]))]) == 2
    assert main([*map(str, ("--model", "imdn", "--weights", hr, *ask[2:]))]) == 2


def test_bicubic_at_scale_1_is_the_input(hr: Path, tmp_path: Path) -> None:
    """Two folders of one size: what HR and LR already have in common, a pixel cropped from each side."""
    lr = tmp_path / "lr"
    for path in (path for path in hr.rglob("*") if path.is_file()):
        pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float64)
        (lr / path.relative_to(hr)).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels + 7, 0, 255).astype(np.uint8)).save(lr / path.relative_to(hr))
    given = ("--scale", 1, "--hr", hr, "--metrics", "psnr_rgb")
    model = report(tmp_path, "--model", "bicubic", *given, "--lr", lr)
    pictures = report(tmp_path, "--images", lr, *given)
    assert model["means"] == pictures["means"] and 31 < model["means"]["psnr_rgb"] < 32
    assert model["protocol"] == "classical-y-b1" and model["kernel"] == "files"


def test_saved_images_score_as_the_model_did(hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ("--scale", 2, "--hr", hr, "--metrics", "ssim_rgb,psnr_y,ssim_rgb", "--per-image")
    saved = tmp_path / "new" / "sr"
    model = report(tmp_path, "--model", "bicubic", "--save-images", saved, *ask)
    model_text = capsys.readouterr().out
    pictures = report(tmp_path, "--images", saved, *ask)
    assert model.keys() == pictures.keys() == KEYS
    assert pictures["images"] == model["images"]
    assert pictures["means"] == model["means"]
    assert [row["name"] for row in model["images"]] == ["a", "sub/b"]
    assert list(model["means"]) == ["ssim_rgb", "psnr_y"]
    assert (model["protocol"], model["parameters"], model["weights_sha256"]) == ("classical-y-b2", 0, None)
    assert model["seconds_per_image"] > 0
    assert (pictures["model"], pictures["lr_sha256"], pictures["seconds_per_image"]) == (None, None, None)
    assert model_text.splitlines()[2:] == capsys.readouterr().out.splitlines()[2:]
    assert f"a            {model['images'][0]['ssim_rgb']:.4f}" in model_text


def test_what_folders_hold_and_is_not_scored_is_said(
    hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other formats, LR and SR without HR; two files of one stem are told apart by --exclude."""
    for name in ("ax2.png", "sub/bx2.png", "sub/moonx2.png"):
        write(tmp_path / "lr" / name, 16, 20)
    for name in ("a_mine.webp", "sub/b_mine.ppm", "sub/moon_mine.jfif"):
        write(tmp_path / "sr" / name)
    for name in ("a.gif", "b.gif", "c.gif", "d.heic"):
        (hr / name).touch()
    other = "4 left out, as not PNG, JPEG, BMP, TIFF, WebP or PPM: 'a.gif', 'b.gif', 'c.gif' and 1 more"
    ask = ("--scale", 2, "--hr", hr)
    assert report(tmp_path, "--model", "bicubic", *ask, "--lr", tmp_path / "lr")["refused"] == []
    assert capsys.readouterr().err.splitlines() == [
        f"{hr}: {other}",
        f"{tmp_path / 'lr'}: 1 LR image without an HR image left out: 'moonx2.png'",
    ]
    pictures = report(tmp_path, "--images", tmp_path / "sr", *ask)
    assert [row["name"] for row in pictures["images"]] == ["a", "sub/b"]
    assert pictures["refused"] == [
        f"image {str(tmp_path / 'sr/sub/moon_mine.jfif')!r}: has no HR image of the same name"
    ]
    assert capsys.readouterr().err == f"{hr}: {other}\n"
    report(tmp_path, "--images", tmp_path / "sr", *ask, "--exclude", "*.gif", "--exclude", "*.heic")
    assert capsys.readouterr().err == f"{tmp_path / 'sr'}: 1 SR image without an HR image left out: 'moon_mine.jfif'\n"
    write(hr / "a.jpg")
    twins = report(tmp_path, "--model", "bicubic", *ask, "--exclude", "a.jpg", "--include", "a*")
    assert [row["name"] for row in twins["images"]] == ["a"]


def test_names_of_files_are_printed_without_what_a_terminal_obeys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "h\x1b[2Jr"
    write(folder / "a\x1b[31m.png")
    (folder / "b\x9b.gif").touch()
    assert main(["--model", "bicubic", "--scale", "2", "--hr", str(folder), "--per-image"]) == 0
    said = capsys.readouterr()
    assert "a\\x1b[31m" in said.out and "h\\x1b[2Jr: 1 left out" in said.err
    assert not {"\x1b", "\x9b"} & {*said.out, *said.err}


def test_a_kernel_chooses_the_border_of_lr(hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask, symmetric = ("--model", "bicubic", "--scale", 3, "--hr", hr), "matlab-bicubic-symmetric-u8"
    plain, other = report(tmp_path, *ask), report(tmp_path, *ask, "--kernel", symmetric)
    assert (plain["kernel"], other["kernel"]) == (KERNEL, symmetric) and plain["lr_sha256"] != other["lr_sha256"]
    said = capsys.readouterr().out
    assert f"protocol classical-y-b3, LR by {symmetric}, 0 parameters" in said and f"LR by {KERNEL}" not in said
    for name in ("a.png", "sub/b.bmp"):
        lr = downscale(read_image(hr / name), 3, symmetric)
        (tmp_path / "lr" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(lr).save(tmp_path / "lr" / name)
    assert report(tmp_path, *ask, "--lr", tmp_path / "lr")["lr_sha256"] == other["lr_sha256"]


@pytest.mark.parametrize("option", ["--json", "--parquet"])
def test_a_file_that_cannot_be_written_in_the_end_is_one_line(
    hr: Path,
    tmp_path: Path,
    refuse_writing: Callable[[Path, int], None],
    capsys: pytest.CaptureFixture[str],
    option: str,
) -> None:
    (tmp_path / "out").mkdir()
    refuse_writing(tmp_path / "out", errno.EROFS)
    asked = "--model", "bicubic", "--hr", hr, "--scale", 2, "--metrics", "psnr_y", option, tmp_path / "out" / "rows"
    assert main([*map(str, asked)]) == 2
    said = f"eval: {option}: {tmp_path}/out/rows cannot be written (Read-only file system)\n"
    assert capsys.readouterr().err.endswith(said)


@pytest.mark.parametrize("given", ["--hr", "--lr"])
def test_a_disk_that_becomes_full_of_sr_images_is_one_line(
    hr: Path,
    tmp_path: Path,
    refuse_writing: Callable[[Path, int], None],
    capsys: pytest.CaptureFixture[str],
    given: str,
) -> None:
    (tmp_path / "sr").mkdir()
    refuse_writing(tmp_path / "sr", errno.ENOSPC)
    metrics = [] if given == "--hr" else ["--metrics", "consistency"]
    asked = "--model", "bicubic", given, hr, "--scale", 2, *metrics, "--save-images", tmp_path / "sr"
    assert main([*map(str, asked)]) == 2
    assert capsys.readouterr().err.endswith(f"eval: the disk of {tmp_path}/sr is full (or your quota)\n")


def test_equal_pictures_have_no_mean_psnr_and_json_stays_strict(hr: Path, tmp_path: Path) -> None:
    """HR itself, not cropped, is a legal picture."""
    got = report(tmp_path, "--images", hr, "--scale", 4, "--hr", hr)
    assert got["means"] == {"ssim_y": pytest.approx(1)}
    assert got["images"][0]["psnr_y"] is None
    assert got["not_computed"] == {"psnr_y": "no finite mean: infinite for a, sub/b, equal to HR"}


FAILING = """
from eval import Metric
import torch

def boom(sr): raise KeyError("stage\\nnine")
def late(sr):
    if sr.shape[-1] < 34: raise ValueError("narrow " * 99)
    return sr.mean(dim=(1, 2, 3))
def nan(sr): return sr.mean(dim=(1, 2, 3)) * torch.nan
def one(sr): return sr.mean()
def listed(sr): return [0.5]
def of(compute):
    return Metric(unit="", higher_is_better=True, reads=("sr",), decimals=2, description="own", compute=compute)
BOOM, LATE, NAN, ONE, LISTED = map(of, (boom, late, nan, one, listed))
"""


@pytest.mark.parametrize("what", [["--images", "hr"], ["--model", "bicubic", "--pictures", "drawn"]])
def test_a_metric_of_a_plugin_that_fails_is_not_computed_and_the_rest_goes_on(
    what: list[str], hr: Path, tmp_path: Path, plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["boom", "late", "nan", "one", "listed"]
    plugin(FAILING, {"metrics": {name: name.upper() for name in names}}, "pc")
    write(hr / "c.png", width=36)
    monkeypatch.chdir(tmp_path)
    got = report(tmp_path, *what, "--scale", 2, "--hr", "hr", "--metrics", ",".join(["boom", "ssim_y", *names[1:]]))
    assert got["not_computed"] == {
        "boom": "plug-in pc 1.0: metric 'boom' on 'hr/a.png': KeyError: 'stage\\nnine'",
        "late": "plug-in pc 1.0: metric 'late' on 'hr/c.png': ValueError: " + ("narrow " * 99)[:300],
        "nan": "plug-in pc 1.0: metric 'nan' on 'hr/a.png': ValueError: expected numbers, got NaN",
        "one": "plug-in pc 1.0: metric 'one' on 'hr/a.png': ValueError: expected shape (1,), got ()",
        "listed": "plug-in pc 1.0: metric 'listed' on 'hr/a.png': TypeError: expected a tensor, got list",
    }
    assert got["means"].keys() == {"ssim_y"}
    assert {row["name"]: row["late"] is None for row in got["images"]} == {"a": False, "c": True, "sub/b": False}
    assert len(list(tmp_path.glob("drawn/*_comparison.png"))) == (2 if what[0] == "--model" else 0)


def test_weights_come_from_a_file_or_from_our_folder(hr: Path, tmp_path: Path) -> None:
    hyper = {"channels": 16, "blocks": 1}
    net = sr_models.build("imdn", 2, **hyper)
    info = save_checkpoint(
        tmp_path / "ours", net, model="imdn", scale=2, hyper=hyper, sigma=None, ema=False, fingerprint=None
    )
    torch.save({f"module.{key}": value for key, value in net.state_dict().items()}, tmp_path / "theirs.pth")
    ask = ("--model", "imdn", "--scale", 2, "--hr", hr)
    folder = report(tmp_path, *ask, "--weights", tmp_path / "ours")
    file = report(tmp_path, *ask, "--weights", tmp_path / "theirs.pth", "--hyper", "channels=16", "--hyper", "blocks=1")
    assert file["means"] == folder["means"]
    assert folder["parameters"] == sum(p.numel() for p in net.parameters())
    assert folder["weights_sha256"] == info.weights_sha256
    assert file["weights_sha256"] == sha256_file(tmp_path / "theirs.pth")

    changed = report(
        tmp_path, *ask, "--weights", tmp_path / "ours", "--precision", "bf16", "--tile", 10, "--overlap", 4,
        "--self-ensemble", "--channels-last",
    )  # fmt: skip
    assert changed["options"] == {
        "precision": "bf16", "channels_last": True, "compile": False, "tile": 10, "overlap": 4, "self_ensemble": True,
    }  # fmt: skip
    assert changed["means"] != folder["means"]
    assert (folder["protocol"], changed["protocol"]) == ("classical-y-b2", "classical-y-b2+tile10o4+x8+bf16")


BICUBIC = ("--model", "bicubic", "--scale", "2", "--hr", "hr")
PICTURES = ("--scale", "2", "--hr", "hr", "--images")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*BICUBIC, "--lr", "no_b"), "hr/sub/b.bmp' has no LR image of the same name at scale 2"),
        ((*BICUBIC, "--lr", "two_a"), "b.bmp' has no LR image of the same name at scale 2; HR: 'a.png', 'b.bmp', LR"),
        ((*BICUBIC, "--lr", "small"), "small/a.png': LR is 10x13 pixels (height x width), but HR 32x40"),
        ((*BICUBIC, "--hr", "twins"), "twins/a.png' share a name"),
        ((*BICUBIC, "--hr", "twins", "--include", "b*"), "file after include=['b*'], exclude=[]"),
        ((*BICUBIC, "--hr", "gifs"), "'gifs' holds no PNG, JPEG, BMP, TIFF, WebP or PPM file (1 left out, as not PNG"),
        ((*BICUBIC, "--scale", "1"), "--scale 1: no kernel makes LR from HR there; --lr names its files"),
        ((*BICUBIC, "--hr", "empty"), "'empty' holds no PNG, JPEG, BMP, TIFF, WebP or PPM file"),
        ((*BICUBIC, "--hr", "none"), "'none' does not exist"),
        ((*BICUBIC, "--hr", "broken"), "image 'broken/a.png': "),
        ((*BICUBIC, "--hr", "tiny"), "image 'tiny/a.png': image is too small: SSIM's window is 11 px, 8 are left"),
        ((*PICTURES, "no_b"), "'hr/sub/b.bmp': has no SR image of the same name (and 1 more refused; nothing was"),
        ((*PICTURES, "no_b", "--strict"), "'hr/sub/b.bmp': has no SR image of the same name"),
        ((*PICTURES, "twins", "--strict"), "'twins/a.png': shares its name with 'twins/a.bmp'"),
        ((*PICTURES, "small"), "'small/a.png': SR and HR, cropped to a multiple of 2, have 13x10 and 40x32 pixels"),
        ((*PICTURES, "empty"), "'empty' holds no PNG"),
        ((*PICTURES, "sr", "--weights", "w"), "--weights goes with --model, not with --images"),
        ((*PICTURES, "sr", "--tile", "8"), "--tile goes with --model"),
        ((*PICTURES, "sr", "--draws", "8"), "--draws goes with --model"),
        ((*PICTURES, "sr", "--seed", "0"), "--seed goes with --model"),
        ((*PICTURES, "sr", "--pictures", "new"), "--pictures goes with --model"),
        ((*PICTURES, "sr", "--model", "bicubic"), "--model: not allowed with argument --images"),
        (PICTURES[:4], "give --model, --images, or --weights with a folder or file"),
        ((*BICUBIC, "--metrics", "psnr"), "--metrics: unknown metric 'psnr'; did you mean 'psnr_y'?"),
        ((*BICUBIC, "--protocol", "clasical"), "--protocol: unknown protocol 'clasical'; did you mean 'classical'?"),
        ((*BICUBIC, "--model", "bicubik"), "unknown model 'bicubik'; did you mean 'bicubic'?"),
        ((*BICUBIC, "--model", "imdn", "--scale", "5"), "model 'imdn' has no scale 5 (it has 1, 2, 3, 4, 8)"),
        ((*PICTURES, "sr", "--scale", "0"), "--scale must be at least 1, got 0"),
        ((*BICUBIC, "--scale", "two"), "--scale must be at least 1, got two"),
        ((*BICUBIC, "--weights", "hr"), "model 'bicubic' has no weights; got --weights 'hr'"),
        ((*BICUBIC, "--kernel", "matlab"), "unknown kernel 'matlab'; (valid: matlab-bicubic-replicate-float, "),
        ((*BICUBIC, "--kernel", "x", "--lr", "no_b"), "--kernel makes LR from HR, and --lr names files of it"),
        ((*PICTURES, "sr", "--kernel", "x"), "--kernel goes with --model"),
        ((*BICUBIC, "--weights-key", "g"), "--weights-key has no effect without --weights"),
        ((*BICUBIC, "--model", "imdn"), "model 'imdn' needs --weights"),
        ((*BICUBIC, "--model", "imdn", "--weights", "none.pth"), "--weights: 'none.pth' does not exist"),
        ((*BICUBIC, "--model", "imdn", "--weights", "hr/a.png"), "weights 'hr/a.png': "),
        ((*BICUBIC, "--model", "imdn", "--weights", "hr"), "'hr' is no checkpoint folder (it has no model.json)"),
        ((*BICUBIC, "--model", "imdn", "--weights", "run"), "'run' is a sweep's run: orchestrator.upscale and"),
        (("--hr", "hr", "--weights", "run"), "--weights: 'run' is a sweep's run: orchestrator.upscale and"),
        (("--hr", "hr", "--weights", "none"), "--weights: 'none' does not exist"),
        (("--hr", "hr", "--weights", "empty"), "--weights: 'empty' is no checkpoint folder (it has no model.json)"),
        (("--hr", "hr", "--weights", "nameless"), "--weights: 'nameless/model.json' does not say its network"),
        ((*BICUBIC, "--hyper", "blocks"), "--hyper must be key=value, with a YAML value, got 'blocks'"),
        ((*BICUBIC, "--hyper", "blocks=1"), "model 'bicubic': unknown key 'blocks'"),
        ((*BICUBIC, "--precision", "fp16"), "argument --precision: invalid choice: 'fp16'"),
        ((*BICUBIC, "--tile", "0"), "a tile needs a side >= 1 and an overlap >= 0, got 0 and 32"),
        ((*BICUBIC, "--metrics", "g_std.psnr"), "--metrics: unknown metric 'g_std.psnr'; did you mean 'g_std.psnr_"),
        ((*BICUBIC, "--draws", "0"), "--draws must be at least 1, got 0"),
        ((*BICUBIC, "--seed", "-1"), "--seed must be from 0 to 9223372036854775807, got -1"),
        ((*BICUBIC, "--weights-dir", "none"), "--weights-dir: folder 'none' does not exist"),
        ((*BICUBIC, "--overlap", "8"), "--overlap has no effect without --tile"),
        ((*BICUBIC, "--save-images", "hr/../hr"), "--save-images: 'hr/../hr' holds the images to be scored"),
        ((*BICUBIC, "--save-images", "hr/a.png"), "--save-images: folder 'hr/a.png' cannot be made"),
        ((*BICUBIC, "--json", "hr"), "--json: 'hr' is a folder"),
        ((*BICUBIC, "--parquet", "hr"), "--parquet: 'hr' is a folder"),
        ((*BICUBIC, "--parquet", "hr/a.png/x"), "--parquet: folder 'hr/a.png' cannot be made"),
        ((*BICUBIC, "--pictures", "hr"), "--pictures: 'hr' holds the images to be scored"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("hr")
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("no_b/a.png", "two_a/a.png", "two_a/sub/a.png", "two_a/b.png", "twins/a.png", "twins/a.bmp"):
        write(Path(name), 16, 20)
    for name in ("small/a.png", "small/b.png"):
        write(Path(name), 10, 13)
    write(Path("tiny/a.png"), 12, 12)
    write(Path("gifs/a.gif"), 16, 20)
    Path("empty").mkdir()
    for name, text in {"run/config.yaml": "name: a\n", "nameless/model.json": "{}"}.items():
        Path(name).parent.mkdir()
        Path(name).write_text(text)
    Path("broken").mkdir()
    Path("broken/a.png").write_bytes(Path("hr/a.png").read_bytes()[:500])

    assert main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith("python -m eval: ")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_help_and_mistakes_do_not_wait_for_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from eval.__main__ import main; sys.exit(main(sys.argv[1:]))"
    for arguments, exit_code in ((["--help"], 0), ([*BICUBIC, "--model", "imdn"], 2)):
        run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert run.returncode == exit_code, run.stderr


SR3 = {"channels": 8, "mults": [1, 2], "attention": [], "blocks": 1, "groups": 4}
SR3_HYPER = [part for key, value in SR3.items() for part in ("--hyper", f"{key}={value}")]


def test_a_checkpoint_of_one_scale_is_scored_at_another_if_its_network_takes_any(
    hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, hyper in (("sr3", SR3), ("imdn", {"channels": 16, "blocks": 1})):
        save_checkpoint(
            tmp_path / name, sr_models.build(name, 4, **hyper), model=name, scale=4, hyper=hyper, sigma=None,
            ema=False, fingerprint=None,
        )  # fmt: skip
    ask = ("--model", "sr3", "--weights", tmp_path / "sr3", "--hr", hr, "--draws", 1, "--steps", 2)
    far = report(tmp_path, *ask, "--scale", 5, "--parquet", tmp_path / "rows.parquet")
    assert (far["scale"], far["trained_scale"], far["protocol"]) == (5, 4, "classical-y-b5-n1+ancestral2")
    assert "sr3 x5 (trained x4), protocol" in capsys.readouterr().out
    assert {(row["scale"], row["trained_scale"]) for row in read_file(tmp_path / "rows.parquet")} == {(5, 4)}
    near = report(tmp_path, *ask, "--scale", 4, "--parquet", tmp_path / "rows.parquet")
    assert "trained_scale" not in near
    assert {(row["scale"], row["trained_scale"]) for row in read_file(tmp_path / "rows.parquet")} == {(4, None)}
    arguments = ["--model", "imdn", "--weights", tmp_path / "imdn", "--hr", hr, "--scale", 3]
    assert main([str(argument) for argument in arguments]) == 2
    assert "holds scale 4, not 3: weights of imdn are of one scale" in capsys.readouterr().err


def test_a_scale_beyond_what_a_network_knows_is_said(
    hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hyper = SR3 | {"features": 4, "encoder_blocks": 1, "highest_scale": 3.0}
    save_checkpoint(
        tmp_path / "idm", sr_models.build("idm", 2, **hyper), model="idm", scale=2, hyper=hyper, sigma=None, ema=False,
        fingerprint=None,
    )  # fmt: skip
    ask = ("--weights", tmp_path / "idm", "--hr", hr, "--draws", 1, "--steps", 1)
    for scale, said in ((3, False), (4, True)):
        report(tmp_path, *ask, "--scale", scale)
        line = "caution: x4 is beyond highest_scale 3: idm is told p = 1.50, of 0 to 1\n"
        assert (line in capsys.readouterr().err) == said


def test_a_checkpoint_of_some_noise_levels_is_drawn_on_these_unless_asked_otherwise(
    hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, net = Sampling(sampler="truncated", t_max=0.5, t_min=0.25), sr_models.build("sr3", 4, **SR3)
    assert isinstance(net, Denoiser)
    net.process = ProcessParams(T=20, beta_end=0.5)
    about: dict[str, Any] = {"model": "sr3", "scale": 4, "hyper": SR3, "sigma": None, "ema": False, "fingerprint": None}
    save_checkpoint(tmp_path / "net", net, **about, sampling=own)

    def protocol(*words: object) -> tuple[str, bool]:
        made = report(tmp_path, "--weights", tmp_path / "net", "--hr", hr, "--draws", 1, *words)
        said = capsys.readouterr().err
        return made["protocol"].partition("+")[2], f"has practised the noise levels of {own.mark} alone; drawn" in said

    assert protocol() == ("truncated20t0.5-0.25", False)
    assert protocol("--steps", 9, "--colour-fix", "adain") == ("truncated9t0.5-0.25adain", False)
    assert protocol("--sampler", "truncated", "--steps", 9) == ("truncated9t0.5-0.25", False)
    assert protocol("--t-max", 0.75, "--steps", 9) == ("truncated9t0.75-0.25", True)
    assert protocol("--sampler", "ancestral", "--steps", 3) == ("ancestral3", True)
    save_checkpoint(tmp_path / "net", net, **about)
    assert protocol("--steps", 3) == ("ancestral3", False)


@pytest.fixture
def sr3(tmp_path: Path) -> Path:
    """A file in SR3's released layout, with the schedule of 2000 steps."""
    torch.manual_seed(0)
    state = sr_models.build("sr3", 8, **SR3).state_dict()
    betas = torch.linspace(1e-6, 1e-2, 2000, dtype=torch.float64).float()
    torch.save({f"denoise_fn.{key}": value for key, value in state.items()} | {"betas": betas}, tmp_path / "gen.pth")
    return tmp_path / "gen.pth"


def test_a_released_diffusion_file_is_sampled_as_asked(
    hr: Path, sr3: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ("--model", "sr3", "--weights", sr3, *SR3_HYPER, "--scale", 8, "--hr", hr, "--draws", 3)
    made = report(
        tmp_path, *ask, "--sampler", "ddim", "--steps", 10, "--eta", 0, "--parquet", tmp_path / "rows.parquet"
    )
    assert made["protocol"] == "classical-y-b8-n3+ddim10" and made["draws"] == 3 and not made["deterministic"]
    assert made["options"] | {"sampler": "ddim", "steps": 10, "eta": 0.0} == made["options"]
    assert made["means"]["g_std.psnr_y"] > 0 and made["means"]["l_std"] > 0
    assert "sr3 x8, protocol classical-y-b8-n3+ddim10" in capsys.readouterr().out
    [row, _] = read_file(tmp_path / "rows.parquet")
    assert (row["sampler"], row["steps"], row["eta"], row["t_max"], row["crops"]) == ("ddim", 10, 0.0, None, None)
    again = report(tmp_path, *ask, "--sampler", "ddim", "--steps", 10)
    assert again["means"] == made["means"], "draws are functions of image, seed and step"
    cut = report(tmp_path, *ask, "--sampler", "truncated", "--steps", 9, "--t-max", 0.5, "--t-min", 0.25)
    assert cut["protocol"] == "classical-y-b8-n3+truncated9t0.5-0.25" and cut["means"] != made["means"]
    other = report(tmp_path, *ask, "--sampler", "ddim", "--steps", 10, "--eps", "predicted")
    assert other["protocol"] == "classical-y-b8-n3+ddim10eps" and other["means"] != made["means"]
    odd = report(tmp_path, *ask, "--sampler", "truncated", "--steps", 9, "--t-max", 0.5, "--jump", "released")
    assert odd["protocol"] == "classical-y-b8-n3+truncated9t0.5-0.333333jump"
    whole = report(tmp_path, *ask, "--draws", 1, "--steps", 3, "--tile", 2, "--overlap", 1, "--include", "a.png")
    assert whole["protocol"] == "classical-y-b8-n1+ancestral3+tile2o1"


RESSHIFT = {
    "channels": 8, "mults": [1, 1], "blocks": 1, "embed": 8, "heads": 2, "mlp_ratio": 2, "attention_window": 2,
    "side": 8, "groups": 4, "condition": "lr",
}  # fmt: skip


def test_a_released_resshift_is_drawn_in_its_own_steps(hr: Path, stand_in: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(sr_models.build("resshift", 4, **RESSHIFT).state_dict(), tmp_path / "net.pth")
    hyper = [part for key, value in RESSHIFT.items() for part in ("--hyper", f"{key}={value}")]
    ask = ("--model", "resshift", "--weights", tmp_path / "net.pth", *hyper, "--part", f"autoencoder={stand_in}",
           "--scale", 4, "--hr", hr, "--draws", 1)  # fmt: skip
    own, asked = report(tmp_path, *ask), report(tmp_path, *ask, "--sampler", "resshift")
    assert own["protocol"] == asked["protocol"] == "classical-y-b4-n1+resshift15" and own["means"] == asked["means"]
    other = report(tmp_path, *ask, "--sampler", "ddim", "--steps", 3)
    assert other["protocol"] == "classical-y-b4-n1+ddim3" and other["means"] != own["means"]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--sampler", "dimm"], "sampling.sampler: Input should be 'ancestral', 'ddim', 'idm_ddim', 'truncated'"),
        (["--steps", 0], "sampling.steps: Input should be greater than or equal to 1"),
        (["--steps", 2001], "sampling: the process has 2000 steps, fewer than steps=2001"),
        (["--eta", 0.5], "sampling: eta goes with the sampler ddim, not with ancestral"),
        (["--eps", "predicted"], "sampling: eps goes with the sampler ddim, not with ancestral"),
        (["--sampler", "ddim", "--jump", "released"], "sampling: jump goes with the sampler truncated, not with ddim"),
        (["--sampler", "ddim", "--eta", 1.5], "sampling.eta: Input should be less than or equal to 1"),
        (["--sampler", "ddim", "--t-max", 0.5], "sampling: t_max goes with the sampler truncated, not with ddim"),
        (["--sampler", "truncated", "--t-max", 0.2], "sampling: t_min must be below t_max"),
        (["--sampler", "truncated", "--steps", 4, "--t-max", 0.52, "--t-min", 0.5], "no step of 4 lies between"),
        (["--self-ensemble"], "--self-ensemble: sr3 draws pictures, and the mean of several is none of them"),
        (["--crops", "dream"], "argument --crops: invalid choice: 'dream'"),
        (["--crops", "dream40o5", "--tile", 8], "--crops dream40o5 and --tile 8 both say what the tiles are; give one"),
        (["--hyper", "groups=3"], "channels must be a multiple of groups, got 8 and 3"),
        (["--draws", 0], "--draws must be at least 1"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_samplings_that_are_none_are_refused_in_one_line(
    hr: Path, sr3: Path, extra: list[object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ("--model", "sr3", "--weights", sr3, *SR3_HYPER, "--scale", 8, "--hr", hr)
    assert main([*map(str, ask), *map(str, extra)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1] and len(lines) == 1


@pytest.mark.parametrize(
    "extra",
    [["--steps", "3"], ["--sampler", "ddim"], ["--t-min", "0"], ["--crops", "dream40o5"], ["--colour-fix", "adain"]],
)
def test_other_networks_are_not_sampled(hr: Path, extra: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "bicubic", "--scale", "2", "--hr", str(hr), *extra]) == 2
    assert f"{extra[0]} goes with diffusion networks, and bicubic is none" in capsys.readouterr().err
