"""What names a search: all that determines it, and not how far it went."""

from typing import Any

import pytest

from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import make_plan
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
