"""scan(): read samples and labels, fit a `LabelAuditor`, write what it found."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelaudit.audit.fitting import RunFiles
from labelaudit.audit.plan import AuditPlan
from labelaudit.auditor import LabelAuditor
from labelaudit.corrections.reviewed import Review, open_review, take_review
from labelaudit.errors import OptionError, SourceError
from labelaudit.prediction_scan import as_list, refuse_training_options, scan_predictions
from labelaudit.progress import Reporter
from labelaudit.reporting.result import ScanResult
from labelaudit.reporting.run_folder import RunFolder
from labelaudit.sources.feature_tables import FeatureSource, TableSource
from labelaudit.sources.prediction_files import join_predictions
from labelaudit.sources.samples import is_parquet, read_samples
from labelaudit.suspects.summary import installed_version
from labelaudit.suspects.trust import warn_of_distrust
from labelaudit.training import distributed
from labelaudit.training.recorder import EpsilonHistory

EPSILON_FOLDER = "epsilon"
CHECKPOINT = "checkpoint.pt"


def scan(
    source: Any,
    labels: Any = None,
    *,
    features: Any = None,
    pred_probs: str | Path | np.ndarray | Sequence[str | Path | np.ndarray] | None = None,
    tabular: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    resume: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    split: str | None = None,
    clean_label_column: str | None = None,
    verified_column: str | None = None,
    reviewed: str | Path | Sequence[str | Path] | None = None,
    encoder: str = "auto",
    weights: str | Path | None = None,
    fine_tune: bool = False,
    image_size: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    flip: bool = False,
    device: str = "auto",
    seed: int = 0,
    time_budget: float | None = None,
    compile: bool = False,
    score: str = "auto",
    threshold: str = "auto",
    max_suspects: int | None = None,
    reporter: Reporter | None = None,
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
        For a folder of images the path of a table of labels. For data in memory N labels: names, or
        integers with -1 for unlabeled.
    features
        Features made elsewhere, of images or anything else. For a table of labels: the name of its
        column that holds a list of numbers per row; a .npy file, array, tensor, DataFrame or list
        ``(N, D)``, whose row i belongs to row i of the table; or a parquet file with ids, such as
        `labelaudit.embed` writes. For images on disk: such a parquet file. For data in memory: any
        of these but a column.
    pred_probs
        Class probabilities of a model of your own, out of sample; nothing is trained then. A file
        .npy or an array ``(N, C)``, whose row i belongs to row i of the table of labels; or a file
        .parquet, .csv or .tsv with ids and one column per class. Of several models, a list.
        See `labelaudit.find_label_issues` for arrays of labels.
    tabular
        The source is a table, and its other columns are the features.
    out
        Folder to write results to. None writes none; the result is the same.
    force, resume
        Replace a run that labelaudit wrote to `out`, or go on with one that was cut off.
    image_column, label_column, id_column, split, clean_label_column
        How to read the source; see `labelaudit.sources.folders.read_source`, and for `id_column`
        `labelaudit.sources.feature_tables.read_labels_with_features`. Clean labels are never seen in
        training, and only used to score the report.
    verified_column
        Column of the table that says which labels a person has verified: these are taken as right, are
        never flagged, and are trusted by all that learns from labels. Rows that say "excluded" are left
        out. A column "first_label", as `labelaudit apply` writes it, says what they were at first. For
        a `Source` see `labelaudit.source_from_arrays`.
    reviewed
        Run folders whose suspects were decided about, in `labelaudit review` or the report. Their
        decisions are taken into the labels, which are verified then, and carried over into the new run
        folder. The scores of the last one are held against them. Where two of them decide about a
        sample, the later one holds.
    encoder
        "auto", "mlp", "conv13", "resnet18", "resnet50" or "resnet101" are trained on these images
        alone. Another network of torchvision, "timm:NAME", or a name with `weights` is a pretrained
        backbone: it stays as it is, and its features are audited, unless `fine_tune` is set.
    weights
        The backbone's: "DEFAULT" for its own, downloaded if need be; a file with a state dict; None
        for its own if they are on this machine.
    fine_tune
        Train the backbone on, as UMN's encoder.
    image_size
        Longest side, in pixels, at which the encoder reads images; of a backbone, the side of the
        square that it reads.
    epochs, batch_size
        By default they follow the data.
    flip
        Mirror training images left to right at random. For photos, whose mirror image shows the same;
        not for digits, letters or signs.
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    seed
        Decides every random draw. On a CPU the same seed gives the same result.
    time_budget
        Minutes. Training ends before an epoch that would exceed it; one epoch is always trained.
    compile
        Try `torch.compile` on the training step, and train with it if the step is faster so. It takes
        a while and draws other random numbers: for long runs, above all on a GPU.
    score
        "auto"; "posterior" for the model's own opinion; or "epsilon" for the paper's own rule.
    threshold
        "auto", a score from 0 to 1, "top:K" or "rate:R" with a share R.
    max_suspects
        How many of the worst suspects the report shows; by default all. The tables hold all of them.
    reporter
        Told of progress; silent by default.

    Returns
    -------
    ScanResult
        Ranking, predictions and history. Under torchrun in the first process alone: the others end
        here.

    Raises
    ------
    SourceError, OptionError, OutputError
        If the data, an option or the output cannot be used; nothing is written then.
    UntrustedResultWarning
        As a warning: the result should not be trusted; its summary says why.
    KeyboardInterrupt
        If interrupted before the first epoch ended. Later, the ranking so far is the result, and
        its summary's `status` is "interrupted".
    """
    started = time.monotonic()
    reporter = reporter or Reporter()
    auditor = LabelAuditor(
        encoder=encoder,
        weights=None if weights is None else str(weights),
        fine_tune=fine_tune,
        image_size=image_size,
        epochs=epochs,
        batch_size=batch_size,
        flip=flip,
        device=device,
        seed=seed,
        time_budget=time_budget,
        compile=compile,
        score=score,
        threshold=threshold,
    )
    with distributed.joined():
        if not distributed.leads():
            reporter = Reporter()
        with distributed.together():
            options = auditor.options()
            if (features is not None or tabular) and features is not None and tabular:
                raise OptionError(
                    "--tabular makes features and --features brings them; give one of them"
                )
            if features is not None or tabular:
                options.refuse_encoder("--tabular" if tabular else "--features")
            if pred_probs is not None:
                refuse_training_options(options, tabular=tabular, resume=resume)
                if distributed.size() > 1:
                    raise OptionError("--pred-probs trains nothing; start it without torchrun")
            if compile and distributed.size() > 1:
                raise OptionError("--compile is for one process; leave it out under torchrun")
            if id_column is not None and features is None and pred_probs is None and not tabular:
                raise OptionError(
                    "--id-column names the ids of rows for --features, --pred-probs or --tabular"
                )
            folder = None
            review = Review()
            if distributed.leads():
                folder = _open_folder(out, force=force, resume=resume)
                review = open_review(reviewed, None if folder is None else folder.path)
            files = None if pred_probs is None else as_list(pred_probs)
            data = read_samples(
                source,
                labels,
                features=features,
                tabular=tabular,
                image_column=image_column,
                label_column=label_column,
                id_column=id_column,
                split=split,
                clean_label_column=clean_label_column,
                verified_column=verified_column,
                predictions=files,
            )
        # The runs may lie on the first machine alone.
        review = distributed.share(review)
        if files is not None:
            in_order = isinstance(data, TableSource) or not isinstance(source, str | Path)
            if isinstance(data, FeatureSource) and features is not None:
                in_order = in_order or not is_parquet(features)
            joined = join_predictions(data, files, rows_known=in_order, unneeded=review.excluded)
            result = scan_predictions(
                take_review(joined, review),
                folder,
                review,
                reporter,
                threshold=threshold,
                seed=seed,
                names=tuple(_name_of(file) for file in files),
                max_suspects=max_suspects,
            )
        else:
            assert not isinstance(data, TableSource)
            scratch = None if out is None else Path(out).absolute().parent
            read_as = {
                "features": None if features is None else _name_of(features),
                "tabular": tabular,
                "max_suspects": max_suspects,
            }
            try:
                plan = auditor.prepare(take_review(data, review), reporter, scratch)
                result = _fit_and_write(auditor, plan, folder, review, started, reporter, read_as)
            except torch.OutOfMemoryError as error:
                raise OptionError(
                    "the GPU has not enough free memory: a smaller --batch-size or --image-size"
                    " takes less, and --device cpu none of it"
                ) from error
    warn_of_distrust(result.summary["trust"], stacklevel=3)
    return result


def _fit_and_write(
    auditor: LabelAuditor,
    plan: AuditPlan,
    folder: RunFolder | None,
    review: Review,
    started: float,
    reporter: Reporter,
    read_as: dict[str, Any],
) -> ScanResult:
    """Train, judge and write; of several processes the first does the last two."""
    fingerprint = plan.inputs.source.fingerprint()
    _refuse_other_data(plan, fingerprint)
    place, temporary = Path(), None  # in a process that writes nothing
    with distributed.together():
        if folder is not None:
            place = folder.path
            folder.claim(installed_version(), fingerprint, plan.settings())
            review.keep_standing(folder.path)
        elif distributed.leads():
            temporary = tempfile.TemporaryDirectory(prefix="labelaudit-")
            place = Path(temporary.name)
    checkpoint = None if folder is None else place / CHECKPOINT
    files = RunFiles(place / EPSILON_FOLDER, checkpoint, owner=temporary)
    try:
        auditor.fit_plan(plan, files, reporter, started=started)
        result = auditor.result()
        result.summary["config"]["options"] |= read_as
        result.summary["checked"] = review.check(result.samples, result.summary)
        if folder is not None:
            result = result.written_to(
                folder, max_suspects=read_as["max_suspects"], reporter=reporter
            )
            review.carry_over(result.samples, folder.path, reporter)
    except BaseException:
        if folder is not None and not EpsilonHistory(place / EPSILON_FOLDER).epochs:
            folder.abandon()
        raise
    if folder is not None:
        folder.finish(auditor.status_)
        if auditor.status_ == "complete":
            (folder.path / CHECKPOINT).unlink(missing_ok=True)
    return result


def _refuse_other_data(plan: AuditPlan, fingerprint: str) -> None:
    """Raise where processes on different machines have found different data, or not enough of it."""
    found = (fingerprint, plan.image_shape, plan.batch_size, plan.epochs)
    everyone = distributed.everyone(found)
    if any(other != everyone[0] for other in everyone):
        raise SourceError(
            "the machines do not hold the same images and labels, or not all can read them; give each"
            " the same files and the same options"
        )
    batches, processes = plan.batches, distributed.size()
    smallest = batches.labeled_draws // batches.steps + batches.unlabeled_draws // batches.steps
    if processes > 1 and smallest < 2 * processes:
        raise OptionError(
            f"{processes} processes share batches of {smallest} samples; start fewer, or raise"
            " --batch-size"
        )


def _name_of(array_or_file: Any) -> str:
    return str(array_or_file) if isinstance(array_or_file, str | Path) else "an array"


def _open_folder(out: str | Path | None, *, force: bool, resume: bool) -> RunFolder | None:
    if out is not None:
        return RunFolder(out, force=force, resume=resume)
    if resume:
        raise OptionError("resume needs the output folder of the run to go on with")
    return None
