"""Label uncertainty ε of every label after every epoch, recorded on disk.

There is one parquet file per epoch, ``epoch-00001.parquet`` and so on, with the columns `COLUMNS`.
`EpsilonRecorder` records from any PyTorch training loop. `EpsilonHistory` reads one epoch at a time, so
that memory does not grow with the number of epochs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from labelaudit.checksums import file_digest
from labelaudit.errors import OptionError, SourceError
from labelaudit.files import atomic_write
from labelaudit.training import distributed
from labelaudit.training.batches import TrainingImages
from labelaudit.training.divergence import DivergedError
from labelaudit.training.guider import make_guider
from labelaudit.training.loop import predict
from labelaudit.training.method import Method

SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("epoch", pa.int32()),
        ("epsilon", pa.float32()),
        ("learner_prob", pa.float32()),
        ("guider_prob", pa.float32()),
    ]
)
VALUES = ("epsilon", "learner_prob", "guider_prob")
PART = re.compile(r"epoch-(\d{5,})\.parquet")


def write_part(
    folder: Path,
    epoch: int,
    sample_ids: Sequence[str] | np.ndarray,
    learner_prob: np.ndarray,
    guider_prob: np.ndarray,
) -> Path:
    """Write the file of one epoch, atomically. An existing file is replaced.

    Parameters
    ----------
    folder
        Folder of the files. It is created if it does not exist.
    epoch
        Number of the epoch, from 1.
    sample_ids
        ``(L,)`` text.
    learner_prob, guider_prob
        ``(L,)``, the probability of the given label. ε is their absolute difference (Eq. 11).
    """
    folder.mkdir(parents=True, exist_ok=True)
    learner_prob = np.asarray(learner_prob, dtype=np.float32)
    guider_prob = np.asarray(guider_prob, dtype=np.float32)
    table = pa.table(
        [
            pa.array(sample_ids, pa.string()),
            np.full(len(learner_prob), epoch, dtype=np.int32),
            np.abs(guider_prob - learner_prob),
            learner_prob,
            guider_prob,
        ],
        schema=SCHEMA,
    )
    path = part_path(folder, epoch)
    with atomic_write(path) as partial:
        pq.write_table(table, partial, compression="zstd")
    return path


def part_path(folder: Path, epoch: int) -> Path:
    """Return the path of the file of an epoch."""
    return folder / f"epoch-{epoch:05d}.parquet"


def recorded_epochs(folder: Path) -> list[int]:
    """Return the numbers of the epochs that have a file, in order."""
    found = ((PART.fullmatch(path.name), path) for path in folder.glob("epoch-*.parquet"))
    epochs = ((int(match[1]), path) for match, path in found if match)
    # Another spelling, such as epoch-000001.parquet, was not written here.
    return sorted(e for e, path in epochs if e > 0 and path.name == part_path(folder, e).name)


def find_part_damage(
    folder: Path, last_epoch: int, digests: Mapping[int, str] | None
) -> str | None:
    """Return which recorded epoch is missing or has changed, in words, or None.

    Parameters
    ----------
    folder
        Folder of the files.
    last_epoch
        Epochs 1 to `last_epoch` must be there.
    digests
        Their checksums, from `labelaudit.checksums.file_digest`. With None it is only checked that
        each file can be read.
    """
    for epoch in range(1, last_epoch + 1):
        path = part_path(folder, epoch)
        if not path.is_file():
            return f"{path} is missing"
        if digests is None:
            try:
                pq.read_table(path, columns=list(VALUES))
            except (OSError, ValueError, KeyError):  # pyarrow's errors are subclasses of them
                return f"{path} is damaged"
        elif file_digest(path) != digests.get(epoch):
            return f"{path} has changed since it was written"
    return None


def remove_parts(folder: Path, after: int) -> int:
    """Delete the files of all epochs after one; return how many there were."""
    later = [epoch for epoch in recorded_epochs(folder) if epoch > after]
    for epoch in later:
        part_path(folder, epoch).unlink()
    return len(later)


@dataclass(frozen=True, eq=False)
class GivenLabelProbs:
    """The learner's and the guider's probability of every given label after an epoch.

    Attributes
    ----------
    learner_prob, guider_prob
        ``(L,)`` float32 in [0, 1].
    """

    learner_prob: np.ndarray
    guider_prob: np.ndarray

    @property
    def epsilon(self) -> np.ndarray:
        """ε (Eq. 11), not clamped, ``(L,)`` float32 in [0, 1]."""
        return np.asarray(np.abs(self.guider_prob - self.learner_prob))


def look_at_labels(method: Method, images: TrainingImages) -> GivenLabelProbs:
    """Predict every labeled image by learner and guider, without noise.

    With several processes, each predicts its part, and process 0 returns the values of all L images.
    Raises DivergedError if a probability is not finite.
    """
    labeled = np.flatnonzero(images.noisy_labels >= 0)
    given = images.noisy_labels[labeled]
    mine = given[distributed.part(len(labeled))]
    probs = np.empty((len(mine), 2), dtype=np.float32)  # of the learner and of the guider

    def take(
        learner_probs: np.ndarray, guider_probs: np.ndarray, _: np.ndarray, part: slice
    ) -> None:
        rows = np.arange(len(learner_probs))
        probs[part, 0] = learner_probs[rows, mine[part]]
        probs[part, 1] = guider_probs[rows, mine[part]]

    predict(method, images, labeled, take)
    if not all(distributed.everyone(bool(np.isfinite(probs).all()))):
        raise DivergedError("the predictions are not finite")
    whole = distributed.gather_rows(probs, len(labeled))
    return GivenLabelProbs(whole[:, 0], whole[:, 1])


class EpsilonHistory:
    """Recorded epochs, read one at a time.

    Parameters
    ----------
    folder
        Folder of the files.
    last_epoch
        Later epochs are left out.
    owner
        An object to keep as long as the history exists, such as the handle of a temporary folder.
    """

    def __init__(
        self, folder: str | Path, last_epoch: int | None = None, *, owner: object = None
    ) -> None:
        self.folder = Path(folder)
        self._owner = owner
        epochs = recorded_epochs(self.folder)
        self.epochs = [e for e in epochs if last_epoch is None or e <= last_epoch]

    def read(self, epoch: int) -> dict[str, np.ndarray]:
        """Return `epsilon`, `learner_prob` and `guider_prob` of an epoch, each ``(L,)`` float32.

        Rows are the labeled samples, in the same order in every epoch.

        Raises
        ------
        KeyError
            If the epoch was not recorded.
        """
        if epoch not in self.epochs:
            raise KeyError(f"epoch {epoch} is not among the recorded ones, {self.epochs}")
        table = pq.read_table(part_path(self.folder, epoch), columns=list(VALUES))
        return {name: table[name].to_numpy() for name in VALUES}

    def frame(self) -> pd.DataFrame:
        """Return all epochs as one data frame, with one row per sample and epoch."""
        paths = [part_path(self.folder, epoch) for epoch in self.epochs]
        if not paths:
            return pd.DataFrame(columns=SCHEMA.names)
        return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)

    def sample_ids(self) -> list[str]:
        """Return the ``(L,)`` ids of the recorded samples."""
        if not self.epochs:
            return []
        path = part_path(self.folder, self.epochs[-1])
        ids: list[str] = pq.read_table(path, columns=["sample_id"])["sample_id"].to_pylist()
        return ids

    def __iter__(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for epoch in self.epochs:
            yield epoch, self.read(epoch)


class EpsilonRecorder:
    """Record learner-guider ε from your own PyTorch training loop.

    ::

        recorder = EpsilonRecorder("epsilon", model)
        for epoch in range(1, epochs + 1):
            for images, labels in train_loader:
                ...  # your step
                optimizer.step()
                recorder.update()
            recorder.record(epoch, audit_loader)  # (images, labels, sample_ids), not shuffled
        history = recorder.history()

    Parameters
    ----------
    folder
        Folder for the recorded epochs, one parquet file each.
    model
        Any classifier that returns logits ``(B, C)``. Its moving average is the guider.
    ema_decay
        γ of Eq. 10 in (0, 1), the weight of the old value at each `update`.
    to_probs
        Converts the output of the model to probabilities ``(B, C)``; softmax by default.

    Raises
    ------
    OptionError
        If `ema_decay` is not in (0, 1).
    """

    def __init__(
        self,
        folder: str | Path,
        model: nn.Module,
        *,
        ema_decay: float = 0.99,
        to_probs: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not 0 < ema_decay < 1:
            raise OptionError(f"ema_decay is {ema_decay}; it must lie between 0 and 1")
        self.folder = Path(folder)
        self.model = model
        self.guider = make_guider(model, ema_decay)
        self._to_probs = to_probs or (lambda logits: logits.softmax(1))

    def update(self) -> None:
        """Update the guider. Call this after each optimizer step."""
        self.guider.update_parameters(self.model)

    @torch.no_grad()
    def record(self, epoch: int, samples: Iterable[tuple[Tensor, Tensor, Sequence[str]]]) -> Path:
        """Predict every labeled sample without dropout, and write the file of the epoch.

        Each module of the model keeps its mode, training or evaluation.

        Parameters
        ----------
        epoch
            Number of the epoch, from 1. An existing file of this epoch is replaced. Files of later
            epochs are of an earlier training, and are removed.
        samples
            Batches of inputs without augmentation, labels ``(B,)`` int64 in 0..C-1, and sample ids, in
            the same order for each epoch.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        SourceError
            If there are no samples, or a label is not in 0..C-1.
        """
        modes = [(module, module.training) for module in self.model.modules()]
        try:
            path = self._record(epoch, samples)
        finally:
            for module, mode in modes:
                module.training = mode
        remove_parts(self.folder, after=epoch)
        return path

    def _record(self, epoch: int, samples: Iterable[tuple[Tensor, Tensor, Sequence[str]]]) -> Path:
        self.model.eval()
        self.guider.eval()
        device = next(self.model.parameters()).device
        ids: list[str] = []
        learner_parts: list[np.ndarray] = []
        guider_parts: list[np.ndarray] = []
        for inputs, labels, sample_ids in samples:
            inputs, index = inputs.to(device), labels.to(device)[:, None]
            learner_probs = self._to_probs(self.model(inputs))
            guider_probs = self._to_probs(self.guider(inputs))
            classes = learner_probs.shape[1]
            if labels.numel() and not (0 <= int(labels.min()) and int(labels.max()) < classes):
                raise SourceError(
                    f"labels run from {int(labels.min())} to {int(labels.max())}, but the model"
                    f" has classes 0 to {classes - 1}; leave unlabeled samples out"
                )
            learner_parts.append(learner_probs.gather(1, index).squeeze(1).float().cpu().numpy())
            guider_parts.append(guider_probs.gather(1, index).squeeze(1).float().cpu().numpy())
            ids.extend(str(i) for i in sample_ids)
        if not ids:
            raise SourceError("there were no samples to record; pass (inputs, labels, ids) batches")
        return write_part(
            self.folder, epoch, ids, np.concatenate(learner_parts), np.concatenate(guider_parts)
        )

    def history(self) -> EpsilonHistory:
        """Return the epochs recorded so far."""
        return EpsilonHistory(self.folder)
