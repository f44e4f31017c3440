"""A sweep's config: what it holds cannot change, and its hash moves with what is asked for."""

import pytest

from orchestrator.plan.config import SweepConfig
from orchestrator.plan.read import load
from orchestrator.plan.teacher import TeacherConfig
from sr_models.errors import InputError


@pytest.mark.parametrize(
    ("override", "moves"),
    [
        ("resources.cpus_per_worker=4", False),
        ("resources.gpus_per_worker=0.5", False),
        ("resources.max_concurrent=3", False),
        ("resources=auto", False),
        ("scales=2", False),
        ("evaluation.workers=2", False),
        ("evaluation.weights_dir=backbones", False),
        ("board.baseline=l1", False),
        ("evaluation.draws=4", True),
        ("evaluation.tile=null", False),
        ("evaluation.tile=64", True),
        ("evaluation.crops=null", False),
        ("evaluation.crops=dream40o5", True),
        ("teacher.tile=64", True),
        ("teacher.weights=null", False),
        ("teacher.from=x2/imdn/l1", True),
        ("models.imdn.init=FILE", True),
        ("evaluation.seed=1", True),
        ("train.checkpoint_every=7", False),
        ("train.checkpointing=true", False),
        ("train.snapshots=[0.5]", False),
        ("train.lr=1e-3", True),
        ("train.groups={}", False),
        ("train.groups.model.lr=1e-3", True),
        ("seed=1", True),
        ("seeds=2", True),
        ("search.trials=9", True),
        ("data.on_bad=skip", True),
        ("evaluation.metrics=[ssim_y]", True),
    ],
)
def test_the_hash_of_a_sweep_ignores_resources(write, override, moves):
    assert (load(write(), [override]).hash != load(write()).hash) is moves


@pytest.mark.parametrize(
    ("teacher", "moves"),
    [({}, False), ({"model": "imdn", "train": {"steps": 9}}, False), ({"tile": 64}, True), ({"tile": 32}, True)],
)
def test_centroids_are_named_by_weights_and_tiles(teacher, moves):
    assert (TeacherConfig(**teacher).centroids("ab" * 32) != TeacherConfig().centroids("ab" * 32)) is moves
    assert TeacherConfig(tile=64).centroids("ab" * 32) != TeacherConfig(tile=64, tile_overlap=8).centroids("ab" * 32)
    assert TeacherConfig(**teacher).centroids("ab" * 32) != TeacherConfig(**teacher).centroids("cd" * 32)
    assert TeacherConfig().centroids("ab" * 32) != "ab" * 32, "those that were made with other threads had that name"


@pytest.mark.parametrize(
    ("short", "weights"),
    [
        ("FILE", "FILE"), ({"trial": "3b7c3ecc"}, {"trial": "3b7c3ecc"}),
        ({"from": "x2/imdn/l1", "tile": 9}, {"from": "x2/imdn/l1"}),
    ],
)  # fmt: skip
def test_a_teacher_may_be_named_in_short(short, weights):
    found = TeacherConfig.parse({"weights": weights}, "t")
    made = TeacherConfig.model_validate(short)
    assert made.weights == found.weights and TeacherConfig.parse(made.model_dump(), "t") == made
    with pytest.raises(InputError, match="give weights or from, not both"):
        TeacherConfig.parse({"weights": "FILE", "from": "x2/imdn/l1"}, "t")


@pytest.mark.parametrize("where", ["evaluation", "teacher"])
def test_an_overlap_goes_with_a_tile(write, where):
    with pytest.raises(InputError, match="tile_overlap 8 has no effect without tile"):
        load(write(), [f"{where}.tile_overlap=8"])


def test_a_papers_tiles_go_without_others(write):
    with pytest.raises(InputError, match="crops dream40o5 and tile 8 both say what the tiles are; give one"):
        load(write(), ["evaluation.crops=dream40o5", "evaluation.tile=8"])
    with pytest.raises(InputError, match=r"evaluation\.crops.*'dream40o5', 'dream64o8', 'ccsr128o64'"):
        load(write(), ["evaluation.crops=dream40"])


def test_a_baseline_is_the_label_of_an_objective(write):
    with pytest.raises(InputError, match=r"board\.baseline: no objective 'ecco' in this sweep; did you mean 'eco'"):
        load(write(), ["board.baseline=ecco"])
    with pytest.raises(InputError, match=r"board\.baseline: 'eco' is a grid of rows, none of which is named so"):
        load(write(), ["board.baseline=eco", "objectives.eco.grid={target.shape: [linear, cosine]}"])
    with pytest.raises(InputError, match=r"objectives\.L1: unknown objective 'L1'; did you mean 'l1'"):
        load(write(), ["board.baseline=l1", "objectives={L1: , eco: }"])  # what it says, followed, is a config
    assert load(write(), ["board.baseline=l1", "objectives={l1: , eco: }"]).board.baseline == "l1"


def test_labels_name_networks_and_recipes(write):
    text = """
        name: labels
        models:
          small: {model: imdn, channels: 32, train: {lr: 0.01, steps: 7}}
        objectives:
          slow: {recipe: eco, target.length: 0.9}
          own: {target: hr, loss: {kind: charbonnier, eps: 0.01}}
        data: {train: [{hr: a}], validation: [{hr: b}], test: {c: {hr: c}}}
    """
    config = load(write(text))
    network, hyper, train = config.network("small")
    assert (network, hyper) == ("imdn", {"channels": 32})
    assert (train.lr, train.steps, train.batch_size) == (0.01, 7, config.train.batch_size)
    assert config.objective("slow").target.length == 0.9
    assert config.objective("own").loss.eps == 0.01


def test_a_config_cannot_change(write):
    config = load(write())
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
    assert isinstance(config, SweepConfig) and config.seed == 0
