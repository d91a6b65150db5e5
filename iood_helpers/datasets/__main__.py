"""``python -m iood_helpers.datasets check NAME PATH``."""

import sys

from .check import main

sys.exit(main())
