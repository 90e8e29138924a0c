"""Backbones: which networks open, from which weights, and what their features depend on."""

import contextlib
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models

from labelaudit.errors import OptionError
from labelaudit.features import downloads, packaged_weights
from labelaudit.features.backbones import Backbone, cached_weights, open_backbone
from labelaudit.features.downloads import ask_size
from labelaudit.features.packaged_weights import packaged_file, renamed
from labelaudit.features.preprocessing import Preprocessing
from labelaudit.features.timm_networks import OLDEST_TIMM
from labelaudit.features.torchvision_networks import choose_weights

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of weights, and no network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(downloads.urllib.request, "urlopen", refuse)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture(scope="module")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write the state dict of a network with random weights; batch norms get statistics."""
    folder = tmp_path_factory.mktemp("weights")

    def write(name: str) -> Path:
        file = folder / f"{name}.pth"
        if not file.exists():
            torch.manual_seed(0)
            network = models.get_model(name, weights=None)
            for layer in network.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.running_mean.normal_(0, 0.1)
                    layer.running_var.uniform_(0.5, 2)
            torch.save(network.state_dict(), file)
        return file

    return write


def pixels(count: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def open_resnet(file: Path, **options: Any) -> Backbone:
    return open_backbone("resnet18", file, CPU, **options)


# --- networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "feature_size", "head"),
    [
        ("resnet18", 512, "fc"),
        ("efficientnet_b0", 1280, "classifier.1"),
        ("mobilenet_v3_small", 1024, "classifier.3"),
        ("squeezenet1_1", 512, "classifier.1"),
        pytest.param("vit_b_16", 768, "heads.head", marks=pytest.mark.slow),
    ],
)
def test_features_are_what_the_head_would_see(
    name: str, feature_size: int, head: str, weights_of: Any
) -> None:
    file = weights_of(name)
    backbone = open_backbone(name, file, CPU, precision=torch.float32)
    assert backbone.feature_size == feature_size
    whole = models.get_model(name, weights=None)
    whole.load_state_dict(torch.load(file, weights_only=True))
    seen: list[torch.Tensor] = []
    whole.get_submodule(head).register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    images = pixels(2, backbone.image_size)
    normalized = (images / 255 - torch.tensor(transforms.mean).view(3, 1, 1)) / torch.tensor(
        transforms.std
    ).view(3, 1, 1)
    with torch.no_grad():
        whole.eval()(normalized)
    expected = seen[0] if seen[0].dim() == 2 else seen[0].mean((2, 3))
    features = backbone(images)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)


def test_a_smaller_image_size_crops_the_same_share(weights_of: Any) -> None:
    backbone = open_resnet(weights_of("resnet18"), image_size=96)
    assert (backbone.image_size, backbone.preprocess.resize) == (96, 109)
    assert backbone(pixels(3, 96)).shape == (3, 512)


def test_a_size_that_the_network_cannot_read(weights_of: Any) -> None:
    with pytest.raises(OptionError, match=r"vit_b_16 cannot read images of 128x128.*`image_size`"):
        open_backbone("vit_b_16", weights_of("vit_b_16"), CPU, image_size=128)
    with pytest.raises(OptionError, match="`image_size` is 0"):
        open_resnet(weights_of("resnet18"), image_size=0)


def test_random_state_is_left_alone(weights_of: Any) -> None:
    file = weights_of("resnet18")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    open_resnet(file)
    assert torch.equal(torch.get_rng_state(), before)


# --- preprocessing -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(300, 200), (40, 61), (256, 256), (1, 1)])
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_preprocessing_is_torchvisions_own(name: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    preprocess = Preprocessing(
        image_size=transforms.crop_size[0],
        resize=transforms.resize_size[0],
        interpolation=transforms.interpolation.name,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
    ours = torch.from_numpy(preprocess(image).copy()) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocess.mean, preprocess.std))
    levels = ((ours - (transforms(image) * std + mean)) * 255).round().abs()
    # Pillow keeps the corners of the square in single precision.
    assert levels.max() <= 1
    assert (levels > 0).float().mean() < 0.01


def test_gray_pictures_and_extreme_shapes() -> None:
    preprocess = Preprocessing(8, 10, "BILINEAR", (0.5,) * 3, (0.5,) * 3)
    gray = preprocess(Image.new("L", (30, 20), 77))
    assert gray.shape == (3, 8, 8)
    assert (gray == 77).all()
    # Resized first, this line would take 10 GB.
    assert preprocess(Image.new("RGB", (30_000_000, 1), "red")).shape == (3, 8, 8)
    squashed = Preprocessing(8, 8, "BICUBIC", (0.5,) * 3, (0.5,) * 3, squash=True)
    halves = Image.new("L", (40, 10))
    halves.paste(200, (20, 0, 40, 10))
    assert squashed(halves)[0, 0, [0, -1]].tolist() == [0, 200]


# --- weights from a file -----------------------------------------------------------------------


def test_heads_of_any_size_or_none_give_one_identity(weights_of: Any, tmp_path: Path) -> None:
    state = torch.load(weights_of("resnet18"), weights_only=True)
    same = open_resnet(weights_of("resnet18")).identity
    for number, head in enumerate(
        ({}, {"fc.weight": torch.ones(7, 512)}, {"fc.0.weight": torch.ones(3, 3)})
    ):
        body = {key: value for key, value in state.items() if not key.startswith("fc.")}
        file = tmp_path / f"{number}.pth"
        torch.save({"state_dict": {f"module.{k}": v for k, v in (body | head).items()}}, file)
        assert open_resnet(file).identity == same


def test_identity_tells_weights_size_and_network_apart(weights_of: Any, tmp_path: Path) -> None:
    file = weights_of("resnet18")
    state = torch.load(file, weights_only=True)
    state["layer4.1.bn2.bias"][0] += 1e-3
    torch.save(state, tmp_path / "other.pth")
    identities = {
        open_resnet(file).identity,
        open_resnet(file, image_size=96).identity,
        open_resnet(tmp_path / "other.pth").identity,
    }
    assert len(identities) == 3
    assert open_resnet(file).identity in identities
    assert all(identity.startswith("resnet18-") for identity in identities)


def test_weights_that_do_not_fit(weights_of: Any, tmp_path: Path) -> None:
    state = torch.load(weights_of("resnet18"), weights_only=True)
    file = tmp_path / "w.pth"

    def expect(message: str, **changed: Any) -> None:
        torch.save({k: v for k, v in (state | changed).items() if v is not None}, file)
        with pytest.raises(OptionError, match=message) as raised:
            open_resnet(file)
        assert "\n" not in str(raised.value)

    expect("do not fit resnet18.*1 weights are missing, e.g. conv1", **{"conv1.weight": None})
    expect("1 weights are unknown, e.g. mystery", mystery=torch.ones(2))
    expect(
        r"another size, e.g. conv1.weight is \(2, 2\) and not \(64, 3, 7, 7\)",
        **{"conv1.weight": torch.ones(2, 2)},
    )
    with pytest.raises(OptionError, match="do not fit resnet34"):
        open_backbone("resnet34", weights_of("resnet18"), CPU)


def test_files_that_are_no_state_dict(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pth"
    garbage.write_bytes(b"no weights at all")
    whole = tmp_path / "whole.pth"
    torch.save(nn.Linear(2, 2), whole)
    number = tmp_path / "number.pth"
    torch.save({"epoch": 3}, number)
    for file, message in (
        (garbage, "cannot be loaded"),
        (whole, "cannot be loaded.*state dict"),
        (number, "holds no state dict"),
        (tmp_path / "missing.pth", "does not exist.*DEFAULT"),
    ):
        with pytest.raises(OptionError, match=message):
            open_resnet(file)


def test_safetensors(weights_of: Any, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(
        torch.load(weights_of("resnet18"), weights_only=True), tmp_path / "w.safetensors"
    )
    opened = open_resnet(tmp_path / "w.safetensors")
    assert opened.identity == open_resnet(weights_of("resnet18")).identity


def test_old_names_in_torchvisions_own_files(weights_of: Any, tmp_path: Path) -> None:
    state = torch.load(weights_of("densenet121"), weights_only=True)
    old = {
        key.replace("norm1.", "norm.1.")
        .replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2."): value
        for key, value in state.items()
    }
    torch.save(old, tmp_path / "old.pth")
    opened = open_backbone("densenet121", tmp_path / "old.pth", CPU, image_size=64)
    new = open_backbone("densenet121", weights_of("densenet121"), CPU, image_size=64)
    assert opened.identity == new.identity


def test_a_file_of_torchvision_is_known_by_its_name(weights_of: Any, tmp_path: Path) -> None:
    members = models.get_model_weights("resnet50")
    first = members.IMAGENET1K_V1.url.rpartition("/")[2]
    named = choose_weights("resnet50", Path("elsewhere") / first)
    assert named is members.IMAGENET1K_V1
    assert choose_weights("resnet50", Path("mine.pth")) is members.DEFAULT


# --- weights of the library --------------------------------------------------------------------


def test_weights_in_the_librarys_cache(weights_of: Any, own_hub: Path) -> None:
    assert cached_weights("resnet18") is None
    with pytest.raises(OptionError, match=r"resnet18 are not on this machine.*`weights='DEFAULT'`"):
        open_backbone("resnet18", None, CPU)
    with pytest.raises(
        OptionError,
        match=r"cannot be downloaded \(.*no network.*\); download them elsewhere \(https://.*`weights`",
    ):
        open_backbone("resnet18", "DEFAULT", CPU)
    own_hub.mkdir(parents=True, exist_ok=True)
    stored = own_hub / models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    stored.write_bytes(weights_of("resnet18").read_bytes())
    assert cached_weights("resnet18") == stored
    at_hand = open_backbone("resnet18", None, CPU)
    assert at_hand.weights == "DEFAULT"
    assert at_hand.identity == open_resnet(weights_of("resnet18")).identity
    assert at_hand.identity == open_backbone("resnet18", "DEFAULT", CPU).identity


def test_unknown_networks() -> None:
    for name in ("resnet19", "fcn_resnet50", "Resnet18!"):
        with pytest.raises(OptionError, match=r"torchvision has no network.*resnet.*timm:NAME"):
            open_backbone(name, "DEFAULT", CPU)


# --- timm --------------------------------------------------------------------------------------


def test_timm_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    for call in (cached_weights, lambda name: open_backbone(name, "DEFAULT", CPU)):
        with pytest.raises(OptionError, match=r"pip install 'labelaudit\[timm\]'"):
            call("timm:resnet18")


def test_an_old_timm_whose_features_are_partly_random_is_refused(monkeypatch) -> None:
    timm = pytest.importorskip("timm")
    for version in ("1.0.9", "0.9.16", "1.0.25.dev0"):
        monkeypatch.setattr(timm, "__version__", version)
        with pytest.raises(OptionError, match=rf"needs timm 1\.0\.26 or newer, and {version} is"):
            open_backbone("timm:resnet50_clip.openai", "DEFAULT", CPU)
    project = Path(__file__).parents[2] / "pyproject.toml"
    if not project.exists():
        pytest.skip("without the repository's pyproject.toml")
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    assert f"timm>={OLDEST_TIMM}" in extras["timm"]


def test_timm_names_weights_and_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OptionError, match="timm has no network 'resnet19'; did you mean"):
        open_backbone("timm:resnet19", "DEFAULT", CPU)
    with pytest.raises(OptionError, match="no weights 'mine' of resnet18; there are a1_in1k"):
        open_backbone("timm:resnet18.mine", "DEFAULT", CPU)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network in tests")

    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=5)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    name = "timm:vit_tiny_patch16_224"
    backbone = open_backbone(name, tmp_path / "vit.pth", CPU, precision=torch.float32)
    assert backbone.feature_size == 192
    assert backbone.preprocess == Preprocessing(
        224, 248, "BICUBIC", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    )
    images = pixels(2, 224)
    with torch.no_grad():
        expected = network.eval().forward_head(
            network.forward_features(images / 127.5 - 1), pre_logits=True
        )
    torch.testing.assert_close(backbone(images), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(OptionError, match="cannot read images of 128x128"):
        open_backbone(name, tmp_path / "vit.pth", CPU, image_size=128)
    assert cached_weights("timm:resnet18.a1_in1k") != tmp_path / "vit.pth"
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda repository, stored: str(tmp_path / "vit.pth") if "vit_tiny" in repository else None,
    )
    assert cached_weights(name) == tmp_path / "vit.pth"
    assert cached_weights("timm:resnet18.a1_in1k") is None
    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(OptionError, match=r"cannot be downloaded \(no network in tests\)"):
        open_backbone(name, "DEFAULT", CPU)


# --- weights from a package registry -----------------------------------------------------------


# The flower is a dahlia, which ImageNet does not have: a daisy for one, a honeycomb for the other.
@pytest.mark.parametrize(
    ("model", "flower"), [("tf_efficientnet_lite0", 985), ("tf_efficientnet_lite2", 599)]
)
def test_a_real_pretrained_network_knows_palaces_and_flowers(model: str, flower: int) -> None:
    timm = pytest.importorskip("timm")
    file = packaged_file(model)
    if file is None:
        pytest.skip(f"without {packaged_weights.PACKAGES[model]}")
    from sklearn.datasets import load_sample_image

    name = f"timm:{model}"
    assert cached_weights(name) == file == cached_weights(f"{name}.in1k")
    # Neither a file nor a download is named.
    backbone = open_backbone(name, None, CPU, offline=True)
    assert backbone.feature_size == 1280
    assert backbone.identity == open_backbone(name, "DEFAULT", CPU).identity
    state = renamed(timm.create_model(model).state_dict(), file)
    for photo, imagenet_class in (("china.jpg", 698), ("flower.jpg", flower)):
        image = backbone.preprocess(Image.fromarray(load_sample_image(photo)))
        features = backbone(torch.from_numpy(image.copy())[None])
        logits = features @ state["classifier.weight"].T + state["classifier.bias"]
        assert logits.argmax().item() == imagenet_class


def test_weights_of_a_package_that_belong_to_another_network(tmp_path, monkeypatch) -> None:
    pytest.importorskip("timm")
    file = tmp_path / "models" / "w.pth"
    file.parent.mkdir()
    torch.save({"weight": torch.ones(2)}, file)
    monkeypatch.setattr(
        packaged_weights,
        "find_spec",
        lambda _: SimpleNamespace(submodule_search_locations=[str(tmp_path)]),
    )
    with pytest.raises(OptionError, match=r"w\.pth do not belong to this network"):
        open_backbone("timm:tf_efficientnet_lite0", None, CPU)


# --- downloads ---------------------------------------------------------------------------------


def test_a_download_is_announced_and_may_be_forbidden(monkeypatch, lines) -> None:
    def answer(*_: Any, **__: Any) -> Any:
        headers = {"Content-Length": "46830571"}
        return contextlib.nullcontext(SimpleNamespace(headers=headers))

    monkeypatch.setattr(downloads.urllib.request, "urlopen", answer)
    with pytest.raises(OptionError, match="cannot be downloaded"):
        open_backbone("resnet18", "DEFAULT", CPU, reporter=lines)
    (said,) = lines.said
    assert said.startswith(
        "Downloading the weights of resnet18 from download.pytorch.org (47 MB, lic"
    )
    assert "BSD-3-Clause" in said
    with pytest.raises(OptionError, match=r"not on this machine.*leave `offline` out"):
        open_backbone("resnet18", "DEFAULT", CPU, offline=True, reporter=lines)
    assert len(lines.said) == 1


def test_a_server_that_does_not_answer_is_given_up_soon(monkeypatch) -> None:
    ended = threading.Event()

    def hang(*_: Any, **__: Any) -> None:
        ended.wait(60)
        raise OSError("too late")

    monkeypatch.setattr(downloads.urllib.request, "urlopen", hang)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 seconds"):
        ask_size("https://example.org/weights.pth", patience=0.1)
    assert time.monotonic() - started < 30
    ended.set()
