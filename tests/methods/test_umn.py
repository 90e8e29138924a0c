import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from labelaudit.methods.umn import UMN, box_cox, clamp_epsilon, label_factor, label_uncertainty
from labelaudit.methods.umn_config import (
    UMNConfig,
    affordable_epochs,
    balancing_weights,
    default_batch_size,
    default_entropy_weight,
    default_epochs,
    default_label_weight,
)
from labelaudit.networks.encoders import EncoderName
from labelaudit.networks.standardize import PixelStatistics
from labelaudit.networks.umn import NetworkConfig
from labelaudit.training.batches import plan_batches
from labelaudit.training.guider import noisy_eval
from labelaudit.training.method import Batch

CPU = torch.device("cpu")
WEIGHTS = (0.5, 1.0, 2.0)


def make_umn(**settings) -> UMN:
    torch.manual_seed(0)
    network = NetworkConfig("mlp", (1, 4, 4), 3, "bernoulli", PixelStatistics((0.5,), (0.5,)))
    return UMN(UMNConfig(network, 5.0, WEIGHTS, **settings), CPU)


def make_batch(labels=(0, 1, 2, 0, -1, -1)) -> Batch:
    torch.manual_seed(1)
    rows = torch.arange(len(labels))
    num_labeled = sum(label >= 0 for label in labels)
    return Batch(torch.rand(len(labels), 1, 4, 4), torch.tensor(labels), rows, num_labeled)


def test_label_uncertainty_is_the_distance_at_the_given_label():
    learner = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    guider = torch.tensor([[0.5, 0.3, 0.2], [0.3, 0.3, 0.4]])
    epsilon = label_uncertainty(learner, guider, torch.tensor([0, 2]))
    torch.testing.assert_close(epsilon, torch.tensor([0.2, 0.4]))


@pytest.mark.parametrize(("epsilon", "classes"), [(0.1, 10), (0.3, 2), (0.001, 100)])
def test_label_factor_is_eq_7(epsilon, classes):
    expected = math.log((classes - 1) * (1 - epsilon) / epsilon)
    assert label_factor(torch.tensor(epsilon), classes).item() == pytest.approx(expected, rel=1e-5)


def test_the_exponent_leads_from_cross_entropy_to_the_linear_term():
    probs = torch.tensor([1e-30, 0.01, 0.5, 1.0])
    torch.testing.assert_close(box_cox(probs.log(), 0.0), probs.log())
    torch.testing.assert_close(box_cox(probs.log(), 1.0), probs - 1)
    torch.testing.assert_close(box_cox(probs.log(), 0.7), (probs**0.7 - 1) / 0.7)


def test_a_smaller_exponent_pulls_more_where_a_label_is_improbable():
    pulls = []
    for exponent in (1.0, 0.7, 0.0):
        logits = torch.tensor([[-4.0, 0.0, 0.0]], requires_grad=True)
        box_cox(logits.log_softmax(1)[0, 0], exponent).backward()
        pulls.append(logits.grad[0, 0].item())
    assert pulls[0] < pulls[1] / 2 < pulls[2] / 4


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_clamped_epsilon_keeps_the_factor_finite_and_positive(classes):
    epsilon = clamp_epsilon(torch.linspace(0, 1, 101), classes, 0.0005 if classes > 99 else 0.001)
    factor = label_factor(epsilon, classes)
    assert factor.isfinite().all()
    assert (factor > 0).all()


def test_the_labeled_loss_is_linear_in_the_probability_with_epsilon_held_constant():
    """One step's gradient equals that of the loss written out by hand, ε a plain number."""
    umn, batch = make_umn(), make_batch()
    reference = copy.deepcopy(umn)
    torch.manual_seed(5)
    umn.step(batch)

    torch.manual_seed(5)
    reference.network.train()
    logits, terms = reference.network(batch.images)
    labeled = batch.noisy_labels >= 0
    given = batch.noisy_labels[labeled]
    probs = logits.softmax(1)[labeled]
    with torch.no_grad():
        guider_probs, _ = reference.guider(batch.images[labeled], sample=True)
    epsilon = [
        min(max(abs(g[y].item() - p[y].item()), 0.001), 1 - 1 / 3 - 0.001)
        for g, p, y in zip(guider_probs, probs, given, strict=True)
    ]
    weighted = sum(
        WEIGHTS[y] * math.log(2 * (1 - e) / e) * p[y]
        for e, p, y in zip(epsilon, probs, given, strict=True)
    )
    loss = (-terms.elbo.sum() - 5.0 * weighted) / len(batch.images)
    loss.backward()
    for (name, ours), theirs in zip(
        umn.network.named_parameters(), reference.network.parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_epsilon_of_verified_labels_is_its_floor(monkeypatch):
    umn = make_umn(generative=False)
    batch = make_batch(labels=(0, 1, 2, 0))
    estimated = torch.tensor([0.1, 0.2, 0.3, 0.4])
    monkeypatch.setattr(umn, "estimate_epsilon", lambda *_: estimated)
    logits = torch.randn(4, 3)
    monkeypatch.setattr(umn, "shared", lambda *_: (logits, None))
    verified = torch.tensor([False, True, False, True])

    epsilon = [0.1, 0.001, 0.3, 0.001]
    probs = logits.softmax(1)
    pulls = [
        math.log(2 * (1 - one) / one) * WEIGHTS[label] * probs[row, label].item()
        for row, (one, label) in enumerate(zip(epsilon, (0, 1, 2, 0), strict=True))
    ]
    loss, _ = umn.loss(batch.images, batch.noisy_labels, 4, verified)
    assert loss.item() == pytest.approx(-5.0 * sum(pulls) / 4, rel=1e-5)
    nothing, _ = umn.loss(batch.images, batch.noisy_labels, 4, torch.zeros(4, dtype=torch.bool))
    assert nothing.item() == umn.loss(batch.images, batch.noisy_labels, 4)[0].item() > loss.item()


def test_the_guider_is_the_moving_average_of_encoder_and_classifier():
    umn, batch = make_umn(ema_decay=0.9), make_batch()
    umn.step(batch)  # the first update copies the learner
    averaged = {k: v.clone() for k, v in umn.learner.state_dict().items()}
    for _ in range(5):
        umn.step(batch)
        for name, value in umn.learner.state_dict().items():
            averaged[name] = 0.9 * averaged[name] + 0.1 * value
    guider = umn.guider.module.state_dict()
    assert guider.keys() == averaged.keys()
    assert not any(name.startswith(("decoder", "conditional")) for name in guider)
    for name, value in averaged.items():
        torch.testing.assert_close(guider[name], value, rtol=1e-5, atol=1e-6)


def test_few_labeled_images_stand_for_the_others_in_the_bound():
    umn = make_umn(explained_share=0.25, min_explained=1)
    rows = torch.arange(10)
    explained = [rows[part] for part in umn.explained(10, 7)]
    # Two of seven labeled images, all three unlabeled ones.
    assert torch.cat(explained).tolist() == [0, 1, 7, 8, 9]
    torch.testing.assert_close(
        umn.explained_weights(10, 7), torch.tensor([3.5, 3.5, 1.0, 1.0, 1.0])
    )
    assert [rows[:7][part].tolist() for part in umn.explained(7, 7)] == [[0, 1]]
    told = umn.step(make_batch())
    assert told["elbo"].isfinite()
    for method, size, labeled in ((make_umn(), 10, 7), (umn, 3, 0), (umn, 3, 1)):
        assert [rows[:size][part].tolist() for part in method.explained(size, labeled)] == [
            list(range(size))
        ]
        assert method.explained_weights(size, labeled).tolist() == [1.0] * size


BATCHES = ((0, 1, 2, 0, -1, -1), (0, 1, 2, 0, 1, -1), (0, 1, 2, 0, 1, 2))


def test_no_fewer_images_stand_for_a_batch_than_tell_something():
    umn = make_umn(explained_share=0.1)
    assert [umn.num_explained(labeled) for labeled in (0, 4, 50, 200)] == [0, 4, 10, 20]


def steps(umn: UMN) -> list[float]:
    """Give the losses of a step on each of `BATCHES`, which differ in how much is labeled."""
    losses = []
    for number, labels in enumerate(BATCHES):
        torch.manual_seed(number)
        losses.append(umn.step(make_batch(labels))["loss"].item())
    return losses


@pytest.mark.parametrize(("generative", "exponent"), [(True, 1.0), (False, 0.7)])
def test_the_loss_compiles_in_one_piece_to_the_same(generative, exponent):
    """In one piece: so nothing in it waits for a value from the device either."""
    settings = {
        "explained_share": 0.4,
        "min_explained": 1,
        "generative": generative,
        "entropy_weight": 0.1,
        "exponent": exponent,
    }
    torch.compiler.reset()  # only so many ways to compile a function are kept in a process
    plain, compiled = make_umn(**settings), make_umn(**settings)
    compiled.compile(backend="eager")
    assert steps(compiled) == steps(plain)
    verified = [
        umn.step(replace(make_batch(), verified=torch.arange(4) > 1))["loss"].item()
        for umn in (compiled, plain)
    ]
    assert verified[0] == verified[1]
    assert compiled.compiled is not None
    assert compiled.compiled.failure is None


def test_a_loss_that_cannot_be_compiled_is_worked_out_as_it_is():
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler here")

    torch.compiler.reset()
    plain, compiled = make_umn(), make_umn()
    compiled.compile(backend=broken)
    with pytest.warns(UserWarning, match="continues uncompiled: .*no compiler here"):
        assert steps(compiled) == steps(plain)
    assert compiled.compiled is not None
    assert "no compiler here" in compiled.compiled.failure


def test_batches_without_labels_train_on_the_elbo_alone():
    umn = make_umn()
    before = copy.deepcopy(umn.network.state_dict())
    told = umn.step(make_batch(labels=(-1, -1, -1)))
    assert math.isfinite(told["loss"].item())
    assert told["loss"].item() == pytest.approx(-told["elbo"].item(), rel=1e-5)
    assert any(not torch.equal(before[k], v) for k, v in umn.network.state_dict().items())


def test_predict_is_deterministic_and_leaves_no_gradient():
    umn, batch = make_umn(), make_batch()
    umn.step(batch)
    first, second = umn.predict(batch.images), umn.predict(batch.images)
    torch.testing.assert_close(first.guider_probs, second.guider_probs, rtol=0, atol=0)
    torch.testing.assert_close(first.learner_probs.sum(1), torch.ones(6))
    assert first.embedding.shape == (6, umn.embedding_size)
    assert not first.embedding.requires_grad


def test_predict_does_not_depend_on_who_shares_the_batch_after_batch_norm_has_trained():
    torch.manual_seed(0)
    network = NetworkConfig(
        "resnet18",
        (3, 16, 16),
        3,
        "gaussian",
        PixelStatistics.of(
            np.random.default_rng(0).integers(0, 255, (8, 3, 16, 16)).astype(np.uint8)
        ),
    )
    umn = UMN(UMNConfig(network, 5.0, WEIGHTS), CPU)
    images = torch.rand(6, 3, 16, 16)
    for _ in range(2):
        umn.step(Batch(images, torch.tensor([0, 1, 2, 0, 1, -1]), torch.arange(6), 5))
    together, alone = umn.predict(images), umn.predict(images[:1])
    torch.testing.assert_close(together.guider_probs[:1], alone.guider_probs, rtol=1e-4, atol=1e-5)


def test_state_dict_restores_the_next_step_exactly():
    umn, batch = make_umn(), make_batch()
    umn.step(batch)
    twin = make_umn()
    twin.load_state_dict(copy.deepcopy(umn.state_dict()))
    for method in (umn, twin):
        torch.manual_seed(9)
        method.step(batch)
    for ours, theirs in zip(umn.network.parameters(), twin.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    torch.testing.assert_close(
        umn.predict(batch.images).guider_probs,
        twin.predict(batch.images).guider_probs,
        rtol=0,
        atol=0,
    )


def test_a_state_from_a_device_that_lays_memory_out_otherwise_is_gone_on_with():
    """A GPU has filters' channels last, and Adam's moments with them."""
    network = NetworkConfig(
        "conv13", (3, 16, 16), 3, "gaussian", PixelStatistics((0.5,) * 3, (1.0,) * 3)
    )
    torch.manual_seed(0)
    batch = Batch(torch.rand(6, 3, 16, 16), torch.arange(6) % 3, torch.arange(6), 6)
    umn = UMN(UMNConfig(network, 5.0, WEIGHTS), CPU)
    umn.step(batch)
    saved = copy.deepcopy(umn.state_dict())
    elsewhere = copy.deepcopy(saved)
    for moments in elsewhere["optimizer"]["state"].values():
        for name, value in moments.items():
            if value.dim() == 4:
                moments[name] = value.contiguous(memory_format=torch.channels_last)
    after = []
    for state in (saved, elsewhere):
        umn.load_state_dict(state)
        torch.manual_seed(1)
        umn.step(batch)
        after.append([weight.detach().clone() for weight in umn.network.parameters()])
    for ours, theirs in zip(*after, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_portable_weights_load_with_weights_only(tmp_path):
    umn = make_umn()
    torch.save(umn.portable(("a", "b", "c")), tmp_path / "model.pt")
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert saved["class_names"] == ["a", "b", "c"]
    twin = make_umn()
    twin.network.load_state_dict(saved["network"])
    twin.learner.load_state_dict(saved["guider"])


def test_defaults_follow_the_data():
    assert default_label_weight(784, 1.0) == pytest.approx(78.4)
    assert default_label_weight(784, 5.3) == pytest.approx(78.4 / 5.3)
    assert default_batch_size(60_000, "cpu", "mlp") == 200
    assert default_batch_size(1_797, "cpu", "mlp") == 44
    assert default_batch_size(30, "cpu", "mlp") == 20
    assert default_epochs(1, 1.0, "mlp") == 100
    assert default_epochs(50, 1.0, "mlp") == 30
    assert default_epochs(53, 5.3, "mlp") == 57
    assert default_epochs(10_000, 1.0, "mlp") == 15
    assert default_batch_size(60_000, "cpu", "features") == 500
    assert default_epochs(100, 1.0, "features") == 10
    assert default_epochs(10, 1.0, "features") == 100
    assert affordable_epochs(25, 1_000_000, 2000) == 25
    assert affordable_epochs(42, 12_000, 3000) == 27
    assert affordable_epochs(25, 20_000, 10_000) == affordable_epochs(25, 10**6, 10_000) == 5


def make_feature_umn(generative: bool, entropy_weight: float = 0.0) -> UMN:
    features = np.random.default_rng(0).normal(size=(40, 6, 1, 1)).astype(np.float32)
    labels = np.arange(40) % 3
    config = UMNConfig.for_data(features, labels, 3, "features", plan_batches(40, 0, 10))
    assert config.min_epsilon == 0.01
    assert config.network.image_shape == (6, 1, 1)
    torch.manual_seed(0)
    return UMN(replace(config, generative=generative, entropy_weight=entropy_weight), CPU)


@pytest.mark.parametrize("entropy_weight", [0.0, 0.3])
def test_without_its_generative_half_only_labeled_terms_are_trained_on(tmp_path, entropy_weight):
    umn = make_feature_umn(generative=False, entropy_weight=entropy_weight)
    torch.manual_seed(1)
    features = torch.randn(6, 6, 1, 1)
    labels = torch.tensor([0, 1, 2, 0, -1, -1])
    reference = copy.deepcopy(umn)
    torch.manual_seed(5)
    told = umn.step(Batch(features, labels, torch.arange(6), 4))
    assert set(told) == {"loss"}

    torch.manual_seed(5)
    probs = reference.network.classify(reference.network.draw_za(features)[0]).softmax(1)
    labeled = labels >= 0
    probs, given = probs[labeled], labels[labeled]
    noisy_eval(reference.guider)
    epsilon = clamp_epsilon(
        reference.estimate_epsilon(features[labeled], given, probs.detach()), 3, 0.01
    )
    weights = torch.tensor(reference.config.class_weights)[given]
    pull = (weights * label_factor(epsilon, 3) * probs[range(4), given]).sum()
    entropy = torch.distributions.Categorical(probs=probs).entropy().sum()
    loss = -reference.config.label_weight * (pull + entropy_weight * entropy) / 6
    assert told["loss"].item() == pytest.approx(loss.item(), rel=1e-5)

    unlabeled = umn.step(Batch(features, torch.full((6,), -1), torch.arange(6), 0))
    assert unlabeled["loss"].item() == 0

    torch.save(umn.portable(("a", "b", "c")), tmp_path / "model.pt")
    twin = UMN.from_portable(torch.load(tmp_path / "model.pt", weights_only=True))
    assert not twin.config.generative
    torch.testing.assert_close(
        twin.predict(features).guider_probs, umn.predict(features).guider_probs
    )


def test_the_generative_half_is_left_out_where_it_does_not_earn_its_cost():
    def settings(classes: int, labeled: int, encoder: EncoderName = "mlp") -> UMNConfig:
        pixels = np.zeros((1000, 1, 8, 8), np.uint8)
        given = np.arange(labeled) % classes
        plan = plan_batches(labeled, 1000 - labeled, 20)
        return UMNConfig.for_data(pixels, given, classes, encoder, plan)

    assert settings(10, 200, "features").generative
    assert not settings(10, 1000, "features").generative

    for config in (settings(10, 1000), settings(20, 1000), settings(100, 200)):
        assert config.generative
        assert config.entropy_weight == 0
    config = settings(100, 250)
    assert not config.generative
    assert config.entropy_weight == pytest.approx(0.1 * math.log(100))
    assert default_entropy_weight(10) == pytest.approx(0.05)


def test_the_13_layer_network_learns_from_most_labels_alone_and_from_few_by_the_papers_loss():
    def settings(labeled: int) -> UMNConfig:
        pixels = np.zeros((100, 3, 32, 32), np.uint8)
        given = np.arange(labeled) % 10
        return UMNConfig.for_data(
            pixels, given, 10, "conv13", plan_batches(labeled, 100 - labeled, 20)
        )

    for labeled in (50, 100):
        assert (settings(labeled).generative, settings(labeled).exponent) == (False, 0.7)
    for labeled in (10, 27):  # the paper has up to 27% (Table 2)
        assert (settings(labeled).generative, settings(labeled).exponent) == (True, 1.0)


def test_entropy_keeps_the_probabilities_of_many_classes_away_from_zero():
    features = np.random.default_rng(0).normal(size=(200, 6, 1, 1)).astype(np.float32)
    labels = np.arange(200) % 50
    plan = plan_batches(200, 0, 50)
    config = UMNConfig.for_data(features, labels, 50, "features", plan)
    assert config.entropy_weight > 0
    smallest = []
    for weight in (0.0, config.entropy_weight):
        torch.manual_seed(0)
        umn = UMN(replace(config, entropy_weight=weight), CPU)
        for _ in range(60):
            umn.step(Batch(torch.tensor(features), torch.tensor(labels), torch.arange(200), 200))
        probs = umn.predict(torch.tensor(features)).learner_probs
        smallest.append(probs.gather(1, torch.tensor(labels)[:, None]).log().mean().item())
    assert smallest[1] > smallest[0] + 1


def test_features_may_train_the_generative_half_too():
    umn = make_feature_umn(generative=True)
    told = umn.step(Batch(torch.randn(6, 6, 1, 1), torch.arange(6) % 3, torch.arange(6), 6))
    assert math.isfinite(told["elbo"].item())


def test_balancing_weights_let_all_classes_pull_alike():
    given = np.array([0] * 900 + [1] * 90 + [2] * 10)
    weights = np.array(balancing_weights(given, 4))
    assert weights[:3] * [900, 90, 10] == pytest.approx([250, 250, 250])
    assert weights[3] == 100  # nobody is labeled so, and the most is bounded
    assert balancing_weights(np.repeat([0, 1], 50), 2) == (1.0, 1.0)
