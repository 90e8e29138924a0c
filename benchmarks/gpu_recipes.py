"""Ways to train UMN that gpu_probe.py and conv13_proxy.py try: recipes, and a UMN that follows one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from labelaudit.methods.umn import UMN
from labelaudit.methods.umn_config import EXPLAINED_SHARE, UMNConfig
from labelaudit.training.method import Batch

# A rate that rises and falls is highest after this share of the steps, and never below this share
# of its highest value.
RISE, LOWEST_RATE = 0.15, 0.01


@dataclass(frozen=True)
class Recipe:
    """What is different from the default.

    Attributes
    ----------
    generative
        Whether the generative half is trained; None keeps the default.
    exponent
        Of the labeled term; see `UMNConfig`. None keeps the default.
    cross_entropy_first
        Share of the steps with the exponent 0, before the others.
    weight
        Factor of α, the weight of the labeled term. It matters only beside the generative half.
    schedule
        Whether the learning rate rises and falls.
    learning_rate
        Adam's, or the highest of the schedule.
    dropout
        Replaces the encoder's dropout rate; None keeps it.
    flip
        Whether images are mirrored at random.
    """

    generative: bool | None = None
    exponent: float | None = None
    cross_entropy_first: float = 0.0
    weight: float = 1.0
    schedule: bool = False
    learning_rate: float = 0.001
    dropout: float | None = None
    flip: bool = False

    def configure(self, config: UMNConfig) -> UMNConfig:
        """Return the settings of UMN with those of the recipe."""
        if self.generative:
            share = EXPLAINED_SHARE
            config = replace(config, generative=True, entropy_weight=0.0, explained_share=share)
        elif self.generative is False:
            config = config.without_generative_half()
        if self.exponent is not None:
            config = replace(config, exponent=self.exponent)
        return replace(
            config,
            label_weight=config.label_weight * self.weight,
            learning_rate=self.learning_rate,
        )


FASTER = Recipe(schedule=True, learning_rate=0.002, dropout=0.2)
PAPER = Recipe(generative=True, exponent=1.0)
RECIPES: dict[str, Recipe] = {
    "the paper's loss": PAPER,
    "default": Recipe(),
    "default, schedule, dropout 0.2": FASTER,
    "default, schedule, dropout 0.2, flip": replace(FASTER, flip=True),
    "cross-entropy": Recipe(exponent=0.0),
    "cross-entropy, schedule, dropout 0.2": replace(FASTER, exponent=0.0),
    "cross-entropy then linear, schedule, dropout 0.2": replace(
        FASTER, exponent=1.0, cross_entropy_first=1 / 3
    ),
    "default, flip": Recipe(flip=True),
    "linear": Recipe(exponent=1.0),
    "the paper's loss, 8 times the weight": replace(PAPER, weight=8.0),
}
RESNET_RECIPES: dict[str, Recipe] = {
    "resnet18": Recipe(),
    "resnet18, trained like the 13-layer network": Recipe(generative=False, exponent=0.7),
}


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
        self.own, self.recipe = config, recipe
        self.total_steps, self.steps_done = total_steps, 0
        if recipe.dropout is not None:
            for module in (*self.network.modules(), *self.guider.modules()):
                if isinstance(module, nn.Dropout):
                    module.p = recipe.dropout

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """See `UMN.step`."""
        share = self.steps_done / self.total_steps
        first = share < self.recipe.cross_entropy_first
        self.config = replace(self.own, exponent=0.0) if first else self.own
        if self.recipe.schedule:
            factor = max(LOWEST_RATE, min(share / RISE, (1 - share) / (1 - RISE)))
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * factor
        told = super().step(batch)
        self.steps_done += 1
        return told
