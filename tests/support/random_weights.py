"""Weights that are the same on every machine, for networks whose own ones do not ship."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch


def random_state(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, torch.Tensor]:
    """State dict for parameters of these names and shapes; activations vary, and none runs away."""
    rng = np.random.RandomState(seed)  # whose stream NumPy never changes
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            values = np.int64(0)
        elif name.endswith("running_var"):
            values = rng.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(".weight"):
            values = rng.uniform(0.5, 1, shape)
        else:
            values = 0.2 * rng.standard_normal(shape)
        dtype = torch.int64 if name.endswith("num_batches_tracked") else torch.float32
        state[name] = torch.tensor(values, dtype=dtype)
    return state
