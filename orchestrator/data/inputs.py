"""A sweep's images: training, validation and test sets, wherever they lie, as folders of this machine."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from eval.protocol import get_protocol
from orchestrator.data.fit import check_not_flat
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.read import expand, is_uri
from orchestrator.plan.sources import SKIMAGE, BenchmarkSource, ImageSource
from sr_models.errors import InputError

if TYPE_CHECKING:
    from eval.benchmarks import Benchmark, Facts, Pair
    from orchestrator.data.manifest import Split
    from orchestrator.storage.uri import Storage

_HR, _LR = "HR", "LR"


class Inputs:
    """The images that a config names."""

    def __init__(self, config: SweepConfig) -> None:
        self.config, self.data, self.scales = config, config.data, config.scales

    def check(self) -> None:
        """Read every test image, before anything is started or written; what `look` does not see is found here.

        Raises:
            InputError: test images that cannot be read, or that no model's score would say anything of.
        """
        _ = self.test_hashes

    @property
    def are_far(self) -> bool:
        """Whether some lie at a URI."""
        given = [source for group in (self.data.train, self.data.validation) for source in group]
        paths = [path for source in given for path in (source.hr, *source.lr.values())]
        paths += [path for test in self.data.test.values() for path in (test.hr, test.lr or "")]
        return any(map(is_uri, paths))

    @cached_property
    def sources(self) -> dict[Split, list[ImageSource]]:
        """Training and validation folders, with variables and scales filled in."""
        groups: dict[Split, tuple[ImageSource, ...]] = {"train": self.data.train, "validation": self.data.validation}
        return {
            split: [
                source.model_copy(
                    update={"hr": str(local(source.hr)), "lr": {s: str(local(path)) for s, path in source.lr.items()}}
                )
                for source in (expanded(source, f"data.{split}") for source in group)
            ]
            for split, group in groups.items()
        }

    @cached_property
    def benchmarks(self) -> dict[tuple[str, float], Benchmark]:
        """Every test set at every scale that it is scored at."""
        return {
            (name, scale): load_benchmark(name, self.located(name, scale), scale)
            for name, source in self.data.test.items()
            for scale in source.at(self.scales)
        }

    @cached_property
    def known(self) -> dict[tuple[str, float], Benchmark]:
        """The same with the facts of every image that could be read when this was first asked."""
        from orchestrator.data.known import with_facts  # imports pyarrow, and the next one

        return with_facts(self.benchmarks)

    @cached_property
    def test_hashes(self) -> dict[str, str]:
        """Name -> pixel hash of each test image, whole and as cropped for each scale.

        Raises:
            InputError: as `check` of test images.
        """
        found: dict[str, str] = {}
        for (name, scale), bench in self.known.items():
            for image, sha in bench.hr_hashes.items():
                found[f"{name}/{image}"] = sha
            for pair in bench.pairs:
                facts = bench.all_facts[pair.name]
                self._check_test(pair, facts, scale)
                found[f"{name}/{pair.name} (x{scale})"] = facts.hr
        return found

    def _check_test(self, pair: Pair, facts: Facts, scale: float) -> None:
        """Refuse a test image that scores say nothing of."""
        from eval.metrics.fidelity import check_size

        protocol, metrics = get_protocol(self.config.evaluation.protocol), self.config.evaluation.metrics
        what = f"test image {str(pair.hr)!r}"
        check_not_flat(facts.flat, what)
        try:
            check_size(facts.height, facts.width, scale=scale, protocol=protocol, metrics=metrics)
        except InputError as error:
            raise InputError(f"{what}: {error}; exclude it") from None

    def located(self, name: str, scale: float) -> BenchmarkSource:
        """A test set with its paths filled in and absolute: a worker may start in another folder.

        Raises:
            InputError: an environment variable that is not set.
        """
        return located(name, self.data.test[name], scale)

    def stored(self, name: str, scale: float, storage: Storage) -> BenchmarkSource:
        """A test set as any machine finds it: what lies only on this one is put on the storage first."""
        source = self.located(name, scale)
        if source.hr == SKIMAGE or is_uri(source.hr):
            return source
        home = storage.child(f"tests/{name}/x{scale}")
        there = home.names()
        for pair in self.benchmarks[name, scale].pairs:
            for folder, path in ((_HR, pair.hr), (_LR, pair.lr)):
                if path is None:
                    continue
                target = f"{folder}/{pair.name}{path.suffix}"
                if target not in there or there[target].size != path.stat().st_size:
                    home.upload(path, target)
        return BenchmarkSource(
            hr=home.child(_HR).uri,
            lr=home.child(_LR).uri if source.lr else None,
            include=(),
            exclude=(),
            scale=source.scale,
            noise=source.noise,
        )


def expanded(source: ImageSource, where: str) -> ImageSource:
    """A source with variables and scales filled in. Raises InputError: a variable that is not set."""
    lr = {scale: expand(path, where, scale) for scale, path in source.lr.items()}
    return source.model_copy(update={"hr": expand(source.hr, where), "lr": lr})


def located(name: str, source: BenchmarkSource, scale: float) -> BenchmarkSource:
    """A test set with its paths filled in and absolute. Raises InputError: a variable that is not set."""

    def absolute(path: str) -> str:
        full = expand(path, f"data.test.{name}", scale)
        return full if path == SKIMAGE or is_uri(full) else str(Path(full).absolute())

    return source.model_copy(update={"hr": absolute(source.hr), "lr": absolute(source.lr) if source.lr else None})


def local(path: str) -> str | Path:
    """A folder of images as one of this machine; a URI is mirrored into the node's cache."""
    if not is_uri(path):
        return path
    from orchestrator.storage.mirror import cache_folder, localise  # imports pyarrow

    return localise(path, cache_folder())


def load_benchmark(name: str, source: BenchmarkSource, scale: float) -> Benchmark:
    """The test set that a located source names, at one scale.

    Raises:
        InputError: a folder that is missing or empty, a file without a partner.
    """
    from eval import benchmarks

    if source.hr == SKIMAGE:
        files = ImageSource(hr=SKIMAGE, include=source.include, exclude=source.exclude).hr_files()
        return benchmarks.load(name, scale, files[0].parent, include=[file.name for file in files])
    lr = Path(local(source.lr)) if source.lr else None
    return benchmarks.load(name, scale, Path(local(source.hr)), lr, include=source.include, exclude=source.exclude)
