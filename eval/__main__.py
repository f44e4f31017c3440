"""`python -m eval`: score a model, or a folder of someone else's pictures, against HR under a named protocol.

`python -m eval weights` is about the files that perceptual metrics need (`eval.weights_command`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from eval.command import PROG, evaluate
from sr_models.command import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for input that cannot be used, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["weights"]:
        from eval import weights_command

        return weights_command.main(arguments[1:])
    return run_command(PROG, evaluate, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
