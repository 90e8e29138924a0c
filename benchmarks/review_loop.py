"""Measure the whole loop: audit, review, apply, audit again.

    python benchmarks/review_loop.py --mnist MNIST_TRAIN.parquet
    python benchmarks/review_loop.py --labels HUMAN_LABELS.parquet --features LITE0.parquet

MNIST: 10,000 images, of which 20% have a wrong label. A script accepts every suggestion.
`labelaudit.corrections.apply` writes the corrected labels, and these are audited again with the
verified column. This is repeated once.

CIFAR-10: labels by people (``random_label2`` of CIFAR-10N, https://arxiv.org/abs/2110.12088), audited
with features of a frozen EfficientNet-Lite0 (`labelaudit embed`, see benchmarks/features.py). A
reviewer who knows the truth decides about the first 2,000 suspects.

Finished rows are added to benchmarks/results/review_loop.csv, and benchmarks/review_loop.md is written
from them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from finished_rows import read_rows
from provenance import commit, hardware

import labelaudit
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.corrections.apply import apply_corrections
from labelaudit.corrections.table import CORRECTION_COLUMNS, write_corrections

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "review_loop.csv"


def wrong_left(result: labelaudit.ScanResult) -> tuple[int, int]:
    """Count the labels that differ from the truth, and those of them that are not verified."""
    labeled = result.samples[result.samples["given_label"].notna()]
    wrong = labeled["given_label"] != labeled["clean_label"]
    verified = labeled["verified"] if "verified" in labeled else np.zeros(len(labeled), dtype=bool)
    return int(wrong.sum()), int((wrong & ~verified).sum())


def told(result: labelaudit.ScanResult, seconds: float) -> dict[str, Any]:
    """Compare an audit with the truth."""
    summary = result.summary
    low, high = summary["expected_wrong_interval"]
    wrong, doubtful = wrong_left(result)
    return {
        "wrong_labels": wrong,
        "wrong_not_verified": doubtful,
        "expected": round(summary["expected_wrong"]),
        "low": round(low),
        "high": round(high),
        "flagged": summary["num_suspects"],
        "found": int((result.suspects["given_label"] != result.suspects["clean_label"]).sum()),
        "verified": summary["num_verified"],
        "seconds": round(seconds),
    }


def corrections(rows: pd.DataFrame, *, by_truth: bool) -> pd.DataFrame:
    """Decide about rows: accept all suggestions, or choose the true labels."""
    if not by_truth:
        decision = np.full(len(rows), "accept", dtype=object)
        label = rows["suggested_label"].to_numpy(dtype=object)
    else:
        truth = rows["clean_label"].to_numpy(dtype=object)
        right = truth == rows["given_label"].to_numpy(dtype=object)
        suggested = truth == rows["suggested_label"].to_numpy(dtype=object)
        decision = np.where(right, "keep", np.where(suggested, "accept", "relabel"))
        label = np.where(right, "", truth)
    frame = pd.DataFrame({"sample_id": rows["sample_id"].to_numpy(dtype=object)})
    return frame.assign(
        decision=decision, corrected_label=label, note="", reviewer="a script", reviewed_at=""
    )[list(CORRECTION_COLUMNS)]


def mnist(path: Path, place: Path, seed: int, rounds: int) -> list[dict[str, Any]]:
    """Run the loop on planted mistakes."""
    table = pq.read_table(path).slice(0, 10_000)
    truth = table["label"].to_numpy()
    given = corrupt_symmetric(truth, 0.2, 10, seed)
    at = table.schema.get_field_index("label")
    table = table.set_column(at, "label", pa.array([str(label) for label in given]))
    table = table.append_column("true_label", pa.array([str(label) for label in truth]))
    labels = place / "mnist.parquet"
    pq.write_table(table.replace_schema_metadata(None), labels, row_group_size=1_000)
    rows = []
    for number in range(rounds + 1):
        started = time.perf_counter()
        run = place / f"run{number}"
        result = labelaudit.scan(
            labels,
            clean_label_column="true_label",
            verified_column="verified" if number else None,
            out=run,
            seed=seed,
        )
        row = {"data": "MNIST 10,000, symmetric 0.2", "round": number, "seed": seed}
        rows.append({**row, **told(result, time.perf_counter() - started)})
        print(json.dumps(rows[-1]), flush=True)
        write_corrections(corrections(result.suspects, by_truth=False), run / "corrections.csv")
        fixed = place / f"mnist.{number + 1}.parquet"
        apply_corrections(labels, run, fixed)
        labels = fixed
    return rows


def cifar10(
    labels: Path, features: Path, place: Path, seed: int, looked_at: int
) -> list[dict[str, Any]]:
    """Run the loop on mistakes of people, with a reviewer who knows the truth."""
    people = pd.read_parquet(labels)
    ids = [f"train/{number:05d}.webp" for number in range(len(people))]
    table = pd.DataFrame(
        {"sample_id": ids, "label": people["random_label2"], "true_label": people["clean_label"]}
    )
    file = place / "labels.csv"
    table.to_csv(file, index=False)
    rows = []
    for number in range(2):
        started = time.perf_counter()
        run = place / f"run{number}"
        result = labelaudit.scan(
            file,
            features=features,
            clean_label_column="true_label",
            verified_column="verified" if number else None,
            out=run,
            seed=seed,
            max_suspects=0,
        )
        row = {"data": f"CIFAR-10, random_label2, {looked_at:,} looked at", "round": number}
        rows.append({**row, "seed": seed, **told(result, time.perf_counter() - started)})
        print(json.dumps(rows[-1]), flush=True)
        ranked = result.samples.sort_values("rank").head(looked_at)
        write_corrections(corrections(ranked, by_truth=True), run / "corrections.csv")
        fixed = place / f"labels.{number + 1}.csv"
        apply_corrections(file, run, fixed)
        file = fixed
    return rows


def publish(rows: list[dict[str, Any]]) -> None:
    """Add rows to the results, and write the page."""
    fresh = pd.DataFrame(rows).assign(commit=commit(), hardware=hardware())
    old = [read_rows(RESULTS)] if RESULTS.exists() else []
    frame = pd.concat([*old, fresh]).drop_duplicates(["data", "round", "seed"], keep="last")
    frame = frame.sort_values(["data", "seed", "round"])
    RESULTS.parent.mkdir(exist_ok=True)
    frame.to_csv(RESULTS, index=False)
    lines = [
        "# Audit, review, apply, audit again",
        "",
        "Written by `python benchmarks/review_loop.py`, which describes the method: `--labels"
        " HUMAN_LABELS.parquet --features LITE0.parquet` for CIFAR-10, `--mnist MNIST_TRAIN.parquet`"
        " for MNIST. Round 0 is the first audit, of the original labels. Each later round audits the"
        " corrected labels, and the reviewed labels are verified. Wrong labels are counted by the"
        " truth, which no audit uses."
        " The expected number is that of wrong labels that are not verified.",
        "",
        "| data | seed | round | verified | wrong labels | of them not verified | expected"
        " | in nine of ten cases | flagged | of them wrong | seconds | commit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in frame.to_dict("records"):
        lines.append(
            f"| {row['data']} | {row['seed']} | {row['round']} | {row['verified']:,}"
            f" | {row['wrong_labels']:,} | {row['wrong_not_verified']:,} | {row['expected']:,}"
            f" | {row['low']:,} to {row['high']:,} | {row['flagged']:,} | {row['found']:,}"
            f" | {row['seconds']:,} | {row['commit']} |"
        )
    lines += ["", f"Hardware: {frame['hardware'].iloc[-1]}."]
    (HERE / "review_loop.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Run the requested parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--looked-at", type=int, default=2_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if options.mnist:
            publish(mnist(options.mnist, place, options.seed, options.rounds))
        if options.labels:
            publish(
                cifar10(options.labels, options.features, place, options.seed, options.looked_at)
            )


if __name__ == "__main__":
    main()
