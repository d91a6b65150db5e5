"""The operator, under a short name."""

import sys

from .model import dcnv3 as _module
from .model.dcnv3 import *  # noqa: F403  (for editors)

sys.modules[__name__] = _module
