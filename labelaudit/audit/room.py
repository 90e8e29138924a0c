"""How much a scan writes at least, to check before training whether the disk has room for it."""

from __future__ import annotations

from labelaudit.audit.plan import AuditPlan

# Bytes per label and recorded epoch, after compression; and per sample in the tables. Low estimates, so
# that no run is refused which would fit.
EPOCH_BYTES, SAMPLE_BYTES = 8, 60
FLOAT_BYTES = 4
LEAST_EMBEDDING = 16  # numbers per sample
# A checkpoint holds the weights, those of the guider and two moments. Two of them are kept.
CHECKPOINT_COPIES = 8
LEAST = 1 << 20  # plots and the page


def bytes_needed(plan: AuditPlan) -> int:
    """Return a low estimate of the bytes that a scan writes into its folder."""
    manifest, fine_tuning = plan.manifest, plan.inputs.fine_tuning
    weights = 0
    if fine_tuning is not None:
        weights = sum(one.numel() * one.element_size() for one in fine_tuning.weights.values())
    columns = manifest.num_classes + LEAST_EMBEDDING
    return (
        LEAST
        + manifest.num_samples * (SAMPLE_BYTES + FLOAT_BYTES * columns)
        + manifest.num_labeled * EPOCH_BYTES * plan.epochs
        + weights * (1 + CHECKPOINT_COPIES)
    )
