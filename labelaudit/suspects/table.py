"""The table of samples for reports, files and notebooks, with one row per sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from labelaudit.files import well_formed
from labelaudit.sources.annotators import Votes
from labelaudit.sources.manifest import Manifest
from labelaudit.suspects.decision import Decision
from labelaudit.suspects.label_evidence import LabelEvidence
from labelaudit.suspects.scores import Scores
from labelaudit.suspects.votes import share_for, votes_as_text


@dataclass(frozen=True)
class Predicted:
    """The predicted class of each sample.

    Attributes
    ----------
    classes
        ``(N,)`` int64 in 0..C-1, the likeliest class.
    probs
        ``(N,)`` floats in [0, 1], its probability.
    """

    classes: np.ndarray
    probs: np.ndarray

    @classmethod
    def of(cls, pred_probs: np.ndarray) -> Predicted:
        """Return the likeliest classes of class probabilities ``(N, C)``."""
        return cls(pred_probs.argmax(axis=1), pred_probs.max(axis=1))


def samples_table(
    manifest: Manifest,
    scores: Scores,
    decision: Decision,
    predicted: Predicted,
    *,
    trusted: bool,
    evidence: LabelEvidence | None = None,
    clean_labels: np.ndarray | None = None,
    votes: Votes | None = None,
) -> pd.DataFrame:
    """Make the table of all samples, in the order of the data set.

    Parameters
    ----------
    manifest
        N samples, L of them labeled.
    scores, decision
        Scores and flags of the L labels.
    predicted
        The predicted class of all N samples.
    trusted
        Whether the result can be trusted; every row repeats it.
    evidence
        Evidence from training, which adds the columns of ε. None if nothing was trained.
    clean_labels
        ``(N,)`` class names, "" where unknown; they add the column `clean_label`.
    votes
        Labels of the N samples by several annotators; they add the columns `votes` and `agreement`.

    Returns
    -------
    pd.DataFrame
        Columns ``sample_id, path, given_label, predicted_label, predicted_prob, suggested_label,
        suggested_prob, suspect_score, label_score, is_label_issue, rank, ambiguity, trusted``, and with
        `evidence` ``epsilon, epsilon_mean, guider_prob, learner_prob``; where labels are verified
        ``verified, first_label``; with `votes` ``votes, agreement``. Labels are class
        names. Columns about the given label are missing where a sample has none.
    """
    names = np.asarray(manifest.class_names, dtype=object)
    labeled = np.flatnonzero(manifest.labeled)
    given = manifest.noisy_labels[labeled]

    def of_labeled(values: np.ndarray) -> np.ndarray:
        column = np.full(manifest.num_samples, np.nan)
        column[labeled] = values
        return column

    def named(rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
        column = np.full(manifest.num_samples, None, dtype=object)
        column[rows] = names[classes]
        return column

    rank = np.empty(len(labeled))
    rank[scores.order] = np.arange(1, len(labeled) + 1)

    def marked(marks: np.ndarray) -> np.ndarray:
        column = np.zeros(manifest.num_samples, dtype=bool)
        column[labeled] = marks
        return column

    table = pd.DataFrame(
        {
            "sample_id": manifest.sample_ids,
            "path": [well_formed(path) for path in manifest.paths],
            "given_label": named(labeled, given),
            "predicted_label": names[predicted.classes],
            "predicted_prob": predicted.probs.astype(np.float64),
            "suggested_label": named(labeled, scores.suggested),
            "suggested_prob": of_labeled(scores.suggested_prob),
            "suspect_score": of_labeled(scores.suspect_score),
            "label_score": of_labeled(1.0 - scores.suspect_score),
            "is_label_issue": marked(decision.is_label_issue),
            "rank": pd.array(of_labeled(rank), dtype="Int64"),
            "ambiguity": of_labeled(scores.ambiguity),
            "trusted": np.full(manifest.num_samples, trusted),
        }
    )
    if evidence is not None:
        table["epsilon"] = of_labeled(evidence.epsilon)
        table["epsilon_mean"] = of_labeled(evidence.epsilon_mean)
        table["guider_prob"] = of_labeled(evidence.guider_prob)
        table["learner_prob"] = of_labeled(evidence.learner_prob)
    text = ["sample_id", "path", "given_label", "predicted_label", "suggested_label"]
    if scores.verified is not None:
        first = scores.verified.first_given
        known = scores.verified.labels & (first >= 0)
        table["verified"] = marked(scores.verified.labels)
        table["first_label"] = named(labeled[known], first[known])
        text.append("first_label")
    if votes is not None:
        table["votes"] = votes_as_text(votes, manifest.class_names)
        table["agreement"] = share_for(votes, manifest.noisy_labels)
        text.append("votes")
    if clean_labels is not None:
        table["clean_label"] = [name or None for name in clean_labels]
        text.append("clean_label")
    return table.astype(dict.fromkeys(text, "str"))


def wrong_labels(manifest: Manifest, clean_labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the labels that are known to be wrong.

    Parameters
    ----------
    manifest
        N samples, L of them labeled.
    clean_labels
        ``(N,)`` class names, "" where unknown.

    Returns
    -------
    known, wrong
        ``(L,)`` bool each: whether the truth is known, and whether the label differs from it (False
        where the truth is not known).
    """
    labeled = manifest.labeled
    truth = clean_labels[labeled]
    given = np.asarray(manifest.class_names, dtype=object)[manifest.noisy_labels[labeled]]
    known = truth != ""
    return known, known & (truth != given)
