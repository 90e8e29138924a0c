"""Which network reads the images, why, and what is said if there is none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

import labelaudit
from labelaudit.audit.reading import FEW_IMAGES, need_of, read_images, side_for
from labelaudit.errors import OptionError
from labelaudit.features import downloads, photo_networks
from labelaudit.features.embed import embed
from labelaudit.features.weights import DEFAULT_WEIGHTS
from labelaudit.images.plan import ImagePlan
from labelaudit.options import AuditOptions, check_audit_options
from labelaudit.progress import Reporter
from labelaudit.sources.arrays import source_from_arrays
from labelaudit.sources.manifest import Source

CPU = torch.device("cpu")
LITE0 = "timm:tf_efficientnet_lite0"


def plan(height: int, width: int, channels: int = 3) -> ImagePlan:
    return ImagePlan(channels, height, width, False, 1)


def pictures(side: int, count: int = 8, channels: int = 3) -> Source:
    """Random images, the last of which are bright."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 120, (count, side, side + 6, channels)).astype(np.uint8)
    images[count // 2 :] += 130
    labels = (np.arange(count) >= count // 2).astype(int)
    return source_from_arrays(images[..., 0] if channels == 1 else images, labels)


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """The weights on this machine, at first none; no package of weights, and no network."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network in tests")

    there: dict[str, Path] = {}
    monkeypatch.setattr(photo_networks, "cached_weights", there.get)
    monkeypatch.setattr(photo_networks, "packaged_file", lambda model: None)
    monkeypatch.setattr(downloads.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setenv("LABELAUDIT_CACHE", str(tmp_path / "cache"))
    return there


@pytest.fixture
def resnet18(at_hand: dict[str, Path], tmp_path: Path) -> Path:
    """ResNet-18's weights, random ones, where torchvision keeps what it has downloaded."""
    file = tmp_path / "hub" / "checkpoints"
    file.mkdir(parents=True)
    file /= models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    torch.manual_seed(0)
    torch.save(models.resnet18(weights=None).state_dict(), file)
    at_hand["resnet18"] = file
    return file


@pytest.mark.parametrize(
    ("found", "count", "device", "need"),
    [
        (plan(65, 300), 600, "cpu", "photos"),
        (plan(480, 640), 500_000, "cuda", "photos"),
        (plan(64, 300), 500_000, "cpu", "propose"),  # thumbnails
        (plan(32, 32), 50_000, "cpu", "propose"),  # CIFAR-10
        (plan(32, 32), 50_000, "cuda", "none"),
        (plan(32, 32), FEW_IMAGES - 1, "cuda", "few"),
        (plan(23, 90), 100, "cpu", "none"),
        (plan(28, 28, channels=1), 60_000, "cpu", "none"),  # MNIST
        (plan(28, 28, channels=1), 100, "cpu", "none"),
        (plan(300, 300, channels=1), 100, "cpu", "propose"),
    ],
)
def test_photos_need_a_pretrained_network(found, count, device, need) -> None:
    assert need_of(found, count, device) == need


@pytest.mark.parametrize(
    ("found", "side"),
    [(plan(30, 900), 128), (plan(130, 129), 160), (plan(161, 158), 160), (plan(224, 999), None)],
)
def test_photos_are_read_no_larger_than_they_are(found, side) -> None:
    assert side_for(found) == side


def test_photos_are_read_by_the_network_that_is_at_hand(resnet18: Path, lines) -> None:
    inputs = read_images(pictures(70), AuditOptions(), CPU, lines)
    assert (inputs.encoder, inputs.choice.name) == ("resnet18", "features")
    assert inputs.store.shape == (8, 512, 1, 1)
    assert inputs.origin["preprocessing"]["image_size"] == 128
    assert inputs.choice.reason == (
        "512 features per image, pretrained and frozen; chosen for 8 76x70 color images, because its"
        " weights are on this machine"
    )
    assert lines.said[0].startswith(
        "A pretrained resnet18 reads these 8 76x70 color images: its weights are on this machine."
    )
    assert "`encoder='resnet18'`" in lines.said[0]
    larger = read_images(pictures(70), AuditOptions(image_size=160), CPU, Reporter())
    assert larger.origin["preprocessing"]["image_size"] == 160
    trained = read_images(pictures(70), AuditOptions(fine_tune=True), CPU, Reporter())
    assert (trained.choice.name, trained.store.shape) == ("backbone", (8, 3, 128, 128))
    with pytest.raises(OptionError, match=r"`flip`.*resnet18, which was chosen for these photos"):
        read_images(pictures(70), AuditOptions(flip=True), CPU, Reporter())


def test_small_color_images_are_read_by_it_only_if_they_are_few(
    resnet18: Path, lines, monkeypatch
) -> None:
    few = read_images(pictures(32), AuditOptions(), CPU, Reporter())
    assert few.encoder == "resnet18"
    assert few.are_features
    mirrored = read_images(pictures(32), AuditOptions(flip=True), CPU, Reporter())
    assert not mirrored.are_features
    monkeypatch.setattr("labelaudit.audit.reading.FEW_IMAGES", 8)
    many = read_images(pictures(32), AuditOptions(), CPU, lines)
    assert not many.are_features
    assert "`encoder=resnet18` audits its features" in lines.said[0]
    named = read_images(pictures(70), AuditOptions(encoder="mlp"), CPU, Reporter())
    assert named.choice.name == "mlp"


@pytest.mark.usefixtures("at_hand")
def test_without_one_photos_are_refused_with_the_ways_out(monkeypatch) -> None:
    def message(source: Source, **options: object) -> str:
        with pytest.raises(OptionError) as raised:
            read_images(source, AuditOptions(**options), CPU, Reporter())
        return str(raised.value)

    ways_out = (
        "install one with pip install 'labelaudit[photos]', or train a network from nothing with"
        " `encoder='resnet18'`"
    )
    said = message(pictures(70))
    assert said.startswith(
        "these 8 76x70 color images are photos, which a pretrained network reads"
    )
    assert "cannot be downloaded" not in said
    assert "none can be downloaded (no network in tests)" in said
    assert ways_out in said
    said = message(pictures(70), offline=True)
    assert "`offline` forbids to download one" in said
    assert ways_out in said
    assert "name a file with `encoder`" in message(pictures(8, channels=1), fine_tune=True)
    # Small images do without.
    assert not read_images(pictures(32), AuditOptions(), CPU, Reporter()).are_features
    gray = pictures(70, channels=1)
    assert not read_images(gray, AuditOptions(), CPU, Reporter()).are_features
    with pytest.raises(
        OptionError, match="images are read by a pretrained network, but no weights"
    ):
        embed(pictures(70))


@pytest.mark.usefixtures("at_hand")
@pytest.mark.parametrize(("timm", "chosen"), [(object(), LITE0), (None, "efficientnet_b0")])
def test_a_network_is_downloaded_by_the_library_that_is_there(monkeypatch, timm, chosen) -> None:
    pytest.importorskip("timm")
    monkeypatch.setattr(photo_networks, "find_spec", lambda name: timm)
    asked = []
    monkeypatch.setattr(photo_networks, "ask_size", asked.append)
    network = photo_networks.choose_photo_network(False, "photos need one", "give up")
    assert (network.name, network.weights) == (chosen, DEFAULT_WEIGHTS)
    assert len(asked) == 1
    assert asked[0].startswith("https://")


def test_the_order_at_hand_is_that_of_the_table(at_hand, monkeypatch) -> None:
    pytest.importorskip("timm")
    for name in reversed(photo_networks.AT_HAND):
        at_hand[name] = Path(name)
        assert photo_networks.network_at_hand().name == name
    monkeypatch.setattr(photo_networks, "find_spec", lambda name: None)  # timm is not installed
    assert photo_networks.network_at_hand().name == photo_networks.AT_HAND[2]


def test_a_continued_run_reads_with_the_network_it_began_with(
    resnet18: Path, at_hand, tmp_path: Path, killed_in_third_epoch
) -> None:
    source = pictures(70, count=60)
    settings = {"epochs": 4, "batch_size": 2, "device": "cpu", "image_size": 32}
    whole = labelaudit.scan(source, **settings)
    with killed_in_third_epoch():
        labelaudit.scan(source, out=tmp_path / "run", **settings)
    at_hand["convnext_tiny"] = resnet18  # it would be chosen now
    continued = labelaudit.scan(source, out=tmp_path / "run", resume=True, offline=True, **settings)
    assert continued.summary.encoder.name == "resnet18"
    assert "chosen when the run began" in continued.summary.encoder.reason
    np.testing.assert_array_equal(
        continued.samples["suspect_score"], whole.samples["suspect_score"]
    )


def test_fine_tuning_needs_no_name() -> None:
    check_audit_options(AuditOptions(fine_tune=True))
    with pytest.raises(OptionError, match="`fine_tune` needs a pretrained network"):
        check_audit_options(AuditOptions(fine_tune=True, encoder="resnet18"))


@pytest.mark.usefixtures("at_hand")
@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("vgg", "unknown encoder 'vgg': torchvision has no network 'vgg'.*mlp, conv13"),
        ("timm:none_such", "timm has no network|needs timm"),
    ],
)
def test_an_unknown_encoder_names_those_that_are_known(encoder, message) -> None:
    with pytest.raises(OptionError, match=message):
        read_images(pictures(8), AuditOptions(encoder=encoder), CPU, Reporter())


def test_a_backbone_needs_images() -> None:
    with pytest.raises(OptionError, match="reads images, but this source has none"):
        read_images(
            source_from_arrays(None, [0, 1]), AuditOptions(encoder="vgg16"), CPU, Reporter()
        )
