"""Out-of-sample class probabilities of labels, from a small classifier that is cross-fitted on pixels.

UMN is trained on all labels. Its opinion of a sample's neighbors is coarse where classes are hard to
tell apart, and it may have memorized some labels. So a network with one hidden layer is cross-fitted:
five folds are trained side by side, and none sees the labels that it predicts. Each label teaches only
as far as it is believed to be right, so that the network repeats few of the mistakes.

Its opinion and that of the neighbors are first calibrated to the given labels, each by an exponent.
Then they are mixed in the logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from labelaudit.memory import row_blocks
from labelaudit.sources.manifest import Verified
from labelaudit.suspects.calibration import log_of
from labelaudit.suspects.class_probs import blocks_of
from labelaudit.suspects.cross_fitting import mix_probs, normalized_likelihood
from labelaudit.suspects.nearest import draw
from labelaudit.suspects.noise_model import NoiseModel, fit_transition_matrix, has_many_classes

FOLDS = 5
HIDDEN = 256
BATCH_SIZE, LEARNING_RATE, MIN_EPOCHS, MIN_STEPS = 100, 0.002, 5, 320
MIN_BATCHES = 4  # per epoch, where samples are few
# The learning rate falls evenly to 0 over this last share of the steps.
COOLING_SHARE = 0.4
# Largest number of samples that the folds are trained on together, and number of pixels in memory at a
# time while they predict.
MAX_TRAINED, BLOCK_VALUES = 60_000, 1 << 24
# No classifier is trained on larger images, where a class has fewer labels, or where a smaller share of
# the samples is labeled.
MOST_PIXELS, FEWEST_LABELS_PER_CLASS, LEAST_LABELED_SHARE = 4096, 100, 0.5
# The classifier's mixing weight is the first number. It falls to 0 as the ratio of its normalized
# likelihood to that of the neighbors falls from the higher to the lower of the others.
MIXING_WEIGHT, LOW_RATIO, HIGH_RATIO = 0.6, 0.7, 0.9
# These are tried too where the classifier knows more than the neighbors. Likelihood favors neighbors,
# which may have memorized labels, so it can be trusted where it favors the classifier.
LARGER_WEIGHTS = (0.8, 1.0)
# Where the classifier's normalized likelihood is lower, the weights of the labels may be wrong. It is
# then also trained with all labels alike, and the likelier of the two is used.
DOUBTFUL_LIKELIHOOD = 0.7


@dataclass(frozen=True)
class PixelMixture:
    """Out-of-sample probabilities of the L labeled samples.

    Attributes
    ----------
    probs
        ``(L, C)`` float32, rows sum to 1.
    weight
        Mixing weight of the classifier in `probs`, in [0, 1].
    """

    probs: np.ndarray
    weight: float


@dataclass(frozen=True)
class _Witness:
    """Probabilities ``(L, C)``, the noise model that fits them, and how much they know about labels."""

    probs: np.ndarray
    model: NoiseModel
    quality: float

    def calibrated(self) -> np.ndarray:
        return sharpen(self.probs, self.model.sharpness)


def suits_pixels(pixels: np.ndarray, given_labels: np.ndarray, num_classes: int) -> bool:
    """Whether a classifier of the pixels may help.

    Parameters
    ----------
    pixels
        ``(N, C, H, W)``.
    given_labels
        ``(L,)`` int64 in 0..C-1. Where fewer than half of the samples are labeled, UMN knows much more,
        because it learns from all of them.
    num_classes
        C.
    """
    return (
        math.prod(pixels.shape[1:]) <= MOST_PIXELS
        and not has_many_classes(num_classes)
        and len(given_labels) >= LEAST_LABELED_SHARE * len(pixels)
        and np.bincount(given_labels, minlength=num_classes).min() >= FEWEST_LABELS_PER_CLASS
    )


def mix_pixel_classifier(
    pixels: np.ndarray,
    rows: np.ndarray,
    given_labels: np.ndarray,
    base_probs: np.ndarray,
    *,
    seed: int,
    device: torch.device | None = None,
    verified: Verified | None = None,
) -> PixelMixture:
    """Cross-fit a classifier on pixels, and mix it with given class probabilities.

    Parameters
    ----------
    pixels
        ``(N, C, H, W)`` uint8, maybe memory-mapped.
    rows
        ``(L,)`` int64, the labeled samples.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    base_probs
        ``(L, C)`` float32, rows sum to 1. They also decide how much each label teaches.
    seed
        Seed of folds, weights and batches.
    device
        Where to train; by default the CPU.
    verified
        Which of the L labels are verified; they teach fully.

    Returns
    -------
    PixelMixture
        With `base_probs` alone where the classifier knows much less than they do.
    """
    device = device or torch.device("cpu")
    # The noise model describes labels as they were before anybody corrected them.
    first_given = given_labels if verified is None else verified.as_given(given_labels)
    num_classes = base_probs.shape[1]
    model = fit_transition_matrix(base_probs, first_given, seed=seed)
    posterior = model.infer(base_probs, given_labels)
    best = model.best_log_likelihood(posterior.class_shares)

    def judge(probs: np.ndarray, model: NoiseModel) -> _Witness:
        likelihood = model.log_likelihood(probs, first_given)
        return _Witness(probs, model, normalized_likelihood(likelihood, best, first_given))

    def train(label_weights: np.ndarray) -> _Witness:
        probs = cross_fit_mlp(
            pixels, rows, given_labels, num_classes, label_weights, seed=seed, device=device
        )
        return judge(probs, fit_transition_matrix(probs, first_given, seed=seed))

    right_prob = 1.0 - posterior.wrong_prob
    if verified is not None:
        right_prob[verified.labels] = 1.0
    neighbors = judge(base_probs, model)
    classifier = train(right_prob)
    if classifier.quality < DOUBTFUL_LIKELIHOOD:
        other = train(np.ones(len(rows)))
        classifier = max(classifier, other, key=lambda one: one.quality)
    weight = mixing_weight(classifier.quality, neighbors.quality)
    if weight == 0.0:
        return PixelMixture(base_probs, 0.0)
    tried = (weight, *LARGER_WEIGHTS) if classifier.quality > neighbors.quality else (weight,)
    mixtures = [_mix(neighbors, classifier, one) for one in tried]
    models = [fit_transition_matrix(one, first_given, seed=seed) for one in mixtures]
    judged = [judge(one, model) for one, model in zip(mixtures, models, strict=True)]
    best_row = int(np.argmax([one.quality for one in judged]))
    return PixelMixture(judged[best_row].calibrated(), tried[best_row])


def _mix(neighbors: _Witness, classifier: _Witness, weight: float) -> np.ndarray:
    return mix_probs(neighbors.calibrated(), classifier.calibrated(), weight)


def mixing_weight(quality: float, base_quality: float) -> float:
    """Return the weight of a classifier beside the neighbors, before larger ones are tried.

    Parameters
    ----------
    quality, base_quality
        Normalized likelihoods of the given labels by the classifier and by the neighbors, see
        `labelaudit.suspects.cross_fitting.normalized_likelihood`.
    """
    if quality <= 0.0:
        return 0.0
    ratio = quality / base_quality if base_quality > 0.0 else math.inf
    return MIXING_WEIGHT * min(1.0, max(0.0, (ratio - LOW_RATIO) / (HIGH_RATIO - LOW_RATIO)))


def sharpen(probs: np.ndarray, exponent: float) -> np.ndarray:
    """Return ``(L, C)`` float32: class probabilities raised to a power, and normalized."""
    result = np.empty(probs.shape, dtype=np.float32)
    for part in blocks_of(probs):
        result[part] = softmax(exponent * log_of(probs[part]), axis=1)
    return result


def cross_fit_mlp(
    pixels: np.ndarray,
    rows: np.ndarray,
    given_labels: np.ndarray,
    num_classes: int,
    label_weights: np.ndarray,
    *,
    seed: int,
    device: torch.device,
) -> np.ndarray:
    """Predict each labeled sample by a small network that was trained on the other folds.

    Parameters
    ----------
    pixels
        ``(N, C, H, W)`` uint8, maybe memory-mapped.
    rows
        ``(L,)`` int64, the labeled samples, at least `FOLDS`. Of more than `MAX_TRAINED`, as many are
        trained on.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    num_classes
        C.
    label_weights
        ``(L,)`` in [0, 1], weight of each label in the loss.
    seed
        Seed of folds, weights and batches.
    device
        Where to train.

    Returns
    -------
    np.ndarray
        ``(L, C)`` float32, rows sum to 1.
    """
    generator = torch.Generator().manual_seed(seed % 2**64)  # torch takes no larger one
    size = len(rows)
    fold = np.empty(size, dtype=np.int64)
    fold[torch.randperm(size, generator=generator).numpy()] = np.arange(size) % FOLDS
    trained = draw(np.arange(size), MAX_TRAINED, seed)
    images = torch.from_numpy(pixels[rows[trained]].reshape(len(trained), -1)).to(device)
    networks = _Networks.new(images, num_classes, generator)
    networks.train(
        images,
        torch.from_numpy(given_labels[trained]).to(device),
        torch.from_numpy(label_weights[trained].astype(np.float32)).to(device),
        [torch.from_numpy(np.flatnonzero(fold[trained] != one)) for one in range(FOLDS)],
        generator,
    )
    probs = np.empty((size, num_classes), dtype=np.float32)
    for part in row_blocks(size, images.shape[1], BLOCK_VALUES):
        block = torch.from_numpy(pixels[rows[part]].reshape(-1, images.shape[1]))
        folds = torch.from_numpy(fold[part])
        for one in range(FOLDS):
            mine = torch.nonzero(folds == one).squeeze(1)
            predicted = networks.predict(block[mine].to(device), one)
            probs[part][mine.numpy()] = predicted.cpu().numpy()
    return probs


@dataclass(frozen=True, eq=False)
class _Networks:
    """One network per fold, F of them, with one hidden layer of H units; images have D values.

    Attributes
    ----------
    mean, scale
        ``(D,)`` and a number: how uint8 pixels are standardized.
    weights
        ``(F, D, H)``, ``(F, 1, H)``, ``(F, H, C)`` and ``(F, 1, C)``: weights and biases of both
        layers.
    """

    mean: Tensor
    scale: float
    weights: tuple[Tensor, Tensor, Tensor, Tensor]

    @classmethod
    def new(cls, images: Tensor, num_classes: int, generator: torch.Generator) -> _Networks:
        """Make networks that all start with the same random weights, for images ``(n, D)`` uint8."""
        sample = images[:: math.ceil(len(images) / 10_000)].float()
        mean = sample.mean(0)

        def layer(inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
            drawn = (2 * torch.rand(inputs, outputs, generator=generator) - 1) / math.sqrt(inputs)
            matrix = drawn.to(images.device).repeat(FOLDS, 1, 1).requires_grad_()
            bias = torch.zeros(FOLDS, 1, outputs, device=images.device, requires_grad=True)
            return matrix, bias

        weights = (*layer(images.shape[1], HIDDEN), *layer(HIDDEN, num_classes))
        return cls(mean, max(1.0, float((sample - mean).std())), weights)

    def logits(self, images: Tensor) -> Tensor:
        """Return ``(F, B, C)`` for one batch of images per network, ``(F, B, D)`` uint8."""
        first, first_bias, second, second_bias = self.weights
        hidden = torch.baddbmm(first_bias, (images - self.mean) / self.scale, first).relu()
        return torch.baddbmm(second_bias, hidden, second)

    def predict(self, images: Tensor, fold: int) -> Tensor:
        """Return class probabilities ``(B, C)`` of images ``(B, D)`` by the network of one fold."""
        first, first_bias, second, second_bias = (one[fold].detach() for one in self.weights)
        hidden = ((images - self.mean) / self.scale @ first + first_bias).relu()
        return (hidden @ second + second_bias).softmax(1)

    def train(
        self,
        images: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        train_rows: list[Tensor],
        generator: torch.Generator,
    ) -> None:
        """Train by weighted cross-entropy and Adam.

        Parameters
        ----------
        images, labels, label_weights
            ``(n, D)`` uint8, ``(n,)`` int64 and ``(n,)`` float32.
        train_rows
            For each network the rows that it is trained on.
        generator
            Draws the batches.
        """
        smallest = min(len(rows) for rows in train_rows)
        batch = max(1, min(BATCH_SIZE, smallest // MIN_BATCHES))
        epochs = max(MIN_EPOCHS, math.ceil(MIN_STEPS / (smallest // batch)))
        steps = epochs * (smallest // batch)
        optimizer = torch.optim.Adam(self.weights, lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (steps - step) / (COOLING_SHARE * steps))
        )
        for _ in range(epochs):
            for drawn in _batches(train_rows, batch, generator):
                chosen = drawn.to(images.device)
                log_probs = self.logits(images[chosen]).log_softmax(2)
                given = log_probs.gather(2, labels[chosen][:, :, None]).squeeze(2)  # (F, B)
                # A sum over networks, so that each learns as if alone.
                loss = -(given * label_weights[chosen]).mean(1).sum()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()


def _batches(train_rows: list[Tensor], batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the batches of an epoch, ``(F, B)``: every network gets samples of its own."""
    smallest = min(len(rows) for rows in train_rows)
    orders = [
        rows[torch.randperm(len(rows), generator=generator)[:smallest]] for rows in train_rows
    ]
    order = torch.stack(orders)  # (F, smallest)
    for start in range(0, smallest - batch + 1, batch):
        yield order[:, start : start + batch]
