"""One thread, images to train on, and an end as sudden as SIGKILL's, for trials in this process."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator.data.build import build_store
from orchestrator.data.store import PatchStore
from orchestrator.plan.sources import ImageSource


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    """Two training images and three validation images of 40x44 pixels, at x2."""
    folder = tmp_path_factory.mktemp("images")
    sources = {}
    for split, seeds in {"train": (1, 2), "validation": (4, 5, 6)}.items():
        (folder / split).mkdir()
        for seed in seeds:
            rng = np.random.Generator(np.random.Philox(seed))
            blocks = np.kron(rng.integers(0, 256, (10, 11, 3)), np.ones((4, 4, 1), np.int64))
            Image.fromarray(blocks.astype(np.uint8)).save(folder / split / f"{seed}.png")
        sources[split] = [ImageSource(hr=str(folder / split))]
    return build_store(folder / "store", scale=2, **sources)


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """`with killed_at(8):` ends the run in it where it draws the batch of step 8; the trial catches nothing of it."""

    class Killed(BaseException):
        pass

    draw = PatchStore.batch

    @contextmanager
    def at(step: int) -> Iterator[None]:
        def killed(self, **wanted):
            if wanted["step"] == step:
                raise Killed
            return draw(self, **wanted)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(PatchStore, "batch", killed)
            yield

    return at
