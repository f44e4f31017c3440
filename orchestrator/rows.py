"""Evaluation rows on disk: one Parquet file a unit, one row an image, with everything its numbers depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eval.protocol import METRICS
from orchestrator.config import digest
from sr_models.files import replacing


@dataclass(frozen=True)
class Identity:
    """Whose score a row holds."""

    combination: str
    model: str
    objective: str
    target: str
    loss: str
    scale: int
    fingerprint: str
    """Of the trial that made the weights; "" for a network without any."""
    seed: int
    weights: str
    """"raw", "ema" or "none"."""
    network: str
    """The key of `sr_models.MODELS` behind the model's label."""

    def key(self, benchmark_hash: str, protocol: str, metrics: Sequence[str]) -> str:
        """The content key of this identity's rows on one benchmark."""
        what = self.fingerprint or self.network
        return digest([self.combination, what, self.weights, self.scale, benchmark_hash, protocol, list(metrics)])[:24]


SCHEMA = pa.schema(
    [
        ("combination", pa.string()), ("model", pa.string()), ("objective", pa.string()), ("target", pa.string()),
        ("loss", pa.string()), ("scale", pa.int32()), ("fingerprint", pa.string()), ("seed", pa.int64()),
        ("weights", pa.string()), ("benchmark", pa.string()), ("image", pa.string()), ("protocol", pa.string()),
        ("kernel", pa.string()), ("lr_sha256", pa.string()), ("width", pa.int32()), ("height", pa.int32()),
        ("precision", pa.string()), ("draws", pa.int32()), ("seconds", pa.float64()),
        *((name, pa.float64()) for name in METRICS),
        ("versions", pa.string()),
    ]
)  # fmt: skip
"""A metric that was not asked for, or could not be computed, is null."""


def write_rows(path: Path, identity: Identity, rows: Sequence[Mapping[str, Any]], versions: str) -> None:
    """Write one unit's rows whole or not at all.

    Args:
        rows: what `eval.score.score_image` returns, one an image.
        versions: JSON of the libraries that computed them.
    """
    common = {**asdict(identity), "draws": 1, "versions": versions}
    full = [{**common, **row} for row in rows]
    table = pa.Table.from_pylist([{name: row.get(name) for name in SCHEMA.names} for row in full], schema=SCHEMA)
    with replacing(path) as part:
        pq.write_table(table, part)
