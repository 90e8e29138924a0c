"""What data is: `Manifest`, the images and labels to audit, and `Source`, what came with them.

Wherever data comes from (arrays here, files in `labelaudit.sources.folders`), labels pass through
here as text, exactly as written, and become class numbers in one place (`make_source`). Only an
empty text means unlabeled: "NA", "null" and "001" are names.

Clean labels, where a source has them, stay outside the manifest, so that they cannot reach
training.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from labelaudit.errors import SourceError
from labelaudit.images.containers import ImageArrays, Images, Indices, NoImages

UNLABELED = -1
# With a smaller share of labeled samples each label is drawn many times in each epoch and spreads to
# the unlabeled samples around it.
FEW_LABELED_SHARE = 0.05
# What a row may say of its label besides.
VERIFIED, EXCLUDED = "verified", "excluded"

_INTEGER = re.compile(r"-?[0-9]{1,18}")

Texts = npt.NDArray[np.object_]


def are_few(num_labeled: int, num_samples: int) -> bool:
    """Whether so few samples are labeled that what is learned comes from the unlabeled ones."""
    return num_labeled < FEW_LABELED_SHARE * num_samples


@dataclass(frozen=True, eq=False)
class Manifest:
    """What there is to audit: N images in a fixed order, and the labels given to them.

    Attributes
    ----------
    name : str
        The source's name, a folder's or a file's stem.
    sample_ids : array (N,) object of str
        Unique; for files the path relative to the source, with forward slashes.
    paths : array (N,) object of str
        Path of the file as a person would open it; "" where the image lies in a table or array.
    noisy_labels : array (N,) int64
        The given labels, indices into `class_names`; `UNLABELED` where there is none.
    class_names : tuple of str
        Names of the C classes.
    images : Images
        The images themselves, read only when asked for.
    """

    name: str
    sample_ids: Texts
    paths: Texts
    noisy_labels: Indices
    class_names: tuple[str, ...]
    images: Images

    @property
    def num_samples(self) -> int:
        """How many images there are, labeled or not."""
        return len(self.sample_ids)

    @property
    def labeled(self) -> npt.NDArray[np.bool_]:
        """Mask (N,) bool of the images that have a label."""
        mask: npt.NDArray[np.bool_] = self.noisy_labels != UNLABELED
        return mask

    @property
    def num_labeled(self) -> int:
        """How many images have a label."""
        return int(np.count_nonzero(self.labeled))

    @property
    def num_classes(self) -> int:
        """How many classes there are, those without an image among them."""
        return len(self.class_names)

    def subset(self, keep: npt.NDArray[Any]) -> "Manifest":
        """Return the images that `keep` picks, with the same class names.

        Parameters
        ----------
        keep : array (M,) int or (N,) bool
            Indices in the order wanted, or a mask.
        """
        indices = _as_indices(keep, self.num_samples)
        return Manifest(
            name=self.name,
            sample_ids=self.sample_ids[indices],
            paths=self.paths[indices],
            noisy_labels=self.noisy_labels[indices],
            class_names=self.class_names,
            images=self.images.subset(indices),
        )

    def fingerprint(self) -> str:
        """Return a sha256 (hex) of ids, labels and class names, to notice changed data.

        The pixels are not part of it: reading them all only to refuse a resume costs too much.
        """
        texts = [list(self.class_names), self.sample_ids.tolist()]
        digest = hashlib.sha256(json.dumps(texts).encode())
        digest.update(self.noisy_labels.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Verified:
    """Which of L given labels a person has verified, and what these were at first.

    Attributes
    ----------
    labels : array (L,) bool
        Whether the label is verified, and therefore right.
    first_given : array (L,) int64
        The label as it was given at first, for one that a person kept or corrected. `UNLABELED`
        where that is not known.
    """

    labels: npt.NDArray[np.bool_]
    first_given: Indices

    @classmethod
    def of_mask(cls, labels: npt.NDArray[np.bool_]) -> "Verified | None":
        """Take a mask (L,) bool, of whose labels no more is known; None where none is verified."""
        return cls(labels, np.full(len(labels), UNLABELED)) if labels.any() else None

    def subset(self, rows: Indices) -> "Verified":
        """Return what is known of the labels in `rows`, (M,)."""
        return Verified(self.labels[rows], self.first_given[rows])

    def as_given(self, labels: Indices) -> Indices:
        """Return labels (L,) as they were given at first, as far as that is known."""
        return np.where(self.labels & (self.first_given >= 0), self.first_given, labels)


@dataclass(frozen=True, eq=False)
class Source:
    """A manifest, and what came with it that training must not or need not see.

    Attributes
    ----------
    manifest : Manifest
        What to audit.
    clean_labels : array (N,) object of str, or None
        The names of the true classes where the source has them, "" where unknown. They are names,
        not numbers, so that a class that no given label names adds nothing to `class_names`:
        training never learns of it.
    warnings : tuple of str
        One readable line each.
    skipped : DataFrame
        Labels and files that are not part of the manifest: columns sample_id, path, reason.
    verified : array (N,) bool, or None
        Whether a person has verified the label. It is taken as right then: never flagged, and trusted
        by all that learns from labels. False where there is no label; None where none is verified.
    first_labels : array (N,) object of str, or None
        The names of the labels as they were given at first, where a verified one is known to have been
        kept or corrected; else "".
    num_excluded : int
        How many samples a person has excluded; they are among the skipped.
    """

    manifest: Manifest
    clean_labels: Texts | None
    warnings: tuple[str, ...]
    skipped: pd.DataFrame
    verified: npt.NDArray[np.bool_] | None = None
    first_labels: Texts | None = None
    num_excluded: int = 0

    def __post_init__(self) -> None:
        if self.verified is not None:
            verified = self.verified & self.manifest.labeled
            object.__setattr__(self, "verified", verified if verified.any() else None)

    @property
    def first_given(self) -> Indices | None:
        """`first_labels` as class numbers; `UNLABELED` where not known, or no class (any more)."""
        if self.first_labels is None:
            return None
        index = {name: number for number, name in enumerate(self.manifest.class_names)}
        numbers = (index.get(text, UNLABELED) for text in self.first_labels)
        return np.fromiter(numbers, np.int64, count=len(self.first_labels))

    @property
    def verified_labels(self) -> Verified | None:
        """What is known of the labels of the L labeled samples; None where none is verified."""
        if self.verified is None:
            return None
        labeled = self.manifest.labeled
        known = Verified.of_mask(self.verified[labeled])
        first_given = self.first_given
        if known is None or first_given is None:
            return known
        return replace(known, first_given=first_given[labeled])

    def fingerprint(self) -> str:
        """Return the manifest's fingerprint, and with verified labels one that knows of these."""
        manifest = self.manifest.fingerprint()
        known = self.verified_labels
        if known is None:
            return manifest
        digest = hashlib.sha256(manifest.encode() + known.labels.tobytes())
        digest.update(known.first_given.astype("<i8").tobytes())
        return digest.hexdigest()

    def subset(self, keep: npt.NDArray[Any]) -> "Source":
        """Return the images that `keep` picks: (M,) indices or an (N,) mask."""
        indices = _as_indices(keep, self.manifest.num_samples)
        return replace(
            self,
            manifest=self.manifest.subset(indices),
            clean_labels=None if self.clean_labels is None else self.clean_labels[indices],
            verified=None if self.verified is None else self.verified[indices],
            first_labels=None if self.first_labels is None else self.first_labels[indices],
        )

    def without_excluded(self, excluded: npt.NDArray[np.bool_], where: str) -> "Source":
        """Return the images that nobody has excluded; the others are skipped, with a warning.

        Parameters
        ----------
        excluded : array (N,) bool
            Which are excluded.
        where : str
            Where that is written, such as "in the table".
        """
        gone = np.flatnonzero(excluded).tolist()
        if not gone:
            return self
        why = f"excluded {where}"
        left = self.without_unreadable(dict.fromkeys(gone, why), f"{why} and left out")
        return replace(left, num_excluded=self.num_excluded + len(gone))

    def without_unreadable(
        self, unreadable: Mapping[int, str], fate: str = "could not be read and left out"
    ) -> "Source":
        """Return the images that could be read; the others are listed as skipped, with a warning.

        Parameters
        ----------
        unreadable : mapping of int to str
            Why an image could not be read, by its index.
        fate : str
            What the warning says of them all.
        """
        gone = sorted(unreadable)
        manifest = self.manifest
        rows = pd.DataFrame(
            {
                "sample_id": manifest.sample_ids[gone],
                "path": manifest.paths[gone],
                "reason": [unreadable[index] for index in gone],
            },
            dtype=str,
        )
        examples = some([str(name) for name in manifest.sample_ids[gone]])
        noun = "sample" if isinstance(manifest.images, NoImages) else "image"
        warning = f"{count(gone, noun, noun + 's')} {fate}: {examples}"
        left = self.subset(np.delete(np.arange(manifest.num_samples), gone))
        return replace(
            left,
            warnings=(*self.warnings, warning),
            skipped=pd.concat([self.skipped, rows], ignore_index=True),
        )


def _as_indices(keep: npt.NDArray[Any], num_samples: int) -> Indices:
    chosen = np.asarray(keep)
    if chosen.dtype == np.bool_:
        assert chosen.shape == (num_samples,), (chosen.shape, num_samples)
        return np.flatnonzero(chosen).astype(np.int64)
    return chosen.astype(np.int64)


def source_from_arrays(
    images: npt.ArrayLike | None,
    labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    sample_ids: Sequence[str] | None = None,
    clean_labels: Any = None,
    verified: npt.ArrayLike | None = None,
    name: str = "arrays",
) -> Source:
    """Make a source of images in memory, or of labels without images.

    Parameters
    ----------
    images : array (N, H, W) or (N, H, W, C), or None
        uint8, or floats in [0, 1], which are rounded to uint8. C is 1, 3 or 4 (with alpha).
        An array of uint8 is not copied. None where there are none, but features.
    labels : array or sequence (N,)
        Integers, -1 where unlabeled, or strings, "" or None where unlabeled.
    class_names : sequence of str, optional
        With integer labels the name of each class, in order; with strings the names allowed, in
        the order wanted. By default the labels themselves, sorted.
    sample_ids : sequence of str, optional
        Unique names of the images; by default their row numbers.
    clean_labels : array or sequence (N,), optional
        True labels, in the form of `labels`.
    verified : array (N,) bool, optional
        Labels that a person has verified; they are taken as right.
    name : str
        What to call the source.

    Raises
    ------
    SourceError
        Shapes, types or ranges do not fit, ids repeat, or fewer than two classes have labels.
    """
    found: Images
    if images is None:
        found = NoImages(len(labels))
    else:
        found = ImageArrays(_checked_pixels(np.asarray(images)))
    total = len(found)
    declared = tuple(class_names or ())
    if len(set(declared)) < len(declared):
        raise SourceError(f"class_names repeat: {some(_repeated(declared))}; make them unique")
    texts = _array_labels(labels, total, declared, "labels")
    clean = (
        None
        if clean_labels is None
        else _array_labels(clean_labels, total, declared, "clean_labels")
    )
    ids = [str(i) for i in (range(total) if sample_ids is None else sample_ids)]
    if len(ids) != total:
        raise SourceError(f"there are {len(ids)} sample_ids and {total} images; give one for each")
    if len(set(ids)) < total:
        raise SourceError(f"sample_ids repeat: {some(_repeated(ids))}; make them unique")
    return make_source(
        name=name,
        where=name,
        ids=ids,
        paths=text_array([""] * total),
        images=found,
        labels=texts,
        clean=clean,
        declared=declared,
        marks=None if verified is None else _array_marks(verified, total),
    )


def check_trainable(source: Source) -> Source:
    """Check that what is left after dropping unreadable images can be trained on.

    Parameters
    ----------
    source : Source
        With only the images that will be used.

    Returns
    -------
    Source
        The same with warnings added: classes with one labeled image or none, and class names
        that differ only in case or spaces.

    Raises
    ------
    SourceError
        No labeled image is left, or those left are all of one class.
    """
    manifest = source.manifest
    counts = _require_classes(manifest, manifest.name)
    names = np.array(manifest.class_names, dtype=object)
    added = []
    if single := names[counts == 1].tolist():
        added.append(
            f"{count(single, 'class has', 'classes have')} a single labeled image: "
            f"{some(single)}; one image says little about a class"
        )
    if none_left := names[counts == 0].tolist():
        added.append(
            f"{count(none_left, 'class has', 'classes have')} no labeled image: {some(none_left)}"
        )
    alike: dict[str, list[str]] = {}
    for class_name in manifest.class_names:
        alike.setdefault("".join(class_name.split()).casefold(), []).append(class_name)
    groups = [" / ".join(f'"{n}"' for n in group) for group in alike.values() if len(group) > 1]
    if groups:
        added.append(
            f"class names differ only in case or spaces: {some(groups, quote=False)}; "
            "they are taken as different classes: rename them if they are not"
        )
    return replace(source, warnings=tuple(dict.fromkeys((*source.warnings, *added))))


# --- arrays ------------------------------------------------------------------------------------


def _checked_pixels(images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return images as (N, H, W) or (N, H, W, C) uint8."""
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        raise SourceError(
            f"images have the shape {images.shape}; give (N, H, W), or (N, H, W, C) with channels "
            "last and C in 1, 3, 4"
        )
    if 0 in images.shape:
        raise SourceError(f"no image found in an array of shape {images.shape}")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise SourceError(f"images are {images.dtype}; give uint8, or floats in [0, 1]")
    pixels = np.empty(images.shape, np.uint8)
    # In blocks, for in one go the intermediate floats would take several times the images' memory.
    for start in range(0, len(images), 1024):
        block = images[start : start + 1024]
        if not ((block >= 0) & (block <= 1)).all():  # NaN fails too
            raise SourceError(
                f"images are floats from {block.min():g} to {block.max():g}; scale them to "
                "[0, 1], or give uint8"
            )
        pixels[start : start + 1024] = np.rint(block * 255)
    return pixels


def _array_labels(labels: Any, total: int, declared: tuple[str, ...], what: str) -> list[str]:
    """Return labels given from Python as text: numbers index `declared` where there is one."""
    # Lists are not made arrays: in ["cat", nan] NumPy would turn the NaN into the text "nan".
    values = list(labels) if isinstance(labels, list | tuple) else np.asarray(labels).tolist()
    if not isinstance(values, list) or len(values) != total:
        size = len(values) if isinstance(values, list) else 1
        raise SourceError(f"there are {size} {what} and {total} images; give one for each")
    known = set(declared)
    texts = []
    for row, value in enumerate(values):
        try:
            text = as_text(value)
        except TypeError as error:
            raise SourceError(f"{what}[{row}] is {error}") from error
        if not isinstance(value, str) and text.startswith("-"):
            if text != str(UNLABELED):
                raise SourceError(f"{what}[{row}] is {text}; give -1 where there is no label")
            text = ""
        elif not isinstance(value, str) and text and declared:
            if not (text.isdecimal() and int(text) < len(declared)):
                raise SourceError(
                    f"{what}[{row}] is {text}, and there are {len(declared)} class_names"
                )
            text = declared[int(text)]
        elif text and declared and text not in known:
            raise SourceError(f'{what}[{row}] is "{text}", which is not among class_names')
        texts.append(text)
    return texts


def _array_marks(verified: npt.ArrayLike, total: int) -> list[str]:
    """Return a mask of verified labels as a table's marks."""
    return [VERIFIED if one else "" for one in checked_mask(verified, total).tolist()]


def checked_mask(verified: npt.ArrayLike, total: int) -> npt.NDArray[np.bool_]:
    """Return a mask (N,) bool of verified labels; SourceError where it is none."""
    mask = np.asarray(verified)
    if mask.shape != (total,) or mask.dtype != np.bool_:
        raise SourceError(
            f"verified has the shape {mask.shape} and holds {mask.dtype}; give one True or False for"
            f" each of the {total:,} labels"
        )
    return mask


# --- from text to class numbers ----------------------------------------------------------------


def as_text(value: object) -> str:
    """Return a cell's value as the text that a class name is; "" where it is empty.

    Raises TypeError, with what it is, for lists and objects.
    """
    if isinstance(value, str):
        return str(value)
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
        # A column of integers with empty cells arrives as floats: its 3.0 is the class "3".
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
    warnings: Sequence[str] = (),
    skipped: Sequence[tuple[str, str, str]] = (),
    hint: str = "",
    require_classes: bool = True,
) -> Source:
    """Build a source, its classes numbered; refuse what cannot be trained on before decoding.

    Parameters
    ----------
    name, where : str
        What to call the source, and where it lies, for messages.
    ids, paths, images
        The manifest's `sample_ids`, `paths` and `images`.
    labels, clean : list of str
        Given and true labels (N,), "" where there is none.
    declared : tuple of str
        Class names in their order; those that only labels name come after them.
    marks : sequence of str, optional
        `VERIFIED` or "" for each sample; or `EXCLUDED`, which leaves it out, and with it a class that
        only its label names.
    first : sequence of str, optional
        The labels as they were given at first (N,), "" where that is not known. One that is no class
        adds none.
    warnings, skipped
        What the source came with: lines, and (sample_id, path, reason) rows.
    hint : str
        What to do if there are not two classes.
    require_classes : bool
        Whether that is refused.
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
    class_names = _class_names(set(labels), declared)
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
    minus_one = labels.count(str(UNLABELED))
    if minus_one and str(UNLABELED) not in declared:
        warnings = (
            *warnings,
            f'{where}: "-1" is taken as a class of that name ({minus_one:,} labels); '
            "leave the label empty where there is none",
        )
    source = Source(
        manifest=manifest,
        clean_labels=None if clean is None else text_array(clean),
        warnings=tuple(warnings),
        skipped=pd.DataFrame(list(skipped), columns=["sample_id", "path", "reason"], dtype=str),
        verified=verified,
        first_labels=None if first is None else text_array(first),
    )
    if marks is None:
        return source
    excluded = np.array([mark == EXCLUDED for mark in marks], dtype=bool)
    return source.without_excluded(excluded, "in the column of verified labels")


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


def _require_classes(manifest: Manifest, where: str, hint: str = "") -> Indices:
    """Return the labeled images of each class, (C,) int64; SourceError if under two have any."""
    labels = manifest.noisy_labels[manifest.labeled]
    counts = np.bincount(labels, minlength=manifest.num_classes)
    mend = f"; {hint}" if hint else ""
    if not len(labels):
        raise SourceError(
            f"{where}: none of the {manifest.num_samples:,} images has a label"
            f"{mend or '; at least two classes need some'}"
        )
    if np.count_nonzero(counts) == 1:
        only = manifest.class_names[int(labels[0])]
        raise SourceError(
            f'{where}: all {len(labels):,} labeled images are of one class, "{only}"'
            f"{mend or '; at least two are needed'}"
        )
    return counts


# --- wording -----------------------------------------------------------------------------------


def some(texts: Sequence[str], quote: bool = True) -> str:
    """Name up to three, and say how many more there are."""
    shown = ", ".join(f'"{text}"' if quote else text for text in texts[:3])
    return shown if len(texts) <= 3 else f"{shown} and {len(texts) - 3:,} more"


def count(things: Sequence[object], one: str, many: str) -> str:
    """Return "1 image", "1,234 images"."""
    return f"{len(things):,} {one if len(things) == 1 else many}"


def _repeated(texts: Iterable[str]) -> list[str]:
    return [text for text, times in Counter(texts).items() if times > 1]
