"""Class numbers from labels that are text.

Labels of all sources are converted here. Their text is exactly as written. Only an empty text means
unlabeled: "NA", "null" and "001" are names.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from labelaudit.errors import SourceError
from labelaudit.files import well_formed
from labelaudit.images.containers import Images, Indices, NoImages
from labelaudit.sources.manifest import EXCLUDED, UNLABELED, VERIFIED, Manifest, Source, Texts
from labelaudit.sources.name_matching import match_clean_labels, match_names, plain_form, renamed
from labelaudit.sources.wording import count, some

if TYPE_CHECKING:
    from labelaudit.sources.annotators import VoteTexts

_INTEGER = re.compile(r"-?[0-9]{1,18}")


def as_text(value: object) -> str:
    """Return a cell's value as the text that a class name is; "" where it is empty.

    Raises TypeError for lists and objects. Its message names the type.
    """
    if isinstance(value, str):
        return well_formed(str(value))
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if np.isnan(number):
            return ""
        # A column of integers with empty cells is read as floats: its 3.0 is the class "3".
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"a {type(value).__name__}, not text or a number")


def text_array(texts: Sequence[str]) -> Texts:
    """Return texts as an array (N,) of Python strings."""
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def make_source(
    *,
    name: str,
    where: str,
    ids: list[str],
    paths: Texts,
    images: Images,
    labels: list[str],
    clean: list[str] | None = None,
    declared: tuple[str, ...] = (),
    marks: Sequence[str] | None = None,
    first: Sequence[str] | None = None,
    votes: "VoteTexts | None" = None,
    warnings: Sequence[str] = (),
    skipped: Sequence[tuple[str, str, str]] = (),
    hint: str = "",
    require_classes: bool = True,
) -> Source:
    """Build a source and number its classes; refuse labels that cannot be trained on.

    Parameters
    ----------
    name, where : str
        Name of the source, and how messages refer to it.
    ids, paths, images
        The manifest's `sample_ids`, `paths` and `images`.
    labels, clean : list of str
        Given and true labels (N,); "" where there is none. True labels may be written in another way
        than the given ones; see `labelaudit.sources.name_matching`.
    declared : tuple of str
        Class names in their order. Classes that only labels name follow after them.
    marks : sequence of str, optional
        `VERIFIED`, `EXCLUDED` or "" for each sample. Excluded samples are left out, and so are classes
        that only they have.
    first : sequence of str, optional
        Labels that were given at first, (N,); "" where unknown. They add no classes, and may be
        written in another way, too.
    votes : VoteTexts, optional
        The labels by several annotators, if `labels` are what most of them chose. Classes that only
        single annotators name are classes too.
    warnings, skipped
        Warnings so far, one line each; and rows (sample_id, path, reason) of skipped samples.
    hint : str
        Advice for the message if there are fewer than two classes.
    require_classes : bool
        Whether fewer than two classes are refused.
    """
    verified = None
    if marks is not None:
        labels = [
            "" if mark == EXCLUDED else text for text, mark in zip(labels, marks, strict=True)
        ]
        verified = np.array([mark == VERIFIED for mark in marks], dtype=bool)
        bare = [name for name, v, text in zip(ids, verified, labels, strict=True) if v and not text]
        if bare:
            warnings = (
                *warnings,
                f"{count(bare, 'sample is', 'samples are')} marked as verified without a label:"
                f" {some(bare)}; taken as unlabeled",
            )
    named = set(labels)
    if votes is not None:
        named |= votes.names()
        warnings = (*warnings, *votes.warnings)
    class_names = _class_names(named, declared)
    if clean is not None:
        clean, added = match_clean_labels(clean, labels, declared, where)
        warnings = (*warnings, *added)
    if first is not None:
        first = renamed(first, match_names(first, class_names, declared))
    manifest = Manifest(
        name=name,
        sample_ids=text_array(ids),
        paths=paths,
        noisy_labels=_encode(labels, class_names),
        class_names=class_names,
        images=images,
    )
    if require_classes:
        _require_classes(manifest, where, hint)
    if "" in declared:
        warnings = (
            *warnings,
            f"{where}: class {declared.index('')} has no name; its samples are taken as unlabeled",
        )
    minus_one = labels.count(str(UNLABELED))
    if minus_one and str(UNLABELED) not in declared:
        warnings = (
            *warnings,
            f'{where}: "-1" is taken as a class of that name ({minus_one:,} labels); '
            "leave the cell empty for samples without a label",
        )
    source = Source(
        manifest=manifest,
        clean_labels=None if clean is None else text_array(clean),
        warnings=tuple(warnings),
        skipped=pd.DataFrame(list(skipped), columns=["sample_id", "path", "reason"], dtype=str),
        verified=verified,
        first_labels=None if first is None else text_array(first),
        votes=None if votes is None else votes.numbered(class_names),
    )
    if marks is None:
        return source
    excluded = np.array([mark == EXCLUDED for mark in marks], dtype=bool)
    return source.without_excluded(excluded, "in the column of verified labels")


def check_trainable(source: Source) -> Source:
    """Check that the data can be trained on without the unreadable images, which are left out already.

    Returns
    -------
    Source
        The same with warnings added: classes with one labeled image or none, and class names
        that differ only in case, spaces or the form of a number.

    Raises
    ------
    SourceError
        No labeled image is left, or all of them are of one class.
    """
    manifest = source.manifest
    counts = _require_classes(manifest, manifest.name)
    names = np.array(manifest.class_names, dtype=object)
    noun = _noun(manifest)
    added = []
    if single := names[counts == 1].tolist():
        added.append(
            f"{count(single, 'class has', 'classes have')} a single labeled {noun}: "
            f"{some(single)}; one {noun} says little about a class"
        )
    if none_left := names[counts == 0].tolist():
        added.append(
            f"{count(none_left, 'class has', 'classes have')} no labeled {noun}: {some(none_left)}"
        )
    alike: dict[str, list[str]] = {}
    for class_name in manifest.class_names:
        alike.setdefault(plain_form(class_name), []).append(class_name)
    groups = [" / ".join(f'"{n}"' for n in group) for group in alike.values() if len(group) > 1]
    if groups:
        added.append(
            "class names differ only in case, spaces or the form of a number:"
            f" {some(groups, quote=False)}; they are taken as different classes, so"
            " rename them if they are not"
        )
    return replace(source, warnings=tuple(dict.fromkeys((*source.warnings, *added))))


def _class_names(texts: set[str], declared: tuple[str, ...]) -> tuple[str, ...]:
    """Return the declared names, then the others: sorted as numbers if all are, else as text."""
    others = texts - {"", *declared}
    if all(_INTEGER.fullmatch(text) for text in others):
        return declared + tuple(sorted(others, key=lambda text: (int(text), text)))
    return declared + tuple(sorted(others))


def _encode(texts: list[str], class_names: tuple[str, ...]) -> Indices:
    index = {name: i for i, name in enumerate(class_names)}
    index[""] = UNLABELED
    return np.fromiter((index[text] for text in texts), np.int64, count=len(texts))


def _noun(manifest: Manifest) -> str:
    return "sample" if isinstance(manifest.images, NoImages) else "image"


def _require_classes(manifest: Manifest, where: str, hint: str = "") -> Indices:
    """Return the number of labeled images per class, (C,); SourceError if fewer than two have any."""
    labels = manifest.noisy_labels[manifest.labeled]
    counts = np.bincount(labels, minlength=manifest.num_classes)
    advice = f"; {hint}" if hint else ""
    noun = _noun(manifest)
    if not len(labels):
        raise SourceError(
            f"{where}: none of the {manifest.num_samples:,} {noun}s has a label"
            f"{advice or '; at least two classes need some'}"
        )
    if np.count_nonzero(counts) == 1:
        only = manifest.class_names[int(labels[0])]
        raise SourceError(
            f'{where}: all {len(labels):,} labeled {noun}s are of one class, "{only}"'
            f"{advice or '; at least two are needed'}"
        )
    return counts
