"""What a run will cost, under a short name: ``python -m iood_helpers.plan``."""

import sys

from .scale import planner as _module
from .scale.planner import *  # noqa: F403  (for editors)

if __name__ == "__main__":
    sys.exit(_module.main())
sys.modules[__name__] = _module
