"""Where images come from: a folder tree, or the colour photographs that ship in scikit-image's wheel.

The photographs are free of known copyright restrictions: https://scikit-image.org/docs/stable/api/skimage.data.html
No torch here: a plan lists its files without importing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from sr_models.errors import InputError
from sr_models.params import Params
from sr_models.scales import parse_scale

if TYPE_CHECKING:
    from sr_models.images.pairs import Pairing

SKIMAGE = "skimage:"

PHOTOGRAPHS = (
    "astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg",
    "motorcycle_left.png", "motorcycle_right.png", "ihc.png", "retina.jpg",
)  # fmt: skip
"""What `skimage:` stands for. The two motorcycles show one scene: never part them between training and test."""

Kernel = Literal[
    "matlab-bicubic-replicate-u8",
    "matlab-bicubic-symmetric-u8",
    "matlab-bicubic-replicate-float",
    "matlab-bicubic-symmetric-float",
]


class ImageSource(Params):
    """Some HR images, and per scale the LR images that belong to them where such files exist."""

    hr: str = Field(min_length=1, description="folder that is searched for images, or 'skimage:'")
    lr: dict[Annotated[int, Field(ge=1)], str] = Field(
        default={},
        description="scale -> folder of existing LR files, paired by name; elsewhere LR is made with `kernel`, but for "
        "scale 1, where LR is as large as HR",
    )
    include: tuple[str, ...] = Field(default=(), description="keep file names that match one of these globs; none: all")
    exclude: tuple[str, ...] = Field(default=(), description="leave out file names that match one of these globs")
    kernel: Kernel = Field(default="matlab-bicubic-replicate-u8", description="how LR is made from HR")

    @property
    def folder(self) -> Path:
        """The HR folder; existence is not checked here, except that scikit-image must be installed for its own."""
        return skimage_folder() if self.hr == SKIMAGE else Path(self.hr).expanduser()

    @property
    def label(self) -> str:
        """A short name for messages and rows: the folder's name, or `skimage`."""
        return "skimage" if self.hr == SKIMAGE else self.folder.resolve().name

    def hr_files(self) -> list[Path]:
        """The HR files, sorted.

        Raises:
            InputError: the folder is missing, empty or unreadable, or the globs leave nothing.
        """
        from sr_models.images.files import find_images  # late: Pillow is not needed to declare a source

        if self.hr != SKIMAGE:
            return find_images(self.folder, include=self.include, exclude=self.exclude)
        chosen = tuple(name for name in PHOTOGRAPHS if not self.include or _matches(name, self.include))
        if not chosen:
            raise InputError(f"{SKIMAGE} has nothing like {list(self.include)} (it has: {', '.join(PHOTOGRAPHS)})")
        return find_images(self.folder, include=chosen, exclude=self.exclude)

    def pairs(self, scales: tuple[int, ...]) -> list[tuple[Path, dict[int, Path]]]:
        """(HR file, {scale: LR file}) for every image; only scales with an LR folder appear.

        Raises:
            InputError: as `hr_files`; the HR and LR folders do not pair.
        """
        lr_files: dict[Path, dict[int, Path]] = {file: {} for file in self.hr_files()}
        for scale in sorted(set(self.lr) & set(scales)):
            for hr, lr in self._paired(scale).pairs:
                lr_files[hr][scale] = lr
        return list(lr_files.items())

    def left_out(self, scales: tuple[int, ...]) -> list[str]:
        """A line on what each folder holds that is not used: pictures of other formats, LR files without HR.

        Raises:
            InputError: as `pairs`.
        """
        from sr_models.images.files import files_below, unread_text
        from sr_models.images.pairs import surplus_text

        said: dict[str, str | None] = {}
        if self.hr != SKIMAGE:
            said[self.hr] = unread_text(files_below(self.folder), self.include, self.exclude)
        for scale in sorted(set(self.lr) & set(scales)):
            said[self.lr[scale]] = surplus_text(self._paired(scale).surplus)
        return [f"{folder}: {line}" for folder, line in said.items() if line]

    def _paired(self, scale: int) -> Pairing:
        from sr_models.images.pairs import pair_folder

        whole = self.model_copy(update={"include": (), "exclude": ()}).hr_files()  # LR files may be named otherwise
        folder, globs = Path(self.lr[scale]).expanduser(), (self.include, self.exclude)
        return pair_folder(self.hr_files(), whole, folder, scale, globs=globs)


class BenchmarkSource(Params):
    """A test set: HR images, with LR files where they exist. `{scale}` in a path stands for the scale."""

    hr: str = Field(description="folder of HR images, or skimage:")
    lr: str | None = Field(
        default=None, description="folder of LR images; null makes LR with the MATLAB bicubic kernel (not at scale 1)"
    )
    include: tuple[str, ...] = Field((), description="file name patterns to take; none takes all")
    exclude: tuple[str, ...] = Field((), description="file name patterns to leave out")
    scale: int | float | None = Field(
        default=None,
        exclude_if=lambda scale: scale is None,  # so that runs keep the names they had before there was a choice
        description="the one scale of this set, at least 1: networks trained at it are scored on it, and those of "
        "other scales whose weights know nothing of the scale (bicubic, vdsr, imdn_as, sr3, idm; at a fraction such as "
        "2.5 bicubic and idm); null: each of `scales`",
    )
    noise: float | None = Field(
        default=None,
        gt=0,
        le=1,
        exclude_if=lambda sigma: sigma is None,  # so that runs keep the names they had before there was a choice
        description="standard deviation, in image units (1 = white), of fixed Gaussian noise on each channel of LR; "
        "scores are means over evaluation.draws such inputs, on a board of their own; null for none",
    )

    @field_validator("scale", mode="before")
    @classmethod
    def _whole_ones_are_ints(cls, given: Any) -> Any:
        return parse_scale(given, "a scale") if isinstance(given, int | float | str) else given

    def at(self, scales: Sequence[int]) -> tuple[float, ...]:
        """The scales that it is scored at, in a sweep of these."""
        return tuple(scales) if self.scale is None else (self.scale,)


def skimage_folder() -> Path:
    """scikit-image's packaged data, found without importing the package. Raises InputError if it is not installed."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{SKIMAGE} needs scikit-image, which is not installed; install it or name a folder of images")
    return Path(spec.submodule_search_locations[0]) / "data"


def _matches(name: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
