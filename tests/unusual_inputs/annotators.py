"""Labels by several annotators that are bad or unusual."""

import json
from functools import partial

import numpy as np
import pandas as pd
from unusual_input import QUICK, UnusualInput, write_features, write_images

CLASSES = np.array(["cat", "dog", "owl"])
TRUTH = CLASSES[np.arange(60) % 3]
NAMES = "anna,bob,carla"


def _voters(number=3, seed=0, right=0.8, names=("anna", "bob", "carla", "dan", "eve")):
    """Return the labels by annotators, as a data frame of 60 rows with ids."""
    rng = np.random.default_rng(seed)
    columns = {"id": [f"s{row}" for row in range(60)]}
    for name in names[:number]:
        columns[name] = np.where(rng.random(60) < right, TRUTH, rng.choice(CLASSES, 60))
    return pd.DataFrame(columns)


def _predictions(folder, classes=CLASSES):
    """Write predictions that know the truth, with one column per class."""
    rng = np.random.default_rng(1)
    strength = 4.0 * (TRUTH[:, None] == CLASSES) + rng.normal(size=(60, 3))
    probs = np.exp(strength) / np.exp(strength).sum(axis=1, keepdims=True)
    table = pd.DataFrame(probs, columns=list(classes))
    table.insert(0, "id", [f"s{row}" for row in range(60)])
    table.to_parquet(folder / "probs.parquet")


def _with(change, columns=NAMES, *more, classes=CLASSES, file="votes.csv"):
    """Return a function that writes changed votes and returns a quick scan of them."""

    def make(folder):
        frame = change(_voters())
        if file.endswith("parquet"):
            frame.to_parquet(folder / file)
        elif file.endswith("jsonl"):
            frame.to_json(folder / file, orient="records", lines=True)
        else:
            frame.to_csv(folder / file, index=False)
        _predictions(folder, classes)
        asked = [] if columns is None else ["--label-columns", columns]
        return ["scan", file, "--pred-probs", "probs.parquet", "--out", "out", *asked, *more]

    return make


def _same(frame):
    return frame


def _set(rows=slice(None), **columns):
    """Return a function that changes cells of the votes."""

    def change(frame):
        for name, value in columns.items():
            frame[name] = frame[name].astype(object) if name in frame else None
            frame.loc[frame.index[rows], name] = value
        return frame

    return change


def _chained(*changes):
    def change(frame):
        for one in changes:
            frame = one(frame)
        return frame

    return change


def _counts(frame):
    rng = np.random.default_rng(0)
    counts = rng.multinomial(5, [0.4, 0.3, 0.3], len(frame))
    return frame[["id"]].assign(**dict(zip(("anna", "bob", "carla"), counts.T, strict=True)))


def _lists(frame):
    return frame.assign(anna=[[name, name] for name in frame["anna"]])


def _long(frame):
    """One row for each sample and annotator."""
    return frame.melt("id", var_name="who", value_name="label")


def _samples(folder):
    return pd.read_parquet(folder / "out" / "samples.parquet").set_index("sample_id")


def _summary(folder):
    return json.loads((folder / "out" / "summary.json").read_text())


def _accuracy(folder, output, *, annotators=3, warning=None, labeled=60, classes=3):
    """Check counts and that majority and suggestions are mostly right."""
    samples, summary = _samples(folder), _summary(folder)
    assert [one["name"] for one in summary["votes"]["annotators"]][:1] == ["anna"]
    assert len(summary["votes"]["annotators"]) == annotators
    assert summary["num_labeled"] == labeled
    assert summary["num_classes"] == classes
    if warning is not None:
        assert warning in " ".join(summary["warnings"]), summary["warnings"]
        assert warning in " ".join(output.split())
    else:
        assert not any("annotators write" in line for line in summary["warnings"])
    flagged = samples["is_label_issue"]
    final = samples["given_label"].where(~flagged, samples["suggested_label"])
    assert (final.str.lower().str.strip() == TRUTH)[samples["given_label"].notna()].mean() > 0.9


def _is_plain_label(folder, _):
    assert _summary(folder)["votes"] is None
    assert "votes" not in _samples(folder)


def _distrusted(folder, output):
    summary = _summary(folder)
    assert not summary["trust"]["trustworthy"]
    assert any("Annotators agree" in reason for reason in summary["trust"]["reasons"])


def _two_of_three_none(folder, _):
    samples = _samples(folder)
    assert samples["given_label"].isna().sum() == 5
    assert samples["votes"].isna().sum() == 5
    assert samples["agreement"].isna().sum() == 5


def _names_are_exact(folder, _):
    samples = _samples(folder)
    assert set(samples["given_label"]) == {"NA", "null", "007"}


def _warned_of_a_copy(folder, output):
    assert '"anna" and "bob" agree on every sample' in " ".join(output.split())
    assert any("if one is a copy" in line for line in _summary(folder)["warnings"])


def _mistaken(folder, _):
    suspects = pd.read_csv(folder / "out" / "suspects.csv")
    assert suspects["sample_id"].iloc[0] == "s0"
    assert suspects["votes"].iloc[0] == "anna: dog, bob: dog, carla: cat"
    assert suspects["suggested_label"].iloc[0] == "cat"
    assert abs(suspects["agreement"].iloc[0] - 2 / 3) < 1e-9


def _tie_goes_to(label, folder, _):
    assert _samples(folder)["given_label"]["s0"] == label


def _as_numbers(frame):
    codes = dict(zip(CLASSES, range(3), strict=True))
    numbers = frame.assign(**{name: frame[name].map(codes) for name in ("anna", "bob", "carla")})
    numbers["bob"] = numbers["bob"].astype(float)
    numbers.loc[3, "bob"] = np.nan  # pandas then writes all of bob's labels as 1.0
    return numbers


def _number_classes(folder, output):
    _ = output
    assert _summary(folder)["class_names"] == ["0", "1", "2"]


def _fixed(folder, output):
    fixed = pd.read_csv(folder / "votes.fixed.csv", dtype=str, keep_default_na=False)
    votes = pd.read_csv(folder / "votes.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(fixed[votes.columns], votes)
    assert fixed["label"].tolist()[1:] == votes["anna"].tolist()[1:]
    assert fixed["label"][0] == "owl"
    assert "--reviewed" in output


def _apply(folder, more=(), label=False):
    frame = pd.DataFrame({"id": [f"s{row}" for row in range(6)]})
    frame["anna"] = frame["bob"] = [*TRUTH[:5], "owl"]
    if label:
        frame["label"] = frame["anna"]
    frame.to_csv(folder / "votes.csv", index=False)
    decided = {"sample_id": ["s0"], "decision": ["relabel"], "corrected_label": ["owl"]}
    pd.DataFrame(decided).to_csv(folder / "c.csv", index=False)
    return ["apply", "votes.csv", "c.csv", "--label-columns", "anna,bob", *more]


def _folders(folder):
    write_images(folder / "photos")
    return ["scan", "photos", "--label-columns", NAMES, "--out", "out"]


def _repeated_images(folder):
    write_images(folder / "photos")
    lines = ["path,anna,bob"]
    for label in (0, 1):
        lines += [f"class{label}/{row:03d}.png,c{label},c{label}" for row in range(10)]
    lines += ["class0/000.png,c0,c1"]
    (folder / "votes.csv").write_text("\n".join(lines) + "\n")
    return ["scan", "photos", "votes.csv", "--label-columns", "anna,bob", "--out", "out"]


def _photos(folder):
    write_images(folder / "photos")
    lines = ["path,anna,bob,carla"]
    for label in (0, 1):
        for row in range(10):
            third = f"c{1 - label}" if row == 0 else ""
            lines.append(f"class{label}/{row:03d}.png,c{label},c{label},{third}")
    (folder / "votes.csv").write_text("\n".join(lines) + "\n")
    return ["scan", "photos", "votes.csv", "--label-columns", NAMES, *QUICK]


def _votes_of_photos(folder, _):
    samples = _samples(folder)
    assert samples.loc["class0/000.png", "votes"] == "anna: c0, bob: c0, carla: c1"
    assert samples.loc["class0/001.png", "votes"] == "anna: c0, bob: c0"
    assert (folder / "out" / "report.html").is_file()


def _shuffled(frame):
    rng = np.random.default_rng(3)
    for name in ("anna", "bob", "carla"):
        frame[name] = rng.permutation(frame[name])
    return frame


def _tabular(folder):
    write_features(folder)
    frame = _voters(right=0.9)
    features = np.load(folder / "features.npy")
    for column in range(features.shape[1]):
        frame[f"x{column}"] = features[:, column]
    frame["label"] = TRUTH  # for example, the final labels of an earlier round
    frame.to_csv(folder / "votes.csv", index=False)
    return [
        "scan",
        "votes.csv",
        "--tabular",
        "--label-columns",
        NAMES,
        "--epochs",
        "1",
        "--out",
        "out",
    ]


def _no_vote_is_a_feature(folder, _):
    columns = _summary(folder)["columns"]
    used = {name for name, words in columns.items() if not words.startswith("left out")}
    assert used == {"x0", "x1", "x2", "x3"}


REFUSED = [
    (
        "a column of an annotator that does not exist",
        _with(_same, "anna,bbo"),
        r'no column "bbo".*anna, bob',
    ),
    (
        "two columns of annotators that do not exist",
        _with(_same, "x,y,anna"),
        r'no columns "x", "y"',
    ),
    ("one annotator named twice", _with(_same, "anna,bob,anna"), r'"anna" more than once'),
    (
        "columns of annotators and of labels",
        _with(_same, NAMES, "--label-column", "bob"),
        r"--label-columns one for each",
    ),
    (
        "columns of annotators and of verified labels",
        _with(_same, NAMES, "--verified-column", "bob"),
        r"--verified-column marks",
    ),
    ("no name of an annotator", _with(_same, ""), r"--label-columns names the columns"),
    ("only a comma", _with(_same, ","), r"give their names"),
    ("a gap in the names of annotators", _with(_same, "anna,,bob"), r"give their names"),
    ("a comma at the end of the names", _with(_same, "anna,bob,"), r"give their names"),
    ("an annotator's column in another case", _with(_same, "Anna,bob"), r'no column "Anna"'),
    (
        "an annotator who is also the truth",
        _with(_same, NAMES, "--clean-label-column", "bob"),
        r'"bob" is named as',
    ),
    (
        "an annotator who is also the id",
        _with(_same, "id,anna", "--id-column", "id"),
        r'"id" is named as',
    ),
    ("nobody labeled anything", _with(_set(anna="", bob="", carla="")), r"none of the 60"),
    (
        "a single label in all",
        _with(_chained(_set(anna="", bob="", carla=""), _set(slice(1), anna="cat"))),
        r"one class",
    ),
    (
        "all annotators chose one class",
        _with(_set(anna="cat", bob="cat", carla="cat")),
        r"one class",
    ),
    (
        "counts of votes instead of labels",
        _with(_counts),
        r"add up to 5 in every row.*one column per annotator",
    ),
    (
        "lists of labels in a parquet file",
        _with(_lists, file="votes.parquet"),
        r'"anna".*one column per annotator',
    ),
    ("lists of labels in a JSONL file", _with(_lists, file="votes.jsonl"), r'"anna"'),
    ("one row per annotator", _with(_long, "who,label"), r"ids in votes.csv repeat"),
    (
        "one row per annotator, the columns of the wide form",
        _with(_long),
        r'no columns "anna", "bob", "carla"',
    ),
    ("annotators of a folder of classes", _folders, r"label_columns is|--label-columns is"),
    (
        "two rows of an image with other votes",
        _repeated_images,
        r'two labels: "c0 / c0".*"c0 / c1"',
    ),
    ("a table without rows", _with(lambda frame: frame.head(0)), r"is empty"),
    (
        "predictions lack a class of a single vote",
        _with(_set(slice(1), carla="yak")),
        r'no column in .*"yak"',
    ),
    (
        "apply to annotators with an unknown column",
        lambda folder: [*_apply(folder)[:-1], "anna,zoe"],
        r'"zoe"',
    ),
    (
        "apply to annotators beside a column label",
        partial(_apply, label=True),
        r'has a column "label" already',
    ),
    (
        "apply with both kinds of columns",
        partial(_apply, more=("--label-column", "anna")),
        r"use one of them",
    ),
    (
        "apply without naming the annotators",
        lambda folder: _apply(folder)[:3],
        r"no column for the labels",
    ),
]

CHECKED = [
    ("three annotators", _with(_same), _accuracy),
    ("spaces around the names of annotators", _with(_same, " anna , bob,carla"), _accuracy),
    ("one annotator in columns", _with(_same, "anna"), _is_plain_label),
    (
        "an annotator who labeled nothing",
        _with(_set(carla="")),
        partial(_accuracy, warning="has no label"),
    ),
    (
        "samples that nobody labeled",
        _with(_set(slice(5), anna="", bob="", carla="")),
        _two_of_three_none,
    ),
    (
        "an annotator writes Cat for cat",
        _with(lambda f: f.assign(bob=f["bob"].str.title())),
        partial(_accuracy, warning="taken as the same"),
    ),
    (
        "an annotator writes spaces",
        _with(lambda f: f.assign(bob=f["bob"] + " ")),
        partial(_accuracy, warning='"cat " as "cat"'),
    ),
    (
        "numbers as pandas writes them beside empty cells",
        _with(_as_numbers, classes=("0", "1", "2")),
        _number_classes,
    ),
    ("a column copied from another", _with(lambda f: f.assign(bob=f["anna"])), _warned_of_a_copy),
    (
        "annotators who never agree",
        _with(
            lambda f: f.assign(bob=np.roll(CLASSES, 1)[np.arange(60) % 3], anna=TRUTH), "anna,bob"
        ),
        _distrusted,
    ),
    ("columns of annotators in different orders", _with(_shuffled), _distrusted),
    (
        "the majority is wrong",
        _with(
            _chained(
                lambda f: f.assign(anna=TRUTH, bob=TRUTH, carla=TRUTH),
                _set(slice(1), anna="dog", bob="dog"),
            )
        ),
        _mistaken,
    ),
    (
        "classes named NA, null and 007",
        _with(
            lambda f: f.replace({"cat": "NA", "dog": "null", "owl": "007"}),
            classes=("NA", "null", "007"),
        ),
        _names_are_exact,
    ),
    (
        "a tie of two annotators",
        _with(
            _chained(
                lambda f: f.assign(anna=TRUTH, bob=TRUTH),
                _set(slice(1), bob="owl"),
                _set(slice(3, 4), anna="dog", bob="dog"),
            ),
            "anna,bob",
        ),
        partial(_tie_goes_to, "owl"),
    ),
    ("annotators' columns beside features", _tabular, _no_vote_is_a_feature),
    ("annotators of photos", _photos, _votes_of_photos),
    ("apply writes a final column", _apply, _fixed),
]

ROWS = [
    *(UnusualInput(name, make, message=message) for name, make, message in REFUSED),
    *(UnusualInput(name, make, check=check) for name, make, check in CHECKED),
]
