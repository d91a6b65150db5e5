"""The same steps on more processes or machines: extraction, fit, refinement, metrics and submission on Dask.

Each step takes ``client=``: None runs it in this process, anything else on Dask, with the same functions. What a task
leaves are whole files and chunks of its own, so that a run that was interrupted goes on, and one that was not gives
the same.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "clients": ["Network", "connected"],
        "experiment": ["run_experiment"],
        "extraction": ["extract"],
        "fitting": ["fit"],
        "refining": ["refine", "score"],
        "shards": ["ShardedStore"],
        "submitting": ["encode"],
        "tasks": ["Failure"],
    },
)
