"""All systems that `labelaudit eval` can run, by their names on the command line."""

from __future__ import annotations

import numpy as np

from labelaudit.audit.fitting import RunFiles
from labelaudit.auditor import LabelAuditor
from labelaudit.methods.aum import AUMAudit
from labelaudit.methods.confident_learning import ConfidentLearning
from labelaudit.methods.linear_probe import LinearProbe, StrongLinearProbe
from labelaudit.methods.mean_teacher import MeanTeacherAudit
from labelaudit.methods.mentornet import LearnedMentorNetAudit, MentorNetAudit
from labelaudit.methods.mislabeled_vae import KnownRateVAE
from labelaudit.methods.neighbors_vote import NeighborsVote
from labelaudit.methods.reweight import ReweightAudit
from labelaudit.methods.supervised import SmallLoss, Supervised, SupervisedResNet101
from labelaudit.methods.system import System
from labelaudit.methods.task import CHECKPOINT, AuditResult, Task, predict_test
from labelaudit.sources.arrays import source_from_arrays
from labelaudit.sources.feature_tables import FeatureSource, features_of_rows
from labelaudit.sources.manifest import Source


class UncertaintyMining(System):
    """UMN, by the `LabelAuditor` that `labelaudit scan` fits too."""

    resumable = True

    def audit(self, task: Task) -> AuditResult:
        """Fit a `LabelAuditor` on the task."""
        auditor = LabelAuditor(
            encoder="auto" if task.encoder == "features" else task.encoder,
            epochs=task.epochs,
            batch_size=task.batch_size,
            flip=task.flip,
            device=str(task.device),
            seed=task.seed,
        )

        def watch(auditor: LabelAuditor, epoch: int) -> None:
            if task.watch is not None:
                task.watch(epoch, lambda: predict_test(auditor.method_, task))

        files = RunFiles()
        if task.state is not None:
            files = RunFiles(task.state / "epsilon", task.state / CHECKPOINT)
        # As `fit` does, but without a warning: the reports mark results that are not trusted.
        plan = auditor.prepare(source_of(task), task.reporter)
        auditor.fit_plan(plan, files, task.reporter, on_epoch=watch)
        if auditor.status_ == "interrupted":
            raise KeyboardInterrupt
        rank = np.empty(len(task.noisy_labels))
        rank[auditor.ranking_] = np.arange(len(auditor.ranking_), 0, -1)
        rows = task.labeled
        assessment = auditor.audited_.assessment
        return AuditResult(
            suspect_score=rank[rows],  # the score itself has ties, because it rounds to 1
            flagged=auditor.is_label_issue_[rows],
            epochs=auditor.n_iter_,
            test_probs=predict_test(auditor.method_, task),
            variants={"epsilon > 0": auditor.epsilon_[rows] > 0},  # the paper's rule, section 4.3
            wrong_prob=auditor.suspect_score_[rows] if assessment.scores.is_probability else None,
            wrong_interval=auditor.expected_wrong_interval_,
            trustworthy=assessment.trust.trustworthy,
        )


def source_of(task: Task) -> Source | FeatureSource:
    """Return the task's samples and labels as `LabelAuditor.fit` takes them."""
    class_names = [str(number) for number in range(task.num_classes)]
    if task.encoder == "features":
        labels = source_from_arrays(None, task.noisy_labels, class_names=class_names)
        return features_of_rows(labels, task.features)
    images = np.moveaxis(task.inputs, 1, 3)  # (N, C, H, W) to (N, H, W, C)
    return source_from_arrays(images, task.noisy_labels, class_names=class_names)


METHODS: dict[str, type[System]] = {
    "umn": UncertaintyMining,
    "supervised": Supervised,
    "supervised-resnet101": SupervisedResNet101,
    "mean-teacher": MeanTeacherAudit,
    "mislabeled-vae": KnownRateVAE,
    "mentornet": MentorNetAudit,
    "mentornet-learned": LearnedMentorNetAudit,
    "reweight": ReweightAudit,
    "aum": AUMAudit,
    "small-loss": SmallLoss,
    "confident-learning": ConfidentLearning,
    "linear-probe": LinearProbe,
    "linear-probe-strong": StrongLinearProbe,
    "neighbors-vote": NeighborsVote,
}
