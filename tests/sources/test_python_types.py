"""Types that other libraries give: each is taken as what it means, or refused by its name."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from labelaudit.errors import OptionError, SourceError
from labelaudit.sources.samples import read_samples


def _tensor(change):
    return lambda x: change(torch.tensor(x))


FEATURES = np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)
TAKEN_AS_FEATURES = {
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "Fortran order": np.asfortranarray,
    "big endian": lambda x: x.astype(">f4"),
    "long doubles": lambda x: x.astype(np.longdouble),
    "objects": lambda x: x.astype(object),
    "a memoryview": memoryview,
    "a matrix": np.asmatrix,
    "a masked array without a mask": np.ma.array,
    "nullable columns": lambda x: pd.DataFrame(x).convert_dtypes(),
    "Arrow columns": lambda x: pd.DataFrame(x).astype("float32[pyarrow]"),
    "sparse columns": lambda x: pd.DataFrame(x).astype(pd.SparseDtype("float32", 0)),
    "an Arrow table": lambda x: pa.table({str(k): x[:, k] for k in range(3)}),
    "a tensor with a gradient": _tensor(lambda t: t.requires_grad_()),
    "a tensor of bfloat16": _tensor(lambda t: t.bfloat16()),
    "a parameter": _tensor(lambda t: torch.nn.Parameter(t)),
    "tensors in a list": _tensor(lambda t: list(t)),
    "tuples": lambda x: tuple(map(tuple, x.tolist())),
}
REFUSED = {
    "a generator": (lambda x: (row for row in x), "the source is a generator; give a path"),
    "a sparse matrix": (lambda x: pytest.importorskip("scipy.sparse").csr_matrix(x),
                        "csr_matrix.*sparse"),
    "a sparse tensor": (_tensor(lambda t: t.to_sparse()), r"torch\.sparse_coo.*to_dense"),
    "a tensor without data": (_tensor(lambda t: t.to("meta")), "cannot be made an array"),
    "a quantized tensor": (
        _tensor(lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)), "qint8"),
    "masked values": (lambda x: np.ma.masked_less(x, 0), "masked values"),
    "complex numbers": (lambda x: x + 1j, "complex64"),
    "dates": (lambda x: x.astype("M8[s]"), "datetime64"),
    "a dict": (lambda x: {"x": x}, "the source is a dict"),
    "a set": (lambda x: {1, 2}, "the source is a set"),
    "an iterator": (lambda x: iter(x), "iterator"),
    "dates in a column": (
        lambda x: pd.DataFrame({"day": pd.date_range("2020", periods=12)}), '"day" .* datetime64'),
    "categories": (
        lambda x: pd.DataFrame({"kind": pd.Categorical(["a", "b"] * 6)}), '"kind" .* category'),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN_AS_FEATURES)
def test_types_that_are_taken_as_features(name: str) -> None:
    found = read_samples(TAKEN_AS_FEATURES[name](FEATURES), ["a", "b", "c"] * 4)
    np.testing.assert_allclose(found.features, FEATURES, atol=0.02)


@pytest.mark.parametrize("name", REFUSED)
def test_types_that_are_refused_by_name(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises((OptionError, SourceError), match=message) as raised:
        read_samples(make(FEATURES), ["a", "b", "c"] * 4)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "labels",
    [
        pd.Categorical(["a", "b", "c"] * 4),
        pd.Series(["a", "b", "c"] * 4, index=range(50, 62), dtype="string"),
        pd.Series(["a", "b", "c"] * 4, dtype="string[pyarrow]"),
        pa.array(["a", "b", "c"] * 4),
        pa.chunked_array([["a", "b", "c"]] * 4),
        pd.DataFrame({"label": ["a", "b", "c"] * 4}),
        (name for name in ["a", "b", "c"] * 4),
        np.array(["a", "b", "c"] * 4, dtype=object),
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_types_that_are_taken_as_labels(labels) -> None:
    manifest = read_samples(FEATURES, labels).source.manifest
    assert manifest.class_names == ("a", "b", "c")
    assert manifest.noisy_labels.tolist() == [0, 1, 2] * 4


@pytest.mark.parametrize("labels", [{"a": 1}, {1, 2}, b"abc", 3])
def test_types_that_are_refused_as_labels(labels) -> None:
    with pytest.raises((OptionError, SourceError), match=f"type {type(labels).__name__}"):
        read_samples(FEATURES, labels)


@pytest.mark.parametrize("features", [{"x": 1}, 3, b"x", (row for row in FEATURES)])
def test_types_that_are_refused_as_features(features, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("id,label\n1,a\n2,b\n")
    with pytest.raises(OptionError, match=f"features= is an? {type(features).__name__}"):
        read_samples(tmp_path / "l.csv", features=features)
