"""scan(): read samples and labels, fit a `LabelAuditor`, and write the results."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Unpack

from labelaudit.audit.fitting import RunFiles
from labelaudit.audit.plan import AuditPlan
from labelaudit.audit.room import bytes_needed
from labelaudit.auditor import LabelAuditor
from labelaudit.corrections.reviewed import Review, open_review, take_review
from labelaudit.errors import OptionError, SourceError
from labelaudit.files import check_room
from labelaudit.options import (
    ReadOptions,
    ScanKeywords,
    ScanOptions,
    check_scan_options,
    name_of,
    scan_options,
    with_options,
)
from labelaudit.prediction_scan import as_list, scan_predictions
from labelaudit.progress import Reporter, choose_reporter
from labelaudit.reporting.run_folder import RunFolder, refuse_inputs
from labelaudit.scan_result import ScanResult
from labelaudit.sources.feature_tables import FeatureSource, TableSource
from labelaudit.sources.prediction_files import join_predictions
from labelaudit.sources.samples import is_parquet, read_samples
from labelaudit.sources.texts import TextSource
from labelaudit.suspects.trust import warn_of_distrust
from labelaudit.training import distributed
from labelaudit.version import installed_version

EPSILON_FOLDER = "epsilon"
CHECKPOINT = "checkpoint.pt"


@with_options
def scan(
    source: Any,
    labels: Any = None,
    *,
    reporter: Reporter | None = None,
    verbose: bool | None = None,
    **options: Unpack[ScanKeywords],
) -> ScanResult:
    """Train UMN on samples and their labels, and rank the labels by how suspect they are.

    Parameters
    ----------
    source
        The path of a folder, of a CSV, TSV, JSONL or parquet file, or of a folder of parquet shards.
        Or data in memory: an array or tensor of images ``(N, H, W)``, ``(N, H, W, C)`` or
        ``(N, C, H, W)``, uint8 or floats in [0, 1]; a list of arrays or PIL images; features
        ``(N, D)`` as an array, tensor, DataFrame or list; a data set of torchvision, of torch
        (image, label) or of Hugging Face; or a `Source`.
    labels
        A table of labels for a folder of images, or N labels for an array (names, or integers with
        -1 for unlabeled).
    {options}
    reporter
        Receives progress and warnings. By default they are shown as `verbose` says.
    verbose
        False shows no progress. By default it is shown on standard error, if that is a terminal or
        a notebook.

    Returns
    -------
    ScanResult
        Ranking, predictions and history. Under torchrun only process 0 returns; the others end here.

    Raises
    ------
    SourceError, OptionError, OutputError
        If the data, an option or the output cannot be used. Nothing is written then.
    TypeError
        If there is no option of that name.
    KeyboardInterrupt
        If interrupted before the end of the first epoch. Later, the ranking so far is returned, and
        the `status` of its summary is "interrupted".

    Warns
    -----
    UntrustedResultWarning
        If the result should not be trusted. Its summary gives the reasons.
    """
    started = time.monotonic()
    settings = scan_options(options)
    auditor = LabelAuditor(**settings.for_audit())
    reporter = choose_reporter(reporter, verbose)
    with distributed.joined(), ExitStack() as held:
        if not distributed.leads():
            reporter = Reporter()
        with distributed.together():
            check_scan_options(settings)
            if distributed.size() > 1:
                _refuse_processes(settings)
            folder = None
            review = Review()
            if distributed.leads():
                if settings.out is not None:
                    refuse_inputs(settings.out, _inputs(source, labels, settings))
                    folder = held.enter_context(
                        RunFolder(settings.out, force=settings.force, resume=settings.resume)
                    )
                review = open_review(settings.reviewed, None if folder is None else folder.path)
            files = None if settings.pred_probs is None else as_list(settings.pred_probs, labels)
            with reporter.bar("reading the samples"):
                data = read_samples(
                    source,
                    labels,
                    features=settings.features,
                    tabular=settings.tabular,
                    image_column=settings.image_column,
                    label_column=settings.label_column,
                    label_columns=settings.label_columns,
                    text_column=settings.text_column,
                    id_column=settings.id_column,
                    split=settings.split,
                    clean_label_column=settings.clean_label_column,
                    verified_column=settings.verified_column,
                    predictions=files,
                )
        # The reviewed runs may exist only on the machine of process 0.
        review = distributed.share(review)
        if files is not None:
            assert not isinstance(data, TextSource)  # refused with the options
            in_order = isinstance(data, TableSource) or not isinstance(source, str | Path)
            if isinstance(data, FeatureSource) and settings.features is not None:
                in_order = in_order or not is_parquet(settings.features)
            joined = join_predictions(data, files, rows_known=in_order, unneeded=review.excluded)
            result = scan_predictions(
                take_review(joined, review),
                folder,
                review,
                reporter,
                threshold=settings.threshold,
                seed=settings.seed,
                names=tuple(name_of(file) for file in files),
                max_suspects=settings.max_suspects,
            )
        else:
            assert not isinstance(data, TableSource)
            scratch = None if settings.out is None else Path(settings.out).absolute().parent
            read_as = {
                **{one.name: getattr(settings, one.name) for one in fields(ReadOptions)},
                "features": None if settings.features is None else name_of(settings.features),
                "max_suspects": settings.max_suspects,
            }
            del read_as["pred_probs"], read_as["reviewed"]
            before = distributed.share({} if folder is None else folder.begun_with)
            plan = auditor.prepare(take_review(data, review), reporter, scratch, before)
            result = _fit_and_write(auditor, plan, folder, review, started, reporter, read_as)
    warn_of_distrust(result.summary.trust, stacklevel=3)
    return result


def _inputs(source: Any, labels: Any, settings: ScanOptions) -> dict[str, Any]:
    """Return what is read in a scan by the names of the options, for messages."""
    predictions = settings.pred_probs
    several = list(predictions) if isinstance(predictions, list | tuple) else [predictions]
    return {
        "the source": source,
        "the labels": labels,
        "`features`": settings.features,
        "`weights`": settings.weights,
        **{f"`pred_probs` {number}": one for number, one in enumerate(several)},
    }


def _refuse_processes(options: ScanOptions) -> None:
    """Raise where an option works in one process only."""
    if options.pred_probs is not None:
        raise OptionError("with `pred_probs` nothing is trained; start the scan without torchrun")
    if options.compile:
        raise OptionError("`compile` works in one process only; leave it out under torchrun")


def _fit_and_write(
    auditor: LabelAuditor,
    plan: AuditPlan,
    folder: RunFolder | None,
    review: Review,
    started: float,
    reporter: Reporter,
    read_as: dict[str, Any],
) -> ScanResult:
    """Train, score the labels and write the results. Only process 0 does the last two."""
    fingerprint = plan.inputs.source.fingerprint()
    _refuse_other_data(plan, fingerprint)
    place, temporary = Path(), None  # in a process that writes nothing
    with distributed.together():
        if folder is not None:
            place = folder.path
            if not folder.resuming:
                check_room(place, bytes_needed(plan))
            if place.exists():
                review.keep_standing(place)  # before anything is moved
            # Features are compared by their content.
            free = {"features", "max_suspects"}
            read = {name: value for name, value in read_as.items() if name not in free}
            folder.claim(installed_version(), fingerprint, read | plan.decisive(), reporter)
        elif distributed.leads():
            temporary = tempfile.TemporaryDirectory(prefix="labelaudit-")
            place = Path(temporary.name)
    checkpoint = None if folder is None else place / CHECKPOINT
    files = RunFiles(place / EPSILON_FOLDER, checkpoint, owner=temporary)
    auditor.fit_plan(plan, files, reporter, started=started)
    with reporter.bar("searching for duplicates"):
        result = auditor.result()
    summary = result.summary
    options = summary.config["options"] | read_as
    summary = replace(
        summary,
        config=summary.config | {"options": options},
        checked=review.check(result.samples, summary),
    )
    result = replace(result, summary=summary)
    if folder is None:
        return result
    reporter.say("Writing the results.")
    decisions = review.carry_over(result.samples, folder.path, reporter)
    result = result.written_to(
        folder, decisions=decisions, max_suspects=read_as["max_suspects"], reporter=reporter
    )
    folder.finish(auditor.status_, reporter)
    return result


def _refuse_other_data(plan: AuditPlan, fingerprint: str) -> None:
    """Raise if processes found different data, or if a batch is too small for all of them."""
    found = (fingerprint, plan.image_shape, plan.batch_size, plan.epochs)
    everyone = distributed.everyone(found)
    if any(other != everyone[0] for other in everyone):
        raise SourceError(
            "the machines do not have the same images and labels, or cannot all read them; give each"
            " machine the same files and the same options"
        )
    smallest, processes = plan.batches.smallest, distributed.size()
    if processes > 1 and smallest < 2 * processes:
        raise OptionError(
            f"{processes} processes share batches of {smallest} samples; start fewer, or raise"
            " `batch_size`"
        )
