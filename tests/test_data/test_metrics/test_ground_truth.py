"""Annotations without ``iscrowd`` or with ids that pycocotools misreads: a perfect detection scores 1.0."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from protuning_mm.patches import patch_coco_metrics
from tests.mini import CLASSES, write_coco


def without_iscrowd(content: dict[str, Any]) -> None:
    for annotation in content['annotations']:
        del annotation['iscrowd']


def iscrowd_is_none(content: dict[str, Any]) -> None:
    for annotation in content['annotations'][::2]:
        annotation['iscrowd'] = None


def ids_from_0(content: dict[str, Any]) -> None:
    for i, annotation in enumerate(content['annotations']):
        annotation['id'] = i


def ids_of_text(content: dict[str, Any]) -> None:
    for i, annotation in enumerate(content['annotations']):
        annotation['id'] = f'object {i}'


def both(content: dict[str, Any]) -> None:
    without_iscrowd(content)
    ids_from_0(content)


KINDS = [without_iscrowd, iscrowd_is_none, ids_from_0, ids_of_text, both]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_coco(tmp_path / 'coco') / 'annotations/instances_val2017.json'


def perfect(path: Path) -> list[dict[str, Any]]:
    """One detection per object, with the object's box."""
    annotations = json.loads(path.read_text())['annotations']
    return [{k: each[k] for k in ('image_id', 'category_id', 'bbox')} | dict(score=1.0) for each in annotations]


def pycocotools_ap(path: Path, detections: list[dict[str, Any]]) -> float:
    truth = COCO(str(path))
    evaluation = COCOeval(truth, truth.loadRes(detections), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def metric_ap(path: Path, detections: list[dict[str, Any]]) -> float:
    from mmdet.evaluation import CocoMetric

    metric = CocoMetric(ann_file=str(path))
    metric.dataset_meta = dict(classes=CLASSES)
    for image in json.loads(path.read_text())['images']:
        own = [each for each in detections if each['image_id'] == image['id']]
        boxes = torch.tensor([each['bbox'] for each in own], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([each['category_id'] - 1 for each in own])
        found = dict(bboxes=boxes, labels=labels, scores=torch.ones(len(own)))
        metric.process({}, [dict(img_id=image['id'], ori_shape=(96, 128), pred_instances=found)])
    return float(metric.evaluate(4)['coco/bbox_mAP'])


@pytest.mark.parametrize('kind', KINDS)
def test_a_perfect_detection_scores_1(kind: Any, path: Path) -> None:
    detections = perfect(path)
    assert pycocotools_ap(path, detections) == 1.0  # of the correct file
    content = json.loads(path.read_text())
    kind(content)
    path.write_text(json.dumps(content))
    written = path.read_bytes()
    try:
        assert metric_ap(path, detections) < 1.0  # mmdet without the patch
    except (KeyError, TypeError, ValueError) as error:
        assert kind is not ids_from_0, error
    patch_coco_metrics('mmdet')
    assert metric_ap(path, detections) == 1.0
    assert path.read_bytes() == written


def test_a_missed_object_stays_missed(path: Path) -> None:
    """One of class a's four objects is missed: precision is 1 up to recall 3/4, and 0 beyond."""
    detections = perfect(path)
    gone = next(i for i, each in enumerate(detections) if each['category_id'] == 1)
    content = json.loads(path.read_text())
    ids_from_0(content)
    path.write_text(json.dumps(content))
    patch_coco_metrics('mmdet')
    left = detections[:gone] + detections[gone + 1 :]
    expected = (np.mean(np.linspace(0, 1, 101) <= 3 / 4) + 1 + 1) / 3
    assert metric_ap(path, left) == pytest.approx(expected, abs=1e-3)  # mmdet rounds to three digits


def test_crowds_and_valid_ids_are_kept(path: Path) -> None:
    from mmdet.evaluation import CocoMetric

    content = json.loads(path.read_text())
    content['annotations'][0]['iscrowd'] = 1
    content['annotations'][1]['id'] = 77
    path.write_text(json.dumps(content))
    patch_coco_metrics('mmdet')
    truth = CocoMetric(ann_file=str(path))._coco_api
    assert truth.dataset['annotations'] == content['annotations']
    assert sorted(truth.anns) == sorted(each['id'] for each in content['annotations'])


def test_data_sets_are_unchanged(path: Path) -> None:
    """Only the evaluator's copy changes."""
    from mmdet.datasets.api_wrappers import COCO as HOSTS

    content = json.loads(path.read_text())
    both(content)
    path.write_text(json.dumps(content))
    patch_coco_metrics('mmdet')
    assert HOSTS(str(path)).dataset['annotations'] == content['annotations']
    patch_coco_metrics('mmseg')  # has no COCO metrics
