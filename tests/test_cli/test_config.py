"""The effect of the command line on a config."""

from pathlib import Path

import pytest

from protuning_mm.cli.train import build_config, parse_args
from protuning_mm.engine.config import read_config
from protuning_mm.engine.errors import ConfigError
from tests.mini import REPO


def config(*flags: str, path: str = 'configs/det/htc_r50_protune.py'):
    return build_config(parse_args([str(REPO / path), *flags]))


def test_data_root_moves_every_path() -> None:
    cfg = config('--cfg-options', 'data_root=/data/mine')
    assert cfg.train_dataloader.dataset.data_root == '/data/mine/'
    assert cfg.val_dataloader.dataset.data_root == '/data/mine/'
    assert cfg.val_evaluator.ann_file == '/data/mine/annotations/instances_val2017.json'
    assert cfg.test_evaluator.ann_file == '/data/mine/annotations/instances_val2017.json'


def test_work_dir_is_named_after_the_config() -> None:
    assert Path(config().work_dir) == Path('work_dirs/htc_r50_protune')
    assert config('--work-dir', 'elsewhere').work_dir == 'elsewhere'


def test_auto_scale_lr_and_resume() -> None:
    cfg = config('--auto-scale-lr', '--resume', 'a.pth')
    assert cfg.auto_scale_lr.enable and cfg.resume and cfg.load_from == 'a.pth'
    assert config('--resume').load_from is None


def test_from_coco_and_from_ade20k_start_from_a_trained_model() -> None:
    cfg = config(path='configs/det/cascade_mask_rcnn_r50_protune_from_coco.py')
    assert cfg.load_from.endswith('9d4dcb24.pth') and cfg.auto_scale_lr.enable
    assert cfg.train_dataloader.batch_size == 2 and cfg.model.backbone.init_cfg is None
    cfg = config(path='configs/seg/upernet_r50_protune_from_ade20k.py')
    assert cfg.load_from.endswith('8534de8d.pth') and cfg.auto_scale_lr.enable
    assert cfg.train_dataloader.batch_size == 2 and cfg.model.pretrained is None


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a = 1\nb = undefined\n', r"bad.py, line 2: NameError: name 'undefined' is not defined"),
        ('a = 1\n\nb = (\n', r'bad.py, line 3: SyntaxError'),
        ("_base_ = './worse.py'\n", r'worse.py, line 3: ZeroDivisionError: division by zero'),
        ("_base_ = './nope.py'\n", r'nope.py: FileNotFoundError: .*nope.py'),
    ],
)
def test_unreadable_config_names_file_and_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / 'worse.py').write_text('a = 1\n\nb = a / 0\n')
    (tmp_path / 'bad.py').write_text(text)
    with pytest.raises(ConfigError, match=f'config .*bad.py cannot be read: .*{message}'):
        read_config(tmp_path / 'bad.py')


@pytest.mark.parametrize('option', ['model.backbone.depth.x=1', 'model.roi_head.bbox_head.7.type=A'])
def test_unfit_option_is_named(option: str) -> None:
    with pytest.raises(ConfigError, match=f'--cfg-options {option} does not fit the config: '):
        config('--cfg-options', option)


@pytest.mark.parametrize('option', ['model', 'a=[1,(2]'])
def test_option_without_value_is_an_argparse_error(option: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        config('--cfg-options', 'b=1', option)
    assert stop.value.code == 2 and 'KEY=VALUE' in capsys.readouterr().err
