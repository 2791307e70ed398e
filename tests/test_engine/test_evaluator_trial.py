"""Evaluators on made-up predictions of real data sets: what they would fail with is told, and nothing is changed."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, init_default_scope

from protuning_mm.engine.errors import MismatchError
from protuning_mm.engine.evaluator_trial import TRIED, Trial, try_evaluator
from protuning_mm.engine.monitored_metrics import unknown_metrics
from tests.mini import CLASSES, write_ade, write_coco

COCO_KEYS = {f'coco/bbox_{name}' for name in ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')}


@pytest.fixture(scope='module')
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp('coco'), images=7)


@pytest.fixture(scope='module')
def ade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ade(tmp_path_factory.mktemp('ade'))


def detection(root: Path, *steps: dict[str, Any], classes: Any = CLASSES, **settings: Any) -> Any:
    init_default_scope('mmdet')
    meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    pipeline = [dict(type='LoadImageFromFile'), *steps, dict(type='PackDetInputs', meta_keys=meta)]
    return DATASETS.build(
        dict(
            type='CocoDataset',
            data_root=str(root),
            ann_file='annotations/instances_val2017.json',
            data_prefix=dict(img='val2017/'),
            metainfo=dict(classes=classes) if classes else None,
            test_mode=True,
            pipeline=pipeline,
        )
        | settings
    )


def segmentation(root: Path, *steps: dict[str, Any]) -> Any:
    init_default_scope('mmseg')
    pipeline = [dict(type='LoadImageFromFile'), *steps, dict(type='PackSegInputs')]
    prefix = dict(img_path='images/validation', seg_map_path='annotations/validation')
    settings = dict(img_suffix='.jpg', seg_map_suffix='.png', reduce_zero_label=True, metainfo=dict(classes=CLASSES))
    cfg = dict(type='BaseSegDataset', data_root=str(root), data_prefix=prefix, pipeline=pipeline, **settings)
    return DATASETS.build(cfg)


def classification(root: Path, classes: int = 3) -> Any:
    init_default_scope('mmpretrain')
    for i in range(classes):
        folder = root / f'class{i}'
        folder.mkdir()
        for j in range(2):
            (folder / f'{j}.png').write_bytes(_PNG)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    return DATASETS.build(dict(type='CustomDataset', data_root=str(root), pipeline=pipeline))


def _png() -> bytes:
    import cv2

    return bytes(cv2.imencode('.png', np.zeros((8, 8, 3), np.uint8))[1])


_PNG = _png()
BOXES = dict(type='LoadAnnotations', with_bbox=True)
MAPS = dict(type='LoadAnnotations', reduce_zero_label=True)


def tried(metrics: Any, dataset: Any, with_masks: bool = False, classes: int | None = 3) -> Trial:
    return try_evaluator(Evaluator(metrics), dataset, 'val_evaluator', classes, with_masks)


def refused(metrics: Any, dataset: Any, with_masks: bool = False) -> str:
    with pytest.raises(MismatchError) as caught:
        tried(metrics, dataset, with_masks)
    return str(caught.value)


def coco_metric(root: Path, **settings: Any) -> dict[str, Any]:
    return dict(type='CocoMetric', ann_file=str(root / 'annotations/instances_val2017.json')) | settings


def test_a_sound_evaluator_computes_what_its_host_names(coco: Path, ade: Path, tmp_path: Path) -> None:
    masks = tried(coco_metric(coco, metric=['bbox', 'segm']), detection(coco), with_masks=True)
    assert set(masks.metrics) == COCO_KEYS | {key.replace('bbox', 'segm') for key in COCO_KEYS} and not masks.untried
    assert tried(dict(type='VOCMetric'), detection(coco, BOXES)).metrics == ('pascal_voc/mAP', 'pascal_voc/AP50')
    found = tried(dict(type='IoUMetric', iou_metrics=['mIoU', 'mDice']), segmentation(ade, MAPS))
    assert set(found.metrics) == {'aAcc', 'mIoU', 'mAcc', 'mDice'}
    metrics = [dict(type='Accuracy', topk=(1, 3)), dict(type='SingleLabelMetric', items=['precision'])]
    found = tried(metrics, classification(tmp_path))
    assert found.metrics == ('accuracy/top1', 'accuracy/top3', 'single-label/precision')


def test_coco_s_own_classes_on_a_file_of_three(coco: Path) -> None:
    """mmdet's IndexError of a data set without metainfo."""
    said = refused(coco_metric(coco), detection(coco, classes=None))
    assert 'val_evaluator: CocoMetric' in said and 'only 0 of the 80 classes' in said and '(a, b, c)' in said
    assert 'metainfo=dict(classes=…)' in said and 'IndexError' in said


def _without(key: str) -> Any:
    def change(content: dict[str, Any]) -> None:
        for annotation in content['annotations']:
            del annotation[key]

    return change


def _other_ids(content: dict[str, Any]) -> None:
    for image in content['images']:
        image['id'] += 1000
    for annotation in content['annotations']:
        annotation['image_id'] += 1000


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (_without('iscrowd'), '"iscrowd": 0'),
        (_other_ids, 'are not in its ann_file'),
        (_without('area'), "KeyError: 'area'"),
    ],
)
def test_an_annotation_file_that_the_metric_cannot_use(change: Any, said: str, coco: Path, tmp_path: Path) -> None:
    content = json.loads((coco / 'annotations/instances_val2017.json').read_text())
    change(content)
    path = tmp_path / 'other.json'
    path.write_text(json.dumps(content))
    dataset = detection(coco)
    with pytest.raises(MismatchError) as caught:
        try_evaluator(Evaluator(coco_metric(coco, ann_file=str(path))), dataset, 'test_evaluator', None, False)
    assert str(caught.value).startswith('test_evaluator: CocoMetric') and said in str(caught.value)


def test_what_the_pipeline_or_the_model_does_not_give(coco: Path, ade: Path, tmp_path: Path) -> None:
    assert "set val_evaluator.metric='bbox'" in refused(coco_metric(coco, metric=['bbox', 'segm']), detection(coco))
    said = refused(dict(type='VOCMetric'), detection(coco))
    assert 'a sample of val_dataloader.dataset has no labels: its pipeline must load LoadAnnotations(with_bbox' in said
    assert 'set val_evaluator.ann_file' in refused(dict(type='CocoMetric'), detection(coco, BOXES))
    assert 'has no gt_sem_seg: its pipeline must load LoadAnnotations' in refused(
        dict(type='IoUMetric'), segmentation(ade)
    )
    said = refused(dict(type='IoUMetric', iou_metrics=['IoU']), segmentation(ade, MAPS))
    assert 'KeyError: "metrics [\'IoU\'] is not supported"' in said
    assert 'NoneType' in refused(dict(type='IoUMetric', format_only=True), segmentation(ade))
    said = refused([dict(type='Accuracy'), dict(type='Accuracy', topk=(1, 5))], classification(tmp_path))
    assert said.startswith('val_evaluator.1: Accuracy') and 'topk=(1, 5)' in said
    assert 'has 3 classes: set val_evaluator.1.topk=(1,)' in said


def test_what_cannot_be_made_up_is_told(coco: Path) -> None:
    found = tried([coco_metric(coco), dict(type='DumpProposals', output_dir=str(coco / 'dump'))], detection(coco))
    assert set(found.metrics) == COCO_KEYS and found.open_ended == ('dump_proposals/',)
    assert found.untried == ('val_evaluator.1: DumpProposals is not tried: no fake predictions exist for it',)
    alone = tried(dict(type='DumpProposals', output_dir=str(coco / 'dump')), detection(coco))
    assert not alone.metrics and len(alone.untried) == 1


def test_evaluator_random_streams_and_disk_are_as_before(coco: Path, ade: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    cases = [
        (coco_metric(coco, outfile_prefix=str(out / 'boxes'), format_only=True), lambda: detection(coco)),
        (coco_metric(coco), lambda: detection(coco, dict(type='RandomFlip', prob=0.5))),
        (dict(type='DumpDetResults', out_file_path=str(out / 'all.pkl')), lambda: detection(coco)),
        (dict(type='IoUMetric', output_dir=str(tmp_path / 'maps')), lambda: segmentation(ade, MAPS)),
    ]
    for cfg, build in cases:
        dataset = build()
        evaluator = Evaluator(cfg)
        evaluator.dataset_meta = dataset.metainfo
        (metric,) = evaluator.metrics
        held, results = dict(vars(metric)), metric.results
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
        try_evaluator(evaluator, dataset, 'val_evaluator', None, False)
        assert vars(metric) == held and metric.results is results == []
        assert states[:2] == (random.getstate(), np.random.get_state()[1].tolist())
        assert torch.equal(states[2], torch.get_rng_state())
    assert not out.exists() and not list((tmp_path / 'maps').iterdir())


def test_it_looks_at_a_few_images_and_the_evaluation_afterwards_at_all(
    coco: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Perfect boxes of every image score 1 afterwards, as pycocotools alone says of them."""
    from mmdet.evaluation.metrics import coco_metric as module
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    looked: list[list[int]] = []

    class Counted(module.COCOeval):
        def evaluate(self) -> None:
            looked.append(list(self.params.imgIds))
            super().evaluate()

    monkeypatch.setattr(module, 'COCOeval', Counted)
    dataset, evaluator = detection(coco, BOXES), Evaluator(coco_metric(coco))
    evaluator.dataset_meta = dataset.metainfo
    capsys.readouterr()
    try_evaluator(evaluator, dataset, 'val_evaluator', None, False)
    assert looked == [[0, 2, 4]] and not capsys.readouterr().out
    samples = []
    for item in dataset:
        sample: DetDataSample = item['data_samples']
        truth = sample.gt_instances
        sample.pred_instances = InstanceData(
            bboxes=truth.bboxes.tensor, labels=truth.labels, scores=torch.ones(len(truth.labels))
        )
        samples.append(sample)
    evaluator.process(samples)
    assert evaluator.evaluate(7)['coco/bbox_mAP'] == 1.0 and looked[1] == list(range(7))


@pytest.mark.parametrize(
    ('settings', 'key', 'advice'),
    [
        ("checkpoint=dict(save_best='bbox_mAP')", 'default_hooks.checkpoint.save_best', "='coco/bbox_mAP'"),
        ("checkpoint=dict(save_best=['coco/bbox_mAP', 'coco/bbox_map'])", 'default_hooks.checkpoint.save_best', 'mAP'),
        ("stop=dict(type='EarlyStoppingHook', monitor='mIoU')", 'default_hooks.stop.monitor', 'to one of these'),
    ],
)
def test_settings_that_name_no_metric(settings: str, key: str, advice: str) -> None:
    cfg = Config.fromstring(f'default_hooks = dict({settings})', '.py')
    ((where, found, right),) = unknown_metrics(cfg, Trial(tuple(sorted(COCO_KEYS))), 'val_evaluator')
    assert where == key and 'no metric that val_evaluator computes: coco/bbox_mAP' in found and advice in right


def test_settings_that_name_one_or_cannot_be_judged() -> None:
    hooks = "checkpoint=dict(save_best='coco/bbox_mAP'), other=dict(type='MyHook', monitor='loss')"
    cfg = Config.fromstring(f'default_hooks = dict({hooks})', '.py')
    assert not list(unknown_metrics(cfg, Trial(tuple(COCO_KEYS)), 'val_evaluator'))
    cfg = Config.fromstring("default_hooks = dict(checkpoint=dict(save_best='accuracy/class/cat'))", '.py')
    assert not list(unknown_metrics(cfg, Trial(('accuracy/class/dog',), ('accuracy/',)), 'val_evaluator'))
    assert not list(unknown_metrics(cfg, Trial(('accuracy/top1',), ('',), ('no prefix',)), 'val_evaluator'))
    assert len(list(unknown_metrics(cfg, Trial(('accuracy/top1',), ('shots/',), ('another',)), 'val_evaluator'))) == 1
    assert len(list(unknown_metrics(cfg, Trial(('accuracy/top1',)), 'val_evaluator'))) == 1
    plateau = "param_scheduler = [dict(type='LinearLR'), dict(type='ReduceOnPlateauLR')]"
    ((key, _, _),) = unknown_metrics(Config.fromstring(plateau, '.py'), Trial(('mIoU',)), 'val_evaluator')
    assert key == 'param_scheduler.1.monitor'


def test_the_best_of_a_metric_whose_name_does_not_tell() -> None:
    """mmengine would say so after the first validation."""
    from mmengine.hooks import CheckpointHook

    trial = Trial(('coco_panoptic/PQ', 'coco_panoptic/SQ'))
    cfg = Config.fromstring("default_hooks = dict(checkpoint=dict(save_best='auto'))", '.py')
    with pytest.raises(ValueError, match='Cannot infer the rule for key coco_panoptic/PQ'):
        CheckpointHook(save_best='auto')._init_rule([None], [trial.metrics[0]])
    ((key, found, advice),) = unknown_metrics(cfg, trial, 'val_evaluator')
    assert key == 'default_hooks.checkpoint.save_best' and 'coco_panoptic/PQ' in found
    assert "set default_hooks.checkpoint.rule='greater'" in advice
    cfg.default_hooks.checkpoint.rule = 'greater'
    assert not list(unknown_metrics(cfg, trial, 'val_evaluator'))


@pytest.mark.slow
def test_things_and_stuff(tmp_path: Path) -> None:
    pytest.importorskip('panopticapi', reason="CocoPanopticMetric needs COCO's panopticapi, which is not installed")
    import cv2

    for folder in ('img', 'pan'):
        (tmp_path / folder).mkdir()
    segments = [
        dict(id=5, category_id=1, iscrowd=0, area=1200, bbox=[0, 20, 60, 20]),
        dict(id=7, category_id=2, iscrowd=0, area=1200, bbox=[0, 0, 60, 20]),
    ]
    for i in range(4):
        ids = np.zeros((40, 60, 3), np.uint8)
        ids[..., 2] = np.where(np.arange(40) < 20, 7, 5)[:, None]
        cv2.imwrite(str(tmp_path / f'img/{i}.jpg'), ids)
        cv2.imwrite(str(tmp_path / f'pan/{i}.png'), ids)
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', height=40, width=60) for i in range(4)],
        annotations=[dict(image_id=i, file_name=f'{i}.png', segments_info=segments) for i in range(4)],
        categories=[dict(id=1, name='a', isthing=1), dict(id=2, name='b', isthing=0)],
    )
    ann_file = tmp_path / 'panoptic.json'
    ann_file.write_text(json.dumps(content))
    settings = dict(data_prefix=dict(img='img/', seg='pan/'), ann_file='panoptic.json', type='CocoPanopticDataset')
    metainfo = dict(classes=('a', 'b'), thing_classes=('a',), stuff_classes=('b',))
    dataset = detection(tmp_path, metainfo=metainfo, **settings)
    metric = dict(type='CocoPanopticMetric', ann_file=str(ann_file), seg_prefix=str(tmp_path / 'pan'))
    for more in (dict(), dict(outfile_prefix=str(tmp_path / 'out/all'))):
        found = tried(metric | more, dataset).metrics
        assert found[:3] == ('coco_panoptic/PQ', 'coco_panoptic/SQ', 'coco_panoptic/RQ')
    assert 'nowhere/0.png' in refused(metric | dict(seg_prefix=str(tmp_path / 'nowhere')), dataset)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('host', ['mmdet', 'mmseg', 'mmpretrain'])
def test_the_hosts_have_the_metrics_that_are_tried(host: str) -> None:
    module = __import__(f'{host}.evaluation', fromlist=['metrics'])
    assert all(hasattr(module, name) for name in TRIED[host]), sys.modules[f'{host}.evaluation']
