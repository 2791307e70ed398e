"""The model families of mmdet, mmseg and mmpretrain: the first config of each folder, tuned and tried for one step."""

import importlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from protuning_mm import load_delta, save_delta, tune
from protuning_mm.backbones import TunedBackbone, tuned_backbones
from protuning_mm.doctor.fake_proposals import use_fake_proposals
from protuning_mm.doctor.noise_batch import make_noise_batch
from protuning_mm.doctor.trial_step import init_modules
from tests.families import flat

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')
SIZES = (128, 224, 256, 384)  # sides of images to try; some networks accept only their own
SHARE = 1 / 8  # of the proposals that a detector samples
TRAINED, BACKBONE = 'trained', 'backbone'

# folders whose first config is no model of the family, or needs what no test has
CONFIGS = {
    'mmdet/cascade_rpn': 'cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py',
    'mmdet/guided_anchoring': 'ga-faster-rcnn_r50-caffe_fpn_1x_coco.py',
    'mmpretrain/resnest': 'resnest50_32xb64_in1k.py',
}


def first_configs() -> dict[str, Path]:
    """Return the first config of each folder of the hosts' configs, by ``<host>/<folder>``."""
    found = {}
    for host in HOSTS:
        root = Path(str(importlib.import_module(host).__file__)).parent / '.mim/configs'
        for folder in sorted(root.iterdir()):
            name = f'{host}/{folder.name}'
            configs = sorted(folder.glob('*.py')) if not folder.name.startswith('_') else []
            if configs:
                found[name] = folder / CONFIGS.get(name, configs[0].name)
    return found


def build(host: str, path: Path) -> nn.Module:
    """Build the model of a config with Pro-Tuning and random weights."""
    importlib.import_module(f'{host}.utils').register_all_modules(False)
    init_default_scope(host)
    cfg = tune(Config.fromfile(str(path)))
    forget_checkpoints(cfg.model)
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    init_modules(model)
    for backbone in tuned_backbones(model).values():
        backbone.init_weights()
    return model


def forget_checkpoints(node: Any) -> None:
    """Remove all pre-trained weights from a model's config, in place."""
    if isinstance(node, dict):
        if isinstance(node.get('init_cfg'), dict) and node['init_cfg'].get('type') == 'Pretrained':
            node['init_cfg'] = None
        if node.get('pretrained'):
            node['pretrained'] = False if node['pretrained'] is True else None
        if str(node.get('type', '')).endswith('TunedBackbone'):
            node['allow_random_backbone'] = True
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ():
        forget_checkpoints(value)


def try_family(host: str, path: Path) -> str:
    """Build a model, train one step, predict, and load its delta into a second model.

    Returns:
        str: ``TRAINED``, or ``BACKBONE`` if only the backbone could take part, because the model is no detector,
        segmentor or classifier.

    Raises:
        AssertionError: a frozen tensor changed, a prompt got no gradient, or the second model predicts otherwise.
        Exception: what the host raises.
    """
    model = build(host, path)
    backbones = tuned_backbones(model)
    assert backbones
    if not _takes_batches(model):
        _try_sizes(model, lambda size: _step(model, backbones, lambda: _backbone_loss(backbones, size)))
        return BACKBONE

    def step(size: int) -> None:
        network: Any = model
        batch = make_noise_batch(model, 2, (size, size))
        with use_fake_proposals(model, SHARE):
            _step(model, backbones, lambda: network.parse_losses(model(*batch, mode='loss'))[0])

    size = _try_sizes(model, step)
    model.eval()
    inputs, samples = make_noise_batch(model, 2, (size, size))
    with torch.no_grad():
        model(inputs, samples, mode='predict')
    _check_delta(host, path, model, inputs)
    return TRAINED


def _takes_batches(model: nn.Module) -> bool:
    try:
        make_noise_batch(model, 2, (SIZES[0], SIZES[0]))
    except TypeError:
        return False
    return getattr(model, 'head', True) is not None  # mmpretrain's feature extractors have no head


def _try_sizes(model: nn.Module, step: Callable[[int], None]) -> int:
    """Take a step with images of the first size that a model accepts, and return the size."""
    own = [getattr(backbone, 'img_size', None) for backbone in tuned_backbones(model).values()]
    own = [size[0] if isinstance(size, list | tuple) else size for size in own]
    sizes = [size for size in (*SIZES, *own) if isinstance(size, int)]
    for size in sizes:
        try:
            step(size)
            break
        except (RuntimeError, AssertionError):
            if size == sizes[-1]:
                raise
    return size


def _step(model: nn.Module, backbones: dict[str, TunedBackbone], loss: Callable[[], Tensor]) -> None:
    before = {(name, key): value.clone() for name, key, value in _frozen(backbones)}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-3)
    model.train()
    loss().backward()
    optimizer.step()
    for name, backbone in backbones.items():
        idle = [key for key, param in backbone.named_parameters() if param.requires_grad and param.grad is None]
        assert not idle, f'{name}: no gradient for {idle[:3]}'
    assert all(torch.equal(value, before[name, key]) for name, key, value in _frozen(backbones))


def _frozen(backbones: dict[str, TunedBackbone]) -> Iterator[tuple[str, str, Tensor]]:
    for name, backbone in backbones.items():
        yield from ((name, key, value) for key, value in backbone.frozen_tensors().items())


def _backbone_loss(backbones: dict[str, TunedBackbone], size: int) -> Tensor:
    image = torch.randn(2, 3, size, size)
    return torch.stack([out.square().mean() for each in backbones.values() for out in flat(each(image))]).sum()


def _check_delta(host: str, path: Path, model: nn.Module, inputs: Tensor) -> None:
    """The delta of a model brings a second one with the same frozen tensors to the same features."""
    other = build(host, path)
    with tempfile.TemporaryDirectory() as folder:
        save_delta(model, Path(folder) / 'delta.pth')
        load_delta(other, Path(folder) / 'delta.pth')
    other.eval()
    for ours, theirs in zip(tuned_backbones(model).values(), tuned_backbones(other).values(), strict=True):
        with torch.no_grad():
            assert all(torch.equal(a, b) for a, b in zip(flat(ours(inputs)), flat(theirs(inputs)), strict=True))
