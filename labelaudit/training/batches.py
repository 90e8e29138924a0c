"""The batches of an epoch, and the augmentation of their images on the device."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from labelaudit.errors import OptionError
from labelaudit.training import distributed
from labelaudit.training.method import Batch

# Labeled images are at least this share of a batch (section 4.2: 5 of 100 on MNIST, 5% on SVHN).
MIN_LABELED_SHARE = 0.05
# The whole uint8 store is kept on the device if it needs at most this share of the free memory.
RESIDENT_SHARE = 0.5


@dataclass(frozen=True)
class BatchPlan:
    """How an epoch is cut into batches.

    Attributes
    ----------
    steps
        Number of batches per epoch.
    labeled_draws, unlabeled_draws
        Number of labeled and of unlabeled images drawn per epoch. Every image is drawn at least once;
        labeled images are drawn more often if there are few of them.
    """

    steps: int
    labeled_draws: int
    unlabeled_draws: int
    num_labeled: int

    @property
    def draws_per_label(self) -> float:
        """Mean number of times that each labeled image is drawn per epoch, at least 1."""
        return self.labeled_draws / self.num_labeled

    @property
    def largest(self) -> int:
        """Number of images in the largest batch."""
        return sum(-(-n // self.steps) for n in (self.labeled_draws, self.unlabeled_draws))

    @property
    def smallest(self) -> int:
        """Number of images in the smallest batch."""
        return self.labeled_draws // self.steps + self.unlabeled_draws // self.steps


def plan_batches(num_labeled: int, num_unlabeled: int, batch_size: int) -> BatchPlan:
    """Plan an epoch whose batches have labeled and unlabeled images.

    Parameters
    ----------
    num_labeled, num_unlabeled
        Number of images of each kind; at least one is labeled.
    batch_size
        Number of images per batch, at least 2. Batches of about the same size may be a little smaller.
        No batch has a single image, of which batch norm can make no statistics, unless there is only
        one image.
    """
    total = num_labeled + num_unlabeled
    if num_unlabeled == 0:
        plan = BatchPlan(math.ceil(total / batch_size), num_labeled, 0, num_labeled)
        return _without_single_images(plan)
    share = max(MIN_LABELED_SHARE, num_labeled / total)
    labeled = min(max(1, round(batch_size * share)), batch_size - 1, num_labeled)
    steps = max(
        math.ceil(num_unlabeled / (batch_size - labeled)), math.ceil(num_labeled / batch_size)
    )
    draws = max(num_labeled, steps * labeled)
    return _without_single_images(BatchPlan(steps, draws, num_unlabeled, num_labeled))


def _without_single_images(plan: BatchPlan) -> BatchPlan:
    while plan.steps > 1 and plan.smallest < 2:
        plan = replace(plan, steps=plan.steps - 1)
    return plan


def halve_batches(plan: BatchPlan) -> BatchPlan:
    """Return a plan with twice as many batches of half the size.

    Raises OptionError if a batch would have fewer than two images.
    """
    steps = 2 * plan.steps
    half = replace(plan, steps=steps, labeled_draws=max(plan.labeled_draws, steps))
    if half.smallest < 2:
        raise OptionError(
            "the GPU does not have enough free memory, even for batches of"
            f" {plan.largest} samples; use a smaller `image_size`, or `device='cpu'`"
        )
    return half


def epoch_batches(
    noisy_labels: np.ndarray, plan: BatchPlan, *, seed: int, epoch: int
) -> Iterator[np.ndarray]:
    """Yield the rows of each batch of an epoch, int64, the labeled rows first.

    The order depends only on the seed and the epoch. A resumed run thus draws the same batches as an
    uninterrupted one.
    """
    rng = np.random.default_rng([seed, epoch])
    labeled = np.flatnonzero(noisy_labels >= 0)
    rounds = math.ceil(plan.labeled_draws / len(labeled))
    draws = np.concatenate([rng.permutation(labeled) for _ in range(rounds)])[: plan.labeled_draws]
    unlabeled = rng.permutation(np.flatnonzero(noisy_labels < 0))
    for ours, others in zip(
        np.array_split(draws, plan.steps), np.array_split(unlabeled, plan.steps), strict=True
    ):
        yield np.concatenate([ours, others])


def one_of_each_size(
    noisy_labels: np.ndarray, plan: BatchPlan, *, seed: int
) -> Iterator[np.ndarray]:
    """Yield the rows of one batch of each size that occurs in an epoch; there are at most four."""
    seen = set()
    for rows in epoch_batches(noisy_labels, plan, seed=seed, epoch=0):
        size = len(rows), int((noisy_labels[rows] >= 0).sum())
        if size not in seen:
            seen.add(size)
            yield rows


def translate(images: Tensor, max_shift: int) -> Tensor:
    """Shift each image of ``(B, C, H, W)`` by up to ±`max_shift` pixels per axis, repeating edges."""
    batch, _, height, width = images.shape
    padded = F.pad(images, (max_shift,) * 4, mode="replicate")
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view, (B, C, down, right, H, W)
    down, right = torch.randint(0, 2 * max_shift + 1, (2, batch), device=images.device)
    return windows[torch.arange(batch, device=images.device), :, down, right]


def mirror(images: Tensor) -> Tensor:
    """Mirror each image of ``(B, C, H, W)`` left to right with probability 1/2."""
    heads = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(heads, images.flip(3), images)


def memory_format(device: torch.device) -> torch.memory_format:
    """Return the memory format of images and filters: channels last on CUDA, where it is faster."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


class TrainingImages:
    """Pixels or features and their noisy labels, as batches on a device.

    Parameters
    ----------
    pixels
        ``(N, C, H, W)`` uint8, or features ``(N, D, 1, 1)`` float32, in memory or memory-mapped. They
        are copied to the device once if they fit there, otherwise batch by batch.
    noisy_labels
        ``(N,)`` int64, -1 where unlabeled.
    device
        Device of the batches.
    max_shift
        Largest random translation of training images, in pixels (2 in Table 4); 0 for none.
    flip
        Whether training images are mirrored at random.
    verified
        ``(N,)`` bool, whether a person has verified the label; None if no label is verified.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        noisy_labels: np.ndarray,
        device: torch.device,
        max_shift: int = 0,
        flip: bool = False,
        verified: np.ndarray | None = None,
    ) -> None:
        self.device = device
        self.max_shift = max_shift
        self.flip = flip
        self.noisy_labels = noisy_labels
        self._pixels = _as_tensor(pixels)
        self._labels = torch.from_numpy(np.ascontiguousarray(noisy_labels)).to(device)
        self._verified = None if verified is None else torch.from_numpy(verified).to(device)
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if self._pixels.nbytes <= RESIDENT_SHARE * free:
                self._pixels = self._pixels.to(device)
        elif device.type == "mps":
            self._pixels = self._pixels.to(device)

    def __len__(self) -> int:
        return len(self._pixels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        channels, height, width = self._pixels.shape[1:]
        return (channels, height, width)

    def images(self, indices: np.ndarray) -> Tensor:
        """Return images ``(B, C, H, W)`` float32 on the device, without augmentation.

        Pixels are scaled to [0, 1]; features are not scaled.
        """
        rows = torch.from_numpy(indices)
        if self._pixels.device.type == "cpu":
            images = self._copied(self._pixels.index_select(0, rows))
        else:
            images = self._pixels.index_select(0, self._copied(rows))
        images = images.contiguous(memory_format=memory_format(self.device))
        return images.float().div_(255) if images.dtype == torch.uint8 else images

    def batch(self, indices: np.ndarray) -> Batch:
        """Return an augmented training batch of some rows, or of this process's share of them.

        Parameters
        ----------
        indices
            ``(B,)`` int64, from `epoch_batches`, the labeled rows first.
        """
        total = len(indices)
        indices = distributed.shard(indices)
        weight = len(indices) * distributed.size() / total
        is_labeled = self.noisy_labels[indices] >= 0
        num_labeled = int(is_labeled.sum())
        assert is_labeled[:num_labeled].all(), "labeled rows come first"
        images = self.images(indices)
        if self.max_shift:
            images = translate(images, self.max_shift)
        if self.flip:
            images = mirror(images)
        images = images.contiguous(memory_format=memory_format(self.device))
        rows = self._copied(torch.from_numpy(indices))
        verified = None if self._verified is None else self._verified[rows[:num_labeled]]
        return Batch(images, self._labels[rows], rows, num_labeled, weight, verified)

    def _copied(self, tensor: Tensor) -> Tensor:
        """Copy a CPU tensor to the device. For a GPU the copy is asynchronous."""
        if self.device.type == "cuda":
            # A copy from memory that is not pinned would wait for all queued work of the GPU.
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def _as_tensor(pixels: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        # torch warns of read-only arrays, such as memory maps. Nothing is written to them.
        warnings.filterwarnings("ignore", message=".*not writable", category=UserWarning)
        return torch.from_numpy(pixels)
