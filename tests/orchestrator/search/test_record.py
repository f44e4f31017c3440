"""What names a search: all that determines it, and not how far it went."""

from typing import Any

import pytest

from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import make_plan
from orchestrator.search import record
from orchestrator.search.record import search_key

DATA = {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}}
BASE = {
    "name": "s", "models": {"imdn": {}}, "data": DATA, "teacher": {}, "train": {"steps": 200, "validate_every": 50},
    "search": {"trials": 4, "first_rung": 0.25}, "objectives": {"eco": {"search": ["target.length"]}},
}  # fmt: skip


def key(data_hash: str = "d", weights: str = "e", **changes: Any) -> str:
    plan = make_plan(SweepConfig.parse(BASE | changes, "test"))
    [one] = plan.combinations
    return search_key(plan.trial(one, {}, plan.config.seed, data_hash * 64, weights * 64), one, plan.config.search)


@pytest.mark.parametrize(
    "changes",
    [
        {"search": BASE["search"] | {"trials": 9}},
        {"seeds": 3},
        {"objectives": {"other": {"recipe": "eco", "search": ["target.length"]}}},
        {"models": {"mine": {"model": "imdn"}}},
        {"evaluation": {"metrics": ["ssim_y", "psnr_y"]}},
        {"data": DATA | {"test": {"c": {"hr": "c"}, "d": {"hr": "d"}}}},
        {"resources": {"max_concurrent": 2}},
    ],
)
def test_what_leaves_a_search_as_it_is(changes):
    assert key(**changes) == key()


@pytest.mark.parametrize(
    "changes",
    [
        {"data_hash": "f"},
        {"weights": "f"},
        {"seed": 1},
        {"models": {"imdn": {"channels": 32}}},
        {"train": BASE["train"] | {"lr": 1e-3}},
        {"objectives": {"eco": {"search": ["target.length", "target.shape"]}}},
        {"objectives": {"eco": {"search": {"target.length": [0.25, 0.5]}}}},
        {"search": BASE["search"] | {"first_rung": 0.5}},
        {"search": BASE["search"] | {"reduction": 4}},
        {"search": BASE["search"] | {"sampler": "random"}},
        {"search": BASE["search"] | {"startup_trials": 3}},
        {"search": BASE["search"] | {"metric": "ssim_y"}},
        {"evaluation": {"protocol": "uncropped"}},
    ],
)
def test_what_makes_it_another(changes):
    assert key(**changes) != key()


def test_how_validations_draw_and_cut_makes_it_another(monkeypatch):
    drawn = {
        "models": {"sr3": {"channels": 8, "mults": [1, 2], "attention": [], "blocks": 1, "groups": 4}},
        "objectives": {"ddpm": {"search": ["train.lr"]}},
    }  # fmt: skip
    canvas, tile = {"sampling": {"canvas": "ccsr"}}, {"tile": 16, "tile_overlap": 4}
    ways = [{}, {"crops": "dream40o5"}, {"crops": "dream64o8"}, canvas, tile, canvas | tile]
    assert len({key(**drawn, evaluation=way) for way in ways}) == len(ways)
    monkeypatch.setattr(record, "digest", lambda parts: parts[-1])
    how = [key(**drawn, evaluation=way) for way in (tile, canvas, canvas | tile)]
    assert ["lrtiles" in one for one in how] == [False, False, True], "tiles were another size there once"
