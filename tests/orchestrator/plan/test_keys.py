"""`--keys` mentions every field that a user may set."""

import importlib

import pytest

import sr_models
from objectives import LOSSES, TARGETS, TIMESTEPS
from objectives.spec import ObjectiveSpec, SigmaBranch
from objectives.timesteps import Terminal
from orchestrator.plan.keys import SECTIONS, keys_text
from sr_models.hyper.degradation import SEATS, Round
from sr_models.params import Params, search_range

PREFIXED = [
    *SECTIONS.items(),
    *(("target.", cls) for cls in TARGETS.values()),
    *(("loss.", cls) for cls in LOSSES.values()),
    ("sigma.", SigmaBranch),
    *(("timesteps.", cls) for cls in TIMESTEPS.values()),
    ("timesteps.terminal.", Terminal),
    *(("train.degradation.", cls) for cls in SEATS.values()),
    ("train.degradation.first.", Round),
    ("train.degradation.second.", Round),
    *((f"models.{name}.", row.hyper) for name, row in sr_models.MODELS.items()),
]
NOT_KEYS = {
    "CheckpointInfo", "Manifest", "Product", "SourceFile", "TrialConfig",  # files that the sweep itself writes
    "Record", "PlanRecord", "CombinationRecord", "MetricRecord", "TrialRecord", "RoleRecord", "WinnerRecord",
    "FrontRecord", "PointRecord", "BicubicRecord",
    "SearchCounts", "HomeRecord", "Machine", "TrackingRecord", "DeliveredRun", "SearchRecord", "Proposal",
    "_Ingredients", "_Export",  # parts of files, as `clean` reads them
    "Known", "KnownFiles", "Facts",  # of image files, in the cache
    "SearchRange",  # the shape of a range, explained where `search` is
    "ObjectiveSpec",  # its seats are listed one by one
    "Protocol", "SigmaHyper",  # chosen by name; set through the sigma branch
    "ShiftParams",  # of the loss resshift, and what it leaves in a trial
    "ZooHyper",  # read from a file that `weights:` names
    "Measured", "NetworkHyper", "TargetParams", "RampedTarget", "LossParams", "DiffusionLoss", "Timesteps",  # bases
    "AutoencoderHyper", "AdversarialBranch", "OwnLoss", "OwnDegradation",
    "_Drawn",  # likewise
}  # fmt: skip


@pytest.mark.parametrize(("prefix", "cls"), PREFIXED, ids=lambda value: getattr(value, "__name__", value))
def test_every_field_is_listed_with_its_meaning(prefix, cls):
    lines = keys_text().splitlines()
    for name, field in cls.model_fields.items():
        if name == "kind":
            continue
        found = [line for line in lines if line.split()[:1] == [prefix + name]]
        assert found, f"{prefix}{name} is not listed"
        assert all(len(line.split()) > 2 for line in found), f"{prefix}{name} has no description"
        assert search_range(field) is None or any("searched over" in line for line in found)


def test_no_set_of_hyperparameters_is_forgotten():
    for module in (
        "sr_models.checkpoints.folder",
        "sr_models.hyper.latent",
        "sr_models.hyper.process",
        "sr_models.hyper.sampling",
        "orchestrator.data.manifest",
        "orchestrator.run.bicubic",
        "orchestrator.run.records",
        "orchestrator.run.roles",
        "orchestrator.search.record",
        "orchestrator.needed",
        "orchestrator.tracking.record",
        "orchestrator.data.remembered",
        "eval.benchmarks",
        "eval.protocol",
    ):
        importlib.import_module(module)
    ours = ("sr_models.", "objectives.", "eval.", "orchestrator.")
    every = {cls.__name__ for cls in _below(Params) if cls.__module__.startswith(ours)}
    assert every - {cls.__name__ for _, cls in PREFIXED} == NOT_KEYS


def test_seats_of_an_objective_are_those_that_are_listed():
    assert set(ObjectiveSpec.model_fields) == {"target", "loss", "sigma", "timesteps"}


@pytest.mark.parametrize(
    "line",
    [
        "  train.degradation.second.poisson factor of Poisson noise (second 0.05-2.5; ccsr 0.05-2, second 0.05-1): "
        "[least, most] of a uniform draw, within 0 to 20 [default [0.05, 3]]",
        "  train.steps                  optimiser steps of a full run [default 1000; >= 2; <= 1000000000]",
        "  sigma.beta                   weight of the auxiliary loss, both terms in [0, 1], > 0 "
        "[default 0.01; > 0; searched over 0.001..0.1 log]",
        "  teacher.weights              a released file of `model`, or a checkpoint folder of ours, one per {scale}; "
        "{trial: FINGERPRINT} of this output; {from: 'x{scale}/LABEL/OBJECTIVE'}, the winner of that row; "
        "{SCALE: one of these}; null: trained first [default null]",
    ],
)
def test_a_line_gives_default_range_and_search(line):
    assert line in keys_text().splitlines()


def _below(cls: type) -> set[type]:
    return {inner for child in cls.__subclasses__() for inner in {child} | _below(child)}
