"""Rows on disk: every column of scores, one row an image, whole or not at all."""

import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import eval.rows
from eval.protocol import METRICS, all_metrics
from eval.rows import (
    SCHEMA,
    Identity,
    Subject,
    keyed,
    labelled,
    measurement,
    read_file,
    read_keys,
    read_rows,
    write_rows,
)
from sr_models.errors import InputError
from sr_models.inference.super_resolve import Options

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
WHO = Identity("x2/edsr/l1", "edsr", "l1", "hr", "l1", 2, "ab" * 32, 5, "ema", "edsr_baseline")
SUBJECT = Subject(
    identity=WHO, weights_sha256="e" * 64, hyper='{"channels": 8}', benchmark="Set5", kernel="files",
    protocol="classical-y-b2-n3", seed=7, options=Options(),
)  # fmt: skip
IMAGE = {
    "key": "1234-56", "benchmark": "Set5", "image": "baby", "index": 0, "images": 5, "scale": 2,
    "protocol": "classical-y-b2-n3",
    "kernel": "files", "width": 40, "height": 32, "lr_sha256": "c" * 64, "hr_sha256": "d" * 64, "seconds": 0.5,
    "precision": "fp32", "channels_last": False, "compile": False, "tile": None, "overlap": 32, "self_ensemble": False,
    "draws": 3, "deterministic": False, "noise_seed": 2**63 - 1, "psnr_y": 31.0, "g_std.psnr_y": 0.5, "l_std": 0.01,
    "per_draw": {"psnr_y": [30.5, 31.0, 31.5]}, "not_computed": {"lpips_alex": "alexnet.pth is missing"},
}  # fmt: skip
SET = {"benchmark": "Set5", "image": "", "images": 5, "draws": 3, "fid": 12.5, "details": {"fid": {"n": 5}}}


def test_a_scale_that_is_a_fraction_is_a_float_in_its_own_file_alone(tmp_path: Path) -> None:
    fraction = replace(SUBJECT, identity=replace(WHO, scale=2.5))
    write_rows(tmp_path / "a.parquet", SUBJECT, [IMAGE, SET], versions="{}")
    write_rows(tmp_path / "b.parquet", fraction, [IMAGE | {"scale": 2.5, "key": "78-90"}, SET], versions="{}")
    whole, other = (pq.read_table(tmp_path / name).schema.field("scale").type for name in ("a.parquet", "b.parquet"))
    assert (whole, other) == (pa.int32(), pa.float64())
    assert {row["scale"] for row in read_rows(tmp_path)} == {2, 2.5}
    assert fraction.content != SUBJECT.content


def test_a_row_comes_back_as_it_was(tmp_path: Path) -> None:
    write_rows(tmp_path / "new" / "a.parquet", SUBJECT, [IMAGE, SET], versions='{"torch": "2"}')
    table = pq.read_table(tmp_path / "new" / "a.parquet")
    assert table.schema.equals(SCHEMA)
    image, whole = table.to_pylist()
    assert dict(image["per_draw"]) == IMAGE["per_draw"]
    assert json.loads(image["not_computed"]) == IMAGE["not_computed"]
    for name, value in IMAGE.items():
        if name in table.column_names and name not in ("per_draw", "not_computed"):
            assert image[name] == value, name
    assert (image["combination"], image["seed"], image["weights"], image["weights_sha256"]) == (
        "x2/edsr/l1", 5, "ema", "e" * 64,
    )  # fmt: skip
    assert (image["network"], image["hyper"]) == ("edsr_baseline", '{"channels": 8}')
    assert [image["versions"], image["fid"], image["ssim_y"]] == ['{"torch": "2"}', None, None]
    assert (whole["image"], whole["fid"], whole["psnr_y"], whole["per_draw"]) == ("", 12.5, None, [])
    assert json.loads(whole["details"]) == {"fid": {"n": 5}}


def test_a_row_says_which_step_of_a_training_its_weights_are_of(tmp_path: Path) -> None:
    for name, fingerprint, step in (("end", "f" * 64, None), ("snapshot", f"{'f' * 64}@300", 300), ("none", "", None)):
        subject = replace(SUBJECT, identity=replace(SUBJECT.identity, fingerprint=fingerprint))
        write_rows(tmp_path / f"{name}.parquet", subject, [IMAGE], versions="{}")
        assert [row["step"] for row in read_file(tmp_path / f"{name}.parquet")] == [step]


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def test_no_damage_is_taken_for_a_score(tmp_path: Path) -> None:
    """Of flipped bits some change nothing that is read (statistics, padding); no other file is accepted."""
    path, rng = tmp_path / "a.parquet", random.Random(11)
    write_rows(path, SUBJECT, [IMAGE, IMAGE | {"image": "bird", "psnr_y": 32.5}, SET], versions="{}")
    data, rows, refused = path.read_bytes(), repr(read_file(path)), 0
    damaged = [flipped(data, bit) for bit in rng.sample(range(8 * len(data)), 300)]
    damaged += [data[: rng.randrange(len(data))] for _ in range(30)]
    for each in [*damaged, b"", data.replace(b"rows_sha256", b"rows_sha257")]:
        path.write_bytes(each)
        try:
            assert repr(read_file(path)) == rows
        except InputError as error:
            assert str(error).startswith(f"{path} cannot be read (") and "\n" not in str(error)
            refused += 1
    assert refused > 150


def test_values_changed_by_hand_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_rows(path, SUBJECT, [IMAGE], versions="{}")
    table = pq.read_table(path)
    better = table.set_column(table.column_names.index("psnr_y"), "psnr_y", pa.array([99.0]))
    pq.write_table(better.replace_schema_metadata(table.schema.metadata), path)
    for read in (read_rows, read_keys):
        with pytest.raises(
            InputError, match=r"a\.parquet cannot be read \(its rows are not those written\); delete it"
        ):
            read(tmp_path)


def test_rows_of_an_earlier_format_are_read_and_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eval.rows._say_earlier.cache_clear()
    write_rows(tmp_path / "a.parquet", SUBJECT, [IMAGE], versions="{}")
    pq.write_table(pq.read_table(tmp_path / "a.parquet").replace_schema_metadata(), tmp_path / "a.parquet")
    for _ in range(2):
        assert [row["psnr_y"] for row in read_rows(tmp_path)] == [31.0]
    assert capsys.readouterr().err == "rows of an earlier format, without checksums, are read as they are\n"


def test_every_metric_has_a_column() -> None:
    assert set(all_metrics()) <= set(SCHEMA.names)
    assert set(METRICS) | {"g_std.psnr_y"} <= set(SCHEMA.names)
    assert all(SCHEMA.field(name).type == pa.float64() for name in all_metrics())
    assert len(set(SCHEMA.names)) == len(SCHEMA.names)


def test_a_row_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises((pa.ArrowException, TypeError, ValueError)):
        write_rows(tmp_path / "a.parquet", SUBJECT, [IMAGE | {"width": "wide"}], versions="{}")
    assert list(tmp_path.iterdir()) == []


KEY = SUBJECT.key("baby", "c" * 64, "d" * 64, ["psnr_y", "ssim_y"])


def test_the_content_key_names_the_same_rows_as_before() -> None:
    """A run folder that was begun earlier goes on, so a key may not change."""
    assert KEY == "a8a06de8de4947fd4c259ca7-0c1e4cc1"
    assert SUBJECT.key("baby", "c" * 64, "d" * 64, ["ssim_y", "psnr_y"]) == KEY, "the order of metrics is no content"


def test_a_measurements_name_moves_with_what_is_measured_and_with_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured already would all be measured again, or what was measured otherwise would be taken for it."""
    pinned = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    of_values = {name: pinned[name] for name in ("lpips", "dists-pytorch", "torch_fidelity")}
    assert eval.rows.MEASUREMENT_VERSION == 2, "these are golden: other values than of these releases are another one"
    assert of_values == {"lpips": "0.1.4", "dists-pytorch": "0.1", "torch_fidelity": "0.4.0"}
    assert SUBJECT.content == "988dac3ced9adffe0e444de4"
    assert SUBJECT.measured("c" * 64, "d" * 64) == "909e968b319de8408e7eb96b"
    assert SUBJECT.measured_set(["b", "a"]) == "da483cf847c697c761181a65"
    monkeypatch.setattr(eval.rows, "MEASUREMENT_VERSION", 3)
    other = replace(SUBJECT)
    assert other.content != SUBJECT.content and other.key("baby", "c" * 64, "d" * 64, ["psnr_y", "ssim_y"]) == KEY


@pytest.mark.parametrize(
    "other",
    [
        replace(SUBJECT, identity=replace(WHO, weights="raw")),
        replace(SUBJECT, identity=replace(WHO, fingerprint="cd" * 32)),
        replace(SUBJECT, weights_sha256="0" * 64),
        replace(SUBJECT, hyper='{"channels": 16}'),
        replace(SUBJECT, benchmark="Set14"),
        replace(SUBJECT, protocol="classical-y-b2"),
        replace(SUBJECT, seed=8),
        replace(SUBJECT, options=Options(tile=64)),
    ],
)
def test_whatever_moves_a_number_moves_the_key(other: Subject) -> None:
    assert measurement(other.key("baby", "c" * 64, "d" * 64, ["psnr_y", "ssim_y"])) != measurement(KEY)


def test_pixels_and_metrics_are_in_the_key_and_only_pixels_in_the_measurement() -> None:
    for image, lr, hr in (("bird", "c", "d"), ("baby", "0", "d"), ("baby", "c", "0")):
        assert measurement(SUBJECT.key(image, lr * 64, hr * 64, ["psnr_y", "ssim_y"])) != measurement(KEY)
    more = SUBJECT.key("baby", "c" * 64, "d" * 64, ["psnr_y", "ssim_y", "fid"])
    assert more != KEY and measurement(more) == measurement(KEY)
    assert SUBJECT.set_key([KEY], ["fid"]) == SUBJECT.set_key([more], ["fid"]) != SUBJECT.set_key([], ["fid"])


def test_rows_of_one_measurement_are_one_row(tmp_path: Path) -> None:
    """The first one written keeps its numbers; another gives it the metrics that it lacks."""
    [first, of_set] = keyed(SUBJECT, [IMAGE, SET], ["lpips_alex", "psnr_y"])
    [second] = keyed(SUBJECT, [IMAGE | {"psnr_y": 99.0, "lpips_alex": 0.25, "not_computed": {"dists": "no file"},
                                        "per_draw": {"lpips_alex": [0.25]}}], ["lpips_alex", "dists"])  # fmt: skip
    assert first["key"] != second["key"]
    for number, rows in enumerate(([first, of_set], [second], [first])):
        path = tmp_path / f"{'cab'[number]}.parquet"
        write_rows(path, SUBJECT, rows, versions="{}")
        os.utime(path, (number, number))
    image, whole = read_rows(tmp_path)
    assert (image["psnr_y"], image["lpips_alex"], whole["fid"]) == (31.0, 0.25, 12.5)
    assert image["per_draw"] == {**IMAGE["per_draw"], "lpips_alex": [0.25]}
    assert image["not_computed"] == {"dists": "no file"}, "what another row knows is not missing"
    assert read_keys(tmp_path).keys() == {first["key"], of_set["key"], second["key"]}
    (tmp_path / "d.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(InputError, match=r"d\.parquet cannot be read .*; delete it and run again"):
        read_keys(tmp_path)


def test_a_row_names_the_libraries_of_all_its_metrics_and_a_runs_own_of_those_it_asked_for(tmp_path: Path) -> None:
    [first] = keyed(SUBJECT, [IMAGE], ["psnr_y"])
    [second] = keyed(SUBJECT, [IMAGE | {"lpips_alex": 0.25}], ["lpips_alex"])
    for number, (row, versions) in enumerate([(first, '{"torch": "2"}'), (second, '{"torch": "3", "lpips": "0.1.4"}')]):
        write_rows(tmp_path / f"{number}.parquet", SUBJECT, [row], versions=versions)
        os.utime(tmp_path / f"{number}.parquet", (number, number))
    [row] = read_rows(tmp_path)
    assert row["versions"] == '{"torch": "2", "lpips": "0.1.4"}'
    for metrics, said in ((["psnr_y"], '{"torch": "2"}'), (["lpips_vgg"], row["versions"])):
        assert labelled(row, SUBJECT, metrics, "key", "baby", 1, "c" * 64)["versions"] == said


def test_rows_without_a_key_stay_apart(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", SUBJECT, [IMAGE | {"key": None}] * 2, versions="{}")
    assert len(read_rows(tmp_path)) == 2
