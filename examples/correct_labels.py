"""The whole loop from Python: audit, decide, write corrected labels, audit again.

Run it with ``python examples/correct_labels.py``. It writes to the folder ``correct-labels``.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import labelaudit
from labelaudit.benchmark.corruptions import corrupt_symmetric


def predict(table: pd.DataFrame, features: np.ndarray) -> np.ndarray:
    """Predict each label by a classifier that was not trained on it."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    return cross_val_predict(model, features, table["label"], cv=5, method="predict_proba")


def main(folder: str | Path = "correct-labels") -> tuple[int, int]:
    """Correct digits of which a tenth have wrong labels; return their number before and after."""
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    features, truth = load_digits(return_X_y=True)
    noisy_labels = corrupt_symmetric(truth, 0.1, num_classes=10, seed=0)
    table = pd.DataFrame({"id": range(len(truth)), "label": noisy_labels})
    table.to_csv(folder / "labels.csv", index=False)

    first = labelaudit.scan(
        folder / "labels.csv",
        pred_probs=predict(table, features),
        out=folder / "first",
        force=True,
    )
    # A person would decide in `labelaudit review correct-labels/first`. Here the truth decides about
    # the first hundred suspects.
    decided = first.suspects.head(100)[["sample_id", "given_label", "suggested_label"]].copy()
    right = truth[decided["sample_id"].astype(int)].astype(str)
    decided["decision"] = np.where(decided["given_label"] == right, "keep", "relabel")
    decided["corrected_label"] = np.where(decided["given_label"] == right, "", right)

    applied = labelaudit.apply_corrections(
        folder / "labels.csv", decided, folder / "labels.fixed.csv", force=True
    )
    print(applied.pairs.head(3).to_string(index=False))

    fixed = pd.read_csv(folder / "labels.fixed.csv")
    second = labelaudit.scan(
        folder / "labels.fixed.csv",
        pred_probs=predict(fixed, features),
        verified_column="verified",
        out=folder / "second",
        force=True,
    )
    print(labelaudit.diff_runs(folder / "first", folder / "second").counts)
    before, after = int((noisy_labels != truth).sum()), int((fixed["label"] != truth).sum())
    print(f"Wrong labels: {before} before, {after} after; {len(second.suspects)} still suspect.")
    return before, after


if __name__ == "__main__":
    main()
