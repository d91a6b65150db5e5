"""Checkpoint files, under a short name: ``python -m iood_helpers.checkpoints inspect|convert``."""

import sys

from .model import conversion as _module
from .model.conversion import *  # noqa: F403  (for editors)

if __name__ == "__main__":
    sys.exit(_module.main())
sys.modules[__name__] = _module
