"""The calibrated and the fused refinement of one large image with stored statistics."""

from __future__ import annotations

from measuring import alone, report
from scenes import fit_on, make_prediction

from iood_helpers.method.embedder import PixelEmbedder
from iood_helpers.method.refinement import refine_confidence


def main() -> None:
    prediction = make_prediction("xl", (1024, 2048))
    embedder = PixelEmbedder((0, 2, "decoder"), standardize=True)
    kmeans = fit_on(prediction, embedder)
    for mode in ("calibrated", "fused"):
        what = f"{mode} refinement, pyramid of XL, 1024 x 2048, all pixels at stride 4"
        dimensions = f"{kmeans.n_features_in_} dimensions"
        report([alone(what, lambda m=mode: refine_confidence(prediction, kmeans, embedder, m), dimensions)])


if __name__ == "__main__":
    main()
