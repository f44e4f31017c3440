"""A sweep's images: training, validation and test sets, wherever they lie, as folders of this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from eval.protocol import get_protocol
from orchestrator.data.known import with_facts
from orchestrator.data.manifest import Split
from orchestrator.data.rows import check_not_flat, lr_side
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.read import expand, is_uri
from orchestrator.plan.sources import SKIMAGE, BenchmarkSource, ImageSource
from orchestrator.storage.mirror import cache_folder, localise
from orchestrator.storage.uri import Storage
from sr_models.command import say
from sr_models.errors import InputError
from sr_models.hyper.degradation import LEAST_SIDE, cut_side
from sr_models.images.files import some

if TYPE_CHECKING:
    from eval.benchmarks import Benchmark, Facts, Pair

_HR, _LR = "HR", "LR"
_IN_A_LINE = 3  # names that `some` shows


class Inputs:
    """The images that a config names."""

    def __init__(self, config: SweepConfig) -> None:
        self.config, self.data, self.scales = config, config.data, config.scales

    def check(self, patches: Collection[tuple[int, int]] = ()) -> None:
        """Read every test image and find every training folder, before anything is started or written.

        What the folders hold and is not used, pictures of other formats and LR files without HR, is said.

        Args:
            patches: (scale, LR patch) that each training image must hold, or be left out where `data.on_bad` skips.

        Raises:
            InputError: folders that are missing or empty, HR without LR, training images too small, test images that
                cannot be read or that no model's score would say anything of.
        """
        sources = [source for group in self.sources.values() for source in group]
        for source in sources:
            source.hr_files()
        left_out = [line for source in sources for line in source.left_out(self.scales)]
        left_out += [line for bench in self.benchmarks.values() for line in bench.left_out]
        for line in dict.fromkeys(left_out):
            say(line)
        for scale, patch in sorted(patches):
            self._check_patch(scale, patch)
        _ = self.test_hashes

    def _check_patch(self, scale: int, patch: int) -> None:
        """Refuse, or say, which training images an LR patch does not fit into."""
        pairs = [pair for source in self.sources["train"] for pair in source.pairs((scale,))]
        sides = {hr: side for hr, lr in pairs if (side := lr_side(hr, lr.get(scale), scale)) is not None}
        small = [hr for hr, side in sides.items() if side < patch]
        if not small:
            return
        count = f"{len(small)} of {len(pairs)} images"
        if self.data.on_bad == "skip" and len(small) < len(pairs):
            say(f"data.train: {count} are smaller than an LR patch of {patch} at x{scale}, and left out: {some(small)}")
            return
        degraded = self.config.train.degradation is not None and patch == cut_side(1, scale)
        least = f"; train.degradation cuts at least {LEAST_SIDE} HR pixels" if degraded else ""
        if any(self.config.network(label)[2].scales for label in self.config.models):
            least += "; train.scales cuts up to scales.high times train.patch HR pixels"
        others = ", exclude them, or leave them out by data.on_bad=skip" if len(small) < len(pairs) else ""
        raise InputError(
            f"data.train: an LR patch of {patch} at x{scale} does not fit into {count}: {some(small)}{_listed(small)}; "
            f"the largest patch that fits all is {min(sides.values())}: set train.patch{others}{least}"
        )

    @cached_property
    def sources(self) -> dict[Split, list[ImageSource]]:
        """Training and validation folders, with variables and scales filled in."""
        groups: dict[Split, tuple[ImageSource, ...]] = {"train": self.data.train, "validation": self.data.validation}
        return {
            split: [
                source.model_copy(
                    update={
                        "hr": str(local(expand(source.hr, f"data.{split}"))),
                        "lr": {s: str(local(expand(p, f"data.{split}", s))) for s, p in source.lr.items()},
                    }
                )
                for source in group
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
        source = self.data.test[name]

        def absolute(path: str) -> str:
            full = expand(path, f"data.test.{name}", scale)
            return full if path == SKIMAGE or is_uri(full) else str(Path(full).absolute())

        return source.model_copy(update={"hr": absolute(source.hr), "lr": absolute(source.lr) if source.lr else None})

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


def _listed(files: Sequence[Path]) -> str:
    """Where all names are written, if they are more than a line holds."""
    if len(files) <= _IN_A_LINE:
        return ""
    with tempfile.NamedTemporaryFile("w", prefix="sr-too-small-", suffix=".txt", delete=False, encoding="utf-8") as out:
        out.writelines(f"{file}\n" for file in files)
    return f" (all in {out.name})"


def local(path: str) -> str | Path:
    """A folder of images as one of this machine; a URI is mirrored into the node's cache."""
    return localise(path, cache_folder()) if is_uri(path) else path


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
