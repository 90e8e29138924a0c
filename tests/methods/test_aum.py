import copy

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.methods import aum
from labelaudit.methods.aum import (
    AUMAudit,
    AUMConfig,
    MarginRecorder,
    flag_areas,
    margins,
    threshold_samples,
)
from labelaudit.methods.task import Task
from labelaudit.training.method import Batch

CPU = torch.device("cpu")


def digits_task(noisy_digits, **settings) -> Task:
    images, noisy, _ = noisy_digits
    return Task(images[:, None], noisy, 10, "mlp", CPU, 0, **settings)


def test_a_margin_is_the_logit_of_the_label_less_the_largest_other():
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 7.0]])
    labels = torch.tensor([0, 1, 0])  # of the last, class 2 is the fake one: it counts as another
    torch.testing.assert_close(margins(logits, labels), torch.tensor([1.0, -2.0, -4.0]))


@pytest.mark.parametrize(("samples", "classes", "size"), [(600, 10, 54), (7, 2, 2), (4, 10, 1)])
def test_each_run_has_threshold_samples_of_its_own(samples, classes, size):
    chosen = threshold_samples(samples, classes, seed=3)
    assert chosen.shape == (2, samples)
    assert chosen.sum(axis=1).tolist() == [size, size]
    assert not (chosen[0] & chosen[1]).any()
    np.testing.assert_array_equal(chosen, threshold_samples(samples, classes, seed=3))
    if samples > 4:
        assert (chosen != threshold_samples(samples, classes, seed=4)).any()


def test_samples_are_judged_where_they_kept_their_labels():
    #                  A: run 0's fake  B: run 1's fake
    areas = np.array([[9.0, 1.0, 5.0, -3.0, 2.0, 4.0], [-1.0, 3.0, 2.0, 0.5, 9.0, -9.0]])
    fake = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]], dtype=bool)
    # Thresholds at 50%: the median of (9, 1) is 5, that of (2, 0.5) is 1.25.
    result, flagged = flag_areas(areas, fake, 50)
    np.testing.assert_allclose(result, [-1.0, 3.0, 5.0, -3.0, 5.5, -2.5])
    # The fifth is below in run 0 alone; the third lies on its threshold, not below it.
    assert flagged.tolist() == [True, False, False, True, False, True]


def test_the_threshold_is_the_99th_percentile_of_the_threshold_samples():
    fake = np.zeros((2, 400), dtype=bool)
    fake[0, :101], fake[1, 101:202] = True, True
    areas = np.tile(np.linspace(50, 150, 400), (2, 1))
    areas[0, :101] = areas[1, 101:202] = np.arange(101)  # its 99th percentile is 99
    _, flagged = flag_areas(areas, fake, AUMConfig().percentile)
    np.testing.assert_array_equal(flagged, np.linspace(50, 150, 400) < 99)


def test_margins_are_taken_from_each_step_before_its_update():
    pixels = np.random.default_rng(0).integers(0, 255, (6, 1, 4, 4)).astype(np.uint8)
    labels = np.array([0, 1, 2, 3, 1, 0])  # 3 is the fake class of three
    task = Task(pixels, labels, 3, "mlp", CPU, 0)
    torch.manual_seed(0)
    recorder = MarginRecorder(task, AUMConfig())
    by_hand = np.zeros(6)
    for _ in range(2):  # epochs
        for rows in (torch.tensor([4, 0, 2]), torch.tensor([1, 5, 3])):
            images = torch.from_numpy(pixels)[rows].float() / 255
            with torch.no_grad():
                logits = copy.deepcopy(recorder.model)(images)
            assert logits.shape == (3, 4)
            for row, given in zip(rows.tolist(), logits.tolist(), strict=True):
                others = [z for k, z in enumerate(given) if k != labels[row]]
                by_hand[row] += (given[labels[row]] - max(others)) / 2
            recorder.step(Batch(images, torch.from_numpy(labels)[rows], rows, len(rows)))
    np.testing.assert_allclose(recorder.areas(), by_hand, rtol=1e-5)

    torch.manual_seed(1)
    twin = MarginRecorder(task, AUMConfig())
    twin.load_state_dict(copy.deepcopy(recorder.state_dict()))
    np.testing.assert_array_equal(twin.areas(), recorder.areas())


def test_every_label_counts_once_an_epoch_and_threshold_samples_are_of_the_fake_class(
    noisy_digits, monkeypatch
):
    runs = []

    class Spy(MarginRecorder):
        def __init__(self, task, config):
            super().__init__(task, config)
            runs.append((self, task.noisy_labels))

    monkeypatch.setattr(aum, "MarginRecorder", Spy)
    task = digits_task(noisy_digits, epochs=3)
    verdict = AUMAudit().audit(task)
    assert verdict.epochs == 3
    assert len(runs) == 2
    fake = np.stack([labels == 10 for _, labels in runs])
    assert fake.sum(axis=1).tolist() == [54, 54]
    assert not fake.all(axis=0).any()
    for method, labels in runs:
        assert (method.count == 3).all()
        own = labels != 10
        np.testing.assert_array_equal(labels[own], task.noisy_labels[own])
    areas = [method.areas() for method, _ in runs]
    by_hand = np.where(fake[0], areas[1], np.where(fake[1], areas[0], np.mean(areas, axis=0)))
    np.testing.assert_allclose(verdict.suspect_score, -by_hand)


@pytest.mark.parametrize("rate", [0.2, 0.4])
def test_it_finds_wrong_digits(rate, noisy_digits):
    images, _, clean = noisy_digits
    noisy = corrupt_symmetric(clean, rate, 10, seed=2)
    wrong = noisy != clean
    verdict = AUMAudit().audit(Task(images[:, None], noisy, 10, "mlp", CPU, 0))
    assert roc_auc_score(wrong, verdict.suspect_score) > 0.95
    assert verdict.flagged[wrong].mean() > 0.75
    assert verdict.flagged[~wrong].mean() < 0.1
    assert verdict.test_probs is None


def test_test_images_are_predicted_by_a_network_that_never_saw_what_is_flagged(noisy_digits):
    pixels, clean = noisy_digits[0][:, None], noisy_digits[2]
    told = []
    task = digits_task(
        noisy_digits,
        test_inputs=pixels[:50],
        watch=lambda epoch, predict: told.append((epoch, predict().shape)),
    )
    verdict = AUMAudit().audit(task)
    assert verdict.test_probs.shape == (50, 10)  # the real classes
    np.testing.assert_allclose(verdict.test_probs.sum(axis=1), 1, rtol=1e-5)
    assert (verdict.test_probs.argmax(axis=1) == clean[:50]).mean() > 0.95
    assert told == [(epoch, (50, 10)) for epoch in range(1, verdict.epochs + 1)]


def test_if_all_is_flagged_all_is_trained_on(noisy_digits, monkeypatch):
    everything = (np.zeros(600), np.ones(600, bool))
    monkeypatch.setattr(aum, "flag_areas", lambda *_: everything)
    task = digits_task(noisy_digits, epochs=1, test_inputs=noisy_digits[0][:5, None])
    assert AUMAudit().audit(task).test_probs.shape == (5, 10)


def test_unlabeled_images_are_left_out_and_the_seed_decides(noisy_digits):
    images, noisy, _ = noisy_digits
    few = np.where(np.arange(600) < 200, noisy, -1)
    with_others = AUMAudit().audit(Task(images[:, None], few, 10, "mlp", CPU, 7, epochs=2))
    alone = AUMAudit().audit(Task(images[:200, None], few[:200], 10, "mlp", CPU, 7, epochs=2))
    assert with_others.suspect_score.shape == (200,)
    np.testing.assert_array_equal(with_others.suspect_score, alone.suspect_score)
    np.testing.assert_array_equal(with_others.flagged, alone.flagged)
    other = AUMAudit().audit(Task(images[:200, None], few[:200], 10, "mlp", CPU, 8, epochs=2))
    assert (other.suspect_score != alone.suspect_score).any()
