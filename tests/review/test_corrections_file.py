from pathlib import Path

import pytest

from labelaudit.corrections.reading import read_corrections
from labelaudit.corrections.table import CORRECTION_COLUMNS, GIVEN_LABEL
from labelaudit.errors import SourceError
from labelaudit.reporting.tables import read_csv, write_csv
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


def test_what_a_person_typed_means_the_same_as_to_apply(tmp_path: Path) -> None:
    path = tmp_path / "corrections.csv"
    columns = ",".join(CORRECTION_COLUMNS)
    path.write_text(f"{columns}\na,,bird,,,\nb,Accept,,,,\n", encoding="utf-8")
    file = CorrectionsFile(path, {"a": "cat", "b": "dog"}, {"b": "cat"})
    meant = read_corrections(path, {"b": "cat"})
    shown = [(row["decision"], row["corrected_label"]) for row in file.rows()]
    assert shown == list(zip(meant["decision"], meant["corrected_label"], strict=True))
    assert shown == [("relabel", "bird"), ("accept", "cat")]
    rows = [{**row, "note": "blurred"} for row in file.rows()]
    assert file.update(rows, "bob") == (2, [])
    assert read_corrections(path)["corrected_label"].tolist() == ["bird", "cat"]


def test_a_file_that_a_spreadsheet_program_saved_with_semicolons_is_read(tmp_path: Path) -> None:
    path = tmp_path / "corrections.csv"
    file = CorrectionsFile(path, {"a": "cat"})
    file.update([{"sample_id": "a", "decision": "keep", "corrected_label": "", "note": ""}], "ann")
    sheet = read_csv(path, as_text=True).assign(**{"seen; by": "1,5"})
    sheet.to_csv(path, sep=";", index=False)
    assert [row["decision"] for row in file.rows()] == ["keep"]
    write_csv(sheet, path)  # the name of a column holds the sign
    assert [row["decision"] for row in file.rows()] == ["keep"]
    assert read_corrections(path)["decision"].tolist() == ["keep"]
