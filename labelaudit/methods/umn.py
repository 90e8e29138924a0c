"""Uncertainty Mining Net.

Paper: "Is the Label Trustful: Training Better Deep Learning Model via Uncertainty Mining Net",
submitted to ICLR 2020 (section 3; Eqs. 2-11, 14-18; Algorithm 1; Table 4).

A learner, a semi-supervised generative model, is trained on labeled and unlabeled images. A guider
is the moving average of its encoder and classifier. Their difference ε shows how far each label can be
trusted:

    ε(x) = |q'(ỹ|x) - q(ỹ|x)|                                                   (Eq. 11)
    f(ε) = log[(C-1)(1-ε) / ε]                                                   (Eq. 7)
    loss = (1/B) [Σ_all -ELBO(x) - α Σ_labeled f(ε) q(ỹ|z_a)]

Without the generative half (`UMNConfig.generative`) only the labeled term and the entropy H of
q(y|z_a) in nats remain, with a weight λ:

    loss = -(α/B) Σ_labeled [f(ε) q(ỹ|z_a) + λ H(q(y|z_a))]

Nothing is reconstructed then, and nothing is learned from unlabeled images. With an exponent below 1
(`UMNConfig.exponent`), the labeled term is (q(ỹ|z_a)^exponent - 1) / exponent in place of q(ỹ|z_a).

Deviations and readings, with reasons, are in docs/methods/umn.md. In short: the signs of Eq. 5 follow
Eq. 14; the entropy of q(z_a|x) is taken in closed form; α, which the paper does not give, follows
the data (`default_label_weight`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from labelaudit.methods.umn_config import UMNConfig
from labelaudit.networks.backbone import BackboneEncoder
from labelaudit.networks.encoders import ENCODERS
from labelaudit.networks.standardize import PixelStatistics
from labelaudit.networks.umn import NetworkConfig, Recognizer, UMNNetwork
from labelaudit.training import distributed
from labelaudit.training.batches import memory_format
from labelaudit.training.compiled import CompiledLoss
from labelaudit.training.device import autocast, load_adam
from labelaudit.training.guider import make_guider, noisy_eval
from labelaudit.training.method import Batch, Predictions


def label_uncertainty(learner_probs: Tensor, guider_probs: Tensor, noisy_labels: Tensor) -> Tensor:
    """ε of each labeled sample (Eq. 11), ``(B,)`` in [0, 1].

    Parameters
    ----------
    learner_probs, guider_probs
        ``(B, C)``, rows sum to 1.
    noisy_labels
        ``(B,)`` int64 in 0..C-1.
    """
    index = noisy_labels[:, None]
    return (guider_probs.gather(1, index) - learner_probs.gather(1, index)).abs().squeeze(1)


def clamp_epsilon(epsilon: Tensor, num_classes: int, min_epsilon: float) -> Tensor:
    """Clamp ε to [ε_min, 1 - 1/C - ε_min], where f(ε) is finite and positive."""
    return epsilon.clamp(min_epsilon, 1.0 - 1.0 / num_classes - min_epsilon)


def label_factor(epsilon: Tensor, num_classes: int) -> Tensor:
    """f(ε) = log[(C-1)(1-ε) / ε] (Eq. 7), in nats."""
    return math.log(num_classes - 1) + torch.log1p(-epsilon) - epsilon.log()


def box_cox(log_values: Tensor, exponent: float) -> Tensor:
    """Return (v^q - 1) / q of values v, given as logarithms, for the exponent q; log v for q = 0."""
    return torch.expm1(exponent * log_values) / exponent if exponent else log_values


class UMN:
    """The learner, the guider and their optimizer.

    Parameters
    ----------
    config
        All settings of the method.
    device
        Device to train on. bfloat16 autocast is used on CUDA.
    pretrained
        Initial weights of the trunk of a `BackboneEncoder`. They are trained at the encoder's
        `EncoderSpec.pretrained_learning_rate`.

    References
    ----------
    "Is the Label Trustful: Training Better Deep Learning Model via Uncertainty Mining Net", ICLR
    2020 submission, Algorithm 1.
    """

    def __init__(
        self,
        config: UMNConfig,
        device: torch.device,
        pretrained: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.class_weights = torch.tensor(config.class_weights, device=device)
        self.network = UMNNetwork(config.network, generative=config.generative)
        trunk: list[nn.Parameter] = []
        if isinstance(self.network.encoder, BackboneEncoder):
            if pretrained is not None:
                self.network.encoder.trunk.load_state_dict(pretrained)
            trunk = list(self.network.encoder.trunk.parameters())
        self.network.to(device).to(memory_format=memory_format(device))
        self.shared: nn.Module = self.network
        self.learner = Recognizer(self.network.encoder, self.network.classifier)
        self.guider = make_guider(self.learner, config.ema_decay)
        self.compiled: CompiledLoss | None = None
        known = set(trunk)
        fresh = [weight for weight in self.network.parameters() if weight not in known]
        groups: list[dict[str, Any]] = [{"params": fresh}]
        if trunk:
            rate = ENCODERS[config.network.encoder].pretrained_learning_rate
            groups.append({"params": trunk, "lr": rate})
        self.optimizer = torch.optim.Adam(
            groups,
            lr=config.learning_rate,
            betas=config.betas,
            fused=device.type in ("cpu", "cuda"),
        )

    def compile(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compile the loss with torch.compile from now on. If that fails, warn and continue without.

        On a GPU a compiled loss draws other random numbers. On a CPU torch draws them, because the
        compiler's own draws are slow there.
        """
        options: dict[str, Any] = {"backend": backend}
        if backend == "inductor" and self.device.type == "cuda":
            options["mode"] = "reduce-overhead"  # CUDA graphs
        elif backend == "inductor":
            options["options"] = {"fallback_random": True}
        self.compiled = CompiledLoss(self.loss, options)

    def distribute(self) -> None:
        """Average gradients over the processes from now on; see `labelaudit.training.distributed`."""
        pretrained = isinstance(self.network.encoder, BackboneEncoder)
        self.shared = distributed.parallel(self.network, self.device, pretrained=pretrained)

    def agree(self) -> None:
        """Copy the batch-norm statistics of process 0 to all processes, which differ in them."""
        distributed.same_buffers(self.network, self.guider)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Take one optimizer step and one guider step; see `Method.step`."""
        self.network.train()
        noisy_eval(self.guider)
        self.optimizer.zero_grad(set_to_none=True)
        work_out = self.compiled or self.loss
        loss, values = work_out(batch.images, batch.noisy_labels, batch.num_labeled, batch.verified)
        (batch.weight * loss).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.guider.update_parameters(self.learner)
        return {"loss": loss.detach().clone(), **values}

    def loss(
        self,
        images: Tensor,
        noisy_labels: Tensor,
        num_labeled: int,
        verified: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Calculate the loss of a batch, and the values that are reported.

        Nothing in here reads a value from the device, so the host never waits for a GPU.

        Parameters
        ----------
        images, noisy_labels, num_labeled, verified
            As in `Batch`. ε of verified labels is ε_min, so that they have the largest weight.

        Returns
        -------
        loss, values
            A scalar with its gradient, and detached scalars by name.
        """
        config, num_classes = self.config, self.config.network.num_classes
        values: dict[str, Tensor] = {}
        objective = torch.zeros((), device=self.device)
        with autocast(self.device):
            logits, terms = self.shared(images, self.explained(len(images), num_labeled))
        if terms is not None:
            objective = (terms.elbo * self.explained_weights(len(images), num_labeled)).sum()
            values["elbo"] = objective.detach() / len(images)
        labels = noisy_labels[:num_labeled]
        learner_probs = logits[:num_labeled].softmax(1)
        epsilon = clamp_epsilon(
            self.estimate_epsilon(images[:num_labeled], labels, learner_probs.detach()),
            num_classes,
            config.min_epsilon,
        )
        if verified is not None:
            epsilon = epsilon.masked_fill(verified, config.min_epsilon)
        given_probs = learner_probs.gather(1, labels[:, None]).squeeze(1)
        pull = label_factor(epsilon, num_classes) * self.class_weights[labels]
        if config.exponent == 1:
            reward = given_probs
        else:
            log_probs = logits[:num_labeled].log_softmax(1)
            reward = box_cox(log_probs.gather(1, labels[:, None]).squeeze(1), config.exponent)
        labeled_term = (pull * reward).sum()
        if config.entropy_weight:
            # torch.special.entr would have an infinite gradient at 0.
            entropy = -(learner_probs * logits[:num_labeled].log_softmax(1)).sum()
            labeled_term = labeled_term + config.entropy_weight * entropy
        return -(objective + config.label_weight * labeled_term) / len(images), values

    def num_explained(self, num_labeled: int) -> int:
        """Return for how many labeled images of a batch the bound is calculated."""
        share = math.ceil(self.config.explained_share * num_labeled)
        return min(num_labeled, max(self.config.min_explained, share))

    def explained(self, batch_size: int, num_labeled: int) -> tuple[slice, ...]:
        """Choose the rows of a batch for which the bound is calculated.

        Returns
        -------
        tuple of slice
            The first labeled images, which represent all of them because batches are drawn in random
            order, and all unlabeled images.
        """
        kept = self.num_explained(num_labeled)
        if kept == num_labeled:
            return (slice(0, batch_size),)
        parts = (slice(0, kept), slice(num_labeled, batch_size))
        return parts if num_labeled < batch_size else parts[:1]

    def explained_weights(self, batch_size: int, num_labeled: int) -> Tensor:
        """Return for each explained row the number of images that it represents, ``(K,)``."""
        kept = self.num_explained(num_labeled)
        weights = torch.ones(kept + batch_size - num_labeled, device=self.device)
        if kept:
            weights[:kept] = num_labeled / kept
        return weights

    @torch.no_grad()
    def estimate_epsilon(self, images: Tensor, labels: Tensor, learner_probs: Tensor) -> Tensor:
        """ε of each label in a training batch (Eq. 11). The guider adds noise of its own.

        Parameters
        ----------
        images, labels
            ``(B, C, H, W)`` and ``(B,)``, only labeled images.
        learner_probs
            ``(B, C)``, the learner's probabilities in this step.

        Returns
        -------
        Tensor
            ``(B,)``, not clamped yet.
        """
        with autocast(self.device):
            guider_probs, _ = self.guider(images, sample=True)
        return label_uncertainty(learner_probs, guider_probs, labels)

    @property
    def images_at_once(self) -> int:
        """See `Method.images_at_once`."""
        return self.network.encoder.images_at_once(self.device)

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Predictions:
        """Predict without noise, dropout or sampling; see `Method.predict`."""
        self.learner.eval()
        self.guider.eval()
        with autocast(self.device):
            learner_probs, _ = self.learner(images)
            guider_probs, embedding = self.guider(images)
        return Predictions(learner_probs, guider_probs, embedding)

    @classmethod
    def from_portable(cls, saved: Mapping[str, Any], device: torch.device | str = "cpu") -> UMN:
        """Build a method that can predict from the result of `portable`.

        Parameters
        ----------
        saved
            The model.pt of a run folder, as ``torch.load(path, weights_only=True)`` reads it.
        device
            Device to predict on.
        """
        config = dict(saved["config"])
        network = dict(config.pop("network"))
        network["statistics"] = PixelStatistics(**network["statistics"])
        method = cls(UMNConfig(network=NetworkConfig(**network), **config), torch.device(device))
        method.network.load_state_dict(saved["network"])
        method.guider.module.load_state_dict(saved["guider"])
        return method

    @property
    def embedding_size(self) -> int:
        """Length d of the embedding that `predict` returns."""
        return self.network.encoder.embedding_size

    def portable(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """Return weights and settings as plain types, for ``torch.load(weights_only=True)``.

        `guider` holds the averaged encoder and classifier, and `network` the whole learner.
        """
        guider = self.guider.module.state_dict()
        return {
            "format": "labelaudit-umn-1",
            "class_names": list(class_names),
            "config": asdict(self.config),
            "network": {k: v.cpu() for k, v in self.network.state_dict().items()},
            "guider": {k: v.cpu() for k, v in guider.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """See `Method.state_dict`."""
        return {
            "network": self.network.state_dict(),
            "guider": self.guider.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Method.load_state_dict`."""
        self.network.load_state_dict(state["network"])
        self.guider.load_state_dict(state["guider"])
        load_adam(self.optimizer, state["optimizer"])
