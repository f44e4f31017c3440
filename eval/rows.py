"""Evaluation rows on disk: one Parquet row an image, and one a set, with everything their numbers depend on.

What a row must say so that two of them can be compared is `eval.score`'s; the columns of scores are those of
`eval.protocol`. A row's key is a hash of what it was measured on, so a row that was computed twice counts once.

A measurement itself has a name without labels: whichever sweep asks for it, and whatever it calls network, objective,
test set and image, finds what another has measured, and leaves it `labelled` in a folder of its own.

A file holds a sha256 of its rows, which is verified as they are read: Parquet's own checksums cover pages, and not what
says where they are and what they mean.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

import sr_models
from eval.protocol import METRICS, STABILITY, all_metrics, get_metric, library
from sr_models.errors import InputError
from sr_models.files import replacing
from sr_models.hashing import digest

if TYPE_CHECKING:
    from sr_models.inference.super_resolve import Options

SET = ""
"""`image` in the row of a whole set."""

CEILING = "ceiling"
"""`weights` in the rows of an autoencoder: scores of HR that went through it and back."""

MEASUREMENT_VERSION = 2
"""In the name of every measurement, so that none of an earlier meaning is found: it moves whenever the same weights on
the same images would get another value, by a change of ours or by a release of what computes perceptual ones (lpips,
dists-pytorch, torch-fidelity, pyiqa). A run's own rows are named without it, and stay as they were scored."""

FEATURES = "features"
"""In the `details` of an image's measurement: the file, without suffix, of what metrics of a whole set see of it."""


@dataclass(frozen=True)
class Identity:
    """Whose score a row holds."""

    combination: str
    model: str
    objective: str
    target: str
    loss: str
    scale: float
    """A whole one is an int."""
    fingerprint: str
    """Of the trial that made the weights, with "@" and the step of one that is under way; "" for no trial of ours."""
    seed: int
    weights: str
    """"raw", "ema", "none", `CEILING`, or "released" where a file does not say which of the first two it holds."""
    network: str
    """The key of `sr_models.MODELS` behind the model's label."""
    trained_scale: float | None = None
    """That the weights were trained at, where it is another one than `scale`, which they are scored at."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What all rows of one set of weights on one test set have in common."""

    identity: Identity
    weights_sha256: str | None
    """Hash of the file that holds the weights, and `:KEY` if a part of it was asked for; None for a network without."""
    hyper: str
    """The network's hyperparameters, as JSON."""
    benchmark: str
    kernel: str
    protocol: str
    """Its id, which says how many draws a stochastic network gets, and the marks of `options`."""
    seed: int
    """Of the noise."""
    options: Options
    sigma: str = ""
    """The hyperparameters of its σ head, as JSON; "" without one. In keys the fingerprint speaks for them."""
    process: str = ""
    """The noise process of a diffusion network, as JSON; "" of any other. In keys the weights speak for it."""
    plugins: str = ""
    """The plug-ins of its network and metrics, as JSON (`plugins_of`); "" without any."""

    def key(self, image: str, lr_sha256: str, hr_sha256: str, metrics: Sequence[str]) -> str:
        """Names one image's row by content: `<what was measured>-<by which metrics>`, hex.

        Args:
            image: its name in the set.
            lr_sha256, hr_sha256: of its pixels.
            metrics: those of level "image" and "set" that are computed (`Scorer.metrics`).
        """
        return _key([self._named, image, lr_sha256, hr_sha256], metrics)

    def set_key(self, image_keys: Sequence[str], metrics: Sequence[str]) -> str:
        """Names the row of the whole set that these images are."""
        return _key([self._named, sorted(measurement(key) for key in image_keys)], metrics)

    @property
    def _named(self) -> dict[str, Any]:
        plain = {name: value for name, value in asdict(self).items() if name not in ("sigma", "process")}
        if self.identity.trained_scale is None:  # so that rows keep the keys they had before there was a choice
            del plain["identity"]["trained_scale"]
        if not self.plugins:  # likewise
            del plain["plugins"]
        return plain | {"options": self.options.columns}

    @cached_property
    def content(self) -> str:
        """What all measurements of these weights, made in this way, have in common, as hex: no label, no test set."""
        who = self.identity
        weights = [who.network, who.scale, self.hyper, self.sigma, self.weights_sha256]
        how = [self.kernel, self.protocol, self.seed, self.options.columns, MEASUREMENT_VERSION]
        further = [text for text in (self.process, self.plugins) if text]
        return digest([*weights, *how, *further])[:24]

    def measured(self, lr_sha256: str, hr_sha256: str) -> str:
        """Names the measurement of one image by the hashes of its pixels."""
        return digest([self.content, lr_sha256, hr_sha256])[:24]

    def measured_set(self, images: Sequence[str]) -> str:
        """Names the measurement of the whole set that these measurements of images are."""
        return digest([self.content, sorted(images)])[:24]

    @property
    def unlabelled(self) -> Subject:
        """Whose a measurement is: nobody's."""
        who = self.identity
        return replace(self, identity=Identity("", "", "", "", "", who.scale, "", 0, "", who.network))


def plugins_of(network: str, metrics: Iterable[str]) -> str:
    """The plug-ins that a network and metrics are of, as JSON: "model NAME" -> "distribution version"; "" of none."""
    stamps = sr_models.MODELS.stamp(network)
    for name in metrics:
        stamps |= METRICS.stamp(name.removeprefix(STABILITY))
    return json.dumps(stamps, sort_keys=True) if stamps else ""


def measurement(key: str) -> str:
    """The part of a key that says what was measured; rows that share it differ in their metrics only."""
    return key.partition("-")[0]


def measured_key(measured: str, metrics: Sequence[str]) -> str:
    """The key of a measurement's row: `measurement` of it is `measured`."""
    return f"{measured}-{digest(sorted(metrics))[:8]}"


def file_name(keys: Sequence[str]) -> str:
    """Name, without suffix, of the file of the rows that have these keys."""
    return digest(sorted(keys))[:24]


_SHA256 = b"rows_sha256"
"""A file's metadata: of its rows. One without any metadata is of an earlier format."""

SCHEMA = pa.schema(
    [
        ("key", pa.string()), ("combination", pa.string()), ("model", pa.string()), ("objective", pa.string()),
        ("target", pa.string()), ("loss", pa.string()), ("scale", pa.int32()), ("fingerprint", pa.string()),
        ("step", pa.int32()), ("seed", pa.int64()), ("weights", pa.string()), ("network", pa.string()),
        ("trained_scale", pa.int32()),
        ("weights_sha256", pa.string()), ("hyper", pa.string()), ("benchmark", pa.string()), ("image", pa.string()),
        ("images", pa.int32()),
        ("protocol", pa.string()), ("kernel", pa.string()), ("lr_sha256", pa.string()), ("hr_sha256", pa.string()),
        ("width", pa.int32()), ("height", pa.int32()), ("precision", pa.string()), ("channels_last", pa.bool_()),
        ("compile", pa.bool_()), ("tile", pa.int32()), ("overlap", pa.int32()), ("self_ensemble", pa.bool_()),
        ("crops", pa.string()), ("sampler", pa.string()), ("eta", pa.float64()), ("t_max", pa.float64()),
        ("t_min", pa.float64()),
        ("steps", pa.int32()), ("draws", pa.int32()), ("deterministic", pa.bool_()), ("noise_seed", pa.int64()),
        ("seconds", pa.float64()), *((name, pa.float64()) for name in all_metrics()),
        ("per_draw", pa.map_(pa.string(), pa.list_(pa.float64()))), ("not_computed", pa.string()),
        ("details", pa.string()), ("versions", pa.string()),
    ]
)  # fmt: skip
"""A metric that was not asked for, or could not be computed, is null; `not_computed` is a JSON object of the reasons.

`image` is "" in the row of a whole set, which holds what has no value an image (FID, KID); its `details` are a JSON
object of what those rest on. Scales are floats in a file of one that is a fraction. `step` is that of the training
which the weights are of, null for its end or for none; `trained_scale` is null where it is `scale`; `images` counts all
of the set; `tile` is null where a picture was computed whole, `crops` to `steps` where no diffusion network drew it,
`key` where rows are of pictures that no network of ours made.
"""


def write_rows(path: Path, subject: Subject, rows: Sequence[Mapping[str, Any]], *, versions: str) -> None:
    """Write one unit's rows whole or not at all.

    Args:
        rows: what `eval.score.score_image` and `eval.score.set_row` give, with their `key`.
        versions: JSON of the libraries that computed them.
    """
    common = {**asdict(subject.identity), "versions": versions}
    common |= {"weights_sha256": subject.weights_sha256, "hyper": subject.hyper}
    plain = [_plain({**common, **row}) for row in rows]
    schema = SCHEMA
    for name in ("scale", "trained_scale"):
        if any(isinstance(row[name], float) for row in plain):
            schema = schema.set(schema.get_field_index(name), pa.field(name, pa.float64()))
    table = pa.Table.from_pylist(plain, schema=schema)
    table = table.replace_schema_metadata({_SHA256: digest(table.to_pylist())})
    with replacing(path) as part:
        pq.write_table(table, part, write_page_checksum=True)


def read_file(path: Path) -> list[dict[str, Any]]:
    """The rows of one file, as they were written. Raises InputError as `read_rows`."""
    rows = _rows(path)
    for row in rows:
        row["per_draw"] = dict(row.get("per_draw") or ())
        for name in ("not_computed", "details"):
            row[name] = json.loads(row.get(name) or "{}")
    return rows


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Every row below `folder` (*.parquet), as it was written, made `distinct` in the order of writing.

    Raises:
        InputError: a file cannot be read, or is damaged.
    """
    files = sorted(folder.glob("*.parquet"), key=lambda p: (p.stat().st_mtime_ns, p.name))
    return distinct(row for path in files for row in read_file(path))


def distinct(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with one key are one row, and so are those of one measurement; columns that a file lacks are absent.

    Of rows of one measurement the first gets what the others know of further metrics.
    """
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows):
        known = measurement(row.get("key") or "") or f"#{number}"
        found[known] = _merged(found[known], row) if known in found else row
    return list(found.values())


def read_keys(folder: Path) -> dict[str, str]:
    """Key -> name, without suffix, of a file below `folder` that holds its row. Raises InputError as `read_rows`."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.parquet")):
        found |= {row["key"]: path.stem for row in _rows(path) if row.get("key") is not None}
    return found


def read_scored(folder: Path) -> set[tuple[Any, ...]]:
    """What has rows below `folder`, whatever they hold.

    Returns:
        (combination, fingerprint, weights, benchmark, scale, protocol, noise_seed) of each; a column that a file lacks
        is None.

    Raises:
        InputError: a file cannot be read.
    """
    columns = ["combination", "fingerprint", "weights", "benchmark", "scale", "protocol", "noise_seed"]
    found = set[tuple[Any, ...]]()
    for path in sorted(folder.glob("*.parquet")):
        try:
            table = pq.ParquetFile(path).read(columns, use_threads=False)
            found |= {tuple(map(row.get, columns)) for row in table.to_pylist()}
        except (pa.ArrowException, OSError) as error:
            raise _unread(path, str(error).partition("\n")[0]) from None
    return found


def keyed(subject: Subject, rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a whole set, or of images of one, with their keys; `metrics` as for `Subject.key`."""
    keys = [
        subject.key(row["image"], row["lr_sha256"], row["hr_sha256"], metrics) for row in rows if row["image"] != SET
    ]
    of_set = [subject.set_key(keys, metrics)] if len(keys) < len(rows) else []
    return [{**row, "key": key} for row, key in zip(rows, [*keys, *of_set], strict=True)]


def knows(row: Mapping[str, Any] | None, metrics: Sequence[str]) -> bool:
    """Whether a measurement's row has, of each metric, its value or the reason why there is none.

    Of a metric of level "set" an image's row has the features. `row`: None where nothing was measured.
    """
    return row is not None and all(
        FEATURES in row["details"]
        if get_metric(name).level == "set" and row["image"] != SET
        else row.get(name) is not None or name in row["not_computed"]
        for name in metrics
    )


def labelled(
    row: Mapping[str, Any], subject: Subject, metrics: Sequence[str], key: str, image: str, images: int, lr_sha256: str
) -> dict[str, Any]:
    """A measurement's row as `subject` has it: with its key and names, and nothing of metrics that it did not ask for.

    Args:
        metrics: as for `Subject.key`.
        image: what the subject's test set calls it, `SET` for all of it; images: how many that has.
        lr_sha256: of the image's LR pixels, or of the set's.
    """
    wanted, dropped, unused = _not_asked(tuple(metrics))
    own = {name: value for name, value in row.items() if name not in dropped}
    for name in ("per_draw", "details", "not_computed"):
        own[name] = {metric: value for metric, value in row[name].items() if metric in wanted}
    own["versions"] = _without(row["versions"], unused)
    names = {"key": key, "benchmark": subject.benchmark, "image": image, "images": images, "lr_sha256": lr_sha256}
    return own | names


@functools.cache
def _not_asked(metrics: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """What these metrics name in a row, the columns that it has for others, and the libraries that only those use."""
    wanted = {*metrics, "l_std"} | ({"kid"} if "fid" in metrics else set())
    dropped = {name for name in all_metrics() if name.removeprefix(STABILITY) not in wanted}
    used, unused = ({library(name) for name in METRICS if (name in wanted) is asked} for asked in (True, False))
    return (
        frozenset(wanted),
        frozenset(dropped | Identity.__dataclass_fields__.keys()),
        frozenset(unused - used) - {None},
    )


@functools.cache
def _without(versions: str, libraries: frozenset[str]) -> str:
    return json.dumps({name: of for name, of in json.loads(versions).items() if name not in libraries})


def _key(measured: Sequence[Any], metrics: Sequence[str]) -> str:
    return measured_key(digest(measured)[:24], metrics)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of one file in Arrow's terms, as they were written."""
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read(use_threads=False)
        rows: list[dict[str, Any]] = table.to_pylist()
        metadata = table.schema.metadata
        damage = (
            None
            if metadata is None or metadata.get(_SHA256) == digest(rows).encode()
            else "its rows are not those written"
        )
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        damage = str(error).partition("\n")[0]
    if damage:
        raise _unread(path, damage)
    if metadata is None:
        _say_earlier()
    return rows


def _unread(path: Path, why: str) -> InputError:
    return InputError(f"{path} cannot be read ({why}); delete it and run again")


@functools.cache
def _say_earlier() -> None:
    print("rows of an earlier format, without checksums, are read as they are", file=sys.stderr)


def _merged(row: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the metrics that it lacks and another of the same measurement has."""
    gained = {name: other[name] for name in all_metrics() if row.get(name) is None and other.get(name) is not None}
    merged = row | gained
    for name in ("per_draw", "details", "not_computed"):
        merged[name] = {**other[name], **row[name]}
    known, more = (json.loads(one.get("versions") or "{}") for one in (row, other))
    merged["versions"] = json.dumps(known | {name: of for name, of in more.items() if name not in known})
    merged["not_computed"] = {m: why for m, why in merged["not_computed"].items() if merged.get(m) is None}
    return merged


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row in Arrow's terms: a map is a list of pairs."""
    columns = dict(row)
    _, at, step = str(columns["fingerprint"]).partition("@")
    columns["step"] = int(step) if at else None
    columns["per_draw"] = list((row.get("per_draw") or {}).items())
    for name in ("not_computed", "details"):
        value = row.get(name)
        columns[name] = json.dumps(value, ensure_ascii=False, allow_nan=False) if value else "{}"
    return columns
