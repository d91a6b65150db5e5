"""Images with what is known about their pixels, whatever the layout of their files."""

from .layouts import BRAVO_LAYOUT
from .loading import load_dataset
from .samples import Dataset, Sample

__all__ = ["BRAVO_LAYOUT", "Dataset", "Sample", "load_dataset"]
