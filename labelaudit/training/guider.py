"""The guider: an exponential moving average of a network (Eq. 10), by torch.optim.swa_utils."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Average:
    """torch's exponential moving average, as an object that can be pickled and copied.

    Parameters
    ----------
    decay
        γ, the weight on the old value, in (0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def __call__(
        self, own: Sequence[Tensor], other: Sequence[Tensor], num_averaged: Tensor | int
    ) -> None:
        """Move the values of `own` towards `other`, in place."""
        move = get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call]
        move(own, other, num_averaged)


class Guider(AveragedModel):
    """torch's averaged model, with an update that does not wait for the GPU.

    The update of the parent class copies the number of updates to the GPU and waits for that copy.
    """

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Copy all parameters and buffers in the first call. Later, average those that are floats."""
        ours = [*self.module.parameters(), *self.module.buffers()]
        theirs = [*model.parameters(), *model.buffers()]
        averaged: list[tuple[Tensor, Tensor]] = []
        later = bool(self.n_averaged > 0)  # `n_averaged` is on the CPU
        for own, other in zip(ours, theirs, strict=True):
            if later and own.is_floating_point():
                averaged.append((own.detach(), other.detach()))
            else:
                own.copy_(other)
        if averaged:
            assert self.multi_avg_fn is not None
            own_list, other_list = zip(*averaged, strict=True)
            self.multi_avg_fn(own_list, other_list, self.n_averaged)
        self.n_averaged += 1


def make_guider(module: nn.Module, ema_decay: float) -> Guider:
    """Make a guider with a learner's weights. Each update sets ``θ' ← γθ' + (1-γ)θ`` (Eq. 10).

    Buffers are averaged like parameters, so the running statistics of batch norm fit the averaged
    weights approximately. `noisy_eval` uses these statistics while dropout and input noise are on. The
    guider thus never estimates statistics from the few labeled images of a batch.

    Parameters
    ----------
    module
        The part of the learner to average: for UMN, encoder and classifier (Figure 1).
    ema_decay
        γ, the weight on the old value, in (0, 1).
    """
    guider = Guider(module, multi_avg_fn=Average(ema_decay), use_buffers=True)
    guider.requires_grad_(False)
    return guider.eval()


def noisy_eval(module: nn.Module) -> nn.Module:
    """Turn on input noise and dropout, with batch norm in eval mode. Returns `module`."""
    module.train()
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()
    return module
