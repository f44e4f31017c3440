"""What MLflow shows of a sweep beside its numbers: the data as dataset inputs, the best weights, pieces of pictures.

Datasets are named by the hashes that the plan holds: no image is opened. Weights go as they are, `model.safetensors`
and `model.json`, without MLflow's model formats, which pickle or need an example input.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.pictures.crops import read_crops
from orchestrator.leaderboard import use
from orchestrator.leaderboard.board import Board, Entry
from orchestrator.plan.read import read_yaml
from orchestrator.run.folder import RunDir
from orchestrator.run.records import PlanRecord
from orchestrator.tracking import rows
from orchestrator.tracking.mlflow_store import Store
from orchestrator.tracking.record import stamp
from sr_models.errors import InputError
from sr_models.files import read_json

_CROPS = "crops_"
"""What the names of files begin with that hold the same piece of an image by several rows."""


@dataclass(frozen=True)
class DataUsed:
    """Images that a sweep has used, as MLflow names data."""

    name: str
    digest: str
    """First 32 letters of the hash of their pixels."""
    context: str
    """training (with what validates) or testing."""
    source: str
    """Where the config finds them, JSON."""


def one_a_scale(boards: Sequence[Board]) -> list[Board]:
    """The first board of each scale, of weights that were trained at it."""
    found: dict[float, Board] = {}
    for board in boards:
        if not board.trained_scale:
            found.setdefault(board.scale, board)
    return list(found.values())


# ---- data


def data_used(plan: PlanRecord, config: Mapping[str, Any]) -> list[DataUsed]:
    """Every patch store and test set of a run, by the hashes that its plan holds.

    Args:
        config: config.yaml as it stands there; it says where the images are.
    """
    given = config.get("data") or {}
    trained = json.dumps({name: given[name] for name in ("train", "validation") if name in given})
    hashes = {"": plan.data_hash} if isinstance(plan.data_hash, str) else plan.data_hash
    found = [
        DataUsed(f"{plan.name} train and validation {scale}".strip(), sha[:32], "training", trained)
        for scale, sha in hashes.items()
    ]
    for name, sha in plan.benchmarks.items():
        source = (given.get("test") or {}).get(name.rpartition(" x")[0], {})
        found.append(DataUsed(name, sha[:32], "testing", json.dumps(source)))
    return found


def datasets(store: Store, run: RunDir, plan: PlanRecord, run_id: str) -> None:
    """Give the sweep's own run its dataset inputs. Raises InputError: config.yaml is damaged."""
    store.log_datasets(run_id, [vars(data) for data in data_used(plan, read_yaml(run.config))])


# ---- weights


def model(store: Store, run: RunDir, plan: PlanRecord, board: Board, parent: str) -> int:
    """The board's best weights as a version of a registered model, where they lie here; 1 if that is new.

    Those of a run on a storage may be there alone, and then nothing is registered. Raises InputError: a damaged
    checkpoint.
    """
    entry = use.best(board)
    folder = run.at(entry.folder) if entry and entry.folder else None
    if entry is None or folder is None or not (folder / "model.json").is_file():
        return 0
    try:
        sha = str(read_json(folder / "model.json")["weights_sha256"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder / 'model.json'} does not say the hash of its weights") from None
    name, known = f"{plan.name}-x{board.scale}", (sha, 0, 0)
    if store.state.files.get(f"model {name}") == known:
        return 0
    tags = {**rows.tags(board, entry), "run": plan.run, "row": board.name(entry), "fingerprint": use.first_trial(entry)}
    if entry.lead:
        tags[board.metric] = f"{entry.lead.mean:.6g}"
    store.register(name, folder, sha, parent, tags)
    store.state.files[f"model {name}"] = known
    store.note("files", f"model {name}")
    return 1


# ---- pictures


def panels(found: Mapping[str, Any], boards: Sequence[Board]) -> list[tuple[Board, Entry, bytes]]:
    """Rows of the boards that a crops file shows, each with its piece as a PNG; figures show raw weights.

    Args:
        found: as `read_crops` gives it.
    """
    shown = []
    for board in boards:
        for entry in board.entries if board.scale == found["scale"] else ():
            own = [
                panel["png"]
                for panel in found["panels"]
                if panel["label"] == entry.title or panel["label"].startswith(f"{entry.title} draw 0 of ")
            ]
            if own and entry.weights in ("raw", "none"):
                shown.append((board, entry, base64.b64decode(own[0])))
    return shown


def changed_crops(store: Store, run: RunDir) -> list[Path]:
    """The crops files that MLflow does not have as they are."""
    found = sorted(run.pictures.glob(f"{_CROPS}*.json")) if run.pictures.is_dir() else []
    return [path for path in found if not path.is_symlink() and store.state.files.get(path.name) != stamp(path)]


def crops(store: Store, path: Path, boards: Sequence[Board]) -> int:
    """Send each row that a crops file shows its piece; how many that was. Raises InputError: the file is damaged."""
    sent, shown = stamp(path), panels(read_crops(path), boards)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / f"{path.stem}.png"
        for board, entry, content in shown:
            if run := store.state.runs.get(f"board/{rows.key(board, entry)}"):
                picture.write_bytes(content)
                store.log_file(run.id, picture, None)
    store.state.files[path.name] = sent
    store.note("files", path.name)
    return len(shown)


def forget_crops(store: Store) -> None:
    """Have all crops sent again."""
    for name in [name for name in store.state.files if name.startswith(_CROPS)]:
        del store.state.files[name]
