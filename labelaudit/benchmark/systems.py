"""Every system that `labelaudit eval` can run, by the name that it goes by on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from labelaudit.methods.aum import AUMAudit
from labelaudit.methods.confident_learning import ConfidentLearning
from labelaudit.methods.mean_teacher import MeanTeacherAudit
from labelaudit.methods.mentornet import LearnedMentorNetAudit, MentorNetAudit
from labelaudit.methods.mislabeled_vae import KnownRateVAE
from labelaudit.methods.reweight import ReweightAudit
from labelaudit.methods.supervised import SmallLoss, Supervised, SupervisedResNet101
from labelaudit.methods.task import Task, Verdict
from labelaudit.methods.umn import UncertaintyMining


class System(Protocol):
    """Something that can be given a corrupted data set and says which labels are wrong."""

    def audit(self, task: Task) -> Verdict:
        """Train on the task and judge its labels."""
        ...


METHODS: dict[str, Callable[[], System]] = {
    "umn": UncertaintyMining,
    "supervised": Supervised,
    "supervised-resnet101": SupervisedResNet101,
    "mean-teacher": MeanTeacherAudit,
    "mislabeled-vae": KnownRateVAE,
    "mentornet": MentorNetAudit,
    "mentornet-learned": LearnedMentorNetAudit,
    "reweight": ReweightAudit,
    "confident-learning": ConfidentLearning,
    "aum": AUMAudit,
    "small-loss": SmallLoss,
}
# Systems that are given labels known to be right.
NEEDS_TRUSTED = frozenset({"mentornet-learned", "reweight"})
