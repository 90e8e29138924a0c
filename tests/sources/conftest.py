"""Ways to put sources on disk: test modules cannot import from each other."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from labelaudit.sources.manifest import Source


def _images(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), len(name)).save(file, format="PNG")
    return folder


def _text(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def _table(file: Path, rows: list[dict[str, object]]) -> Path:
    if file.suffix == ".jsonl":
        _text(file, "".join(json.dumps(row) + "\n" for row in rows))
    elif file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        pd.DataFrame(rows).to_csv(file, index=False, sep="\t" if file.suffix == ".tsv" else ",")
    return file


def _parquet(
    file: Path,
    labels: list[object],
    *,
    paths: list[str | None] | None = None,
    data: list[bytes | None] | None = None,
    class_names: list[str] | None = None,
    row_group_size: int = 4,
    image: str = "image",
    **more: list[object],
) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    count = len(labels)
    data = [f"{file.stem}{i}".encode() for i in range(count)] if data is None else data
    cells = [{"bytes": d, "path": p} for d, p in zip(data, paths or [None] * count, strict=True)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(cells, kind), "label": labels, **more})
    if class_names is not None:
        features = {image: {"_type": "Image"}, "label": {"names": class_names}}
        features["label"]["_type"] = "ClassLabel"
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    pq.write_table(table, file, row_group_size=row_group_size)
    return file


@pytest.fixture(scope="session")
def write() -> SimpleNamespace:
    """Writers of files: `write.images`, `.text`, `.table` (by its suffix) and `.parquet`."""
    return SimpleNamespace(images=_images, text=_text, table=_table, parquet=_parquet)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _images(tmp_path / "pets", "a.png", "b.png", "c.png", "deep/d.png")


@pytest.fixture(scope="session")
def labels_of() -> Callable[[Source], dict[str, str]]:
    """Return each sample's label as text, "" where it has none."""

    def labels(source: Source) -> dict[str, str]:
        names = (*source.manifest.class_names, "")
        ids = source.manifest.sample_ids
        return {i: names[n] for i, n in zip(ids, source.manifest.noisy_labels, strict=True)}

    return labels
