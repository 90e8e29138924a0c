"""What an audit found, as data frames and plain numbers; and how to save and show it."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelaudit.progress import Reporter
from labelaudit.reporting.evidence import Evidence
from labelaudit.reporting.run_folder import RunFolder
from labelaudit.suspects.summary import Summary
from labelaudit.training.recorder import EpsilonHistory
from labelaudit.version import installed_version

SHOWN_SUSPECTS = 10
PICTURE_SIDE = 64  # pixels


@dataclass(frozen=True, eq=False)
class RunContents:
    """What a run folder holds beside the tables and the summary.

    Attributes
    ----------
    fingerprint
        Of samples and labels.
    settings
        What must be the same for a run to be resumed.
    skipped
        Samples that could not be read: columns sample_id, path, reason.
    evidence
        What the report shows beside a suspect.
    model
        Weights and settings as plain types, see `labelaudit.methods.umn.UMN.portable`; None where
        nothing was trained.
    """

    fingerprint: str
    settings: Mapping[str, Any]
    skipped: pd.DataFrame
    evidence: Evidence
    model: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class ScanResult:
    """What a scan found.

    Attributes
    ----------
    samples
        Every sample, in the data set's order; columns as in
        `labelaudit.suspects.table.samples_table`.
    suspects
        Flagged samples, worst first; what suspects.csv holds.
    duplicates
        Pairs of samples that are the same, or nearly, and have different labels; what duplicates.csv
        holds. Columns as in `labelaudit.suspects.duplicates.conflicting_duplicates`.
    summary
        Counts, expectations, trust and settings: what summary.json holds.
    pred_probs
        ``(N, C)`` floats, the guider's class probabilities, rows in the order of `samples`; or the
        predictions that were audited.
    embeddings
        ``(N, d)`` float32, the guider's mean z_a; None where nothing was trained.
    history
        ε and both probabilities of every labeled sample after every epoch; None where they were
        not recorded.
    contents
        What else `save` writes.
    run_dir
        Where the files are; None if none were written.
    """

    samples: pd.DataFrame
    suspects: pd.DataFrame
    duplicates: pd.DataFrame
    summary: Summary
    pred_probs: np.ndarray
    embeddings: np.ndarray | None
    history: EpsilonHistory | None
    contents: RunContents = field(repr=False)
    run_dir: Path | None = None

    def save(
        self, folder: str | Path, *, force: bool = False, max_suspects: int | None = None
    ) -> ScanResult:
        """Write the run folder that `labelaudit.scan` writes with ``out``.

        Parameters
        ----------
        folder
            The folder to write.
        force
            Replace a folder that labelaudit wrote.
        max_suspects
            How many of the worst suspects the report shows; by default all.

        Returns
        -------
        ScanResult
            This result, with `run_dir`.

        Raises
        ------
        OutputError
            If the folder is there already or cannot be written.
        """
        run = RunFolder(folder, force=force)
        run.claim(installed_version(), self.contents.fingerprint, dict(self.contents.settings))
        try:
            saved = self.written_to(run, max_suspects=max_suspects)
        except BaseException:
            run.abandon()
            raise
        run.finish("complete")
        return saved

    def written_to(
        self,
        folder: RunFolder,
        *,
        max_suspects: int | None = None,
        reporter: Reporter | None = None,
    ) -> ScanResult:
        """Write all files into a folder that is claimed; return this result with `run_dir`."""
        from labelaudit.reporting.files import write_results

        result = replace(self, run_dir=folder.path)
        write_results(folder, result, max_suspects=max_suspects, reporter=reporter)
        return result

    def report(self, path: str | Path, *, max_suspects: int | None = None) -> Path:
        """Write the report as a page, with the files that it needs in a folder beside it.

        Parameters
        ----------
        path
            The HTML file; it is replaced if it is there.
        max_suspects
            How many of the worst suspects it shows; by default all.

        Returns
        -------
        Path
            The page. Its plots and pictures are inside of it; of many suspects, their data lie in
            ``report-data`` beside it.
        """
        from labelaudit.reporting.files import write_report

        page = Path(path)
        write_report(page, self, max_suspects=max_suspects)
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
            head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in ["", *names])
            lines.append(f"<table><thead><tr>{head}</tr></thead><tbody>")
            for row, picture in zip(worst[names].itertuples(index=False), pictures, strict=True):
                cells = [picture, *(html.escape(str(value)) for value in row[:3]), f"{row[3]:.3f}"]
                lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
            lines.append("</tbody></table>")
        return "\n".join(lines)

    def _pictures(self, shown: pd.DataFrame) -> list[str]:
        """Return an ``<img>`` of each sample shown, "" where there is none."""
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
