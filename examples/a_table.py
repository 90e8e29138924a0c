"""Audit the labels of a table: its other columns are the features.

Run it with ``python examples/a_table.py``. It uses scikit-learn's breast cancer data and flips every
tenth diagnosis. In a shell::

    labelaudit scan patients.csv --tabular --label-column diagnosis
"""

import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

import labelaudit


def main(epochs: int | None = None) -> labelaudit.ScanResult:
    """Scan the table, and print how each of its columns was used."""
    data = load_breast_cancer(as_frame=True)
    table = data.frame.drop(columns="target")
    truth = np.where(data.target == 0, "malignant", "benign")
    flipped = np.arange(len(truth)) % 10 == 0
    table["diagnosis"] = np.where(flipped == (truth == "malignant"), "benign", "malignant")
    table["truth"] = truth
    table["ward"] = np.array(["A", "B", "C"])[np.arange(len(truth)) % 3]

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "patients.csv"
        table.to_csv(file, index=False)
        result = labelaudit.scan(
            file,
            tabular=True,
            label_column="diagnosis",
            clean_label_column="truth",  # only to score the result, never a feature
            epochs=epochs,
        )
    print(result)
    for name, words in list(result.summary["columns"].items())[-4:]:
        print(f"  {name}: {words}")
    print(f"F1 of the flags: {result.summary['metrics']['f1']:.3f}")
    return result


if __name__ == "__main__":
    main()
