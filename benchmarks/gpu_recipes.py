"""Ways to train UMN that benchmarks/gpu_probe.py tries: recipes, and a UMN that follows one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from labelaudit.methods.umn import UMN
from labelaudit.methods.umn_config import UMNConfig
from labelaudit.training.device import autocast
from labelaudit.training.method import Batch

# A rate that rises and falls is highest after this share of the steps, and never below this share
# of its highest value. Cross-entropy, where it comes first, takes this share of the steps.
RISE, LOWEST_RATE, FIRST_SHARE = 0.15, 0.01, 0.3
# Generalized cross-entropy (Zhang & Sabuncu 2018, https://arxiv.org/abs/1805.07836).
GENERALIZED_Q = 0.7
# The weight of a label where a loss does without ε, about the mean of f(ε) in training.
PLAIN_FACTOR = 5.0

Loss = Literal["linear", "cross-entropy", "cross-entropy, then linear", "generalized"]


@dataclass(frozen=True)
class Recipe:
    """How a variant of UMN is trained.

    Attributes
    ----------
    weight
        Factor of α, the weight of the labeled term.
    generative
        Whether the generative half is trained.
    loss
        The labeled term. "linear" is UMN's own; the others do without ε.
    schedule
        Whether the learning rate rises and falls.
    learning_rate
        Adam's, or the highest of the schedule.
    dropout
        Replaces the encoder's dropout rate; None keeps it.
    """

    weight: float = 1.0
    generative: bool = True
    loss: Loss = "linear"
    schedule: bool = False
    learning_rate: float = 0.001
    dropout: float | None = None

    def configure(self, config: UMNConfig) -> UMNConfig:
        """Return the settings of UMN with those of the recipe."""
        if not self.generative:
            config = config.without_generative_half()
        return replace(
            config,
            label_weight=config.label_weight * self.weight,
            learning_rate=self.learning_rate,
        )


RECIPES: dict[str, Recipe] = {
    "as it is": Recipe(),
    "no generative half": Recipe(generative=False),
    "cross-entropy, schedule, dropout 0.2": Recipe(
        generative=False, loss="cross-entropy", schedule=True, dropout=0.2, learning_rate=0.002
    ),
    "linear, schedule, dropout 0.2": Recipe(
        generative=False, schedule=True, dropout=0.2, learning_rate=0.002
    ),
    "cross-entropy then linear, schedule, dropout 0.2": Recipe(
        generative=False,
        loss="cross-entropy, then linear",
        schedule=True,
        dropout=0.2,
        learning_rate=0.002,
    ),
    "generative, 8 times the weight, schedule, dropout 0.2": Recipe(
        weight=8.0, schedule=True, dropout=0.2, learning_rate=0.002
    ),
    "generalized cross-entropy, schedule, dropout 0.2": Recipe(
        generative=False, loss="generalized", schedule=True, dropout=0.2, learning_rate=0.002
    ),
    "generative, 8 times the weight, cross-entropy then linear": Recipe(
        weight=8.0,
        loss="cross-entropy, then linear",
        schedule=True,
        dropout=0.2,
        learning_rate=0.002,
    ),
}
RESNET_RECIPE = Recipe(generative=False, schedule=True, learning_rate=0.002)


class VariantUMN(UMN):
    """UMN trained by a recipe.

    Parameters
    ----------
    config, device, pretrained
        See `UMN`.
    recipe
        What is different.
    total_steps
        Number of steps of the whole training.
    """

    def __init__(
        self,
        config: UMNConfig,
        device: torch.device,
        pretrained: Mapping[str, Tensor] | None = None,
        *,
        recipe: Recipe,
        total_steps: int,
    ) -> None:
        super().__init__(config, device, pretrained)
        self.recipe, self.total_steps, self.steps_done = recipe, total_steps, 0
        if recipe.dropout is not None:
            for module in (*self.network.modules(), *self.guider.modules()):
                if isinstance(module, nn.Dropout):
                    module.p = recipe.dropout

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """See `UMN.step`."""
        if self.recipe.schedule:
            share = self.share_done
            factor = max(LOWEST_RATE, min(share / RISE, (1 - share) / (1 - RISE)))
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * factor
        told = super().step(batch)
        self.steps_done += 1
        return told

    @property
    def share_done(self) -> float:
        """Share of the steps that are done, in [0, 1]."""
        return self.steps_done / self.total_steps

    def loss(
        self,
        images: Tensor,
        noisy_labels: Tensor,
        num_labeled: int,
        verified: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `UMN.loss`."""
        kind = self.recipe.loss
        if kind == "cross-entropy, then linear":
            kind = "cross-entropy" if self.share_done < FIRST_SHARE else "linear"
        if kind == "linear":
            return super().loss(images, noisy_labels, num_labeled, verified)
        with autocast(self.device):
            logits, terms = self.shared(images, self.explained(len(images), num_labeled))
        objective = torch.zeros((), device=self.device)
        if terms is not None:
            objective = (terms.elbo * self.explained_weights(len(images), num_labeled)).sum()
        log_probs = logits[:num_labeled].log_softmax(1)
        given = log_probs.gather(1, noisy_labels[:num_labeled, None]).squeeze(1)
        if kind == "generalized":
            given = ((GENERALIZED_Q * given).exp() - 1) / GENERALIZED_Q
        labeled_term = PLAIN_FACTOR * given.sum()
        return -(objective + self.config.label_weight * labeled_term) / len(images), {}
