"""Command line; see the package's description."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .harness import SHARES, run_all, run_loader, told


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing")
    parser.add_argument("--cases", type=int, default=5000, help="over all loaders, or of the one loader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loader", choices=[*SHARES, "broken"])
    parser.add_argument("--case", type=int, help="one case of a loader")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="where the files of failing cases go; default: a new folder")
    args = parser.parse_args()
    keep = args.keep or Path(tempfile.mkdtemp(prefix="iood-fuzz-faults-"))
    if args.case is not None:
        result = run_loader(args.loader, args.seed, args.case, args.case + 1, keep)
        for fault in result.faults.values():
            print(fault.pop("trace", ""), *(f"{key}: {value}" for key, value in fault.items()), sep="\n")
        results = {args.loader: result}
    else:
        shares = {args.loader: 1} if args.loader else SHARES
        results = run_all(args.cases, args.seed, keep, args.jobs, shares)
    print(told(results, args.seed))
    faults = sum(len(result.faults) for result in results.values())
    if faults:
        print(f"The files of failing cases are in {keep}.")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
