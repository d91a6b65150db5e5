"""ClassKMeans against a loop over scikit-learn's KMeans with defaults."""

from __future__ import annotations

import numpy as np
from measuring import compare, report
from sklearn.cluster import KMeans

from iood_helpers.method.kmeans import ClassKMeans

CLASSES, PIXELS, DIMENSIONS, K = 19, 20_000, 960, 30


def main() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(CLASSES), PIXELS)
    # Mixtures with a falling spectrum, as features have it; white noise would give KMeans nothing to find.
    spectrum = (1 / np.sqrt(np.arange(1, DIMENSIONS + 1))).astype(np.float32)
    centers = 2 * rng.normal(size=(CLASSES, 60, DIMENSIONS)).astype(np.float32) * spectrum
    x = rng.normal(size=(len(y), DIMENSIONS)).astype(np.float32) * spectrum
    x += centers[y, rng.integers(0, 60, len(y))]
    inertia: dict[str, float] = {}

    def plain() -> None:
        inertia["plain"] = sum(KMeans(K, random_state=0).fit(x[y == c]).inertia_ for c in range(CLASSES))

    def ours() -> None:
        inertia["ours"] = sum(ClassKMeans(K, n_init=1).fit(x, y).inertia_.values())

    row = compare(f"ClassKMeans, {CLASSES} x {PIXELS} pixels x {DIMENSIONS}, K = {K}", plain, ours, "")
    agreement = f"inertia {inertia['ours'] / inertia['plain']:.4f} of the plain one"
    report([type(row)(**{**vars(row), "agreement": agreement})])


if __name__ == "__main__":
    main()
