"""Metrics, compared with scikit-learn, mmpretrain and counts by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample
from sklearn.metrics import balanced_accuracy_score, recall_score

from tests.classification_data import LabelsAlone

assert LabelsAlone  # the import registers it


def evaluate(metric: dict[str, Any], predicted: Any, true: Any, **meta: Any) -> dict[str, float]:
    """Through mmengine's Evaluator, with mmpretrain's samples, in batches of seven."""
    init_default_scope('mmpretrain')
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = dict(classes=[f'c{i}' for i in range(1 + max(true))])
    samples = []
    for i, (p, t) in enumerate(zip(predicted, true, strict=True)):
        sample = DataSample(metainfo={key: values[i] for key, values in meta.items()})
        samples.append(sample.set_gt_label(int(t)).set_pred_label(int(p)))
    for i in range(0, len(samples), 7):
        evaluator.process(samples[i : i + 7])
    return evaluator.evaluate(len(samples))


@pytest.fixture
def guesses() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    true = np.concatenate([np.arange(5), rng.choice(5, 200, p=[0.6, 0.2, 0.1, 0.07, 0.03])])
    return np.where(rng.random(205) < 0.6, true, rng.integers(0, 5, 205)), true


def test_mean_class_accuracy(guesses: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, true = guesses
    found = evaluate(dict(type='protuning_mm.MeanClassAccuracy', classwise=True), predicted, true)
    assert found.pop('accuracy/class_mean') == pytest.approx(100 * balanced_accuracy_score(true, predicted))
    recalls = recall_score(true, predicted, average=None)
    assert found == pytest.approx({f'accuracy/class/c{i}': 100 * recall for i, recall in enumerate(recalls)})
    host = evaluate(dict(type='SingleLabelMetric', items=['recall'], num_classes=5), predicted, true)
    mean = evaluate(dict(type='protuning_mm.MeanClassAccuracy'), predicted, true)
    assert mean == pytest.approx({'accuracy/class_mean': host['single-label/recall']})


def test_a_class_without_test_images_is_left_out_of_the_mean() -> None:
    found = evaluate(dict(type='protuning_mm.MeanClassAccuracy', classwise=True), [0, 1, 3, 1], [0, 0, 3, 3])
    assert found == {'accuracy/class_mean': 50.0, 'accuracy/class/c0': 50.0, 'accuracy/class/c3': 50.0}


def test_labels_from_scores() -> None:
    """mmpretrain's heads set label and scores; samples with only scores work too."""
    init_default_scope('mmpretrain')
    evaluator = Evaluator(dict(type='protuning_mm.MeanClassAccuracy'))
    scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]])
    evaluator.process([DataSample().set_gt_label(1).set_pred_score(score) for score in scores])
    assert evaluator.evaluate(2) == {'accuracy/class_mean': 50.0}


COUNTS = [500, 101, 100, 20, 19, 5]  # on either side of both thresholds
TRUE = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 5]
PREDICTED = [0, 0, 1, 0, 2, 2, 0, 0, 4, 0, 5, 0, 0, 0]


@pytest.mark.parametrize('given', ['counts', 'config'])
def test_shot_groups(given: str) -> None:
    """From class accuracies 100, 50 | 100, 0 | 50, 25."""
    labels = [label for label, count in enumerate(COUNTS) for _ in range(count)]
    counts = dict(class_counts=COUNTS)
    if given == 'config':
        counts = dict(train_dataset=dict(type='LabelsAlone', labels=labels, classes=6))
    found = evaluate(dict(type='protuning_mm.ShotGroups', **counts), PREDICTED, TRUE)
    assert found == {'accuracy/many': 75.0, 'accuracy/medium': 50.0, 'accuracy/few': 37.5}


def test_shot_groups_of_a_long_tail() -> None:
    """Counted from LongTailed, with thresholds of the config; a group without classes is left out."""
    whole = dict(type='LabelsAlone', labels=[c for c in range(3) for _ in range(40)], classes=3)
    tail = dict(type='protuning_mm.LongTailed', dataset=whole, imbalance_ratio=10)  # 40, 12, 4
    metric = dict(type='protuning_mm.ShotGroups', train_dataset=tail, many=20, few=8)
    expected = {'accuracy/many': 100.0, 'accuracy/medium': 50.0, 'accuracy/few': 0.0}
    assert evaluate(metric, [0, 1, 0, 0], [0, 1, 1, 2]) == expected
    assert evaluate(metric | dict(many=50), [0, 1, 0, 0], [0, 1, 1, 2]) == {
        'accuracy/medium': 75.0,
        'accuracy/few': 0.0,
    }


def test_shot_groups_count_the_training_set_of_the_run() -> None:
    """RuntimeInfoHook writes its config, with --cfg-options applied, into the message hub."""
    labels = [label for label, count in enumerate(COUNTS) for _ in range(count)]
    loader = dict(dataset=dict(type='LabelsAlone', labels=labels, classes=6))
    hub = MessageHub.get_instance('a run')
    metric = dict(type='protuning_mm.ShotGroups')
    with pytest.raises(ValueError, match='number of training images of each class, but the run has no train_dataload'):
        evaluate(metric, PREDICTED, TRUE)
    hub.update_info('cfg', Config(dict(train_dataloader=loader)).pretty_text)
    assert evaluate(metric, PREDICTED, TRUE) == {'accuracy/many': 75.0, 'accuracy/medium': 50.0, 'accuracy/few': 37.5}


def test_shot_groups_where_the_last_class_has_no_training_image() -> None:
    train = dict(type='LabelsAlone', labels=[0] * 30, classes=2)
    found = evaluate(dict(type='protuning_mm.ShotGroups', train_dataset=train), [0, 0], [0, 1])
    assert found == {'accuracy/medium': 100.0, 'accuracy/few': 0.0}


def test_shot_groups_and_wrong_counts() -> None:
    with pytest.raises(ValueError, match='class_counts and train_dataset both give'):
        evaluate(dict(type='protuning_mm.ShotGroups', class_counts=[1], train_dataset=dict()), [0], [0])
    with pytest.raises(ValueError, match='label 3, but training images were counted for 2 classes'):
        evaluate(dict(type='protuning_mm.ShotGroups', class_counts=[5, 5]), [0], [3])


def test_corruptions() -> None:
    """Means over severities, then over corruptions, however many images each has."""
    right = {('fog', 1): [1, 1, 1, 1], ('fog', 5): [1, 0], ('snow', 3): [0, 0, 1, 0]}
    rows = [(c, s, hit) for (c, s), hits in right.items() for hit in hits]
    meta = dict(corruption=[c for c, _, _ in rows], severity=[s for _, s, _ in rows])
    predicted = [1 if hit else 0 for _, _, hit in rows]
    metric = dict(type='protuning_mm.CorruptionAccuracy')
    expected = dict(fog=75.0, fog_error=25.0, snow=25.0, snow_error=75.0, mean=50.0, mean_error=50.0)
    found = evaluate(metric, predicted, [1] * 10, **meta, generated=[False] * 10)
    assert found == {f'corruption/{name}': value for name, value in dict(expected, generated=0.0).items()}
    found = evaluate(metric | dict(by_severity=True), predicted, [1] * 10, **meta, generated=[True] * 10)
    more = dict(fog_1=100.0, fog_5=50.0, snow_3=25.0, generated=1.0)
    assert found == {f'corruption/{name}': value for name, value in (expected | more).items()}


def test_samples_without_corruption_names() -> None:
    with pytest.raises(ValueError, match="dict.type='PackInputs', meta_keys=.'corruption', 'severity', 'generated'"):
        evaluate(dict(type='protuning_mm.CorruptionAccuracy'), [0], [0])
