"""Draw the figure of docs/explanation/how-it-works.md.

    python docs/figures.py

A logistic regression is cross-validated on scikit-learn's digits, a tenth of whose labels were made
wrong. Three of them are shown with their probabilities and their suspect scores.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import labelaudit
from labelaudit.benchmark.corruptions import corrupt_symmetric

FILE = Path(__file__).parent / "img" / "how-it-works.svg"
BLUE, ORANGE, GREY = "#3b6ea8", "#d9822b", "#b8c0c8"


def choose(issues: labelaudit.LabelIssues, pred_probs: np.ndarray, wrong: np.ndarray) -> list[int]:
    """Choose a right label, a wrong one, and a sample that is unclear."""
    score = issues["suspect_score"].to_numpy()
    top = np.sort(pred_probs, axis=1)[:, ::-1]
    spread = 1 - top[:, 0]
    right = np.flatnonzero(~wrong & (score < 0.01))
    clear = np.flatnonzero(wrong & (score > 0.99))
    unclear = np.flatnonzero(~wrong & (np.abs(score - 0.5) < 0.1) & (top[:, 1] > 0.3))
    typical = np.abs(spread - np.median(spread))
    return [
        int(right[np.argmin(typical[right])]),
        int(clear[np.argmin(typical[clear])]),
        int(unclear[np.argmin(np.abs(score[unclear] - 0.5))]),
    ]


def main() -> None:
    """Compute the scores, and draw three rows of image, probabilities and score."""
    data = load_digits()
    truth = data.target.astype(np.int64)
    labels = corrupt_symmetric(truth, 0.1, num_classes=10, seed=0)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    pred_probs = cross_val_predict(model, data.data, labels, cv=5, method="predict_proba")
    issues = labelaudit.find_label_issues(labels, pred_probs)

    mpl.rcParams.update({"svg.hashsalt": "labelaudit", "font.size": 10, "svg.fonttype": "none"})
    mpl.rcParams["font.sans-serif"] = ["Helvetica", "Arial", "DejaVu Sans", "sans-serif"]
    figure, axes = plt.subplots(3, 3, figsize=(8.4, 5.0), width_ratios=(1, 3, 2.2))
    titles = ("sample", "1. out-of-sample probabilities", "2. score and 3. decision")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11, pad=10)
    for row, sample in enumerate(choose(issues, pred_probs, labels != truth)):
        image, bars, words = axes[row]
        image.imshow(data.images[sample], cmap="gray_r", interpolation="nearest")
        image.set(xticks=[], yticks=[], xlabel=f"given label: {labels[sample]}")
        colors = [ORANGE if k == labels[sample] else BLUE for k in range(10)]
        bars.bar(range(10), pred_probs[sample], color=colors)
        bars.set(xticks=range(10), ylim=(0, 1), yticks=(0, 0.5, 1))
        bars.get_xticklabels()[labels[sample]].set(color=ORANGE, fontweight="bold")
        bars.spines[["top", "right"]].set_visible(False)
        issue = issues.iloc[sample]
        words.axis("off")
        words.barh([0.72], [1], height=0.14, color=GREY)
        words.barh([0.72], [issue["suspect_score"]], height=0.14, color=ORANGE)
        words.set(xlim=(0, 1.05), ylim=(0, 1))
        words.text(0, 0.44, f"suspect_score {issue['suspect_score']:.2f}", fontweight="bold")
        flagged = f"flagged; suggested label: {issue['suggested_label']}"
        words.text(0, 0.2, flagged if issue["is_label_issue"] else "not flagged")
    figure.tight_layout(h_pad=1.4, w_pad=2.5)
    FILE.parent.mkdir(exist_ok=True)
    figure.savefig(FILE, metadata={"Date": None})


if __name__ == "__main__":
    main()
