"""Every config with every tuning: by `_base_` and a fragment, by --cfg-options, and twenty iterations of the demos."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from demo.data import make_data
from protuning_lab.parameter_grid import no_memory
from protuning_mm import TunedBackbone, TuningError
from protuning_mm.cli.train import main as train_main
from protuning_mm.engine.tuning_options import with_whole_tunings
from tests.mini import REPO
from tests.plain import assert_identical

# classification has its own test of every config; here is one for each kind of backbone
CLS = ('cls/r50_protune_cifar100.py', 'cls/deit-b_protune_stanford-dogs.py', 'cls/swin-s_protune_cifar100.py')
CONFIGS = sorted(str(path.relative_to(REPO / 'configs')) for path in (REPO / 'configs').glob('[ds]e[tg]/*_protune*.py'))
FRAGMENTS = sorted(path.stem for path in (REPO / 'configs/_base_/tunings').glob('*.py'))
TRANSFORMERS = {'adapter', 'adaptformer', 'mona'}
VITS = {'vpt', 'rein'}


def fits(config: str, tuning: str) -> bool:
    vit = 'deit' in config or 'dinov3' in config
    transformer = vit or 'swin' in config
    if 'segformer' in config:  # its MLP contains a convolution and works on feature maps; Mona needs the attention only
        return tuning not in VITS | {'adapter', 'adaptformer', 'conv_adapter', 'ia3'}
    if tuning == 'ia3':
        return transformer and not config.startswith('seg/upernet_deit')  # torch.nn.MultiheadAttention
    if tuning in VITS:
        return vit
    return transformer if tuning in TRANSFORMERS else not (transformer and tuning == 'conv_adapter')


def build(cfg: Config) -> nn.Module:
    init_default_scope(cfg.default_scope)
    with no_memory(), MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        return registry.build(cfg.model)


def with_fragment(config: str, tuning: str, folder: Path) -> Path:
    """What a user writes."""
    path = folder / f'{tuning}.py'
    path.write_text(
        f"_base_ = ['{REPO}/configs/{config}', '{REPO}/configs/_base_/tunings/{tuning}.py']\n"
        'model = dict(backbone=dict(tuning=_base_.tuning))\n'
    )
    return path


def names(backbone: Any) -> list[str]:
    assert isinstance(backbone, TunedBackbone)
    return [tuning.name for tuning in backbone.tunings]


QUICK = ('det/htc_r50_protune.py', 'seg/upernet_deit-s_protune.py')


@pytest.mark.parametrize(
    'config', [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in (*CONFIGS, *CLS)]
)
def test_every_config_takes_every_tuning(config: str, tmp_path: Path) -> None:
    for tuning in FRAGMENTS:
        by_fragment = Config.fromfile(with_fragment(config, tuning, tmp_path))
        by_option = Config.fromfile(REPO / 'configs' / config)
        by_option.merge_from_dict(with_whole_tunings(by_option, {'model.backbone.tuning.type': tuning}))  # as the tools
        for cfg in (by_fragment, by_option):
            if fits(config, tuning):
                assert names(build(cfg).backbone) == [tuning]
            else:
                with pytest.raises(TuningError, match=f'{tuning} needs'):
                    build(cfg)


@pytest.mark.parametrize('config', CONFIGS)
def test_every_config_starts_with_pro_tuning(config: str) -> None:
    assert names(build(Config.fromfile(REPO / 'configs' / config)).backbone) == ['pro']


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data')
    make_data(root, images=40, val_images=2)
    return root


DEMOS = {
    'det/htc_r50_protune_demo.py': ('coco', 'train_cfg.max_epochs=1'),
    'seg/upernet_r50_protune_demo.py': ('ade', 'train_cfg.max_iters=20', 'train_cfg.val_interval=20'),
}


@pytest.mark.slow
@pytest.mark.parametrize('tuning', [name for name in FRAGMENTS if fits('r50', name)])
@pytest.mark.parametrize('config', list(DEMOS))
def test_twenty_iterations(config: str, tuning: str, data: Path, tmp_path: Path) -> None:
    """Through the tool: trained, validated and saved; what is frozen is what the source network was."""
    folder, *length = DEMOS[config]
    train_main(
        [
            str(with_fragment(config, tuning, tmp_path)),
            *('--work-dir', str(tmp_path / 'run'), '--cfg-options', f'data_root={data / folder}', *length),
            *('train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False'),
            *('val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False'),
            *('train_dataloader.batch_size=2', 'default_hooks.logger.interval=1', f'visualizer.name={tmp_path.name}'),
        ]
    )
    last = Path((tmp_path / 'run/last_checkpoint').read_text().strip())
    saved = torch.load(last, weights_only=False)
    assert saved['message_hub']['runtime_info']['iter'] == 19 or last.stem.endswith('20')
    state = {k.removeprefix('backbone.'): v for k, v in saved['state_dict'].items() if k.startswith('backbone.')}
    source = {k: v for k, v in torch.load(REPO / 'demo/source_resnet50_w16.pth').items() if not k.startswith('fc.')}
    backbone = build(Config.fromfile(with_fragment(config, tuning, tmp_path))).backbone
    assert_identical(state, {k: v for k, v in source.items() if k in backbone.frozen_keys})
    changed = {k for k in source if not torch.equal(state[k], source[k])}
    parameters = {k for k, _ in backbone.named_parameters()}
    assert changed & parameters == backbone.trained_keys
    assert all(torch.isfinite(value).all() for value in saved['state_dict'].values())
