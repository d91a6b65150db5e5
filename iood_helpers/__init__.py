"""Out-of-distribution detection for road scenes with InternImage features: one room per part of the method."""

import lazy_loader

__version__ = "0.1.0"

# Public names (the stub file lists them) are imported when they are first used: ``import iood_helpers`` is quick.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
