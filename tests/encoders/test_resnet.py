"""ResNets: torchvision's names and counts, shapes, weights from files, pictures as they are read, recorded grids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from manymatch.encoders.resnet import IMAGENET_MEAN, IMAGENET_STD, RESNETS, ResNet, load_backbone, prepare, resnet
from manymatch.encoders.torch_files import read_torch_file
from manymatch.errors import CheckpointError, DataError, UnknownName

# Parameters of torchvision's network with its 1,000-way classifier, and tensors in its state dict.
KNOWN = {
    "resnet18": (11_689_512, 122),
    "resnet34": (21_797_672, 218),
    "resnet50": (25_557_032, 320),
    "resnet101": (44_549_160, 626),
    "resnet152": (60_192_808, 932),
    "resnext101_32x8d": (88_791_336, 626),
}


@pytest.mark.parametrize("name", KNOWN)
def test_as_many_parameters_as_torchvision(name: str) -> None:
    with torch.device("meta"):
        net = resnet(name)
    classifier = net.width * 1000 + 1000
    assert sum(p.numel() for p in net.parameters()) + classifier == KNOWN[name][0]
    assert len(net.state_dict()) + 2 == KNOWN[name][1]
    assert net.width == RESNETS[name]
    assert net(torch.empty(2, 3, 64, 96, device="meta")).shape == (2, net.width, 2, 3)


def test_every_backbone_is_named_once() -> None:
    assert set(RESNETS) == set(KNOWN)
    with pytest.raises(UnknownName, match="did you mean 'resnet50'"):
        resnet("resnet-50")


def test_names_and_shapes_of_a_block() -> None:
    with torch.device("meta"):
        small, wide = resnet("resnet18").state_dict(), resnet("resnext101_32x8d").state_dict()
    assert tuple(small["conv1.weight"].shape) == (64, 3, 7, 7)
    assert tuple(small["layer2.0.downsample.0.weight"].shape) == (128, 64, 1, 1)
    assert tuple(small["layer2.0.downsample.1.running_var"].shape) == (128,)
    assert "layer1.0.downsample.0.weight" not in small
    assert tuple(wide["layer1.0.downsample.0.weight"].shape) == (256, 64, 1, 1)
    assert tuple(wide["layer1.0.conv1.weight"].shape) == (256, 64, 1, 1)
    assert tuple(wide["layer4.2.conv2.weight"].shape) == (2048, 64, 3, 3)
    assert tuple(wide["layer3.22.bn3.weight"].shape) == (1024,)


@pytest.fixture(scope="module")
def net() -> ResNet:
    torch.manual_seed(0)
    return resnet("resnet18").eval()


def test_memory_format_changes_nothing(net: ResNet) -> None:
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        plain, last = net(pixels), net(pixels.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


def save_zip(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path)


def save_old(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [save_zip, save_old, save_file])
def test_starts_from_a_file(net: ResNet, tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / ("w.safetensors" if save is save_file else "w.pth")
    state = {"module." + k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    save({**state, "fc.weight": torch.ones(10, 512), "fc.bias": torch.ones(10)}, path)
    other = resnet("resnet18")
    load_backbone(other, path)
    for name, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_weights_of_another_network_are_refused(net: ResNet, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(net.state_dict(), path)
    larger = resnet("resnet34")
    with pytest.raises(CheckpointError, match=r"is not resnet34: \d+ of \d+ tensors are missing.*'layer1.2.bn1.bias'"):
        load_backbone(larger, path)
    state = dict(net.state_dict())
    torch.save({**state, "conv1.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(CheckpointError, match=r"'conv1.weight' is \(64, 3, 3, 3\), expected \(64, 3, 7, 7\)"):
        load_backbone(resnet("resnet18"), path)
    torch.save({"epoch": 3, "state_dict": state}, path)
    with pytest.raises(CheckpointError, match="holds a dict of 'epoch', 'state_dict', expected tensors by name"):
        load_backbone(larger, path)
    (bad := tmp_path / "w.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_backbone(larger, bad)
    with pytest.raises(DataError, match="no such file"):
        load_backbone(larger, tmp_path / "none.pth")


def test_a_refused_file_changes_nothing(net: ResNet, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(net.state_dict() | {"conv1.weight": torch.zeros(1)}, path)
    other = resnet("resnet18")
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="conv1"):
        load_backbone(other, path)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())


def test_prepare_crops_the_centre() -> None:
    # Twice as wide as high and already scaled: nothing is resampled, 16 rows and 144 columns are cut from each side.
    random = np.random.default_rng(0)
    raw = random.integers(0, 256, (256, 512, 3), np.uint8)
    made = prepare([Image.fromarray(raw)]).array
    wanted = (raw[16:240, 144:368] / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    assert made.shape == (1, 3, 224, 224) and made.dtype == np.float32
    np.testing.assert_allclose(made[0], wanted.transpose(2, 0, 1), rtol=0, atol=1e-5)


def test_prepare_scales_the_shorter_side() -> None:
    tall = Image.new("L", (64, 200), 128)
    made = prepare([tall, Image.new("RGB", (300, 31))], size=112).array
    assert made.shape == (2, 3, 112, 112)
    grey = (128 / 255 - np.array(IMAGENET_MEAN)) / IMAGENET_STD
    np.testing.assert_allclose(made[0].mean(axis=(1, 2)), grey, rtol=0, atol=1e-5)
    halves = Image.fromarray(np.repeat(np.uint8([[0, 255]]), 50, axis=1)).resize((100, 10))
    assert prepare([halves], size=56).array[0, 0, 28, 0] == pytest.approx(-IMAGENET_MEAN[0] / IMAGENET_STD[0])
    squashed = prepare([halves], size=56, whole=True).array
    assert squashed.shape == (1, 3, 56, 56) and squashed[0, 0, :, 0].max() < squashed[0, 0, :, -1].min()
    assert prepare([], size=64).array.shape == (0, 3, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["pvse_coco_k2", "pcme_coco", "dive_grid_resnet18"])
def test_recorded_grids(case: str, reference: Path) -> None:
    folder = reference / "parity" / case
    weights = read_torch_file(folder / "checkpoint.pth")["model"]
    start = "img_enc.cnn."
    net = resnet("resnet18")
    net.load_state_dict({k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)})
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    pixels = torch.from_numpy(inputs["images_uint8"].transpose(0, 3, 1, 2) / np.float32(255))
    images = (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    # Channels last, batch norm's statistics are summed in another order and the grids differ by up to 3e-4.
    images = images.contiguous()
    net.eval()
    with torch.no_grad():
        np.testing.assert_allclose(net(images), expected["img_grid"], rtol=0, atol=1e-4)
    if case.startswith("dive"):
        rows = np.load(folder / "train_batch.npz")["image_index"]
    else:
        rows = inputs["caption_image_index"][expected["train_order"]]
    net.train()
    with torch.no_grad():
        np.testing.assert_allclose(net(images[rows]), expected["train_img_grid"], rtol=0, atol=1e-4)
