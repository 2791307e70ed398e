"""A study on 32×32 PNG files in class folders; a run of its mmpretrain classifier takes half a second."""

from pathlib import Path

import cv2
import numpy as np

CLASSES = ('dark', 'light', 'green')
CONFIG = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['protuning_mm.engine', 'mmpretrain.models', 'mmpretrain.datasets'])
data_preprocessor = dict(num_classes=3, mean=[127.0] * 3, std=[60.0] * 3)
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='protuning_mm.TunedBackbone',
        backbone=dict(
            type='ResNet', depth=18, stem_channels=8, base_channels=4, out_indices=(3,), norm_cfg=dict(type='BN')
        ),
        tuning=dict(type='linear'),
        allow_random_backbone=True,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=32, topk=(1,)),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]


def loader(split, shuffle):
    return dict(
        batch_size=6,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
        dataset=dict(type='CustomDataset', data_root={root!r}, data_prefix=split, pipeline=pipeline),
    )


train_dataloader = loader('train', True)
val_dataloader = loader('val', False)
test_dataloader = loader('test', False)
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1,))
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = test_cfg = dict()
optim_wrapper = dict(
    constructor='protuning_mm.TrainableOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
)
default_hooks = dict(tuning=dict(type='protuning_mm.TuningHook'))
"""
STUDY = """
work_dir = {work_dir!r}
config = 'base.py'
axes = dict(
    size=dict(few={{'train_dataloader.dataset.data_prefix': 'train'}}, longer={{'train_cfg.max_epochs': 3}}),
    tuning=dict(linear={{}}, bias={{'model.backbone.tuning.type': 'bias'}}),
)
learning_rate = dict(values=(0.01, 0.1), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1)
table = dict(rows='tuning', columns=('size',), metric='accuracy/top1', digits=1)
"""


def write_images(root: Path, number: int = 4) -> None:
    """Write three classes of noise around three colours, in three splits."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val', 'test'):
        for name, colour in zip(CLASSES, ((60, 60, 60), (190, 190, 190), (60, 160, 60))):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                image = rng.normal(colour, 50, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / f'{i}.png'), image)


def write_study(folder: Path, study: str = STUDY, config: str = CONFIG) -> Path:
    """Write images, the config and a study; ``{work_dir}`` and ``{root}`` in their text become folders."""
    if not (folder / 'data').exists():
        write_images(folder / 'data')
    (folder / 'base.py').write_text(config.replace('{root!r}', repr(str(folder / 'data'))))
    path = folder / 'toy.py'
    path.write_text(study.format(work_dir=str(folder / 'work')))
    return path
