"""The runner of the notebooks, under a short name: ``python -m iood_helpers.run``."""

import sys

try:
    from .course import runner as _module
except ModuleNotFoundError as error:
    remedy = "the notebooks need the extra [book]: pip install '.[book]' in the checkout"
    raise ModuleNotFoundError(f"{error}; {remedy}", name=error.name) from error
from .course.runner import *  # noqa: F403  (for editors)

if __name__ == "__main__":
    sys.exit(_module.main())
sys.modules[__name__] = _module
