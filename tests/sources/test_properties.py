"""Random tables and arrays in every role: a right source, or one clear line; never anything else.

`LABELAUDIT_EXAMPLES` is the number of examples of the nightly run.
"""

import csv
import gzip
import io
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from labelaudit.errors import LONGEST, LabelauditError
from labelaudit.sources.feature_tables import FeatureSource, TableSource
from labelaudit.sources.prediction_files import PredictionSource, join_predictions
from labelaudit.sources.samples import read_samples

ROWS = 8
SECONDS = 20  # an example that takes longer hangs
NIGHTLY = int(os.environ.get("LABELAUDIT_EXAMPLES", "20000"))

# --- names, cells and columns -------------------------------------------------------------------

IMAGES = [f"{'ab'[i % 2]}/{i}.png" for i in range(ROWS)]
_NAMES = """path label id sample_id image file_name class target split clean features embedding v x a b
    verified first_label __index_level_0__ LABEL label.1 a.b"""
NAMES = st.sampled_from(
    [*_NAMES.split(), " label ", "", " ", "\n", "\0", "\u00e9", "e\u0301", "\ud800", "n" * 300]
)
_TEXTS = r"""NA null nan -1 1.0 1e999 007 /etc/passwd ../a/0.png \\srv\x.png C:\a\0.png a/ . train test
    yes excluded =1+1 a/0.PNG"""
_ODD = ["", " ", "\n", "\0", "\ud800", "\u00e9", "e\u0301", '"', "\u202e", "x" * 300, "w " * 70_000]
ODD_TEXTS = st.sampled_from([*_TEXTS.split(), *_ODD])
TEXTS = ODD_TEXTS | st.text(max_size=8) | st.floats().map(str)
LABELS = st.sampled_from(["a", "b", "cat"]) | TEXTS
NUMBERS = st.integers(-3, 3) | st.integers() | st.sampled_from([10**400, -(2**63), 2**64])
SCALARS = st.none() | st.booleans() | NUMBERS | st.floats() | TEXTS


def _deep(depth: int) -> Any:
    nested: Any = 1
    for _ in range(depth):
        nested = [nested]
    return nested


JSON_CELLS = (
    SCALARS
    | st.lists(st.floats(-2, 2), max_size=3)
    | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
    | st.just(_deep(200))
)


def _column(cells: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(cells, min_size=ROWS, max_size=ROWS)


# What people have. Most examples keep it and add columns, so that they get beyond the first refusal.
USUAL = [
    ("path", IMAGES),
    ("label", ["a", "b"] * (ROWS // 2)),
    ("features", [[float(row), 1.0] for row in range(ROWS)]),
    ("x", [0.5 * row for row in range(ROWS)]),
    ("a", [0.25] * ROWS),
    ("b", [0.75] * ROWS),
]


@st.composite
def some_usual(draw: st.DrawFn) -> list[tuple[str, list[Any]]]:
    """Usual columns, of which some may lack."""
    lacking = draw(st.sets(st.integers(0, len(USUAL) - 1), max_size=2))
    if draw(st.integers(0, 3)):
        lacking = lacking - {0, 1}
    return [column for place, column in enumerate(USUAL) if place not in lacking]


@st.composite
def _columns(draw: st.DrawFn, cells: st.SearchStrategy[Any]) -> list[tuple[str, list[Any]]]:
    more = st.lists(st.tuples(NAMES, _column(cells)), max_size=draw(st.sampled_from([0, 1, 4])))
    return draw(st.permutations([*draw(some_usual()), *draw(more)]))


# --- files -------------------------------------------------------------------------------------


@st.composite
def text_tables(draw: st.DrawFn) -> tuple[str, bytes]:
    """CSV and TSV files: their suffix and content."""
    columns = draw(_columns(LABELS))
    out = io.StringIO(newline="")
    suffix = draw(st.sampled_from(["csv", "tsv"]))
    sign = "\t" if suffix == "tsv" else draw(st.sampled_from([",", ";"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    writer = csv.writer(out, delimiter=sign, lineterminator=end, escapechar="\\")
    writer.writerow([name for name, _ in columns])
    writer.writerows(zip(*(cells for _, cells in columns), strict=True))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return suffix, out.getvalue().encode(encoding, "replace")


@st.composite
def json_tables(draw: st.DrawFn) -> tuple[str, bytes]:
    """JSONL files."""
    columns = draw(_columns(JSON_CELLS))
    skipped = draw(st.integers(0, ROWS))  # keys that come late
    lines = []
    for row in range(ROWS):
        record = {name: cells[row] for name, cells in columns[: None if row else skipped or None]}
        lines.append(json.dumps(record, ensure_ascii=draw(st.just(True))))
    if draw(st.integers(0, 20)) == 0:
        lines.append(draw(st.sampled_from(["[" * 100_000, "1" * 5000, "[]", "null", "{", "{}"])))
    return "jsonl", "\n".join(lines).encode()


ARROW_TYPES = [
    *(pa.string(), pa.large_string(), pa.binary(), pa.binary(4), pa.null(), pa.bool_(), pa.int8()),
    *(pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(20, 3)),
    *(
        pa.date32(),
        pa.date64(),
        pa.timestamp("ns"),
        pa.timestamp("ms", tz="UTC"),
        pa.duration("us"),
    ),
    *(pa.time32("s"), pa.time64("ns"), pa.list_(pa.float32()), pa.list_(pa.float64(), 2)),
    *(pa.list_(pa.string()), pa.list_(pa.list_(pa.float32())), pa.large_list(pa.int16())),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.float64()),
    pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    pa.struct([("path", pa.int64())]),
    pa.map_(pa.string(), pa.int64()),
]


def _of_type(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Return cells of an Arrow type."""
    types = pa.types
    whole: st.SearchStrategy[Any]
    if types.is_dictionary(kind):
        whole = _of_type(kind.value_type)
    elif types.is_boolean(kind):
        whole = st.booleans()
    elif types.is_unsigned_integer(kind):
        whole = st.integers(0, 2**kind.bit_width - 1)
    elif types.is_integer(kind):
        whole = st.integers(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
    elif kind == pa.float16():
        whole = st.floats(width=16).map(np.float16)
    elif types.is_floating(kind):
        whole = st.floats(width=kind.bit_width)
    elif types.is_decimal(kind):
        whole = st.integers(-(10**9), 10**9).map(lambda number: Decimal(number) / 1000)
    elif types.is_fixed_size_binary(kind):
        whole = st.binary(min_size=kind.byte_width, max_size=kind.byte_width)
    elif types.is_binary(kind):
        whole = st.binary(max_size=6) | st.sampled_from(IMAGES).map(str.encode)
    elif types.is_string(kind) or types.is_large_string(kind):
        whole = LABELS.filter(lambda text: not any("\ud800" <= one <= "\udfff" for one in text))
    elif types.is_temporal(kind):
        # As integers, because Arrow holds more than Python's dates do.
        wide = 31 if kind.bit_width == 32 else 63
        whole = (
            st.integers(0, 86_000) if types.is_time(kind) else st.integers(-(2**wide), 2**wide - 1)
        )
        whole = st.just(0) | whole
    elif types.is_fixed_size_list(kind):
        whole = st.lists(_of_type(kind.value_type), min_size=2, max_size=2)
    elif types.is_list(kind) or types.is_large_list(kind):
        whole = st.lists(_of_type(kind.value_type), max_size=3)
    elif types.is_struct(kind):
        whole = st.fixed_dictionaries({one.name: _of_type(one.type) for one in kind})
    elif types.is_map(kind):
        whole = st.dictionaries(st.sampled_from("ab"), st.integers(0, 3)).map(
            lambda d: list(d.items())
        )
    else:
        whole = st.none()
    return st.none() | whole


METADATA = st.sampled_from(
    [None, {"huggingface": "{}"}, {"huggingface": "[" * 100_000}, {"huggingface": "null"}]
    + [
        {
            "huggingface": json.dumps(
                {"info": {"features": {"label": {"_type": "ClassLabel", **more}}}}
            )
        }
        for more in ({}, {"names": 3}, {"names": ["a", "a"]}, {"names": ["a", "b", "c"]})
    ]
)


@st.composite
def parquet_tables(draw: st.DrawFn) -> tuple[str, bytes]:
    """Parquet files with columns of all types."""
    columns = [(name, pa.array(cells)) for name, cells in draw(some_usual())]
    for _ in range(draw(st.sampled_from([0, 1, 1, 4]))):
        name, kind = draw(NAMES), draw(st.sampled_from(ARROW_TYPES))
        cells = draw(_column(_of_type(kind)))
        if pa.types.is_temporal(kind):
            stored = pa.int32() if kind.bit_width == 32 else pa.int64()
            columns.append((name, pa.array(cells, stored).view(kind)))
        else:
            columns.append((name, pa.array(cells, kind)))
    columns = draw(st.permutations(columns))
    arrays = [cells for _, cells in columns]
    names = ["".join(one for one in name if not "\ud800" <= one <= "\udfff") for name, _ in columns]
    table = pa.Table.from_arrays(arrays, names).replace_schema_metadata(draw(METADATA))
    if draw(st.integers(0, 9)) == 0:
        table = table.slice(0, draw(st.integers(0, 2)))
    out = io.BytesIO()
    pq.write_table(
        table,
        out,
        compression=draw(st.sampled_from(["NONE", "SNAPPY", "ZSTD"])),
        row_group_size=draw(st.sampled_from([1, 3, 100])),
    )
    return "parquet", out.getvalue()


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, bytes]:
    """NumPy files of all types and shapes."""
    usual = (ROWS, 3)
    shape = draw(st.just(usual) | st.lists(st.integers(0, 4), max_size=3).map(tuple))
    kinds = "f4 f4 f4 f4 >f8 f2 g i8 u1 ? c8 U3 S2 M8[s] m8[D] O V4"
    kind = draw(st.sampled_from(kinds.split()))
    values = np.zeros(shape, kind)
    if draw(st.booleans()) and values.dtype.kind in "fiu":
        values = values + np.arange(values.size).reshape(shape).astype(kind)
    if draw(st.integers(0, 9)) == 0:
        values = np.zeros(shape, [("x", "f4"), ("y", "U2")])
    if draw(st.booleans()):
        values = np.asfortranarray(values)
    out = io.BytesIO()
    if draw(st.integers(0, 9)) == 0:
        np.savez(out, values)
    else:
        np.save(out, values, allow_pickle=True)
    return draw(st.sampled_from(["npy", "npy", "npy", "npz"])), out.getvalue()


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Files of every kind; some are packed, some damaged, some have another suffix."""
    suffix, data = draw(st.one_of(text_tables(), json_tables(), parquet_tables(), arrays()))
    if draw(st.integers(0, 4)) == 0:
        damaged = bytearray(data)
        for _ in range(draw(st.integers(1, 4))):
            place = draw(st.integers(0, max(len(damaged) - 1, 0)))
            damage = draw(st.sampled_from(["flip", "cut", "insert", "zero"]))
            if damage == "flip" and damaged:
                damaged[place] ^= draw(st.integers(1, 255))
            elif damage == "cut":
                del damaged[place : place + draw(st.sampled_from([1, 4, 10**6]))]
            elif damage == "insert":
                damaged[place:place] = draw(st.binary(max_size=4))
            elif damage == "zero":
                damaged[place : place + 4] = b"\0\0\0\0"[: len(damaged) - place]
        data = bytes(damaged)
    packed = draw(st.integers(0, 7))
    if packed == 0:
        suffix, data = f"{suffix}.gz", gzip.compress(data)
    elif packed == 1:
        suffix = draw(st.sampled_from(["csv", "tsv", "jsonl", "parquet", "npy", "csv.gz", "xyz"]))
    return suffix, data


# --- roles -------------------------------------------------------------------------------------

Role = Callable[[Path, Path], object]


def _predictions(file: Path, folder: Path) -> PredictionSource:
    labels = read_samples(folder / "labels.csv", predictions=[file])
    assert not isinstance(labels, FeatureSource)
    return join_predictions(labels, [file])


ROLES: dict[str, Role] = {
    "source": lambda file, _: read_samples(file),
    "labels": lambda file, folder: read_samples(folder / "photos", file),
    "features": lambda file, folder: read_samples(folder / "labels.csv", features=file),
    "features of images": lambda file, folder: read_samples(folder / "photos", features=file),
    "table": lambda file, _: read_samples(file, tabular=True),
    "texts": lambda file, folder: read_samples(file, features=folder / "rows.npy"),
    "texts by id": lambda file, folder: read_samples(file, features=folder / "ids.parquet"),
    "itself": lambda file, _: read_samples(file, features="features"),
    "columns": lambda file, _: read_samples(file, label_column="x", clean_label_column="label"),
    "marks": lambda file, _: read_samples(file, tabular=True, verified_column="verified"),
    "predictions": _predictions,
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder of images, labels of them, and features of rows and by id."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for row, image in enumerate(IMAGES):
            path = place / "photos" / image
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (2, 2), row).save(path)
            copy = place / image
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        rows = [f"{image},{'ab'[row % 2]}" for row, image in enumerate(IMAGES)]
        (place / "labels.csv").write_text("\n".join(["id,label", *rows]))
        np.save(place / "rows.npy", np.eye(ROWS, 3))
        ids = pa.table({"id": IMAGES, "features": np.eye(ROWS, 3).tolist()})
        pq.write_table(ids, place / "ids.parquet")
        yield place


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    def end(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _check(folder: Path, role: str, made: tuple[str, bytes]) -> None:
    suffix, data = made
    file = folder / f"made.{suffix}"
    file.write_bytes(data)
    there = sorted(path.name for path in folder.iterdir())
    try:
        with _limit(SECONDS):
            found = ROLES[role](file, folder)
    except LabelauditError as error:
        text = str(error)
        assert text.isprintable()
        assert 10 < len(text) < LONGEST + 100
    else:
        _check_source(found)
    assert file.read_bytes() == data
    assert sorted(path.name for path in folder.iterdir()) == there
    file.unlink()


def _check_source(found: Any) -> None:
    source = getattr(found, "source", found)
    manifest = source.manifest
    total = manifest.num_samples
    assert len(set(manifest.sample_ids)) == len(manifest.paths) == len(manifest.images) == total
    assert manifest.noisy_labels.min() >= -1
    assert manifest.noisy_labels.max() < manifest.num_classes
    assert len(set(manifest.class_names)) == manifest.num_classes
    texts = [*manifest.sample_ids, *manifest.class_names, *source.warnings]
    texts += [] if source.clean_labels is None else list(source.clean_labels)
    if isinstance(found, FeatureSource):
        assert found.features.shape[0] == total
        assert found.features.dtype == np.float32
        assert np.isfinite(found.features).all()
        texts += list(found.notes)
    if isinstance(found, PredictionSource):
        assert all(model.shape == (total, manifest.num_classes) for model in found.models)
    if isinstance(found, FeatureSource | TableSource):
        assert len(found.details) == total
        texts += [*found.details.columns, *found.details.to_numpy().ravel()]
    for text in texts:
        assert isinstance(text, str)
        text.encode()


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
EXAMPLES = given(role=st.sampled_from(sorted(ROLES)), made=files())


@EXAMPLES
@settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET
)
def test_any_file_in_any_role_is_read_or_refused_in_one_line(folder, role, made):
    _check(folder, role, made)


@pytest.mark.nightly
@EXAMPLES
@settings(max_examples=NIGHTLY, deadline=None, database=None, suppress_health_check=QUIET)
def test_many_files_in_any_role_are_read_or_refused_in_one_line(folder, role, made):
    _check(folder, role, made)
