"""The settings of UMN, and how they are derived from the data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from labelaudit.networks.encoders import ENCODERS, EncoderName, reconstructed_size
from labelaudit.networks.standardize import PixelStatistics
from labelaudit.networks.umn import NetworkConfig, choose_likelihood
from labelaudit.training.batches import BatchPlan

# The weight of the labeled term for each input value of an image (78 on MNIST is 0.1 D).
LABEL_WEIGHT_PER_INPUT = 0.1
# Largest weight of the labels of a rare class, relative to an average class.
MAX_CLASS_WEIGHT = 100.0
# From this share of labeled images on, the data count as mostly labeled.
MOSTLY_LABELED_SHARE = 0.25
# The labels contribute more than the bound, so a few labeled images per batch are enough for the bound.
EXPLAINED_SHARE = 0.1
MIN_EXPLAINED = 10
# λ without the generative half, per class, and at most this share of the largest possible entropy.
ENTROPY_PER_CLASS = 0.005
MAX_ENTROPY_WEIGHT = 0.1
# See `few_epochs`. Chosen on CIFAR-10 with EfficientNet-Lite0: docs/explanation/research-log.md.
FEW_STEPS = 120
# See `affordable_epochs`.
MANY_CLASSES, MOST_PREDICTED, FEWEST_EPOCHS = 2000, 1_000_000_000, 5


def default_label_weight(input_size: int, draws_per_epoch: float) -> float:
    """Return α, the weight of the labeled term.

    The ELBO grows with the number of input values D, so α does too. If there are few labels among many
    images, a label is drawn more than once per epoch. Each draw weighs less then, so that every label
    has the weight 0.1 D per epoch.

    Parameters
    ----------
    input_size
        D, the number of values that the decoder reconstructs.
    draws_per_epoch
        How often the sampler draws each labeled image in an epoch, at least 1.
    """
    return LABEL_WEIGHT_PER_INPUT * input_size / max(1.0, draws_per_epoch)


def balancing_weights(given_labels: np.ndarray, num_classes: int) -> tuple[float, ...]:
    """Return a weight for each class, so that all classes have the same influence.

    The labeled term is linear in the probability. Without weights, a class with few labels starts with
    small probabilities and is never learned, so all of its labels look wrong.

    Parameters
    ----------
    given_labels
        ``(L,)`` int64 in 0..C-1.
    num_classes
        C.

    Returns
    -------
    tuple of float
        L / (C L_c) for a class with L_c labels, at most `MAX_CLASS_WEIGHT`.
    """
    counts = np.bincount(given_labels, minlength=num_classes)
    weights = len(given_labels) / (num_classes * np.maximum(counts, 1))
    return tuple(np.minimum(weights, MAX_CLASS_WEIGHT).tolist())


def default_entropy_weight(num_classes: int) -> float:
    """Return λ, the weight of the entropy without the generative half.

    The labeled term is linear in the probability, so a label with a probability near 0 has hardly any
    influence. If there are many classes, some are never learned. Entropy keeps all probabilities above
    0, as in the confidence penalty of Pereyra et al. 2017 (https://arxiv.org/abs/1701.06548). It is not
    needed for few classes, and with more of it the network memorizes wrong labels.

    Parameters
    ----------
    num_classes
        C.

    Returns
    -------
    float
        0.005 C, at most 0.1 log C.
    """
    return min(ENTROPY_PER_CLASS * num_classes, MAX_ENTROPY_WEIGHT * math.log(num_classes))


def trains_generative_half(encoder: EncoderName, num_classes: int, labeled_share: float) -> bool:
    """Decide whether the generative half is worth its cost.

    Parameters
    ----------
    encoder
        Its row of `ENCODERS` has the largest number of classes for which the generative half helps,
        and the share of labels below which it always does.
    num_classes
        C.
    labeled_share
        Share of labeled images, in (0, 1]. The network learns from unlabeled images only through
        the generative half.
    """
    spec = ENCODERS[encoder]
    return labeled_share < spec.mostly_labeled or num_classes <= spec.max_generative_classes


def default_batch_size(num_samples: int, device_type: str, encoder: EncoderName) -> int:
    """Return the number of samples in each training step, so that an epoch has about 40 steps.

    It is at least 20, and at most what the encoder's row of `ENCODERS` says for the device.
    """
    spec = ENCODERS[encoder]
    largest = spec.cpu_batch_size if device_type == "cpu" else spec.gpu_batch_size
    return int(min(largest, max(20, num_samples // 40)))


def default_epochs(steps_per_epoch: int, draws_per_label: float, encoder: EncoderName) -> int:
    """Return the number of epochs that gives the encoder's `EncoderSpec.steps` optimizer steps.

    The number of steps is doubled if an epoch draws each label at least twice. Labels are few then,
    and the network learns more slowly from unlabeled images: on MNIST with 100 labels the ranking
    still improves between epochs 30 and 60. The result stays within `EncoderSpec.epoch_range`.
    """
    spec = ENCODERS[encoder]
    low, high = spec.epoch_range
    steps = spec.steps * (2 if draws_per_label >= 2 else 1)
    return min(high, max(low, math.ceil(steps / steps_per_epoch)))


def few_epochs(steps_per_epoch: int) -> int:
    """Return the number of epochs for features where cross-fitted classifiers know enough.

    The networks then have a weight of a twentieth in the score. They are trained for `FEW_STEPS` steps,
    but for two epochs at least, so that ε is recorded more than once.

    Parameters
    ----------
    steps_per_epoch
        Number of optimizer steps in an epoch.
    """
    return max(2, math.ceil(FEW_STEPS / steps_per_epoch))


def affordable_epochs(epochs: int, num_samples: int, num_classes: int) -> int:
    """Return fewer epochs where very many classes make each of them slow.

    The time of an epoch grows with the number of predicted probabilities, and most of the time of a
    step is spent on the last layer. With more than `MANY_CLASSES` classes, about `MOST_PREDICTED`
    probabilities are predicted in training, but at least `FEWEST_EPOCHS` epochs are trained.

    Parameters
    ----------
    epochs
        From `default_epochs`.
    num_samples, num_classes
        N and C.
    """
    if num_classes <= MANY_CLASSES:
        return epochs
    return min(epochs, max(FEWEST_EPOCHS, MOST_PREDICTED // (num_samples * num_classes)))


@dataclass(frozen=True)
class UMNConfig:
    """Settings of UMN. Values from the paper are the defaults.

    Attributes
    ----------
    network
        The networks' configuration.
    label_weight
        α > 0, see `default_label_weight`.
    class_weights
        C factors of α, one per given class, see `balancing_weights`.
    min_epsilon
        ε_min in (0, 0.5 (1 - 1/C)). The paper does not give it.
    ema_decay
        γ in (0, 1), the weight of the old value at each step. The paper does not give it.
    learning_rate, betas
        Adam's (section 4.1).
    generative
        Whether to train the decoder and the conditional networks, with their terms of the loss, see
        `trains_generative_half`. Without them nothing is learned from unlabeled images.
    entropy_weight
        λ ≥ 0, see `default_entropy_weight`. It is 0 with the generative half, whose bound includes
        the entropy.
    explained_share
        Share of a batch's labeled images for which the bound is calculated, in (0, 1]. Each is
        weighted by the number of images that it represents.
    min_explained
        Smallest number of these images, because fewer represent a small batch badly.
    exponent
        q in [0, 1] of the labeled term, which for a label of probability p is (p^q - 1) / q. It is the
        paper's linear term for 1, and cross-entropy for 0. Between them it is the generalized
        cross-entropy of Zhang & Sabuncu 2018 (https://arxiv.org/abs/1805.07836), which learns faster
        than the linear term, and follows wrong labels less than cross-entropy.
    """

    network: NetworkConfig
    label_weight: float
    class_weights: tuple[float, ...]
    min_epsilon: float = 0.001
    ema_decay: float = 0.99
    learning_rate: float = 0.001
    betas: tuple[float, float] = (0.90, 0.99)
    generative: bool = True
    entropy_weight: float = 0.0
    explained_share: float = 1.0
    min_explained: int = MIN_EXPLAINED
    exponent: float = 1.0

    @classmethod
    def for_data(
        cls,
        pixels: np.ndarray,
        given_labels: np.ndarray,
        num_classes: int,
        encoder: EncoderName,
        plan: BatchPlan,
    ) -> UMNConfig:
        """Derive all settings from the data.

        Parameters
        ----------
        pixels
            ``(N, C, H, W)`` uint8, at the size that the encoder reads; or features
            ``(N, D, 1, 1)`` float32 for the encoder "features".
        given_labels
            ``(L,)`` int64, of the labeled images.
        num_classes
            C.
        encoder
            Name of the encoder.
        plan
            The batches of an epoch.
        """
        channels, height, width = pixels.shape[1:]
        network = NetworkConfig(
            encoder=encoder,
            image_shape=(channels, height, width),
            num_classes=num_classes,
            likelihood=choose_likelihood(pixels),
            statistics=PixelStatistics.of(pixels),
        )
        size = reconstructed_size(encoder, network.image_shape)
        config = cls(
            network,
            default_label_weight(size, plan.draws_per_label),
            balancing_weights(given_labels, num_classes),
            min_epsilon=ENCODERS[encoder].min_epsilon,
        )
        labeled_share = len(given_labels) / len(pixels)
        if trains_generative_half(encoder, num_classes, labeled_share):
            mostly_labeled = labeled_share >= MOSTLY_LABELED_SHARE
            return replace(config, explained_share=EXPLAINED_SHARE if mostly_labeled else 1.0)
        return config.without_generative_half()

    def without_generative_half(self) -> UMNConfig:
        """Return the settings without the generative half, with the entropy term instead."""
        return replace(
            self,
            generative=False,
            entropy_weight=default_entropy_weight(self.network.num_classes),
            exponent=ENCODERS[self.network.encoder].exponent,
        )
