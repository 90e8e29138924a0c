from pathlib import Path

from labelaudit.corrections.table import CORRECTION_COLUMNS, GIVEN_LABEL
from labelaudit.reporting.tables import read_csv, write_csv
from labelaudit.review.corrections_file import CorrectionsFile


def test_columns_that_somebody_added_to_the_corrections_stay(tmp_path: Path) -> None:
    path = tmp_path / "corrections.csv"
    file = CorrectionsFile(path, {"a.png": "cat", "b.png": "dog"})
    keep = {"decision": "keep", "corrected_label": "", "note": ""}
    file.update([{"sample_id": name, **keep} for name in ("a.png", "b.png")], "ann")
    table = read_csv(path)
    table["ticket"] = ["17", ""]
    write_csv(table, path)
    undo = {"decision": "", "corrected_label": "", "note": ""}
    file.update([{"sample_id": name, **undo} for name in ("a.png", "b.png")], "bob")
    table = read_csv(path).fillna("")
    assert table[["sample_id", "decision", "ticket"]].astype(str).values.tolist() == [
        ["a.png", "", "17"]
    ]
    assert set(file.rows()[0]) == {*CORRECTION_COLUMNS, GIVEN_LABEL}
    file.update([{"sample_id": "a.png", **keep}], "bob")
    assert read_csv(path)["ticket"].astype(str).tolist() == ["17"]
