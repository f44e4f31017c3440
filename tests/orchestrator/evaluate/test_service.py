"""The evaluation service: the same rows by any number of workers, through kills of each kind; poison named, left out.

Inception's weights are not to be had: a scorer whose features are statistics of colours stands for one that has them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sr_models
from eval.rows import file_name, read_file, read_rows
from sr_models.checkpoints.folder import save_checkpoint

ROOT = Path(__file__).resolve().parents[3]
HYPER = {"channels": 8, "blocks": 1, "noise": 30.0}
COUNT = 10
SECONDS = 120

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

DRIVER = """
import json, os, signal, sys, time
from pathlib import Path

import torch

from cluster import ray_runtime

ray_runtime.secure(local=True)
from eval import PROTOCOLS, benchmarks
from eval.report import score_model
from eval.rows import Identity, Subject, keyed, measured_key
from eval.metrics.scorer import Scorer
from orchestrator.evaluate import actors
from orchestrator.evaluate import service as scoring
from orchestrator.evaluate import work
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.run.access import LocalAccess
from orchestrator.run.folder import RunDir
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.inference.super_resolve import Options

given = json.loads(sys.argv[1])


class Coloured(Scorer):
    def __init__(self, protocol, metrics, **about):
        of_set = [name for name in metrics if name in ("fid", "kid")]
        super().__init__(protocol, [name for name in metrics if name not in of_set], **about)
        self.metrics += of_set

    def features(self, images):
        x = images if isinstance(images, torch.Tensor) else torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        flat = x.flatten(2).float()
        return torch.cat([flat.mean(2), flat.std(2), flat.amax(2), flat.square().mean(2)], 1)

    def reference_features(self, hashes, read, *, cache=None):
        import numpy as np
        return np.concatenate([self.features(read(i)[None]).numpy() for i in range(len(hashes))])


def die_once(name):
    marker = Path(given["run"]) / f"died-{name}"
    if not marker.exists():
        while not list(Path(given["run"]).glob("shared/rows/*/*.parquet")):
            time.sleep(0.01)
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class Mortal(actors.ScoringWorker):
    def _metrics(self, job):
        return Coloured(job.protocol, job.metrics, scale=job.subject.identity.scale, kernel=job.subject.kernel)

    def image(self, job, bench, picture, metrics):
        time.sleep(120 if picture.name >= given.get("stalls_from", "99") else 0)
        if picture.name == given.get("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        if picture.name == given.get("dies_at"):
            die_once("scorer")
        return super().image(job, bench, picture, metrics)


class MortalSampler(actors.SamplingWorker):
    def draw(self, job, name):
        for number, drawn in enumerate(super().draw(job, name)):
            if name == given.get("sampler_poison"):
                os.kill(os.getpid(), signal.SIGKILL)
            if number and name == given.get("sampler_dies_at"):
                die_once("sampler")
            yield drawn


work.Scorer, actors.ScoringWorker, actors.SamplingWorker = Coloured, Mortal, MortalSampler
torch.set_num_threads(1)
folder, info = Path(given["weights"]), json.loads((Path(given["weights"]) / "model.json").read_text())
protocol = PROTOCOLS["classical"].model_copy(update={"draws": 3})
bench = benchmarks.load("toy", 2, Path(given["images"]))
who = Identity("x2/noisy/l1", "noisy", "l1", "hr", "l1", 2, "f" * 64, 0, "raw", "noisy_edsr")
subject = Subject(
    identity=who, weights_sha256=info["weights_sha256"], hyper=json.dumps(info["hyper"], sort_keys=True),
    benchmark="toy", kernel=bench.kernel, protocol=protocol.id(2), seed=7, options=Options(),
)
job = work.Job(
    subject=subject, checkpoint=str(folder), source=BenchmarkSource(hr=given["images"]), protocol=protocol,
    metrics=("psnr_y", "ssim_y", "g_std.psnr_y", "fid", "kid"), weights_dir=None,
)
if given.get("one_process"):
    metrics = Coloured(protocol, ("psnr_y", "ssim_y", "fid", "kid"), scale=2, kernel=bench.kernel)
    net, _ = load_checkpoint(folder)
    alone = score_model(net, bench, name="it", weights_sha256=None, scorer=metrics, metrics=["psnr_y"], seed=7,
                        options=Options(), save_in=None, pictures_in=None)
    rows = keyed(subject, alone.rows, metrics.metrics)
    for row in rows:
        row.pop("versions", None)
    (Path(given["run"]) / "alone.json").write_text(json.dumps(rows))
for name, workers, cpus, apart in given["holds"]:
    run = RunDir(Path(given["run"]) / name)
    run.path.mkdir(parents=True, exist_ok=True)
    run.config.write_text("name: toy\\n")
    access, moved = LocalAccess(run.path), []
    planned = work.plan([job], {("toy", 2): bench}, access)
    with ray_runtime.connect(None, cpus=4):
        workforce = scoring.Workforce(workers=workers, cpus=cpus, apart=apart)
        refused = scoring.evaluate(planned, access, lambda: workforce, moved.append)
    print(json.dumps({"refused": refused, "moved": moved, "keys": [picture.key for picture in planned[0].pictures],
                      "set_key": planned[0].set_key,
                      "measured": [measured_key(picture.measured, job.metrics[:2] + ("fid", "kid"))
                                   for picture in planned[0].pictures]}))
"""


FAR = """
import json, sys
from dataclasses import replace
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3 as inception

from cluster import ray_runtime

ray_runtime.secure(local=True)
from eval import PROTOCOLS
from eval.metrics import backbones
from eval import benchmarks
from eval.report import score_model
from eval.rows import Identity, Subject
from eval.metrics.scorer import Scorer
from orchestrator.evaluate import actors
from orchestrator.evaluate import service as scoring
from orchestrator.evaluate import work
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.run.mirrored import MirroredAccess
from orchestrator.run.folder import RunDir
from orchestrator.storage.uri import Storage
from sr_models import build
from sr_models.images.files import sha256_file
from sr_models.inference.super_resolve import Options

given = json.loads(sys.argv[1])
run, files = RunDir(Path(given["run"]) / "it"), Path(given["run"]) / "files"
files.mkdir()
run.path.mkdir()


def live(net):
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return net.state_dict()


torch.manual_seed(0)
torch.set_num_threads(1)
alex, google = "alexnet-owt-7be5be79.pth", "weights-inception-2015-12-05-6726825d.pth"
torch.save({f"features.{k}": v for k, v in live(torchvision.models.alexnet().features).items()}, files / alex)
load = inception.FeatureExtractorInceptionV3.load_state_dict
inception.load_state_dict_from_url = lambda *_, **__: {}
inception.FeatureExtractorInceptionV3.load_state_dict = lambda *_: None
torch.save(live(inception.FeatureExtractorInceptionV3("inception", ["2048"])), files / google)
inception.FeatureExtractorInceptionV3.load_state_dict = load
hashes = {name: sha256_file(files / name) for name in (alex, google)}


def offline(*_, **__):
    raise OSError("tests have no network")


def trust():
    backbones.urlopen = offline
    for name, sha256 in hashes.items():
        backbones.BACKBONES[name] = replace(backbones.BACKBONES[name], sha256=sha256)


class Trusting(actors.ScoringWorker):
    def __init__(self, *given):
        super().__init__(*given)
        trust()


trust()
actors.ScoringWorker = Trusting
names, protocol = ("psnr_y", "lpips_alex", "dists", "fid", "kid"), PROTOCOLS["classical"]
bench = benchmarks.load("toy", 2, Path(given["images"]))
subject = Subject(
    identity=Identity("x2/bicubic/-", "bicubic", "-", "-", "-", 2, "", -1, "none", "bicubic"), weights_sha256=None,
    hyper="{}", benchmark="toy", kernel=bench.kernel, protocol=protocol.id(2), seed=0, options=Options(),
)
job = work.Job(subject=subject, checkpoint=None, source=BenchmarkSource(hr=given["images"]), protocol=protocol,
                  metrics=names, weights_dir=str(files))
access = MirroredAccess(Storage.parse(str(Path(given["run"]) / "far"), "--storage"), "it", run.path)
planned = work.plan([job], {("toy", 2): bench}, access)
metrics = Scorer(protocol, names, scale=2, kernel=bench.kernel, weights_dir=files)
alone = score_model(build("bicubic", 2), bench, name="it", weights_sha256=None, scorer=metrics, metrics=names, seed=0,
                    options=Options(), save_in=None, pictures_in=None)
for file in files.iterdir():
    file.unlink()  # workers can only have them from the storage
with ray_runtime.connect(None, cpus=2):
    refused = scoring.evaluate(planned, access, lambda: scoring.Workforce(workers=2), lambda _: None)
rows = work.rows_of(planned[0], access, work.rows_there(access))
print(json.dumps({"refused": refused, "rows": rows, "alone": alone.rows}))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A stochastic network's checkpoint and ten images."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "images").mkdir()
    for i in range(COUNT):
        pixels = np.random.default_rng(i).integers(0, 256, (36 + 2 * i, 44, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i:02}.png")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = sr_models.build("noisy_edsr", 2, **HYPER)
    save_checkpoint(
        folder / "model", net, model="noisy_edsr", scale=2, hyper=HYPER, sigma=None, ema=False, fingerprint=None
    )
    return {"images": str(folder / "images"), "weights": str(folder / "model")}


def start(
    made: dict[str, str], run: Path, *holds: tuple[str, int, int, bool], code: str = DRIVER, **more: Any
) -> subprocess.Popen[str]:
    run.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "OMP_"))}
    clean |= {"SR_CACHE": str(run / "cache"), "TORCH_HOME": str(run / "torch")}
    given = {**made, "run": str(run), "holds": holds, **more}
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(given)],
        cwd=ROOT, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def finish(driver: subprocess.Popen[str]) -> list[dict[str, Any]]:
    try:
        out, err = driver.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(driver.pid, signal.SIGKILL)
        raise
    assert driver.returncode == 0, err[-3000:]
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def check_complete(folder: Path, said: dict[str, Any]) -> list[dict[str, Any]]:
    """Every planned row is there, and none twice, be it in one file or in two."""
    raw = [row for path in folder.glob("*.parquet") for row in read_file(path)]
    keys = [row["key"] for row in raw]
    assert len(keys) == len(set(keys)) and set(keys) == {*said["keys"], said["set_key"]}
    assert list(folder.glob(".*")) == []
    return sorted(raw, key=lambda row: row["image"])


def values(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says, its clock and its keeper's versions aside."""
    return {name: value for name, value in row.items() if name not in ("seconds", "versions")}


def test_any_number_of_workers_and_one_process_leave_the_same_rows(made: dict[str, str], tmp_path: Path) -> None:
    holds = [("one/it", 1, 1, False), ("two/it", 2, 1, False), ("three/it", 3, 1, False), ("apart/it", 2, 2, True)]
    said = finish(start(made, tmp_path / "run", *holds, one_process=True))
    alone = sorted(json.loads((tmp_path / "run" / "alone.json").read_text()), key=lambda row: row["image"])
    assert len(alone) == COUNT + 1 and alone[0]["image"] == ""
    assert alone[0]["fid"] > 0 and alone[1]["l_std"] > 0.01
    for (name, *_), one in zip(holds, said, strict=True):
        assert one["refused"] == [] and one["moved"][-1] == COUNT
        rows = check_complete(tmp_path / "run" / name / "evaluation", one)
        for row, expected in zip(rows, alone, strict=True):
            assert row["key"] == expected["key"]
            for column, value in values(expected).items():
                if column in row:
                    same = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
                    assert row[column] == same, (name, column)
        assert len(list((tmp_path / "run" / name / "evaluation").iterdir())) == 1, "a job is one file"
        names = {path.name for path in (tmp_path / "run" / name).parent.glob("shared/rows/*/*.safetensors")}
        unit = f"{file_name(one['measured'][:4])}.features.safetensors"
        assert unit in names, "units are the same whatever the number of workers"


def test_a_killed_worker_costs_its_unit_and_nothing_else(made: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    [said] = finish(start(made, run, ("it", 2, 1, False), dies_at="07"))
    assert (run / "died-scorer").exists()
    assert said["refused"] == []
    check_complete(run / "it" / "evaluation", said)


def test_a_killed_sampler_costs_what_it_was_drawing(made: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    [said] = finish(start(made, run, ("it", 1, 2, True), sampler_dies_at="09"))
    assert (run / "died-sampler").exists()
    assert said["refused"] == []
    check_complete(run / "it" / "evaluation", said)


def test_a_killed_driver_is_gone_on_with(made: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    evaluation, shared = run / "it" / "evaluation", run / "shared" / "rows"
    first = start(made, run, ("it", 2, 1, False), stalls_from="06")
    until = time.monotonic() + SECONDS
    while not list(shared.glob("*/*.parquet")):
        assert time.monotonic() < until and first.poll() is None
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)  # the pipes close with the last worker
    before = {row["key"]: row for path in shared.glob("*/*.parquet") for row in read_file(path)}
    there = len(before)
    assert there == 4, "of three units one had finished, and two were in flight"
    [said] = finish(start(made, run, ("it", 2, 1, False)))
    assert said["refused"] == [] and said["moved"][0] == there, "it began with what was there"
    check_complete(evaluation, said)
    [together] = shared.glob("*/*.parquet")
    assert [row for row in read_file(together) if row["key"] in before] == list(before.values())


def test_an_image_that_kills_is_refused_by_name_and_the_rest_finish(made: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    [said] = finish(start(made, run, ("it", 2, 1, False), poison="05"))
    poison = str(Path(made["images"]) / "05.png")
    killed, no_set = said["refused"]
    assert killed == f"image {poison!r}: its worker died 4 times (killed, or crashed outside Python)"
    assert no_set == "toy x2, x2/noisy/l1: no fid and kid of the set, 1 of its 10 images have no row"
    rows = read_rows(run / "it" / "evaluation")
    assert sorted(row["image"] for row in rows) == [f"{i:02}" for i in range(COUNT) if i != 5]
    [again] = finish(start(made, run, ("it", 2, 1, False)))
    assert again["refused"] == [] and again["moved"][0] == COUNT - 1
    check_complete(run / "it" / "evaluation", again)


def test_images_beside_one_that_kills_their_sampler_are_not_blamed(made: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    [said] = finish(start(made, run, ("it", 1, 3, True), sampler_poison="05"))
    assert [line.partition(":")[0] for line in said["refused"]] == [f"image {str(Path(made['images']) / '05.png')!r}",
                                                                     "toy x2, x2/noisy/l1"]  # fmt: skip
    assert len(read_rows(run / "it" / "evaluation")) == COUNT - 1


def test_an_image_that_cannot_be_read_is_refused_by_name(made: dict[str, str], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("00.png", "01.png", "02.png"):
        (images / name).write_bytes((Path(made["images"]) / name).read_bytes())
    (images / "01.png").write_bytes((images / "01.png").read_bytes()[:400])
    [said] = finish(start({**made, "images": str(images)}, tmp_path / "run", ("it", 1, 1, False)))
    [line] = said["refused"]
    assert str(images / "01.png") in line and "truncated" in line
    assert [row["image"] for row in read_rows(tmp_path / "run" / "it" / "evaluation")] == ["00", "02"]


def test_files_of_metrics_reach_every_node_by_the_storage(made: dict[str, str], tmp_path: Path) -> None:
    """LPIPS, FID and KID by random weights as one process has them; DISTS lacks its VGG16, and says so."""
    [said] = finish(start(made, tmp_path / "run", code=FAR))
    assert said["refused"] == []
    assert len(said["rows"]) == len(said["alone"]) == COUNT + 1
    for row, expected in zip(said["rows"], said["alone"], strict=True):
        assert row["image"] == expected["image"]
        for metric in ("psnr_y", "lpips_alex", "fid", "kid"):
            value = expected.get(metric)
            assert row.get(metric) == (None if value is None else pytest.approx(value, rel=1e-6)), metric
        if row["image"]:
            assert row["lpips_alex"] > 0
            assert row["not_computed"].keys() == {"dists"} and "vgg16" in row["not_computed"]["dists"]
    assert said["rows"][-1]["fid"] > 0
