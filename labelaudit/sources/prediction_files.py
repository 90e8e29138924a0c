"""Predictions of the user's own model from files, joined to the samples that they belong to."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc

from labelaudit.errors import SourceError
from labelaudit.files import check_regular, suffix_of
from labelaudit.images.containers import Indices
from labelaudit.images.store import copy_rows, make_store
from labelaudit.sources.cells import ID_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMN, Columns
from labelaudit.sources.feature_files import (
    PANDAS_INDEX,
    SampleNames,
    as_numpy,
    is_number,
    open_npy,
)
from labelaudit.sources.feature_tables import (
    SHOWN_COLUMNS,
    FeatureSource,
    TableSource,
    source_from_table,
)
from labelaudit.sources.label_tables import read_table
from labelaudit.sources.manifest import Source
from labelaudit.sources.name_matching import match_names, renamed
from labelaudit.sources.parquet_tables import open_parquet, texts_of_array
from labelaudit.sources.table_formats import readable
from labelaudit.sources.text_tables import long_cells, open_binary, open_text
from labelaudit.sources.values import as_features
from labelaudit.sources.wording import some

Floats = npt.NDArray[np.floating]
Predictions = str | Path | Floats | pd.DataFrame
SUFFIXES = ("npy", "parquet", "csv", "tsv", "csv.gz", "tsv.gz")
BATCH_ROWS = 16_384
CSV_BLOCK = 1 << 24  # bytes of a CSV file that are parsed at a time; no line may be longer


@dataclass(frozen=True, eq=False)
class PredictionSource:
    """Samples, their labels, and predictions for them.

    Attributes
    ----------
    source : Source
        Its class names are those of the columns of the predictions, in the same order.
    models : tuple of arrays (N, C)
        One for each file, in the order of the samples. They are not checked yet.
    details : DataFrame (N, k) of str
        Other columns of the rows, which the report shows of samples without an image.
    features : array (N, D) float32, or None
        Features of the samples, if they were given.
    """

    source: Source
    models: tuple[Floats, ...]
    details: pd.DataFrame
    features: npt.NDArray[np.float32] | None = None

    def subset(self, keep: npt.NDArray[np.bool_]) -> PredictionSource:
        """Return the samples that `keep`, an (N,) mask, selects."""
        return PredictionSource(
            self.source.subset(keep),
            tuple(copy_rows(model, keep) for model in self.models),
            self.details[keep].reset_index(drop=True),
            None if self.features is None else copy_rows(self.features, keep),
        )


def read_labels_alone(
    labels: str | Path,
    *,
    by_row: bool,
    label_column: str | None = None,
    id_column: str | None = None,
    split: str | None = None,
    clean_label_column: str | None = None,
    verified_column: str | None = None,
    label_columns: tuple[str, ...] = (),
) -> TableSource:
    """Read a table of labels; neither images nor features are needed.

    Parameters
    ----------
    labels : str or Path
        CSV, TSV, JSONL or parquet with one row per sample.
    by_row : bool
        Whether rows may be named by their number if ids are missing or repeat.
    label_column, id_column, split, clean_label_column, verified_column, label_columns
        See `labelaudit.sources.feature_tables.read_labels_with_features`.

    Raises
    ------
    SourceError
        The file does not exist or cannot be read, ids are needed and missing, or there are fewer than
        two classes.
    """
    columns = Columns(
        id_column,
        label_column,
        clean_label_column,
        SHOWN_COLUMNS + 1,
        verified_column,
        label_columns,
    )
    table = read_table(Path(labels), columns, ID_COLUMNS, images_needed=False, split=split)
    return source_from_table(table, by_row=by_row, id_column=id_column, split=split)


def are_by_row(files: Sequence[Predictions]) -> bool:
    """Return whether all predictions belong to samples by row, and none by id."""
    return all(not isinstance(file, str | Path) or suffix_of(str(file)) == "npy" for file in files)


def join_predictions(
    data: Source | FeatureSource | TableSource,
    files: Sequence[Predictions],
    *,
    rows_known: bool = True,
    unneeded: Collection[str] = (),
) -> PredictionSource:
    """Join predictions to the samples that they belong to.

    Parameters
    ----------
    data
        N samples and their labels.
    files
        One for each model. A .npy file or an array ``(R, C)``: row i belongs to row i of the table of
        labels, and the columns are the classes of the labels, sorted (as numbers if all of them are).
        A DataFrame: the same, but columns that are named like the classes may be in any order.
        A .parquet, .csv or .tsv file: by id, with one column per class, named like the class.
    rows_known
        Whether the samples are in the order of a table or of arrays, so that predictions can belong to
        them by row.
    unneeded
        Ids of samples that will be left out, and need no predictions.

    Raises
    ------
    SourceError
        A file cannot be read, samples or classes have no predictions, or models differ in their
        classes.
    """
    source = data if isinstance(data, Source) else data.source
    details = pd.DataFrame(index=range(source.manifest.num_samples))
    features = None
    rows: tuple[Indices, int] | None = None
    if isinstance(data, TableSource):
        details, rows = data.details, (data.table_rows, data.num_rows)
    elif isinstance(data, FeatureSource):
        details, features = data.details, data.features
    if not rows_known and any(are_by_row([file]) for file in files):
        raise SourceError(
            "images of a folder are sorted by path, so predictions cannot be joined by row; give them"
            " as .parquet or .csv, with the paths of the images as ids"
        )
    read = [_read(source, file, rows, unneeded) for file in files]
    extras = [extra for _, extra in read]
    names = [
        str(file) if isinstance(file, str | Path) else f"pred_probs[{number}]"
        for number, file in enumerate(files)
    ]
    for name, extra in zip(names, extras, strict=True):
        if odd := sorted(set(extra) ^ set(extras[0])):
            raise SourceError(
                f"{names[0]} and {name} predict different classes: {some(odd)} is only in one of them;"
                " give predictions with the same columns"
            )
    models = []
    for values, extra in read:
        # Further classes come after those that labels name, in the first file's order.
        order = [extra.index(name) for name in extras[0]]
        known = values.shape[1] - len(extra)
        same = order == sorted(order)
        models.append(values if same else values[:, [*range(known), *(known + i for i in order)]])
    manifest = source.manifest
    named = replace(manifest, class_names=(*manifest.class_names, *extras[0]))
    notes = _order_notes(files, manifest.class_names)
    source = replace(source, manifest=named, warnings=(*source.warnings, *notes))
    return PredictionSource(source, tuple(models), details, features)


def _order_notes(files: Sequence[Predictions], class_names: Sequence[str]) -> list[str]:
    """Say which order of the classes is assumed where columns have no names, and classes have."""
    if not are_by_row(files) or all(name.isdecimal() for name in class_names):
        return []
    for file in files:
        columns = file.columns if isinstance(file, pd.DataFrame) else None
        if columns is None or columns.equals(pd.RangeIndex(len(columns))):
            return [
                "the columns of the predictions were taken for the classes in the order"
                f" {some(list(class_names))}; if it is another, give a data frame, or a parquet or CSV"
                " file, whose columns have the names of the classes"
            ]
    return []


def _read(
    source: Source,
    file: Predictions,
    rows: tuple[Indices, int] | None,
    unneeded: Collection[str],
) -> tuple[Floats, list[str]]:
    """Return predictions ``(N, C)`` of the samples, and the classes that no label names."""
    if isinstance(file, pd.DataFrame):
        return _of_frame(source, file, rows)
    if isinstance(file, np.ndarray):
        return _of_rows(source, file, "the array of predictions", rows), []
    path = Path(file)
    suffix = suffix_of(path.name)
    if suffix not in SUFFIXES:
        raise SourceError(
            f'"{file}" is no .npy, .parquet, .csv or .tsv file; write the predictions as one of these'
        )
    check_regular(path)
    if suffix != "npy":
        return _by_id(source, path, suffix, unneeded)
    return _of_rows(source, open_npy(path), str(path), rows), []


def _of_frame(
    source: Source, frame: pd.DataFrame, rows: tuple[Indices, int] | None
) -> tuple[Floats, list[str]]:
    """Return the rows of a DataFrame, with its columns in the order of the classes."""
    name, classes = "the data frame of predictions", source.manifest.class_names
    names = _classes_of([str(column) for column in frame.columns], source)
    unnamed = frame.columns.equals(pd.RangeIndex(len(names))) and not set(classes) <= set(names)
    if len(set(names)) < len(names):
        raise SourceError(f"columns of {name} repeat: {some(names)}; keep one for each class")
    extra = [] if unnamed else [column for column in names if column not in classes]
    if not unnamed:
        _refuse_missing(classes, names, name)
        frame = frame.iloc[:, [names.index(column) for column in (*classes, *extra)]]
    return _of_rows(source, as_features(frame, name), name, rows, len(extra)), extra


def _classes_of(columns: Sequence[str], source: Source, id_column: str = "") -> list[str]:
    """Return columns under the names of the classes, where they are written another way ("1.0")."""
    classes = source.manifest.class_names
    found = match_names([name for name in columns if name != id_column], classes, classes)
    names = renamed(columns, found)
    return names if len(set(names)) == len(names) else list(columns)


def _refuse_missing(classes: Sequence[str], names: Sequence[str], name: str) -> None:
    """Raise where classes of the labels have no column."""
    if missing := [one for one in classes if one not in names]:
        raise SourceError(
            f"{len(missing)} of the labels' classes have no column in {name}: {some(missing)}; its"
            f" columns are {some(list(names))}"
        )


def _of_rows(
    source: Source,
    values: Floats,
    name: str,
    rows: tuple[Indices, int] | None,
    num_extra: int = 0,
) -> Floats:
    """Return the rows of an array that belong to the samples."""
    manifest = source.manifest
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise SourceError(
            f"{name} has the shape {values.shape} and holds {values.dtype}; give numbers (rows,"
            " classes)"
        )
    if values.shape[1] != manifest.num_classes + num_extra:
        raise SourceError(
            f"{name} has {values.shape[1]} columns and the labels name {manifest.num_classes} classes"
            f" ({some(list(manifest.class_names))}); give one column per class, in this order, or a"
            " parquet or CSV file whose columns are named like the classes"
        )
    total = manifest.num_samples if rows is None else rows[1]
    if len(values) != total:
        raise SourceError(
            f"{name} has {len(values):,} rows and there are {total:,} labels; give one row per label,"
            " in the same order"
        )
    return values if rows is None or len(rows[0]) == total else values[rows[0]]


def _by_id(
    source: Source, path: Path, suffix: str, unneeded: Collection[str]
) -> tuple[Floats, list[str]]:
    """Read predictions by the samples' ids."""
    manifest = source.manifest
    given = list(manifest.class_names)
    with _batches(path, suffix, given) as (columns, batches):
        id_column = _id_column(columns, given)
        names = _classes_of(columns, source, id_column)
        column_of = dict(zip(names, columns, strict=True))
        lowered = {name.strip().lower(): name for name in reversed(names)}
        if not set(given) <= set(names):
            _refuse_missing(given, [name for name in names if name != id_column], str(path))
        passed_over = {id_column, *(lowered.get(name) for name in (*LABEL_COLUMNS, SPLIT_COLUMN))}
        passed_over |= {"", PANDAS_INDEX}
        extra = [name for name in names if name not in given and name not in passed_over]
        samples = SampleNames(manifest.sample_ids)
        values: Floats = make_store((manifest.num_samples, len(given) + len(extra)), np.float32)
        found = np.zeros(manifest.num_samples, dtype=bool)
        seen = 0
        example = ""
        for batch in batches:
            cells = batch.column(id_column)
            ids = texts_of_array(cells)
            if ids is None:
                raise SourceError(
                    f"the id in row 0 of {path} is a {cells.type}, not text or a number; the column"
                    f' of ids is "{id_column}"'
                )
            seen += len(ids)
            example = example or (ids[0] if ids else "")
            where = samples.find(ids)
            kept = where >= 0
            once = pd.Series(where[kept])
            if found[where[kept]].any() or once.duplicated().any():
                again = found[where[kept]] | once.duplicated().to_numpy()
                names_again = manifest.sample_ids[where[kept][again]].tolist()
                raise SourceError(
                    f"ids in {path} repeat: {some(names_again)}; keep one row of each"
                )
            found[where[kept]] = True
            for column, name in enumerate([*given, *extra]):
                values[where[kept], column] = _numbers(
                    batch.column(column_of[name]), name, path, given
                )[kept]
    if not seen:
        raise SourceError(f"{path} has no rows below its header; check that it was written whole")
    found |= pd.Index(manifest.sample_ids).isin(unneeded)
    if not found.all():
        lacking = manifest.sample_ids[~found].tolist()
        raise SourceError(
            f"{len(lacking):,} of {len(found):,} samples have no predictions in {path}:"
            f" {some(lacking)};"
            f' its ids, in the column "{id_column}", are like "{example}"'
        )
    return values, extra


def _csv_reader(
    stream: IO[bytes], names: list[str], delimiter: str, types: Mapping[str, pa.DataType]
) -> pc.CSVStreamingReader:
    return pc.open_csv(
        stream,
        read_options=pc.ReadOptions(column_names=names, skip_rows=1, block_size=CSV_BLOCK),
        parse_options=pc.ParseOptions(delimiter=delimiter),
        convert_options=pc.ConvertOptions(column_types=dict(types), strings_can_be_null=False),
    )


def _id_column(names: Sequence[str], classes: Collection[str]) -> str:
    """Return the column of ids: one with a usual name, else the index of pandas, else the first.

    A class may be called "id".
    """
    lowered = {name.strip().lower(): name for name in reversed(names) if name not in classes}
    known = ("sample_id", "id", *ID_COLUMNS, PANDAS_INDEX)
    return next((lowered[name] for name in known if name in lowered), names[0])


def _numbers(column: pa.Array, name: str, path: Path, given: Sequence[str]) -> Floats:
    kind = column.type
    if not is_number(kind):
        advice = "correct its cells" if name in given else "leave out columns that are no class"
        raise SourceError(f'column "{name}" of {path} holds {kind} and not numbers; {advice}')
    return as_numpy(column)


@contextmanager
def _batches(
    path: Path, suffix: str, classes: Collection[str]
) -> Iterator[tuple[list[str], Iterator[pa.RecordBatch]]]:
    """Open a table, and yield the names of its columns and its rows in batches."""
    if suffix == "parquet":
        with open_parquet(path) as opened:
            names = list(opened.schema_arrow.names)
            _refuse_few(names, path)
            yield names, opened.iter_batches(batch_size=BATCH_ROWS)
        return
    delimiter = "\t" if suffix in ("tsv", "tsv.gz") else ","
    try:
        with readable(path), open_text(path, newline="") as text, long_cells():
            names = next(csv.reader(text, delimiter=delimiter), [])
        _refuse_few(names, path)
        # An id such as 007 or NA is text and must not be converted.
        types = {_id_column(names, classes): pa.string()}
        with (
            readable(path),
            open_binary(path) as stream,
            _csv_reader(stream, names, delimiter, types) as reader,
        ):
            schema = reader.schema
        # Arrow takes the type of a column from the first block, where a probability may be only 0 or 1.
        types |= {one.name: pa.float64() for one in schema if pa.types.is_integer(one.type)}
        with (
            readable(path),
            open_binary(path) as stream,
            _csv_reader(stream, names, delimiter, types) as reader,
        ):
            yield names, iter(partial(_next_batch, reader), None)
    except (pa.ArrowException, csv.Error) as error:
        first = str(error).splitlines()[0]
        raise SourceError(f"{path} cannot be read as a table of predictions: {first}") from error


def _next_batch(reader: Any) -> pa.RecordBatch | None:
    try:
        return reader.read_next_batch()
    except StopIteration:
        return None


def _refuse_few(names: list[str], path: Path) -> None:
    if len(names) == 1 and ";" in names[0]:
        raise SourceError(f"{path} is separated by semicolons; save it with commas, or as parquet")
    if len(names) < 3 or len(set(names)) < len(names):
        raise SourceError(
            f"{path} has the columns {some(names)}; give a column of ids and one column per class, with"
            " different names"
        )
