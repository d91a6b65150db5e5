"""``python -m iood_helpers.datasets check NAME PATH``."""

import sys

from .check import main

if __name__ == "__main__":
    sys.exit(main())
