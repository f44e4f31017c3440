"""The benchmark of degradations: every set makes batches, each another one, and IMDN's step is there to compare."""

from pathlib import Path

from benchmarks.degradation import PLAIN, STEP, competitors, made_store
from sr_models.hyper.degradation import NAMES


def test_every_set_makes_batches_that_differ(tmp_path: Path) -> None:
    made = competitors(made_store(tmp_path), 8, 2)
    assert list(made) == [PLAIN, *NAMES, STEP]
    for name, make in made.items():
        if name == STEP:
            make()
            continue
        one, two = make(), make()
        assert one.lr.shape == (2, 3, 8, 8) and (one.hr.mean() != two.hr.mean())
