"""The README's own words run as written."""

import re
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import protuning_mm
from protuning_mm.data.classes import wrong_labels
from tests.mini import REPO

BLOCKS = re.findall(r'```python\n(.*?)```', (REPO / 'README.md').read_text(), re.DOTALL)


def build(text: str, folder: Path) -> tuple[Config, nn.Module]:
    path = folder / 'my_config.py'
    path.write_text(text)
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        return cfg, registry.build(cfg.model)


def test_own_data_in_coco_s_layout(tmp_path: Path) -> None:
    cfg, model = build(BLOCKS[0], tmp_path)
    assert [head.fc_cls.out_features for head in model.roi_head.bbox_head] == [4] * 3
    assert [head.conv_logits.out_channels for head in model.roi_head.mask_head] == [3] * 3
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.data_root == 'data/mine/'
        assert tuple(loader.dataset.metainfo.classes) == ('cat', 'dog', 'fox')
    assert cfg.val_dataloader.dataset.ann_file == 'annotations/instances_val2017.json'
    assert cfg.auto_scale_lr.enable and cfg.train_dataloader.batch_size == 2


def test_own_data_in_ade20k_s_layout(tmp_path: Path) -> None:
    cfg, model = build(BLOCKS[1], tmp_path)
    assert model.decode_head.conv_seg.out_channels == model.auxiliary_head.conv_seg.out_channels == 2
    assert cfg.val_dataloader.dataset.type == 'BaseSegDataset'
    assert cfg.train_dataloader.dataset.data_prefix.img_path == 'images/training'
    # label 0 is a class, or with one more setting it is none, and the pipelines do not contradict
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert not loader.dataset.get('reduce_zero_label')
        for reduce in (False, True):
            assert wrong_labels('dataset', dict(loader.dataset, reduce_zero_label=reduce), 'mmseg') is None


def test_backbone_by_itself() -> None:
    scope: dict = {}
    (block,) = (block for block in BLOCKS if 'ProTunedResNet' in block)
    code = block.replace('backbone.init_weights()\n', '')  # would download
    assert code != block
    exec(code, scope)
    assert isinstance(scope['backbone'], protuning_mm.ProTunedResNet)
