"""Tests mirror the wings: a module's tests are where its name says, or one table says where they are."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sr_models", "objectives", "eval", "cluster", "orchestrator")

COVERED_ELSEWHERE = {  # module without a test file of its name -> the one that tests it
    "orchestrator/data/cells.py": "tests/orchestrator/data/test_latents.py",
    "eval/options.py": "tests/eval/test_command.py",
    "orchestrator/evaluate/actors.py": "tests/orchestrator/evaluate/test_service.py",
    "orchestrator/evaluate/chosen.py": "tests/orchestrator/test_upscale.py",
    "orchestrator/evaluate/entrants.py": "tests/orchestrator/evaluate/test_main.py",
    "orchestrator/evaluate/first_image.py": "tests/orchestrator/leaderboard/test_pictures.py",
    "orchestrator/evaluate/measured.py": "tests/orchestrator/evaluate/test_growing.py",
    "orchestrator/evaluate/on_cluster.py": "tests/orchestrator/evaluate/test_main.py",
    "orchestrator/evaluate/one_model.py": "tests/orchestrator/evaluate/test_main.py",
    "orchestrator/evaluate/one_run.py": "tests/orchestrator/evaluate/test_main.py",
    "orchestrator/evaluate/pool.py": "tests/orchestrator/evaluate/test_service.py",
    "orchestrator/evaluate/work.py": "tests/orchestrator/evaluate/test_service.py",
    "orchestrator/images.py": "tests/orchestrator/test_parts.py",
    "orchestrator/report.py": "tests/orchestrator/test_sweep.py",
    "orchestrator/needed.py": "tests/orchestrator/test_clean.py",
    "objectives/named.py": "tests/sr_models/test_plugins.py",
    "cluster/ray_private.py": "tests/cluster/test_ray_runtime.py",
    "cluster/ray_watch.py": "tests/cluster/test_ray_runtime.py",
    "orchestrator/leaderboard/over_images.py": "tests/orchestrator/leaderboard/test_compare.py",
    "orchestrator/data/fit.py": "tests/orchestrator/data/test_look.py",
    "orchestrator/data/places.py": "tests/orchestrator/data/test_store.py",
    "orchestrator/plan/combination.py": "tests/orchestrator/plan/test_plan.py",
    "orchestrator/run/machine.py": "tests/orchestrator/test_replay.py",
    "orchestrator/run/mirrored.py": "tests/orchestrator/run/test_access.py",
    "orchestrator/run/winners.py": "tests/orchestrator/run/test_records.py",
    "orchestrator/plan/evaluation.py": "tests/orchestrator/plan/test_config.py",
    "orchestrator/plan/resources.py": "tests/orchestrator/plan/test_config.py",
    "orchestrator/plan/teacher.py": "tests/orchestrator/plan/test_config.py",
    "orchestrator/plan/train.py": "tests/orchestrator/plan/test_trial.py",
    "orchestrator/tracking/rows.py": "tests/orchestrator/tracking/test_deliver.py",
    "orchestrator/plan/text.py": "tests/orchestrator/plan/test_plan.py",
    "orchestrator/probe/along_t.py": "tests/orchestrator/probe/test_denoisers.py",
    "orchestrator/probe/curves.py": "tests/orchestrator/probe/test_main.py",
    "orchestrator/probe/delivered.py": "tests/orchestrator/probe/test_main.py",
    "orchestrator/probe/figures.py": "tests/orchestrator/probe/test_main.py",
    "orchestrator/probe/folders.py": "tests/orchestrator/probe/test_main.py",
    "orchestrator/probe/gap.py": "tests/orchestrator/probe/test_denoisers.py",
    "orchestrator/probe/kept.py": "tests/orchestrator/probe/test_main.py",
    "orchestrator/probe/sampling_steps.py": "tests/orchestrator/probe/test_denoisers.py",
    "orchestrator/probe/signs.py": "tests/orchestrator/probe/test_main.py",
    "orchestrator/probe/size_quality.py": "tests/orchestrator/probe/test_main.py",
    "orchestrator/probe/targets.py": "tests/orchestrator/probe/test_main.py",
    "orchestrator/probe/trials.py": "tests/orchestrator/probe/test_main.py",
    "orchestrator/probe/uncertainty.py": "tests/orchestrator/probe/test_main.py",
    "orchestrator/probe/work.py": "tests/orchestrator/probe/test_main.py",
    "orchestrator/storage/names.py": "tests/orchestrator/storage/test_uri.py",
    "orchestrator/training/products.py": "tests/orchestrator/training/test_centroids.py",
    "orchestrator/training/teachers.py": "tests/orchestrator/test_ingredients.py",
    "orchestrator/training/validation.py": "tests/orchestrator/training/test_loop.py",
    "sr_models/images/matlab.py": "tests/sr_models/images/test_operators.py",
    "sr_models/checkpoints/zoo.py": "tests/sr_models/networks/test_zoo.py",
    "sr_models/hyper/zoo.py": "tests/sr_models/networks/test_zoo.py",
    "orchestrator/plan/zoo.py": "tests/orchestrator/test_zoo_sweep.py",
    "sr_models/checkpoints/tensors.py": "tests/sr_models/checkpoints/test_published.py",
    "sr_models/diffusion/base.py": "tests/sr_models/diffusion/test_sr3.py",
    "sr_models/diffusion/frozen.py": "tests/sr_models/diffusion/test_resshift.py",
    "sr_models/hyper/crops.py": "tests/sr_models/inference/test_tiling.py",
    "sr_models/hyper/autoencoder.py": "tests/sr_models/diffusion/test_reconstruction.py",
    "sr_models/hyper/diffusion.py": "tests/sr_models/diffusion/test_sr3.py",
    "sr_models/hyper/latent.py": "tests/sr_models/diffusion/test_resshift.py",
    "sr_models/spec.py": "tests/sr_models/test_init.py",
}
DECLARATIONS = {"eval/request.py", "objectives/losses.py", "orchestrator/probe/kinds.py"}
"""Modules that compute nothing."""


def computes(path: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef | ast.Lambda) for node in ast.walk(ast.parse(path.read_text("utf-8"))))


def namesake(module: str) -> str:
    """Where a module's tests belong: tests/eval/test_rows.py for eval/rows.py, test_main.py for a `__main__.py`."""
    path = Path("tests") / module
    return path.with_name(f"test_{path.stem.strip('_')}.py").as_posix()


MODULES = {
    path.relative_to(ROOT).as_posix()
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if path.stem != "__init__" or computes(path)
}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_is_tested_where_its_name_says_or_where_the_table_says(module):
    known = module in COVERED_ELSEWHERE or module in DECLARATIONS
    assert (ROOT / namesake(module)).exists() is not known, f"{namesake(module)}: either it or a row of the tables here"


def test_the_tables_name_files_that_are_there():
    assert COVERED_ELSEWHERE.keys() | DECLARATIONS <= MODULES
    assert all((ROOT / where).exists() for where in COVERED_ELSEWHERE.values())
    assert not [module for module in DECLARATIONS if computes(ROOT / module)]
