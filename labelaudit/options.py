"""Every option of a scan, with its help, written once.

The command line, `labelaudit.scan`, `LabelAuditor` and the reference pages are all built from the
dataclasses below. Nothing here imports torch, so that ``labelaudit --help`` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from labelaudit.errors import OptionError


def option(
    default: Any,
    help: str,
    *,
    metavar: str | None = None,
    details: str = "",
    least: float | None = None,
) -> Any:
    """Declare an option of a dataclass.

    Parameters
    ----------
    default
        Its value where a user gives none.
    help
        One line for ``--help``.
    metavar
        What the value is called there.
    details
        What the reference says beyond `help`.
    least
        The smallest number that is accepted.
    """
    metadata = {"help": help, "metavar": metavar, "details": details, "least": least}
    return field(default=default, metadata=metadata)


@dataclass(kw_only=True, eq=False)
class AuditOptions:
    """How the labels are audited, once samples and labels have been read."""

    encoder: str = option("auto", "Network that reads the samples.")
    weights: str | None = option(None, "Weights of a pretrained network.", metavar="FILE|DEFAULT")
    fine_tune: bool = option(False, "Train the pretrained network on.")
    image_size: int | None = option(
        None, "Longest side at which images are read.", metavar="PIXELS", least=1
    )
    epochs: int | None = option(None, "Number of passes over the data.", least=1)
    batch_size: int | None = option(None, "Number of samples in each training step.", least=2)
    flip: bool = option(False, "Mirror training images left to right at random.")
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps.")
    seed: int = option(0, "Seed of every random draw.", least=0)
    time_budget: float | None = option(None, "Stop training in time.", metavar="MINUTES")
    compile: bool = option(False, "Try torch.compile on the training step.")
    score: str = option("auto", "Ranking: auto, posterior or epsilon.")
    threshold: str = option("auto", "Which labels are flagged.")


def check_least(options: Any) -> None:
    """Raise `OptionError` where an option is smaller than its `least`."""
    for one in fields(options):
        least, value = one.metadata.get("least"), getattr(options, one.name)
        if least is not None and value is not None and value < least:
            raise OptionError(f"{one.name} is {value}; it must be {least:g} or more")
