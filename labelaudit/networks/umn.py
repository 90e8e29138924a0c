"""The networks of Uncertainty Mining Net and its evidence lower bound, term by term.

The learner θ is an encoder q(z_a|x), a classifier q(y|z_a), a conditional encoder q(z_b|z_a,y), a
conditional decoder p(z_a|z_b,y) and a decoder p(x|z_a) (Eqs. 2-4). All log-densities are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelaudit.networks.autoencoder import Encoder, ImageShape
from labelaudit.networks.encoders import ENCODERS, EncoderName
from labelaudit.networks.layers import LEAKY_SLOPE, as_they_come, mlp, relu
from labelaudit.networks.standardize import PixelStatistics, Standardize, evenly_spaced

LOG_2PI = math.log(2 * math.pi)
# Log-variances stay within e^±LOGVAR_BOUND: a variance of exactly zero or infinity is no density.
LOGVAR_BOUND = 8.0
# If there are more classes, some of them represent all in the sums of the bound.
MAX_SUMMED_CLASSES = 10

Likelihood = Literal["bernoulli", "gaussian"]


def choose_likelihood(pixels: np.ndarray) -> Likelihood:
    """Choose p(x|z_a): Bernoulli for gray images mostly black or white, else Gaussian.

    Parameters
    ----------
    pixels
        ``(N, C, H, W)`` uint8, or features as floats. Of many images, evenly spaced ones are used.
    """
    if pixels.dtype != np.uint8:
        return "gaussian"
    pixels = evenly_spaced(pixels)
    extreme = np.mean((pixels < 26) | (pixels > 229))  # within a tenth of black or white
    return "bernoulli" if pixels.shape[1] == 1 and extreme > 0.5 else "gaussian"


def gaussian_log_prob(value: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """Log-density of a diagonal Gaussian at each element, in nats; shapes broadcast."""
    return -0.5 * (LOG_2PI + logvar + (value - mean).square() * (-logvar).exp())


def gaussian_entropy(logvar: Tensor) -> Tensor:
    """Entropy of a diagonal Gaussian at each element, in nats."""
    return 0.5 * (1.0 + LOG_2PI + logvar)


def kl_to_standard_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) ‖ N(0, 1)) at each element, in nats."""
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar)


def rsample(mean: Tensor, logvar: Tensor) -> Tensor:
    """Draw from a diagonal Gaussian so that gradients reach its parameters."""
    return mean + torch.randn_like(mean) * (0.5 * logvar).exp()


def bounded(logvar: Tensor) -> Tensor:
    """Keep a log-variance within ±`LOGVAR_BOUND`, smoothly, so that gradients never vanish."""
    return LOGVAR_BOUND * torch.tanh(logvar / LOGVAR_BOUND)


class Classifier(nn.Module):
    """q(y|z_a)."""

    def __init__(self, za_shape: tuple[int, ...], num_classes: int, hidden: int) -> None:
        super().__init__()
        # A z_a with positions comes from convolutions: it is pooled, and one linear layer follows
        # (Table 4). A vector z_a is classified by an MLP (section 4.1).
        self.positions = len(za_shape) > 1
        self.net: nn.Module
        if self.positions:
            self.net = nn.Linear(za_shape[0], num_classes)
        else:
            self.net = mlp(za_shape[0], hidden, num_classes)

    def forward(self, za: Tensor) -> Tensor:
        """Return logits ``(B, C)`` float32 for z_a ``(B, *za_shape)``.

        They are calculated in full precision, because ε is a difference of the probabilities.
        """
        za = za.float()
        with as_they_come(za):
            if self.positions:
                za = F.leaky_relu(za, LEAKY_SLOPE).flatten(2).mean(2)
            return cast(Tensor, self.net(za))


def classes_to_sum(class_probs: Tensor, most: int) -> tuple[Tensor | None, Tensor]:
    """Choose the classes that represent all in a sum Σ_y q(y) t(y), and their weights.

    Up to `most` classes are all summed. If there are more, the `most` - 1 most probable ones are
    summed. One class, drawn from the others by its probability, represents the rest. Value and gradient
    are unbiased (Liu et al. 2019, https://arxiv.org/abs/1810.04777). Neither time nor memory grows with
    the number of classes.

    Parameters
    ----------
    class_probs
        q, ``(B, C)``, with its gradient.
    most
        K, at least 2.

    Returns
    -------
    classes, weights
        ``(B, K)`` int64, or None for all C in their order; and ``(B, K)`` or ``(B, C)``.
    """
    if class_probs.shape[1] <= most:
        return None, class_probs
    probs = class_probs.detach()
    top = probs.topk(most - 1, dim=1).indices
    rest = probs.scatter(1, top, 0.0)
    # If rounding leaves nothing for the rest, its weight is 0 too, whichever class is drawn.
    possible = (rest + torch.finfo(rest.dtype).tiny).scatter(1, top, 0.0)
    # This draws as torch.multinomial does, but without its check, for which the host waits on the GPU.
    drawn = (possible / torch.empty_like(possible).exponential_()).argmax(1, keepdim=True)
    scale = rest.sum(1, keepdim=True) / rest.gather(1, drawn).clamp_min(1e-30)
    weights = torch.cat([class_probs.gather(1, top), class_probs.gather(1, drawn) * scale], dim=1)
    return torch.cat([top, drawn], dim=1), weights


class ConditionalVAE(nn.Module):
    """q(z_b|z_a,y) and p(z_a|z_b,y) for many classes y at once.

    `classes`, ``(B, K)`` int64, are the classes of each image; None means all of them, K = C.
    """

    def encode(self, za: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of z_b, each ``(B, K, zb)``, for z_a ``(B, *za_shape)``."""
        raise NotImplementedError

    def decode(self, zb: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of z_a, each ``(B, K, *za_shape)``, for z_b ``(B, K, zb)``."""
        raise NotImplementedError


def _of_classes(embedding: nn.Embedding, classes: Tensor | None) -> Tensor:
    return embedding.weight if classes is None else cast(Tensor, embedding(classes))


class ConditionalMLP(ConditionalVAE):
    """MLPs with one ReLU hidden layer over [z, one-hot y] (section 4.1).

    The first layer on [z_a, one-hot y] is W z_a + U[y]. W z_a is calculated once per image and shared
    between the classes.
    """

    def __init__(self, za_size: int, num_classes: int, zb_size: int, hidden: int) -> None:
        super().__init__()
        self.encode_za = nn.Linear(za_size, hidden)
        self.encode_y = nn.Embedding(num_classes, hidden)
        self.encode_out = nn.Linear(hidden, 2 * zb_size)
        self.decode_zb = nn.Linear(zb_size, hidden)
        self.decode_y = nn.Embedding(num_classes, hidden)
        self.decode_out = nn.Linear(hidden, 2 * za_size)
        for embedding in (self.encode_y, self.decode_y):
            nn.init.normal_(embedding.weight, std=hidden**-0.5)

    def encode(self, za: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `ConditionalVAE.encode`."""
        hidden = self.encode_za(za)[:, None] + _of_classes(self.encode_y, classes)  # (B, K, hidden)
        mean, logvar = self.encode_out(relu(hidden)).chunk(2, dim=-1)
        return mean, bounded(logvar)

    def decode(self, zb: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `ConditionalVAE.decode`."""
        hidden = self.decode_zb(zb) + _of_classes(self.decode_y, classes)  # (B, K, hidden)
        mean, logvar = self.decode_out(relu(hidden)).chunk(2, dim=-1)
        return mean, bounded(logvar)


class ConditionalConv(ConditionalVAE):
    """The M2 part of Table 4 for z_a with positions: one convolution, then dense layers.

    The class enters at the dense layers, so the classes share the convolution over z_a.
    """

    def __init__(self, za_shape: tuple[int, ...], num_classes: int, zb_size: int) -> None:
        super().__init__()
        channels, height, width = za_shape
        narrow = 32
        flat = narrow * height * width  # 1152 for 6x6 positions
        self.narrow_shape = (narrow, height, width)
        self.za_shape = za_shape
        self.encode_za = nn.Sequential(
            nn.Conv2d(channels, narrow, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Flatten(),
            nn.Linear(flat, zb_size),
        )
        self.encode_y = nn.Embedding(num_classes, zb_size)
        self.encode_out = nn.Linear(zb_size, 2 * zb_size)
        self.decode_zb = nn.Linear(zb_size, flat)
        self.decode_y = nn.Embedding(num_classes, flat)
        self.decode_out = nn.Conv2d(narrow, 2 * channels, 3, padding=1)
        for embedding in (self.encode_y, self.decode_y):
            nn.init.normal_(embedding.weight, std=zb_size**-0.5)

    def encode(self, za: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `ConditionalVAE.encode`."""
        hidden = self.encode_za(za)[:, None] + _of_classes(self.encode_y, classes)  # (B, K, zb)
        mean, logvar = self.encode_out(F.leaky_relu(hidden, LEAKY_SLOPE)).chunk(2, dim=-1)
        return mean, bounded(logvar)

    def decode(self, zb: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `ConditionalVAE.decode`."""
        batch, count, _ = zb.shape
        of_class = _of_classes(self.decode_y, classes)
        hidden = F.leaky_relu(self.decode_zb(zb) + of_class, LEAKY_SLOPE)
        out = self.decode_out(hidden.view(batch * count, *self.narrow_shape))
        mean, logvar = out.view(batch, count, *out.shape[1:]).chunk(2, dim=2)
        return mean, bounded(logvar)


@dataclass(frozen=True)
class ElboTerms:
    """The terms of the evidence lower bound, each ``(B,)``, one value per image, in nats (Eqs. 17-18).

    Attributes
    ----------
    log_px
        log p(x|z_a), the reconstruction.
    za_entropy
        -E log q(z_a|x), in closed form.
    log_pza
        Σ_y q(y|z_a) E log p(z_a|z_b,y).
    zb_kl
        Σ_y q(y|z_a) KL(q(z_b|z_a,y) ‖ N(0, I)).
    y_kl
        KL(q(y|z_a) ‖ uniform).
    """

    log_px: Tensor
    za_entropy: Tensor
    log_pza: Tensor
    zb_kl: Tensor
    y_kl: Tensor

    @property
    def elbo(self) -> Tensor:
        """The bound itself, ``(B,)``."""
        return self.log_px + self.za_entropy + self.log_pza - self.zb_kl - self.y_kl


@dataclass(frozen=True)
class NetworkConfig:
    """The configuration of a `UMNNetwork`, which is saved with its weights.

    `backbone` is the name of the pretrained network (see `open_backbone`) of the encoder "backbone".
    """

    encoder: EncoderName
    image_shape: ImageShape
    num_classes: int
    likelihood: Likelihood
    statistics: PixelStatistics
    zb_size: int | None = None
    classifier_hidden: int = 784
    conditional_hidden: int = 200
    backbone: str = ""


class UMNNetwork(nn.Module):
    """The learner's networks θ = {encoder, classifier, conditional VAE, decoder}.

    Without `generative` only encoder and classifier are built, and there is no bound.
    """

    def __init__(self, config: NetworkConfig, *, generative: bool = True) -> None:
        super().__init__()
        self.config = config
        self.generative = generative
        spec = ENCODERS[config.encoder]
        encoder = spec.build(config.image_shape, config.statistics, config.backbone)
        self.encoder: Encoder = encoder
        if generative:
            self.decoder = spec.build_decoder(config.image_shape)
        self.classifier = Classifier(encoder.za_shape, config.num_classes, config.classifier_hidden)
        if not generative:
            return
        self.conditional: ConditionalVAE
        if len(encoder.za_shape) > 1:
            zb_size = config.zb_size or 256  # Table 4
            self.conditional = ConditionalConv(encoder.za_shape, config.num_classes, zb_size)
        else:
            (za_size,) = encoder.za_shape
            zb_size = config.zb_size or 50
            self.conditional = ConditionalMLP(
                za_size, config.num_classes, zb_size, config.conditional_hidden
            )
        self.standardize = Standardize(config.statistics)

    def log_likelihood(self, images: Tensor, za: Tensor) -> Tensor:
        """Log p(x|z_a), ``(B,)``: Bernoulli on gray levels, or Gaussian of unit variance.

        The Gaussian is over standardized pixels. For gray levels between 0 and 1 the Bernoulli term
        is the usual cross-entropy.
        """
        target = self.decoder.target(images)
        if self.config.likelihood == "bernoulli":
            logits = self.decoder(za).float()
            losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
            return -_total(losses, 1)
        mean = self.decoder(za).float()
        squared: Tensor = (self.standardize(target) - mean).square()
        return -0.5 * _total(squared + LOG_2PI, 1)

    def draw_za(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Draw z_a from q(z_a|x); return it and its log-variance, ``(B, *za_shape)`` float32."""
        mean, logvar = self.encoder(images)
        logvar = bounded(logvar.float())
        return rsample(mean.float(), logvar), logvar

    def classify(self, za: Tensor) -> Tensor:
        """Return the classifier's logits ``(B, num_classes)`` float32."""
        return cast(Tensor, self.classifier(za))

    def forward(
        self, images: Tensor, explained: Sequence[slice] = (slice(None),)
    ) -> tuple[Tensor, ElboTerms | None]:
        """Return the classifier's logits on a sampled z_a, and the bound for some or all images.

        Parameters
        ----------
        images
            ``(B, C, H, W)`` in [0, 1].
        explained
            The K rows for which the bound is calculated; by default all.

        Returns
        -------
        logits, terms
            ``(B, num_classes)``, and the terms of the bound, each ``(K,)``, or None without the
            generative half.
        """
        za, za_logvar = self.draw_za(images)
        logits = self.classify(za)
        if not self.generative:
            return logits, None
        parts = (_rows(tensor, explained) for tensor in (images, za, za_logvar, logits))
        return logits, self.elbo_terms(*parts)

    def elbo_terms(
        self, images: Tensor, za: Tensor, za_logvar: Tensor, logits: Tensor
    ) -> ElboTerms:
        """Calculate the bound of each image.

        Parameters
        ----------
        images
            ``(B, C, H, W)`` in [0, 1].
        za, za_logvar
            From `draw_za` for these images.
        logits
            From `classify` for `za`.

        Returns
        -------
        ElboTerms
            The terms, each ``(B,)``. z_b is drawn once per image and class. The sum over y is exact
            for up to `MAX_SUMMED_CLASSES` classes; for more see `classes_to_sum`.
        """
        log_qy = logits.log_softmax(1)
        qy = log_qy.exp()  # (B, C)

        classes, weights = classes_to_sum(qy, MAX_SUMMED_CLASSES)  # (B, K)
        zb_mean, zb_logvar = self.conditional.encode(za, classes)
        zb_mean, zb_logvar = zb_mean.float(), zb_logvar.float()  # (B, K, zb)
        pza_mean, pza_logvar = self.conditional.decode(rsample(zb_mean, zb_logvar), classes)
        log_pza = gaussian_log_prob(za[:, None], pza_mean.float(), pza_logvar.float())
        zb_kl = kl_to_standard_normal(zb_mean, zb_logvar).sum(2)  # (B, K)

        return ElboTerms(
            log_px=self.log_likelihood(images, za),
            za_entropy=_total(gaussian_entropy(za_logvar), 1),
            log_pza=(weights * _total(log_pza, 2)).sum(1),
            zb_kl=(weights * zb_kl).sum(1),
            y_kl=(qy * (log_qy + math.log(self.config.num_classes))).sum(1),
        )


def _total(values: Tensor, first: int) -> Tensor:
    """Sum over all dimensions from `first` on."""
    return values.sum(dim=tuple(range(first, values.dim())))


def _rows(tensor: Tensor, parts: Sequence[slice]) -> Tensor:
    """Return some rows; they are copied only if they are not adjacent."""
    if len(parts) == 1:
        return tensor[parts[0]]
    return torch.cat([tensor[part] for part in parts])


class Recognizer(nn.Module):
    """Encoder and classifier: the part that the guider averages (Figure 1), used for predictions."""

    def __init__(self, encoder: Encoder, classifier: Classifier) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = classifier

    def forward(self, images: Tensor, *, sample: bool = False) -> tuple[Tensor, Tensor]:
        """Return class probabilities ``(B, C)`` and the embedding ``(B, d)``, both float32.

        Parameters
        ----------
        images
            ``(B, C, H, W)`` in [0, 1].
        sample
            Draw z_a from q(z_a|x) instead of taking its mean.
        """
        mean, logvar = self.encoder(images)
        mean = mean.float()
        za = rsample(mean, bounded(logvar.float())) if sample else mean
        probs = self.classifier(za).softmax(1)
        return probs, self.encoder.pool(mean)
