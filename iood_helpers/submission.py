"""Submission files, under a short name: ``python -m iood_helpers.submission``."""

import sys

from .bravo import submission as _module
from .bravo.submission import *  # noqa: F403  (for editors)

if __name__ == "__main__":
    sys.exit(_module.main())
sys.modules[__name__] = _module
