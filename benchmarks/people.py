"""Mistakes that people make: audits of given predictions, and complete audits of features.

    python benchmarks/people.py --pred-probs PRED_PROBS_FOLDER --simulation \
        --cifar10 CIFAR10_TRAIN.parquet --human-labels HUMAN_LABELS.parquet

PRED_PROBS_FOLDER holds NAME-NETWORK.parquet with the columns given_label, is_wrong and log_prob_0, ...:
out-of-sample predictions of strong networks. HUMAN_LABELS has, row by row with CIFAR-10's training
images, the columns clean_label, random_label2 and random_label3: the labels by two people for each
image (CIFAR-10N, Wei et al. 2022, https://arxiv.org/abs/2110.12088). Needs labelaudit[photos,peers].

Finished rows are kept in benchmarks/results/people.csv, and benchmarks/people.md is written from them.
`--name` gives the rows another name, to compare an earlier version of the package (by PYTHONPATH) with
the current one.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from features import BACKBONE, SIDE, cifar10
from finished_rows import is_done, keep_row, read_rows
from provenance import commit, hardware
from scipy.special import logsumexp, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import labelaudit
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.methods.confident_learning import confident_learning
from labelaudit.suspects.metrics import detection_metrics, f1_at_true_count

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "people.csv"
FILTERS = "confident learning, "
NAME = "labelaudit"
PROBE_STRENGTHS = (0.001, 0.01)  # scikit-learn's C of the linear probes
Row = dict[str, Any]


def score(
    suspect_score: np.ndarray, flagged: np.ndarray | None, wrong: np.ndarray, **more: Any
) -> Row:
    """Score one system on one set of labels. F1 is unknown for a system without its own threshold."""
    nothing = np.zeros(len(wrong), dtype=bool) if flagged is None else flagged
    told = detection_metrics(suspect_score, nothing, wrong)
    return {
        "num_labeled": len(wrong),
        "num_wrong": int(wrong.sum()),
        "num_flagged": None if flagged is None else int(flagged.sum()),
        "num_found": None if flagged is None else int((flagged & wrong).sum()),
        **(told if flagged is not None else told | dict.fromkeys(("f1", "precision", "recall"))),
        "f1_at_true_count": f1_at_true_count(suspect_score, wrong),
        **more,
    }


def ours(issues: pd.DataFrame, summary: dict[str, Any], wrong: np.ndarray, seconds: float) -> Row:
    """Score a data frame from labelaudit."""
    low, high = summary["expected_wrong_interval"]
    kinds = summary.get("mistakes") or {}
    return score(
        -issues["rank"].to_numpy(dtype=float),
        issues["is_label_issue"].to_numpy(dtype=bool),
        wrong,
        expected=summary["expected_wrong"],
        low=low,
        high=high,
        seconds=seconds,
        **{
            name: kinds.get(name) for name in ("follow_images", "between_classes", "follow_nothing")
        },
    )


def rivals(probs: np.ndarray, given: np.ndarray, wrong: np.ndarray) -> Iterator[tuple[str, Row]]:
    """Score simple rules that use one model's out-of-sample probabilities."""
    rows = np.arange(len(given))
    least = 1 - probs[rows, given]
    others = probs.copy()
    others[rows, given] = -1
    yield "1 - P(given)", score(least, None, wrong)
    yield "margin", score(others.max(axis=1) - probs[rows, given], None, wrong)
    yield "predicted ≠ given", score(least, probs.argmax(axis=1) != given, wrong)
    scores, _, variants = confident_learning(probs, given)
    for name, flagged in variants.items():
        yield FILTERS + name, score(scores, flagged, wrong)


def predictions(folder: Path, name: str) -> None:
    """Audit each file separately, and the files of one set together."""
    files = sorted(folder.glob("*.parquet"))
    sets: dict[str, list[Path]] = {}
    for file in files:
        sets.setdefault(file.stem.rpartition("-")[0], []).append(file)
    for of_set, some in sets.items():
        several = []
        for file in some:
            table = pd.read_parquet(file)
            logs = table.filter(like="log_prob_").to_numpy(dtype=np.float64)
            probs = softmax(logs, axis=1).astype(np.float32)
            given = table["given_label"].to_numpy(dtype=np.int64)
            wrong = table["is_wrong"].to_numpy(dtype=bool)
            several.append(probs)
            cell = {"part": "predictions", "data": file.stem, "labels": of_set, "seed": 0}
            keep(cell, name, lambda p=probs, g=given, w=wrong: by_predictions(p, g, w))
            if not done(cell | {"method": "predicted ≠ given"}):
                for method, row in rivals(probs, given, wrong):
                    add(cell | {"method": method} | row)
        if len(several) > 1:
            cell = {"part": "predictions", "data": f"{of_set}, all", "labels": of_set, "seed": 0}
            keep(cell, name, lambda p=several, g=given, w=wrong: by_predictions(p, g, w))


def by_predictions(probs: Any, given: np.ndarray, wrong: np.ndarray, **more: Any) -> Row:
    """Audit with find_label_issues."""
    start = time.perf_counter()
    issues = labelaudit.find_label_issues(given, probs, **more)
    return ours(issues, issues.summary, wrong, time.perf_counter() - start)


def whole_way(
    features: np.ndarray, human: pd.DataFrame, seeds: range, name: str, only: list[str]
) -> None:
    """Audit frozen features: labels of people, CIFAR-10's own, and these with 0.5% planted."""
    clean = human["clean_label"].to_numpy(dtype=np.int64)
    labels: dict[str, Callable[[int], np.ndarray]] = {
        column: lambda _, column=column: human[column].to_numpy(dtype=np.int64)
        for column in ("random_label2", "random_label3")
    }
    labels["own labels"] = lambda _: clean
    labels["own labels, 0.5% planted"] = lambda seed: corrupt_symmetric(clean, 0.005, 10, seed)
    for seed in seeds:
        for told, make in labels.items():
            if (only and told not in only) or (told.startswith("own") and seed > seeds[0]):
                continue
            given = make(seed)
            wrong = given != clean
            cell = {"part": "whole way", "data": "CIFAR-10, Lite0", "labels": told, "seed": seed}
            keep(cell, name, lambda g=given, w=wrong, s=seed: by_scan(features, g, w, s))
            # For probes the seed decides only the folds.
            if told.startswith("own") or seed > seeds[0] or name != NAME:
                continue
            for strength in PROBE_STRENGTHS:
                cell_of = cell | {"data": f"CIFAR-10, Lite0, probe C={strength:g}"}
                if done(cell_of | {"method": "predicted ≠ given"}):
                    continue
                start = time.perf_counter()
                probs = probe(features, given, strength, seed)
                seconds = time.perf_counter() - start
                for method, row in rivals(probs, given, wrong):
                    add(cell_of | {"method": method, "seconds": seconds} | row)


def by_scan(features: np.ndarray, given: np.ndarray, wrong: np.ndarray, seed: int) -> Row:
    """Audit with labelaudit.scan's defaults."""
    start = time.perf_counter()
    result = labelaudit.scan(features, given, seed=seed, device="cpu")
    return ours(result.samples, result.summary, wrong, time.perf_counter() - start)


def probe(features: np.ndarray, given: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Predict each label by a linear probe that was trained on the other four folds."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probs = cross_val_predict(model, features, given, cv=folds, method="predict_proba")
    return np.asarray(probs, dtype=np.float32)


# --- a simulation with a known answer ------------------------------------------------------------

# Number of classes, their distance, how much less certain people are than the best classifier, how much
# they know about the right class, and the share of labels that are replaced by any other.
VARIANTS: dict[str, dict[str, float]] = {
    "people": {},
    "softer people who know more": {"soft": 4.0, "know": 2.0},
    "sharper people": {"soft": 1.5},
    "people and 10% planted": {"planted": 0.1},
    "20% planted": {"soft": 1.0, "know": 50.0, "planted": 0.2},
    "3 classes": {"classes": 3, "apart": 0.13},
    "30 classes": {"classes": 30, "apart": 0.18},
    "100 classes": {"classes": 100, "apart": 0.21},
    "1% wrong": {"apart": 0.2},
    "40% wrong": {"apart": 0.1, "soft": 3.0, "know": 1.0},
}


def simulate(
    seed: int,
    *,
    classes: int = 10,
    apart: float = 0.16,
    soft: float = 2.2,
    know: float = 1.2,
    planted: float = 0.0,
    samples: int = 20_000,
    size: int = 512,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw features, labels that simulated people give, right classes, and the oracle's P(wrong).

    x = m_z + N(0, I), m_k ~ N(0, apart² I); people answer softmax(log p(x|.) / soft + know onehot(z)).
    """
    rng = np.random.default_rng(seed)
    means = rng.normal(0, apart, (classes, size))
    right = rng.integers(0, classes, samples)
    features = (means[right] + rng.normal(size=(samples, size))).astype(np.float32)
    log_truth = features @ means.T - 0.5 * (means**2).sum(axis=1)
    log_truth -= logsumexp(log_truth, axis=1, keepdims=True)
    own = np.eye(classes)
    said = softmax(log_truth / soft + know * own[right], axis=1)
    given = (said.cumsum(axis=1) > rng.random((samples, 1))).argmax(axis=1)
    lost = rng.random(samples) < planted
    other = (given + rng.integers(1, classes, samples)) % classes
    given = np.where(lost, other, given)
    joint = np.empty((samples, classes))
    rows = np.arange(samples)
    for cls in range(classes):
        told = softmax(log_truth / soft + know * own[cls], axis=1)[rows, given]
        told = (1 - planted) * told + planted * (1 - told) / (classes - 1)
        joint[:, cls] = np.exp(log_truth[:, cls]) * told
    joint /= joint.sum(axis=1, keepdims=True)
    return features, given, right, 1 - joint[rows, given]


def simulation(seeds: range, name: str) -> None:
    """Audit five-fold predictions of a logistic regression, and compare with the oracle."""
    for variant, settings in VARIANTS.items():
        for seed in seeds:
            cell = {"part": "simulation", "data": "simulated", "labels": variant, "seed": seed}
            if done(cell | {"method": name}):
                continue
            features, given, right, oracle = simulate(seed, **settings)
            wrong = given != right
            model = LogisticRegression(C=0.003, max_iter=200)
            folds = StratifiedKFold(5, shuffle=True, random_state=seed)
            probs = cross_val_predict(model, features, given, cv=folds, method="predict_proba")
            add(cell | {"method": name} | by_predictions(probs.astype(np.float32), given, wrong))
            if done(cell | {"method": "oracle"}):
                continue
            add(
                cell
                | {"method": "oracle", "expected": oracle.sum()}
                | score(oracle, oracle > 0.5, wrong)
            )
            for method, row in rivals(probs.astype(np.float32), given, wrong):
                add(cell | {"method": method} | row)


# --- keeping and reporting -----------------------------------------------------------------------


def keep(cell: Row, name: str, run: Callable[[], Row]) -> None:
    """Run labelaudit on a cell, unless it is finished."""
    if not done(cell | {"method": name}):
        add(cell | {"method": name} | run())


def add(row: Row) -> None:
    """Add a row to the results."""
    keep_row(RESULTS, row | {"commit": commit()})


def done(cell: Row) -> bool:
    """Whether a row is in the results."""
    return is_done(RESULTS, cell)


COLUMNS = ("F1", "F1 at the true count", "AUROC", "AP", "flagged", "expected wrong, interval")


def line(first: list[str], rows: pd.DataFrame) -> str:
    """Return the line of the table with one system's means over seeds."""
    mean = rows.mean(numeric_only=True)
    numbers = [
        "–" if np.isnan(mean.get(key, np.nan)) else f"{mean[key]:.3f}"
        for key in ("f1", "f1_at_true_count", "auroc", "average_precision")
    ]
    flagged = "–" if np.isnan(mean["num_flagged"]) else f"{mean['num_flagged']:,.0f}"
    expected = "–"
    if not np.isnan(mean.get("expected", np.nan)):
        expected = f"{mean['expected']:,.0f}"
        if not np.isnan(mean["low"]):
            expected += f", {mean['low']:,.0f} to {mean['high']:,.0f}"
    return f"| {' | '.join([*first, *numbers, flagged, expected])} |"


def best_filter(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of confident learning's default filter, and of its best one by the truth."""
    filters = rows[rows["method"].str.startswith(FILTERS)]
    if filters.empty:
        return filters
    best = filters.groupby(["data", "method"])["f1"].mean().idxmax()
    found = filters[(filters["data"] == best[0]) & (filters["method"] == best[1])]
    return found.assign(method=f"{FILTERS}best filter ({best[1].removeprefix(FILTERS)})")


def commits(table: pd.DataFrame, names: list[str]) -> str:
    """Return the commits with which labelaudit's rows were run."""
    rows = table[table["method"].isin(names)].groupby("method")["commit"].unique()
    return "; ".join(f"{name}: {', '.join(sorted(found))}" for name, found in rows.items())


def report(command: str) -> str:
    """Return the results as Markdown."""
    table = read_rows(RESULTS)
    names = [n for n in table["method"].unique() if n.startswith("labelaudit")]
    head = "|".join(["", " labels (wrong) ", " system ", *(f" {name} " for name in COLUMNS), ""])
    rule = "|" + "---|" * (2 + len(COLUMNS))
    lines = [
        "# Mistakes that people make",
        "",
        f"`{command}`; {hardware()}. Commits: {commits(table, names)}.",
        "",
        "Confident learning is cleanlab's. Its best filter is chosen by the truth, which users do not"
        " have. Systems that only rank labels have no F1 at a threshold of their own. The method on"
        " features has changed since: [recipe.md](recipe.md) has a later audit of the same features.",
    ]
    texts = {
        "predictions": (
            "## Given predictions",
            "Out-of-sample predictions of strong networks for labels of people, natural mistakes and"
            " planted ones. The rule was chosen on these sets. `all` is both files together.",
        ),
        "whole way": (
            "## Complete audits of frozen features",
            f"CIFAR-10's 50,000 training images, {BACKBONE.removeprefix('timm:')} at {SIDE} pixels. The"
            " probes are five-fold logistic regressions on the same features, the better of two"
            " penalties. Means over seeds.",
        ),
        "simulation": (
            "## A simulation with a known answer",
            "20,000 samples of Gaussian classes, labels of simulated people. Systems get five-fold"
            " predictions of a logistic regression, which are less certain than the oracle's. The"
            " oracle knows the distributions of the classes and of the labels that people give.",
        ),
    }
    for part, (title, text) in texts.items():
        of_part = table[table["part"] == part]
        if of_part.empty:
            continue
        lines += ["", title, "", text, "", head, rule]
        group = "data" if part == "predictions" else "labels"
        for key, rows in of_part.groupby(group, sort=False):
            wrong = f"{key} ({rows['num_wrong'].mean():,.0f} of {rows['num_labeled'].iloc[0]:,})"
            shown = [rows[rows["method"] == name] for name in [*names, "oracle"]]
            shown.append(best_filter(rows))
            default = rows[rows["method"] == f"{FILTERS}prune_by_noise_rate"]
            others = [
                default,
                *(
                    rows[rows["method"] == n]
                    for n in ("predicted ≠ given", "margin", "1 - P(given)")
                ),
            ]
            for some in others:
                if len(some):
                    # The better probe, by F1 if it is known.
                    by = some.groupby("data")[["f1", "auroc"]].mean()
                    pick = by["f1"].idxmax() if by["f1"].notna().any() else by["auroc"].idxmax()
                    shown.append(some[some["data"] == pick])
            for some in shown:
                if len(some):
                    lines.append(line([wrong, some["method"].iloc[0]], some))
        lines += ["", *notes(of_part, NAME)]
    return "\n".join(lines) + "\n"


def notes(rows: pd.DataFrame, name: str) -> list[str]:
    """Return the conclusions from the table."""
    mine = rows[rows["method"] == name]
    if mine.empty:
        return []
    inside = (mine["low"] <= mine["num_wrong"]) & (mine["num_wrong"] <= mine["high"])
    some = mine[mine["num_wrong"] > 0]
    near = (some["expected"] / some["num_wrong"] - 1).abs()
    told = [
        f"- Expected number within 15% of the truth in {int((near <= 0.15).sum())}, within 20% in"
        f" {int((near <= 0.2).sum())} of {len(some)} audits with wrong labels; the 90% interval covers"
        f" the truth in {int(inside.sum())} of {len(mine)}."
    ]
    if (rows["part"] == "simulation").any():
        oracle = rows[rows["method"] == "oracle"].set_index(["labels", "seed"])["f1"]
        share = mine.set_index(["labels", "seed"])["f1"] / oracle
        by = ", ".join(
            f"{k} {v:.2f}" for k, v in share.groupby("labels", sort=False).mean().items()
        )
        told.append(f"- F1 as a share of the oracle's: {by}.")
    else:
        kinds = mine.dropna(subset=["follow_images"])
        told.append(
            "- Estimated shares of wrong labels that follow the images / are between classes / follow"
            " nothing:"
        )
        for row in (
            kinds.groupby(["data", "labels"], sort=False).mean(numeric_only=True).itertuples()
        ):
            told.append(
                f"  {', '.join(dict.fromkeys(row.Index))}: {row.follow_images:.2f} /"
                f" {row.between_classes:.2f} / {row.follow_nothing:.2f};"
            )
    return told


def main() -> None:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pred-probs", type=Path, help="folder of predictions")
    parser.add_argument("--simulation", action="store_true")
    parser.add_argument("--cifar10", type=Path, help="parquet file of its training split")
    parser.add_argument("--human-labels", type=Path, help="parquet file of people's labels of it")
    parser.add_argument("--weights", type=Path, help="by default those of labelaudit[photos]")
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--name", default=NAME, help="name of this package's rows")
    parser.add_argument("--labels", action="append", default=[], help="audit only these labels")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    if options.pred_probs:
        predictions(options.pred_probs, options.name)
    if options.simulation:
        simulation(seeds, options.name)
    if options.cifar10:
        folder = HERE.parent / ".data"
        folder.mkdir(exist_ok=True)
        data, _ = cifar10(options.cifar10, options.weights, folder / "cifar10-lite0.parquet")
        human = pd.read_parquet(options.human_labels)
        whole_way(data.inputs[:, :, 0, 0], human, seeds, options.name, options.labels)
    command = (
        "python benchmarks/people.py --pred-probs PRED_PROBS_FOLDER --simulation --cifar10"
        " CIFAR10_TRAIN.parquet --human-labels HUMAN_LABELS.parquet"
    )
    (HERE / "people.md").write_text(report(command), encoding="utf-8")


if __name__ == "__main__":
    main()
