"""Measure how verified labels change the next audit, and how accurate its recalibrated number is.

    python benchmarks/reviewed.py people
    python benchmarks/reviewed.py predictions --pred-probs FOLDER

people: 800 samples with features, and two sets of labels: those by simulated people who see little of
the samples, and labels of which 20% are flipped symmetrically; seeds 0 to 5. predictions: files of
predictions for labels by people or with planted mistakes, with ``log_prob_*``, ``given_label`` and
``true_label``.

A reviewer who knows the truth decides about the worst half of the suspects, or about all of them. The
next audit gets the decisions in two ways: from the run (``reviewed=``), and as verified labels whose
first labels are not known. F1 and numbers are for the labels that are not verified.

Finished rows are added to benchmarks/results/reviewed.csv, and benchmarks/reviewed.md is written from
them.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from finished_rows import read_rows
from provenance import commit, hardware
from scipy.special import softmax
from sklearn.metrics import f1_score

import labelaudit
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.corrections.table import CORRECTION_COLUMNS, write_corrections

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "reviewed.csv"


def decide(rows: pd.DataFrame, truth: dict[str, str]) -> pd.DataFrame:
    """Return the decisions of a reviewer who knows the truth."""
    right = rows["sample_id"].map(truth)
    keep = right == rows["given_label"]
    decided = pd.DataFrame({"sample_id": rows["sample_id"]}).assign(
        decision=np.where(keep, "keep", "relabel"),
        corrected_label=np.where(keep, "", right),
        note="",
        reviewer="a script",
        reviewed_at="",
    )
    return decided[list(CORRECTION_COLUMNS)]


def measure(
    cell: dict[str, Any], given: np.ndarray, clean: np.ndarray, shares: list[float], **settings: Any
) -> list[dict[str, Any]]:
    """Audit, decide about a share of the suspects, and audit again in two ways."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        table = pd.DataFrame(
            {"id": [f"s{i:06d}" for i in range(len(given))], "label": [f"c{y}" for y in given]}
        )
        table.to_csv(folder / "labels.csv", index=False)
        first = labelaudit.scan(folder / "labels.csv", out=folder / "run", **settings)
        truth = {name: f"c{y}" for name, y in zip(table["id"], clean, strict=True)}
        for share in shares:
            looked_at = first.suspects.head(int(share * len(first.suspects)))
            write_corrections(decide(looked_at, truth), first.run_dir / "corrections.csv")
            told = labelaudit.scan(folder / "labels.csv", reviewed=first.run_dir, **settings)
            seen = table["id"].isin(set(looked_at["sample_id"])).to_numpy()
            corrected = table.assign(
                label=np.where(seen, table["id"].map(truth), table["label"]), verified=seen
            )
            corrected.to_csv(folder / "corrected.csv", index=False)
            alone = labelaudit.scan(folder / "corrected.csv", **settings)
            wrong = pd.Series((given != clean)[~seen], index=table["id"][~seen])

            def scores(run: labelaudit.ScanResult, ids: pd.Index = wrong.index) -> pd.Series:
                return run.samples.set_index("sample_id")["suspect_score"].loc[ids]

            row = cell | {"share": share, "verified": int(seen.sum()), "wrong": int(wrong.sum())}
            for name, run in (("before", first), ("reviewed", told), ("alone", alone)):
                row[f"expected_{name}"] = round(scores(run).sum())
                row[f"f1_{name}"] = round(f1_score(wrong, scores(run) > 0.5), 3)
            row["recalibrated"] = round(told.summary["checked"]["recalibrated_remaining"])
            rows.append(row)
    return rows


def people(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulate features, labels by people who see little of them, and the truth."""
    rng = np.random.default_rng(seed)
    clean = rng.permutation(np.arange(800) % 4)
    centers = rng.normal(0, 0.8, (4, 24))
    features = (centers[clean] + rng.normal(size=(800, 24))).astype(np.float32)
    seen = softmax(-((features[:, None] - centers) ** 2).sum(2) / 8, axis=1)
    return features, (seen.cumsum(1) > rng.random((800, 1))).argmax(1), clean


def add(rows: list[dict[str, Any]]) -> None:
    """Add finished rows to the results."""
    RESULTS.parent.mkdir(exist_ok=True)
    frame = pd.DataFrame(rows).assign(commit=commit(), hardware=hardware())
    frame.to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False)
    report()


def done(data: str, seed: int) -> bool:
    """Return whether a cell was measured before."""
    if not RESULTS.exists():
        return False
    rows = read_rows(RESULTS)
    return bool(((rows["data"] == data) & (rows["seed"] == seed)).any())


def report() -> None:
    """Write benchmarks/reviewed.md from the finished rows."""
    rows = read_rows(RESULTS).sort_values(["data", "share", "seed"])
    several = rows.groupby(["data", "share"])
    columns = [c for c in rows if c not in ("data", "share", "seed", "commit", "hardware")]
    shown = several[columns].mean()
    lines = [
        "# What verified labels change",
        "",
        "Written by `python benchmarks/reviewed.py people` and `python benchmarks/reviewed.py"
        " predictions --pred-probs FOLDER`,",
        "which describes the method. Rows of several seeds",
        "are means. “Alone” stands for verified labels whose first labels are not known. If all",
        "suspects were reviewed, F1 before is 0, because all labels flagged at first are verified.",
        "",
        "| data | seeds | share of suspects verified | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for (data, share), row in shown.iterrows():
        values = [f"{row[c]:.3f}" if c.startswith("f1") else f"{row[c]:,.0f}" for c in columns]
        seeds = ", ".join(str(s) for s in several.get_group((data, share))["seed"])
        lines.append(f"| {data} | {seeds} | {share:g} | " + " | ".join(values) + " |")
    lines += ["", f"Commits: {', '.join(sorted(set(rows['commit'].astype(str))))}."]
    lines += [f"Hardware: {'; '.join(sorted(set(rows['hardware'])))}."]
    (HERE / "reviewed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Measure the cells that are not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["people", "predictions"])
    parser.add_argument("--pred-probs", type=Path, help="Folder of parquet files of predictions.")
    parser.add_argument("--epochs", type=int, default=5, help="Epochs of the audits of features.")
    options = parser.parse_args()
    warnings.simplefilter("ignore", labelaudit.UntrustedResultWarning)
    if options.part == "people":
        for seed in range(6):
            features, said, clean = people(seed)
            planted = corrupt_symmetric(clean, 0.2, 4, seed)
            for data, given in (("people, simulated", said), ("symmetric 0.2", planted)):
                if not done(data, seed):
                    settings = {"epochs": options.epochs, "device": "cpu", "seed": seed}
                    cell = {"data": data, "seed": seed}
                    add(measure(cell, given, clean, [0.5], features=features, **settings))
    elif options.pred_probs is None:
        parser.error("predictions are measured with --pred-probs FOLDER")
    else:
        for file in sorted(options.pred_probs.glob("*.parquet")):
            if done(file.stem, 0):
                continue
            table = pd.read_parquet(file)
            probs = softmax(table.filter(like="log_prob_").to_numpy(dtype=np.float64), axis=1)
            given, clean = (
                table[c].to_numpy(dtype=np.int64) for c in ("given_label", "true_label")
            )
            cell = {"data": file.stem, "seed": 0}
            add(measure(cell, given, clean, [0.5, 1.0], pred_probs=probs.astype(np.float32)))


if __name__ == "__main__":
    main()
