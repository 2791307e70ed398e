"""Tasks are added, removed and swapped; memory is shared; errors name their cause."""

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protuning_mm.data import DataError
from protuning_mm.engine.errors import ConfigError
from protuning_mm.multitask import MultiTask
from protuning_mm.multitask.errors import MultiTaskError
from protuning_mm.weights import CheckpointError
from tests.families import flat
from tests.mini import write_backbone
from tests.test_multitask.tasks import Workshop, infer_by_host, joint_networks, load_by_host

KINDS = ('det', 'seg', 'cls')


def storages(model: Any, keys: Any = None) -> dict[int, int]:
    state = model.state_dict()
    tensors = [t for k, t in state.items() if keys is None or k in keys]
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


@pytest.mark.parametrize('form', ['whole', 'delta'])
def test_frozen_tensors_are_in_memory_once(form: str, workshop: Workshop) -> None:
    """The distinct storages take the bytes of one base and of each task's own tensors."""
    multitask = MultiTask(joint=True)
    expected: dict[int, int] = {}
    total = 0
    for i, kind in enumerate(KINDS):
        cfg, checkpoint = workshop.task(kind, seed=i, form=form)
        multitask.add(kind, cfg, checkpoint)
        model: Any = load_by_host(cfg, checkpoint)
        frozen = {f'backbone.{key}' for key in model.backbone.frozen_keys}
        base = sum(storages(model, frozen).values())
        total += sum(storages(model).values()) - (base if i else 0)
        expected |= storages(multitask.models[kind])
    assert sum(expected.values()) == total
    backbones = [multitask.task(kind).backbone for kind in KINDS]
    multitask.predict(dict.fromkeys(KINDS, workshop.images[0]))
    networks = (*(backbone.plain for backbone in backbones), *joint_networks(multitask))
    assert len(networks) == 4
    for key in backbones[0].frozen_keys:
        path, _, name = key.rpartition('.')
        own = [getattr(part.get_submodule(path), name) for part in networks]
        assert all(tensor is own[0] for tensor in own), key


def test_unchanged_layers_are_in_memory_once(workshop: Workshop) -> None:
    """Layers with a hook or a tensor of one task are not shared, because they would change the other tasks."""
    multitask = MultiTask()
    tunings = dict(plain='linear', prompted='pro', adapted='lora', trained='norm')
    for i, (name, tuning) in enumerate(tunings.items()):
        multitask.add(name, *workshop.task('cls', tuning, seed=i))
    plain, prompted, adapted, trained = (
        {path: part for path, part in multitask.task(name).backbone.plain.named_modules() if 'layer' in path}
        for name in tunings
    )

    def shared(other: dict[str, Any]) -> set[str]:
        assert len({id(part) for part in other.values()}) == len(other)
        return {path for path, part in plain.items() if other.get(path) is part}

    layers = {path for path, part in plain.items() if not list(part.children())}
    norms = {path for path in layers if list(plain[path].buffers())}
    assert shared(prompted) == layers
    assert shared(trained) == layers - norms
    assert shared(adapted) == {path for path in layers if not adapted[path]._forward_hooks} != layers


def test_remove_and_swap(workshop: Workshop) -> None:
    multitask = MultiTask()
    made = {kind: workshop.task(kind, seed=i) for i, kind in enumerate(KINDS)}
    for kind, task in made.items():
        multitask.add(kind, *task)
    gone = weakref.ref(multitask.models['det'])
    multitask.remove('det')
    gc.collect()
    assert gone() is None and multitask.tasks == ('seg', 'cls')
    other = workshop.task('cls', 'lora', seed=9)
    multitask.swap('cls', *other)
    image = workshop.images[0]
    found = multitask.predict(dict.fromkeys(multitask.tasks, image))
    expected = infer_by_host(load_by_host(*other), [image])[0].pred_score
    assert torch.allclose(found['cls'][0].pred_score, expected, atol=1e-5)
    before = infer_by_host(load_by_host(*made['cls']), [image])[0].pred_score
    assert not torch.allclose(found['cls'][0].pred_score, before, atol=1e-3)
    for name in multitask.tasks:
        multitask.remove(name)
    with pytest.raises(MultiTaskError, match="no task 'seg'; tasks are: none"):
        multitask.predict(dict(seg=image))


def test_a_failed_swap_keeps_the_old_task(workshop: Workshop) -> None:
    multitask = MultiTask()
    cfg, checkpoint = workshop.task('cls')
    multitask.add('cls', cfg, checkpoint)
    before = multitask.features(dict(cls=workshop.images[0]))
    bad = workshop.folder / 'bad.pth'
    bad.write_bytes(b'nothing')
    with pytest.raises(CheckpointError):
        multitask.swap('cls', cfg, bad)
    after = multitask.features(dict(cls=workshop.images[0]))
    assert all(torch.equal(a, b) for a, b in zip(flat(before['cls']), flat(after['cls'])))


def test_errors_of_wrong_names(workshop: Workshop) -> None:
    multitask = MultiTask()
    cfg, checkpoint = workshop.task('cls')
    multitask.add('cls', cfg, checkpoint)
    for call in (
        lambda: multitask.predict({'dogs': 'a.jpg'}),
        lambda: multitask.remove('dogs'),
        lambda: multitask.swap('dogs', cfg, checkpoint),
    ):
        with pytest.raises(MultiTaskError, match=r"no task 'dogs'; tasks are: 'cls'"):
            call()
    with pytest.raises(MultiTaskError, match="a task 'cls' already"):
        multitask.add('cls', cfg, checkpoint)
    with pytest.raises(CheckpointError, match='does not exist'):
        multitask.add('other', cfg, 'nowhere.pth')
    with pytest.raises(ConfigError, match='no config'):
        multitask.add('other', 'nowhere.py', checkpoint)


def test_errors_of_unreadable_images(workshop: Workshop, tmp_path: Path) -> None:
    multitask = MultiTask()
    for kind in KINDS:
        multitask.add(kind, *workshop.task(kind))
    broken = tmp_path / 'broken.jpg'
    broken.write_bytes(b'nothing')
    (tmp_path / 'empty.jpg').write_bytes(b'')
    for image in (str(tmp_path / 'missing.jpg'), str(broken), str(tmp_path / 'empty.jpg')):
        for kind in KINDS:
            with pytest.raises(DataError, match=Path(image).name):
                multitask.predict({kind: [workshop.images[0], image]})
    with pytest.raises(DataError, match='an array of shape'):
        multitask.predict(dict(cls=np.zeros((0, 4, 3), np.uint8)))


def test_a_plain_backbone_is_an_error(workshop: Workshop) -> None:
    cfg, checkpoint = workshop.task('cls')
    cfg.model.backbone = dict(type='ResNet', depth=18, base_channels=8, stem_channels=8, out_indices=(3,))
    with pytest.raises(MultiTaskError, match=r"task 'cls': the backbone is a ResNet.*TunedBackbone"):
        MultiTask().add('cls', cfg, checkpoint)


@pytest.mark.parametrize(
    ('resnet', 'seed', 'why'),
    [
        (dict(), 5, 'other weights: the first tensor that differs is conv1.weight'),
        (dict(stem_channels=16), 0, r'another architecture: it has layer1\.0\.downsample.*base does not have'),
        (dict(depth=34), 0, r'another architecture: it has layer1\.2'),
    ],
)
def test_another_base(resnet: dict[str, Any], seed: int, why: str, workshop: Workshop, tmp_path: Path) -> None:
    """The error names the difference and both checkpoints; with several_bases the task gets its own base."""
    first = workshop.task('cls')
    base = write_backbone(tmp_path / 'other.pth', 'mmpretrain', **{'stem_channels': 8, **resnet})
    if seed:
        state = torch.load(base)
        torch.save({k: t * 1.5 if k == 'conv1.weight' else t for k, t in state.items()}, base)
    other = workshop.task('cls', **resnet, init_cfg=dict(type='Pretrained', checkpoint=str(base)))
    multitask = MultiTask()
    multitask.add('one', *first)
    with pytest.raises(MultiTaskError, match=why) as error:
        multitask.add('two', *other)
    assert first[1] in str(error.value) and other[1] in str(error.value) and multitask.tasks == ('one',)
    several = MultiTask(several_bases=True)
    several.add('one', *first)
    several.add('two', *other)
    several.add('three', *other)
    image = workshop.images[0]
    found = several.predict(dict.fromkeys(several.tasks, image))
    for name, task in dict(one=first, two=other, three=other).items():
        expected = infer_by_host(load_by_host(*task), [image])[0].pred_score
        assert torch.allclose(found[name][0].pred_score, expected, atol=1e-5)
    assert several.task('two').backbone.conv1.weight is several.task('three').backbone.conv1.weight
    assert several.task('two').backbone.conv1.weight is not several.task('one').backbone.conv1.weight
