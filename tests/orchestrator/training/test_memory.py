"""Pictures that a worker has no memory for are refused before training, with the tile that would do."""

import json
import re
from pathlib import Path

import pytest

import sr_models
from orchestrator.plan.evaluation import EvaluationConfig
from orchestrator.plan.teacher import TeacherConfig
from orchestrator.plan.trial import TILE_OVERLAP
from orchestrator.training.memory import Network, check
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.errors import InputError
from sr_models.inference.super_resolve import Options

SIZES = {"small": (20, 30), "large": (150, 200)}
EDSR = Network(name="edsr_baseline", scale=2, hyper='{"channels": 8, "blocks": 1}')
IMDN = Network(name="imdn", scale=2, hyper='{"channels": 16, "blocks": 1}')


def checked(network: Network, max_bytes: int, tile: int | None = None, overlap: int = 32) -> None:
    check(network, SIZES, EvaluationConfig(tile=tile, tile_overlap=overlap), "evaluation", max_bytes)


@pytest.mark.parametrize(
    ("network", "max_bytes", "whole"), [(EDSR, 10**9, True), (IMDN, 10**9, True), (EDSR, 2 * 10**6, False)]
)
def test_what_fits_whole_or_in_tiles_that_change_nothing_is_taken(
    network: Network, max_bytes: int, whole: bool
) -> None:
    bound = network.bound(max_bytes)
    assert (bound.takes(*SIZES["large"], Options()) <= max_bytes) == whole
    assert (bound.options(*SIZES["large"], Options()) == Options()) == whole
    checked(network, max_bytes)


def test_a_picture_that_only_other_numbers_would_fit_is_refused_with_the_tile_to_declare() -> None:
    with pytest.raises(InputError) as refused:
        checked(IMDN, 8_000_000)
    text = str(refused.value)
    assert text.startswith("image 'large' (200x150 LR pixels) takes about ")
    assert "MB of imdn at x2, more than resources.max_bytes allows (8 MB); imdn looks at all of a picture" in text
    named = re.search(r"declare evaluation\.tile=(\d+)$", text)
    assert named
    checked(IMDN, 8_000_000, tile=int(named[1]))
    with pytest.raises(InputError, match="a tile of 150 pixels takes about"):
        checked(IMDN, 8_000_000, tile=150)


def test_a_papers_tile_that_does_not_fit_is_refused_with_another_one_to_declare() -> None:
    hyper = {"channels": 8, "mults": [1, 2], "attention": [], "blocks": 1, "groups": 4}
    net = Network(name="sr3", scale=2, hyper=json.dumps(hyper))
    crops, bound = EvaluationConfig(crops="ccsr128o64"), net.bound(1)
    most = bound.takes(128, 128, Options())
    assert bound.takes(*SIZES["large"], Options()) > most
    check(net, SIZES, crops, "evaluation", most)
    check(EDSR, SIZES, crops, "evaluation", 10**9)
    said = r"^a tile of ccsr128o64 takes about .* declare evaluation\.tile=\d+ in the place of evaluation\.crops$"
    with pytest.raises(InputError, match=said):
        check(net, SIZES, crops, "evaluation", most - 1)
    with pytest.raises(InputError, match=r"^image 'large'") as refused:
        check(IMDN, SIZES, crops, "evaluation", 8_000_000)
    said = r"evaluation\.tile=(\d+) in a sweep without evaluation\.crops, which are tiles of diffusion networks alone$"
    named = re.search(said, str(refused.value))
    assert named, "a tile is refused beside crops"
    checked(IMDN, 8_000_000, tile=int(named[1]))


def test_the_tile_to_declare_fits_with_the_overlap_that_is_declared() -> None:
    with pytest.raises(InputError, match="a tile of 100 pixels takes about") as refused:
        checked(IMDN, 16_000_000, tile=100, overlap=50)
    named = re.search(r"declare evaluation\.tile=(\d+)$", str(refused.value))
    assert named
    checked(IMDN, 16_000_000, tile=int(named[1]), overlap=50)
    with pytest.raises(InputError, match=f"a tile of {int(named[1]) + 1} pixels"):
        checked(IMDN, 16_000_000, tile=int(named[1]) + 1, overlap=50)


def test_an_overlap_that_nobody_declared_is_that_of_the_command_that_scores_one_network() -> None:
    assert TILE_OVERLAP == Options.overlap == EvaluationConfig().tile_overlap == TeacherConfig().tile_overlap


@pytest.mark.parametrize("network", [EDSR, IMDN])
def test_a_bound_that_no_tile_keeps_to_is_refused(network: Network) -> None:
    with pytest.raises(InputError, match=f"max_bytes: {network.name} at x2: 100000 bytes are too few for one tile"):
        checked(network, 100_000)


def test_a_sigma_head_counts() -> None:
    plain, with_head = (
        Network(name="edsr_baseline", scale=2, hyper=EDSR.hyper, sigma_width=width).bound(1).pixel_bytes
        for width in (None, 64)
    )
    assert with_head > 2 * plain


def test_a_teacher_is_the_network_of_the_folder_that_it_comes_from(tmp_path: Path) -> None:
    hyper = {"channels": 16, "blocks": 1}
    net = sr_models.build("imdn", 2, **hyper)
    save_checkpoint(tmp_path / "x2", net, model="imdn", scale=2, hyper=hyper, sigma=None, ema=False, fingerprint=None)
    given = Network.of_teacher(TeacherConfig(), 2, tmp_path / "x2")
    assert given == Network(name="imdn", scale=2, hyper=json.dumps(hyper, sort_keys=True))
    own = Network.of_teacher(TeacherConfig(model="edsr", hyper={"blocks": 2}), 4, Path("net.pth"))
    assert own == Network(name="edsr", scale=4, hyper='{"blocks": 2}')
    with pytest.raises(InputError, match=r"declare teacher\.tile="):
        check(given, SIZES, TeacherConfig(), "teacher", 8_000_000)
