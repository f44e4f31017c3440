"""Frozen parts through a sweep: ordered, known by their hashes, in no weights; loaded wherever pictures are drawn."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import eval.command
from orchestrator import ingredients
from orchestrator.data.build import build_store
from orchestrator.data.store import PatchStore
from orchestrator.images import check_pictures
from orchestrator.ingredients import Ingredients
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.read import load
from orchestrator.plan.sources import ImageSource
from orchestrator.plan.text import plan_text
from orchestrator.plan.trial import TrialConfig
from orchestrator.plan.weights import Weights
from orchestrator.probe import trials
from orchestrator.run import checkpoint
from orchestrator.run.driver import home_of
from orchestrator.run.folder import RunDir
from orchestrator.training.loop import run_trial
from sr_models.checkpoints.folder import CheckpointInfo, load_checkpoint
from sr_models.checkpoints.parts import packed
from sr_models.diffusion.samplers import settled
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams, ShiftParams
from sr_models.hyper.sampling import Sampling
from sr_models.inference.super_resolve import Options, super_resolve

TINY: dict[str, Any] = {
    "channels": 8, "mults": [1, 1], "blocks": 1, "embed": 8, "heads": 2, "mlp_ratio": 2, "attention_window": 2,
    "side": 8, "groups": 4,
}  # fmt: skip
BASE: dict[str, Any] = {
    "name": "s", "scales": [4], "objectives": ["ddpm"], "process": {"T": 30, "beta_end": 0.5, "kept": 6},
    "train": {"steps": 4, "batch_size": 2, "patch": 8, "validate_every": 2, "stored_latents": False},
    "validation": {"images": 1, "crop": 16, "steps": 3},
    "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}},
}  # fmt: skip
SMALL = {"channels": 8, "blocks": 1}


def planned(autoencoder: Any, **changes: Any) -> Plan:
    models = {"mine": {"model": "resshift", "autoencoder": autoencoder, **TINY}}
    return make_plan(SweepConfig.parse(BASE | {"models": models} | changes, "test"))


def session(folder: Path, plan: Plan) -> Any:
    run = RunDir(folder / "out" / "s-01234567")
    run.make()
    run.config.touch()
    return SimpleNamespace(plan=plan, config=plan.config, run=run, home=home_of(run, None))


def test_a_part_is_no_hyperparameter_until_its_hash_is_known(stand_in: Path, tmp_path: Path) -> None:
    """Its file's name is in no trial: the same part elsewhere is the same trial."""
    prints = set()
    for name in ("one", "other"):
        torch.save(safetensors.torch.load_file(stand_in), tmp_path / f"{name}.pth")
        plan = planned(str(tmp_path / f"{name}.pth"))
        [one] = plan.combinations
        assert (one.hyper["autoencoder"], one.hyper["autoencoder_sha256"], one.after) == (None, None, ())
        known = Ingredients(data_hash={4: "d" * 64})
        assert not known.hold(one)
        own = session(tmp_path / name, plan)
        known = Ingredients(data_hash=known.data_hash, parts=ingredients.frozen_parts(own, known))
        assert known.hold(one) and ingredients.frozen_parts(own, known) == known.parts
        trial, sha256 = known.trial(plan, one, {}, 1), packed(stand_in)[0]
        assert (trial.hyper["autoencoder"], trial.hyper["autoencoder_sha256"]) == (None, sha256)
        assert packed(own.run.init(sha256))[0] == sha256
        prints.add(trial.fingerprint)
    assert len(prints) == 1


def test_what_stands_on_a_winner_comes_after_it() -> None:
    plan = standing_on({"model": "vq_autoencoder", "channels": 32, "blocks": 1})
    assert [[one.id for one in level] for level in plan.levels] == [["x4/vq/reconstruction"], ["x4/mine/ddpm"]]
    assert plan.combinations[1].parts == {"autoencoder": Weights("from", "x4/vq/reconstruction")}


def standing_on(source: dict[str, Any]) -> Plan:
    objective = "l1" if source["model"] == "edsr_baseline" else "reconstruction"
    part = {"from": f"x{{scale}}/vq/{objective}"}
    models = {
        "vq": {**source, "objectives": [objective]},
        "mine": {"model": "resshift", "objectives": ["ddpm"], "autoencoder": part, **TINY},
    }
    return planned(None, models=models, objectives=[objective, "ddpm"])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"model": "edsr_baseline", **SMALL}, "a vq_autoencoder, and x4/vq/l1 trains edsr_baseline"),
        ({"model": "kl_autoencoder"}, "a vq_autoencoder, and x4/vq/reconstruction trains kl_autoencoder"),
        ({"model": "vq_autoencoder", "mults": [1, 2]}, "one of reduction 4, and x4/vq/reconstruction has 2"),
        ({"model": "vq_autoencoder", "latent": 4}, "one of latent 3, and x4/vq/reconstruction has 4"),
    ],
)
def test_a_part_that_would_not_fit_is_refused_before_it_is_trained(source: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=rf"^models\.mine\.autoencoder: resshift stands on {said}"):
        standing_on(source)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"autoencoder": None}, r"models\.mine: resshift at x4 stands on a frozen autoencoder; give autoencoder: FILE"),
        ({"autoencoder": {2: "f"}}, r"resshift at x4 stands on a frozen autoencoder"),
        ({"autoencoder": 3}, r"mine\.autoencoder: expected FILE, \{trial"),
        ({"autoencoder": {"from": "x4/no/l1"}}, r"models\.mine\.autoencoder: no combination 'x4/no/l1' in this sweep"),
        ({"autoencoder_sha256": "a" * 64}, r"mine\.autoencoder_sha256: a sweep finds it itself; leave it out"),
        ({"objectives": ["dppm"]}, r"models\.mine\.objectives: no objective 'dppm' in this sweep.*ddpm"),
        ({"objectives": "ddpm"}, r"models\.mine\.objectives: expected a list of labels of objectives, got 'ddpm'"),
        ({"objectives": ["dream"]}, r"objectives\.ddpm: no model is trained under it"),
    ],
)
def test_parts_and_objectives_that_cannot_be_are_one_line(changed: dict[str, Any], said: str) -> None:
    models = {"mine": {"model": "resshift", "autoencoder": "f", **TINY, **changed}}
    with pytest.raises(InputError, match=said):
        planned(None, models=models, objectives=["ddpm", "dream"])


def test_a_test_set_that_its_condition_cannot_serve_is_refused() -> None:
    tests = {"c": {"hr": "c"}, "half": {"hr": "c", "scale": 2}}
    data = BASE["data"] | {"test": tests}
    planned("f", data=data)
    models = {"mine": {"model": "resshift", "autoencoder": "f", "condition": "lr", **TINY}}
    with pytest.raises(InputError, match=r"^data\.test\.half\.scale, .*: resshift: condition lr is for x4, not for x2"):
        planned(None, models=models, data=data)


def test_a_trial_that_a_part_names_is_looked_for_under_its_key(tmp_path: Path) -> None:
    own = session(tmp_path, planned({"trial": "0" * 8}))
    with pytest.raises(InputError, match=r"^models\.mine\.autoencoder: no trial '00000000'"):
        ingredients.find_trials(own)


def test_a_file_that_is_no_such_part_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "other.pth")
    own = session(tmp_path, planned(str(tmp_path / "other.pth")))
    with pytest.raises(InputError, match=r"^models\.mine\.autoencoder at x4: autoencoder .*holds no VQ autoencoder"):
        ingredients.frozen_parts(own, Ingredients(data_hash={4: "d" * 64}))


@pytest.mark.parametrize(
    ("preset", "hashed", "fingerprint"),
    [("quick", "a402ba4f", "bae418a40e1c2a83"), ("dream_table1", "89e904be", "0aa4770454c0a5fb")],
)
def test_trials_without_parts_are_those_they_were(preset: str, hashed: str, fingerprint: str) -> None:
    """Names as the code before parts gave them: what outputs hold is found again."""
    config = load(preset)
    plan = make_plan(config)
    trial = plan.trial(plan.combinations[0], {}, config.seed, "d" * 64, None)
    assert (config.hash[:8], trial.fingerprint[:16]) == (hashed, fingerprint)


def test_process_is_the_networks_where_the_config_is_silent() -> None:
    assert planned("f", process={}).combinations[0].process == ProcessParams(kept=50, clamp=False)
    named = planned("f", process={"kept": 15, "kept_by": "resshift", "schedule": "scaled_linear", "clamp": True})
    assert named.combinations[0].process == ProcessParams(kept=15, kept_by="resshift", schedule="scaled_linear")


def test_residual_shifting_is_resshifts_whatever_it_is_told_of_lr() -> None:
    """Its process is the loss's own, whatever the config says of one; grids may vary it."""
    given = {"autoencoder": "f", "model": "resshift", **TINY}
    models = {"mine": given, "raw": {**given, "condition": "lr"}, "sr3": {"groups": 8, "channels": 8, "mults": [1]}}
    models["sr3"] |= {"attention": []}
    shift = {"recipe": "resshift", "grid": {"loss.T": [3, 4]}}
    plan = planned(None, models=models, objectives={"resshift": shift, "ddpm": {}})
    own = {one.id: one for one in plan.combinations if one.objective == "resshift"}
    assert [*own] == [f"x4/{label}/resshift[loss.T={T}]" for label in ("mine", "raw") for T in (3, 4)]
    assert [one.process for one in own.values()] == [ShiftParams(T=3), ShiftParams(T=4)] * 2
    why = "objective: loss 'resshift' moves from LR's latent to HR's, and sr3 is not drawn so (resshift is)"
    assert list(plan.skipped) == [("x4/sr3/resshift", why)]
    trial = plan.trial(own["x4/mine/resshift[loss.T=3]"], {"loss.kappa": 1.5}, 1, "d" * 64, None)
    assert (trial.process, trial.sampling) == (ShiftParams(T=3, kappa=1.5), Sampling(sampler="resshift"))
    back = TrialConfig.parse(trial.model_dump(mode="json"), "trial")
    assert (back.fingerprint, back.process) == (trial.fingerprint, trial.process)
    assert "mine/resshift draws a picture in 3 passes, in 3 for a validation" in plan_text(plan, 2)
    for objective in ({"grid": {"process.T": [3]}}, {"search": {"sampling.steps": [3, 4]}}):
        with pytest.raises(InputError, match="is of diffusion networks, and loss resshift has a process of its own"):
            planned("f", objectives={"resshift": objective})
    fields = trial.model_dump(mode="json")
    with pytest.raises(InputError, match="loss resshift has a process of its own"):
        TrialConfig.parse(fields | {"process": ShiftParams(T=3).model_dump()}, "trial")
    with pytest.raises(InputError, match="loss ddpm needs a noise process"):
        TrialConfig.parse(fields | {"objective": {**fields["objective"], "loss": {"kind": "ddpm"}}}, "trial")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i in range(2):
        rng = np.random.Generator(np.random.Philox(i))
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def store(images: Path, tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    train, validation = ([ImageSource(hr=str(images), include=(f"{i}.png",))] for i in range(2))
    folder = tmp_path_factory.mktemp("store")
    return build_store(folder, train=train, validation=validation, scale=4)


def ready(folder: Path, stand_in: Path, store: PatchStore, **changes: Any) -> tuple[TrialConfig, dict[str, Path]]:
    """A trial on the stand-in, and the files of what it stands on, as a worker finds them."""
    plan = planned(str(stand_in), **changes)
    own, known = session(folder, plan), Ingredients(data_hash={4: store.data_hash})
    known = Ingredients(data_hash=known.data_hash, parts=ingredients.frozen_parts(own, known))
    trial = known.trial(plan, plan.combinations[0], {}, 1)
    return trial, own.home.access.parts(trial.model, trial.hyper)


def test_pictures_that_take_too_much_are_refused_once_the_part_is_there(
    stand_in: Path, store: PatchStore, tmp_path: Path
) -> None:
    for most, said in ((10**9, None), (10**5, r"^resources\.max_bytes: resshift at x4: ")):
        own = session(tmp_path / str(most), planned(str(stand_in), resources={"max_bytes": most}))
        own.inputs = SimpleNamespace(benchmarks={})
        parts = ingredients.frozen_parts(own, Ingredients(data_hash={4: store.data_hash}))
        with pytest.raises(InputError, match=said) if said else nullcontext():
            check_pictures(own, {4: store}, own.plan.combinations, parts)


@pytest.mark.parametrize("objective", ["dream", "resshift"])
def test_a_run_that_is_cut_goes_on_bit_for_bit(
    objective: str, stand_in: Path, store: PatchStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Averaged weights too; a checkpoint knows nothing of the part."""
    train = BASE["train"] | {"checkpoint_every": 1, "ema": 0.9}
    changes: dict[str, Any] = {"objectives": {objective: {"loss.T": 3} if objective == "resshift" else {}}}
    trial, parts = ready(tmp_path, stand_in, store, train=train, **changes)

    class Killed(BaseException):
        pass

    draw = PatchStore.batch

    def killed(self: PatchStore, **wanted: Any) -> Any:
        if wanted["step"] == 3:
            raise Killed
        return draw(self, **wanted)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(PatchStore, "batch", killed)
        run_trial(trial, store, go_on, out_dir=tmp_path / "cut", parts=parts)
    for name in ("cut", "whole"):
        assert run_trial(trial, store, go_on, out_dir=tmp_path / name, parts=parts).status == "complete"
    for kind in ("model", "model_ema"):
        shas = {CheckpointInfo.read(tmp_path / name / kind).weights_sha256 for name in ("cut", "whole")}
        assert len(shas) == 1
    state = checkpoint.load(tmp_path / "cut" / "checkpoint.pt")
    assert (
        state["model"].keys()
        == state["ema"].keys()
        == load_checkpoint(tmp_path / "cut" / "model")[0].state_dict().keys()
    )
    assert CheckpointInfo.read(tmp_path / "cut" / "model").process == trial.process


def go_on(_step: int, _metrics: dict[str, float]) -> Any:
    return "continue"


@pytest.mark.parametrize("objective", ["ddpm", "resshift"])
def test_a_trial_is_trained_and_drawn_from_beside_its_part(
    objective: str, stand_in: Path, images: Path, store: PatchStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The part is in no file that the trial leaves; who asks for pictures must give it, and the right one."""
    changes: dict[str, Any] = {"objectives": {objective: {"loss.T": 2} if objective == "resshift" else {}}}
    trial, parts = ready(tmp_path, stand_in, store, **changes)
    folder = tmp_path / "trial"
    result = run_trial(trial, store, go_on, out_dir=folder, parts=parts, max_bytes=2**40)
    assert result.status == "complete" and "psnr_y" in result.metrics
    assert str(stand_in) not in (folder / "model" / "model.json").read_text()

    (net, info), lr = load_checkpoint(folder / "model", parts=parts), torch.rand(1, 3, 8, 12)
    assert info.hyper["autoencoder_sha256"] == packed(stand_in)[0] and info.hyper["autoencoder"] is None
    assert not any("encoder" in key for key in net.state_dict())
    weights = trials.Weights(step=4, folder=folder / "model", info=info)
    home = SimpleNamespace(access=SimpleNamespace(parts=lambda *_: parts))
    probed = trials.loaded(SimpleNamespace(probed=SimpleNamespace(home=home)), weights, "cpu")  # type: ignore[arg-type]
    assert probed.decode(torch.zeros(1, 3, 4, 4)).shape == (1, 3, 16, 16)  # type: ignore[operator]
    assert info.process is not None
    options = Options(sampling=settled(info.process, Sampling(steps=2)))
    assert super_resolve(net, lr, options=options).sr.shape == (1, 3, 32, 48)
    with pytest.raises(InputError, match="give its file, autoencoder=FILE"):
        super_resolve(load_checkpoint(folder / "model")[0], lr, options=options)

    asked = ["--model", "resshift", "--scale", "4", "--weights", str(folder / "model"), "--hr", str(images)]
    asked += ["--steps", "2", "--draws", "1", "--json", str(tmp_path / "found.json")]
    sha256 = packed(stand_in)[0]
    with pytest.raises(InputError, match=rf"stands on a frozen autoencoder with the sha256 {sha256}: give --part"):
        eval.command.evaluate(asked)
    torch.save({key: value + 1 for key, value in safetensors.torch.load_file(stand_in).items()}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=rf"--part autoencoder: its sha256 is .*trained with {sha256}"):
        eval.command.evaluate([*asked, "--part", f"autoencoder={tmp_path / 'other.pth'}"])
    eval.command.evaluate([*asked, "--part", f"autoencoder={stand_in}"])
    assert ("resshift2" if objective == "resshift" else "ancestral2") in json.loads(
        (tmp_path / "found.json").read_text()
    )["protocol"]
    for given, said in {
        "unet=f": "resshift has no part 'unet' (it has: autoencoder)",
        "autoencoder": "must be NAME=FILE",
        "autoencoder=nowhere": "'nowhere' does not exist",
    }.items():
        with pytest.raises(InputError) as refused:
            eval.command.evaluate([*asked, "--part", given])
        assert said in str(refused.value)
    with pytest.raises(InputError, match="--hyper autoencoder: a frozen part is given as --part autoencoder=FILE"):
        eval.command.evaluate([*asked, "--hyper", "autoencoder=f"])
