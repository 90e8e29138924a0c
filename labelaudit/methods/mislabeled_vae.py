"""Mislabeled-VAE: UMN's model with one known noise rate for all labels.

Paper: Langevin et al. 2018, "A Deep Generative Model for Semi-Supervised Classification with Noisy
Labels" (https://arxiv.org/abs/1809.05957), as the UMN paper describes it in Eqs. 6-8. ε is fixed to the
known noise rate, so that all labels have the same weight f(ε), right or wrong. There is no guider.

Labels are judged by the posterior of the same model, by Bayes' rule with the channel of Eq. 6.

Deviations: docs/methods/mislabeled_vae.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from labelaudit.errors import OptionError
from labelaudit.methods.system import System
from labelaudit.methods.task import AuditResult, Task, flag_by_prediction, train_on
from labelaudit.methods.umn import UMN
from labelaudit.methods.umn_config import UMNConfig, default_batch_size, default_epochs
from labelaudit.training.device import autocast
from labelaudit.training.method import Predictions


class MislabeledVAE(UMN):
    """UMN's learner with ε = ρ for every label (Eq. 6).

    Parameters
    ----------
    config
        As for UMN.
    noise_rate
        ρ in [0, 1]. It is clamped like UMN's ε, so that f is finite and positive.
    device
        Where to train.
    """

    def __init__(self, config: UMNConfig, noise_rate: float, device: torch.device) -> None:
        super().__init__(config, device)
        self.noise_rate = noise_rate

    def estimate_epsilon(self, images: Tensor, labels: Tensor, learner_probs: Tensor) -> Tensor:
        """Return ρ for every label, ``(B,)``."""
        return torch.full_like(labels, self.noise_rate, dtype=torch.float32)

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Predictions:
        """Predict with the learner only; see `Method.predict`."""
        self.learner.eval()
        with autocast(self.device):
            probs, embedding = self.learner(images)
        return Predictions(probs, probs, embedding)


def is_likelier_wrong(suspect_score: np.ndarray, rate: float, num_classes: int) -> np.ndarray:
    """Return whether P(y ≠ ỹ | x, ỹ) is above 1/2, ``(L,)`` bool.

    Parameters
    ----------
    suspect_score
        1 - q(ỹ|x), ``(L,)`` in [0, 1].
    rate
        ρ in [0, 1].
    num_classes
        C.
    """
    wrong = rate / (num_classes - 1) * suspect_score
    return np.asarray(wrong > (1.0 - rate) * (1.0 - suspect_score))


class KnownRateVAE(System):
    """Mislabeled-VAE with the true noise rate, which is not known in practice."""

    resumable = True
    needs_noise_rate = True

    def audit(self, task: Task) -> AuditResult:
        """Train on all samples; rank labels by the probability of any other class.

        They are flagged by the posterior of the model, which knows the noise rate.

        Raises OptionError if the task does not give the noise rate.
        """
        if task.noise_rate is None:
            raise OptionError("mislabeled-vae needs the noise rate, and the task does not give it")
        plan = task.plan(default_batch_size(len(task.inputs), task.device.type, task.encoder))
        config = UMNConfig.for_data(task.inputs, task.given, task.num_classes, task.encoder, plan)
        # Eq. 8, also where UMN would leave out its generative half.
        config = replace(
            config, generative=True, entropy_weight=0.0, explained_share=1.0, exponent=1.0
        )
        epochs = task.epochs or default_epochs(plan.steps, plan.draws_per_label, task.encoder)
        rate = task.noise_rate
        method = train_on(task, lambda: MislabeledVAE(config, rate, task.device), plan, epochs)
        result = flag_by_prediction(method, task, epochs)
        flagged = is_likelier_wrong(result.suspect_score, rate, task.num_classes)
        return replace(result, flagged=flagged)
