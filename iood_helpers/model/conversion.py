"""Checkpoint files on the command line: what is in one, and the same weights as safetensors.

python -m iood_helpers.checkpoints inspect SOURCE
python -m iood_helpers.checkpoints convert SOURCE OUT.safetensors
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..datasets.labels import NUM_CLASSES
from ..errors import CheckpointError, IoodError
from ..io import write_atomically
from .builders import from_weights
from .checkpoints import Checkpoint, load_checkpoint


def inspect_checkpoint(source: str | Path) -> dict[str, Any]:
    """What a checkpoint holds, and what of it would be used.

    Parameters
    ----------
    source : str or Path
        Name, path or address.

    Returns
    -------
    dict
        Plain values: "file", "bytes", "sha256", "stored" (precision), "parameters", "size", "head rows", "used rows",
        "network" and "problem" (a sentence that says why it does not load by itself, or None).

    Raises
    ------
    CheckpointError
        As :func:`~iood_helpers.model.checkpoints.load_checkpoint` does.
    """
    loaded = load_checkpoint(source)
    network, problem = None, ""
    try:
        model = from_weights(loaded)
        heads = [type(model.decode_head).__name__] + (["auxiliary"] if model.with_auxiliary_head else [])
        network = f"{type(model.backbone).__name__} + {' + '.join(heads)}"
        if (loaded.num_classes or 0) < NUM_CLASSES:
            problem = f"It has {loaded.num_classes} classes of the {NUM_CLASSES} that are needed."
    except CheckpointError as error:
        problem = str(error)
    return {
        "file": str(loaded.path),
        "bytes": loaded.path.stat().st_size,
        "sha256": loaded.sha256,
        "stored": loaded.stored,
        "parameters": sum(tensor.numel() for tensor in loaded.state_dict.values() if tensor.is_floating_point()),
        "size": loaded.size,
        "head rows": loaded.num_classes,
        "used rows": min(loaded.num_classes or 0, NUM_CLASSES),
        "network": network,
        "problem": problem or None,
    }


def convert_checkpoint(source: str | Path, out: str | Path) -> Checkpoint:
    """Write the weights of a checkpoint as safetensors, with the numbers and the precision that they have.

    Names are those that this package uses: without the prefixes of wrappers, EfficientViT's as mmseg's. Weights stored
    in several precisions become float32.

    Parameters
    ----------
    source : str or Path
        Name, path or address.
    out : str or Path
        File to write; its name ends in ``.safetensors``.

    Returns
    -------
    Checkpoint
        What was written, without its weights.

    Raises
    ------
    CheckpointError
        As :func:`~iood_helpers.model.checkpoints.load_checkpoint` does, or if ``out`` has another ending.
    FileError
        If the file cannot be written.
    """
    out = Path(out).expanduser()
    if out.suffix != ".safetensors":
        raise CheckpointError(f"The file {out} is to be a safetensors file; let its name end in .safetensors.")
    loaded = load_checkpoint(source)
    kind = getattr(torch, loaded.stored, torch.float32)
    for name, tensor in loaded.state_dict.items():  # one by one: the other precision is never there as a whole
        loaded.state_dict[name] = (tensor.to(kind) if tensor.is_floating_point() else tensor).contiguous()
    about = {"format": "pt", "source": loaded.path.name, "source_sha256": loaded.sha256}
    write_atomically(out, lambda path: save_file(loaded.state_dict, path, metadata=about))
    loaded.state_dict.clear()
    return loaded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the two commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    look = actions.add_parser("inspect", help="size, classes, head rows, and what would be used")
    look.add_argument("source", help="a name, a path, or an address (hf://owner/repo/file, https://...)")
    look.add_argument("--json", action="store_true", help="print JSON")
    convert = actions.add_parser("convert", help="write the weights as safetensors")
    convert.add_argument("source", help="as for inspect")
    convert.add_argument("out", type=Path, help="file to write, ending in .safetensors")


def execute(args: argparse.Namespace) -> int:
    """Run a command; returns the exit code: 1 if the inspected checkpoint could not be used as it is."""
    if args.action == "convert":
        loaded = convert_checkpoint(args.source, args.out)
        print(f"{args.out} holds the weights of {loaded.path.name} ({loaded.stored})")
        return 0
    found = inspect_checkpoint(args.source)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name:<12}{'none' if value is None else value}")
    return 1 if found["problem"] else 0


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m iood_helpers.checkpoints", description=str(__doc__).split("\n")[0])
    add_arguments(parser)
    try:
        return execute(parser.parse_args(arguments))
    except IoodError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
