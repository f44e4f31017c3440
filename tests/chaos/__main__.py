"""`python tests/chaos --seed 0 --faults 60`: does a sweep come to the same board whatever befalls it meanwhile?

A sweep that nobody disturbs says what is expected. Then sweeps of the same config, each in a folder of its own, are
struck by a hand of faults, some while they run, some between two commands; the same command is given again until it
ends well, and the checker compares. What was damaged and is refused in a line is deleted, as that line says.
"""

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from checker import Finding, Found, check, look
from faults import FAULTS, Fault, why_not
from stage import PATIENCE, Stage, write_config

from sr_models.command import EXIT_DONE, EXIT_INPUT, interrupt_on_sigterm, say, tell

HAND = 10
"""Faults that strike one sweep."""
MOST_COMMANDS = 5
"""How often the same command is given after the last fault."""
BEHIND = "tracking is behind"
"""What a sweep says that has ended well while MLflow did not take all; the next command delivers the rest."""


@dataclass
class Strike:
    """A fault that was injected."""

    kind: str
    hit: str
    began: float
    seconds: float = 0.0
    """Until the sweep was whole again."""
    findings: list[str] = field(default_factory=list)
    """What was wrong then; with more faults since the last check, it is held against each of them."""
    kinds: list[str] = field(default_factory=list)

    checked: bool = False

    def count(self, kind: str) -> int:
        return self.kinds.count(kind)


class Campaign:
    """One sweep under chaos; `strikes` is what befell it, `missed` the faults that found nothing to hit."""

    def __init__(self, stage: Stage, expected: Found, rng: random.Random) -> None:
        self.stage, self.expected, self.rng = stage, expected, rng
        self.strikes: list[Strike] = []
        self.missed: list[str] = []
        self._since_check: list[Strike] = []
        self._codes: set[int] = set()
        """How the command under way may end, beside well."""
        self._wrong: list[Finding] = []

    @property
    def whole(self) -> bool:
        """Whether all that struck is survived."""
        return all(one.checked and not one.findings for one in self.strikes)

    def play(self, hand: Sequence[str]) -> None:
        for kind in hand:
            fault = FAULTS[kind]
            if fault.damage:
                self._rest()
            hit = fault.strike(self.stage, self.rng) if fault.damage else self._disturb(fault)
            if hit is None:
                self.missed.append(kind)
                continue
            say(f"  {kind}: {hit}")
            self.strikes.append(Strike(kind, hit, time.monotonic()))
            self._since_check.append(self.strikes[-1])
            self._codes |= {*fault.codes}
        self._settle()

    def _rest(self) -> None:
        """No process works on the files: the sweep has ended, or is killed somewhere on its way."""
        if self.stage.is_running or not self.stage.commands:
            self._run()
            if not self.stage.ends_within(self.rng.uniform(0, 30)):
                self.stage.kill_all()
        self._take_in()

    def _run(self) -> None:
        """Have the command under way."""
        if not self.stage.is_running:
            self._take_in()
            self.stage.start()

    def _take_in(self) -> None:
        """How the last command ended, unless that is known."""
        if self.stage.process is not None:
            self._ended()

    def _disturb(self, fault: Fault) -> str | None:
        """Strike the sweep at a random moment after there is something to hit; None if it ends before."""
        self._run()
        if self.stage.ends_within(self.rng.uniform(0, fault.spread)):
            return None
        while self.stage.is_running:
            if hit := fault.strike(self.stage, self.rng):
                return hit
            time.sleep(0.02)
        return None

    def _settle(self) -> None:
        """The same command until it ends well."""
        for _ in range(MOST_COMMANDS):
            if not self._since_check and self.stage.process is None:  # found whole, and undisturbed since
                return
            if self.stage.process is None:
                self.stage.start()
            if not self.stage.ends_within(PATIENCE):
                self._wrong.append(Finding("lost", f"the command goes on after {PATIENCE} s"))
                self.stage.kill_all()
            elif self._ended():
                return
        self._wrong.append(Finding("lost", f"the same command does not end well; last: {self._last_line()}"))
        self._close()

    def _ended(self) -> bool:
        """Take in how the command ended; whether well, in which case the sweep is checked."""
        process, line = self.stage.process, self._last_line()
        assert process is not None
        code, self.stage.process = process.returncode, None
        if code == EXIT_DONE and BEHIND in self.stage.stderr.read_text(errors="replace"):
            say(f"    {BEHIND}: the same command delivers the rest")
            return False
        if code == EXIT_DONE:
            found = look(self.stage.run, self.stage.studies_url, self.stage.mlflow_db, self.stage.storage)
            self._wrong += check(found, self.expected)
            self._close()
            return True
        if code not in (EXIT_DONE, *self._codes):
            self._wrong.append(Finding("lost", f"exit code {code}: {line}"))
        elif code == EXIT_INPUT and self.stage.damaged:
            self._take_the_way_out(line)
        return False

    def _take_the_way_out(self, line: str) -> None:
        """Delete what the line says, or, with a finding, all that is damaged."""
        say(f"    refused: {line}")
        named = [path for path in self.stage.damaged if str(path) in line]
        if not named or "delete" not in line:
            self._wrong.append(Finding("lost", f"the line on damage names no way out: {line}"))
        others = [Path(word.strip(",;")) for word in line.partition("delete it and ")[2].split() if word[0] == "/"]
        for path in [*(named or self.stage.damaged), *others]:
            path.unlink(missing_ok=True)
        self.stage.damaged = [path for path in self.stage.damaged if path.exists()]

    def _close(self) -> None:
        """Hold what is wrong against all that struck since the last check."""
        for strike in self._since_check:
            strike.seconds = time.monotonic() - strike.began
            strike.checked = True
            strike.findings = [finding.text for finding in self._wrong]
            strike.kinds = [finding.kind for finding in self._wrong]
        for finding in self._wrong:
            say(f"    {finding.kind}: {finding.text}")
        self._since_check, self._wrong, self._codes = [], [], set()
        self.stage.damaged.clear()

    def _last_line(self) -> str:
        lines = self.stage.stderr.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def deck(rng: random.Random, kinds: Sequence[str]) -> Iterator[str]:
    """Every kind in a random order, again and again."""
    while True:
        yield from rng.sample(kinds, len(kinds))


def deal(cards: Iterator[str], held: list[str], count: int) -> list[str]:
    """The next faults for one sweep, at most one of which needs something; what is left over is held for the next."""
    held += [next(cards) for _ in range(count)]
    hand: list[str] = []
    for kind in [*held]:
        if len(hand) < count and not (FAULTS[kind].needs and any(FAULTS[other].needs for other in hand)):
            held.remove(kind)
            hand.append(kind)
    return hand


def report(strikes: Sequence[Strike], missed: Sequence[str], impossible: dict[str, str], seconds: float) -> str:
    """A row for each kind of fault; seconds: median from the strike until the sweep was whole and checked."""
    lines = [f"{'fault':<28}{'injected':>9}{'survived':>9}{'lost':>6}{'doubled':>8}{'other':>6}{'missed':>7}{'s':>6}"]
    for kind in [*FAULTS, "all"]:
        own = [one for one in strikes if kind in (one.kind, "all")]
        lost, doubled = (sum(one.count(what) for one in own) for what in ("lost", "duplicated"))
        other = sum(len(one.kinds) for one in own) - lost - doubled
        survived = sum(one.checked and not one.findings for one in own)
        took = f"{statistics.median(one.seconds for one in own):.0f}" if own else "-"
        passed = sum(kind in (one, "all") for one in missed)
        row = f"{kind:<28}{len(own):>9}{survived:>9}{lost:>6}{doubled:>8}{other:>6}{passed:>7}{took:>6}"
        lines.append(f"{kind:<28}cannot be injected here: {impossible[kind]}" if kind in impossible else row)
    unchecked = sum(not one.checked for one in strikes)
    cut_off = f"; {unchecked} were not checked before this was cut off" if unchecked else ""
    return "\n".join([*lines, f"{len(strikes)} faults in {seconds:.0f} s{cut_off}"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python tests/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the faults, their order and their moments")
    parser.add_argument("--faults", type=int, default=60, help="how many are injected")
    parser.add_argument("--only", nargs="*", metavar="FAULT", choices=FAULTS, default=[*FAULTS], help="kinds to draw")
    parser.add_argument(
        "--pause", type=float, default=30, help="seconds of SIGSTOP, a server that is down, a full disk"
    )
    parser.add_argument("--outage", type=float, default=60, help="seconds for which the storage is away")
    parser.add_argument("--most-seconds", type=float, default=3600, help="no new sweep is begun after these")
    arguments = parser.parse_args(argv)
    rng, began = random.Random(arguments.seed), time.monotonic()
    impossible = {kind: why for kind in FAULTS if (why := why_not(FAULTS[kind]))}
    interrupt_on_sigterm()
    folder = Path(tempfile.mkdtemp(prefix="sr-chaos-", dir="/tmp"))  # short: Ray puts sockets below it
    folder.chmod(0o711)  # PostgreSQL's account comes through
    config = write_config(folder / "images")
    expected = undisturbed(folder / "whole", config)
    say(f"undisturbed: {len(expected.trials)} trials, {len(expected.board)} rows, {time.monotonic() - began:.0f} s")

    strikes: list[Strike] = []
    missed: list[str] = []
    held: list[str] = []
    cards = deck(rng, [kind for kind in arguments.only if kind not in impossible])
    number = 0
    try:
        while len(strikes) < arguments.faults and time.monotonic() - began < arguments.most_seconds:
            hand, number = deal(cards, held, min(HAND, arguments.faults - len(strikes))), number + 1
            # most damage comes late: a sweep that has ended has no workers left to hit
            hand.sort(key=lambda kind: FAULTS[kind].damage and rng.random() < 0.7)
            needs = next((FAULTS[kind].needs for kind in hand if FAULTS[kind].needs), "")
            now = time.monotonic() - began
            say(f"sweep {number}{f' with {needs}' if needs else ''} ({now:.0f} s): {', '.join(hand)}")
            stage = Stage(folder / str(number), config, needs, pause=arguments.pause, outage=arguments.outage)
            campaign = Campaign(stage, expected, rng)
            try:
                campaign.play(hand)
            finally:
                strikes += campaign.strikes
                stage.end(keep=not campaign.whole)
            missed += campaign.missed
            held += campaign.missed
    finally:  # also of what was cut off
        tell(report(strikes, missed, impossible, time.monotonic() - began))
    bad = [one for one in strikes if one.findings]
    for one in bad:
        tell(f"{one.kind} ({one.hit}): {'; '.join(one.findings[:3])}")
    if bad:
        tell(f"seed {arguments.seed}; what is left of these sweeps lies in {folder}")
    else:
        shutil.rmtree(folder)
    return len(bad) > 0 or len(strikes) < arguments.faults


def undisturbed(folder: Path, config: Path) -> Found:
    """What the sweep comes to if nothing befalls it."""
    stage = Stage(folder, config, pause=0, outage=0)
    try:
        stage.start()
        assert stage.ends_within(PATIENCE) and stage.process is not None, "the undisturbed sweep takes too long"
        assert stage.process.returncode == EXIT_DONE, stage.stderr.read_text()[-3000:]
        return look(stage.run, stage.studies_url, stage.mlflow_db, stage.storage)
    finally:
        stage.end(keep=False)


if __name__ == "__main__":
    sys.exit(main())
