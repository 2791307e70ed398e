"""tools/multitask.py writes one picture for each image, with a panel for each task."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from protuning_lab.benchmarks import multitask as benchmark_multitask
from protuning_mm.cli.multitask import main, split_task
from protuning_mm.multitask.drawing import draw_tasks
from tests.test_multitask.tasks import Workshop


@pytest.fixture(scope='module')
def written(workshop: Workshop) -> list[str]:
    arguments = []
    for i, kind in enumerate(('det', 'seg', 'cls')):
        cfg, checkpoint = workshop.task(kind, seed=i)
        config = workshop.folder / f'dumped_{kind}.py'
        cfg.dump(config)
        arguments += ['--task', f'my {kind}={config},{checkpoint}']
    return arguments


def test_one_picture_with_a_panel_for_each_task(workshop: Workshop, written: list[str], tmp_path: Path) -> None:
    """There are four panels: the image and three results. They all differ."""
    images = workshop.images[:2]
    main([*written, '--image', *images, '--out', str(tmp_path), '--device', 'cpu', '--score-thr', '0'])
    assert sorted(path.name for path in tmp_path.iterdir()) == ['0.png', '1.png']
    picture = cv2.imread(str(tmp_path / '0.png'))
    height, width = (picture.shape[0] - 8) // 2, (picture.shape[1] - 8) // 2
    panels = [picture[y : y + height, x : x + width] for y in (0, height + 8) for x in (0, width + 8)]
    assert all(panel[:40].min() < 50 for panel in panels), 'no title'
    bodies = [panel[40:].astype(int) for panel in panels]
    source = cv2.resize(cv2.imread(images[0]), (width, height - 40))
    assert np.abs(bodies[0] - source).max() == 0
    for i, one in enumerate(bodies):
        for other in bodies[i + 1 :]:
            assert (np.abs(one - other).max(-1) > 20).mean() > 0.005


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        (['--task', 'nothing'], 'NAME=CONFIG,CHECKPOINT'),
        (['--task', 'other=nowhere.py,nowhere.pth'], 'no config'),
        (['--image', 'nowhere.jpg'], 'does not exist'),
    ],
)
def test_messages_of_wrong_arguments(changed: list[str], message: str, workshop: Workshop, tmp_path: Path) -> None:
    arguments = ['--image', workshop.images[0], '--out', str(tmp_path)]
    with pytest.raises(SystemExit, match=message):
        main(arguments + changed + (['--task', 'a=b,c'] if '--task' not in changed else []))


def test_split_task_with_commas_and_equals_signs() -> None:
    assert split_task('a=b.py,c=1,2.pth') == ('a', 'b.py', 'c=1,2.pth')


def test_draw_a_task_without_class_names(workshop: Workshop) -> None:
    """The checkpoint of this segmentor names no classes."""
    from protuning_mm.multitask import MultiTask

    multitask = MultiTask()
    multitask.add('seg', *workshop.task('seg'))
    task: Any = multitask.task('seg')
    task.meta.clear()
    image = cv2.imread(workshop.images[0])
    result = multitask.predict(dict(seg=image))['seg'][0]
    assert draw_tasks(image, dict(seg=result), dict(seg=task)).shape[2] == 3


def test_benchmark(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """The reported sizes are right: all tasks together hold the base once, k separate models hold it k times."""
    import json

    out = tmp_path / 'figures.json'
    benchmark_multitask.main(
        ['--depth', '18', '--size', '32', '--tasks', '1', '3', '--rounds', '1', '--json', str(out)]
    )
    one, three = json.loads(out.read_text())['rows']
    assert three['held'] == pytest.approx(three['base'] + three['deltas'], rel=1e-6)
    assert three['deltas'] == pytest.approx(3 * one['deltas'], rel=1e-3)
    assert three['separate'] == pytest.approx(3 * (one['base'] + one['deltas']), rel=1e-3)
    assert '| 3 |' in capsys.readouterr().out
