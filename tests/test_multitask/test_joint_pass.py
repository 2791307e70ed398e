"""The frozen network runs once for all, and once an image before the first prompt."""

from collections import Counter
from typing import Any

import pytest

from protuning_mm.multitask import MultiTask
from tests.test_multitask.tasks import Workshop

KINDS = ('det', 'seg', 'cls')


def counted(multitask: MultiTask) -> dict[str, Counter]:
    """Rows that go into the stem and the stages, of the trunk and of each task's own network, from now on."""
    networks = {name: task.backbone.plain for name, task in multitask._snapshot.tasks.items()}
    for trunk in set(multitask._snapshot.trunks.values()):
        networks['together'] = trunk.network
    calls: dict[str, Counter] = {}
    for name, network in networks.items():
        calls[name] = Counter()
        for part in ('conv1', 'layer1', 'layer2', 'layer3', 'layer4'):

            def note(module: Any, args: Any, of: Counter = calls[name], part: str = part) -> None:
                of[part, len(args[0])] += 1

            network.get_submodule(part).register_forward_pre_hook(note)
    return calls


def served(workshop: Workshop, **tunings: Any) -> MultiTask:
    multitask = MultiTask()
    for i, (kind, tuning) in enumerate(tunings.items()):
        multitask.add(kind, *workshop.task(kind, tuning, seed=i))
    return multitask


ONE, TWO, THREE = 1, 2, 3
LATE = dict(type='pro', prompt_stages=[2, 3])


@pytest.mark.parametrize(
    ('tunings', 'rows'),
    [
        (dict(det=None, seg=None, cls=None), (ONE, ONE, THREE, THREE, THREE)),
        (dict(det=LATE, seg=LATE, cls=LATE), (ONE, ONE, ONE, ONE, THREE)),
        (dict(det='linear', seg='side', cls='linear'), (ONE, ONE, ONE, ONE, ONE)),
        # the two that change nothing share one row, whatever the third does
        (dict(det='linear', seg=LATE, cls='linear'), (ONE, ONE, ONE, ONE, TWO)),
        # the rows part at the entry of the first block of layer1
        (dict(det='lora', seg='linear', cls='linear'), (ONE, ONE, TWO, TWO, TWO)),
    ],
    ids=['prompts', 'late prompts', 'none', 'one late prompt', 'one lora'],
)
def test_one_image(tunings: dict[str, Any], rows: tuple[int, ...], workshop: Workshop) -> None:
    multitask = served(workshop, **tunings)
    calls = counted(multitask)
    multitask.predict(dict.fromkeys(KINDS, workshop.images[0]))
    expected = dict(zip(('conv1', 'layer1', 'layer2', 'layer3', 'layer4'), rows))
    assert calls.pop('together') == dict.fromkeys(expected.items(), 1)
    assert not any(calls.values()), 'a network of a single task ran too'


def test_different_images_in_one_batch(workshop: Workshop) -> None:
    """Two of the images are asked about twice: four rows in the stem, six behind the first prompt."""
    multitask = served(workshop, det=None, seg=None, cls=None)
    calls = counted(multitask)
    a, b, c, d = workshop.images
    multitask.predict(dict(det=[a, b], seg=[b, c], cls=[d, a]))
    assert calls.pop('together') == {('conv1', 4): 1, ('layer1', 4): 1, **{(f'layer{i}', 6): 1 for i in (2, 3, 4)}}
    assert not any(calls.values())


def test_what_cannot_run_jointly_runs_by_itself(workshop: Workshop) -> None:
    multitask = served(workshop, det=None, seg='bias', cls=None)
    calls = counted(multitask)
    multitask.predict(dict.fromkeys(KINDS, workshop.images[0]))
    assert calls['together']['conv1', 1] == 1 and calls['together']['layer2', 2] == 1
    assert calls['seg']['conv1', 1] == 1 and not calls['det'] and not calls['cls']


def test_another_input_is_computed_anew(workshop: Workshop) -> None:
    """Slide inference crops the image: the features of the whole are not the crops'."""
    cfg, checkpoint = workshop.task('seg')
    cfg.model.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(48, 48))
    multitask = MultiTask()
    multitask.add('cls', *workshop.task('cls'))
    multitask.add('seg', cfg, checkpoint)
    from tests.test_multitask.tasks import alone, infer_alone

    found = multitask.predict(dict(seg=workshop.images[0], cls=workshop.images[0]))['seg'][0]
    expected = infer_alone(alone(cfg, checkpoint), workshop.images[:1])[0]
    assert found.seg_logits.data.equal(expected.seg_logits.data)
