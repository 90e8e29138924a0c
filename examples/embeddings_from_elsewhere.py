"""Audit labels with precomputed embeddings of any data: images, sounds, products.

Run it with ``python examples/embeddings_from_elsewhere.py``. Principal components of scikit-learn's
digits stand in for the embeddings. Any array with one row per sample works. In a shell::

    labelaudit scan labels.csv --features embeddings.npy
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

import labelaudit
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.benchmark.demo import digits


def main(epochs: int | None = None) -> labelaudit.ScanResult:
    """Scan embeddings of digits with a fifth of wrong labels: from memory, then from files."""
    images, clean_labels = digits()
    labels = corrupt_symmetric(clean_labels, 0.2, num_classes=10, seed=0)
    embeddings = PCA(32, random_state=0).fit_transform(images.reshape(len(images), -1) / 255.0)

    result = labelaudit.scan(embeddings, labels, epochs=epochs)  # row i belongs to label i
    print(result)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = pd.DataFrame({"id": [f"digit {row}" for row in range(len(labels))]})
        table["label"], table["truth"] = labels, clean_labels
        table.to_csv(folder / "labels.csv", index=False)
        np.save(folder / "embeddings.npy", embeddings)
        result = labelaudit.scan(
            folder / "labels.csv",
            features=folder / "embeddings.npy",
            clean_label_column="truth",  # only to score the result
            epochs=epochs,
        )
    print(result.suspects[["sample_id", "given_label", "suggested_label"]].head().to_string())
    print(f"F1 of the flags: {result.summary['metrics']['f1']:.3f}")
    return result


if __name__ == "__main__":
    main()
