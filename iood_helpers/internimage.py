"""The backbone, under a short name: ``custom_imports=["iood_helpers.internimage"]`` in an mmseg config registers it."""

import sys

from .model import internimage as _module
from .model.internimage import *  # noqa: F403  (for editors)

sys.modules[__name__] = _module
