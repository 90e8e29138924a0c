"""Every format of tables: the same rows give the same samples."""

import csv
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import labelaudit
from labelaudit import memory
from labelaudit.errors import SourceError
from labelaudit.sources.samples import read_samples
from labelaudit.sources.table_formats import TABLE_FORMATS, TableFormat


def _write_arrow(frame: pd.DataFrame, file: Path) -> None:
    table = pa.Table.from_pandas(frame)
    with pa.OSFile(str(file), "wb") as opened, pa.ipc.new_stream(opened, table.schema) as stream:
        stream.write_table(table, max_chunksize=5)


WRITERS = {
    "csv": lambda frame, file: frame.to_csv(file, index=False),
    "tsv": lambda frame, file: frame.to_csv(file, index=False, sep="\t"),
    "jsonl": lambda frame, file: frame.to_json(file, orient="records", lines=True),
    "ndjson": lambda frame, file: frame.to_json(file, orient="records", lines=True),
    "parquet": lambda frame, file: frame.to_parquet(file),
    "arrow": _write_arrow,
    # pandas packs files by their suffix.
    "csv.gz": lambda frame, file: frame.to_csv(file, index=False),
    "tsv.gz": lambda frame, file: frame.to_csv(file, index=False, sep="\t"),
    "jsonl.gz": lambda frame, file: frame.to_json(file, orient="records", lines=True),
    "ndjson.gz": lambda frame, file: frame.to_json(file, orient="records", lines=True),
}
ROWS = pd.DataFrame(
    {
        "sample_id": [f"00{i}" for i in range(12)],
        "label": ["NA", "7", ""] * 4,
        "size": [1.5, 2.5] * 6,
    }
)
VECTORS = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
PAGE = Path(__file__).parents[2] / "docs" / "contributing" / "add-a-source-format.md"


def check_format(suffix, writer, folder: Path) -> None:
    """Check what is read of a table without images: labels, ids, and features of all origins."""
    file = folder / f"labels.{suffix}"
    lists = TABLE_FORMATS[suffix].read_lists is not None
    writer(ROWS.assign(vector=list(VECTORS)) if lists else ROWS, file)
    np.save(folder / "rows.npy", VECTORS)
    shuffled = ROWS[["sample_id"]].assign(features=list(VECTORS))[::-1]
    shuffled.to_parquet(folder / "by_id.parquet")
    origins = [folder / "rows.npy", folder / "by_id.parquet", *(["vector"] if lists else [])]
    for origin in origins:
        found = read_samples(file, features=origin)
        manifest = found.source.manifest
        assert manifest.sample_ids.tolist() == ROWS["sample_id"].tolist()
        assert manifest.class_names == ("7", "NA")
        assert manifest.noisy_labels.tolist() == [1, 0, -1] * 4
        np.testing.assert_allclose(found.features, VECTORS, rtol=1e-6)
        assert found.details["size"].astype(float).tolist() == ROWS["size"].tolist()
    for origin in ("nowhere", "table.xyz"):
        with pytest.raises(
            SourceError, match=f'features are "{origin}", which is no file'
        ) as raised:
            read_samples(file, features=origin)
        assert "\n" not in str(raised.value)
    file.write_bytes(b"\x00\x01\x02")
    with pytest.raises(SourceError, match=f"labels.{suffix}") as raised:
        read_samples(file, features=folder / "rows.npy")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", TABLE_FORMATS)
def test_every_format_reads_the_same(suffix: str, tmp_path: Path) -> None:
    check_format(suffix, WRITERS[suffix], tmp_path)


@pytest.fixture
def feather(monkeypatch: pytest.MonkeyPatch) -> None:
    """The format that the page for contributors adds, from the code on that page."""
    if not PAGE.exists():
        pytest.skip("without the pages of the repository")
    blocks = re.findall(r"```diff\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    code = "\n".join(re.findall(r"^\+(?!\+\+ )(.*)$", blocks[0], re.MULTILINE))
    module = ModuleType("feather_tables")
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    row = TableFormat(module.read_feather, module.lists_of_feather)
    monkeypatch.setitem(TABLE_FORMATS, "feather", row)


def test_the_format_of_the_page_for_contributors_works(feather, tmp_path: Path) -> None:
    check_format("feather", lambda frame, file: frame.to_feather(file), tmp_path)


def test_a_format_that_is_only_read_is_not_edited(feather, tmp_path: Path) -> None:
    ROWS.to_feather(tmp_path / "labels.feather")
    pd.DataFrame({"sample_id": ["000"], "decision": ["relabel"], "corrected_label": ["7"]}).to_csv(
        tmp_path / "corrections.csv", index=False
    )
    for out in (None, tmp_path / "new.csv"):
        with pytest.raises(
            SourceError, match=r"read from \.feather files, but not written"
        ) as raised:
            labelaudit.apply_corrections(
                tmp_path / "labels.feather", tmp_path / "corrections.csv", out=out
            )
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", ["csv.gz", "jsonl.gz"])
def test_a_packed_table_is_not_edited(suffix: str, tmp_path: Path) -> None:
    WRITERS[suffix](ROWS, tmp_path / f"labels.{suffix}")
    decided = {"sample_id": ["000"], "decision": ["relabel"], "corrected_label": ["7"]}
    with pytest.raises(SourceError, match=f"unpacked, as .{suffix[:-3]}"):
        labelaudit.apply_corrections(tmp_path / f"labels.{suffix}", pd.DataFrame(decided))


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_table_that_needs_more_memory_than_there_is(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"labels.{suffix}"
    many = pd.concat([ROWS] * 1000)
    WRITERS[suffix](many, file)
    monkeypatch.setattr(memory, "free_bytes", lambda: 100)
    with pytest.raises(SourceError, match=r"of memory, but only 0.0 MiB are free; (split|check)"):
        read_samples(file, tabular=True)


def test_repeated_columns_matter_only_where_they_are_needed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,label,x,x\n0,a,1,2\n1,b,3,4\n")
    found = read_samples(tmp_path / "t.csv", features=np.eye(2))
    assert found.details.columns.tolist() == []
    with pytest.raises(SourceError, match=r't\.csv has two columns "x"; rename one'):
        read_samples(tmp_path / "t.csv", features=np.eye(2), label_column="x")


def test_a_parquet_column_is_not_mistaken_for_one_below_it(tmp_path: Path) -> None:
    """Arrow also reads "label.1" where "label" is asked for."""
    table = pa.table({"label.1": ["x", "x"], "label": ["a", "b"], "id": ["0", "1"]})
    pq.write_table(table, tmp_path / "t.parquet")
    found = read_samples(tmp_path / "t.parquet", features=np.eye(2))
    assert found.source.manifest.class_names == ("a", "b")


def test_the_limit_of_cells_is_set_back(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    (tmp_path / "t.csv").write_text("id,label\n0,a\n1," + "b" * 200_000 + "\n")
    manifest = read_samples(tmp_path / "t.csv", features=np.eye(2)).source.manifest
    assert len(manifest.class_names[1]) == 200_000
    assert csv.field_size_limit() == before


def test_messages_are_one_printable_line() -> None:
    error = SourceError('no column "\n\x1b[31m\ud800" in\n' + "x" * 100_000 + " the end\n")
    assert str(error).startswith(r'no column "\n\x1b[31m\ud800" in\nxxx')
    assert str(error).endswith("xxx the end")
    assert str(error).isprintable()
    assert len(str(error)) < 1000
    assert str(SourceError('"straße 東京" is fine')) == '"straße 東京" is fine'
