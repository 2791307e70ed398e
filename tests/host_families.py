"""The model families of mmdet, mmseg and mmpretrain: the first config of each folder, tuned and tried for one step."""

import importlib
import random
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
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
SIZES = (128, 224, 256, 384, 448)  # sides of images to try; some networks accept only their own
SHARE = 1 / 8  # of the proposals that a detector samples
TRAINED, BACKBONE = 'trained', 'backbone'

# folders whose first config is no model of the family, or needs what no test has
CONFIGS = {
    'mmdet/cascade_rpn': 'cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py',
    'mmdet/guided_anchoring': 'ga-faster-rcnn_r50-caffe_fpn_1x_coco.py',
    'mmdet/v3det': 'fcos_r50_fpn_8x4_sample1e-3_mstrain_v3det_2x.py',  # 13,204 classes: two-stage heads take minutes
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
    model.load_state_dict(model.state_dict())  # DetectoRS computes buffers when it loads weights
    return model


def forget_checkpoints(node: Any) -> None:
    """Remove all pre-trained weights from a model's config, in place."""
    if isinstance(node, dict):
        if isinstance(node.get('init_cfg'), dict) and 'checkpoint' in node['init_cfg']:
            node['init_cfg'] = None
        if node.get('pretrained'):
            node['pretrained'] = False if node['pretrained'] is True else None
        if str(node.get('type', '')).endswith('TunedBackbone'):
            node['allow_random_backbone'] = True
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ():
        forget_checkpoints(value)


def try_family(host: str, path: Path) -> str:
    """Build a model, train one step, predict, load its delta into a second model, and resume training in that.

    Returns:
        str: ``TRAINED``, or ``BACKBONE`` if only the backbone could take part, because the model is no detector,
        segmentor or classifier.

    Raises:
        AssertionError: a frozen tensor changed, a prompt got no gradient, or the second model predicts or trains
            otherwise.
        Exception: what the host raises.
    """
    model = build(host, path)
    backbones = tuned_backbones(model)
    assert backbones
    if not _takes_batches(model):
        _try_sizes(model, lambda size: _step(model, backbones, lambda: _backbone_loss(backbones, size)))
        return BACKBONE

    def step(size: int) -> None:
        batch = make_noise_batch(model, 2, (size, size))
        _step(model, backbones, lambda: _loss(model, batch))

    size = _try_sizes(model, step)
    model.eval()
    inputs, samples = make_noise_batch(model, 2, (size, size))
    with torch.no_grad():
        model(inputs, samples, mode='predict')
    other = _check_delta(host, path, model, inputs)
    _check_resume(model, other, size)
    return TRAINED


def _loss(model: Any, batch: Any) -> Tensor:
    with use_fake_proposals(model, SHARE):
        found: Tensor = model.parse_losses(model(*batch, mode='loss'))[0]
    return found


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
    _clip(model)
    optimizer.step()
    for name, backbone in backbones.items():
        idle = [key for key, param in backbone.named_parameters() if param.requires_grad and param.grad is None]
        assert not idle, f'{name}: no gradient for {idle[:3]}'
    assert all(torch.equal(value, before[name, key]) for name, key, value in _frozen(backbones))


def _clip(model: nn.Module) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def _frozen(backbones: dict[str, TunedBackbone]) -> Iterator[tuple[str, str, Tensor]]:
    for name, backbone in backbones.items():
        yield from ((name, key, value) for key, value in backbone.frozen_tensors().items())


def _backbone_loss(backbones: dict[str, TunedBackbone], size: int) -> Tensor:
    image = torch.randn(2, 3, size, size)
    return torch.stack([out.square().mean() for each in backbones.values() for out in flat(each(image))]).sum()


def _check_delta(host: str, path: Path, model: nn.Module, inputs: Tensor) -> nn.Module:
    """The delta of a model brings a second one, which is returned, to the same features."""
    other = build(host, path)
    with tempfile.TemporaryDirectory() as folder:
        save_delta(model, Path(folder) / 'delta.pth')
        load_delta(other, Path(folder) / 'delta.pth')
    other.eval()
    for ours, theirs in zip(tuned_backbones(model).values(), tuned_backbones(other).values(), strict=True):
        with torch.no_grad():
            for a, b in zip(flat(ours(inputs)), flat(theirs(inputs)), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    return other


def _check_resume(model: nn.Module, other: nn.Module, size: int) -> None:
    """A second model that loads weights and optimizer of the first after a step takes the same next step."""

    def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 1e-3, momentum=0.9)

    def train(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        network.train()
        optimizer.zero_grad()
        _loss(network, make_noise_batch(network, 2, (size, size))).backward()
        _clip(network)
        optimizer.step()

    first, second = optimizer_of(model), optimizer_of(other)
    train(model, first, 1)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(dict(model=model.state_dict(), optimizer=first.state_dict()), f'{folder}/checkpoint.pth')
        saved = torch.load(f'{folder}/checkpoint.pth')
    other.load_state_dict(saved['model'])
    second.load_state_dict(saved['optimizer'])
    for network, optimizer in ((model, first), (other, second)):
        train(network, optimizer, 2)
    for key, value in other.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[key], rtol=0, atol=0, equal_nan=True, msg=key)


_TOKENS = (r'tokens need a reader', 'its stages return tokens that no reader knows')
_BRANCHES = (r'cannot be read as stages', 'its parallel branches do not form stages that run in sequence')
_MASK = (r"required positional argument: '(mask|importance)'", 'pre-training that masks patches')
_MULTIMODAL = (r'requires extra multi-modal dependencies', 'the extra mmpretrain[multimodal] is required')
_NO_MODEL = (r'no backbone to tune', 'the config contains no model')
_LAP = (r'lap is not installed', 'the package lap is required')
_TEXT = (r'transformers is not installed|fairscale', 'the packages transformers and fairscale are required')
_FETCHES = (r'cannot be fetched', 'building it downloads the weights of a teacher')
_READ = r'cannot be read as stages'

# families that do not train: what is raised, and the reason for the docs
REASONS: dict[str, tuple[str, str]] = {
    'mmdet/boxinst': (r'pairwise_masks', 'its data preprocessor makes targets from real images'),
    'mmdet/bytetrack': _LAP,
    'mmdet/carafe': (r'implementation for device cpu not found', "mmcv's CARAFE has no CPU version"),
    'mmdet/centripetalnet': (_READ, 'its two hourglasses give two outputs of one size'),
    'mmdet/clrnet': (r'lines_array', 'it predicts lanes, for which the test has no fake annotations'),
    'mmdet/common': _NO_MODEL,
    'mmdet/cornernet': (_READ, 'its two hourglasses give two outputs of one size'),
    'mmdet/glip': _TEXT,
    'mmdet/grounding_dino': _TEXT,
    'mmdet/guided_anchoring': (r'masked_conv|^$', "mmcv's masked convolution has no CPU version"),
    'mmdet/lad': _FETCHES,
    'mmdet/ld': (r'No such file or directory', "names its teacher's config by a path of mmdet's repository"),
    'mmdet/mm_grounding_dino': _TEXT,
    'mmdet/ocsort': _LAP,
    'mmdet/queryinst': (r'upper bound and lower bound', 'boxes of its untrained heads cannot be pasted as masks'),
    'mmdet/reid': (r'cannot be multiplied', 'takes images of 256 × 128'),
    'mmdet/simple_copy_paste': (r'process group has not been initialized', 'its norms need several processes'),
    'mmdet/soft_teacher': (r'invalid data type', 'its batches hold unlabelled images, which the test does not make'),
    'mmdet/ssd': (r"no attribute 'loss_cls'", "mmdet's SSD head fails when it predicts"),
    'mmdet/strong_baselines': (r'process group has not been initialized', 'its norms need several processes'),
    'mmdet/strongsort': _FETCHES,
    'mmdet/tood': (r"'NoneType' and 'int'", 'its head needs the number of the epoch'),
    'mmdet/tridentnet': (r'Target size', 'the branches of its backbone depend on the training mode'),
    'mmdet/misc': _NO_MODEL,
    'mmpretrain/beit': _MASK,
    'mmpretrain/beitv2': _MASK,
    'mmpretrain/blip': _MULTIMODAL,
    'mmpretrain/blip2': _MULTIMODAL,
    'mmpretrain/cae': _MASK,
    'mmpretrain/chinese_clip': _MULTIMODAL,
    'mmpretrain/clip': _MULTIMODAL,
    'mmpretrain/conformer': _BRANCHES,
    'mmpretrain/davit': _TOKENS,
    'mmpretrain/efficientformer': (_READ, 'its last stage works on tokens'),
    'mmpretrain/flamingo': _MULTIMODAL,
    'mmpretrain/hivit': _TOKENS,
    'mmpretrain/inception_v3': (r'NoneType is none of theirs', 'its auxiliary classifier is an output'),
    'mmpretrain/itpn': (r"'bool' object has no attribute 'flatten'", 'pre-training that masks patches'),
    'mmpretrain/lenet': (r'to have 1 channels', 'takes images of one channel'),
    'mmpretrain/levit': (_READ, 'its stages work on tokens'),
    'mmpretrain/llava': _MULTIMODAL,
    'mmpretrain/mae': (_TOKENS[0], 'pre-training that masks patches'),
    'mmpretrain/maskfeat': _MASK,
    'mmpretrain/mff': (r'not a feature of 768 channels', 'pre-training that masks patches'),
    'mmpretrain/milan': _FETCHES,
    'mmpretrain/minigpt4': _MULTIMODAL,
    'mmpretrain/mixmim': (_TOKENS[0], 'pre-training that masks patches'),
    'mmpretrain/mvit': _TOKENS,
    'mmpretrain/ofa': _NO_MODEL,
    'mmpretrain/otter': _MULTIMODAL,
    'mmpretrain/replknet': (r'must match the current configuration file type', 'its config cannot be read by mmengine'),
    'mmpretrain/revvit': _TOKENS,
    'mmpretrain/sam': (_READ, 'layers follow its last stage'),
    'mmpretrain/simmim': _MASK,
    'mmpretrain/spark': (r"'NoneType' object has no attribute 'shape'", 'pre-training that masks patches'),
    'mmpretrain/swin_transformer_v2': (r'test_pipeline', 'its config cannot be read by mmengine'),
    'mmpretrain/tinyvit': (_READ, 'its stages work on tokens'),
    'mmpretrain/tnt': _TOKENS,
    'mmpretrain/xcit': (_READ, 'its stages return tokens that no reader knows'),
    'mmseg/bisenetv1': _BRANCHES,
    'mmseg/bisenetv2': _BRANCHES,
    'mmseg/cgnet': _BRANCHES,
    'mmseg/ddrnet': _BRANCHES,
    'mmseg/fastscnn': _BRANCHES,
    'mmseg/icnet': _BRANCHES,
    'mmseg/pidnet': _BRANCHES,
    'mmseg/san': (r"no attribute 'init_weights'", "its head's init_weights fails in mmseg itself"),
    'mmseg/stdc': _BRANCHES,
    'mmseg/unet': (_READ, 'its decoder is part of the backbone'),
    'mmseg/vpd': (r'required packages', 'needs the package for Stable Diffusion'),
}

# families that train, but do not go on from a checkpoint as if they had not stopped
NOT_RESUMED = {
    'mmdet/ddod': (r'backbone.prompts', 'its head counts samples outside of its state'),
    'mmdet/ddq': (r'Unexpected key.*aux_reg_branches', 'its decoder gains parameters in the first step'),
}

# only the backbone takes a step: the model is no detector, segmentor or classifier, or has no head
BACKBONE_ONLY = {
    f'mmpretrain/{name}'
    for name in [
        'arcface',
        'barlowtwins',
        'byol',
        'densecl',
        'dinov2',
        'eva02',
        'glip',
        'mocov2',
        'mocov3',
        'simclr',
        'simsiam',
        'swav',
    ]
} | {'mmdet/deepsort', 'mmdet/mask2former_vis', 'mmdet/masktrack_rcnn', 'mmdet/qdtrack'}


def write_table() -> str:
    """Return the lists and tables of families in ``docs/models.md``."""
    names = [name for name in first_configs() if name not in REASONS]
    lines = ['A step of the whole model:', '']
    lines += _list_by_host([name for name in names if name not in BACKBONE_ONLY])
    lines += ['', 'A step of the backbone alone:', '']
    lines += _list_by_host([name for name in names if name in BACKBONE_ONLY])
    lines += ['', '| not trained | why |', '|---|---|']
    reasons: dict[str, list[str]] = {}
    for name, (_, reason) in REASONS.items():
        reasons.setdefault(reason, []).append(name)
    lines += [f'| {", ".join(names)} | {reason} |' for reason, names in reasons.items()]
    lines += ['', '| not resumed exactly | why |', '|---|---|']
    lines += [f'| {name} | {reason} |' for name, (_, reason) in NOT_RESUMED.items()]
    return '\n'.join(lines)


def _list_by_host(names: list[str]) -> list[str]:
    lines = []
    for host in HOSTS:
        own = [name.split('/')[1] for name in names if name.startswith(f'{host}/')]
        if own:
            lines += textwrap.wrap(f'- {host}: {", ".join(own)}', 100, subsequent_indent='  ')
    return lines


if __name__ == '__main__':
    print(write_table())
