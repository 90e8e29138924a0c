"""The data: `Manifest`, the samples and labels to audit, and `Source`, which adds other data.

Clean labels, if a source has them, are not in the manifest, so that they cannot reach training.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from labelaudit.images.containers import Images, Indices, NoImages
from labelaudit.sources.wording import count, kind_of_name, some

if TYPE_CHECKING:
    from labelaudit.sources.annotators import Votes

UNLABELED = -1
# With a smaller share of labeled samples each label is drawn many times in each epoch and spreads to
# the unlabeled samples around it.
FEW_LABELED_SHARE = 0.05
# Marks that a row of a table may give its label.
VERIFIED, EXCLUDED = "verified", "excluded"
Texts = npt.NDArray[np.object_]
_UNREAD = "could not be read and left out"


def are_few(num_labeled: int, num_samples: int) -> bool:
    """Whether so few samples are labeled that mostly the unlabeled ones determine the result."""
    return num_labeled < FEW_LABELED_SHARE * num_samples


@dataclass(frozen=True, eq=False)
class Manifest:
    """The data to audit: N samples in a fixed order, and their given labels.

    Attributes
    ----------
    name : str
        Name of the source: its folder, or its file without the suffix.
    sample_ids : array (N,) object of str
        Unique ids. For files the path relative to the source, with forward slashes.
    paths : array (N,) object of str
        Path that opens the file; "" if the image is in a table or an array.
    noisy_labels : array (N,) int64
        The given labels as indices into `class_names`; `UNLABELED` where there is none.
    class_names : tuple of str
        Names of the C classes.
    images : Images
        The images themselves, which are read only when needed.
    """

    name: str
    sample_ids: Texts
    paths: Texts
    noisy_labels: Indices
    class_names: tuple[str, ...]
    images: Images

    @property
    def num_samples(self) -> int:
        """Number of samples, labeled or not."""
        return len(self.sample_ids)

    @property
    def labeled(self) -> npt.NDArray[np.bool_]:
        """Mask (N,) bool of the samples with a label."""
        mask: npt.NDArray[np.bool_] = self.noisy_labels != UNLABELED
        return mask

    @property
    def num_labeled(self) -> int:
        """Number of samples with a label."""
        return int(np.count_nonzero(self.labeled))

    @property
    def num_classes(self) -> int:
        """Number of classes, including those without a sample."""
        return len(self.class_names)

    def subset(self, keep: npt.NDArray[Any]) -> "Manifest":
        """Return the samples that `keep` selects. The class names stay the same.

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
        """Return a sha256 (hex) of ids, labels and class names, which shows whether data changed.

        Pixels are not part of it. Reading them all only to check a resumed run costs too much.
        """
        texts = [list(self.class_names), self.sample_ids.tolist()]
        digest = hashlib.sha256(json.dumps(texts).encode())
        digest.update(self.noisy_labels.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Verified:
    """Which of L given labels a person has verified, and what they were before.

    Attributes
    ----------
    labels : array (L,) bool
        Whether the label is verified, and therefore right.
    first_given : array (L,) int64
        The label that was given at first, if a person kept or corrected it. `UNLABELED` where unknown.
    """

    labels: npt.NDArray[np.bool_]
    first_given: Indices

    @classmethod
    def of_mask(cls, labels: npt.NDArray[np.bool_]) -> "Verified | None":
        """Return the verified labels of a mask (L,) bool, with unknown first labels; None if empty."""
        return cls(labels, np.full(len(labels), UNLABELED)) if labels.any() else None

    def subset(self, rows: Indices) -> "Verified":
        """Return the same for the labels in `rows`, (M,)."""
        return Verified(self.labels[rows], self.first_given[rows])

    def as_given(self, labels: Indices) -> Indices:
        """Return labels (L,), replaced by those that were given at first where these are known."""
        return np.where(self.labels & (self.first_given >= 0), self.first_given, labels)


@dataclass(frozen=True, eq=False)
class Source:
    """A manifest, and data that training must not see or does not need.

    Attributes
    ----------
    manifest : Manifest
        What to audit.
    clean_labels : array (N,) object of str, or None
        Names of the true classes, if the source has them; "" where unknown. They are names, not
        numbers, so that a class without a given label is not in `class_names`, and training never
        learns of it.
    warnings : tuple of str
        One readable line each.
    skipped : DataFrame
        Labels and files that are not part of the manifest: columns sample_id, path, reason.
    verified : array (N,) bool, or None
        Whether a person has verified the label. Verified labels are taken as right: they are never
        flagged, and every model trusts them. False where there is no label. None if no label is
        verified.
    first_labels : array (N,) object of str, or None
        Names of the labels that verified samples had before a person kept or corrected them. "" where
        unknown, and for all other samples.
    num_excluded : int
        Number of samples that a person has excluded. They are listed in `skipped`.
    votes : Votes, or None
        The labels by several annotators, if the given labels are what most of them chose.
    """

    manifest: Manifest
    clean_labels: Texts | None
    warnings: tuple[str, ...]
    skipped: pd.DataFrame
    verified: npt.NDArray[np.bool_] | None = None
    first_labels: Texts | None = None
    num_excluded: int = 0
    votes: "Votes | None" = None

    def __post_init__(self) -> None:
        if self.verified is not None:
            verified = self.verified & self.manifest.labeled
            object.__setattr__(self, "verified", verified if verified.any() else None)

    @property
    def first_given(self) -> Indices | None:
        """`first_labels` as class numbers; `UNLABELED` where unknown, or not a class."""
        if self.first_labels is None:
            return None
        index = {name: number for number, name in enumerate(self.manifest.class_names)}
        numbers = (index.get(text, UNLABELED) for text in self.first_labels)
        return np.fromiter(numbers, np.int64, count=len(self.first_labels))

    @property
    def verified_labels(self) -> Verified | None:
        """Which of the L labeled samples are verified; None if there are none."""
        if self.verified is None:
            return None
        labeled = self.manifest.labeled
        known = Verified.of_mask(self.verified[labeled])
        first_given = self.first_given
        if known is None or first_given is None:
            return known
        return replace(known, first_given=first_given[labeled])

    def fingerprint(self) -> str:
        """Return the fingerprint of the manifest and, if they exist, of votes and verified labels."""
        manifest = self.manifest.fingerprint()
        if self.votes is not None:
            voted = hashlib.sha256(manifest.encode())
            voted.update(json.dumps(self.votes.annotators).encode())
            voted.update(self.votes.labels.astype("<i8").tobytes())
            manifest = voted.hexdigest()
        known = self.verified_labels
        if known is None:
            return manifest
        digest = hashlib.sha256(manifest.encode() + known.labels.tobytes())
        digest.update(known.first_given.astype("<i8").tobytes())
        return digest.hexdigest()

    def subset(self, keep: npt.NDArray[Any]) -> "Source":
        """Return the samples that `keep` selects: (M,) indices or an (N,) mask."""
        indices = _as_indices(keep, self.manifest.num_samples)
        return replace(
            self,
            manifest=self.manifest.subset(indices),
            clean_labels=None if self.clean_labels is None else self.clean_labels[indices],
            verified=None if self.verified is None else self.verified[indices],
            first_labels=None if self.first_labels is None else self.first_labels[indices],
            votes=None if self.votes is None else self.votes.subset(indices),
        )

    def without_excluded(self, excluded: npt.NDArray[np.bool_], where: str) -> "Source":
        """Return the samples that are not excluded. The others are skipped, with a warning.

        Parameters
        ----------
        excluded : array (N,) bool
            Whether the sample is excluded.
        where : str
            The place of this mark, such as "in the table".
        """
        gone = np.flatnonzero(excluded).tolist()
        if not gone:
            return self
        why = f"excluded {where}"
        left = self.without_unreadable(dict.fromkeys(gone, why), f"{why} and left out")
        return replace(left, num_excluded=self.num_excluded + len(gone))

    def without_unreadable(self, unreadable: Mapping[int, str], fate: str = _UNREAD) -> "Source":
        """Return the samples that could be read. The others are skipped, with a warning.

        Parameters
        ----------
        unreadable : mapping of int to str
            The reason why a sample could not be read, by its index.
        fate : str
            How the warning describes these samples.
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
        if len(gone) > 1 and fate == _UNREAD:
            kinds = Counter(map(kind_of_name, manifest.sample_ids[gone])).most_common(3)
            shown = ", ".join(f"{number:,} {kind}" for kind, number in kinds)
            reason = Counter(unreadable.values()).most_common(1)[0][0]
            warning += f" ({shown}; most often: {reason})"
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
