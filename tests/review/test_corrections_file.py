from pathlib import Path

import pytest

from labelaudit.corrections.table import CORRECTION_COLUMNS, GIVEN_LABEL
from labelaudit.errors import SourceError
from labelaudit.reporting.tables import read_csv
from labelaudit.review.corrections_file import CorrectionsFile


def test_columns_that_somebody_added_to_the_corrections_stay(tmp_path: Path) -> None:
    path = tmp_path / "corrections.csv"
    file = CorrectionsFile(path, {"a.png": "cat", "b.png": "dog"})
    keep = {"decision": "keep", "corrected_label": "", "note": ""}
    file.update([{"sample_id": name, **keep} for name in ("a.png", "b.png")], "ann")
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    # As a spreadsheet program writes them: without quotes.
    added = [f"{header},ticket,cost,done", f"{rows[0]},17,1.50,TRUE", f"{rows[1]},,,"]
    path.write_text("\n".join(added), encoding="utf-8")
    undo = {"decision": "", "corrected_label": "", "note": ""}
    file.update([{"sample_id": name, **undo} for name in ("a.png", "b.png")], "bob")
    (row,) = read_csv(path, as_text=True).to_dict("records")
    assert (row["sample_id"], row["decision"]) == ("a.png", "")
    assert (row["ticket"], row["cost"], row["done"]) == ("17", "1.50", "TRUE")
    assert set(file.rows()[0]) == {*CORRECTION_COLUMNS, GIVEN_LABEL}
    file.update([{"sample_id": "a.png", **keep}], "bob")
    assert read_csv(path, as_text=True)["cost"].tolist() == ["1.50"]
    path.write_text("\n".join(f"{line},{line.split(',')[0]}" for line in added), encoding="utf-8")
    with pytest.raises(SourceError, match="two columns 'sample_id'"):
        file.rows()
