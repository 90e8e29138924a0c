"""The guider: an exponential moving average of a network (Eq. 10), by torch.optim.swa_utils."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def make_guider(module: nn.Module, ema_decay: float) -> AveragedModel:
    """Start a guider from a learner's weights: ``θ' ← γθ' + (1-γ)θ`` at each update.

    Buffers are averaged like parameters. Batch norm's running statistics therefore belong to the
    averaged weights as nearly as an average can, and the guider never estimates its own from the
    few labeled images that it is shown: `noisy_eval` keeps batch norm at its running statistics
    while dropout and input noise are on.

    Parameters
    ----------
    module
        The learner's part to average (encoder and classifier for UMN, Figure 1).
    ema_decay
        γ, the weight on the old value, in (0, 1).
    """
    average = get_ema_multi_avg_fn(ema_decay)  # type: ignore[no-untyped-call]
    guider = AveragedModel(module, multi_avg_fn=average, use_buffers=True)
    guider.requires_grad_(False)
    return guider.eval()


def noisy_eval(module: nn.Module) -> nn.Module:
    """Switch input noise and dropout on, batch norm to its running statistics; returns `module`."""
    module.train()
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()
    return module
