"""The result of an audit as data frames and plain numbers, and how to save and show it."""

from __future__ import annotations

import html
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from labelaudit.progress import Reporter
from labelaudit.reporting.findings import Findings
from labelaudit.reporting.formats import shorten
from labelaudit.reporting.run_folder import RunFolder, refuse_inputs
from labelaudit.reporting.tables import SAMPLE_TEXT
from labelaudit.version import installed_version

SHOWN_SUSPECTS = 10
SHOWN_CHARACTERS = 200  # of a text
PICTURE_SIDE = 64  # pixels


@dataclass(frozen=True, eq=False, repr=False)
class ScanResult(Findings):
    """The result of a scan.

    Attributes
    ----------
    samples
        All samples, in the order of the data set. See `labelaudit.suspects.table.samples_table` for the
        columns.
    suspects
        The flagged samples, the most suspect first, as in suspects.csv.
    duplicates
        Pairs of samples that are the same, or nearly, and have different labels, as in duplicates.csv.
        See `labelaudit.suspects.duplicates.conflicting_duplicates` for the columns.
    summary
        Counts, expected numbers, trust and settings, as in summary.json.
    pred_probs
        ``(N, C)`` floats in the order of `samples`: class probabilities of the guider, or the
        predictions that were audited.
    embeddings
        ``(N, d)`` float32, the guider's mean z_a; None if nothing was trained.
    history
        ε, and the learner's and guider's probabilities, of every labeled sample after every epoch. None
        if they were not recorded.
    contents
        Further contents of the run folder.
    run_dir
        Folder of the files; None if none were written.
    """

    run_dir: Path | None = None

    def save(
        self, folder: str | Path, *, force: bool = False, max_suspects: int | None = None
    ) -> ScanResult:
        """Write a run folder, as `labelaudit.scan` does with ``out``.

        Parameters
        ----------
        folder
            The folder to write.
        force
            Whether to replace a folder that labelaudit wrote. Decisions in it are kept.
        max_suspects
            Number of most suspect samples that the report shows. By default all.

        Returns
        -------
        ScanResult
            This result with `run_dir` set.

        Raises
        ------
        OutputError
            If the folder already exists or cannot be written.
        SourceError
            If the decisions in it cannot be read.
        """
        from labelaudit.corrections.reviewed import open_review

        if self.history is not None and self.run_dir is not None:
            # The recorded epochs are read from there while they would be replaced.
            refuse_inputs(folder, {"of this result": self.run_dir / "summary.json"})
        with RunFolder(folder, force=force) as run:
            review = open_review(None, run.path)
            if run.path.exists():
                review.keep_standing(run.path)
            run.claim(installed_version(), self.contents.fingerprint, dict(self.contents.settings))
            decisions = review.carry_over(self.samples, run.path, Reporter())
            saved = self.written_to(run, decisions=decisions, max_suspects=max_suspects)
            run.finish("complete")
        return saved

    def written_to(
        self,
        folder: RunFolder,
        *,
        decisions: pd.DataFrame | None = None,
        max_suspects: int | None = None,
        reporter: Reporter | None = None,
    ) -> ScanResult:
        """Write all files into a claimed folder; return this result with `run_dir` set.

        The review in the page starts with the decisions, rows of corrections.csv.
        """
        from labelaudit.reporting.files import write_results

        result = replace(self, run_dir=folder.path)
        write_results(
            folder, result, decisions=decisions, max_suspects=max_suspects, reporter=reporter
        )
        return result

    def report(self, path: str | Path, *, max_suspects: int | None = None) -> Path:
        """Write the report as an HTML page.

        Parameters
        ----------
        path
            The HTML file. An existing file is replaced. Its folder must exist.
        max_suspects
            Number of most suspect samples that the report shows. By default all.

        Returns
        -------
        Path
            The page, which includes its plots and pictures. If there are many suspects, their data are
            in a folder beside it: for ``audit.html`` this is ``audit-data``.

        Raises
        ------
        OutputError
            If the page cannot be written, or that folder holds files that are not of a report.
        """
        from labelaudit.reporting.blocks import refuse_other_files, remove_data_folder
        from labelaudit.reporting.files import write_report

        page = Path(path)
        data = page.with_name(f"{page.stem}-data")
        refuse_other_files(data)
        with tempfile.TemporaryDirectory(prefix="labelaudit-") as plots:
            blocks = write_report(
                page, self, plots=Path(plots), data_folder=data.name, max_suspects=max_suspects
            )
        if len(blocks) == len(list(data.glob("*.js"))):
            remove_data_folder(data)
        return page

    def __repr__(self) -> str:
        where = f", files in {self.run_dir}" if self.run_dir else ""
        return f"<ScanResult of {self.summary.name}: {self._headline()}{where}>"

    def _headline(self) -> str:
        summary, trust = self.summary, self.summary.trust
        distrust = "" if trust.trustworthy else f". DO NOT TRUST THIS: {trust.reasons[0]}"
        return f"{summary.num_suspects:,} of {summary.num_labeled:,} labels flagged{distrust}"

    def _repr_html_(self) -> str:
        """Show counts, trust and the worst suspects with their pictures, in a notebook."""
        worst = self.suspects.head(SHOWN_SUSPECTS)
        pictures = self._pictures(worst)
        lines = [f"<p><b>{html.escape(self._headline())}</b></p>"]
        expected = self.summary.expected_wrong_interval
        if expected is not None and self.summary.trust.trustworthy:
            lines.append(
                f"<p>About {self.summary.expected_wrong:,.0f} labels are expected to be wrong"
                f" ({expected[0]:,.0f} to {expected[1]:,.0f} in nine of ten cases).</p>"
            )
        if len(worst):
            names = ["sample_id", "given_label", "suggested_label", "suspect_score"]
            if SAMPLE_TEXT in worst:
                starts = [shorten(str(text), SHOWN_CHARACTERS) for text in worst[SAMPLE_TEXT]]
                worst = worst.assign(**{SAMPLE_TEXT: starts})
                names = [SAMPLE_TEXT, *names]
            head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in ["", *names])
            lines.append(f"<table><thead><tr>{head}</tr></thead><tbody>")
            for row, picture in zip(worst[names].itertuples(index=False), pictures, strict=True):
                words = (html.escape(str(value)) for value in row[:-1])
                cells = [picture, *words, f"{row[-1]:.3f}"]
                lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
            lines.append("</tbody></table>")
        return "\n".join(lines)

    def _pictures(self, shown: pd.DataFrame) -> list[str]:
        """Return an ``<img>`` element for each sample, "" for samples without a picture."""
        from labelaudit.reporting.pictures import encode_picture

        show = self.contents.evidence.pictures
        if show is None or not len(shown):
            return [""] * len(shown)
        position = pd.Index(self.samples["sample_id"]).get_indexer(shown["sample_id"])
        found = show(
            position.astype(np.int64), lambda _, image: encode_picture(image, PICTURE_SIDE)
        )
        return [
            ""
            if picture is None
            else f'<img src="{picture.data_uri}" width="{PICTURE_SIDE}" style="image-rendering:'
            f'{"pixelated" if picture.tiny else "auto"}">'
            for picture in found
        ]
