"""Photographs by a run's row, a checkpoint folder and a released file; one that fails costs the others nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sr_models
from orchestrator import upscale
from orchestrator.run.folder import RunDir
from orchestrator.run.winners import read_winners
from orchestrator.upscale import main
from sr_models.checkpoints.folder import CheckpointInfo, save_checkpoint
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.images.files import read_image
from sr_models.images.matlab import downscale

SMALL = {"channels": 8, "blocks": 1}
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "net"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = sr_models.build("edsr_baseline", 2, **SMALL)
    save_checkpoint(folder, net, model="edsr_baseline", scale=2, hyper=SMALL, sigma=None, ema=False, fingerprint=None)
    torch.save(net.state_dict(), folder.with_suffix(".pth"))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.png", "sub/a.png"):
        Image.fromarray(RANDOM.integers(0, 256, (12, 14, 3), dtype=np.uint8)).save(tmp_path / "in" / name)
    return tmp_path / "in"


def run(*words: object) -> int:
    return main([*map(str, words)])


def test_names_and_folders_are_kept_and_what_fails_is_named(photos, weights, tmp_path, capsys):
    out = tmp_path / "out"
    (photos / "broken.png").write_bytes(b"no picture")
    assert run(weights, photos, tmp_path / "gone.png", "-o", out) == 1
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.png")} == {"a.png", "b.png", "sub/a.png"}
    said = capsys.readouterr().err
    assert "broken.png': not a PNG" in said and "gone.png': no such file" in said
    assert "2 photographs failed, 3 done" in said
    assert read_image(out / "sub/a.png").shape == (24, 28, 3)
    assert run(weights, photos, "-o", out) == 1
    said = capsys.readouterr().err
    assert f"in {out} already: 3 of 4 pictures; " in said and "1 photograph failed, 3 done" in said


def test_pictures_that_are_there_stay_unless_told_otherwise(photos, weights, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_bytes(b"mine")
    assert run(weights, photos, "-o", out) == 0
    assert (out / "b.png").read_bytes() == b"mine" and "already: 1 of 3 pictures; " in capsys.readouterr().err
    assert run(weights, photos, "-o", out, "--overwrite") == 0
    assert read_image(out / "b.png").shape == (24, 28, 3)


def test_out_may_lie_in_the_photographs_folder_be_it_or_lie_above(photos, weights, monkeypatch, capsys):
    for _ in range(2):  # a second time what the first one made is not enlarged
        assert run(weights, photos, "-o", photos / "x2") == 0
    assert sorted(p.name for p in (photos / "x2").rglob("*.png")) == ["a.png", "a.png", "b.png"]
    assert "already: 3 of 3 pictures" in capsys.readouterr().err
    monkeypatch.chdir(photos.parent)
    assert run(weights, "in/sub", "-o", ".") == 0
    assert read_image(Path("a.png")).shape == (24, 28, 3)
    (photos / "b.png").unlink()
    assert run(weights, "in", "-o", "in") == 1, "of sub/a.png and the enlarged ones, whose places they are"
    assert read_image(photos / "a.png").shape == (24, 28, 3), "of a.jpg"
    assert read_image(photos / "sub" / "a.png").shape == (12, 14, 3)


def test_a_folder_of_nothing_but_what_was_made_is_one_line(photos, weights, capsys):
    (photos / "x2").mkdir()
    for name in ("a.jpg", "b.png", "sub/a.png"):
        (photos / name).rename(photos / "x2" / Path(name).name)
    assert run(weights, photos, "-o", photos / "x2") == 2
    err = capsys.readouterr().err
    assert f"{photos}: all its pictures lie in {photos / 'x2'}, which is OUT" in err and err.count("\n") == 1


def test_an_out_that_cannot_be_is_refused_before_weights_are_read(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(upscale, "_enlarger", pytest.fail)
    assert run(tmp_path, photos, "-o", photos / "b.png" / "out") == 2
    said = f"--output: {photos}/b.png/out cannot be written (Not a directory)\n"
    assert capsys.readouterr().err.endswith(said)


def test_no_picture_takes_the_place_of_a_photograph_or_of_another(photos, weights, tmp_path, capsys):
    before = (photos / "b.png").read_bytes()
    assert run(weights, photos / "b.png", "-o", photos, "--overwrite") == 1
    assert (photos / "b.png").read_bytes() == before
    assert run(weights, photos / "a.jpg", photos / "sub/a.png", "-o", tmp_path / "out") == 1
    assert "sub/a.png: its picture would take the place of" in capsys.readouterr().err


def test_the_same_call_goes_on_where_out_is_the_photographs_folder(photos, weights, capsys):
    (photos / "b.png").rename(photos / "b.bmp")
    (photos / "sub" / "a.png").rename(photos / "sub" / "c.PNG")
    assert run(weights, photos, "-o", photos) == 0
    made = {path: path.read_bytes() for path in photos.rglob("*.png")}
    assert {path.relative_to(photos).as_posix() for path in made} == {"a.png", "b.png", "sub/c.png"}
    (photos / "b.png").unlink()  # as after Ctrl-C
    for there in (2, 3):
        capsys.readouterr()
        assert run(weights, photos, "-o", photos) == 0
        assert f"already: {there} of 3 pictures" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in photos.rglob("*.png")} == made


def test_levels_that_were_not_practised_are_drawn_on_as_asked_and_said(photos, tmp_path, capsys):
    own = Sampling(sampler="truncated", t_max=0.5, t_min=0.25)
    hyper = {"channels": 8, "mults": [1, 2], "attention": [], "blocks": 1, "groups": 4}
    net = sr_models.build("sr3", 2, **hyper)
    net.process = ProcessParams(T=20, beta_end=0.5)
    folder = tmp_path / "net"
    save_checkpoint(
        folder, net, model="sr3", scale=2, hyper=hyper, sigma=None, ema=False, fingerprint=None, sampling=own
    )
    line = f"{folder} has practised the noise levels of {own.mark} alone; drawn by"
    for words, by in (([], None), (["--steps", 9], None), (["--sampler", "ddim", "--steps", 3], "ddim3")):
        assert run(folder, photos / "b.png", "-o", tmp_path / str(by), "--overwrite", *words) == 0
        said = capsys.readouterr().err
        assert f"{line} {by}, as asked\n" in said if by else line not in said


def test_a_released_file_is_the_same_once_it_is_said_what_it_is(photos, weights, tmp_path):
    file = weights.with_suffix(".pth")
    hyper = [word for pair in SMALL.items() for word in ("--hyper", "{}={}".format(*pair))]
    assert run(file, photos / "b.png", "-o", tmp_path / "1", "--model", "edsr_baseline", "--scale", 2, *hyper) == 0
    assert run(weights, photos / "b.png", "-o", tmp_path / "2") == 0
    assert (tmp_path / "1/b.png").read_bytes() == (tmp_path / "2/b.png").read_bytes()


def lr_file(scored_run: RunDir, folder: Path) -> Path:
    folder.mkdir()
    hr = read_image(scored_run.output.parent / "test" / "9.png")
    Image.fromarray(downscale(hr, 2)).save(folder / "lr.png")
    return folder / "lr.png"


@pytest.mark.parametrize(
    ("row", "model", "scored"),
    [
        (None, "edsr_baseline", "9.png"),
        ("1", None, None),
        ("x2/edsr_baseline/l1", "edsr_baseline", "9.png"),
        ("x2/sr3/nutl", "sr3", "draw_0/9.png"),
        ("x2/bicubic/-", "bicubic", "9.png"),
    ],
)
def test_a_runs_row_gives_the_pixels_that_evaluation_scored(row, model, scored, scored_run, tmp_path, capsys):
    chosen = [] if row is None else ["--row", row]
    assert run(scored_run.path, lr_file(scored_run, tmp_path / "in"), "-o", tmp_path / "out", *chosen) == 0
    made = read_image(tmp_path / "out" / "lr.png")
    said = capsys.readouterr().err
    if model is None:
        return
    seed = -1 if model == "bicubic" else 1
    assert (made == read_image(scored_run.output.parent / "pictures" / f"{model}-{seed}" / scored)).all()
    if model != "bicubic":
        [first, _] = read_winners(scored_run.winners)[str(row or "x2/edsr_baseline/l1")].fingerprints
        assert f"(seed 1, raw weights), {scored_run.trial(first)}/model" in said


def test_a_checkpoint_of_some_noise_levels_is_sampled_on_these(scored_run, tmp_path, capsys):
    [first, _] = read_winners(scored_run.winners)["x2/sr3/nutl"].fingerprints
    photo = lr_file(scored_run, tmp_path / "in")
    folder = scored_run.trial(first) / "model"
    assert run(folder, photo, "-o", tmp_path / "1", "--steps", 8, "--seed", 5) == 0
    assert "drawn by truncated8" in capsys.readouterr().err
    whole = scored_run.output.parent / "pictures" / "sr3-1" / "draw_0/9.png"
    assert (read_image(tmp_path / "1/lr.png") == read_image(whole)).all()
    assert run(folder, photo, "-o", tmp_path / "2", "--steps", 8, "--seed", 6) == 0
    assert (read_image(tmp_path / "2/lr.png") != read_image(whole)).any()
    alone = tmp_path / "alone" / "net"
    shutil.copytree(folder, alone)
    capsys.readouterr()
    assert run(alone, photo, "-o", tmp_path / "3", "--steps", 8, "--seed", 5) == 0
    assert "drawn by truncated8" in capsys.readouterr().err, "a folder that was handed on says it itself"


def test_a_checkpoint_of_before_folders_said_their_noise_levels_has_its_trial_say_them(scored_run, tmp_path, capsys):
    [first, _] = read_winners(scored_run.winners)["x2/sr3/nutl"].fingerprints
    trial = tmp_path / "trial"
    shutil.copytree(scored_run.trial(first), trial)
    info = CheckpointInfo.read(trial / "model")
    assert info.sampling is not None
    info.model_copy(update={"sampling": None}).write(trial / "model")
    photo = lr_file(scored_run, tmp_path / "in")
    assert run(trial / "model", photo, "-o", tmp_path / "1", "--steps", 8, "--seed", 5) == 0
    assert f"drawn by {info.sampling.mark.replace('truncated', 'truncated8')}" in capsys.readouterr().err


def test_a_photograph_is_drawn_in_a_papers_tiles(scored_run, tmp_path, capsys):
    [first, _] = read_winners(scored_run.winners)["x2/sr3/nutl"].fingerprints
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(RANDOM.integers(0, 256, (12, 43, 3), dtype=np.uint8)).save(folder / "a.png")
    words = (scored_run.trial(first) / "model", folder, "--steps", 4)
    assert run(*words, "-o", tmp_path / "cut", "--crops", "dream40o5") == 0
    said = capsys.readouterr().err
    assert "drawn by truncated4" in said and " with seed 0 in tiles of dream40o5; on " in said
    assert run(*words, "-o", tmp_path / "whole") == 0
    whole, cut = (read_image(tmp_path / name / "a.png") for name in ("whole", "cut"))
    assert whole.shape == cut.shape == (24, 86, 3) and (whole != cut).any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["not there", "x.png"], "'not there' does not exist; expected a run folder"),
        (["FILE", "x.png", "--model", "rrdb"], "a file of rrdb does not say its scale: give --scale"),
        (["FOLDER", "x.png", "--model", "edsr"], "--model goes with a released file"),
        (["FOLDER", "x.png", "--row", "1"], "--row is of a run's board"),
        (["FILE", "x.png", "--row", "1"], "--row is of a run, and "),
        (["FOLDER", "x.png", "--seed", "0"], "--seed goes with networks that draw from noise, and"),
        (["FOLDER", "x.png", "--steps", "9"], "--steps goes with diffusion networks, and edsr_baseline is none"),
        (["FOLDER", "x.png", "--scale", "3"], "holds scale 2, not 3"),
        (["FOLDER", "x.png", "--overlap", "3"], "--overlap has no effect without --tile"),
        (["FOLDER", "x.png", "--crops", "dream40o5"], "--crops goes with diffusion networks, and edsr_baseline is"),
        (["RUN", "x.png", "--crops", "dream40o5", "--tile", "9"], "--crops dream40o5 and --tile 9 both say what the"),
        (["FOLDER", "x.png", "--device", "cuda:99"], "--device: 'cuda:99' cannot be used here ("),
        (["FOLDER", "x.png", "--device", "foo"], "give cpu, cuda or cuda:N"),
        (["RUN", "x.png", "--row", "9"], "--row: the board at ×2 has rows 1 to 3, got 9"),
        (["RUN", "x.png", "--row", "x2/sr3/l1"], "--row: no row 'x2/sr3/l1'; did you mean"),
        (["RUN", "x.png", "--scale", "4"], "--scale: no board at ×4; there are ×2"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(words, said, weights, scored_run, tmp_path, capsys):
    places = {"FILE": weights.with_suffix(".pth"), "FOLDER": weights, "RUN": scored_run.path}
    assert run(*(places.get(word, word) for word in words), "-o", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not (tmp_path / "out").exists()
