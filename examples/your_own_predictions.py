"""Audit labels with the predictions of your own model. labelaudit trains nothing.

Run it with ``python examples/your_own_predictions.py``.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import labelaudit
from labelaudit.benchmark.corruptions import corrupt_symmetric


def main() -> labelaudit.LabelIssues:
    """Cross-validate two classifiers on digits with a tenth of wrong labels, and audit the labels."""
    features, clean_labels = load_digits(return_X_y=True)
    noisy_labels = corrupt_symmetric(clean_labels, 0.1, num_classes=10, seed=0)

    # Out of sample: each label is predicted by a model that was not trained on it.
    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300)),
        KNeighborsClassifier(20),
    ]
    pred_probs = [
        cross_val_predict(model, features, noisy_labels, cv=5, method="predict_proba")
        for model in models
    ]

    issues = labelaudit.find_label_issues(noisy_labels, pred_probs)

    columns = ["sample_id", "given_label", "suggested_label", "suspect_score", "ambiguity"]
    print(issues.sort_values("rank")[columns].head().to_string(index=False))
    print(issues.summary["threshold"]["explanation"])
    if issues.summary["mistakes"]:  # None if there are too few wrong labels
        print(issues.summary["mistakes"]["explanation"])
    found = issues["is_label_issue"].to_numpy() & (noisy_labels != clean_labels)
    print(f"{np.count_nonzero(found)} of the flagged labels are truly wrong.")
    return issues


if __name__ == "__main__":
    main()
