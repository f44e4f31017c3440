"""The options of `python -m eval` become a typed request; what cannot be done is refused before torch is there."""

from dataclasses import asdict
from pathlib import Path

import pytest

from eval.command import caution, chosen, parser, prepare_outputs, requested
from eval.protocol import METRICS, PROTOCOLS
from eval.request import ModelRequest, PicturesRequest, Request
from sr_models.errors import InputError
from sr_models.hyper.sampling import Sampling

MODEL = ("--model", "bicubic", "--scale", "2", "--hr", "hr")
PICTURES = ("--images", "sr", "--scale", "2", "--hr", "hr")


def request_of(*arguments: str) -> Request:
    return requested(parser().parse_args(arguments))


def test_a_models_request_with_nothing_else_asked_for() -> None:
    assert request_of(*MODEL) == ModelRequest(
        protocol=PROTOCOLS["classical"], metrics=tuple(PROTOCOLS["classical"].metrics), scale=2, hr=Path("hr"), lr=None,
        include=(), exclude=(),
        weights_dir=None, strict=False, json=None, parquet=None, per_image=False, model="bicubic", kernel=None,
        weights=None, weights_key=None, hyper={}, seed=0, precision="fp32", channels_last=False, compile=False,
        tile=None, overlap=None, self_ensemble=False, sampling=None, crops=None, save_images=None, pictures=None,
    )  # fmt: skip


def test_everything_that_a_model_can_be_asked(tmp_path: Path) -> None:
    (tmp_path / "net.pth").touch()
    found = request_of(
        *("--model", "imdn", "--weights", str(tmp_path / "net.pth"), "--hyper", "channels=16", "--hyper", "blocks=1"),
        *("--scale", "3", "--hr", "hr", "--lr", "lr", "--metrics", "ssim_y,psnr_y", "--weights-dir", "w", "--strict"),
        *("--json", "r.json", "--parquet", "r.parquet", "--per-image", "--draws", "4", "--seed", "9", "--tile", "64"),
        *("--save-images", "out", "--pictures", "drawn", "--precision", "bf16", "--channels-last", "--compile"),
        *("--overlap", "0", "--self-ensemble", "--weights-key", "g"),
        *("--include", "a*", "--include", "b*", "--exclude", "c"),
    )
    assert isinstance(found, ModelRequest) and found.protocol.draws == 4
    assert {name: value for name, value in asdict(found).items() if name != "protocol"} == {
        "metrics": ("ssim_y", "psnr_y"), "scale": 3, "hr": Path("hr"), "lr": Path("lr"),
        "include": ("a*", "b*"), "exclude": ("c",), "weights_dir": Path("w"),
        "strict": True, "json": Path("r.json"), "parquet": Path("r.parquet"), "per_image": True, "model": "imdn",
        "kernel": None, "weights": tmp_path / "net.pth", "weights_key": "g",
        "hyper": {"channels": 16, "blocks": 1}, "parts": {}, "seed": 9, "precision": "bf16",
        "channels_last": True, "compile": True, "tile": 64, "overlap": 0, "self_ensemble": True,
        "sampling": None, "crops": None,
        "save_images": Path("out"), "pictures": Path("drawn"),
    }  # fmt: skip


def test_how_a_diffusion_network_samples_is_asked_for_too(tmp_path: Path) -> None:
    (tmp_path / "net.pth").touch()
    ask = ("--model", "sr3", "--weights", str(tmp_path / "net.pth"), "--scale", "8", "--hr", "hr")
    drawn = ("--sampler", "truncated", "--steps", "45", "--t-max", "0.5", "--colour-fix", "adain", "--canvas", "ccsr")
    plain, found = (request_of(*ask, *more) for more in ((), (*drawn, "--crops", "dream40o5")))
    assert isinstance(plain, ModelRequest) and (plain.sampling, plain.crops) == (Sampling(), None)
    assert isinstance(found, ModelRequest) and found.crops == "dream40o5"
    assert found.sampling == Sampling(sampler="truncated", steps=45, t_max=0.5, canvas="ccsr", colour_fix="adain")


@pytest.mark.parametrize(("name", "tile", "said"), [("imdn", 64, True), ("carn_m", 64, False), ("imdn", None, False)])
def test_tiles_of_a_network_that_looks_at_all_of_a_picture_are_cautioned_against(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, tile: int | None, said: bool
) -> None:
    (tmp_path / "net.pth").touch()
    tiles = () if tile is None else ("--tile", str(tile))
    caution(request_of("--model", name, "--weights", str(tmp_path / "net.pth"), "--scale", "2", "--hr", "hr", *tiles))
    expected = (
        f"caution: {name} looks at all of a picture, so these scores, of tiles, are not those of whole pictures\n"
    )
    assert capsys.readouterr().err == (expected if said else "")


def test_a_request_for_pictures() -> None:
    found = request_of(*PICTURES, "--lr", "lr", "--strict", "--per-image")
    assert isinstance(found, PicturesRequest)
    assert (found.images, found.hr, found.lr, found.strict, found.per_image) == (
        Path("sr"),
        Path("hr"),
        Path("lr"),
        True,
        True,
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seed", "0"), ("--draws", "0"), ("--overlap", "0"), ("--tile", "8"), ("--weights", "w"), ("--hyper", "a=1"),
        ("--weights-key", "g"), ("--kernel", "k"),
        ("--precision", "fp32"), ("--save-images", "o"), ("--pictures", "p"), ("--compile", None),
        ("--channels-last", None), ("--self-ensemble", None),
    ],
)  # fmt: skip
def test_what_only_a_model_has_a_use_for_does_not_go_with_pictures(option: str, value: str | None) -> None:
    with pytest.raises(InputError, match=f"^{option} goes with --model, not with --images$"):
        request_of(*PICTURES, option, *([] if value is None else [value]))


@pytest.mark.parametrize(
    ("asked", "metrics"),
    [
        (None, PROTOCOLS["classical"].metrics),
        ("ssim_y,psnr_y", ["ssim_y", "psnr_y"]),
        ("psnr_y,ssim_y,psnr_y", ["psnr_y", "ssim_y"]),
        ("fid,psnr_y", ["fid", "kid", "psnr_y"]),
        ("psnr_y,kid,fid", ["psnr_y", "kid", "fid"]),
        ("g_std.ssim_y,l_std", ["g_std.ssim_y", "l_std"]),
    ],
)
def test_each_metric_comes_once_and_kid_with_fid(asked: str | None, metrics: list[str]) -> None:
    assert chosen(asked, PROTOCOLS["classical"]) == list(metrics)


def test_all_are_all() -> None:
    assert sorted(chosen("all", PROTOCOLS["classical"])) == sorted(METRICS)


def test_an_unknown_metric_is_refused() -> None:
    for asked in ("psnr", "psnr_y,", ""):
        with pytest.raises(InputError, match=r"^--metrics: unknown metric"):
            chosen(asked, PROTOCOLS["classical"])


def test_the_folders_of_outputs_are_made_before_the_work(tmp_path: Path) -> None:
    out = {name: str(tmp_path / name / "x") for name in ("json", "parquet", "save-images", "pictures")}
    prepare_outputs(request_of(*MODEL, *(part for name, path in out.items() for part in (f"--{name}", path))))
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "json", "parquet", "pictures", "pictures/x", "save-images", "save-images/x",
    ]  # fmt: skip
    prepare_outputs(request_of(*PICTURES))


def test_outputs_do_not_go_among_what_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "lr")
    for option in ("--save-images", "--pictures"):
        with pytest.raises(InputError, match=f"^{option}: 'link' holds the images to be scored"):
            prepare_outputs(request_of(*MODEL, "--lr", "lr", option, "link"))
