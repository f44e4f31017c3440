"""Tables of 8-bit images, or of latents, on disk: an Arrow IPC stream, one record batch an image, read by memory map.

Format: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format. The stream form (not the random-access
file form) is what lets a killed writer go on: whole messages stay valid, a cut one is dropped, new ones are appended.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from sr_models.errors import InputError
from sr_models.images.files import pixels_sha256

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("sha256", pa.string()),  # of the pixels
        ("origin", pa.string()),  # sha256 of what the image was made from: a file's bytes, or another image's pixels
        ("px", pa.large_binary()),  # height x width x 3 bytes
    ]
)
LATENTS = SCHEMA.append(pa.field("channels", pa.int32()))
"""The same of latents: height x width x channels float16 numbers in place of pixels."""

_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


@dataclass(frozen=True)
class ImageRow:
    """One image to write, or latent: (H, W, 3) uint8 pixels, or (H, W, C) float16 numbers; a name, and the sha256 of
    what it was made from."""

    name: str
    origin: str
    pixels: np.ndarray

    @cached_property
    def sha256(self) -> str:
        return _sha256(self.pixels)


class ImageTable:
    """A finished table: `images[i]` is image i; of the other columns nothing stays in memory.

    Raises:
        InputError: the file is not such a table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images = Images(path)

    @property
    def names(self) -> list[str]:
        """Read anew each time, as are the others."""
        return self._column("name")

    @property
    def hashes(self) -> list[str]:
        return self._column("sha256")

    @property
    def origins(self) -> list[str]:
        return self._column("origin")

    @property
    def smallest(self) -> int:
        """The shortest side of any image, in pixels."""
        return int(self.images.sizes.min())

    def __len__(self) -> int:
        return len(self.images)

    def _column(self, name: str) -> list[str]:
        return [batch.column(name)[0].as_py() for batch in _batches(self.path, _mapped(self.path))]


class Images(Sequence[np.ndarray]):
    """The images of a table: read-only (H, W, 3) uint8 views of the mapped file, or (H, W, C) float16 ones of latents.

    They are cut when asked for.

    Attributes:
        sizes: (N, 2) int32, height and width of each.
    """

    def __init__(self, path: Path) -> None:
        whole = _mapped(path)  # a map of its own: it goes with the pages that reading every header has brought in
        row = np.dtype([("start", np.int64), ("size", np.int32, 3)])
        try:
            rows = np.fromiter((_place(batch, whole) for batch in _batches(path, whole)), row)
        except ValueError as error:
            raise InputError(f"{path} is not an image table ({error})") from error
        self.sizes, self._starts = rows["size"][:, :2].copy(), rows["start"].copy()
        self._channels = int(rows["size"][0, 2]) if len(rows) else 3
        self._bytes, self._dtype = np.frombuffer(_mapped(path), np.uint8), _dtype(_schema(path, whole))

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]  # nobody cuts slices of them
        start, (height, width) = self._starts[index], self.sizes[index].tolist()
        size = height * width * self._channels * self._dtype.itemsize
        return self._bytes[start : start + size].view(self._dtype).reshape(height, width, self._channels)

    def __len__(self) -> int:
        return len(self.sizes)


def write_tables(
    paths: Sequence[Path],
    keys: Sequence[str],
    make: Callable[[int], Sequence[ImageRow] | None],
    tick: Callable[[int], None] = lambda done: None,
    *,
    schema: pa.Schema = SCHEMA,
) -> None:
    """Write one table a path, in step: image i adds a row to each, or to none. What a killed run left is kept.

    Args:
        keys: for each image the `origin` of its row in the first table, known before it is made.
        make: image number -> its rows, one a path, or None to leave the image out (each time it is asked).
        tick: called with the number of images dealt with.
        schema: `SCHEMA`, or `LATENTS`.
    """
    with ExitStack() as stack:
        tables = [stack.enter_context(_PartFile(path, schema)) for path in paths]
        kept = min(len(table.origins) for table in tables)
        for table in tables:
            table.keep(kept)
        done = 0
        for i, key in enumerate(keys):
            if done < kept and tables[0].origins[done] == key:
                done += 1
            elif (rows := make(i)) is not None:
                assert done >= kept, "a kept row lost its place; the caller must not resume from other images"
                for table, row in zip(tables, rows, strict=True):
                    table.append(row)
            tick(i + 1)
        for table in tables:
            table.seal()


def part_path(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return path.with_name(f"{path.name}.part")


def replace_durably(part: Path, path: Path) -> None:
    """Rename a file that is already synced, and make the rename itself survive a power cut."""
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class _PartFile:
    """A table being written, under a `.part` name until `seal`."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.part, self.schema = path, part_path(path), schema
        if path.exists():  # whole, but its group was not: go on from it
            path.replace(self.part)
        self.origins, self._ends = _whole_rows(self.part, schema)

    def __enter__(self) -> Self:
        self._file = self.part.open("r+b" if self._ends else "wb")
        if not self._ends:
            self._file.write(self.schema.serialize())
            self._ends = [self._file.tell()]
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def keep(self, rows: int) -> None:
        """Cut the file after its first rows."""
        self._file.truncate(self._ends[rows])
        self._file.seek(self._ends[rows])

    def append(self, row: ImageRow) -> None:
        height, width, channels = row.pixels.shape
        assert row.pixels.dtype == _dtype(self.schema)
        values = [row.name, height, width, row.sha256, row.origin, row.pixels.tobytes()]
        if self.schema == LATENTS:
            values.append(channels)
        else:
            assert channels == 3
        arrays = [pa.array([value], field.type) for value, field in zip(values, self.schema, strict=True)]
        self._file.write(pa.record_batch(arrays, schema=self.schema).serialize())
        self._file.flush()  # to the system: survives the death of this process

    def seal(self) -> None:
        self._file.write(_END_OF_STREAM)
        self._file.flush()
        os.fsync(self._file.fileno())
        replace_durably(self.part, self.path)


def _whole_rows(part: Path, schema: pa.Schema) -> tuple[list[str], list[int]]:
    """Origins of the intact rows of a part file, and the offsets where its schema and each of these rows end."""
    origins: list[str] = []
    ends: list[int] = []
    if not part.exists():
        return origins, ends
    with pa.OSFile(str(part)) as file:
        try:
            if pa.ipc.read_schema(file) != schema:
                return origins, ends
            ends.append(file.tell())
            while True:
                batch = pa.ipc.read_record_batch(pa.ipc.read_message(file), schema)
                if _sha256(_pixels(batch)) != batch.column("sha256")[0].as_py():
                    return origins, ends  # a power cut can leave the right length with the wrong bytes
                origins.append(batch.column("origin")[0].as_py())
                ends.append(file.tell())
        except (EOFError, pa.ArrowInvalid, OSError, ValueError):  # the end, or where the writer was cut
            return origins, ends


def _mapped(path: Path) -> pa.Buffer:
    """A file, through a memory map. Raises InputError: it cannot be read."""
    try:
        with pa.memory_map(str(path)) as file:
            return file.read_buffer()
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _batches(path: Path, whole: pa.Buffer) -> Iterator[pa.RecordBatch]:
    """The record batches of a table, one by one, as views of its mapped file. Raises InputError: it is no table."""
    try:
        _schema(path, whole)
        yield from pa.ipc.open_stream(whole)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _schema(path: Path, whole: pa.Buffer) -> pa.Schema:
    """That of a table, one of `SCHEMA` and `LATENTS`. Raises InputError: it is no table."""
    found = pa.ipc.open_stream(whole).schema
    if found not in (SCHEMA, LATENTS):
        raise InputError(f"{path} is not an image table: its columns are {', '.join(found.names)}")
    return found


def _dtype(schema: pa.Schema) -> np.dtype[Any]:
    """Of the numbers in a table's rows."""
    return np.dtype(np.float16 if schema == LATENTS else np.uint8)


def _sha256(pixels: np.ndarray) -> str:
    """That of an image's pixels, or of the bytes of a latent's numbers and their shape."""
    return pixels_sha256(np.ascontiguousarray(pixels).view(np.uint8))


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read as an image table ({str(error).splitlines()[0]})")


def _place(batch: pa.RecordBatch, whole: pa.Buffer) -> tuple[int, tuple[int, ...]]:
    """Where the pixels of a record batch begin in the mapped file, and their height, width and channels."""
    pixels = _pixels(batch)
    return pixels.__array_interface__["data"][0] - whole.address, pixels.shape


def _pixels(batch: pa.RecordBatch) -> np.ndarray:
    """The one image of a record batch, as a view; ValueError if that is not what it holds."""
    if batch.num_rows != 1 or any(column.null_count for column in batch.columns):
        raise ValueError(f"a batch must hold one image without gaps, found {batch.num_rows} rows")
    channels = batch.column("channels")[0].as_py() if batch.schema == LATENTS else 3
    shape = batch.column("height")[0].as_py(), batch.column("width")[0].as_py(), channels
    pixels = batch.column("px").buffers()[2]  # the value itself, `[0].as_buffer()`, would be a copy
    return np.frombuffer(pixels, _dtype(batch.schema)).reshape(shape)
