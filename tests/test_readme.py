"""What the README, docs/python.md and docs/data.md show runs as written."""

import re
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import protuning_mm
from protuning_mm.cli.init_plan import Plan
from protuning_mm.data.classes import find_label_config_fault
from protuning_mm.engine.config import read_config
from tests.mini import REPO, write_coco
from tests.plain import SMALL, disturb, relative_error

README, BLOCKS, DATA_BLOCKS = (
    re.findall(r'```python\n(.*?)```', (REPO / name).read_text(), re.DOTALL)
    for name in ('README.md', 'docs/python.md', 'docs/data.md')
)


def build(text: str, folder: Path) -> tuple[Config, nn.Module]:
    path = folder / 'my_config.py'
    path.write_text(text)
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        return cfg, registry.build(cfg.model)


@pytest.mark.parametrize('block', [README[0], DATA_BLOCKS[0]])
def test_folder_of_converted_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: str) -> None:
    monkeypatch.chdir(tmp_path)
    protuning_mm.convert_data(write_coco(tmp_path / 'coco'), re.findall("data = '(.*)'", block)[0], kind='coco')
    (tmp_path / 'my_config.py').write_text(block)
    cfg = read_config('my_config.py')
    init_default_scope(cfg.default_scope)
    head = MODELS.build(cfg.model).roi_head.bbox_head
    assert {each.fc_cls.out_features for each in (head if isinstance(head, nn.ModuleList) else [head])} == {4}
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert Path(loader.dataset.ann_file).is_file() and loader.dataset.metainfo.classes == ['a', 'b', 'c']


def test_config_that_init_writes() -> None:
    plan = Plan(
        base='protuning_mm::det/rtmdet_dinov3-s_protune.py', data='mine_data', repeats=1, tuning=None, side=512,
        batch=8, workers=2, base_batch=256, weights=None, wrapped=True, metric='coco/bbox_mAP'
    )  # fmt: skip
    assert plan.write() == DATA_BLOCKS[1]


def test_own_data_in_coco_s_layout(tmp_path: Path) -> None:
    cfg, model = build(DATA_BLOCKS[3], tmp_path)
    assert [head.fc_cls.out_features for head in model.roi_head.bbox_head] == [4] * 3
    assert [head.conv_logits.out_channels for head in model.roi_head.mask_head] == [3] * 3
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.data_root == 'data/mine/'
        assert tuple(loader.dataset.metainfo.classes) == ('cat', 'dog', 'fox')
    assert cfg.val_dataloader.dataset.ann_file == 'annotations/instances_val2017.json'
    assert cfg.auto_scale_lr.enable and cfg.train_dataloader.batch_size == 2


def test_own_data_in_ade20k_s_layout(tmp_path: Path) -> None:
    cfg, model = build(DATA_BLOCKS[4], tmp_path)
    assert model.decode_head.conv_seg.out_channels == model.auxiliary_head.conv_seg.out_channels == 2
    assert cfg.val_dataloader.dataset.type == 'BaseSegDataset'
    assert cfg.train_dataloader.dataset.data_prefix.img_path == 'images/training'
    # label 0 is a class, or with one more setting it is none, and the pipelines do not contradict
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert not loader.dataset.get('reduce_zero_label')
        for reduce in (False, True):
            assert find_label_config_fault('dataset', dict(loader.dataset, reduce_zero_label=reduce), 'mmseg') is None


def test_backbone_by_itself() -> None:
    scope: dict = {}
    (block,) = (block for block in BLOCKS if 'ProTunedResNet' in block)
    code = block.replace('backbone.init_weights()\n', '')  # would download
    assert code != block
    exec(code, scope)
    assert isinstance(scope['backbone'], protuning_mm.ProTunedResNet)


def test_plain_loop_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    torch.save(timm.create_model('resnet18', num_classes=10).state_dict(), tmp_path / 'resnet18.pth')
    own = README[1].replace('pretrained=True', "checkpoint_path='resnet18.pth'")
    assert own != README[1]
    monkeypatch.chdir(tmp_path)
    images, labels = torch.randn(4, 3, 64, 64), torch.arange(4)
    scope: dict = dict(batches=[(images, labels)] * 2)
    exec(own, scope)
    with torch.no_grad():
        assert torch.equal(scope['again'].eval()(images), scope['model'].eval()(images))


def test_plain_loop_and_the_paper_s_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty steps, saved, loaded and merged; a random network stands for the published weights."""
    (code,) = (block for block in BLOCKS if 'save_delta' in block)
    (loop,) = (block for block in BLOCKS if 'backbone.stem' in block)
    timm_s = tmp_path / 'resnet18.pth'
    torch.manual_seed(0)
    torch.save(timm.create_model('resnet18', num_classes=10).state_dict(), timm_s)
    own = code.replace('pretrained=True', f'checkpoint_path={str(timm_s)!r}')
    assert own != code
    monkeypatch.chdir(tmp_path)
    images, labels = torch.randn(4, 3, 64, 64), torch.arange(4)
    scope: dict = dict(batches=[(images, labels)] * 20)
    exec(own, scope)
    model, again, plain = (scope[name].eval() for name in ('model', 'again', 'plain'))
    assert (tmp_path / 'task.pth').stat().st_size < timm_s.stat().st_size / 10
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
        assert relative_error(model.head(plain(images)), model(images)) < 1e-5
    backbone = protuning_mm.ProTunedResNet(depth=18, host='mmdet', allow_random_backbone=True, **SMALL).eval()
    disturb(backbone.prompts)
    scope = dict(backbone=backbone, image=images)
    with torch.no_grad():
        exec(loop, scope)
        assert relative_error(scope['x'], backbone(images)[-1]) < 1e-5
