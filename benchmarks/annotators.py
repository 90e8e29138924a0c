"""Labels by several annotators: audits of their majority, with and without their votes.

    python benchmarks/annotators.py --cifar10 CIFAR10_TRAIN.parquet \
        --human-labels HUMAN_LABELS.parquet

HUMAN_LABELS has, row by row with CIFAR-10's training images, the columns clean_label, random_label2 and
random_label3: the labels by two people for each image (CIFAR-10N, Wei et al. 2022,
https://arxiv.org/abs/2110.12088). The first `--rows` images are used. More annotators are simulated:
like the two people, they are wrong more often where another is wrong, and then sometimes choose the
same wrong class. Needs labelaudit[photos,peers].

Rows are kept in benchmarks/results/annotators.csv, and benchmarks/annotators.md is written from them.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cleanlab.multiannotator import get_label_quality_multiannotator
from features import BACKBONE, SIDE
from finished_rows import read_rows
from provenance import commit, hardware
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import labelaudit
from labelaudit.sources.annotators import majority
from labelaudit.sources.folders import read_source
from labelaudit.suspects.metrics import detection_metrics

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "annotators.csv"
WEIGHTED = "votes"
# Among the two people's labels: share of wrong labels by how many others are wrong about the image, and
# the share of these that repeat the other's wrong class.
WRONG_WHERE = np.array([0.15, 0.29, 0.45])
SAME_MISTAKE = 0.37
# Complete audits take minutes, so there are fewer.
AUDITED = ("two people", "two people, one simulated")
Row = dict[str, Any]


def simulate(
    people: np.ndarray, clean: np.ndarray, accuracy: float, cover: float, rng: np.random.Generator
) -> np.ndarray:
    """Return labels ``(N,)`` by another annotator, who labels a share of the samples."""
    wrong_before = people != clean[:, None]
    chance = WRONG_WHERE[wrong_before.sum(axis=1)]
    chance = np.minimum(chance * (1 - accuracy) / chance.mean(), 0.95)
    wrong = rng.random(len(clean)) < chance
    labels = clean.copy()
    for name in range(10):  # the people's own confusions
        rows = np.flatnonzero(wrong & (clean == name))
        seen = people[clean == name][wrong_before[clean == name]]
        labels[rows] = rng.choice(seen, len(rows))
    other = np.where(wrong_before[:, 0], people[:, 0], people[:, 1])
    repeat = wrong & wrong_before.any(axis=1) & (rng.random(len(clean)) < SAME_MISTAKE)
    labels[repeat] = other[repeat]
    labels[rng.random(len(clean)) > cover] = -1
    return labels


def panels(people: np.ndarray, clean: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return the labels ``(N, A)`` by groups of annotators."""
    rng = np.random.default_rng(seed)

    def more(*accuracies: float, cover: float = 1.0) -> list[np.ndarray]:
        return [simulate(people, clean, one, cover, rng) for one in accuracies]

    return {
        "two people": people,
        "two people, one simulated": np.column_stack([people, *more(0.82)]),
        "two people, three simulated": np.column_stack([people, *more(0.9, 0.75, 0.6)]),
        "two people, one simulated, one who guesses": np.column_stack(
            [people, *more(0.9), rng.integers(0, 10, len(clean))]
        ),
        "ten simulated, a quarter of the images each": np.column_stack(
            more(0.95, 0.9, 0.9, 0.85, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, cover=0.25)
        ),
    }


def measure(
    suspect_score: np.ndarray | None,
    flagged: np.ndarray,
    final: np.ndarray,
    given: np.ndarray,
    clean: np.ndarray,
) -> Row:
    """Score one system: the wrong majority labels that it finds, and its final labels."""
    wrong = given != clean
    score = flagged.astype(float) if suspect_score is None else suspect_score
    found = detection_metrics(score, flagged, wrong)
    row: Row = {"num_wrong": int(wrong.sum()), "num_labeled": len(given), **found}
    if suspect_score is None:
        row |= {"auroc": None, "average_precision": None}
    return row | {
        "given_right": float((~wrong).mean()),
        "final_right": float((final == clean).mean()),
    }


def by_predictions(votes: np.ndarray, probs: np.ndarray, clean: np.ndarray) -> dict[str, Row]:
    """Audit with given predictions: the majority alone, the votes, and cleanlab's consensus."""
    given, _ = majority(votes)
    rows = {}
    for name, labels in (("majority", given), (WEIGHTED, votes)):
        began = time.monotonic()
        issues = labelaudit.find_label_issues(labels, probs, classes=[str(k) for k in range(10)])
        seconds = time.monotonic() - began
        rows[name] = ours(issues, issues.summary, given, clean, seconds)
    began = time.monotonic()
    table = pd.DataFrame(np.where(votes < 0, np.nan, votes))
    found = get_label_quality_multiannotator(table, probs, verbose=False)
    consensus = found["label_quality"]["consensus_label"].to_numpy()
    rows["cleanlab, CROWDLAB"] = measure(None, consensus != given, consensus, given, clean) | {
        "seconds": time.monotonic() - began
    }
    return rows


def ours(
    table: pd.DataFrame, summary: Any, given: np.ndarray, clean: np.ndarray, seconds: float
) -> Row:
    """Score a table of labelaudit; flagged labels are replaced by the suggested ones."""
    flagged = table["is_label_issue"].to_numpy(dtype=bool)
    suggested = table["suggested_label"].astype(int).to_numpy()
    low, high = summary["expected_wrong_interval"]
    row = measure(
        -table["rank"].to_numpy(dtype=float),
        flagged,
        np.where(flagged, suggested, given),
        given,
        clean,
    )
    more: Row = {
        "expected": summary["expected_wrong"],
        "low": low,
        "high": high,
        "seconds": seconds,
    }
    return row | more


def audit(features: np.ndarray, votes: np.ndarray, clean: np.ndarray, seed: int) -> dict[str, Row]:
    """Audit features the whole way, with the majority alone and with the votes."""
    given, _ = majority(votes)
    rows = {}
    for name, labels in (("majority", given), (WEIGHTED, votes)):
        began = time.monotonic()
        result = labelaudit.scan(features, labels, seed=seed, device="cpu", verbose=False)
        seconds = time.monotonic() - began
        rows[name] = ours(result.samples, result.summary, given, clean, seconds)
    return rows


def embed(cifar10: Path, weights: Path | None, rows: int, out: Path) -> np.ndarray:
    """Return the features of the first images, ``(rows, 1280)``."""
    source = read_source(cifar10).subset(np.arange(rows))
    path = labelaudit.embed(source, encoder=BACKBONE, weights=weights, image_size=SIDE, out=out)
    return np.stack(pd.read_parquet(path)["features"].to_numpy()).astype(np.float32)


COLUMNS = {
    "f1": "F1", "precision": "precision", "recall": "recall", "auroc": "AUROC",
    "average_precision": "AP", "expected": "expected wrong", "final_right": "right after correction",
}  # fmt: skip


def report(command: str) -> str:
    """Return the results as Markdown."""
    table = read_rows(RESULTS)
    lines = [
        "# Labels by several annotators",
        "",
        f"`{command}`; {hardware()}. Commit: {', '.join(table['commit'].unique())}.",
        "",
        f"The first {table['num_labeled'].max():,} training images of CIFAR-10, {BACKBONE} at {SIDE}"
        " pixels. The given label is what most annotators chose. `majority` audits this label alone,"
        " and `votes` all labels. CROWDLAB is cleanlab's; it flags the labels that differ from its"
        " consensus. After correction, flagged labels are replaced by the suggested ones. Means over"
        f" {table['seed'].nunique()} seeds, which decide the simulated labels and the folds. The two"
        " constants of the rule (rho, and the number of samples that votes count as) were chosen"
        " among nine pairs on the first 8,000 images with the simulated labels of seed 0, so this is no"
        " test.",
    ]
    for part, title in (
        ("predictions", "Given predictions (five-fold logistic regression)"),
        ("audit", "Complete audits of the features, one seed"),
    ):
        rows = table[table["part"] == part]
        if rows.empty:
            continue
        head = ["annotators (wrong labels)", "right before", "system", *COLUMNS.values()]
        lines += ["", f"## {title}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for (panel, system), some in rows.groupby(["panel", "system"], sort=False):
            mean = some.mean(numeric_only=True)
            numbers = [
                "–" if np.isnan(mean[key]) else f"{mean[key]:,.0f}" if key == "expected"
                else f"{mean[key]:.3f}"
                for key in COLUMNS
            ]  # fmt: skip
            first = [f"{panel} ({mean['num_wrong']:,.0f})", f"{mean['given_right']:.3f}", system]
            lines.append(f"| {' | '.join([*first, *numbers])} |")
    mine = table[table["system"] == WEIGHTED]
    inside = (mine["low"] <= mine["num_wrong"]) & (mine["num_wrong"] <= mine["high"])
    near = (mine["expected"] / mine["num_wrong"] - 1).abs()
    lines += [
        "",
        f"With votes, the expected number is within 15% of the truth in {int((near <= 0.15).sum())} of"
        f" {len(mine)} audits, and the 90% interval covers it in {int(inside.sum())}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all audits, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cifar10", type=Path, required=True)
    parser.add_argument("--human-labels", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="by default those of labelaudit[photos]")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path())
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    labels = pd.read_parquet(asked.human_labels).iloc[: asked.rows].astype(np.int64)
    clean = labels["clean_label"].to_numpy()
    people = labels[["random_label2", "random_label3"]].to_numpy()
    features = embed(asked.cifar10, asked.weights, asked.rows, asked.work / "annotators.parquet")
    found: list[Row] = []
    for seed in range(asked.seeds):
        for panel, votes in panels(people, clean, seed).items():
            voted = (votes >= 0).any(axis=1)
            given, _ = majority(votes[voted])
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=200))
            folds = StratifiedKFold(5, shuffle=True, random_state=seed)
            probs = cross_val_predict(
                model, features[voted], given, cv=folds, method="predict_proba"
            ).astype(np.float32)
            parts = {"predictions": by_predictions(votes[voted], probs, clean[voted])}
            if not seed and panel in AUDITED:
                parts["audit"] = audit(features[voted], votes[voted], clean[voted], seed)
            for part, rows in parts.items():
                for system, row in rows.items():
                    cell = {"part": part, "panel": panel, "system": system, "seed": seed}
                    found.append(cell | row | {"commit": commit()})
                    print(found[-1], flush=True)
            pd.DataFrame(found).to_csv(RESULTS, index=False)
    (HERE / "annotators.md").write_text(report(" ".join(["python", *sys.argv])))


if __name__ == "__main__":
    main()
