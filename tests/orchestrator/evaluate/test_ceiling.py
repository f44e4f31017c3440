"""What an autoencoder makes of HR itself: scored as SR is, once for all that stand on it, and never the best."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eval import benchmarks
from eval.metrics.fidelity import score
from eval.rows import CEILING, read_rows
from eval.score import reconstruct
from orchestrator.evaluate import actors, entrants, work
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.run.access import LocalAccess
from orchestrator.run.records import TRIAL, begin_trial
from sr_models.checkpoints.parts import packed
from sr_models.diffusion.frozen import vq_autoencoder
from sr_models.images.operators import to_float

TINY: dict[str, Any] = {
    "model": "resshift", "channels": 8, "mults": [1, 1], "blocks": 1, "embed": 8, "heads": 2, "mlp_ratio": 2,
    "attention_window": 2, "side": 8, "groups": 4,
}  # fmt: skip


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two networks on one autoencoder, of which one is drawn in two ways."""
    folder = tmp_path / "toy"
    folder.mkdir()
    pixels = np.random.Generator(np.random.Philox(0)).integers(0, 256, (37, 45, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    models = {name: {"autoencoder": "f", **TINY, "dropout": drop} for name, drop in (("one", 0.0), ("other", 0.1))}
    return make_plan(
        SweepConfig.parse(
            {
                "name": "s", "scales": [4], "objectives": ["ddpm"], "process": {"T": 30, "beta_end": 0.5, "kept": 6},
                "models": models, "train": {"steps": 3, "batch_size": 2, "patch": 8, "validate_every": 3},
                "evaluation": {"metrics": ["psnr_y"]},
                "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"toy": {"hr": str(folder)}}},
            },
            "test",
        )
    )  # fmt: skip


def test_hr_goes_there_and_back_once_for_all_that_stand_on_an_autoencoder(
    part_access: LocalAccess, plan: Plan, stand_in: Path, tmp_path: Path
) -> None:
    sha256, found = packed(stand_in)[0], {}
    for one in plan.combinations:
        trial = plan.trial(one, {}, 1, "d" * 64, None, None, {"autoencoder": sha256})
        folder = part_access.run.trial(trial.fingerprint)
        folder.mkdir(parents=True)
        begin_trial(folder, trial, run="run", steered=True)
        assert (folder / TRIAL).exists()
        found[one.id] = type("Winner", (), {"fingerprints": (trial.fingerprint,)})
    [made] = entrants.ceilings(part_access.run, plan, found)
    assert made.identity.combination == f"x4/ceiling of {sha256[:8]}/-" and made.identity.weights == CEILING

    bench = benchmarks.load("toy", 4, tmp_path / "toy")
    source = BenchmarkSource(hr=str(tmp_path / "toy"))
    job = entrants._job(made, plan.config.evaluation, bench, source)
    assert job.is_ceiling and job.subject.protocol == "classical-y-b4"
    [planned] = work.plan([job], {("toy", 4): bench}, part_access)
    [unit] = planned.units({}, {})
    assert actors.ScoringWorker(part_access, 1, "cpu").score(unit) == []
    [file] = (part_access.run.path.parent / "shared").rglob("*.parquet")
    [row] = read_rows(file.parent)
    coder, hr = vq_autoencoder(str(stand_in), None, "cpu"), to_float(bench.read(0)[1])
    assert hr.shape[2:] == (36, 44) and row["deterministic"]
    with torch.no_grad():
        back = ((coder.decode(coder.encode(2 * hr - 1)) + 1) / 2).clamp(0, 1)
    expected = score(back, hr, scale=4, protocol=job.protocol, metrics=["psnr_y"])["psnr_y"]
    assert row["psnr_y"] == pytest.approx(expected[0])


def test_sides_that_are_no_whole_cells_come_back_whole() -> None:
    class Halving(torch.nn.Module):
        reduction = 8

        def reconstruct(self, picture: torch.Tensor) -> torch.Tensor:
            assert tuple(picture.shape[2:]) == (40, 48)
            return picture - 0.25

    hr = np.full((36, 44, 3), 255, np.uint8)
    made = reconstruct(Halving(), hr, "cpu")  # type: ignore[arg-type]
    assert made.out.sr.shape == (1, 3, 36, 44) and float(made.out.sr.min()) == float(made.out.sr.max()) == 0.75
