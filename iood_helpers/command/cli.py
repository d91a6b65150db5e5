"""The command line: ``iood COMMAND``, or ``python -m iood_helpers COMMAND``.

Exit codes: 0 fine, 1 something went wrong (one sentence says what), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial

from ..errors import IoodError, ParameterError

Parser = argparse.ArgumentParser


def _predict(parser: Parser) -> None:
    from . import predict

    predict.add_arguments(parser)
    parser.set_defaults(execute=predict.execute)


def _fit(parser: Parser) -> None:
    from . import fit

    fit.add_arguments(parser)
    parser.set_defaults(execute=fit.execute)


def _run(parser: Parser) -> None:
    try:
        from ..course import runner
    except ModuleNotFoundError as error:
        parser.set_defaults(execute=partial(_refuse_to_run, str(error)))
        return
    runner.add_arguments(parser)
    parser.set_defaults(execute=runner.execute)


def _refuse_to_run(reason: str, _: argparse.Namespace) -> None:
    raise ParameterError(f"{reason}; the notebooks need the extra [book]: pip install '.[book]' in the checkout.")


def _submission(command: str, parser: Parser) -> None:
    from ..bravo import submission

    submission.add_arguments(parser, command)
    parser.set_defaults(execute=submission.execute, command=command)


def _check(parser: Parser) -> None:
    from ..datasets import check

    check.add_arguments(parser)
    parser.set_defaults(execute=check.execute)


def _checkpoint(parser: Parser) -> None:
    from ..model import conversion

    conversion.add_arguments(parser)
    parser.set_defaults(execute=conversion.execute)


def _plan(parser: Parser) -> None:
    from ..scale import planner

    planner.add_arguments(parser)
    parser.set_defaults(execute=planner.execute)


def _experiment(parser: Parser) -> None:
    from ..scale import experiment

    experiment.add_arguments(parser)
    parser.set_defaults(execute=experiment.execute)


def _completion(parser: Parser) -> None:
    import shtab

    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    parser.set_defaults(execute=lambda args: print(shtab.complete(build_parser(COMMANDS), args.shell)))


COMMANDS: dict[str, tuple[str, Callable[[Parser], None]]] = {
    "predict": ("maps of the unknown, from pictures or a video", _predict),
    "fit": ("learn what is normal from a folder of pictures, without labels", _fit),
    "run": ("run the notebooks of a profile", _run),
    "experiment": ("the whole experiment of a profile, in one process, in more, or on a cluster", _experiment),
    "encode": ("pack predictions into a submission file", partial(_submission, "encode")),
    "evaluate": ("metrics of a submission file", partial(_submission, "evaluate")),
    "plan": ("hours, disk and memory that a profile will take, here and on more machines", _plan),
    "check": ("what of a data set is there", _check),
    "checkpoint": ("what is in a checkpoint, or the same as safetensors", _checkpoint),
    "completion": ('what a shell needs to complete commands: eval "$(iood completion bash)"', _completion),
}
"""What each command does, and a function that gives its parser arguments; called only for commands that are used."""


def build_parser(used: Sequence[str] | dict) -> Parser:
    """Parser of the command line, in which only the commands ``used`` know their arguments: modules load slowly."""
    from .. import __version__

    parser = Parser(prog="iood", description="Maps of the unknown in road scenes; iood COMMAND --help tells more.")
    parser.add_argument("--version", action="version", version=f"iood {__version__}")
    commands = parser.add_subparsers(dest="called", metavar="COMMAND", required=True)
    for name, (words, add_arguments) in COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
        if name in used:
            add_arguments(command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code (argparse ends the process with 2 by itself)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", category=UserWarning, module=r"iood_helpers\.")
        warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)
        args = build_parser(words[:1]).parse_args(words)
        try:
            return args.execute(args) or 0
        except IoodError as error:
            print(f"iood: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\niood: interrupted; the same command goes on where it can.", file=sys.stderr)
            return 130
