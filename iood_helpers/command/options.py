"""Arguments that several commands have."""

from __future__ import annotations

import argparse

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def add_network(parser: argparse.ArgumentParser) -> None:
    """Which network, on which device."""
    parser.add_argument("--model", default="nano", metavar="NAME", help="a known name, a path, or an address")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=PRECISIONS,
        help="auto is that of the statistics, or the faster one of float32 and bfloat16; float16 needs CUDA",
    )


def positive(text: str) -> int:
    """A whole number from 1 on; argparse turns the error into a message."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)
