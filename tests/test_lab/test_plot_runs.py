"""tools/analysis_tools/plot_runs.py: the curves equal what runs logged, also resumed runs."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from protuning_lab.pictures import plot_runs as tool
from protuning_lab.pictures.figures import PictureError, spread_labels
from protuning_lab.pictures.run_logs import Curve, find_runs, mean_curve, smooth
from tests.tiny import TinyClassifier, Weights, runner, tuned_resnet


def trained(step: int, **values: float) -> str:
    return json.dumps(dict(values, iter=step, step=step, epoch=(step - 1) // 10 + 1))


def validated(step: int, **values: float) -> str:
    return json.dumps(dict(values, step=step))


def write_log(folder: Path, stamp: str, lines: list[str]) -> Path:
    path = folder / stamp / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(lines) + '\n')
    return path


def write_run(folder: Path, slope: float = 1.0, epochs: int = 3) -> Path:
    """Write a log with ten iterations per epoch, logged every five iterations."""
    lines = []
    for epoch in range(1, epochs + 1):
        lines += [trained(10 * epoch - 5, loss=slope / (10 * epoch - 5)), trained(10 * epoch, loss=slope / epoch / 10)]
        lines.append(validated(epoch, **{'accuracy/top1': slope * epoch}))
    write_log(folder, '20260101_000000', lines)
    return folder


def curve(folder: Path, metric: str) -> Curve:
    (run,) = find_runs([folder])
    return run.curve(metric)


def test_metrics_of_training_and_of_validation(tmp_path: Path) -> None:
    folder = write_run(tmp_path / 'run')
    loss = curve(folder, 'loss')
    assert (loss.steps, loss.unit, loss.trained) == ([5, 10, 15, 20, 25, 30], 'iteration', True)
    assert loss.values == [1 / 5, 1 / 10, 1 / 15, 1 / 20, 1 / 25, 1 / 30]
    assert curve(folder, 'accuracy/top1') == Curve([1, 2, 3], [1, 2, 3], 'epoch', False)
    assert curve(folder / '20260101_000000', 'loss') == loss


def test_validations_of_iteration_based_runs(tmp_path: Path) -> None:
    lines = [trained(50, loss=1), validated(60, mIoU=3), trained(100, loss=2), validated(120, mIoU=4)]
    write_log(tmp_path / 'run', '20260101_000000', lines)
    assert curve(tmp_path / 'run', 'mIoU') == Curve([60, 120], [3, 4], 'iteration', False)


def test_resumed_run_is_one_curve(tmp_path: Path) -> None:
    """Killed in the third epoch and resumed from the end of the second; the last values of repeated steps count."""
    run = tmp_path / 'run'
    first = [
        trained(5, loss=9), trained(10, loss=8), validated(1, top1=10),
        trained(15, loss=7), trained(20, loss=6), validated(2, top1=20),
        trained(25, loss=5), trained(30, loss=4), validated(3, top1=-1),
    ]  # fmt: skip
    write_log(run, '20260101_000000', [*first, '{"loss": 0.1, "it'])  # the kill cut off a line
    write_log(run, '20260102_000000', [trained(25, loss=50), trained(30, loss=40), validated(3, top1=30)])
    write_log(run, '20260103_000000', [])  # died before it logged anything
    assert curve(run, 'loss').steps == [5, 10, 15, 20, 25, 30]
    assert curve(run, 'loss').values == [9, 8, 7, 6, 50, 40]
    assert curve(run, 'top1') == Curve([1, 2, 3], [10, 20, 30], 'epoch', False)


def test_validation_of_repeated_steps_is_dropped(tmp_path: Path) -> None:
    """Resumed from iteration 40, and killed before it validates again."""
    run = tmp_path / 'run'
    lines = [trained(40, loss=3), validated(40, mIoU=1), trained(50, loss=2), validated(50, mIoU=2)]
    write_log(run, '20260101_000000', lines)
    write_log(run, '20260102_000000', [trained(50, loss=20)])
    assert curve(run, 'mIoU') == Curve([40], [1], 'iteration', False)
    assert curve(run, 'loss') == Curve([40, 50], [3, 20], 'iteration', True)


def test_new_run_replaces_the_old_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / 'run')
    write_log(run, '20260102_000000', [trained(5, loss=70), trained(10, loss=60), validated(1, **{'accuracy/top1': 9})])
    assert curve(run, 'loss') == Curve([5, 10], [70, 60], 'iteration', True)
    assert curve(run, 'accuracy/top1') == Curve([1], [9], 'epoch', False)


def test_logs_of_a_real_run_that_is_resumed(tmp_path: Path, weights: Weights) -> None:
    """Logs of mmengine: two iterations per epoch, two epochs, then two more."""
    work_dir = tmp_path / 'run'

    def model() -> TinyClassifier:
        return TinyClassifier(tuned_resnet(weights(depth=18)))

    runner(model(), work_dir, epochs=2).train()
    (first,) = work_dir.glob('*/vis_data')
    first.parent.rename(work_dir / '20200101_000000')  # two runs of one second would share a folder
    logged = [json.loads(line) for line in (work_dir / '20200101_000000/vis_data/scalars.json').open()]
    resumed = runner(model(), work_dir, epochs=4, resume=True)
    resumed.train()
    (second,) = (path.parent for path in work_dir.glob('*/vis_data') if path.parent.name != '20200101_000000')
    logged += [json.loads(line) for line in (second / 'vis_data/scalars.json').open()]
    loss, score = curve(work_dir, 'loss'), curve(work_dir, 'score')
    assert loss.steps == [2, 4, 6, 8] and score.steps == [1, 2, 3, 4]
    assert (loss.unit, score.unit) == ('iteration', 'epoch')
    assert loss.values == [line['loss'] for line in logged if 'loss' in line]
    assert score.values == [line['score'] for line in logged if 'score' in line]


def test_folder_of_work_dirs(tmp_path: Path) -> None:
    """As compare_runs.py writes them: one folder per variant and seed."""
    for name in ('pro_seed0', 'pro_seed1', 'off_seed0'):
        write_run(tmp_path / 'compare' / name)
    (tmp_path / 'compare/metric.json').write_text('1')
    runs = find_runs([tmp_path / 'compare'])
    assert [run.name for run in runs] == ['off_seed0', 'pro_seed0', 'pro_seed1']
    assert [run.group for run in runs] == ['off', 'pro', 'pro']


def test_names_are_the_shortest_distinct_paths(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / 'a/run'), write_run(tmp_path / 'b/run')]
    assert [run.name for run in find_runs(folders)] == ['a/run', 'b/run']
    assert [run.name for run in find_runs(folders, ['one', 'two'])] == ['one', 'two']
    with pytest.raises(PictureError, match='1 names for 2 runs'):
        find_runs(folders, ['one'])
    with pytest.raises(PictureError, match='given twice'):
        find_runs([folders[0]] * 2)


def test_smoothing_is_a_weighted_mean() -> None:
    values, weight = [3.0, -1.0, 4.0, 1.0, 5.0], 0.7
    for k, got in enumerate(smooth(values, weight)):
        shares = np.array([weight ** (k - i) for i in range(k + 1)])
        assert got == pytest.approx(np.dot(shares / shares.sum(), values[: k + 1]))
    assert smooth(values, 0) == values
    assert smooth([2.0] * 5, 0.9) == pytest.approx([2.0] * 5)


def test_mean_curve_uses_common_steps() -> None:
    curves = [Curve([1, 2, 3], [1, 2, 3], 'epoch', False), Curve([2, 3, 4], [4, 7, 9], 'epoch', False)]
    assert mean_curve(curves) == Curve([2, 3], [3, 5], 'epoch', False)


@pytest.mark.parametrize('wanted', [[0.5, 0.5, 0.5], [0.0, 0.01, 0.9, 0.92, 0.91], [3.0, 1.0, 2.0], [0.2]])
def test_labels_keep_their_distance_and_their_order(wanted: list[float]) -> None:
    placed = spread_labels(wanted, 0.1)
    ranked = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gaps = np.diff([placed[i] for i in ranked])
    assert (gaps >= 0.1 - 1e-9).all()
    assert np.mean(placed) == pytest.approx(np.mean(wanted))
    if len(wanted) < 2 or np.diff(sorted(wanted)).min() >= 0.1:
        assert placed == pytest.approx(wanted)


def lines_of(axes: Any) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def test_drawn_curves(tmp_path: Path) -> None:
    runs = find_runs([write_run(tmp_path / name, slope) for name, slope in (('one', 1.0), ('two', 2.0))])
    left, right = tool.plot_runs(runs, ['loss', 'accuracy/top1'], smoothing=0.5).axes
    loss = runs[1].curve('loss')
    assert lines_of(left)[2:] == [(loss.steps, loss.values), (loss.steps, smooth(loss.values, 0.5))]
    # validation metrics are not smoothed
    assert lines_of(right) == [([1, 2, 3], [1, 2, 3]), ([1, 2, 3], [2, 4, 6])]
    for axes, unit in ((left, 'iteration'), (right, 'epoch')):
        assert axes.get_xlabel() == unit
        texts = {text.get_text(): text for text in axes.texts}
        assert set(texts) == {'one', 'two'}
        assert [text.get_color() for text in texts.values()] == [axes.lines[0].get_color(), axes.lines[-1].get_color()]
    assert right.texts[0].xyann[1] < right.texts[1].xyann[1]  # next to the ends of the curves, in their order


def test_seeds_share_a_colour_and_a_mean(tmp_path: Path) -> None:
    runs = find_runs([write_run(tmp_path / f'pro_seed{seed}', seed + 1.0) for seed in range(3)])
    (axes,) = tool.plot_runs(runs, ['accuracy/top1']).axes
    assert len({line.get_color() for line in axes.lines}) == 1
    assert lines_of(axes)[-1] == ([1, 2, 3], [2, 4, 6]) and len(axes.lines) == 4
    assert [text.get_text() for text in axes.texts] == ['pro, mean of 3']


@pytest.mark.parametrize('ending', ['png', 'svg'])
def test_command(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folders = [str(write_run(tmp_path / name, slope)) for name, slope in (('one', 1.0), ('two', 2.0))]
    out = tmp_path / 'out' / f'curves.{ending}'
    args = [*folders, '--metric', 'loss', 'accuracy/top1', '--out', str(out), '--smooth', '0.6', '--log', 'loss']
    tool.main(args)
    assert list(out.parent.iterdir()) == [out] and '2 runs (one, two)' in capsys.readouterr().out
    first = out.read_bytes()
    if ending == 'png':
        picture = cv2.imread(str(out))
        assert picture.std() > 5 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    else:
        assert first.startswith(b'<?xml') and first.rstrip().endswith(b'</svg>') and first.count(b'<path') > 20
    tool.main(args)
    assert out.read_bytes() == first


def test_invalid_arguments_raise(tmp_path: Path) -> None:
    run, out = write_run(tmp_path / 'run'), str(tmp_path / 'out.png')
    with pytest.raises(SystemExit, match=r"run do not contain 'mAP'; they contain: accuracy/top1, loss$"):
        tool.main([str(run), '--metric', 'mAP', '--out', out])
    with pytest.raises(SystemExit, match='must end in .png or .svg'):
        tool.main([str(run), '--metric', 'loss', '--out', 'out.jpg'])
    with pytest.raises(SystemExit, match='--smooth 1.0: must be from 0 to below 1'):
        tool.main([str(run), '--metric', 'loss', '--out', out, '--smooth', '1'])
    with pytest.raises(SystemExit, match='--log mAP: not among --metric loss'):
        tool.main([str(run), '--metric', 'loss', '--out', out, '--log', 'mAP'])
    with pytest.raises(SystemExit, match=r"folder '.*nowhere' does not exist"):
        tool.main([str(tmp_path / 'nowhere'), '--metric', 'loss', '--out', out])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SystemExit, match=r"empty' is not the work dir of a run.*tools/train.py writes"):
        tool.main([str(tmp_path / 'empty'), '--metric', 'loss', '--out', out])
    by_iteration = [trained(20, **{'accuracy/top1': 1.0})]
    write_log(tmp_path / 'other', '20260101_000000', by_iteration)
    with pytest.raises(SystemExit, match='different units: run by epoch, other by iteration'):
        tool.main([str(run), str(tmp_path / 'other'), '--metric', 'accuracy/top1', '--out', out])
    write_log(tmp_path / 'damaged', '20260101_000000', [trained(5, loss=1), '{"lo', trained(10, loss=1)])
    with pytest.raises(SystemExit, match=r'scalars.json, line 2 is not a JSON object'):
        tool.main([str(tmp_path / 'damaged'), '--metric', 'loss', '--out', out])
    assert not Path(out).exists()
