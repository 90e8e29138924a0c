"""What holds for every method and every kind of input, in the manner of scikit-learn's checks.

`METHODS` gives the methods, `KINDS` the kinds of input. Each property is one function. The default run
takes each property with the kinds that differ in it; ``-m slow`` takes the whole product.
"""

import copy
import functools
import pickle
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import labelaudit
from labelaudit import LabelauditError, LabelAuditor, LabelauditWarning, find_label_issues
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.benchmark.systems import METHODS
from labelaudit.methods.task import AuditResult, Task
from labelaudit.methods.umn import UMN
from labelaudit.scan_result import ScanResult

CPU = torch.device("cpu")
CLASSES = ("ash", "birch", "cedar")
SIZE = 48
WRONG = (3, 10, 20, 30, 40)  # the rows with wrong labels
TRAINED = {"epochs": 2}  # options of the kinds that something is trained on


@dataclass(frozen=True)
class Data:
    """Samples of which all kinds of input are made, one row per sample.

    `labels` has "" where a sample is unlabeled. `truth` has the right names.
    """

    ids: tuple[str, ...]
    images: np.ndarray  # (N, 6, 6) uint8
    features: np.ndarray  # (N, 4) float32
    labels: tuple[str, ...]
    truth: tuple[str, ...]

    def in_order(self, rows: np.ndarray) -> "Data":
        """Return the same samples in another order."""

        def taken(values: Any) -> Any:
            return (
                values[rows] if isinstance(values, np.ndarray) else tuple(values[r] for r in rows)
            )

        return Data(*[taken(getattr(self, one.name)) for one in fields(self)])

    def renamed(self, names: dict[str, str]) -> "Data":
        """Return the same samples with other names of the classes."""
        new = names | {"": ""}
        return replace(
            self,
            labels=tuple(new[one] for one in self.labels),
            truth=tuple(new[one] for one in self.truth),
        )

    @property
    def probs(self) -> np.ndarray:
        """Predictions of a good model, ``(N, C)``; columns are the sorted classes."""
        names = sorted(set(self.truth))
        right = np.array([names.index(one) for one in self.truth])
        sure = 0.75 + 0.2 * (self.features[:, 3] - self.features[:, 3].min())[:, None] / 9
        return np.where(np.arange(3) == right[:, None], sure, (1 - sure) / 2)


@functools.cache
def small() -> Data:
    """Return samples of three separable classes, with five wrong labels and three missing ones."""
    rng = np.random.default_rng(0)
    right = np.arange(SIZE) % 3
    images = (rng.integers(0, 50, (SIZE, 6, 6)) + 90 * right[:, None, None]).astype(np.uint8)
    features = rng.normal(size=(SIZE, 4)) + 8 * np.eye(4)[right]
    given = right.copy()
    given[list(WRONG)] = (given[list(WRONG)] + 1) % 3
    labels = [CLASSES[one] for one in given]
    for row in (5, 15, 25):
        labels[row] = ""
    ids = tuple(f"{row:03d}.png" for row in range(SIZE))
    truth = tuple(CLASSES[one] for one in right)
    return Data(ids, images, features.astype(np.float32), tuple(labels), truth)


Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def _pictures(data: Data, folder: Path) -> None:
    folder.mkdir()
    for name, pixels in zip(data.ids, data.images, strict=True):
        Image.fromarray(pixels).save(folder / name)


def _table(data: Data, extra: dict[str, Any], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"id": data.ids, **columns, "label": data.labels, **extra})


def images_and_table(data: Data, folder: Path, extra: dict[str, Any]) -> Arguments:
    _pictures(data, folder / "images")
    _table(data, extra).rename(columns={"id": "path"}).to_csv(folder / "labels.csv", index=False)
    return (folder / "images", folder / "labels.csv"), {}


def table_of_images(data: Data, folder: Path, extra: dict[str, Any]) -> Arguments:
    _pictures(data, folder / "images")
    table = _table(data, extra).rename(columns={"id": "path"})
    table["path"] = "images/" + table["path"]
    table.to_csv(folder / "table.csv", index=False)
    return (folder / "table.csv",), {}


def shards(data: Data, folder: Path, extra: dict[str, Any]) -> Arguments:
    _pictures(data, folder / "images")
    cells = [{"bytes": (folder / "images" / one).read_bytes(), "path": one} for one in data.ids]
    table = _table(data, extra, image=cells).drop(columns="id")
    (folder / "data").mkdir()
    for number, part in enumerate(np.array_split(np.arange(len(table)), 2)):
        name = f"train-0000{number}-of-00002.parquet"
        table.iloc[part].to_parquet(folder / "data" / name)
    return (folder / "data",), {}


def table_and_features(data: Data, folder: Path, extra: dict[str, Any]) -> Arguments:
    _table(data, extra).to_csv(folder / "table.csv", index=False)
    np.save(folder / "features.npy", data.features)
    return (folder / "table.csv",), {"features": folder / "features.npy"}


def parquet_with_embeddings(data: Data, folder: Path, extra: dict[str, Any]) -> Arguments:
    _table(data, extra, embedding=list(data.features)).to_parquet(folder / "all.parquet")
    return (folder / "all.parquet",), {"features": "embedding"}


def tabular(data: Data, folder: Path, extra: dict[str, Any]) -> Arguments:
    columns = {f"x{number}": data.features[:, number] for number in range(4)}
    _table(data, extra, **columns).to_csv(folder / "table.csv", index=False)
    return (folder / "table.csv",), {"tabular": True, "id_column": "id"}


def array_of_images(data: Data, folder: Path, extra: dict[str, Any]) -> Arguments:
    return (data.images.copy(), list(data.labels)), {}


def list_of_pictures(data: Data, folder: Path, extra: dict[str, Any]) -> Arguments:
    return ([Image.fromarray(pixels) for pixels in data.images], list(data.labels)), {}


def tensor_of_features(data: Data, folder: Path, extra: dict[str, Any]) -> Arguments:
    return (torch.from_numpy(data.features.copy()), np.array(data.labels, dtype=object)), {}


def frame_of_features(data: Data, folder: Path, extra: dict[str, Any]) -> Arguments:
    frame = pd.DataFrame(data.features, index=list(data.ids))
    return (frame, pd.Series(data.labels, index=frame.index)), {}


def predictions(data: Data, folder: Path, extra: dict[str, Any]) -> Arguments:
    (folder / "one").mkdir()
    arguments, _ = table_and_features(data, folder / "one", extra)
    probs = pd.DataFrame(data.probs, columns=sorted(set(data.truth)))
    probs.insert(0, "id", data.ids)
    probs.to_csv(folder / "probs.csv", index=False)
    return arguments, {"pred_probs": folder / "probs.csv"}


def predictions_of_several(data: Data, folder: Path, extra: dict[str, Any]) -> Arguments:
    arguments, _ = table_and_features(data, folder, extra)
    names = sorted(set(data.truth))
    models = [data.probs, 0.8 * data.probs + 0.2 / 3]
    frames = [pd.DataFrame(one, columns=names, index=list(data.ids)) for one in models]
    return arguments, {"pred_probs": frames}


ON_DISK = (
    images_and_table,
    table_of_images,
    shards,
    table_and_features,
    parquet_with_embeddings,
    tabular,
    predictions,
)
IN_MEMORY = (
    array_of_images,
    list_of_pictures,
    tensor_of_features,
    frame_of_features,
    predictions_of_several,
)
KINDS = {kind.__name__: kind for kind in (*ON_DISK, *IN_MEMORY)}
# The kinds that differ in what is done with their samples, and not only in how they are read.
DIFFERENT = ("array_of_images", "table_and_features", "tabular", "predictions")
OF_PIXELS = (
    "images_and_table",
    "table_of_images",
    "shards",
    "array_of_images",
    "list_of_pictures",
)
NAMED_ROWS = tuple(kind.__name__ for kind in ON_DISK if kind is not shards)


def audit(kind: str, data: Data, extra: dict[str, Any] | None = None, **options: Any) -> ScanResult:
    """Scan data as one kind of input. The files are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        arguments, own = KINDS[kind](data, Path(folder), extra or {})
        before = [copy.deepcopy(one) for one in arguments if not isinstance(one, Path)]
        trained = {} if "pred_probs" in own else TRAINED
        result = labelaudit.scan(
            *arguments, device="cpu", verbose=False, **(trained | own | options)
        )
        after = [one for one in arguments if not isinstance(one, Path)]
        assert all(map(_same, before, after)), "scan changed what it was given"
    others = [one for one in told if not issubclass(one.category, LabelauditWarning)]
    assert not [one for one in others if "labelaudit" in one.filename], [str(o) for o in others]
    return result


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, pd.DataFrame | pd.Series):
        return bool(one.equals(other))
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


@functools.cache
def first(kind: str) -> ScanResult:
    """Return the result that the properties of a kind share."""
    return audit(kind, small())


def by_id(result: ScanResult) -> pd.DataFrame:
    """Return the columns that a person acts on, by sample id without folders."""
    names = ["given_label", "suggested_label", "suspect_score", "is_label_issue"]
    table = result.samples.set_index(result.samples["sample_id"].str.rpartition("/")[2])
    return table[names].sort_index()


def check_rows_come_back(kind: str) -> None:
    """One row per sample, in the order of the input, with its id and its label as given."""
    table, data = first(kind).samples, small()
    assert table["given_label"].fillna("").tolist() == list(data.labels)
    if kind in NAMED_ROWS:
        assert [one.rpartition("/")[2] for one in table["sample_id"]] == list(data.ids)
    assert table["sample_id"].is_unique


def check_scores_are_in_range(kind: str) -> None:
    """Scores and probabilities are finite and in [0, 1]; probabilities sum to 1."""
    result = first(kind)
    labeled = result.samples[result.samples["given_label"].notna()]
    for name in ("suspect_score", "label_score", "suggested_prob", "predicted_prob", "ambiguity"):
        assert labeled[name].between(0, 1).all(), name
    np.testing.assert_allclose(result.pred_probs.sum(axis=1), 1, rtol=1e-4)
    assert sorted(labeled["rank"]) == list(range(1, len(labeled) + 1))


def check_unlabeled_are_never_suspects(kind: str) -> None:
    """A sample without a label has a prediction, but neither a score nor a suggestion."""
    table = first(kind).samples
    unlabeled = table[table["given_label"].isna()]
    assert len(unlabeled) == 3
    assert not unlabeled["is_label_issue"].any()
    assert unlabeled[["suspect_score", "suggested_label", "rank"]].isna().all(axis=None)
    assert unlabeled["predicted_label"].isin(CLASSES).all()


def check_suggestions_are_other_classes(kind: str) -> None:
    """A suggestion is a class of the data, and never the given label."""
    table = first(kind).samples
    labeled = table[table["given_label"].notna()]
    assert labeled["suggested_label"].isin(CLASSES).all()
    assert (labeled["suggested_label"] != labeled["given_label"]).all()


def check_same_seed_same_result(kind: str) -> None:
    """The random state of the caller does not matter, nor is it used up."""
    reference = first(kind)
    np.random.seed(7)  # noqa: NPY002 - the state that others may use
    torch.manual_seed(7)
    states = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    again = audit(kind, small())
    tables = [one.samples.drop(columns="path") for one in (again, reference)]
    pd.testing.assert_frame_equal(*tables)
    np.testing.assert_array_equal(again.pred_probs, reference.pred_probs)
    np.testing.assert_array_equal(states[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(states[1], torch.get_rng_state())


def check_number_of_threads_does_not_matter(kind: str) -> None:
    """Threads share the work without changing the result."""
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = audit(kind, small())
    finally:
        torch.set_num_threads(threads)
    pd.testing.assert_frame_equal(by_id(again), by_id(first(kind)))


def check_names_of_classes_do_not_matter(kind: str) -> None:
    """Other names in the same order give the same result, under the other names."""
    names = dict(zip(CLASSES, ("10 a", "11 b", "12 ç"), strict=True))
    renamed, plain = by_id(audit(kind, small().renamed(names))), by_id(first(kind))
    for name in ("given_label", "suggested_label"):
        plain[name] = plain[name].map(names)
    pd.testing.assert_frame_equal(renamed, plain)


def check_clean_labels_do_not_matter(kind: str) -> None:
    """Clean labels are for measuring, and never for ranking."""
    if kind not in {one.__name__ for one in ON_DISK}:
        pytest.skip("clean labels are a column of a table")
    scored = audit(kind, small(), {"clean": small().truth}, clean_label_column="clean")
    assert scored.summary.metrics
    pd.testing.assert_frame_equal(by_id(scored), by_id(first(kind)))


def check_other_columns_do_not_matter(kind: str) -> None:
    """Columns that are not read change nothing; of `tabular`, constant ones are none."""
    if kind not in {one.__name__ for one in ON_DISK}:
        pytest.skip("there is no table")
    extra = {"constant": ["always"] * SIZE}
    if kind != "tabular":
        extra["note"] = [f"note {row}" for row in range(SIZE)]
    pd.testing.assert_frame_equal(by_id(audit(kind, small(), extra)), by_id(first(kind)))


def check_result_can_be_pickled(kind: str) -> None:
    """A result can be sent to another process, and shows the same there."""
    result = first(kind)
    copied = pickle.loads(pickle.dumps(result))
    pd.testing.assert_frame_equal(copied.samples, result.samples)
    assert copied.summary == result.summary
    assert repr(copied) == repr(result)


def _enough(kind: str) -> dict[str, Any]:
    """Return the epochs after which a network of pixels knows the classes; features tell them."""
    return {"epochs": 60} if kind in OF_PIXELS else {}


def check_order_of_rows_does_not_matter(kind: str) -> None:
    """The same samples are suspects in any order.

    Where nothing is trained, scores are the same but for rounding. Training draws its batches by
    row, so another order is another draw, and scores differ as between two seeds.
    """
    rows = np.random.default_rng(3).permutation(SIZE)
    moved = audit(kind, small().in_order(rows), **_enough(kind)).samples
    plain = first(kind).samples
    places = np.argsort(rows)
    if kind in NAMED_ROWS:  # a folder is read by name, whatever the order of the table
        places = np.argsort(moved["sample_id"].str.rpartition("/")[2].to_numpy())
    moved = moved.iloc[places].reset_index(drop=True)
    assert moved["given_label"].equals(plain["given_label"])
    if "predictions" in kind:
        np.testing.assert_allclose(moved["suspect_score"], plain["suspect_score"], atol=1e-6)
        assert moved["is_label_issue"].equals(plain["is_label_issue"])
    else:
        assert set(moved["rank"].nsmallest(5).index) == set(WRONG)


def check_order_of_classes_does_not_matter(kind: str) -> None:
    """Names that sort differently give the same suspects; see `check_order_of_rows_does_not_matter`."""
    names = dict(zip(CLASSES, ("z", "y", "x"), strict=True))
    renamed = audit(kind, small().renamed(names), **_enough(kind)).samples
    plain = first(kind).samples
    if "predictions" in kind:
        np.testing.assert_allclose(renamed["suspect_score"], plain["suspect_score"], atol=1e-6)
        expected = plain["suggested_label"].map(names)
        flagged = plain["is_label_issue"]
        assert renamed.loc[flagged, "suggested_label"].equals(expected[flagged])
    else:
        assert set(renamed["rank"].nsmallest(5).index) == set(WRONG)


PROPERTIES: dict[Callable[[str], None], tuple[str, ...]] = {
    # Those that need no further scan are held by every kind.
    check_rows_come_back: tuple(KINDS),
    check_scores_are_in_range: tuple(KINDS),
    check_unlabeled_are_never_suspects: tuple(KINDS),
    check_suggestions_are_other_classes: tuple(KINDS),
    check_result_can_be_pickled: tuple(KINDS),
    check_same_seed_same_result: DIFFERENT,
    check_number_of_threads_does_not_matter: DIFFERENT,
    check_names_of_classes_do_not_matter: DIFFERENT,
    check_order_of_rows_does_not_matter: DIFFERENT[1:],
    check_order_of_classes_does_not_matter: DIFFERENT[1:],
    check_clean_labels_do_not_matter: DIFFERENT[1:],
    check_other_columns_do_not_matter: DIFFERENT[1:],
}


def _product() -> list[Any]:
    return [
        pytest.param(
            kind,
            check,
            id=f"{kind}-{check.__name__.removeprefix('check_')}",
            marks=[] if kind in quick else [pytest.mark.slow],
        )
        for kind in KINDS
        for check, quick in PROPERTIES.items()
    ]


@pytest.mark.parametrize(("kind", "check"), _product())
def test_kinds_of_input(kind, check):
    check(kind)


# What each kind of arrays is asked, and what a wrong one is. All must end in a LabelauditError.
FEATURES, LABELS = small().features, np.array(small().labels, dtype=object)
BAD_SAMPLES = {
    "no rows": FEATURES[:0],
    "no columns": FEATURES[:, :0],
    "one number": np.float32(3),
    "one row": FEATURES[0],
    "five axes": np.zeros((SIZE, 2, 2, 2, 2), np.uint8),
    "other length": FEATURES[:-1],
    "not a number": np.where(np.arange(4) == 2, np.nan, FEATURES),
    "infinite": np.where(np.arange(4) == 2, np.inf, FEATURES),
    "complex": FEATURES.astype(np.complex64),
    "text": np.full((SIZE, 4), "x"),
    "dates": np.full((SIZE, 4), np.datetime64("2020-01-01")),
    "ragged": [[1.0] * (1 + row % 2) for row in range(SIZE)],
    "five channels": np.zeros((SIZE, 4, 4, 5), np.uint8),
    "none": None,
    "a number": 7,
    "a mapping": {"a": 1},
    "a function": len,
}
BAD_LABELS = {
    "none of them": np.full(SIZE, -1),
    "all empty": [""] * SIZE,
    "one class": ["ash"] * SIZE,
    "one too few": LABELS[:-1],
    "two axes": np.zeros((SIZE, 2), np.int64),
    "lists": [["ash"]] * SIZE,
    "mappings": [{"a": 1}] * SIZE,
    "objects": [object()] * SIZE,
    "complex": np.arange(SIZE) * 1j,
    "a number": 3,
    "a mapping": {"a": 1},
}
BAD_PROBS = {
    "no rows": np.zeros((0, 3)),
    "one axis": np.full(SIZE, 0.5),
    "one column": np.ones((SIZE, 1)),
    "other length": small().probs[:-1],
    "not a number": np.full((SIZE, 3), np.nan),
    "negative": small().probs - 1,
    "all zero": np.zeros((SIZE, 3)),
    "text": np.full((SIZE, 3), "x"),
    "complex": small().probs * 1j,
    "none": None,
    "empty list": [],
    "a number": 7,
    "models of other classes": [small().probs, np.full((SIZE, 4), 0.25)],
}


def _refused(call: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(LabelauditError) as refused:
            call()
    assert str(refused.value).strip()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("bad", BAD_SAMPLES)
def test_samples_that_cannot_be_used(bad):
    samples = BAD_SAMPLES[bad]
    _refused(lambda: labelaudit.scan(samples, LABELS, epochs=1, verbose=False))
    _refused(lambda: LabelAuditor(epochs=1).fit(samples, LABELS))


@pytest.mark.parametrize("bad", BAD_LABELS)
def test_labels_that_cannot_be_used(bad):
    labels = BAD_LABELS[bad]
    _refused(lambda: labelaudit.scan(FEATURES, labels, epochs=1, verbose=False))
    _refused(lambda: LabelAuditor(epochs=1).fit(FEATURES, labels))
    _refused(lambda: find_label_issues(labels, small().probs))


@pytest.mark.parametrize("bad", BAD_PROBS)
def test_predictions_that_cannot_be_used(bad):
    _refused(lambda: find_label_issues(LABELS, BAD_PROBS[bad]))


BAD_OPTIONS = {
    "epochs": (0, -1, 1.5, "many", float("nan")),
    "batch_size": (0, -3, "x"),
    "seed": ("x", 1.5),
    "threshold": ("", "best", "top:-1", "rate:2", "7", "nan", 3j),
    "encoder": ("", "resnet", 5),
    "device": ("", "gpu", 7),
    "score": ("", "best"),
    "time_budget": (0, -1, "x"),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, one) for name, values in BAD_OPTIONS.items() for one in values]
)
def test_options_that_cannot_be_used(name, value):
    _refused(lambda: LabelAuditor(**{"epochs": 1, name: value}).fit(FEATURES, LABELS))


@pytest.mark.parametrize("kind", ["array_of_images", "table_and_features"])
def test_an_interrupted_scan_gives_what_it_has(kind, monkeypatch):
    step, steps = UMN.step, []

    def stopped(self, batch):
        steps.append(1)
        if len(steps) > 60:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(UMN, "step", stopped)
    result = audit(kind, small(), epochs=500)
    assert result.summary.status == "interrupted"
    assert 1 <= result.summary.epochs < 500
    labeled = result.samples[result.samples["given_label"].notna()]
    assert labeled["suspect_score"].between(0, 1).all()


@functools.cache
def task(reads: str) -> Task:
    """Return the input of a method: 90 samples, a fifth of the labels wrong, and six without one."""
    rng = np.random.default_rng(0)
    right = np.arange(96) % 3
    given = corrupt_symmetric(right, 0.2, 3, seed=1)
    given[:6] = -1
    if reads == "pixels":
        inputs = rng.integers(0, 60, (96, 1, 8, 8)) + 80 * right[:, None, None, None]
        inputs, encoder = inputs.astype(np.uint8), "mlp"
    else:
        points = rng.normal(size=(96, 5)) + 4 * np.eye(5)[right]
        inputs, encoder = points.astype(np.float32)[:, :, None, None], "features"
    return Task(inputs, given, 3, encoder, CPU, seed=2, epochs=1, test_inputs=inputs[:7])


def _run(method: str, reads: str, **changes: Any) -> AuditResult:
    system, one = METHODS[method](), task(reads)
    if system.needs_trusted:
        rows = np.arange(6, 18)
        one = replace(one, trusted=(rows, rows % 3))
    if system.needs_noise_rate:
        one = replace(one, noise_rate=0.2)
    before = one.inputs.copy(), one.noisy_labels.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other libraries, about data this small
        result = system.audit(replace(one, **changes))
    assert np.array_equal(before[0], one.inputs), "the method changed its inputs"
    assert np.array_equal(before[1], one.noisy_labels), "the method changed its labels"
    return result


SLOW_METHODS = {"supervised-resnet101"}


@pytest.mark.parametrize(
    ("method", "reads"),
    [
        pytest.param(method, reads, marks=[pytest.mark.slow] if method in SLOW_METHODS else [])
        for method, system in METHODS.items()
        for reads in sorted(system.reads)
    ],
)
def test_methods(method, reads):
    if METHODS[method].library:
        pytest.importorskip(METHODS[method].library)
    labeled = len(task(reads).labeled)
    result = _run(method, reads)
    assert result.suspect_score.shape == result.flagged.shape == (labeled,)
    assert result.flagged.dtype == bool
    assert np.isfinite(result.suspect_score).all()
    assert result.epochs >= 0
    assert all(mask.shape == (labeled,) and mask.dtype == bool for mask in result.variants.values())
    if result.wrong_prob is not None:
        assert ((result.wrong_prob >= 0) & (result.wrong_prob <= 1)).all()
    if result.test_probs is not None:
        assert result.test_probs.shape == (7, 3)
        np.testing.assert_allclose(result.test_probs.sum(axis=1), 1, rtol=1e-4)
    copied = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(copied.suspect_score, result.suspect_score)

    np.random.seed(9)  # noqa: NPY002 - the state that others may use
    torch.manual_seed(9)
    # What is to be predicted besides is not learned from, and chance belongs to the seed alone.
    again = _run(method, reads, test_inputs=None)
    np.testing.assert_array_equal(again.suspect_score, result.suspect_score)
    np.testing.assert_array_equal(again.flagged, result.flagged)
    assert again.test_probs is None
