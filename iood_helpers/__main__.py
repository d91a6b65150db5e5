"""``python -m iood_helpers COMMAND``: the same as ``iood COMMAND``."""

import sys

from .command.cli import main

if __name__ == "__main__":
    sys.exit(main())
