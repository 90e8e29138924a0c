"""One row an image: everything that the reports, the files and a notebook user read."""

from __future__ import annotations

import numpy as np
import pandas as pd

from labelaudit.data.manifest import Manifest
from labelaudit.suspects.decision import Decision
from labelaudit.suspects.scores import Scores, Witnesses


def samples_table(
    manifest: Manifest,
    witnesses: Witnesses,
    scores: Scores,
    decision: Decision,
    pred_probs: np.ndarray,
    clean_labels: np.ndarray | None = None,
) -> pd.DataFrame:
    """Lay out every image of the data set, in its order.

    Parameters
    ----------
    manifest
        N images, L of them labeled.
    witnesses, scores, decision
        About the labeled ones.
    pred_probs
        ``(N, C)``, the guider's.
    clean_labels
        ``(N,)`` class names, "" where unknown; adds the column `clean_label`.

    Returns
    -------
    pd.DataFrame
        Columns ``sample_id, path, given_label, predicted_label, predicted_prob, suggested_label,
        suggested_prob, suspect_score, label_score, is_label_issue, rank, epsilon, epsilon_mean,
        guider_prob, learner_prob``. Labels are class names. What a label is needed for is missing
        where there is none.
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

    others = scores.suggestion_probs.copy()
    others[np.arange(len(given)), given] = -1.0
    suggested = others.argmax(axis=1)
    predicted = pred_probs.argmax(axis=1)
    rank = np.empty(len(labeled))
    rank[scores.order] = np.arange(1, len(labeled) + 1)
    flagged = np.zeros(manifest.num_samples, dtype=bool)
    flagged[labeled] = decision.is_label_issue

    table = pd.DataFrame(
        {
            "sample_id": manifest.sample_ids,
            "path": manifest.paths,
            "given_label": named(labeled, given),
            "predicted_label": names[predicted],
            "predicted_prob": pred_probs.max(axis=1).astype(np.float64),
            "suggested_label": named(labeled, suggested),
            "suggested_prob": of_labeled(others.max(axis=1)),
            "suspect_score": of_labeled(scores.suspect_score),
            "label_score": of_labeled(1.0 - scores.suspect_score),
            "is_label_issue": flagged,
            "rank": pd.array(of_labeled(rank), dtype="Int64"),
            "epsilon": of_labeled(witnesses.epsilon),
            "epsilon_mean": of_labeled(witnesses.epsilon_mean),
            "guider_prob": of_labeled(witnesses.guider_prob),
            "learner_prob": of_labeled(witnesses.learner_prob),
        }
    )
    text = ["sample_id", "path", "given_label", "predicted_label", "suggested_label"]
    if clean_labels is not None:
        table["clean_label"] = [name or None for name in clean_labels]
        text.append("clean_label")
    return table.astype(dict.fromkeys(text, "str"))


def wrong_labels(manifest: Manifest, clean_labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Say which labels are known to be wrong.

    Parameters
    ----------
    manifest
        N images, L of them labeled.
    clean_labels
        ``(N,)`` class names, "" where unknown.

    Returns
    -------
    known, wrong
        ``(L,)`` bool each, over the labeled samples: whether the truth is known, and whether the
        label differs from it (False where unknown).
    """
    labeled = manifest.labeled
    truth = clean_labels[labeled]
    given = np.asarray(manifest.class_names, dtype=object)[manifest.noisy_labels[labeled]]
    known = truth != ""
    return known, known & (truth != given)
