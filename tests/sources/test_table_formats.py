"""Every format of tables: the same rows give the same samples."""

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import labelaudit
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
