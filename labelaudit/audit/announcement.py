"""What is said about the time of a training, once its first steps were measured."""

from __future__ import annotations

from labelaudit.audit.plan import AuditPlan
from labelaudit.estimates import Range, format_seconds
from labelaudit.features.photo_networks import DOWNLOADED
from labelaudit.progress import Reporter
from labelaudit.training import distributed
from labelaudit.training.duration import TrainingTime

# A training that takes longer than these seconds is told with the ways to a shorter one.
LONG = 300.0
# A network that is trained on small gray images reads them as well as a pretrained one.
SMALL_SIDE = 32


def tell_duration(plan: AuditPlan, duration: TrainingTime, reporter: Reporter) -> None:
    """Report how long the training takes, and what would be shorter if that is long."""
    whole, epoch = duration.rest_of(plan.epochs), duration.rest_of(duration.epoch)
    left = duration.seconds_left
    if whole is None or epoch is None:
        return
    if left is not None and epoch.low > left:
        reporter.warn(
            f"one epoch takes about {epoch}, which is longer than `time_budget` allows. Training ends"
            " after this epoch"
        )
        return
    if left is not None and whole.high > left:
        rest = f"; it will stop within the {format_seconds(left)} that `time_budget` leaves."
    elif distributed.size() == 1:
        rest = ". Ctrl-C ends it early and keeps the ranking so far."
    else:
        rest = f" in {distributed.size()} processes. After Ctrl-C, `resume=True` continues it."
    reporter.say(f"Training takes about {whole}{rest}")
    if (left is None or left > LONG) and (advice := shorter_ways(plan, whole)) is not None:
        reporter.say(advice)


def shorter_ways(plan: AuditPlan, whole: Range) -> str | None:
    """Return how an audit takes less time, in words, or None if the training is short.

    Parameters
    ----------
    plan
        The plan of the training.
    whole
        How long the training takes.
    """
    if whole.low <= LONG:
        return None
    ways = []
    inputs = plan.inputs
    if inputs.fine_tuning is not None:
        ways.append("its frozen features (without `fine_tune`)")
    elif not inputs.are_features:
        channels, height, width = inputs.choice.image_shape
        if channels > 1 or max(height, width) > SMALL_SIDE:
            ways.append(f"the features of a pretrained network (`encoder='{DOWNLOADED[0]}'`)")
    if plan.epochs > 1:
        ways.append(f"fewer epochs (`epochs={max(1, plan.epochs // 4)}`)")
    if plan.options.time_budget is None:
        ways.append("a limit in minutes (`time_budget=5`)")
    if plan.device.type == "cpu":
        ways.append("a GPU")
    if not ways:
        return None
    listed = ", or ".join(filter(None, [", ".join(ways[:-1]), ways[-1]]))
    return f"It takes less with {listed}."
