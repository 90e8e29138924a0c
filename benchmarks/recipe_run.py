"""One measurement of benchmarks/recipe.py, in a process of its own.

    python benchmarks/recipe_run.py ours FOLDER OUT.npz --seed 101
    python benchmarks/recipe_run.py recipe FOLDER OUT.npz --strength 0.01 --standardize

FOLDER holds features.npy and given.npy. `ours` is one call of `labelaudit.scan`. `recipe` is the ten
lines that most people write: five-fold predictions of a logistic regression, and cleanlab. The last
line on standard output is JSON with the seconds of the call, without imports and reading. OUT.npz holds
the result.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np

MAX_ITERATIONS = 200


def ours(features: np.ndarray, given: np.ndarray, seed: int) -> tuple[float, dict[str, np.ndarray]]:
    """Audit with the defaults; return the seconds and, for each label, suspicion and flag."""
    from labelaudit import scan  # imports torch; the recipe's imports are not counted either

    started = time.monotonic()
    result = scan(features, given, seed=seed, device="cpu", verbose=False)
    seconds = time.monotonic() - started
    return seconds, {
        "suspicion": -result.samples["rank"].to_numpy(dtype=np.float64),
        "flagged": result.samples["is_label_issue"].to_numpy(dtype=bool),
        "expected_wrong": np.array(result.summary.expected_wrong),
    }


def recipe(
    features: np.ndarray, given: np.ndarray, strength: float, standardize: bool
) -> tuple[float, dict[str, np.ndarray]]:
    """Run the recipe; return the seconds, its probabilities and the flags of cleanlab's default."""
    from cleanlab.filter import find_label_issues
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    started = time.monotonic()
    model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS)
    if standardize:
        model = make_pipeline(StandardScaler(), model)
    pred_probs = cross_val_predict(model, features, given, cv=5, method="predict_proba")
    flagged = find_label_issues(given, pred_probs)
    seconds = time.monotonic() - started
    return seconds, {"pred_probs": pred_probs, "flagged": flagged}


def main() -> None:
    """Parse, run, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=("ours", "recipe"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strength", type=float, default=1.0, help="scikit-learn's C")
    parser.add_argument("--standardize", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # of convergence
    features, given = np.load(asked.folder / "features.npy"), np.load(asked.folder / "given.npy")
    if asked.system == "ours":
        seconds, told = ours(features, given, asked.seed)
    else:
        seconds, told = recipe(features, given, asked.strength, asked.standardize)
    np.savez(asked.out, **told)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
