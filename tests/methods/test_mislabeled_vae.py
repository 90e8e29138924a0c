import copy
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from labelaudit.errors import OptionError
from labelaudit.methods.mislabeled_vae import KnownRateVAE, MislabeledVAE, is_likelier_wrong
from labelaudit.methods.task import Task
from labelaudit.methods.umn_config import UMNConfig
from labelaudit.networks.standardize import PixelStatistics
from labelaudit.networks.umn import NetworkConfig
from labelaudit.training.method import Batch

CPU = torch.device("cpu")
WEIGHTS = (1.0, 1.0, 1.0)


def make_method(rate: float) -> MislabeledVAE:
    torch.manual_seed(0)
    network = NetworkConfig("mlp", (1, 4, 4), 3, "bernoulli", PixelStatistics((0.5,), (0.5,)))
    return MislabeledVAE(UMNConfig(network, 5.0, WEIGHTS), rate, CPU)


def make_batch() -> Batch:
    torch.manual_seed(1)
    labels = torch.tensor([0, 1, 2, 0, -1, -1])
    return Batch(torch.rand(6, 1, 4, 4), labels, torch.arange(6), 4)


@pytest.mark.parametrize(
    ("rate", "epsilon"),
    [(0.3, 0.3), (0.0, 0.001), (0.9, 1 - 1 / 3 - 0.001)],  # clamped like UMN's
)
def test_a_step_is_the_gradient_of_eq_8_with_one_factor_for_every_label(rate, epsilon):
    method, batch = make_method(rate), make_batch()
    reference = copy.deepcopy(method)
    torch.manual_seed(5)
    method.step(batch)

    torch.manual_seed(5)
    reference.network.train()
    logits, terms = reference.network(batch.images)
    labeled = batch.noisy_labels >= 0
    given = logits.softmax(1)[labeled, batch.noisy_labels[labeled]]
    factor = math.log(2 * (1 - epsilon) / epsilon)  # Eq. 7
    loss = (-terms.elbo.sum() - 5.0 * factor * given.sum()) / len(batch.images)
    loss.backward()
    for (name, ours), theirs in zip(
        method.network.named_parameters(), reference.network.parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_predictions_are_the_learner_s():
    method, batch = make_method(0.2), make_batch()
    for _ in range(3):
        method.step(batch)
    seen = method.predict(batch.images)
    method.learner.eval()
    with torch.no_grad():
        probs, embedding = method.learner(batch.images)
    torch.testing.assert_close(seen.guider_probs, probs)
    torch.testing.assert_close(seen.learner_probs, probs)
    torch.testing.assert_close(seen.embedding, embedding)


def test_it_refuses_to_guess_the_noise_rate(noisy_digits):
    images, noisy, _ = noisy_digits
    with pytest.raises(OptionError, match="needs the noise rate"):
        KnownRateVAE().audit(Task(images[:, None], noisy, 10, "mlp", CPU, 0))


def test_told_the_rate_it_finds_wrong_digits(noisy_digits):
    images, noisy, clean = noisy_digits
    rate = float((noisy != clean).mean())
    pixels = images[:, None]
    task = Task(
        pixels, noisy, 10, "mlp", CPU, 0, test_inputs=pixels[:50], noise_rate=rate, epochs=8
    )
    verdict = KnownRateVAE().audit(task)
    assert verdict.epochs == 8
    assert roc_auc_score(noisy != clean, verdict.suspect_score) > 0.9
    assert verdict.flagged.dtype == bool
    assert verdict.test_probs.shape == (50, 10)


def test_a_label_is_flagged_where_bayes_rule_calls_it_wrong_at_the_known_rate():
    suspect_score = np.array([0.0, 0.5, 0.95, 0.99, 1.0])
    for rate, flagged in ((0.1, [0, 0, 0, 1, 1]), (0.5, [0, 0, 1, 1, 1]), (0.0, [0, 0, 0, 0, 0])):
        posterior = np.array(
            [rate / 9 * u / (rate / 9 * u + (1 - rate) * (1 - u) + 1e-300) for u in suspect_score]
        )
        assert (posterior > 0.5).tolist() == flagged
        assert is_likelier_wrong(suspect_score, rate, 10).tolist() == flagged


def test_unlabeled_images_are_trained_on_and_not_judged(noisy_digits):
    images, noisy, _ = noisy_digits
    few = np.where(np.arange(600) < 50, noisy, -1)
    task = Task(images[:, None], few, 10, "mlp", CPU, 0, noise_rate=0.2, epochs=1)
    verdict = KnownRateVAE().audit(task)
    assert verdict.suspect_score.shape == verdict.flagged.shape == (50,)
    assert verdict.test_probs is None


def test_where_umn_has_no_generative_half_the_loss_is_still_eq_8(monkeypatch):
    built = []

    def stop(config, rate, device):
        built.append(config)
        raise OptionError("seen")

    monkeypatch.setattr("labelaudit.methods.mislabeled_vae.MislabeledVAE", stop)
    images = np.zeros((60, 3, 32, 32), dtype=np.uint8)
    task = Task(images, np.arange(60) % 3, 3, "conv13", CPU, 0, noise_rate=0.2)
    with pytest.raises(OptionError, match="seen"):
        KnownRateVAE().audit(task)
    assert built[0].generative
    assert built[0].exponent == 1.0
