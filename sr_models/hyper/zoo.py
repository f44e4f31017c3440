"""A network of another project, known by what its file's tensors say of it; no torch here."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sr_models.errors import InputError
from sr_models.hyper.base import NetworkHyper


class ZooHyper(NetworkHyper):
    """What a network of spandrel is built again from, without the file that it was recognised in."""

    architecture: str = Field(description="spandrel's name of it, as HAT or DAT")
    network: str = Field(description="which of its classes")
    arguments: dict[str, Any] = Field(description="the class's keyword arguments")
    factor: int = Field(ge=1, description="its upscaling factor, the only one it has")
    multiple: int = Field(default=1, ge=1, description="what the sides of its input are multiples of")
    cost: float = Field(gt=0, description="multiply-adds of one pass per LR pixel, about: its number of parameters")

    def multiply_adds(self, scale: int) -> float:
        return self.cost

    def check_scale(self, scale: int) -> None:
        if scale != self.factor:
            raise InputError(f"model 'zoo': these {self.architecture} weights are of x{self.factor}, not x{scale}")

    def window(self, scale: int) -> int:
        return self.multiple

    @property
    def tile_exact(self) -> bool:
        """What a network of another project looks at is not known here."""
        return False

    @property
    def feature_channels(self) -> int:
        """None are exposed."""
        return 0
