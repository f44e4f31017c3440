"""Sweeps from Python and notebooks: `run_sweep` does what `python -m orchestrator.sweep` does, `load_run` reads a run.

Reading imports neither Ray, MLflow nor torch. What a command says in one line is raised here: `InputError`, its
`DiskFullError`, and `LostError`. docs/python.md has examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.ray_private import without_advice
from orchestrator.leaderboard import text, use
from orchestrator.leaderboard.board import Board, Entry, Value
from orchestrator.leaderboard.compare import boards, rows_of_boards
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import config_of, load
from orchestrator.plan.services import Services, from_environment, output_folder
from orchestrator.run import progress
from orchestrator.run.budget import UNBOUND, Budget, BudgetReached
from orchestrator.run.driver import visited
from orchestrator.run.folder import RunDir
from sr_models.errors import DiskFullError, InputError, LostError

if TYPE_CHECKING:
    import pandas

    from sr_models.networks.base import Network
    from sr_models.networks.sigma import WithSigma

__all__ = ["Budget", "DiskFullError", "InputError", "LostError", "Results", "Row", "Run", "load_run", "run_sweep"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a board: a model under an objective at a scale, with one kind of weights."""

    name: str
    """`model × objective`, with more where its board holds several such rows."""
    id: str
    """What `upscale` and `network` take as `row`."""
    model: str
    objective: str
    weights: str
    """raw or ema; of what no trial made: none."""
    scale: float
    protocol: str
    metric: str
    """That its board is sorted by."""
    lead: Value | None
    """Of that metric over the board's leading test sets; its `standing` has rank range, interval and baseline."""
    scores: dict[str, dict[str, Value]]
    """Test set -> metric -> value."""
    seeds: int
    params: dict[str, Any]
    """What the search chose."""
    trained: bool
    """Whether a trial made it; bicubic, for one, is a reference."""
    weights_folder: Path | None
    """`model.safetensors` and `model.json` of the first seed; None of what no trial made."""


@dataclass(frozen=True, repr=False)
class Results:
    """The boards of a run: `rows` of all of them, best first within each; shown, they are the terminal's tables."""

    boards: tuple[Board, ...]

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Every row, typed."""
        return tuple(_row(board, entry) for board in self.boards for entry in board.entries)

    @property
    def best(self) -> Row:
        """The first board's first row that a trial made. Raises InputError: there is none."""
        board, entry = use.chosen(self.boards[:1], None, None)
        return _row(board, entry)

    def to_dataframe(self) -> pandas.DataFrame:
        """A line a row and test set, with the columns of `leaderboard.csv`; dB, seconds and counts as there."""
        import pandas

        return pandas.DataFrame(text.csv_lines(rows_of_boards(self.boards)))

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return text.text(self.boards, text.terminal_width())


@dataclass(frozen=True)
class Run:
    """A run folder, finished or not."""

    folder: Path
    storage: str | None = None
    """URI below which it lives; None: in its folder alone."""
    unscored: tuple[str, ...] = ()
    """A line on each planned row that `run_sweep` left without a score, and why; `load_run` does not know them."""
    stopped: str = ""
    """Which budget ended `run_sweep`, what it cost, and how to go on; "" where none did."""

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def board(self) -> Results:
        """What came out. Raises InputError: nothing is scored yet, or files are damaged."""
        return Results(tuple(boards(self.folder)))

    @property
    def status(self) -> str:
        """Where it stands, as `python -m orchestrator.status` says it."""
        from orchestrator.leaderboard import standing

        return standing.text(standing.standing(self.folder))

    def network(self, row: str | None = None, scale: float | None = None) -> Network | WithSigma:
        """A row's network with the weights of its first seed, on the CPU, for `sr_models.inference.super_resolve`.

        Args:
            row: its id or combination; None: the best that a trial made.
            scale: of the board, where there are several.

        Raises:
            InputError: no such row, or its weights are gone.
        """
        from orchestrator.evaluate import chosen

        return chosen.of_run(self.folder, self.storage, row=row, scale=scale).model

    def upscale(
        self, photos: Sequence[Path | str], output: Path | str, *, row: str | None = None, overwrite: bool = False
    ) -> bool:
        """Enlarge photographs as `python -m orchestrator.upscale` does; whether all went well (others are named).

        Args:
            photos: picture files, and folders of them.
            output: folder of the enlarged pictures (PNG).
            row: its id or combination; None: the best that a trial made.
            overwrite: replace pictures that are there.

        Raises:
            InputError: no such row, a folder without pictures, weights that cannot be used.
        """
        from orchestrator import upscale

        words = [str(self.folder), *map(str, photos), "--output", str(output), *["--overwrite"] * overwrite]
        words += [*(["--row", row] if row else []), *(["--storage", self.storage] if self.storage else [])]
        return upscale.enlarge(words) == 0


def run_sweep(
    config: SweepConfig | Mapping[str, Any] | Path | str,
    overrides: Sequence[str] = (),
    *,
    output: Path | str | None = None,
    tracking_uri: str | None = None,
    storage: str | None = None,
    studies_uri: str | None = None,
    address: str | None = None,
    budget: Budget = UNBOUND,
    quiet: bool = False,
) -> Run:
    """Run a sweep to its board, or go on with it: the same call resumes, and one that is finished returns at once.

    It says its progress on standard error and prints the board, as the command does. Where some trials failed, or
    a budget is used up, it returns as well, and `Run.unscored` and `Run.stopped` say so. A Ray of its own is started
    and stopped.

    Args:
        config: keys and values as a YAML file has them, such a file, or a preset's name.
        overrides: `dotted.key=value`, as on the command line.
        output: where run folders go; None: runs.
        tracking_uri, storage, studies_uri, address: as the command's options; None: what the environment says
            ($SR_TRACKING_URI, $SR_STORAGE, $SR_STUDIES_URI, $RAY_ADDRESS), else all on this machine.
        budget: hours, trials, GPU-hours that this call may cost.
        quiet: neither progress nor board.

    Raises:
        InputError: a config or data that cannot be used; DiskFullError: a disk is full. LostError: a cluster, storage
            or database was lost, and the same call goes on. KeyboardInterrupt: likewise.
    """
    from orchestrator.sweep import carry_out, local_tracking

    if isinstance(config, SweepConfig):
        asked = config_of(config.model_dump(mode="json"), "config", overrides) if overrides else config
    elif isinstance(config, Mapping):
        asked = config_of(config, "config", overrides)
    else:
        asked = load(config, overrides)
    folder = output_folder(None if output is None else Path(output)) / asked.run_name
    services = Services(
        tracking_uri=from_environment(tracking_uri, "SR_TRACKING_URI") or local_tracking(folder),
        storage=from_environment(storage, "SR_STORAGE"),
        studies_uri=from_environment(studies_uri, "SR_STUDIES_URI"),
        address=from_environment(address, "RAY_ADDRESS"),
        may_add=from_environment(None, "SR_MAY_ADD"),
    )
    without_advice()
    progress.be_quiet(quiet)
    try:
        unscored = carry_out(make_plan(asked), folder, services, "the same call", budget)
    except BudgetReached as stopped:
        return Run(folder.absolute(), services.storage, stopped=str(stopped))
    finally:
        progress.be_quiet(False)
    return Run(folder.absolute(), services.storage, tuple(unscored))


def load_run(where: Path | str, *, output: Path | str = "runs") -> Run:
    """A run that is there, whoever drives it.

    Args:
        where: its folder, or its URI on a storage (`s3://BUCKET/runs/NAME`), whose records are then brought here.
        output: the folder that a run from a storage is brought into.

    Raises:
        InputError: no run, or a storage that cannot be reached.
    """
    root, _, name = str(where).rstrip("/").rpartition("/") if "://" in str(where) else ("", "", "")
    folder = Path(output) / name if root else Path(where)
    home = visited(RunDir(folder.absolute()), root or None, "run")
    return Run(home.run.path, root or None)


def _row(board: Board, entry: Entry) -> Row:
    run = RunDir(board.folders[entry.run])
    return Row(
        name=board.name(entry),
        id=entry.id,
        model=entry.model,
        objective=entry.objective,
        weights=entry.weights,
        scale=board.scale,
        protocol=board.protocol,
        metric=board.metric,
        lead=entry.lead,
        scores={board.title(column): dict(cell) for column, cell in entry.cells.items()},
        seeds=entry.seeds,
        params=dict(entry.training.params),
        trained=entry.trained,
        weights_folder=run.at(entry.folder) if entry.folder else None,
    )
