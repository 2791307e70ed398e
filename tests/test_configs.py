"""The eight configs and their heirs: what is trained, whose classes, and one real step of each kind."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.registry import FUNCTIONS as COLLATE
from torch import nn

import protuning_mm
from tests.mini import MODELS as OURS
from tests.mini import REPO, write_config
from tests.plain import assert_identical

# millions, from the issue: trained with the prompts, and by full fine-tuning
TRAINED = {
    'det/cascade_mask_rcnn_r50': (57.43, 77.32),
    'det/htc_r50': (60.36, 80.26),
    'seg/fcn_r50': (29.69, 49.60),
    'seg/upernet_r50': (46.60, 66.52),
}


def build(cfg: Config) -> nn.Module:
    init_default_scope(cfg.default_scope)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        return registry.build(cfg.model)


def trained(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize('name', list(TRAINED))
def test_trained_parameters_and_classes(name: str) -> None:
    """At full size, ± 0.5 %; the twin trains everything; beside the backbone both are the host's same classes."""
    counts, kinds = [], []
    for kind in ('protune', 'finetune'):
        cfg = Config.fromfile(REPO / f'configs/{name}_{kind}.py')
        model = build(cfg)
        counts.append(sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6)
        kinds.append(
            {n: type(m) for n, m in model.named_modules() if n.split('.')[0] not in ('backbone', 'data_preprocessor')}
        )
        backbone = model.backbone
        del model
        if kind == 'protune':
            assert type(backbone) is protuning_mm.ProTunedResNet
            assert len(backbone.stages) == len(backbone.prompts) == 4
            names = {f'prompts.{n}' for n, _ in backbone.prompts.named_parameters()}
            assert trained(backbone) == names
        else:
            assert type(backbone).__module__.split('.')[0] == cfg.default_scope
            assert all(p.requires_grad for p in backbone.parameters())
    assert counts == pytest.approx(TRAINED[name], rel=0.005)
    assert kinds[0] == kinds[1]
    hosts = {t.__module__.split('.')[0] for t in kinds[0].values()}
    assert 'protuning_mm' not in hosts


@pytest.mark.parametrize('name', list(TRAINED))
def test_overrides_only_what_pro_tuning_changes(name: str) -> None:
    """Data, schedule, heads and losses are the host's: the twins differ in the backbone and the constructor alone."""
    tuned, full = (Config.fromfile(REPO / f'configs/{name}_{kind}.py').to_dict() for kind in ('protune', 'finetune'))
    for cfg in (tuned, full):
        cfg['model'].pop('backbone')
        cfg['optim_wrapper'].pop('constructor', None)
    assert tuned['default_hooks'].pop('audit') and tuned['default_hooks'].pop('resume')
    for key in ('protune_backbone', 'protune_any_backbone', 'protune_optim_wrapper', 'protune_hooks'):
        assert tuned.pop(key)
    assert tuned == full


USER = """
_base_ = {base!r}
model = dict(roi_head=dict(bbox_head=[
    dict(type='Shared2FCBBoxHead', in_channels=256, fc_out_channels=64, roi_feat_size=7,
         num_classes=7, reg_class_agnostic=True,
         bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
         loss_cls=dict(type='CrossEntropyLoss'), loss_bbox=dict(type='SmoothL1Loss'))
    for _ in range(3)]), backbone=dict(depth=18, base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64]))
custom_imports = dict(imports=['users_own_module'], allow_failed_imports=False)
custom_hooks = [dict(type='UsersHook')]
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a user's own, with a module that their config imports."""
    (tmp_path / 'users_own_module.py').write_text(
        'from mmengine.hooks import Hook\n'
        'from mmengine.registry import HOOKS\n\n\n'
        '@HOOKS.register_module(force=True)\nclass UsersHook(Hook):\n    pass\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_user_config_inherits_ours(user: Path) -> None:
    """`_base_` by absolute path, num_classes, custom_imports and custom_hooks of their own: ours still works."""
    base = str(REPO / 'configs/det/cascade_mask_rcnn_r50_protune.py')
    (user / 'mine.py').write_text(USER.format(base=base))
    cfg = Config.fromfile(user / 'mine.py')
    assert cfg.custom_imports.imports == ['users_own_module']
    model = build(cfg)
    assert [h.fc_cls.out_features for h in model.roi_head.bbox_head] == [8, 8, 8]
    assert type(model.backbone) is protuning_mm.ProTunedResNet
    from mmengine.registry import HOOKS

    from protuning_mm.engine import CheckpointHook, FrozenAuditHook, TuningHook

    kinds = {key: type(HOOKS.build(cfg.default_hooks[key])) for key in ('checkpoint', 'tuning', 'audit')}
    assert kinds == dict(checkpoint=CheckpointHook, tuning=TuningHook, audit=FrozenAuditHook)
    assert type(HOOKS.build(cfg.custom_hooks[0])).__name__ == 'UsersHook'


def test_user_config_by_package_name(user: Path) -> None:
    """`_base_ = 'protuning_mm::…'`, once the package is imported and its configs are installed with it."""
    if not (Path(protuning_mm.__file__).parent / '.mim/configs').exists():
        pytest.skip('the package is not installed: no .mim/configs beside it (make setup)')
    (user / 'mine.py').write_text(USER.format(base='protuning_mm::det/cascade_mask_rcnn_r50_protune.py'))
    model = build(Config.fromfile(user / 'mine.py'))
    assert [h.fc_cls.out_features for h in model.roi_head.bbox_head] == [8, 8, 8]
    assert type(model.backbone) is protuning_mm.ProTunedResNet


CONFIGS = sorted(path.relative_to(REPO / 'configs').as_posix() for path in (REPO / 'configs').glob('[!_]*/*.py'))
QUICK = ('cls/r50_lora_cifar100.py', 'det/cascade_mask_rcnn_swin-s_protune.py', 'seg/upernet_r50_protune.py')


@pytest.mark.parametrize('name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CONFIGS])
def test_config_by_name_equals_config_by_path(name: str, tmp_path: Path) -> None:
    """`_base_ = 'protuning_mm::…'` and the file's path: the same settings, looked up in the same host."""
    if not (Path(protuning_mm.__file__).parent / '.mim/configs').exists():
        pytest.skip('the package is not installed: no .mim/configs beside it (make setup)')
    (tmp_path / 'by_name.py').write_text(f"_base_ = 'protuning_mm::{name}'\n")
    by_name, by_path = (Config.fromfile(path).to_dict() for path in (tmp_path / 'by_name.py', REPO / 'configs' / name))
    if name.endswith('_demo.py'):  # names a file beside itself
        by_name, by_path = (str(cfg).replace('protuning_mm/.mim/', '') for cfg in (by_name, by_path))
    assert by_name == by_path


@pytest.mark.parametrize('config', ['det/htc_r50_protune.py', 'seg/fcn_r50_protune.py'])
def test_delta_fragment(config: str, tmp_path: Path) -> None:
    """As docs/deltas.md has it: the hook's class changes, what the host says of checkpoints stays."""
    text = (
        f"_base_ = ['{REPO}/configs/{config}', '{REPO}/configs/_base_/delta.py']\ndefault_hooks = _base_.delta_hooks\n"
    )
    (tmp_path / 'mine.py').write_text(text)
    hooks, before = (Config.fromfile(path).default_hooks for path in (tmp_path / 'mine.py', REPO / 'configs' / config))
    assert hooks.checkpoint.pop('type') == 'protuning_mm.DeltaCheckpointHook'
    assert before.checkpoint.pop('type') == 'protuning_mm.CheckpointHook'
    assert hooks == before


FRESH = """
import sys
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
assert 'protuning_mm' not in sys.modules
for path in sys.argv[1:]:
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        print(type(registry.build(cfg.model).backbone).__name__)
"""


def test_dumped_configs_build_in_a_fresh_interpreter(user: Path, tmp_path: Path) -> None:
    """Flattened, with a user's custom_imports in place of ours, and without an import of the package."""
    base = str(REPO / 'configs/det/cascade_mask_rcnn_r50_protune.py')
    (user / 'mine.py').write_text(USER.format(base=base))
    Config.fromfile(user / 'mine.py').dump(tmp_path / 'det.py')
    text = (tmp_path / 'det.py').read_text()
    assert '_base_' not in text and 'protuning_mm.ProTunedResNet' in text
    seg = Config.fromfile(REPO / 'configs/seg/upernet_r50_protune.py')
    seg.dump(tmp_path / 'seg.py')
    done = subprocess.run(
        [sys.executable, '-c', FRESH, str(tmp_path / 'det.py'), str(tmp_path / 'seg.py')],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split()[-2:] == ['ProTunedResNet'] * 2, done.stderr[-2000:]


def batch(loader: dict[str, Any], scope: str, size: int) -> Any:
    """Real samples: the first of the config's own data set, through its own pipeline, collated."""
    init_default_scope(scope)
    dataset = DATASETS.build(loader['dataset'])
    return COLLATE.get('pseudo_collate')([dataset[i] for i in range(size)])


@pytest.mark.parametrize('name', list(OURS))
def test_one_train_val_and_test_step(name: str, tmp_path: Path) -> None:
    """Shrunken: a finite loss, gradients on exactly what is trained, predictions; frozen tensors as they were."""
    cfg = Config.fromfile(write_config(name, tmp_path))
    model = build(cfg)
    model.init_weights()
    frozen = torch.load(next(tmp_path.glob('resnet18*.pth')), weights_only=True)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)

    model.train()
    scope = cfg.default_scope
    data = model.data_preprocessor(batch(cfg.train_dataloader, scope, 2), training=True)
    loss, log = model.parse_losses(model(**data, mode='loss'))
    assert torch.isfinite(loss) and loss > 0, log
    loss.backward()
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    idle = trained(model) - with_gradient
    assert with_gradient <= trained(model)
    assert not idle, f'trained, but without a gradient: {sorted(idle)}'
    model.zero_grad()

    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    for _ in range(2):
        model.train_step(batch(cfg.train_dataloader, scope, 2), optimizer)
    moved = {n for n, p in model.named_parameters() if n in before and not torch.equal(p, before[n])}
    assert {n for n in moved if n.startswith('backbone.')} == {n for n in before if n.startswith('backbone.')}
    assert_identical(model.backbone.state_dict(), frozen)

    model.eval()
    for step, loader in ((model.val_step, cfg.val_dataloader), (model.test_step, cfg.test_dataloader)):
        with torch.no_grad():
            samples = step(batch(loader, scope, 1))
        assert len(samples) == 1
        if scope == 'mmdet':
            found = samples[0].pred_instances
            assert {'bboxes', 'scores', 'labels', 'masks'} <= set(found.keys())
            assert len(found.masks) == len(found.bboxes)
        else:
            labels = samples[0].pred_sem_seg.data
            assert labels.shape[-2:] == samples[0].ori_shape and int(labels.max()) < 3
