"""A table of labels for images that lie in parquet, Arrow or tar files, joined by their ids."""

from pathlib import Path

import numpy as np

from labelaudit.errors import SourceError
from labelaudit.images.containers import NoImages
from labelaudit.sources.classes import make_source
from labelaudit.sources.label_tables import LabelTable
from labelaudit.sources.manifest import Source
from labelaudit.sources.splits import rows_of_split
from labelaudit.sources.wording import count, some


def relabel(found: Source, table: LabelTable, split: str | None, source: Path) -> Source:
    """Return a source with the labels of a table instead of its own.

    Parameters
    ----------
    found : Source
        N samples; their own labels are ignored.
    table : LabelTable
        Its `images` are ids of samples, as `labelaudit apply` writes them. Samples without a row are
        unlabeled.
    split : str, or None
        Which rows to read, if the table has a column of splits.
    source : Path
        The path that the user gave.

    Raises
    ------
    SourceError
        No row names a sample, two rows contradict each other, or fewer than two classes have labels.
    """
    warnings = list(found.warnings)
    chosen = rows_of_split(table, split if table.splits else None, warnings)
    ids = found.manifest.sample_ids.tolist()
    place = {name: number for number, name in enumerate(ids)}
    row_of: dict[int, int] = {}
    unknown: list[str] = []
    for row in np.flatnonzero(chosen).tolist():
        name = table.images[row].strip().replace("\\", "/")
        number = place.get(name)
        if number is None:
            unknown.append(name)
            continue
        kept = row_of.setdefault(number, row)
        if table.labels[kept] != table.labels[row]:
            raise SourceError(
                f'"{name}" has two labels: "{table.labels[kept]}" in {table.place(kept)} and'
                f' "{table.labels[row]}" in {table.place(row)}; keep one of the rows'
            )
    if not row_of:
        option = "id_column" if isinstance(found.manifest.images, NoImages) else "image_column"
        raise SourceError(
            f"no row of {table.where} names a sample of {source}: its ids are e.g."
            f" {some(unknown[:3])}, and those of the samples {some(ids[:3])}; name the column of ids"
            f" with `{option}`, or leave the labels out"
        )
    if unknown:
        warnings.append(
            f"{count(unknown, 'label', 'labels')} in {table.where} left out, because no sample of"
            f" {source} has the id: {some(unknown)}"
        )
    rows = [row_of.get(number) for number in range(len(ids))]

    def of_samples(texts: list[str] | None) -> list[str] | None:
        return None if texts is None else ["" if row is None else texts[row] for row in rows]

    return make_source(
        name=found.manifest.name,
        where=table.where,
        ids=ids,
        paths=found.manifest.paths,
        images=found.manifest.images,
        labels=of_samples(table.labels) or [],
        clean=of_samples(table.clean),
        marks=of_samples(table.marks),
        first=of_samples(table.first),
        votes=None if table.votes is None else table.votes.rows(rows),
        declared=table.declared,
        warnings=warnings,
    )
