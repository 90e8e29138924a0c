"""Audit the labels of texts with precomputed features.

Run it with ``python examples/texts.py``. It writes 600 short letters, gives every seventh letter a
wrong label, and computes TF-IDF features. The features of a sentence encoder are better::

    features = SentenceTransformer("all-MiniLM-L6-v2").encode(texts)

``python examples/texts.py FOLDER`` only writes ``letters.csv`` and ``features.npy`` to a folder. Row i
of the features belongs to row i of the table, so that you can audit them in a shell::

    labelaudit scan letters.csv --features features.npy
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

import labelaudit

WORDS = {
    "complaint": "broken late refund damaged wrong unhappy return never angry torn missing",
    "praise": "thanks great lovely perfect fast happy again recommend kind quick wonderful",
    "question": "where when how size color available delivery track open which cost",
}
COMMON = "the a my your parcel order shop it was is and with for box I we this very"


def write_letters(count: int = 600) -> pd.DataFrame:
    """Make letters with ids, labels (every seventh is wrong) and true labels."""
    rng = np.random.default_rng(0)
    names = list(WORDS)
    rows = []
    for number in range(count):
        topic = names[number % 3]
        words = [*rng.choice(WORDS[topic].split(), 5), *rng.choice(COMMON.split(), 12)]
        label = names[(number + 1) % 3] if number % 7 == 0 else topic
        text = " ".join(rng.permutation(words))
        rows.append({"id": f"letter-{number:03d}", "text": text, "label": label, "truth": topic})
    return pd.DataFrame(rows)


def compute_features(texts: pd.Series) -> np.ndarray:
    """Compute 40 features of each text."""
    model = make_pipeline(TfidfVectorizer(), TruncatedSVD(40, random_state=0))
    return model.fit_transform(texts)


def write_files(folder: Path) -> None:
    """Write the letters and their features to a folder."""
    letters = write_letters()
    folder.mkdir(exist_ok=True)
    letters.to_csv(folder / "letters.csv", index=False)
    np.save(folder / "features.npy", compute_features(letters["text"]))


def main(out: str | Path | None = None, epochs: int | None = None) -> labelaudit.ScanResult:
    """Scan the letters; with `out` the report shows their texts beside the labels."""
    letters = write_letters()
    features = compute_features(letters["text"])
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "letters.csv"
        letters.to_csv(table, index=False)
        result = labelaudit.scan(
            table, features=features, clean_label_column="truth", out=out, epochs=epochs
        )
    print(result)
    print(f"F1 of the flags: {result.summary['metrics']['f1']:.3f}")
    return result


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_files(Path(sys.argv[1]))
    else:
        main(out="labelaudit-letters")
