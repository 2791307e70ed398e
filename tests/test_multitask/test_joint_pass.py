"""When tasks run through the frozen network together, and on how many rows each stage then runs."""

from collections import Counter
from typing import Any

import pytest

from protuning_mm import TunedBackbone
from protuning_mm.multitask import MultiTask
from protuning_mm.multitask.errors import MultiTaskError
from protuning_mm.multitask.joint.runner import saved_share
from protuning_mm.multitask.joint.tuning_hooks import count_unchanged_blocks
from tests.families import FAMILIES, TUNING_CFGS
from tests.test_multitask.tasks import Workshop, infer_by_host, joint_networks, load_by_host

KINDS = ('det', 'seg', 'cls')
PARTS = ('conv1', 'layer1', 'layer2', 'layer3', 'layer4')


def add_tasks(workshop: Workshop, joint: Any, **tunings: Any) -> MultiTask:
    multitask = MultiTask(joint=joint)
    for i, (kind, tuning) in enumerate(tunings.items()):
        multitask.add(kind, *workshop.task(kind, tuning, seed=i))
    return multitask


def count_rows(networks: dict[str, Any]) -> dict[str, Counter]:
    """Count, from now on, how often the stem and each stage of the networks run on how many rows."""
    calls: dict[str, Counter] = {}
    for name, network in networks.items():
        calls[name] = Counter()
        for part in PARTS:

            def note(module: Any, args: Any, of: Counter = calls[name], part: str = part) -> None:
                of[part, len(args[0])] += 1

            network.get_submodule(part).register_forward_pre_hook(note)
    return calls


def predict_and_count(multitask: MultiTask, images: dict[str, Any]) -> dict[str, Counter]:
    """Predict twice, and return the counts of the second request; the first one may build the joint network."""
    multitask.predict(images)
    networks = {name: task.backbone.plain for name, task in multitask._snapshot.tasks.items()}
    calls = count_rows(networks | {f'joint {i}': network for i, network in enumerate(joint_networks(multitask))})
    multitask.predict(images)
    return {name: found for name, found in calls.items() if found}


LATE = dict(type='pro', prompt_stages=[2, 3])


@pytest.mark.parametrize('joint', ['auto', True])
@pytest.mark.parametrize(
    ('tunings', 'rows'),
    [
        (dict(det=None, seg=None, cls=None), (1, 1, 3, 3, 3)),
        (dict(det=LATE, seg=LATE, cls=LATE), (1, 1, 1, 1, 3)),
        (dict(det='linear', seg='side', cls='linear'), (1, 1, 1, 1, 1)),
        # the two tasks that change no feature map share one row, whatever the third one does
        (dict(det='linear', seg=LATE, cls='linear'), (1, 1, 1, 1, 2)),
        # the batch is split in front of the first block of layer1
        (dict(det='lora', seg='linear', cls='linear'), (1, 1, 2, 2, 2)),
    ],
    ids=['prompts', 'late prompts', 'none', 'one late prompt', 'one lora'],
)
def test_rows_of_one_image(tunings: dict[str, Any], rows: tuple[int, ...], joint: Any, workshop: Workshop) -> None:
    multitask = add_tasks(workshop, joint, **tunings)
    calls = predict_and_count(multitask, dict.fromkeys(KINDS, workshop.images[0]))
    assert calls == {'joint 0': dict.fromkeys(zip(PARTS, rows), 1)}


def test_rows_of_different_images(workshop: Workshop) -> None:
    """Two of four images are asked about twice: four rows in the stem, six after the first prompt."""
    multitask = add_tasks(workshop, True, det=None, seg=None, cls=None)
    a, b, c, d = workshop.images
    calls = predict_and_count(multitask, dict(det=[a, b], seg=[b, c], cls=[d, a]))
    rows = {('conv1', 4): 1, ('layer1', 4): 1, **{(f'layer{i}', 6): 1 for i in (2, 3, 4)}}
    assert calls == {'joint 0': rows}


def test_a_task_that_cannot_run_jointly_runs_separately(workshop: Workshop) -> None:
    multitask = add_tasks(workshop, 'auto', det=None, seg='bias', cls=None)
    calls = predict_and_count(multitask, dict.fromkeys(KINDS, workshop.images[0]))
    assert set(calls) == {'joint 0', 'seg'}
    assert calls['joint 0']['conv1', 1] == 1 and calls['joint 0']['layer2', 2] == 1
    assert calls['seg']['conv1', 1] == 1


def test_separate_passes_where_a_joint_pass_saves_too_little(workshop: Workshop) -> None:
    """Different images share nothing; LoRA in the first block leaves only the stem to share."""
    for tunings, images in (
        (dict(det=LATE, seg=LATE, cls=LATE), workshop.images),
        (dict(det='lora', seg='lora', cls='lora'), workshop.images[:1] * 3),
    ):
        multitask = add_tasks(workshop, 'auto', **tunings)
        calls = predict_and_count(multitask, dict(zip(KINDS, images)))
        assert calls == {kind: dict.fromkeys(((part, 1) for part in PARTS), 1) for kind in KINDS}
        assert joint_networks(multitask) == []


@pytest.mark.parametrize('joint', ['auto', True])
def test_a_request_for_one_task_never_runs_jointly(joint: Any, workshop: Workshop) -> None:
    multitask = MultiTask(joint=joint)
    for kind in KINDS:
        multitask.add(kind, *workshop.task(kind))
    calls = predict_and_count(multitask, dict(cls=workshop.images[0]))
    assert calls == {'cls': dict.fromkeys(((part, 1) for part in PARTS), 1)} and joint_networks(multitask) == []


def test_joint_false_builds_nothing(workshop: Workshop) -> None:
    multitask = add_tasks(workshop, False, det='linear', seg='linear', cls='linear')
    calls = predict_and_count(multitask, dict.fromkeys(KINDS, workshop.images[0]))
    assert set(calls) == set(KINDS) and multitask._snapshot.joint is None
    with pytest.raises(MultiTaskError, match="joint='always': must be 'auto', True or False"):
        MultiTask(joint='always')  # type: ignore[arg-type]


def test_a_joint_network_is_kept_while_its_tasks_stay(workshop: Workshop) -> None:
    multitask = add_tasks(workshop, True, det=None, seg=None, cls='bias')
    multitask.predict(dict.fromkeys(KINDS, workshop.images[0]))
    first = joint_networks(multitask)
    multitask.remove('cls')
    assert len(first) == 1 and joint_networks(multitask)[0] is first[0]
    multitask.swap('seg', *workshop.task('seg', seed=5))
    assert joint_networks(multitask) == []


@pytest.mark.parametrize(
    ('images', 'unchanged', 'expected'),
    [
        (dict(a=[0], b=[0]), dict(a=3, b=3), 3 / 32),  # 16 blocks as in ResNet-50, 3 of them in stage 1
        (dict(a=[0], b=[0], c=[0], d=[0]), dict.fromkeys('abcd', 3), 9 / 64),
        (dict(a=[0], b=[0]), dict(a=13, b=13), 13 / 32),
        (dict(a=[0], b=[0]), dict(a=3, b=13), 3 / 32),  # one split, where the first task changes something
        (dict(a=[0], b=[0]), dict(a=None, b=None), 1 / 2),
        (dict(a=[0], b=[0], c=[0]), dict(a=None, b=0, c=None), 1 / 3),
        (dict(a=[0], b=[1]), dict(a=13, b=13), 0),
        (dict(a=[0, 1], b=[1, 2]), dict(a=16, b=16), 1 / 4),
        (dict(a=[0, 0], b=[1]), dict(a=0, b=0), 1 / 3),  # an image that one task asks about twice
    ],
)
def test_saved_share(images: dict[str, list[int]], unchanged: dict[str, int | None], expected: float) -> None:
    assert saved_share(images, unchanged, blocks=16) == pytest.approx(expected)


@pytest.mark.parametrize(
    ('family', 'tuning', 'expected'),
    [
        ('mmdet.ResNet50', dict(type='pro'), 3),
        ('mmdet.ResNet50', dict(type='pro', prompt_stages=[2, 3]), 13),
        ('mmdet.ResNet50', dict(type='pro', prompt_stages=[3]), 16),
        ('mmdet.ResNet50', dict(type='pro', prompt_stages=[]), None),
        ('mmdet.ResNet50', 'linear', None),
        ('mmdet.ResNet50', TUNING_CFGS['side'], None),
        ('mmdet.ResNet50', TUNING_CFGS['lora'], 0),
        ('mmdet.ResNet50', [dict(type='pro', prompt_stages=[3]), TUNING_CFGS['ssf']], 0),
        ('mmdet.Swin', dict(type='pro'), 1),
        ('mmdet.Swin', dict(type='pro', prompt_stages=[2]), 4),
        ('mmpretrain.ViT', dict(type='pro', prompt_stages=[1]), 2),
        ('timm.resnet', dict(type='pro', prompt_stages=[3]), 0),
        ('timm.resnet', 'linear', None),
    ],
    ids=str,
)
def test_count_unchanged_blocks(family: str, tuning: Any, expected: int | None) -> None:
    package = FAMILIES[family]['type'].split('.')[0]
    __import__('timm' if package == 'timm' else f'{package}.models')
    assert count_unchanged_blocks(TunedBackbone(dict(FAMILIES[family]), tuning)) == expected


def test_crops_are_computed_anew(workshop: Workshop) -> None:
    """Slide inference calls the backbone with crops, for which the features of the whole image are wrong."""
    cfg, checkpoint = workshop.task('seg')
    cfg.model.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(48, 48))
    multitask = MultiTask(joint=True)
    multitask.add('cls', *workshop.task('cls'))
    multitask.add('seg', cfg, checkpoint)
    found = multitask.predict(dict(seg=workshop.images[0], cls=workshop.images[0]))['seg'][0]
    expected = infer_by_host(load_by_host(cfg, checkpoint), workshop.images[:1])[0]
    assert found.seg_logits.data.equal(expected.seg_logits.data)
