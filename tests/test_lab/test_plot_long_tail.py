"""tools/analysis_tools/plot_long_tail.py: accuracy by class, and reading predictions without running code."""

import os
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import DumpResults

from protuning_lab.pictures import plot_long_tail as tool
from protuning_lab.pictures.figures import PictureError
from protuning_lab.pictures.long_tail import (
    Classes,
    compute_class_accuracy,
    compute_group_means,
    count_training_images,
    format_table,
    read_counts,
)
from protuning_lab.pictures.long_tail_figure import draw_long_tail
from protuning_lab.pictures.predictions import read_labels
from protuning_mm.data import DataError
from tests import canary
from tests.test_weights.malicious import FORMS, all_files, mapping, text


def write_predictions(path: Path, true: list[int], predicted: list[int], classes: int = 3) -> Path:
    """Write predictions as tools/test.py --out does: mmpretrain's data samples, dumped by mmengine's metric."""
    from mmpretrain.structures import DataSample

    metric = DumpResults(str(path))
    for t, p in zip(true, predicted):
        sample = DataSample(metainfo=dict(img_path=f'{t}.jpg', num_classes=classes))
        sample.set_gt_label(t).set_pred_label(p).set_pred_score(torch.rand(classes))
        metric.process(None, [sample.to_dict()])
    metric.evaluate(len(true))
    return path


def test_labels_equal_the_dumped_ones(tmp_path: Path) -> None:
    true, predicted = [0, 1, 2, 2, 1], [0, 2, 2, 1, 1]
    got = read_labels(write_predictions(tmp_path / 'a.pkl', true, predicted))
    assert [labels.tolist() for labels in got] == [true, predicted]


class Malice:
    def __reduce__(self) -> Any:
        return os.system, ('touch was-run',)


def test_predictions_never_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('a.pkl').write_bytes(pickle.dumps([dict(gt_label=Malice())]))
    with pytest.raises(PictureError, match=r'a.pkl cannot be read.*it would run (posix|nt).system'):
        read_labels('a.pkl')
    # a tensor's storage is a pickle inside the pickle; it must be refused as well
    inner = tmp_path / 'inner.pth'
    torch.save(Malice(), inner)
    payload = inner.read_bytes()

    class Nested:
        def __reduce__(self) -> Any:
            return torch.storage._load_from_bytes, (payload,)

    Path('b.pkl').write_bytes(pickle.dumps([dict(gt_label=Nested())]))
    with pytest.raises(PictureError, match=r'b.pkl cannot be read'):
        read_labels('b.pkl')
    assert not Path('was-run').exists()


def test_predictions_that_bring_a_callable(tmp_path: Path) -> None:
    """A callable is refused, whether the file calls it or not; with a tensor instead, the same bytes are read."""
    canary.calls.clear()
    label = pickle.dumps(torch.tensor([1]), 2)[2:-1]
    for file in all_files()[::4]:
        evil = mapping(text('gt_label'), label, text('pred_label'), label, text('note'), FORMS[file.form](file.it))
        (tmp_path / 'evil.pkl').write_bytes(b'\x80\x04](' + evil + b'e.')
        with pytest.raises(PictureError, match='evil.pkl'):
            read_labels(tmp_path / 'evil.pkl')
    assert not canary.calls
    good = mapping(text('gt_label'), label, text('pred_label'), label, text('note'), label)
    (tmp_path / 'good.pkl').write_bytes(b'\x80\x04](' + good + b'e.')
    assert [each.tolist() for each in read_labels(tmp_path / 'good.pkl')] == [[1], [1]]


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ([], 'does not contain a list of predictions'),
        (dict(gt_label=1), 'does not contain a list of predictions'),
        ([dict(pred_label=torch.tensor([1]))], 'prediction 0 has pred_label; it must have one gt_label'),
        ([dict(gt_label=torch.tensor([1, 2]), pred_label=torch.tensor([1]))], 'must have one gt_label'),
    ],
)
def test_invalid_predictions_raise(content: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(content))
    with pytest.raises(PictureError, match=said):
        read_labels(tmp_path / 'a.pkl')


def test_damaged_and_missing_predictions(tmp_path: Path) -> None:
    whole = write_predictions(tmp_path / 'a.pkl', [0, 1], [0, 1]).read_bytes()
    (tmp_path / 'cut.pkl').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PictureError, match='cut.pkl cannot be read as predictions'):
        read_labels(tmp_path / 'cut.pkl')
    with pytest.raises(PictureError, match=r'predictions file .*none.pkl.*tools/test.py CONFIG CHECKPOINT --out'):
        read_labels(tmp_path / 'none.pkl')


def test_accuracy_of_each_class_and_means_of_groups() -> None:
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 6, 200), rng.integers(0, 7, 200)
    got = compute_class_accuracy(true, predicted, 7)
    for label in range(6):
        hits = [p == t for t, p in zip(true, predicted) if t == label]
        assert got[label] == pytest.approx(sum(hits) / len(hits))
    assert np.isnan(got[6])  # it has no test images
    groups = ['many', 'many', 'few', 'few', 'few', 'many', 'few']
    means = compute_group_means(got, groups)
    assert means['many'] == pytest.approx((got[0] + got[1] + got[5]) / 3)
    assert means['few'] == pytest.approx((got[2] + got[3] + got[4]) / 3)
    assert means['all'] == pytest.approx(sum(got[:6]) / 6)
    assert 'medium' not in means
    with pytest.raises(PictureError, match='true class 5, but the training data has only 5 classes, 0 to 4'):
        compute_class_accuracy(true, predicted, 5)


def test_groups_follow_the_literature() -> None:
    """More than 100 images, 100 to 20, fewer than 20."""
    classes = Classes(list('abcdef'), np.array([19, 101, 20, 500, 100, 0]))
    assert classes.groups() == ['few', 'many', 'medium', 'many', 'medium', 'few']
    assert classes.groups(many=400, few=100) == ['few', 'medium', 'few', 'many', 'medium', 'few']
    assert classes.order.tolist() == [3, 1, 4, 2, 0, 5]
    with pytest.raises(PictureError, match='--few 50 must not be above --many 10'):
        classes.groups(many=10, few=50)


CONFIG = """
default_scope = 'mmpretrain'
train_dataloader = dict(dataset=dict(
    type='RepeatDataset', times=3, dataset=dict(
        type='CustomDataset', data_root={root!r}, data_prefix='train', pipeline=[])))
"""
IMAGES = {'cat': 2, 'dog': 5, 'emu': 1}


def write_config(folder: Path) -> Path:
    for name, number in IMAGES.items():
        (folder / 'train' / name).mkdir(parents=True)
        for i in range(number):
            cv2.imwrite(str(folder / 'train' / name / f'{i}.png'), np.zeros((4, 4, 3), np.uint8))
    path = folder / 'config.py'
    path.write_text(CONFIG.format(root=str(folder)))
    return path


def test_repeated_images_are_counted_once(tmp_path: Path) -> None:
    classes = count_training_images(Config.fromfile(write_config(tmp_path)))
    assert dict(zip(classes.names, classes.images.tolist())) == IMAGES


def test_configs_that_cannot_be_counted(tmp_path: Path) -> None:
    cfg = Config.fromfile(write_config(tmp_path))
    cfg.train_dataloader.dataset.dataset.data_root = str(tmp_path / 'nowhere')
    with pytest.raises(DataError, match='nowhere'):
        count_training_images(cfg)
    cfg.train_dataloader = None
    with pytest.raises(PictureError, match='has no train_dataloader'):
        count_training_images(cfg)


def test_table_round_trip(tmp_path: Path) -> None:
    classes = Classes(['a', 'b, or c', 'd'], np.array([7, 300, 30]))
    text = format_table(classes, classes.groups(), {'pro': np.array([0.5, np.nan, 0.25])})
    assert text.splitlines() == [
        'label,class,images,group,pro',
        '1,"b, or c",300,many,',
        '2,d,30,medium,0.250000',
        '0,a,7,few,0.500000',
    ]
    (tmp_path / 'table.csv').write_text(text)
    again = read_counts(tmp_path / 'table.csv')
    assert again.names == classes.names and again.images.tolist() == [7, 300, 30]


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'must have the columns class and images'),
        ('name,count\na,3\n', r"must have the columns class and images.*\['name', 'count'\]"),
        ('class,images\na,3\nb,many\n', "line 3: images is 'many', but must be a whole number"),
        ('class,images\na\n', 'line 2: images is None'),
    ],
)
def test_invalid_counts_raise(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / 'counts.csv').write_text(text)
    with pytest.raises(PictureError, match=said):
        read_counts(tmp_path / 'counts.csv')


def bars(axes: Any) -> dict[str, list[float]]:
    """Return the heights of the bars by the name in the legend."""
    return {group.get_label(): [bar.get_height() for bar in group] for group in axes.containers}


def test_bars_are_ordered_by_images() -> None:
    classes = Classes(['a', 'b', 'c'], np.array([10, 200, 50]))
    runs = {'pro': np.array([0.1, 0.9, 0.5]), 'full': np.array([0.2, 0.8, np.nan])}
    figure = draw_long_tail(classes, runs, classes.groups())
    counts, accuracy, _ = figure.axes
    assert list(counts.lines[0].get_ydata()) == [200, 50, 10]
    assert bars(accuracy) == {'pro': [90, 50, 10], 'full': [80, 0, 20]}
    assert [label.get_text() for label in accuracy.get_xticklabels()] == ['b', 'c', 'a']
    assert [text.get_text() for text in accuracy.texts] == ['×']  # run full, class c: unknown accuracy, not zero
    means = [line.get_ydata()[0] for line in accuracy.lines]
    assert means == pytest.approx([90, 50, 10, 80, 20])
    assert [text.get_text() for text in counts.texts if text.get_text() in ('many', 'medium', 'few')] == [
        'many', 'medium', 'few',
    ]  # fmt: skip


def test_many_classes_get_one_panel_per_run() -> None:
    rng = np.random.default_rng(0)
    classes = Classes([str(i) for i in range(100)], rng.integers(5, 500, 100))
    runs = {'pro': rng.random(100), 'full': rng.random(100)}
    panels = [axes for axes in draw_long_tail(classes, runs, classes.groups()).axes if axes.containers]
    for axes, (name, accuracy) in zip(panels, runs.items()):
        assert bars(axes)[name] == pytest.approx([100 * accuracy[label] for label in classes.order])
    assert len(panels) == 2


@pytest.mark.parametrize('ending', ['png', 'svg'])
def test_command(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = write_config(tmp_path)
    one = write_predictions(tmp_path / 'one.pkl', [0, 0, 1, 1, 2], [0, 1, 1, 1, 0])
    two = write_predictions(tmp_path / 'two.pkl', [0, 0, 1, 1, 2], [0, 0, 1, 0, 2])
    out = tmp_path / 'out' / f'tail.{ending}'
    args = [f'pro={one}', str(two), '--config', str(config), '--out', str(out), '--many', '4', '--few', '2']
    tool.main([*args, '--table', str(out.parent / 'tail.csv')])
    printed = capsys.readouterr().out
    assert '3 classes (1 many, 1 medium, 1 few), 8 training images' in printed
    assert 'pro: many 100.00 %, medium 50.00 %, few 0.00 %, all 50.00 %' in printed
    assert 'two: many 50.00 %, medium 100.00 %, few 100.00 %, all 83.33 %' in printed
    assert sorted(path.name for path in out.parent.iterdir()) == ['tail.csv', f'tail.{ending}']
    if ending == 'png':
        picture = cv2.imread(str(out))
        assert picture.std() > 5 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    else:
        assert out.read_bytes().rstrip().endswith(b'</svg>')
    again = [f'pro={one}', '--counts', str(out.parent / 'tail.csv'), '--out', str(out)]
    tool.main(again)


def test_invalid_arguments_raise(tmp_path: Path) -> None:
    one, out = str(write_predictions(tmp_path / 'one.pkl', [0, 4], [0, 1], 5)), str(tmp_path / 'out.png')
    (tmp_path / 'counts.csv').write_text('class,images\na,3\nb,4\n')
    counts = str(tmp_path / 'counts.csv')
    with pytest.raises(SystemExit, match='true class 4.*has only 2 classes.*different data'):
        tool.main([one, '--counts', counts, '--out', out])
    with pytest.raises(SystemExit, match=r"are both named 'one': write NAME="):
        tool.main([one, one, '--counts', counts, '--out', out])
    with pytest.raises(SystemExit, match="there is no config 'none.py'"):
        tool.main([one, '--config', 'none.py', '--out', out])
    with pytest.raises(SystemExit, match="counts file 'none.csv' does not exist"):
        tool.main([one, '--counts', 'none.csv', '--out', out])
    with pytest.raises(SystemExit, match='must end in .png or .svg'):
        tool.main([one, '--counts', counts, '--out', 'out.pdf'])
    assert not Path(out).exists()
