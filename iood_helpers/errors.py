"""Named errors: each message is one sentence that names the file and the remedy."""


class IoodError(Exception):
    """Base class of all errors raised on purpose by ``iood_helpers``."""


class CheckpointError(IoodError):
    """A checkpoint is missing, damaged, unsafe or of another architecture."""


class DatasetError(IoodError):
    """An image, label, mask or split is missing or not what its format demands."""


class EmbeddingError(IoodError):
    """Embeddings cannot be computed, stored or read as asked."""


class ClusteringError(IoodError, ValueError):
    """A clustering model cannot be fitted, saved or loaded as asked; a ``ValueError``, as scikit-learn's are."""


class RefinementError(IoodError):
    """Confidences cannot be refined with the given model or options."""


class MetricsError(IoodError):
    """Metrics are not defined for the given inputs."""


class SubmissionError(IoodError):
    """A submission cannot be encoded, read or evaluated: a file is missing, damaged or not what the format demands."""


class ParameterError(IoodError):
    """A profile, notebook or parameter is unknown or has an impossible value."""


class ArtifactError(IoodError):
    """A file that an earlier notebook should have left is missing or unreadable."""


class FileError(IoodError):
    """A file or folder cannot be written: disk full, no permission, or something else in its place."""


class LockedError(IoodError):
    """A store or run folder is in use by another process."""


class ScaleError(IoodError):
    """Work on several processes cannot begin, or has ended before its end."""


class NotebookError(IoodError):
    """A cell of a notebook raised an error, or its kernel ended."""


NotebookFailed = NotebookError
"""Its name up to 0.1.0."""
