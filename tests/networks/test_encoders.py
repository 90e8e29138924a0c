import math
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch

from labelaudit.errors import OptionError
from labelaudit.networks import mlp
from labelaudit.networks.encoders import (
    ENCODER_NAMES,
    ENCODERS,
    EncoderName,
    choose_encoder,
    reconstructed_size,
    training_shift,
)
from labelaudit.networks.layers import QuickDropout
from labelaudit.networks.standardize import PixelStatistics, Standardize
from labelaudit.training.device import seeded


def test_statistics_of_pixels_and_of_features_standardize_them():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (500, 3, 4, 4)).astype(np.uint8)
    features = (rng.normal(size=(500, 6)) * 10.0 ** np.arange(-3, 3) + 5).astype(np.float32)
    for values, images in (
        (pixels, torch.from_numpy(pixels).float() / 255),
        (features[:, :, None, None], torch.from_numpy(features[:, :, None, None])),
    ):
        seen = Standardize(PixelStatistics.of(values))(images)
        torch.testing.assert_close(
            seen.mean((0, 2, 3)), torch.zeros(seen.shape[1]), atol=1e-2, rtol=0
        )
        torch.testing.assert_close(
            seen.std((0, 2, 3)), torch.ones(seen.shape[1]), atol=1e-2, rtol=0
        )


@pytest.mark.parametrize("value", [0.0, 0.1, -3e4])
def test_a_constant_feature_stays_finite(value):
    features = np.full((300, 1, 1, 1), value, np.float32)
    statistics = PixelStatistics.of(features)
    assert statistics.std == (1.0,)
    assert PixelStatistics.of(np.full((9, 1, 2, 2), 7, np.uint8)).std == (1 / 255,)


def test_features_are_encoded_decoded_and_dropped_while_training(monkeypatch):
    monkeypatch.setattr(mlp, "FEATURE_DROPOUT", 0.5)
    torch.manual_seed(0)
    statistics = PixelStatistics((0.0,) * 20, (1.0,) * 20)
    encoder = ENCODERS["features"].build((20, 1, 1), statistics, "")
    features = torch.randn(8, 20, 1, 1)
    mean, logvar = encoder(features)
    assert mean.shape == logvar.shape == (8, 64)
    assert not torch.equal(mean, encoder(features)[0])
    encoder.eval()
    torch.testing.assert_close(encoder(features)[0], encoder(features)[0], rtol=0, atol=0)
    decoder = ENCODERS["features"].build_decoder((20, 1, 1))
    assert decoder(mean).shape == (8, 20, 1, 1)
    torch.testing.assert_close(decoder.target(features), features)


def test_features_are_nothing_to_ask_for_and_nothing_to_shift():
    assert "features" not in ENCODER_NAMES
    assert training_shift("features", (100, 1, 1), few_labels=False) == 0
    assert reconstructed_size("features", (100, 1, 1)) == 100
    for name in ENCODER_NAMES:
        shape = (3, 32, 32)
        assert reconstructed_size(name, shape) == math.prod(
            ENCODERS[name].build_decoder(shape).target_shape
        )


def test_the_names_are_the_rows_of_the_table():
    assert get_args(EncoderName) == tuple(ENCODERS)
    assert {name for name, spec in ENCODERS.items() if spec.reads_features} == {"features"}


def test_the_table_is_read_without_torch():
    code = "import sys, labelaudit.networks.encoders; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("shape", "device", "chosen", "read"),
    [
        ((1, 28, 28), "cuda", "mlp", (1, 28, 28)),
        ((3, 15, 90), "cpu", "mlp", (3, 11, 64)),
        ((3, 32, 32), "cpu", "resnet18", (3, 32, 32)),
        ((3, 48, 24), "mps", "conv13", (3, 32, 32)),
        ((3, 48, 23), "cuda", "resnet18", (3, 48, 23)),
        ((1, 500, 250), "cuda", "resnet18", (1, 128, 64)),
    ],
)
def test_auto_chooses_by_size_color_and_device(shape, device, chosen, read):
    choice = choose_encoder("auto", shape, 1000, device)
    assert (choice.name, choice.image_shape) == (chosen, read)
    assert choice.reason.startswith(f"1,000 {shape[2]}x{shape[1]} ")
    assert choose_encoder(chosen, shape, 1000, device).image_shape == read


@pytest.mark.parametrize("name", ENCODER_NAMES)
def test_images_that_are_too_small_are_refused(name):
    smallest = ENCODERS[name].smallest
    assert choose_encoder(name, (3, smallest, 40), 9, "cpu").name == name
    if smallest > 1:
        with pytest.raises(OptionError, match=f"too small for the encoder {name}.*{smallest} pix"):
            choose_encoder(name, (3, 40, smallest - 1), 9, "cpu")


@pytest.mark.parametrize("shape", [(200, 333, 1, 1), (3, 5)])
def test_quick_dropout_drops_as_dropout_does(shape):
    values = torch.ones(shape)
    layer = QuickDropout(0.25)
    with seeded(torch.device("cpu"), 0, 0):
        dropped = layer(values)
    with seeded(torch.device("cpu"), 0, 0):
        assert torch.equal(dropped, layer(values))
    assert ((dropped == 0) | ((dropped - 4 / 3).abs() < 1e-6)).all()
    if values.numel() > 1000:
        assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.005)
    assert torch.equal(layer.eval()(values), values)


def test_a_size_that_was_asked_for_is_the_one_that_is_read():
    def read(name, shape):
        return choose_encoder(name, shape, 1000, "cpu", fixed_size=True).image_shape

    assert read("resnet18", (3, 256, 200)) == (3, 256, 200)
    assert read("mlp", (1, 128, 128)) == (1, 128, 128)
    assert read("conv13", (3, 32, 32)) == (3, 32, 32)
    with pytest.raises(OptionError, match="conv13 reads 32x32 pixels; leave out `image_size`"):
        read("conv13", (3, 24, 24))
    for device in ("cpu", "cuda"):
        choice = choose_encoder("auto", (3, 48, 48), 1000, device, fixed_size=True)
        assert choice.image_shape == (3, 48, 48)
