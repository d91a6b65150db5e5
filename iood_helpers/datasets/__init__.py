"""Images with what is known about their pixels, whatever the layout of their files."""

from .loading import *  # noqa: F403
from .loading import __all__ as __all__
