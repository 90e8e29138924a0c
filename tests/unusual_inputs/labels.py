"""Labels, clean labels, marks and class names that are written in unusual ways."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from unusual_input import UnusualInput, write_features

# Predictions need no training, so they are the fastest way to a result.
CLEAN = ["--pred-probs", "probs.npy", "--out", "out", "--clean-label-column", "clean"]
NUM_WRONG = 6


def _labels(folder):
    """Write features; return given labels, of which `NUM_WRONG` of 60 are wrong, and clean labels."""
    clean = write_features(folder)
    np.save(folder / "probs.npy", 0.04 + 0.88 * np.eye(3)[clean])
    given = clean.copy()
    given[:NUM_WRONG] = (given[:NUM_WRONG] + 1) % 3
    return given, clean


def _clean_as(given_name, clean_name):
    """Write a table whose given and clean labels are named by two functions of the class number."""

    def make(folder):
        given, clean = _labels(folder)
        frame = pd.DataFrame({"label": map(given_name, given), "clean": map(clean_name, clean)})
        frame.to_csv(folder / "l.csv", index=False)
        return ["scan", "l.csv", *CLEAN]

    return make


def _summary(folder):
    return json.loads((folder / "out" / "summary.json").read_text())


def _finds_the_truth(folder, output):
    assert _summary(folder)["metrics"]["num_wrong"] == NUM_WRONG, output
    assert "written another way" in output


def _is_exact(folder, output):
    assert _summary(folder)["metrics"]["num_wrong"] == NUM_WRONG, output
    assert "written another way" not in output


def _says(words, num_wrong=None):
    def check(folder, output):
        assert words in " ".join(output.split()), output
        if num_wrong is not None:
            assert _summary(folder)["metrics"]["num_wrong"] == num_wrong

    return check


NAMES = ("ant", "bee", "cow")


def _float_given(folder):
    given, clean = _labels(folder)
    pd.DataFrame({"label": pd.Series(given, dtype=float), "clean": clean}).to_csv(
        folder / "l.csv", index=False
    )
    return ["scan", "l.csv", *CLEAN]


def _tabular(folder):
    given, clean = _labels(folder)
    frame = pd.DataFrame(np.load(folder / "features.npy"), columns=list("wxyz"))
    frame["label"], frame["clean"] = given.astype(float), clean
    frame.to_csv(folder / "l.csv", index=False)
    return ["scan", "l.csv", "--tabular", "--epochs", "1", *CLEAN[2:]]


def _class_label(label_names, clean_names, label=None, clean=None):
    """Write a parquet file, of which either column may be a ClassLabel of Hugging Face."""

    def make(folder):
        given, true = _labels(folder)
        features = {
            column: {"names": names, "_type": "ClassLabel"}
            for column, names in (("label", label_names), ("clean", clean_names))
            if names is not None
        }
        info = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        table = pa.table(
            {
                "label": [label(one) for one in given] if label else given,
                "clean": [clean(one) for one in true] if clean else true,
            }
        )
        pq.write_table(table.replace_schema_metadata(info), folder / "l.parquet")
        return ["scan", "l.parquet", *CLEAN]

    return make


def _shifted(folder):
    given, clean = _labels(folder)
    pd.DataFrame({"label": given + 1, "clean": clean}).to_csv(folder / "l.csv", index=False)
    return ["scan", "l.csv", *CLEAN]


def _verified(words):
    def make(folder):
        given, _ = _labels(folder)
        marks = [words[row % len(words)] for row in range(len(given))]
        pd.DataFrame({"label": given, "done": marks}).to_csv(folder / "l.csv", index=False)
        return ["scan", "l.csv", *CLEAN[:4], "--verified-column", "done"]

    return make


def _half_is_verified(folder, output):
    assert "30 labels are verified" in output


def _first_labels(folder):
    given, clean = _labels(folder)
    frame = pd.DataFrame({"label": clean, "verified": ["yes"] * NUM_WRONG + [""] * 54})
    frame["first_label"] = [float(one) for one in given[:NUM_WRONG]] + [None] * 54
    frame.to_csv(folder / "l.csv", index=False)
    return ["scan", "l.csv", *CLEAN[:4], "--verified-column", "verified"]


def _knows_the_first_labels(folder, output):
    assert "6 labels are verified" in output
    samples = pd.read_parquet(folder / "out" / "samples.parquet")
    assert samples["verified"].sum() == NUM_WRONG


def _predictions(columns, suffix="csv", label=str):
    def make(folder):
        given, clean = _labels(folder)
        probs = 0.04 + 0.88 * np.eye(3)[clean]
        frame = pd.DataFrame(probs, columns=columns)
        frame.insert(0, "id", [f"s{row}" for row in range(60)])
        frame.to_csv(folder / f"p.{suffix}", index=False)
        ids = frame["id"]
        pd.DataFrame({"id": ids, "label": map(label, given)}).to_csv(folder / "l.csv", index=False)
        return ["scan", "l.csv", "--pred-probs", f"p.{suffix}", "--out", "out"]

    return make


def _flags_the_wrong(folder, output):
    worst = pd.read_csv(folder / "out" / "suspects.csv")["sample_id"][:NUM_WRONG]
    assert sorted(worst) == [f"s{row}" for row in range(NUM_WRONG)], output


def _corrections_as(corrected, given):
    def make(folder):
        (folder / "l.csv").write_text("id,label\na,1\nb,2\nc,1\n")
        lines = ["sample_id,given_label,decision,corrected_label", f"a,{given},relabel,{corrected}"]
        (folder / "corrections.csv").write_text("\n".join(lines) + "\n")
        return ["apply", "l.csv", "corrections.csv"]

    return make


def _a_is_2(folder, output):
    fixed = pd.read_csv(folder / "l.fixed.csv", dtype=str)
    assert fixed["label"].tolist() == ["2", "2", "1"], output


CLEAN_FORMS = [
    ("given floats, clean integers", _float_given, _finds_the_truth),
    ("given integers, clean floats", _clean_as(str, lambda k: f"{k}.0"), _finds_the_truth),
    ("given integers, clean 1.00", _clean_as(str, lambda k: f"{k}.00"), _finds_the_truth),
    ("given integers, clean 1e0", _clean_as(str, lambda k: f"{k}e0"), _finds_the_truth),
    ("given integers, clean +1", _clean_as(str, lambda k: f"+{k}"), _finds_the_truth),
    ("given integers, clean padded", _clean_as(str, lambda k: f"0{k}"), _finds_the_truth),
    ("given padded, clean integers", _clean_as(lambda k: f"00{k}", str), _finds_the_truth),
    ("clean capitals", _clean_as(NAMES.__getitem__, lambda k: NAMES[k].upper()), _finds_the_truth),
    ("clean with a space", _clean_as(NAMES.__getitem__, lambda k: f" {NAMES[k]} "), _finds_the_truth),
    ("clean in title case", _clean_as(NAMES.__getitem__, lambda k: NAMES[k].title()), _finds_the_truth),
    ("clean decomposed", _clean_as("ÄÖÜ".__getitem__, ["A\u0308", "O\u0308", "U\u0308"].__getitem__),
     _finds_the_truth),
    ("clean in full width", _clean_as("ABC".__getitem__, "ＡＢＣ".__getitem__), _finds_the_truth),
    ("letters that differ only in case", _clean_as("aAb".__getitem__, "aAb".__getitem__), _is_exact),
    ("names, and clean a ClassLabel", _class_label(None, NAMES, label=NAMES.__getitem__), _is_exact),
    ("integers, and clean a ClassLabel", _class_label(None, NAMES), _is_exact),
    ("a ClassLabel, clean integers", _class_label(NAMES, None), _finds_the_truth),
    ("a ClassLabel, clean floats", _class_label(NAMES, None, clean=float), _finds_the_truth),
    ("a ClassLabel, clean texts of integers", _class_label(NAMES, None, clean=str), _finds_the_truth),
    ("a ClassLabel, clean names", _class_label(NAMES, None, clean=NAMES.__getitem__), _is_exact),
    ("two ClassLabels in another order",
     _class_label(NAMES, NAMES[::-1], clean=lambda k: 2 - k), _is_exact),
    ("clean floats in a table of features", _tabular, _finds_the_truth),
]  # fmt: skip

ROWS = [
    *(UnusualInput(name, make, check=check) for name, make, check in CLEAN_FORMS),
    UnusualInput(
        "clean numbers of named classes",
        _clean_as(NAMES.__getitem__, str),
        message='no clean label names a class.*"0", "1", "2".*"ant", "bee".*--clean-label-column',
    ),
    UnusualInput(
        "clean names of numbered classes",
        _clean_as(str, NAMES.__getitem__),
        message='no clean label names a class.*"ant"',
    ),
    UnusualInput(
        "clean labels in another language",
        _clean_as(("cat", "dog", "cow").__getitem__, ("Katze", "Hund", "Kuh").__getitem__),
        message="no clean label names a class",
    ),
    UnusualInput("clean labels that count from 0", _shifted, check=_says("no more than by chance")),
    UnusualInput(
        "one clean class of another name",
        _clean_as(("cat", "dog", "cow").__getitem__, ("cat", "dog", "cattle").__getitem__),
        check=_says('20 of 60 clean labels name no class that a given label has: "cattle"'),
    ),
    *(
        UnusualInput(f"marks {words[0]} and {words[1] or 'nothing'}", _verified(words),
                     check=_half_is_verified)
        for words in (("1.0", "0.0"), ("1.0", ""), ("True", "False"), ("T", "F"), ("YES", "nan"))
    ),
    UnusualInput("a mark that is a date", _verified(("2024-01-01", "")), message="l.csv line 2"),
    UnusualInput("first labels as floats", _first_labels, check=_knows_the_first_labels),
    UnusualInput("predictions of 0.0, 1.0, 2.0", _predictions(["0.0", "1.0", "2.0"]),
                 check=_flags_the_wrong),
    UnusualInput("predictions of ANT", _predictions(["ANT", "BEE", "COW"], label=NAMES.__getitem__),
                 check=_flags_the_wrong),
    UnusualInput("predictions by index", _predictions(["0", "1", "2"], label=NAMES.__getitem__),
                 check=_flags_the_wrong),
    UnusualInput("predictions of other classes", _predictions(["x", "y", "z"]),
                 message="3 of the labels' classes have no column"),
    UnusualInput("corrections as floats", _corrections_as("2.0", "1.0"), check=_a_is_2),
    UnusualInput("a corrected label with leading zeros", _corrections_as("02", "1"),
                 message='no class "02".*did you mean "2"'),
]  # fmt: skip
