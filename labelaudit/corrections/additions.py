"""What people have written into corrections.csv besides decisions: notes, and columns of their own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from labelaudit.corrections.reading import read_texts
from labelaudit.corrections.table import CORRECTION_COLUMNS, GIVEN_LABEL

KNOWN = (*CORRECTION_COLUMNS, GIVEN_LABEL)


@dataclass(frozen=True, eq=False)
class Additions:
    """What a corrections.csv holds besides decisions.

    Attributes
    ----------
    rows : DataFrame
        One row per sample of the file, with all of its columns as text and "" where a cell is empty.
        The columns `CORRECTION_COLUMNS` and ``given_label`` are always there.
    """

    rows: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=list(KNOWN), dtype="str")
    )

    @classmethod
    def of(cls, path: Path) -> Additions:
        """Return those of a corrections.csv, none if there is no file.

        Raises SourceError if the file cannot be read, or is not CSV.
        """
        if not path.exists():
            return cls()
        rows = read_texts(path)
        rows = rows.loc[:, ~rows.columns.duplicated()]
        absent = [name for name in KNOWN if name not in rows]
        rows = rows.assign(**dict.fromkeys(absent, ""))
        return cls(rows[rows["sample_id"] != ""].drop_duplicates("sample_id", ignore_index=True))

    @property
    def own_columns(self) -> list[str]:
        """Names of the columns that people have added."""
        return [str(name) for name in self.rows.columns if name not in KNOWN]

    def followed_by(self, later: Additions) -> Additions:
        """Return these and later ones. Of two rows about a sample, the later one holds."""
        both = pd.concat([self.rows, later.rows], ignore_index=True).fillna("")
        return Additions(both.drop_duplicates("sample_id", keep="last", ignore_index=True))

    def beside(self, decisions: pd.DataFrame, samples: Collection[str]) -> pd.DataFrame:
        """Return a table of decisions with what was added to it.

        Parameters
        ----------
        decisions : DataFrame
            The columns `CORRECTION_COLUMNS` and ``given_label``.
        samples : collection of str
            Rows without a decision are added about these samples only.

        Returns
        -------
        DataFrame
            The decisions with the `own_columns`, followed by rows that hold no decision but a note or
            a cell of one's own.
        """
        rows, own = self.rows, self.own_columns
        blank = (rows["decision"].str.strip() == "") & (rows["corrected_label"] == "")
        filled = (rows[["note", *own]] != "").any(axis=1)
        about = rows["sample_id"].isin(list(samples))
        about &= ~rows["sample_id"].isin(list(decisions["sample_id"]))
        cells = rows.set_index("sample_id")[own].reindex(decisions["sample_id"])
        table = decisions.reset_index(drop=True).join(cells.reset_index(drop=True))
        return pd.concat([table, rows[blank & filled & about]], ignore_index=True).fillna("")
