import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import distributions as D
from torch.nn import functional as F

from labelaudit.networks.conv13 import Conv13Encoder
from labelaudit.networks.layers import relu
from labelaudit.networks.standardize import PixelStatistics
from labelaudit.networks.umn import (
    Classifier,
    ConditionalMLP,
    NetworkConfig,
    UMNNetwork,
    bounded,
    choose_likelihood,
    classes_to_sum,
    gaussian_entropy,
    gaussian_log_prob,
    kl_to_standard_normal,
    rsample,
)

CLASSES = 3


def network(likelihood="bernoulli", encoder="mlp", shape=(1, 4, 4)) -> UMNNetwork:
    torch.manual_seed(0)
    statistics = PixelStatistics((0.4,) * shape[0], (0.25,) * shape[0])
    return UMNNetwork(NetworkConfig(encoder, shape, CLASSES, likelihood, statistics))


@pytest.mark.parametrize("shape", [(5,), (5, 2, 2)])
def test_logits_are_full_precision_whatever_the_encoder_gives(shape):
    """On a GPU encoders give bfloat16, and rivals' classifiers are handed that as it is."""
    torch.manual_seed(0)
    classifier = Classifier(shape, 3, 8)
    za = torch.rand(2, *shape).bfloat16()
    torch.testing.assert_close(classifier(za), classifier(za.float()), rtol=0, atol=0)
    assert classifier(za).dtype == torch.float32


def test_some_classes_stand_for_all_in_value_and_gradient():
    torch.manual_seed(0)
    logits = (2 * torch.randn(2, 12)).requires_grad_()
    terms = torch.randn(2, 12, dtype=torch.float64).float()
    exact = (logits.softmax(1) * terms).sum()
    (exact_gradient,) = torch.autograd.grad(exact, logits)

    draws = 20_000
    probs = logits.softmax(1).repeat(draws, 1)
    classes, weights = classes_to_sum(probs, 4)
    assert classes.shape == weights.shape == (2 * draws, 4)
    assert (classes.sort(1).values.diff(dim=1) > 0).all()  # no class twice
    torch.testing.assert_close(weights.sum(1), torch.ones(2 * draws))
    estimate = (weights * terms.repeat(draws, 1).gather(1, classes)).sum() / draws
    (gradient,) = torch.autograd.grad(estimate, logits)
    assert estimate.item() == pytest.approx(exact.item(), abs=0.02)
    torch.testing.assert_close(gradient, exact_gradient, atol=0.02, rtol=0)

    classes, weights = classes_to_sum(probs, 12)
    assert classes is None
    assert weights is probs
    certain = torch.eye(12)[:2].requires_grad_()
    _, weights = classes_to_sum(certain, 4)
    torch.testing.assert_close(weights.sum(1), torch.ones(2))


def test_a_bound_of_many_classes_costs_as_much_as_one_of_ten():
    statistics = PixelStatistics((0.4,), (0.25,))
    for encoder, shape in (("mlp", (1, 4, 4)), ("conv13", (1, 24, 24))):
        torch.manual_seed(0)
        umn = UMNNetwork(NetworkConfig(encoder, shape, 300, "bernoulli", statistics))
        seen: list[torch.Size] = []

        def look(_module, inputs, _output, seen=seen) -> None:
            seen.append(inputs[0].shape)

        umn.conditional.decode_zb.register_forward_hook(look)
        logits, terms = umn(torch.rand(3, *shape))
        assert logits.shape == (3, 300)
        assert seen[0][:2] == (3, 10)
        assert terms.elbo.isfinite().all()
        terms.elbo.sum().backward()


def test_gaussian_terms_equal_torch_distributions():
    torch.manual_seed(0)
    value, mean, logvar = torch.randn(3, 7, 5)
    normal = D.Normal(mean, (0.5 * logvar).exp())
    torch.testing.assert_close(gaussian_log_prob(value, mean, logvar), normal.log_prob(value))
    torch.testing.assert_close(gaussian_entropy(logvar), normal.entropy())
    torch.testing.assert_close(
        kl_to_standard_normal(mean, logvar), D.kl_divergence(normal, D.Normal(0.0, 1.0))
    )


def test_rsample_has_the_moments_and_carries_gradients():
    torch.manual_seed(0)
    mean = torch.full((200_000,), 1.5, requires_grad=True)
    logvar = torch.full((200_000,), math.log(0.49), requires_grad=True)
    sample = rsample(mean, logvar)
    assert sample.mean().item() == pytest.approx(1.5, abs=0.01)
    assert sample.std().item() == pytest.approx(0.7, abs=0.01)
    sample.sum().backward()
    assert mean.grad is not None
    assert logvar.grad is not None


def test_bounded_keeps_small_log_variances_and_bounds_large_ones():
    values = torch.tensor([-100.0, -0.1, 0.0, 0.1, 100.0])
    inside = bounded(values)
    torch.testing.assert_close(inside[1:4], values[1:4], atol=1e-4, rtol=0)
    assert inside.abs().max() <= 8.0


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_log_likelihood_equals_torch_distributions(likelihood):
    net = network(likelihood).eval()
    images, za = torch.rand(6, 1, 4, 4), torch.randn(6, 50)
    with torch.no_grad():
        parameters = net.decoder(za)
        ours = net.log_likelihood(images, za)
        if likelihood == "bernoulli":
            # torch's Bernoulli takes values between 0 and 1 when asked not to check.
            theirs = D.Bernoulli(logits=parameters, validate_args=False).log_prob(images)
        else:
            theirs = D.Normal(parameters, 1.0).log_prob((images - 0.4) / 0.25)
    torch.testing.assert_close(ours, theirs.flatten(1).sum(1), rtol=1e-4, atol=1e-4)


def test_elbo_terms_equal_torch_distributions_for_the_same_draws():
    net = network().eval()
    images = torch.rand(5, 1, 4, 4)
    with torch.no_grad():
        torch.manual_seed(3)
        logits, terms = net(images)

        torch.manual_seed(3)
        mean, logvar = net.encoder(images)
        qza = D.Independent(D.Normal(mean, (0.5 * bounded(logvar)).exp()), 1)
        za = mean + torch.randn_like(mean) * (0.5 * bounded(logvar)).exp()
        qy = D.Categorical(logits=net.classifier(za))
        zb_mean, zb_logvar = net.conditional.encode(za)
        qzb = D.Independent(D.Normal(zb_mean, (0.5 * zb_logvar).exp()), 1)
        zb = zb_mean + torch.randn_like(zb_mean) * (0.5 * zb_logvar).exp()
        pza_mean, pza_logvar = net.conditional.decode(zb)
        pza = D.Independent(D.Normal(pza_mean, (0.5 * pza_logvar).exp()), 1)
        prior = D.Independent(D.Normal(torch.zeros_like(zb_mean), 1.0), 1)
        uniform = D.Categorical(logits=torch.zeros(5, CLASSES))

    torch.testing.assert_close(logits, net.classifier(za))
    torch.testing.assert_close(terms.za_entropy, qza.entropy())
    torch.testing.assert_close(
        terms.log_pza, (qy.probs * pza.log_prob(za[:, None].expand(-1, CLASSES, -1))).sum(1)
    )
    torch.testing.assert_close(terms.zb_kl, (qy.probs * D.kl_divergence(qzb, prior)).sum(1))
    torch.testing.assert_close(terms.y_kl, D.kl_divergence(qy, uniform))
    torch.testing.assert_close(
        terms.elbo,
        terms.log_px + terms.za_entropy + terms.log_pza - terms.zb_kl - terms.y_kl,
    )


def test_the_elbo_lies_below_the_evidence():
    """Importance sampling of log p(x) from the same model, its bound above the ELBO by Jensen."""
    net = network().eval()
    image = torch.rand(1, 1, 4, 4)
    draws = 4000
    with torch.no_grad():
        images = image.expand(draws, -1, -1, -1)
        _, terms = net(images)
        mean, logvar = net.encoder(images)
        logvar = bounded(logvar)
        za = rsample(mean, logvar)
        log_w = net.log_likelihood(images, za) - gaussian_log_prob(za, mean, logvar).sum(1)
        # p(z_a) = Σ_y 1/C ∫ p(z_b) p(z_a|z_b,y), one importance-weighted z_b a class.
        zb_mean, zb_logvar = net.conditional.encode(za)
        zb = rsample(zb_mean, zb_logvar)
        pza_mean, pza_logvar = net.conditional.decode(zb)
        log_joint = (
            gaussian_log_prob(za[:, None], pza_mean, pza_logvar).sum(2)
            + gaussian_log_prob(zb, torch.zeros_like(zb), torch.zeros_like(zb)).sum(2)
            - gaussian_log_prob(zb, zb_mean, zb_logvar).sum(2)
        )
        log_w = log_w + torch.logsumexp(log_joint, 1) - math.log(CLASSES)
        evidence = torch.logsumexp(log_w, 0) - math.log(draws)
    assert terms.elbo.mean() < evidence


def test_entropy_in_closed_form_is_the_mean_of_minus_log_q():
    torch.manual_seed(0)
    mean, logvar = torch.randn(2, 1, 4)
    za = rsample(mean.expand(100_000, -1), logvar.expand(100_000, -1))
    monte_carlo = -gaussian_log_prob(za, mean, logvar).sum(1).mean()
    assert monte_carlo.item() == pytest.approx(gaussian_entropy(logvar).sum().item(), abs=0.02)


def test_the_compilers_relu_is_torchs_with_its_gradient(monkeypatch):
    values = torch.tensor([-2.0, -0.0, 0.0, 1e-30, 3.0], requires_grad=True)
    scale = torch.arange(1.0, 6.0)
    plain = relu(values)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    compiled = relu(values)
    for ours, theirs in zip(
        torch.autograd.grad((scale * compiled).sum(), values),
        torch.autograd.grad((scale * plain).sum(), values),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    assert torch.equal(compiled, plain)
    assert compiled.grad_fn.name() != plain.grad_fn.name()


def test_conditional_mlp_equals_an_mlp_on_the_concatenation():
    torch.manual_seed(0)
    net = ConditionalMLP(za_size=6, num_classes=CLASSES, zb_size=4, hidden=9)
    za = torch.randn(5, 6)
    weight = torch.cat([net.encode_za.weight, net.encode_y.weight.T], dim=1)  # over [z_a, one-hot]
    mean, _ = net.encode(za)
    for cls in range(CLASSES):
        joined = torch.cat([za, F.one_hot(torch.full((5,), cls), CLASSES).float()], dim=1)
        hidden = F.relu(F.linear(joined, weight, net.encode_za.bias))
        torch.testing.assert_close(mean[:, cls], net.encode_out(hidden)[:, :4])


@pytest.mark.parametrize(
    ("encoder", "shape", "za_shape"),
    [
        ("mlp", (1, 8, 8), (50,)),
        ("mlp", (3, 5, 9), (50,)),
        ("conv13", (3, 32, 32), (128, 6, 6)),
        ("conv13", (1, 32, 32), (128, 6, 6)),
        ("resnet18", (3, 32, 32), (128,)),
        ("resnet18", (1, 70, 90), (128,)),
        ("resnet50", (3, 33, 65), (128,)),
        ("features", (7, 1, 1), (64,)),
    ],
)
def test_every_encoder_gives_finite_terms_and_gradients(encoder, shape, za_shape):
    net = network("gaussian", encoder, shape).train()
    images = torch.rand(4, *shape)
    logits, terms = net(images)
    assert net.encoder.za_shape == za_shape
    assert logits.shape == (4, CLASSES)
    assert terms.elbo.shape == (4,)
    (-terms.elbo.sum() + logits.sum()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_conv13_has_the_layers_of_table_4():
    net = network("gaussian", "conv13", (3, 32, 32))
    kinds = [m for m in net.encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    widths = [m.out_channels for m in kinds]
    assert widths == [128] * 6 + [512, 256, 128, 128]  # the last is z_a's log-variance
    assert [m.kernel_size[0] for m in kinds] == [3] * 7 + [1, 1, 1]
    assert net.decoder.target_shape == (3, 32, 32)
    slim = Conv13Encoder((3, 32, 48), PixelStatistics((0.5,) * 3, (0.5,) * 3), width=8)
    assert slim.za_shape == (8, 6, 10)
    assert slim(torch.rand(2, 3, 32, 48))[0].shape == (2, 8, 6, 10)


def test_more_training_steps_raise_the_elbo():
    net = network()
    images = torch.rand(64, 1, 4, 4).round()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    bounds = []
    for _ in range(60):
        _, terms = net(images)
        optimizer.zero_grad()
        (-terms.elbo.mean()).backward()
        optimizer.step()
        bounds.append(terms.elbo.mean().item())
    means = [np.mean(part) for part in np.array_split(bounds, 4)]
    assert all(later > earlier for earlier, later in pairwise(means))


def test_likelihood_follows_the_pixels():
    rng = np.random.default_rng(0)
    strokes = np.where(rng.random((20, 1, 8, 8)) < 0.8, 0, 255).astype(np.uint8)
    photo = rng.integers(60, 200, (20, 1, 8, 8)).astype(np.uint8)
    assert choose_likelihood(strokes) == "bernoulli"
    assert choose_likelihood(photo) == "gaussian"
    assert choose_likelihood(np.repeat(strokes, 3, axis=1)) == "gaussian"
    assert choose_likelihood(np.zeros((9, 1, 1, 1), np.float32)) == "gaussian"


def test_without_its_generative_half_the_network_classifies_the_same():
    whole = network("gaussian", "features", (7, 1, 1))
    torch.manual_seed(0)
    half = UMNNetwork(whole.config, generative=False)
    assert {name.split(".")[0] for name, _ in half.named_parameters()} == {"encoder", "classifier"}
    half.load_state_dict(whole.state_dict(), strict=False)
    images = torch.randn(6, 7, 1, 1)
    torch.manual_seed(3)
    logits, _ = whole(images)
    torch.manual_seed(3)
    torch.testing.assert_close(half(images)[0], logits)
