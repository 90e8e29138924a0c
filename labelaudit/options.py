"""Every option of a scan, with its help, written once.

The command line, `labelaudit.scan`, `LabelAuditor` and the reference pages are all built from the
dataclasses below. Nothing here imports torch, so that ``labelaudit --help`` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
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

    @property
    def pretrained(self) -> bool:
        """Whether the encoder is a pretrained backbone: by its name, or as it is given weights."""
        from labelaudit.networks.encoders import ENCODER_NAMES

        return self.weights is not None or self.encoder not in ("auto", *ENCODER_NAMES)

    def refuse_encoder(self, what: str) -> None:
        """Raise where options about images were set and `what` gives features instead."""
        for option, value in (
            ("--encoder", None if self.encoder == "auto" else self.encoder),
            ("--weights", self.weights),
            ("--image-size", self.image_size),
            ("--flip", self.flip or None),
        ):
            if value is not None:
                raise OptionError(
                    f"{what} gives the features, and {option} is for images; leave {option} out"
                )


def check_audit_options(options: AuditOptions) -> None:
    """Raise `OptionError` where an option's value cannot be used, alone or beside another."""
    from labelaudit.suspects.decision import Threshold
    from labelaudit.suspects.scores import SCORE_NAMES

    for one in fields(AuditOptions):
        least, value = one.metadata["least"], getattr(options, one.name)
        if least is not None and value is not None and value < least:
            name = one.name.replace("_", "-")
            raise OptionError(f"--{name} is {value}; it must be {least} or more")
    if options.time_budget is not None and not options.time_budget > 0:
        raise OptionError(f"--time-budget is {options.time_budget} minutes; it must be above 0")
    if options.score not in SCORE_NAMES:
        raise OptionError(
            f"unknown score {options.score!r}: choose one of {', '.join(SCORE_NAMES)}"
        )
    Threshold.parse(options.threshold)
    if options.weights is not None and options.encoder in ("auto", "mlp", "conv13"):
        raise OptionError(
            f"--weights are those of a pretrained network, and --encoder is {options.encoder}; name"
            " the network with --encoder"
        )
    if options.fine_tune and not options.pretrained:
        raise OptionError(
            "--fine-tune trains a pretrained network on; name one with --encoder (the other"
            " encoders are trained from fresh weights anyway)"
        )
    if options.flip and options.pretrained and not options.fine_tune:
        raise OptionError(
            "--flip mirrors images while training, and a frozen network looks at each image once;"
            " leave --flip out, or add --fine-tune"
        )
