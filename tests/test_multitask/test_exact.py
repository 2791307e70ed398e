"""Results of MultiTask equal those of each model loaded separately by its host's own function."""

from typing import Any

import pytest
import torch
from torch import Tensor

from protuning_mm.multitask import MultiTask
from tests.families import flat
from tests.test_multitask.tasks import Workshop, infer_by_host, load_by_host

KINDS = ('det', 'seg', 'cls')
TUNINGS: dict[str, dict[str, Any]] = {
    'pro': {},
    'late prompts': {kind: dict(type='pro', prompt_stages=[2, 3]) for kind in KINDS},
    'mixed': dict(det='lora', seg=dict(type='pro', prompt_stages=[1, 3]), cls='linear'),
    'mixed, separately': dict(det='conv_adapter', seg='bias', cls='side'),
    'lists': dict(det=['pro', 'ssf'], seg=['lora', 'side'], cls='partial'),
    'shared to the end': dict(det='linear', seg='side', cls='linear'),
    'trained': dict(det='norm', seg='full', cls='pro'),
}
SLOW = {'lists', 'shared to the end', 'trained', 'late prompts'}


def close(found: Any, expected: Any, exact: bool) -> None:
    """Check that tensors agree within 1e-5 of the largest value, or of 1.

    The outputs of random heads reach 100, where neighbouring float32 numbers differ by 8e-6.
    """
    pairs = list(zip(flat(found), flat(expected), strict=True))
    assert pairs
    for a, b in pairs:
        assert a.shape == b.shape
        if exact:
            assert torch.equal(a, b)
        else:
            assert (a - b).abs().max() <= 1e-5 * max(1, b.abs().max())


@torch.no_grad()
def raw_of_host(model: Any, x: Tensor) -> Any:
    """Return the outputs of backbone, neck and heads before postprocessing."""
    features = model.backbone(x)
    if hasattr(model, 'rpn_head'):
        pyramid = model.neck(features)
        return [features, pyramid, model.rpn_head(pyramid)]
    return [features, model(x, mode='tensor')]


@torch.no_grad()
def raw_of_features(model: Any, features: Any) -> Any:
    if hasattr(model, 'rpn_head'):
        pyramid = model.neck(features)
        return [features, pyramid, model.rpn_head(pyramid)]
    head = model.decode_head(features) if hasattr(model, 'decode_head') else model.head(model.neck(features))
    return [features, head]


@pytest.mark.parametrize(
    ('tunings', 'form'),
    [
        pytest.param(name, form, marks=[pytest.mark.slow] if name in SLOW or (name, form) == ('pro', 'whole') else [])
        for name in TUNINGS
        for form in ('whole', 'delta')
        if form == 'whole' or name == 'pro'
    ],
)
def test_results_equal_those_of_separate_models(tunings: str, form: str, workshop: Workshop) -> None:
    """Three hosts on one base: equal up to rounding in a joint pass, and bit for bit one by one."""
    multitask = MultiTask(joint=True)
    made = {}
    for i, kind in enumerate(KINDS):
        made[kind] = workshop.task(kind, TUNINGS[tunings].get(kind), seed=i, form=form)
        multitask.add(kind, *made[kind])
    # some images are shared by all tasks, some belong to one task, and one occurs twice
    images = workshop.images
    asked = dict(det=images[:3], seg=[images[1], images[3], images[1]], cls=images[2:])
    together = multitask.features(asked)
    predicted = multitask.predict(asked)
    for kind, (cfg, checkpoint) in made.items():
        model = load_by_host(cfg, checkpoint)
        expected = infer_by_host(model, asked[kind])
        for image, features, result, other in zip(asked[kind], together[kind], predicted[kind], expected, strict=True):
            x = multitask.task(kind).prepare(image).inputs
            raw = raw_of_host(model, x)
            close(raw_of_features(multitask.models[kind], features), raw, exact=False)
            one = multitask.features({kind: [image]})[kind][0]
            close(raw_of_features(multitask.models[kind], one), raw, exact=True)
            same_prediction(kind, result, other)
            same_prediction(kind, multitask.predict({kind: image})[kind][0], other, exact=True)


def same_prediction(kind: str, found: Any, expected: Any, exact: bool = False) -> None:
    if kind == 'cls':
        close(found.pred_score, expected.pred_score, exact)
    elif kind == 'seg':
        close(found.seg_logits.data, expected.seg_logits.data, exact)
    elif exact:  # rounding may change the order of equal scores
        for key in ('scores', 'labels', 'bboxes', 'masks'):
            assert torch.equal(found.pred_instances[key], expected.pred_instances[key])
    else:
        assert len(found.pred_instances) == len(expected.pred_instances)


def test_raw_head_outputs_of_the_same_batch(workshop: Workshop) -> None:
    """`raw` equals mmengine's mode 'tensor' bit for bit, for a batch of two images."""
    multitask = MultiTask()
    cfg, checkpoint = workshop.task('seg')
    multitask.add('seg', cfg, checkpoint)
    model: Any = load_by_host(cfg, checkpoint)
    x = torch.cat([multitask.task('seg').prepare(image).inputs for image in workshop.images[:2]])
    with torch.no_grad():
        expected = model(x, mode='tensor')
    (found,) = multitask.raw({'seg': workshop.images[:2]})['seg']
    assert torch.equal(found, expected)


def test_several_sizes_and_arrays(workshop: Workshop) -> None:
    """Results of images of several sizes keep the images' order; images may be arrays."""
    import mmcv

    multitask = MultiTask(joint=True)
    made = {kind: workshop.task(kind, seed=i) for i, kind in enumerate(('seg', 'cls'))}
    for kind, task in made.items():
        multitask.add(kind, *task)
    first, second = (mmcv.imread(path) for path in workshop.images[:2])
    images = [first[:64], second, first[:64, :96], second[:64]]
    found = multitask.predict(dict(seg=images, cls=images[::-1]))
    seg, cls = (load_by_host(*made[kind]) for kind in ('seg', 'cls'))
    for result, image in zip(found['seg'], images):
        assert result.pred_sem_seg.data.shape[1:] == image.shape[:2]
        close(result.seg_logits.data, infer_by_host(seg, [image])[0].seg_logits.data, exact=False)
    for result, image in zip(found['cls'], images[::-1]):
        close(result.pred_score, infer_by_host(cls, [image])[0].pred_score, exact=False)
