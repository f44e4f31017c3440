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
    link_twin,
    list_products,
    read_manifest,
    table_path,
)
from orchestrator.data.table import ImageRow, write_tables
from sr_models.errors import InputError
from sr_models.hashing import digest
from sr_models.images.files import sha256_file

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def source(name: str, **over: Any) -> SourceFile:
    return SourceFile(**{"name": name, "sha256": "a", "lr": None, "kernel": "k1"} | over)


def manifest(**over: Any) -> Manifest:
    files = {"train": (source("a"), source("b", lr="h", kernel="files")), "validation": (source("c", kernel="k2"),)}
    return Manifest(**{"scale": 4, "files": files, "libraries": {"pillow": "1"}} | over)


def sealed(folder: Path, *names: str) -> Manifest:
    """A store in which some tables of one image are sealed and listed."""
    made = begin(folder, manifest())
    for name in names:
        write_tables([table_path(folder, name)], ["key"], lambda _: [ImageRow("a", "key", PIXELS)])
    return list_products(folder, made, names)


def test_which_tables_a_store_has():
    made = manifest()
    assert made.tables("train") == ["hr", "lr_x4"] and made.tables("validation") == ["val_hr", "val_lr_x4"]
    assert made.missing() == made.tables("train") + made.tables("validation")
    product = Product(sha256="a", bytes=1, images=1, pixels="b")
    assert manifest(products=dict.fromkeys(made.missing()[:3], product)).missing() == ["val_lr_x4"]


def test_what_made_the_lr_images():
    assert manifest().kernels == ["files", "k1", "k2"]


def test_a_store_is_known_by_its_files_and_by_its_pixels():
    made = manifest(skipped={"b": "why"})
    assert made.key == manifest(libraries={"pillow": "2"}).key != manifest(scale=2).key != made.key
    assert made.skipped_of(made.key) == {"b": "why"} and made.skipped_of("other") is None
    assert made.model_copy(update={"same_pixels": {"other": {}}}).skipped_of("other") == {}
    products = {name: Product(sha256="a", bytes=1, images=1, pixels=name) for name in made.missing()}
    whole = manifest(products=products)
    assert whole.data_hash == manifest(products=products, skipped={"b": "why"}, libraries={}).data_hash
    centroids = {"mu_x4_t": Product(sha256="b", bytes=1, images=1, pixels="c", teacher="t")}
    assert whole.data_hash == manifest(products=products | centroids).data_hash
    changed = products | {"lr_x4": products["hr"]}
    assert whole.data_hash != manifest(products=changed).data_hash


def test_an_earlier_version_is_refused_in_one_line(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": "sr-patch-store", "version": 1, "scales": [2]}')
    with pytest.raises(InputError, match=r"manifest\.json\.[^\n]*$"):
        read_manifest(tmp_path)


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
        ('{"scale": 2}', "manifest.json.files: required"),
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


def test_a_table_that_another_store_has_is_linked(tmp_path):
    for name in ("one", "other"):
        sealed(tmp_path / name, "hr")
    path, twin = (table_path(tmp_path / name, "hr") for name in ("one", "other"))
    product = read_manifest(tmp_path / "one").products["hr"]
    assert not link_twin(tmp_path, tmp_path / "one", "hr", product.model_copy(update={"sha256": "b"}))
    assert path.stat().st_ino != twin.stat().st_ino
    assert link_twin(tmp_path, tmp_path / "one", "hr", product) and link_twin(tmp_path, tmp_path / "one", "hr", product)
    assert path.stat().st_ino == twin.stat().st_ino
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["hr.arrow", "manifest.json"]


@pytest.mark.parametrize("text", ["{", '{"format": "sr-patch-store", "version": 1}', None])
def test_a_link_is_not_worth_a_fault_of_another_store(tmp_path, text):
    for name in ("one", "other"):
        sealed(tmp_path / name, "hr")
    damaged = tmp_path / "a store" / "manifest.json"
    damaged.parent.mkdir()
    damaged.write_text(text) if text else damaged.mkdir()
    assert link_twin(tmp_path, tmp_path / "one", "hr", read_manifest(tmp_path / "one").products["hr"])


def test_numbers_of_the_format_are_written(tmp_path):
    begin(tmp_path, manifest())
    values = json.loads((tmp_path / "manifest.json").read_text())
    assert (values["format"], values["version"], values["files"]["train"][1]["lr"]) == ("sr-patch-store", 2, "h")
