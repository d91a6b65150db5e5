"""The runner of the notebooks, under a short name: ``python -m iood_helpers.run``."""

import sys

from .course import runner as _module
from .course.runner import *  # noqa: F403  (for editors)

if __name__ == "__main__":
    sys.exit(_module.main())
sys.modules[__name__] = _module
