"""An audit whose training diverges."""

import numpy as np
import pytest
import torch

import labelaudit
from labelaudit import LabelAuditor, UntrustedResultWarning
from labelaudit.methods.umn import UMN


def blobs():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    return rng.normal(size=(60, 4)) + 5 * np.eye(4)[labels], labels


def spoil(monkeypatch, spoiled):
    """Set the weights to NaN after some steps of the training."""
    step = UMN.step

    def spoiled_step(self, batch):
        values = step(self, batch)
        self.steps = getattr(self, "steps", 0) + 1
        if spoiled(self.steps):
            for weight in self.network.parameters():
                weight.data *= np.nan
        return values

    monkeypatch.setattr(UMN, "step", spoiled_step)


SETTINGS = {"epochs": 4, "batch_size": 60, "device": "cpu", "verbose": False}  # one step per epoch


def test_training_that_diverges_once_ends_well_and_says_so(monkeypatch):
    spoil(monkeypatch, lambda step: step == 3)
    result = labelaudit.scan(*blobs(), **SETTINGS)
    assert result.summary["status"] == "complete"
    assert result.summary["epochs"] == 4
    (warning,) = (text for text in result.summary["warnings"] if "diverged" in text)
    assert "in epoch 3" in warning


def test_training_that_diverges_again_is_not_to_be_trusted(monkeypatch):
    spoil(monkeypatch, lambda step: step >= 3)
    auditor = LabelAuditor(**SETTINGS)
    with pytest.warns(UntrustedResultWarning, match="Training diverged twice, at last in epoch 3"):
        auditor.fit(*blobs())
    assert (auditor.status_, auditor.n_iter_) == ("diverged", 2)
    assert np.isfinite(auditor.suspect_score_).all()
    summary = auditor.result().summary
    assert not summary.trust.trustworthy
    assert not summary.metrics.num_wrong


def test_a_full_gpu_is_told_and_the_audit_goes_on(monkeypatch):
    step = UMN.step

    def full_step(self, batch):
        if len(batch.images) > 20:
            raise torch.OutOfMemoryError("full")
        return step(self, batch)

    monkeypatch.setattr(UMN, "step", full_step)
    result = labelaudit.scan(*blobs(), **SETTINGS)
    assert result.summary["config"]["batch_size"] == 15
    assert result.summary["status"] == "complete"
