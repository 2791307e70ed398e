"""Small data sets in true formats, and small copies of our configs, for tests that go through the tools.

The images are noise with coloured rectangles: enough for every code path, nothing to learn from.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import torch

REPO = Path(__file__).resolve().parents[1]
CLASSES = ('a', 'b', 'c')
MODELS = {
    'cascade': 'det/cascade_mask_rcnn_r50_protune.py',
    'htc': 'det/htc_r50_protune.py',
    'fcn': 'seg/fcn_r50_protune.py',
    'upernet': 'seg/upernet_r50_protune.py',
}
SIZE = (96, 128)  # H, W


def write_coco(root: Path, images: int = 4) -> Path:
    """COCO's layout with stuff maps: three categories, three objects an image."""
    rng = np.random.default_rng(0)
    for split in ('train2017', 'val2017'):
        for folder in (split, f'stuffthingmaps/{split}', 'annotations'):
            (root / folder).mkdir(parents=True, exist_ok=True)
        infos, annotations = [], []
        for i in range(images):
            image, labels, boxes = _draw(rng, background=100)
            cv2.imwrite(str(root / split / f'{i}.jpg'), image)
            cv2.imwrite(str(root / f'stuffthingmaps/{split}/{i}.png'), labels)
            infos.append(dict(id=i, file_name=f'{i}.jpg', height=SIZE[0], width=SIZE[1]))
            for label, (x, y, w, h) in boxes:
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=i,
                        category_id=label + 1,
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                        segmentation=[polygon],
                    )
                )
        content = dict(
            images=infos,
            annotations=annotations,
            categories=[dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)],
        )
        (root / f'annotations/instances_{split}.json').write_text(json.dumps(content))
    return root


def write_ade(root: Path, images: int = 4) -> Path:
    """ADE20K's layout: label 0 is none of the classes."""
    rng = np.random.default_rng(0)
    for split in ('training', 'validation'):
        for folder in ('images', 'annotations'):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        for i in range(images):
            image, labels, _ = _draw(rng, background=255)
            cv2.imwrite(str(root / f'images/{split}/{i}.jpg'), image)
            cv2.imwrite(str(root / f'annotations/{split}/{i}.png'), labels + np.uint8(1))
    return root


def write_backbone(path: Path, host: str = 'mmdet', **resnet: object) -> Path:
    """The weights of a host's ResNet-18, 8 channels wide, with statistics that are not the initial ones."""
    if host == 'mmdet':
        from mmdet.models.backbones import ResNet
    elif host == 'mmseg':
        from mmseg.models.backbones import ResNet
    else:
        from mmpretrain.models.backbones import ResNet
    torch.manual_seed(0)
    plain = ResNet(**{'depth': 18, 'base_channels': 8, **resnet})
    for name, tensor in plain.state_dict().items():
        if name.endswith('running_mean'):
            tensor.normal_(0, 0.1)
        elif name.endswith('running_var'):
            tensor.uniform_(0.5, 2)
    torch.save(plain.state_dict(), path)
    return path


def write_config(model: str, folder: Path, extra: str = '', data: Path | None = None) -> Path:
    """A user's own config: `_base_` on one of ours by its path, every part narrowed, our data set of three classes."""
    kind = 'det' if model in ('cascade', 'htc') else 'seg'
    if kind == 'det':
        weights = write_backbone(folder / 'resnet18.pth')
        data = data or write_coco(folder / 'coco')
        body = _DET.replace('STUFF', _STUFF if model == 'htc' else '')
        body = body.replace('MASK', 'HTCMaskHead' if model == 'htc' else 'FCNMaskHead')
        # the first of HTC's mask heads gets no feature of an earlier one
        body = body.replace('RES', 'with_conv_res=i > 0,' if model == 'htc' else '')
    else:
        weights = write_backbone(folder / 'resnet18v1c.pth', 'mmseg', deep_stem=True)
        data = data or write_ade(folder / 'ade')
        body = _SEG.replace('EXTRA', _UPER if model == 'upernet' else _FCN)
    text = f"_base_ = '{REPO / 'configs' / MODELS[model]}'\nweights = '{weights}'\n" + body
    path = folder / f'tiny_{model}.py'
    path.write_text(text.replace('DATA', str(data)) + extra)
    return path


def write_classifier(path: Path, base: Path, extra: str = '') -> Path:
    """A classifier of mmpretrain on three classes; images keep their size.

    Args:
        path (Path): Where the config is written.
        base (Path): The frozen weights, of a ResNet with `stem_channels=8`.
        extra (str): Python that follows.
    """
    path.write_text(_CLASSIFIER.replace('BASE', repr(str(base))) + extra)
    return path


def _draw(
    rng: np.random.Generator, background: int
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, tuple[int, int, int, int]]]]:
    image = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    labels = np.full(SIZE, background, np.uint8)
    boxes = []
    for label in range(3):
        x, y, w, h = (int(rng.integers(*r)) for r in ((2, 70), (2, 50), (15, 40), (15, 40)))
        image[y : y + h, x : x + w] = (80 * label + 50, 0, 200)
        labels[y : y + h, x : x + w] = label
        boxes.append((label, (x, y, w, h)))
    return image, labels, boxes


_LOADERS = """
load = dict(num_workers=0, persistent_workers=False)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])
"""

_DET = (
    """
classes = ('a', 'b', 'c')
delta = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2])
model = dict(
    backbone=dict(
        depth=18, base_channels=8, init_cfg=dict(type='Pretrained', checkpoint=weights)),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        mask_roi_extractor=dict(out_channels=16),
        STUFF
        bbox_head=[
            dict(type='Shared2FCBBoxHead', in_channels=16, fc_out_channels=32, roi_feat_size=7,
                 num_classes=3, reg_class_agnostic=True, bbox_coder=delta,
                 loss_cls=dict(type='CrossEntropyLoss'), loss_bbox=dict(type='SmoothL1Loss'))
            for _ in range(3)],
        mask_head=[
            dict(type='MASK', RES num_convs=1, in_channels=16, conv_out_channels=16, num_classes=3,
                 loss_mask=dict(type='CrossEntropyLoss', use_mask=True))
            for i in range(3)]),
    train_cfg=dict(rpn_proposal=dict(max_per_img=30)),
    test_cfg=dict(rpn=dict(max_per_img=30), rcnn=dict(max_per_img=10)))
"""
    + _LOADERS
    + """
resize = dict(type='Resize', scale=(128, 96), keep_ratio=True)
meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
test_pipeline = [
    dict(type='LoadImageFromFile'), resize,
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=meta)]
train_dataloader = dict(
    **load, dataset=dict(data_root='DATA', metainfo=dict(classes=classes)))
val_dataloader = dict(
    **load, dataset=dict(
        data_root='DATA', metainfo=dict(classes=classes), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='DATA/annotations/instances_val2017.json')
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=0.002))
train_cfg = dict(max_epochs=1)
"""
)
_STUFF = """semantic_roi_extractor=dict(out_channels=16),
        semantic_head=dict(in_channels=16, conv_out_channels=16, num_convs=1),"""

_SEG = (
    """
bn = dict(type='BN')
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    pretrained=weights,
    backbone=dict(depth=18, base_channels=8, norm_cfg=bn),
    EXTRA
    auxiliary_head=dict(in_channels=32, channels=8, num_classes=3, norm_cfg=bn))
"""
    + _LOADERS
    + """
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomCrop', crop_size=(64, 64)),
    dict(type='PackSegInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs')]
# ADE20KDataset takes none but ADE20K's own classes
own = dict(
    type='BaseSegDataset', img_suffix='.jpg', seg_map_suffix='.png', reduce_zero_label=True,
    data_root='DATA', metainfo=dict(
        classes=('a', 'b', 'c'), palette=[[255, 0, 0], [0, 255, 0], [0, 0, 255]]))
train_dataloader = dict(batch_size=2, **load, dataset=dict(**own, pipeline=train_pipeline))
val_dataloader = dict(**load, dataset=dict(**own, pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=2, val_interval=2)
"""
)
_FCN = 'decode_head=dict(in_channels=64, channels=8, num_classes=3, norm_cfg=bn),'
_UPER = """decode_head=dict(
        in_channels=[8, 16, 32, 64], channels=8, num_classes=3, norm_cfg=bn),"""
_CLASSIFIER = """
custom_imports = dict(imports=['protuning_mm'], allow_failed_imports=False)
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='protuning_mm.ProTunedResNet', depth=18, base_channels=8, stem_channels=8, out_indices=(3,),
        init_cfg=dict(type='Pretrained', checkpoint=BASE)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=64))
data_preprocessor = dict(
    num_classes=3, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
test_dataloader = dict(batch_size=1, dataset=dict(type='CustomDataset', data_root='nowhere', pipeline=pipeline))
"""
