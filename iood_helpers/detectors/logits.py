"""Detectors that look at the logits alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp, softmax

from .base import FeatureBank, Untrained

if TYPE_CHECKING:
    from ..model.segmenter import Prediction


class MaxSoftmax(Untrained):
    """One minus the largest probability (Hendrycks and Gimpel, ICLR 2017)."""

    def score(self, prediction: Prediction) -> np.ndarray:
        return 1 - softmax(prediction.logits, axis=0).max(0)


class MaxLogit(Untrained):
    """Minus the largest logit (Hendrycks et al., ICML 2022)."""

    def score(self, prediction: Prediction) -> np.ndarray:
        return -prediction.logits.max(0)


class Energy(Untrained):
    """Minus log-sum-exp of the logits (Liu et al., NeurIPS 2020)."""

    def score(self, prediction: Prediction) -> np.ndarray:
        return -logsumexp(prediction.logits, axis=0)


class LogOdds(Untrained):
    """Minus the log-odds of the largest probability: ranks as it does, but averages better over neighbours."""

    def score(self, prediction: Prediction) -> np.ndarray:
        others = np.partition(prediction.logits, -1, axis=0)[:-1]
        return logsumexp(others, axis=0) - prediction.logits.max(0)


class Entropy(Untrained):
    """Entropy of the probabilities in nats."""

    def score(self, prediction: Prediction) -> np.ndarray:
        log_p = prediction.logits - logsumexp(prediction.logits, axis=0)
        return -(np.exp(log_p) * log_p).sum(0)


class StandardizedMaxLogit:
    """Minus the largest logit, standardised by its mean and deviation in its class (Jung et al., ICCV 2021)."""

    def fit(self, bank: FeatureBank) -> StandardizedMaxLogit:
        largest, predicted = bank.logits.max(1), bank.logits.argmax(1)
        classes = bank.logits.shape[1]
        self.mean_, self.scale_ = np.full(classes, largest.mean()), np.full(classes, largest.std())
        for c in np.unique(predicted):
            of_class = largest[predicted == c]
            if len(of_class) > 1:
                self.mean_[c], self.scale_[c] = of_class.mean(), max(of_class.std(), 1e-6)
        return self

    def score(self, prediction: Prediction) -> np.ndarray:
        predicted = prediction.logits.argmax(0)
        return (self.mean_[predicted] - prediction.logits.max(0)) / self.scale_[predicted]
