"""Priors of the sharpness of class probabilities.

Labels cannot determine the sharpness, see `labelaudit.suspects.label_model`. The assumption depends
on where the probabilities come from.
"""

from __future__ import annotations

from dataclasses import dataclass

# Sharpness of cross-fitted classifiers whose training labels are weighted by how much they are trusted.
CROSS_FIT_SHARPNESS = 1.15


@dataclass(frozen=True)
class SharpnessPrior:
    """Prior of the sharpness s and of the exponent t.

    Attributes
    ----------
    center
        Median of s.
    spread
        Scale of a Laplace distribution of log s around log `center`.
    follow
        Prior weights of the values of t, in the order of `label_model.FOLLOW_SHARES`.
    evidence
        Number of samples that the likelihood of the labels counts as.
    assumption
        The assumption behind the center, as a sentence for the user.
    """

    center: float
    spread: float
    follow: tuple[float, float, float, float]
    evidence: float
    assumption: str

    @classmethod
    def of_predictions(cls, calibration: float) -> SharpnessPrior:
        """Choose the prior for a classifier that was trained on labels like the given ones.

        Such a classifier predicts the label that a sample gets, which is less certain than its class.
        This was measured on predictions of strong networks, for labels of people and for planted
        mistakes. There the exponent that fits the true classes best is 1.6 to 2.9 times the exponent
        that fits the given labels.

        Parameters
        ----------
        calibration
            The exponent that calibrates the probabilities to the given labels.
        """
        return cls(
            2.25 * calibration,
            0.2,
            (1.0, 1.0, 6.0, 0.0),
            50.0,
            "This assumes that the predictions are about 2.25 times as sharp about the right class as"
            " about the given label. The labels cannot confirm it.",
        )

    @classmethod
    def of_cross_fitting(cls, sharpness: float | None) -> SharpnessPrior:
        """Choose the prior for classifiers that were cross-fitted on features.

        Parameters
        ----------
        sharpness
            The exponent that was estimated from two of them, see
            `labelaudit.suspects.cross_fitting.estimate_sharpness`. None if it is unknown.
        """
        return cls(
            CROSS_FIT_SHARPNESS if sharpness is None else sharpness,
            0.2,
            (2.0, 1.0, 1.0, 0.0) if sharpness is None else (1.0, 1.0, 6.0, 6.0),
            500.0,
            "This assumes that the classifiers trained on the features are calibrated."
            if sharpness is None
            else "The sharpness of the classifiers trained on the features was measured on two of them."
            " This assumes that they rarely make the same mistakes.",
        )

    @classmethod
    def of_neighbors(cls, fitted: float) -> SharpnessPrior:
        """Choose the prior for the guider's probabilities, averaged over neighbors.

        The guider's training loss does not follow wrong labels, so its probabilities are about the
        right class. Averages over neighbors are right more often than their probabilities say, so s is
        at least 1. After a short training they are much too uncertain, which the labels do show.
        Averages are wrong where the embedding is wrong. People do not make these mistakes, so t is 0.

        Parameters
        ----------
        fitted
            The sharpness that fits the given labels best with t = 0; see
            `labelaudit.suspects.noise_model`.
        """
        return cls(
            max(1.0, fitted),
            0.2,
            (1.0, 0.0, 0.0, 0.0),
            200.0,
            "This assumes that the average prediction for similar samples is right at least as often as"
            " its probability says.",
        )
