"""Deltas: their content, and that a model which loads a delta gets the right base or stays unchanged."""

import copy
import json
import os
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from protuning_mm import TUNINGS, TunedBackbone
from protuning_mm.cli.inspect_delta import format_text, inspect_delta
from protuning_mm.weights import CheckpointError, FrozenWeightsError, load_checkpoint_file, read_backbone_state
from protuning_mm.weights.deltas import RECORD, DeltaRecord, make_delta
from protuning_mm.weights.deltas.base import BASE_VARIABLE
from protuning_mm.weights.fingerprint import fingerprint
from tests.families import CELLS, FAMILIES, TUNING_CFGS, build_plain, flat, images
from tests.plain import assert_identical, fill, image, plain_resnet, snapshot
from tests.test_weights.deltas import META, checkpoint_of, classifier, save_delta, trained
from tests.tiny import TinyClassifier, Weights

OF_TRANSFORMERS = {'vpt', 'rein', 'adapter', 'adaptformer', 'ia3', 'mona'}
WITHOUT_VIT = sorted(set(TUNINGS.module_dict) - OF_TRANSFORMERS)


@pytest.fixture
def base(weights: Weights) -> str:
    return weights('mmdet', depth=18)


@pytest.fixture
def delta(base: str, tmp_path: Path) -> Path:
    return save_delta(trained(base), tmp_path / 'delta.pth')


def by_mmengine(model: nn.Module, path: Path) -> None:
    load_checkpoint(model, str(path), map_location='cpu')


def by_torch(model: nn.Module, path: Path) -> None:
    """Load by hand, without the loader of this package."""
    if path.suffix == '.safetensors':
        from safetensors.torch import load_file

        model.load_state_dict(load_file(path), strict=True)
    else:
        model.load_state_dict(torch.load(path, weights_only=True)['state_dict'], strict=True)


@pytest.mark.parametrize('tuning', WITHOUT_VIT)
def test_holds_what_differs_from_the_base(tuning: str, base: str, tmp_path: Path) -> None:
    """Tensors that equal the base's file are left out; all others are stored bit for bit."""
    model = trained(base, tuning)
    whole, file = snapshot(model), torch.load(base, weights_only=True)
    stored = load_checkpoint_file(str(save_delta(model, tmp_path / 'delta.pth')))['state_dict']
    left_out = {name for name in whole if name not in stored}
    assert left_out == {f'backbone.{key}' for key in model.backbone.frozen_keys}
    assert all(torch.equal(whole[name], file[name.removeprefix('backbone.')]) for name in left_out)
    assert_identical(stored, {name: tensor for name, tensor in whole.items() if name not in left_out})
    assert set(stored) - set(whole) == {RECORD}
    if tuning == 'full':
        assert not left_out


@pytest.mark.parametrize('tuning', WITHOUT_VIT)
@pytest.mark.parametrize('load', [by_mmengine, by_torch])
@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
def test_loads_into_a_random_model(load: Any, tuning: str, ending: str, base: str, tmp_path: Path) -> None:
    """As init_detector does: no init_cfg, no weights. All tensors and the output equal the trained model's."""
    model = trained(base, tuning).eval()
    path = save_delta(model, tmp_path / f'delta{ending}')
    other = classifier(None, tuning).eval()
    load(other, path)
    assert_identical(other.state_dict(), snapshot(model))
    x = image()
    assert torch.equal(other(x, None), model(x, None))
    assert other.backbone.frozen_source == base
    assert not other.backbone.needs_weights()


def test_part_that_a_second_child_took_over_in_training(base: str, tmp_path: Path) -> None:
    """DDQ's decoder gets branches of the head in its first step; a new model does not have them yet."""
    model = trained(base)
    model.decoder = model.head
    path = save_delta(model, tmp_path / 'delta.pth')
    other = classifier(base)
    by_torch(other, path)
    assert_identical(other.state_dict(), {k: v for k, v in snapshot(model).items() if not k.startswith('decoder.')})
    model.decoder = copy.deepcopy(model.head)
    with torch.no_grad():
        model.decoder.bias += 1  # other values: a part of its own
    with pytest.raises(CheckpointError, match=r'unknown to the model:\n +decoder.bias'):
        by_torch(classifier(base), save_delta(model, tmp_path / 'other.pth'))


def test_matching_base_is_kept_and_no_file_is_read(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = tmp_path / 'base.pth'
    copied.write_bytes(Path(base).read_bytes())
    path = save_delta(trained(str(copied)), tmp_path / 'delta.pth')
    other = classifier(str(copied))
    pointers = {key: tensor.data_ptr() for key, tensor in other.backbone.frozen_tensors().items()}
    copied.unlink()
    by_mmengine(other, path)
    assert {key: tensor.data_ptr() for key, tensor in other.backbone.frozen_tensors().items()} == pointers
    assert_identical(other.backbone.plain_tensors(), torch.load(base, weights_only=True))


@pytest.mark.parametrize('load', [by_mmengine, by_torch])
def test_other_base_is_replaced(load: Any, base: str, delta: Path, tmp_path: Path) -> None:
    """A network of the same shape, from another file."""
    other_base = tmp_path / 'other.pth'
    torch.save(fill(plain_resnet('mmdet', depth=18), seed=77).state_dict(), other_base)
    model = classifier(str(other_base))
    model.backbone.init_cfg = None
    load(model, delta)
    assert_identical(model.backbone.plain_tensors(), torch.load(base, weights_only=True))
    assert model.backbone.frozen_source == base


@pytest.mark.parametrize('load', [by_mmengine, by_torch])
@pytest.mark.parametrize('how', ['gone', 'replaced', 'another depth', 'damaged', 'unnamed'])
def test_no_right_base_is_found(how: str, load: Any, base: str, tmp_path: Path) -> None:
    """The error names the delta's base and each tried source; the model is unchanged."""
    copied = tmp_path / 'base.pth'
    copied.write_bytes(Path(base).read_bytes())
    model = trained(str(copied))
    if how == 'unnamed':
        model.backbone.frozen_source = None
    path = save_delta(model, tmp_path / 'delta.pth')
    total = fingerprint(torch.load(base, weights_only=True)).total
    said = {
        'gone': 'does not exist',
        'replaced': 'another network; ',
        'another depth': 'another network; ',
        'damaged': 'is damaged',
        'unnamed': 'does not say where its base came from',
    }
    if how in ('gone', 'unnamed'):
        copied.unlink()
    elif how == 'replaced':
        torch.save(fill(plain_resnet('mmdet', depth=18), seed=78).state_dict(), copied)
    elif how == 'another depth':
        torch.save(fill(plain_resnet('mmdet', depth=34)).state_dict(), copied)
    else:
        copied.write_bytes(copied.read_bytes()[:1000])
    other = classifier(None)
    before = snapshot(other)
    with pytest.raises(CheckpointError) as caught:
        load(other, path)
    text = str(caught.value)
    assert said[how] in text and total[:12] in text and 'init_cfg' in text and BASE_VARIABLE in text
    assert how == 'unnamed' or str(copied) in text
    assert_identical(other.state_dict(), before)
    assert other.backbone.frozen_source is None


def test_base_named_by_environment_or_config(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded file is gone; the environment or the config names another one."""
    copied = tmp_path / 'base.pth'
    copied.write_bytes(Path(base).read_bytes())
    path = save_delta(trained(str(copied)), tmp_path / 'delta.pth')
    copied.unlink()
    model = classifier(None)
    model.backbone.init_cfg = dict(type='Pretrained', checkpoint=base)
    by_mmengine(model, path)
    assert_identical(model.backbone.plain_tensors(), torch.load(base, weights_only=True))
    monkeypatch.setenv(BASE_VARIABLE, os.pathsep.join([str(tmp_path / 'nowhere.pth'), base]))
    model = classifier(None)
    by_mmengine(model, path)
    assert_identical(model.backbone.plain_tensors(), torch.load(base, weights_only=True))


def test_base_inside_a_whole_detector(base: str, tmp_path: Path) -> None:
    """The frozen weights came with ``load_from``: the base is that file, its keys begin with ``backbone.``."""
    whole = tmp_path / 'detector.pth'
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in torch.load(base, weights_only=True).items()}), whole)
    path = save_delta(trained(str(whole)), tmp_path / 'delta.pth')
    model = classifier(None)
    by_mmengine(model, path)
    assert_identical(model.backbone.plain_tensors(), torch.load(base, weights_only=True))


@pytest.mark.parametrize(
    'source',
    [
        'http://download.pytorch.org/x.pth',
        'https://evil.org/download.pytorch.org/x.pth',
        'https://download.pytorch.org.evil.org/x.pth',
        'https://evil.org@download.pytorch.org:81/x.pth',
        'https://github.com/evil/storage/x.pth',
        'https://github.com/SwinTransformer/storage-evil/x.pth',
        's3://bucket/x.pth',
        'petrel://bucket/x.pth',
        'pavi://x',
        'file:///etc/passwd',
        'ftp://download.pytorch.org/x.pth',
    ],
)
def test_addresses_to_which_a_delta_must_not_send(source: str, base: str, tmp_path: Path, monkeypatch: Any) -> None:
    from mmengine.runner.checkpoint import CheckpointLoader

    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f'{args} was fetched')

    model = trained(base)
    model.backbone.frozen_source = source
    path = save_delta(model, tmp_path / 'delta.pth')
    other = classifier(None)
    content = load_checkpoint_file(str(path))
    monkeypatch.setattr(CheckpointLoader, 'load_checkpoint', never)
    with pytest.raises(CheckpointError, match='not fetched'):
        other.load_state_dict(content['state_dict'])


MISFITS = {
    'depth': (dict(depth=34), 'another network'),
    'width': (dict(base_channels=8), 'another network'),
    'tuning': (dict(tuning='lora'), 'another tuning'),
    'setting of the tuning': (dict(tuning=dict(type='pro', ratio=0.5)), 'ratio=0.5'),
    'setting without a shape': (dict(tuning=dict(type='pro', act_cfg=dict(type='ReLU'))), 'ReLU'),
    'several tunings': (dict(tuning=['pro', 'bias']), 'another tuning'),
    'classes': (dict(num_classes=5), r'3 classes \(cat, dog, bird\)'),
    'deep stem': (dict(deep_stem=True), 'another network'),
}


@pytest.mark.parametrize('load', [by_mmengine, by_torch])
@pytest.mark.parametrize('misfit', list(MISFITS))
def test_delta_of_another_model(misfit: str, load: Any, delta: Path) -> None:
    """mmengine would warn, and load the tensors that fit."""
    settings, said = MISFITS[misfit]
    model = classifier(None, **settings)
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=said):
        load(model, delta)
    assert_identical(model.state_dict(), before)


def test_same_tuning_with_explicit_defaults(delta: Path) -> None:
    """Explicit default settings are the same tuning."""
    model = classifier(None, dict(type='pro', prompt_stages=(0, 1, 2, 3), kernel_size=5, ratio=0.32))
    by_torch(model, delta)


def test_plain_model_of_the_host(delta: Path) -> None:
    model = TinyClassifier(plain_resnet('mmdet', depth=18))
    before = snapshot(model)
    with pytest.raises(CheckpointError, match='is a delta.*merge_delta'):
        by_mmengine(model, delta)
    assert_identical(model.state_dict(), before)
    with pytest.raises(RuntimeError, match=RECORD):
        by_torch(model, delta)


def test_delta_is_no_backbone(delta: Path) -> None:
    with pytest.raises(CheckpointError, match='is a delta'):
        read_backbone_state(str(delta))


def test_whole_checkpoints_load_as_before(base: str, tmp_path: Path) -> None:
    model = trained(base)
    torch.save(checkpoint_of(model), tmp_path / 'whole.pth')
    for load in (by_mmengine, by_torch):
        other = classifier(None)
        load(other, tmp_path / 'whole.pth')
        assert_identical(other.state_dict(), snapshot(model))


def test_no_record_is_left_in_the_state(base: str, delta: Path) -> None:
    """The caller's dict is untouched, and may be loaded again."""
    state = torch.load(delta, weights_only=True)['state_dict']
    keys = list(state)
    for _ in range(2):
        classifier(None).load_state_dict(state)
    assert list(state) == keys


def test_nested_copied_and_bare(base: str, delta: Path, tmp_path: Path) -> None:
    """A model inside a model, a copy of it, and the backbone alone."""
    import copy

    state = torch.load(delta, weights_only=True)['state_dict']
    outer = nn.ModuleDict(dict(student=classifier(None)))
    copied = copy.deepcopy(outer)
    for each in (outer, copied):
        each.load_state_dict({f'student.{name}': tensor for name, tensor in state.items()})
        assert_identical(each.student.backbone.plain_tensors(), torch.load(base, weights_only=True))
    backbone = trained(base).backbone
    content = dict(state_dict=backbone.state_dict())
    make_delta(content, {'': backbone}, {'': fingerprint(backbone.frozen_tensors())})
    alone = classifier(None).backbone
    alone.load_state_dict(content['state_dict'])
    assert_identical(alone.state_dict(), snapshot(backbone))


def test_two_backbones(base: str) -> None:
    model = nn.ModuleDict(dict(rgb=trained(base).backbone, depth=trained(base, 'lora').backbone))
    content = dict(state_dict=model.state_dict())
    make_delta(content, dict(model.items()), {k: fingerprint(v.frozen_tensors()) for k, v in model.items()})
    other = nn.ModuleDict(dict(rgb=classifier(None).backbone, depth=classifier(None, 'lora').backbone))
    other.load_state_dict(content['state_dict'])
    assert_identical(other.state_dict(), snapshot(model))
    with pytest.raises(CheckpointError, match=r"tuned backbones at \['depth', 'rgb'\]"):
        nn.ModuleDict(dict(rgb=classifier(None).backbone)).load_state_dict(content['state_dict'])


def test_changed_frozen_tensor_is_not_saved(base: str) -> None:
    model = trained(base)
    before = {'backbone': fingerprint(model.backbone.frozen_tensors())}
    model.backbone.plain.layer2[0].bn1.running_mean[0] += 1e-3
    content = checkpoint_of(model)
    with pytest.raises(FrozenWeightsError, match='layer2.0.bn1.running_mean'):
        make_delta(content, {'backbone': model.backbone}, before)
    assert RECORD not in content['state_dict']


def test_half_of_a_base_on_another_dtype(base: str, tmp_path: Path) -> None:
    """A model in half precision saves and loads against the base in half precision."""
    model = trained(base).half()
    path = save_delta(model, tmp_path / 'half.pth')
    other = classifier(None).half()
    by_torch(other, path)
    assert_identical(other.state_dict(), snapshot(model))
    with pytest.raises(CheckpointError, match='another network'):
        by_torch(classifier(None), path)


def test_record(base: str, delta: Path) -> None:
    record = DeltaRecord.from_tensor(torch.load(delta, weights_only=True)['state_dict'][RECORD])
    assert record.bases['backbone'].source == base
    assert record.bases['backbone'].fingerprint.total == fingerprint(torch.load(base, weights_only=True)).total
    assert record.bases['backbone'].tuning[0]['kernel_size'] == 5
    assert record.dataset_meta['classes'] == list(META['classes'])
    import protuning_mm

    assert record.version == protuning_mm.__version__


def rewritten(tensor: Tensor, change: Any) -> Tensor:
    """A record with other content and a valid hash."""
    import hashlib

    content = tensor.numpy().tobytes()
    packed = zlib.compress(json.dumps(change(json.loads(zlib.decompress(content[36:])))).encode())
    return torch.frombuffer(bytearray(content[:4] + hashlib.sha256(packed).digest() + packed), dtype=torch.uint8)


@pytest.mark.parametrize('change', [lambda r: [], lambda r: {}, lambda r: {**r, 'bases': 3}, lambda r: {**r, 'x': 1}])
def test_record_of_another_kind(change: Any, delta: Path) -> None:
    state = torch.load(delta, weights_only=True)['state_dict']
    state[RECORD] = rewritten(state[RECORD], change)
    with pytest.raises(CheckpointError, match='was not written by protuning_mm'):
        classifier(None).load_state_dict(state)


FIELDS = ('version', 'dataset_meta', 'classes', 'stored', 'source', 'prefix', 'frozen', 'tuning')


def test_record_with_another_type_within(delta: Path, tmp_path: Path) -> None:
    """It loads, or a CheckpointError says why not; the same for ``inspect_delta.py``."""
    content, model = torch.load(delta, weights_only=True), classifier(None)
    right, path, told = content['state_dict'][RECORD], tmp_path / 'other.pth', 0
    values = (None, True, 3, 'x', [], {}, [3], [{}], {'a': 3}, {'a': 'b'}, [{'type': 3}], '../' * 2000)

    def by_inspect() -> None:
        format_text(inspect_delta(str(path)))

    def by_hand() -> None:
        model.load_state_dict(dict(content['state_dict']))

    for field, value in product(FIELDS, values):

        def change(record: Any, field: str = field, value: Any = value) -> Any:
            base, meta = record['bases']['backbone'], record['dataset_meta']
            (base if field in base else meta if field in meta else record)[field] = value
            return record

        content['state_dict'][RECORD] = rewritten(right, change)
        torch.save(content, path)
        for read in (by_inspect, by_hand):
            try:
                read()
            except CheckpointError:
                told += 1
    assert told > 100


def test_other_versions(delta: Path) -> None:
    """A delta of another version with the same format loads; a newer format is refused and named."""
    state = torch.load(delta, weights_only=True)['state_dict']
    state[RECORD] = rewritten(state[RECORD], lambda r: {**r, 'version': '7.0.0'})
    classifier(None).load_state_dict(state)
    state[RECORD] = state[RECORD].clone()
    state[RECORD][3] = ord('2')
    with pytest.raises(CheckpointError, match='format 2.*reads format 1'):
        classifier(None).load_state_dict(state)


def test_record_that_unpacks_to_gigabytes(delta: Path) -> None:
    import hashlib

    packed = zlib.compress(b' ' * 2**28)
    content = b'PTD1' + hashlib.sha256(packed).digest() + packed
    state = torch.load(delta, weights_only=True)['state_dict']
    state[RECORD] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    with pytest.raises(CheckpointError, match='was not written by protuning_mm'):
        classifier(None).load_state_dict(state)


def slow_but_pro() -> list[Any]:
    return [pytest.param(family, tuning, marks=[] if tuning == 'pro' else pytest.mark.slow) for family, tuning in CELLS]


@pytest.mark.parametrize(('family', 'tuning'), slow_but_pro())
def test_every_family_and_tuning(family: str, tuning: str, tmp_path: Path) -> None:
    """A delta is loaded into a random model; its output equals the trained model's bit for bit."""
    plain = fill(build_plain(family))
    torch.save(plain.state_dict(), tmp_path / 'base.pth')

    def build(**kwargs: Any) -> TunedBackbone:
        return TunedBackbone(dict(FAMILIES[family]), TUNING_CFGS[tuning], **kwargs)

    model = build(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth')))
    model.init_weights()
    with torch.no_grad():
        for name, param in model.named_parameters():
            if param.requires_grad:
                param.add_(0.1 * torch.randn(param.shape, generator=torch.Generator().manual_seed(len(name))))
    content = dict(state_dict=model.state_dict())
    make_delta(content, {'': model}, {'': fingerprint(model.frozen_tensors())})
    trained_bytes = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    stored_bytes = sum(t.nbytes for name, t in content['state_dict'].items() if name != RECORD)
    if model.frozen_keys:
        buffers = sum(b.nbytes for name, b in model.named_buffers() if name not in model.frozen_keys)
        assert stored_bytes <= trained_bytes + buffers
    other = build()
    other.load_state_dict(content['state_dict'])
    assert_identical(other.state_dict(), snapshot(model))
    x = images(family)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(flat(other.eval()(x)), flat(model.eval()(x))))
