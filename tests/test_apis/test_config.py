"""What the command line does to a config."""

from pathlib import Path

from protuning_mm.apis.train import build_config, parse_args
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


def test_recipes_start_from_a_trained_model() -> None:
    cfg = config(path='configs/det/cascade_mask_rcnn_r50_protune_from_coco.py')
    assert cfg.load_from.endswith('9d4dcb24.pth') and cfg.auto_scale_lr.enable
    assert cfg.train_dataloader.batch_size == 2 and cfg.model.backbone.init_cfg is None
    cfg = config(path='configs/seg/upernet_r50_protune_from_ade20k.py')
    assert cfg.load_from.endswith('8534de8d.pth') and cfg.auto_scale_lr.enable
    assert cfg.train_dataloader.batch_size == 2 and cfg.model.pretrained is None
