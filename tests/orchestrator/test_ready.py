"""A dry run refuses what a run refuses, by one function, and says on what trials would run."""

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cluster import ray_runtime
from cluster.here import Gpu, Machine
from cluster.ray_runtime import Node, Resources
from orchestrator import ready as module
from orchestrator.plan.cost import gpu_hours, wall_seconds
from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.plan.resources import resolved
from orchestrator.plan.services import Services
from orchestrator.ready import Ready, ready, refusal
from orchestrator.run import events, progress
from orchestrator.sweep import main
from sr_models.command import EXIT_DONE, EXIT_INPUT

H200 = Gpu(name="NVIDIA H200", memory=139 * 2**30)
CPU, GPU = Machine(cpus=2, memory=2**34), Machine(cpus=16, memory=2**37, gpus=(H200, H200))
NO_CUDA = Machine(cpus=2, memory=2**34, gpus=(H200,), unusable="the installed torch is built without CUDA")


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def look(machine: Machine, *words: str, **services: Any) -> Ready:
        monkeypatch.setattr(module, "machine", lambda: machine)
        asked = Services(tracking_uri="sqlite://", **services)
        return ready(make_plan(load("quick", words)), tmp_path / "runs" / "quick", asked)

    return look


@pytest.mark.parametrize(
    ("machine", "words", "device"),
    [
        (CPU, [], "device: CPU, 2 of 2 cores; 1 CPU core a worker, 2 trials at a time; no GPU is here"),
        (CPU, ["resources=auto"], "device: CPU, 2 of 2 cores; 1 CPU core a worker, 2 trials at a time; no GPU is here"),
        (
            GPU, [], "device: CPU, 16 of 16 cores; 1 CPU core a worker, 16 trials at a time; 2 GPUs (NVIDIA H200, "
            "139 GiB) here and not used: `resources: auto` (or gpus_per_worker) uses them",
        ),
        (
            GPU, ["resources=auto"], "device: GPU, 2 of 2 GPUs (NVIDIA H200, 139 GiB); 1 GPU and 4 CPU cores a worker, "
            "2 trials at a time",
        ),
        (
            NO_CUDA, ["resources=auto"], "device: CPU, 2 of 2 cores; 1 CPU core a worker, 2 trials at a time; 1 GPU "
            "(NVIDIA H200, 139 GiB) here and not used: the installed torch is built without CUDA",
        ),
    ],
)  # fmt: skip
def test_the_device_is_said(found: Any, machine: Machine, words: list[str], device: str) -> None:
    there = found(machine, *words)
    assert there.device == device and there.faults == () and not there.plan.config.resources.auto
    assert there.plan.config.hash == load("quick").hash, "auto moves no run"
    assert there.gpus == (2 if "GPU, 2" in device else 0)


def test_auto_takes_a_share_of_each_node_and_keeps_to_itself() -> None:
    config = load("quick", ["resources=auto"]).resources
    nodes = (Node(address="a", cpus=8, gpus=4), Node(address="b", cpus=64, gpus=0))
    taken = resolved(config, Resources(cpus=72, gpus=4, nodes=nodes))
    assert (taken.gpus_per_worker, taken.cpus_per_worker, taken.auto) == (1, 2, False)
    assert load("quick").resources.model_dump() == load("quick", ["resources={}"]).resources.model_dump()
    assert "auto" not in load("quick").model_dump()["resources"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["resources.gpus_per_worker=1"], "and this machine has 2 cores and no GPU; set resources.cpus_per_worker"),
        (
            ["resources.cpus_per_worker=3"],
            "resources: a trial needs 3 CPU cores and 0 GPUs, and this machine has 2 cores",
        ),
        (["data.train=[{hr: /not/there}]"], "image folder '/not/there' does not exist"),
        (
            ["models.imdn.init=/not/there.pth"],
            "models.imdn.init: weights '/not/there.pth': no such file, or a link to none",
        ),
        (["models.imdn.init={2: $NOT_SET_HERE/x}"], "models.imdn.init: '$NOT_SET_HERE/x' uses an environment variable"),
        (["teacher.weights=/not/x{scale}.pth"], "teacher.weights: weights '/not/x2.pth': no such file"),
        (
            ["teacher.weights=/"],
            "teacher.weights: folder '/' is no checkpoint of ours (it has no model.json)",
        ),
    ],
)
def test_a_run_is_refused_as_a_dry_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, words: list[str], said: str
) -> None:
    monkeypatch.setattr(module, "machine", lambda: CPU)
    output = ["--output", str(tmp_path / "runs")]
    assert main(["--dry-run", *words, *output]) == EXIT_INPUT
    assert said in capsys.readouterr().out.splitlines()[-1]
    assert main([*words, *output]) == EXIT_INPUT
    assert said in capsys.readouterr().err and not (tmp_path / "runs").exists()
    assert main(["--dry-run", "validation.steps=5", *output]) == EXIT_DONE
    ignored = "validation.steps: ignored: no network of this sweep draws its pictures from noise"
    assert ignored in capsys.readouterr().out


def test_what_a_part_of_a_sweep_ignores_is_said_and_no_fault(found: Any) -> None:
    there = found(CPU, "objectives=[l1]")
    assert there.left_out == ("teacher is not used: no objective of this sweep learns from one",)
    assert there.faults == () and found(CPU).left_out == ()


@pytest.fixture
def ccsr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Faults of the tiny CCSR with other parts, and the lines on parts that are not looked at."""
    monkeypatch.setattr(module, "machine", lambda: CPU)

    def look(**parts: str) -> tuple[list[str], list[str]]:
        words = [f"models.ccsr.{name}={path}" for name, path in parts.items()]
        plan = make_plan(load("ccsr_table3", ["scale_down=tiny", *words]))
        there = ready(plan, tmp_path / "runs" / "ccsr", Services(tracking_uri="sqlite://"))
        return [*there.faults], [line for line in there.lines if line.startswith("models.")]

    return look


def test_a_frozen_part_that_is_missing_is_a_fault(ccsr: Any, tmp_path: Path) -> None:
    sd = tmp_path / "sd"
    (sd / "vae").mkdir(parents=True)
    (sd / "vae" / "diffusion_pytorch_model.safetensors").touch()
    prompt = tmp_path / "prompt.safetensors"
    assert ccsr(autoencoder=sd, unet=sd, prompt=prompt) == (
        [
            f"models.ccsr.unet: folder '{sd}' is no checkpoint of ours (it has no model.json), and as one of diffusers'"
            " it lacks unet/diffusion_pytorch_model.safetensors",
            f"models.ccsr.prompt: weights '{prompt}': no such file, or a link to none",
        ],
        [],
    )
    (sd / "unet").mkdir()
    (sd / "unet" / "diffusion_pytorch_model.safetensors").touch()
    prompt.touch()
    assert ccsr(autoencoder=sd, unet=sd, prompt=prompt) == ([], [])
    assert ccsr() == ([], []), "parts that the sweep trains are nowhere yet"


def test_a_part_at_the_hub_is_said_and_a_file_is_none_of_it(ccsr: Any) -> None:
    at_hub = "models.ccsr.autoencoder: no some/model is here, so a run takes it from the hub, or from its cache"
    assert ccsr(autoencoder="some/model") == ([], [at_hub])
    fault = "models.ccsr.autoencoder: weights 'some/vae.pth': no such file, or a link to none"
    assert ccsr(autoencoder="some/vae.pth") == ([fault], [])


def test_a_preset_without_its_folder_of_stable_diffusion_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SR_DATA", raising=False)
    plan = make_plan(load("ccsr_table3"))
    faults = ready(plan, Path("runs/ccsr"), Services(tracking_uri="sqlite://")).faults
    for key in ("autoencoder", "unet", "prompt"):
        for label in ("ccsr", "tuned"):
            [said] = [fault for fault in faults if fault.startswith(f"models.{label}.{key}: ")]
            assert "stable-diffusion-2-1-base" in said and "not set (SR_DATA)" in said


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_a_dry_run_for_programs_is_one_event_and_its_text_is_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, quiet: list[str]
) -> None:
    monkeypatch.setattr(module, "machine", lambda: CPU)
    monkeypatch.setattr(events, "_out", None)  # both are put back
    monkeypatch.setattr(progress, "_quiet", False)
    words = ["models=[edsr_baseline, sr3]", "objectives=[l1, ddpm]", "data.train=[{hr: /not/there}]"]
    asked = ["--dry-run", "--output", str(tmp_path / "runs"), *words]
    assert main([*asked, *quiet]) == EXIT_INPUT  # the plan is what was asked for, however quiet
    text = capsys.readouterr().out
    assert main([*asked, *quiet, "--json"]) == EXIT_INPUT
    said = capsys.readouterr()
    assert said.err == ("" if quiet else text) and text.startswith("device: ")
    [told] = map(json.loads, said.out.splitlines())
    plan = make_plan(load("quick", words))
    assert (told["event"], told["run"], told["trials"], told["seeds"]) == ("plan", plan.config.run_name, 0, 2)
    assert told["folder"] == str(tmp_path / "runs" / plan.config.run_name)
    assert told["rows"] == ["x2/edsr_baseline/l1", "x2/sr3/ddpm"]
    assert [line.partition(":")[0] for line in told["skipped"]] == ["x2/edsr_baseline/ddpm", "x2/sr3/l1"]
    assert told["faults"] == ["image folder '/not/there' does not exist"]
    assert told["left_out"] == ["teacher is not used: no objective of this sweep learns from one"]
    assert told["seconds"] == wall_seconds(plan, CPU.cpus) and told["gpu_hours"] == gpu_hours(plan)


def test_a_disk_too_small_for_the_images_is_told(found: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert found(CPU).lines[-1].startswith("disk: 9.83 MB for decoded images, up to about ")
    usage = type("Usage", (), {"free": 5 * 10**6})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    [fault] = found(CPU).faults
    assert fault == f"--output: decoded images take 9.83 MB, and 5 MB are free at {tmp_path}"
    (tmp_path / "runs" / "shared" / "store" / "0123").mkdir(parents=True)
    assert found(CPU).faults == () and found(CPU).lines[-1].endswith(": it may become full")


def test_an_output_that_cannot_be_written_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    output = ["--output", str(tmp_path / "runs" / "deep")]
    assert main(["--dry-run", *output]) == EXIT_DONE and "refused" not in capsys.readouterr().out
    monkeypatch.setattr(os, "access", lambda place, mode: mode == os.F_OK and Path(place) == tmp_path)
    assert main(["--dry-run", *output]) == EXIT_INPUT
    folder = tmp_path / "runs" / "deep" / load("quick").run_name
    fault = f"--output: {folder} cannot be written (Permission denied)"
    assert capsys.readouterr().out.endswith(f"  a run would be refused here: {fault}\n")
    assert main(output) == EXIT_INPUT and fault in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["--dry-run", "--output", str(tmp_path / "file" / "runs")]) == EXIT_INPUT


def test_of_a_cluster_nothing_is_said_before_it_is_joined(found: Any) -> None:
    there = found(CPU, "resources=auto", address="10.0.0.5:6379")
    assert there.device is None and there.plan.config.resources.auto and there.faults == ()


def test_more_faults_than_one_are_counted() -> None:
    assert str(refusal(("a",))) == "a" and str(refusal(("a", "b", "c"))) == "a (and 2 more, which --dry-run lists)"


def test_a_dry_run_asks_the_cluster_and_a_full_one_is_a_fault(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Resources(cpus=8, gpus=4, nodes=(Node(address="a", cpus=8, gpus=4),))
    monkeypatch.setattr(ray_runtime, "connect", lambda *_, **__: nullcontext(nodes))
    plan = make_plan(load("quick", ["resources=auto"]))
    services = Services(tracking_uri="sqlite://", address="10.0.0.5:6379")
    there = ready(plan, Path("runs/quick"), services, join=True)
    assert there.device == "device: GPU, 4 of 4 GPUs; 1 GPU and 2 CPU cores a worker, 4 trials at a time"
    larger = make_plan(load("quick", ["resources.cpus_per_worker=9"]))
    [fault] = ready(larger, Path("runs/quick"), services, join=True).faults
    assert fault.startswith(
        "resources: a trial needs 9 CPUs and 0 GPUs on one node; the cluster's nodes (1) have 8 CPUs"
    )
