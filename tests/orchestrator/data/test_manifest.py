"""The manifest says what a store holds; what does not agree with it is refused, and a new build starts from it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.data.manifest import (
    Manifest,
    Product,
    SourceFile,
    begin,
    check_tables,
    list_products,
    read_manifest,
    table_path,
)
from orchestrator.data.table import ImageRow, part_path, write_tables
from sr_models.errors import InputError
from sr_models.hashing import digest
from sr_models.images.files import sha256_file

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def source(name: str, **over: Any) -> SourceFile:
    return SourceFile(**{"name": name, "sha256": "a", "lr": {}, "kernel": "k1"} | over)


def manifest(**over: Any) -> Manifest:
    files = {"train": (source("a"), source("b", lr={4: "h"})), "validation": (source("c", kernel="k2"),)}
    return Manifest(**{"scales": (2, 4), "files": files, "libraries": {"pillow": "1"}} | over)


def sealed(folder: Path, *names: str) -> Manifest:
    """A store in which some tables of one image are sealed and listed."""
    made = begin(folder, manifest())
    for name in names:
        write_tables([table_path(folder, name)], ["key"], lambda _: [ImageRow("a", "key", PIXELS)])
    return list_products(folder, made, names)


def test_which_tables_a_store_has():
    made = manifest()
    assert made.tables("train") == ["hr", "lr_x2", "lr_x4"] and made.tables("validation") == [
        "val_hr",
        "val_lr_x2",
        "val_lr_x4",
    ]
    assert made.missing() == made.tables("train") + made.tables("validation")
    product = Product(sha256="a", bytes=1, images=1, pixels="b")
    assert manifest(products=dict.fromkeys(made.missing()[:5], product)).missing() == ["val_lr_x4"]


def test_what_made_the_lr_images():
    assert manifest().kernels(2) == ["k1", "k2"] and manifest().kernels(4) == ["files", "k1", "k2"]
    assert source("b", lr={4: "h"}).kernel_at(4) == "files" and source("b", lr={4: "h"}).kernel_at(2) == "k1"


def test_a_manifest_comes_back(tmp_path):
    made = begin(tmp_path, manifest())
    assert read_manifest(tmp_path) == made == manifest()
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is not a patch store: it holds no manifest.json"),
        ("{", "is damaged: manifest.json is not JSON; delete it and build again"),
        ("[]", "expected a mapping"),
        ('{"scales": [2]}', "manifest.json.files: required"),
    ],
)
def test_what_is_no_manifest_is_one_line(tmp_path, text, said):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_manifest(tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_sealed_tables_are_listed_with_what_they_hold(tmp_path):
    found = sealed(tmp_path, "hr")
    write_tables([table_path(tmp_path, "mu")], ["key"], lambda _: [ImageRow("a", "key", PIXELS)])
    found = list_products(tmp_path, found, ["mu"], teacher="t" * 64)
    assert read_manifest(tmp_path) == found and list(found.products) == ["hr", "mu"]
    path, hr = table_path(tmp_path, "hr"), found.products["hr"]
    assert (hr.sha256, hr.bytes, hr.images, hr.teacher) == (sha256_file(path), path.stat().st_size, 1, None)
    assert hr.pixels == digest([ImageRow("a", "key", PIXELS).sha256]) and found.products["mu"].teacher == "t" * 64


def test_tables_are_compared_with_the_manifest(tmp_path):
    made, path = sealed(tmp_path, "hr"), table_path(tmp_path, "hr")
    check_tables(tmp_path, made, hashes=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    check_tables(tmp_path, made, hashes=False)  # a glance does not see it
    with pytest.raises(InputError, match=r"hr\.arrow has changed since it was sealed"):
        check_tables(tmp_path, made, hashes=True)
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"hr\.arrow has changed since it was sealed"):
        check_tables(tmp_path, made, hashes=False)
    path.unlink()
    with pytest.raises(InputError, match=r"hr\.arrow is missing; delete it and build again"):
        check_tables(tmp_path, made, hashes=False)


def test_a_build_of_the_same_images_goes_on(tmp_path):
    made = sealed(tmp_path, "hr")
    assert begin(tmp_path, manifest(libraries={"pillow": "2"})) == made, "by the libraries that began it"


def test_an_unfinished_store_of_other_images_starts_over(tmp_path):
    sealed(tmp_path, "hr")
    part_path(table_path(tmp_path, "lr_x2")).touch()
    wanted = manifest(scales=(2,))
    assert begin(tmp_path, wanted) == wanted == read_manifest(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_finished_store_of_other_images_and_a_folder_of_other_things_are_left_alone(tmp_path):
    sealed(tmp_path, *manifest().missing())
    with pytest.raises(InputError, match="was built from other images or scales; delete it or use another folder"):
        begin(tmp_path, manifest(scales=(2,)))
    assert not read_manifest(tmp_path).missing()
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(InputError, match="is not a patch store but holds other files"):
        begin(tmp_path, manifest())
    assert not (tmp_path / "manifest.json").exists()


def test_numbers_of_the_format_are_written(tmp_path):
    begin(tmp_path, manifest())
    values = json.loads((tmp_path / "manifest.json").read_text())
    assert (values["format"], values["version"], values["files"]["train"][1]["lr"]) == ("sr-patch-store", 1, {"4": "h"})
