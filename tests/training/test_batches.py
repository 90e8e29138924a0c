import numpy as np
import pytest
import torch

from labelaudit.training.batches import (
    TrainingImages,
    epoch_batches,
    mirror,
    plan_batches,
    translate,
)


@pytest.mark.parametrize(
    ("labeled", "unlabeled", "size"),
    [(1000, 0, 200), (1001, 0, 200), (3, 0, 200), (100, 9900, 200), (1, 50, 20), (900, 100, 64),
     (999, 1, 64), (5, 1, 2), (50, 5000, 100), (5, 0, 2), (1, 0, 2)],
)  # fmt: skip
def test_every_image_is_drawn_in_an_epoch_and_batches_are_even(labeled, unlabeled, size):
    labels = np.full(labeled + unlabeled, -1)
    labels[np.random.default_rng(0).permutation(len(labels))[:labeled]] = 1
    plan = plan_batches(labeled, unlabeled, size)
    batches = list(epoch_batches(labels, plan, seed=0, epoch=1))
    assert len(batches) == plan.steps
    drawn = np.concatenate(batches)
    counts = np.bincount(drawn, minlength=len(labels))
    assert counts.min() >= 1
    assert counts[labels < 0].max(initial=1) == 1
    assert counts[labels >= 0].mean() == pytest.approx(plan.draws_per_label)
    assert np.ptp(counts[labels >= 0]) <= 1
    sizes = [len(b) for b in batches]
    assert max(sizes) - min(sizes) <= 2
    assert max(sizes) <= max(size + 1, 4)
    assert min(sizes) > 1 or len(labels) == 1  # batch norm needs two


def test_few_labels_still_fill_a_twentieth_of_each_batch():
    labels = np.full(10_000, -1)
    labels[:100] = 0
    plan = plan_batches(100, 9_900, 200)
    assert plan.draws_per_label == pytest.approx(5.3, abs=0.1)
    for rows in epoch_batches(labels, plan, seed=3, epoch=2):
        assert (labels[rows] >= 0).sum() == 10


def test_order_depends_on_seed_and_epoch_and_nothing_else():
    labels = np.zeros(50, dtype=np.int64)
    plan = plan_batches(50, 0, 8)

    def draw(seed, epoch):
        return np.concatenate(list(epoch_batches(labels, plan, seed=seed, epoch=epoch)))

    np.testing.assert_array_equal(draw(1, 2), draw(1, 2))
    assert not np.array_equal(draw(1, 2), draw(1, 3))
    assert not np.array_equal(draw(1, 2), draw(2, 2))


def test_mirror_turns_about_half_of_the_images_and_nothing_else():
    torch.manual_seed(0)
    images = torch.rand(200, 3, 4, 5)
    seen = mirror(images)
    turned = (seen == images.flip(3)).flatten(1).all(1)
    kept = (seen == images).flatten(1).all(1)
    assert (turned ^ kept).all()
    assert 60 < turned.sum() < 140


def test_training_batches_are_mirrored_and_what_is_judged_is_not():
    pixels = np.zeros((50, 1, 2, 2), np.uint8)
    pixels[:, :, :, 0] = 255
    images = TrainingImages(pixels, np.zeros(50, np.int64), torch.device("cpu"), flip=True)
    rows = np.arange(50)
    left = images.batch(rows).images[:, 0, 0, 0]
    assert 0 < left.sum() < 50
    assert images.images(rows)[:, 0, 0, 0].sum() == 50


def test_translate_moves_each_image_by_whole_pixels():
    torch.manual_seed(0)
    images = torch.arange(2 * 3 * 6 * 7, dtype=torch.float32).view(1, 6, 6, 7)[:, :2]
    images = images.expand(64, -1, -1, -1)
    moved = translate(images, 2)
    assert moved.shape == images.shape
    centers = {tuple(m[:, 3, 3].tolist()) for m in moved}
    allowed = {tuple(images[0, :, r, c].tolist()) for r in range(1, 6) for c in range(1, 6)}
    assert centers <= allowed
    assert len(centers) > 10  # images move apart from each other
    for image in moved:  # neighbors stay neighbors
        right = image[0, 3, 3:5]
        assert right[1] - right[0] in (0, 1)


def test_images_are_scaled_and_batches_carry_labels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 1, 4, 4)).astype(np.uint8)
    labels = np.array([0, 1, -1] * 3 + [1])
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    for store in (pixels, mapped):
        images = TrainingImages(store, labels, torch.device("cpu"))
        rows = np.array([3, 9, 2])
        batch = images.batch(rows)
        np.testing.assert_allclose(batch.images.numpy(), pixels[rows] / 255.0, rtol=1e-6)
        assert batch.noisy_labels.tolist() == [0, 1, -1]
        assert batch.indices.tolist() == [3, 9, 2]
    assert images.image_shape == (1, 4, 4)
    assert len(images) == 10


def test_features_are_handed_out_as_they_are():
    features = np.random.default_rng(0).normal(0, 300, (10, 5)).astype(np.float32)
    features.flags.writeable = False
    images = TrainingImages(features[:, :, None, None], np.zeros(10, int), torch.device("cpu"))
    rows = np.array([3, 9, 3])
    batch = images.batch(rows)
    np.testing.assert_array_equal(batch.images[:, :, 0, 0].numpy(), features[rows])
    batch.images.zero_()  # a copy
    np.testing.assert_array_equal(images.images(rows)[:, :, 0, 0].numpy(), features[rows])
    assert images.image_shape == (5, 1, 1)


def test_a_batch_says_which_of_its_labels_are_verified():
    pixels = np.zeros((6, 1, 2, 2), np.uint8)
    labels = np.array([0, 1, -1, 0, 1, -1])
    mask = np.array([True, False, False, False, True, False])
    images = TrainingImages(pixels, labels, torch.device("cpu"), verified=mask)
    batch = images.batch(np.array([4, 3, 0, 2, 5]))
    assert batch.verified.tolist() == [True, False, True]
    assert TrainingImages(pixels, labels, torch.device("cpu")).batch(np.array([0])).verified is None
