"""Audit images that are already in memory, without files, as one would in a notebook.

Run it with ``python examples/arrays_in_a_notebook.py``.
"""

import labelaudit
from labelaudit.benchmark.corruptions import corrupt_pair
from labelaudit.benchmark.demo import digits


def main(epochs: int | None = None) -> labelaudit.ScanResult:
    """Scan digits of which every tenth has the label of the next digit."""
    images, clean_labels = digits()
    noisy_labels = corrupt_pair(clean_labels, 0.1, num_classes=10, seed=0)

    result = labelaudit.scan(images, noisy_labels, epochs=epochs)

    print(result)
    columns = ["sample_id", "given_label", "suggested_label", "suspect_score"]
    print(result.suspects[columns].head().to_string(index=False))
    print(result.summary["threshold"]["explanation"])
    return result


if __name__ == "__main__":
    main()
