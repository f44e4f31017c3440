"""Image tables: what is read is what was written, and a writer that was cut anywhere goes on to the same bytes."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.data.table import SCHEMA, ImageRow, ImageTable, part_path, write_tables
from sr_models.errors import InputError

PICTURES = [np.random.default_rng(i).integers(0, 256, (5 + i, 7, 3), np.uint8) for i in range(4)]
KEYS = [f"key{i}" for i in range(4)]


def two_rows(i: int) -> list[ImageRow]:
    return [ImageRow(f"image{i}", KEYS[i], PICTURES[i]), ImageRow(f"image{i}", "half", PICTURES[i][::2])]


@pytest.fixture
def paths(tmp_path):
    return [tmp_path / "a.arrow", tmp_path / "b.arrow"]


def test_round_trip_is_exact_mapped_and_readable_by_any_arrow(paths):
    write_tables(paths, KEYS, two_rows)
    table = ImageTable(paths[0])
    assert table.names == ["image0", "image1", "image2", "image3"] and table.origins == KEYS and table.smallest == 5
    for image, picture in zip(table.images, PICTURES, strict=True):
        assert np.array_equal(image, picture) and not image.flags.writeable and not image.flags.owndata
    plain = pa.ipc.open_stream(paths[1].read_bytes()).read_all().to_pylist()
    assert plain[3]["px"] == PICTURES[3][::2].tobytes() and plain[3]["height"] == 4
    assert not part_path(paths[0]).exists()


def test_a_part_file_cut_anywhere_goes_on_to_the_same_bytes(paths):
    write_tables(paths, KEYS, two_rows)
    whole = [path.read_bytes() for path in paths]
    row_ends = [whole[0].index(b"\xff\xff\xff\xff", whole[0].index(picture.tobytes())) for picture in PICTURES]
    for cut in [*range(0, len(whole[0]), 29), *row_ends, *(end - 1 for end in row_ends)]:
        part_path(paths[0]).write_bytes(whole[0][:cut])
        paths[0].unlink()  # b is whole, as after a kill between the two renames
        made = []
        write_tables(paths, KEYS, lambda i: made.append(i) or two_rows(i))  # noqa: B023
        assert [path.read_bytes() for path in paths] == whole
        assert made == list(range(sum(end <= cut for end in row_ends), 4)), cut


def test_a_row_with_wrong_bytes_is_made_again(paths):
    write_tables(paths, KEYS, two_rows)
    whole = paths[0].read_bytes()
    spoiled = bytearray(whole)
    spoiled[whole.index(PICTURES[2].tobytes()) + 9] ^= 1
    paths[0].unlink()
    part_path(paths[0]).write_bytes(spoiled)
    made = []
    write_tables(paths, KEYS, lambda i: made.append(i) or two_rows(i))
    assert made == [2, 3] and hashlib.sha256(paths[0].read_bytes()).digest() == hashlib.sha256(whole).digest()


def test_images_left_out_stay_out_after_a_kill(paths):
    def make(i):
        if i == 3 and not resumed:
            raise KeyboardInterrupt
        return None if i == 1 else two_rows(i)

    resumed = False
    with pytest.raises(KeyboardInterrupt):
        write_tables(paths, KEYS, make)
    assert not paths[0].exists()
    resumed = True
    write_tables(paths, KEYS, make)
    assert ImageTable(paths[1]).names == ["image0", "image2", "image3"]


@pytest.mark.parametrize("content", [b"", b"junk" * 40, pa.schema([("x", pa.int8())]).serialize().to_pybytes()])
def test_other_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "hr.arrow"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"hr\.arrow (cannot be read as|is not) an image table"):
        ImageTable(path)


@pytest.mark.parametrize("change", [{"height": [4]}, {"px": [None]}, {"name": ["a", "b"]}])
def test_a_foreign_table_of_our_columns_is_refused_by_name(tmp_path, change):
    row = {"name": ["a"], "height": [5], "width": [7], "sha256": ["0"], "origin": ["0"], "px": [bytes(5 * 7 * 3)]}
    rows = len(change.get("name", "1"))
    columns = {key: (values * rows)[:rows] for key, values in row.items()} | change
    path = tmp_path / "hr.arrow"
    with pa.ipc.new_stream(path, SCHEMA) as stream:
        stream.write_batch(pa.record_batch(columns, schema=SCHEMA))
    with pytest.raises(InputError, match=r"hr\.arrow is not an image table \("):
        ImageTable(path)
