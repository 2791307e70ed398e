"""Trial steps on noise: gradients, batch norms with single values, and memory; and the estimated file sizes."""

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import nn

from protuning_lab.measure import peak_memory
from protuning_mm.doctor import TrainingSetup
from protuning_mm.doctor.estimates import estimate_sizes
from protuning_mm.doctor.fake_proposals import use_fake_proposals
from protuning_mm.doctor.noise_batch import make_noise_batch
from protuning_mm.doctor.training_setup import build_model
from protuning_mm.doctor.trial_step import init_modules, run_trial_steps
from tests.mini import REPO
from tests.test_doctor.doctor_runs import MiniConfigs, finding_at, run_doctor, severe

UNUSED = """
import torch
from mmseg.models import FCNHead
from mmengine.registry import MODELS

@MODELS.register_module(force=True)
class HeadWithSpare(FCNHead):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.spare = torch.nn.Linear(2, 2)
"""


@pytest.mark.parametrize('model', ['htc', 'upernet'])
def test_correct_config_gives_no_warning(model: str, mini: MiniConfigs) -> None:
    findings = run_doctor(mini(model), step=True)
    assert not severe(findings) and 'find_unused_parameters' not in {f.where for f in findings}


def test_find_unused_parameters_is_not_needed(mini: MiniConfigs) -> None:
    found = finding_at(
        run_doctor(mini('upernet', 'find_unused_parameters = True\n'), step=True), 'find_unused_parameters'
    )
    assert found.level == 'warning' and found.advice == 'find_unused_parameters=False'
    extra = 'model_wrapper_cfg = dict(type="MMDistributedDataParallel", find_unused_parameters=True)\n'
    key = 'model_wrapper_cfg.find_unused_parameters'
    assert finding_at(run_doctor(mini('upernet', extra), step=True), key).level == 'warning'


@pytest.mark.parametrize(
    ('extra', 'flags', 'level'),
    [('', (), 'warning'), ('', ('--gpus', '2'), 'error'), ('find_unused_parameters = True\n', (), 'info')],
)
def test_parameters_without_a_gradient(
    extra: str, flags: tuple[str, ...], level: str, mini: MiniConfigs, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mini.base('fcn').parent
    (folder / 'spare_head.py').write_text(UNUSED)
    monkeypatch.syspath_prepend(folder)
    spare = "custom_imports = dict(imports=['protuning_mm', 'spare_head'])\n"
    spare += "model['decode_head']['type'] = 'HeadWithSpare'\n"
    found = finding_at(run_doctor(mini('fcn', spare + extra), *flags, step=True), 'find_unused_parameters')
    assert found.level == level
    assert '2 ' in found.found and 'decode_head.spare.weight, decode_head.spare.bias' in found.found


def test_one_value_per_channel(mini: MiniConfigs) -> None:
    """UPerNet pools to one pixel, for which torch's batch norm raises an error if the batch has one image."""
    findings = run_doctor(mini('upernet', "train_dataloader['batch_size'] = 1\n"), step=True)
    found = [f for f in findings if f.level == 'error']
    assert [f.where for f in found] == ['train_dataloader.batch_size']
    assert 'decode_head.psp_modules.0.1.bn' in found[0].found and 'psp_modules.1' not in found[0].found
    setup = _build_setup(mini('upernet'))
    inputs, samples = make_noise_batch(setup.model, 1, (64, 64))
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        setup.model(inputs, samples, mode='loss')


def test_model_that_fails_on_every_batch(mini: MiniConfigs) -> None:
    extra = "model['roi_head']['bbox_head'][0]['loss_cls']['class_weight'] = [1.0]\n"
    found = finding_at(run_doctor(mini('cascade', extra), step=True), 'model')
    assert found.level == 'info' and 'not determined' in found.found


def _build_setup(config: Path) -> TrainingSetup:
    setup = TrainingSetup(Config.fromfile(config))
    build_model(setup)
    return setup


@pytest.mark.parametrize('optimizer', ['SGD', 'AdamW'])
def test_sizes_of_files(optimizer: str, mini: MiniConfigs, tmp_path: Path) -> None:
    """Compare with files that torch writes after a real step."""
    settings = dict(SGD='momentum=0.9', AdamW='weight_decay=0.1')[optimizer]
    extra = f"optim_wrapper = dict(optimizer=dict(_delete_=True, type='{optimizer}', lr=0.01, {settings}))\n"
    setup = _build_setup(mini('upernet', extra))
    found = estimate_sizes(setup, [], None)
    model, wrapper = setup.model, setup.optim_wrapper
    inputs, samples = make_noise_batch(model, 2, (64, 64))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    loss, _ = model.parse_losses(model(inputs, samples, mode='loss'))
    wrapper.update_params(loss)
    trained = {name for name, param in model.named_parameters() if param.requires_grad}
    changed = {k: t for k, t in model.state_dict().items() if k in trained or not torch.equal(t, before[k])}
    assert set(changed) > trained  # statistics of the heads' batch norms

    def size_of(content: object) -> int:
        file = io.BytesIO()
        torch.save(content, file)
        return file.tell()

    state = wrapper.optimizer.state_dict()['state']
    for estimated, content in (
        (found.delta, changed),
        (found.delta_with_optimizer, dict(model=changed, optimizer=state)),
        (found.checkpoint, model.state_dict()),
        (found.checkpoint_with_optimizer, dict(model=model.state_dict(), optimizer=state)),
    ):
        tensors = sum(t.nbytes for t in _tensors(content))
        assert estimated == tensors
        assert estimated < size_of(content)
    assert found.trained == sum(model.get_parameter(name).numel() for name in trained)


def _tensors(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for item in value.values() for t in _tensors(item)] if isinstance(value, dict) else []


@pytest.mark.parametrize(
    ('model', 'size', 'images'),
    [('upernet', (384, 384), 4), pytest.param('cascade', (320, 480), 3, marks=pytest.mark.slow)],
)
def test_memory_of_a_step_at_the_size_of_training(
    model: str, size: tuple[int, int], images: int, mini: MiniConfigs
) -> None:
    extra = "model['train_cfg']['rpn_proposal']['max_per_img'] = 2000\n" if model == 'cascade' else ''
    estimated, measured = _memory(mini(model, extra), size, images)
    assert estimated == pytest.approx(measured, rel=0.25)


@pytest.mark.slow
def test_memory_of_a_detector_does_not_depend_on_the_seed(mini: MiniConfigs) -> None:
    """The proposals of an untrained RPN are random, but the estimates of five models agree within one percent."""
    config, found = mini('cascade'), []
    for seed in range(5):
        torch.manual_seed(seed)
        setup = _build_setup(config)
        found.append(estimate_sizes(setup, run_trial_steps(setup, (320, 480)), (320, 480)).memory)
    assert None not in found and max(found) < 1.01 * min(found), found


def test_own_parameters_of_a_model_are_initialized() -> None:
    """DINO's embedding of the feature levels is created by torch.Tensor, which may hold anything."""
    model = nn.Module()
    model.level_embed = nn.Parameter(torch.full((4, 256), torch.nan))
    init_modules(model)
    assert model.level_embed.std().item() == pytest.approx(1, abs=0.1)


def test_fake_proposals_fill_the_samplers(mini: MiniConfigs) -> None:
    """Half of 30 proposals are sampled, up to a quarter of them objects; afterwards the settings are restored."""
    setup = _build_setup(mini('cascade'))
    head = setup.model.roi_head
    seen: list[tuple[int, int]] = []
    for stage, sampler in enumerate(head.bbox_sampler):

        def sample(*args: Any, original: Any = sampler.sample, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            seen.append((len(result.pos_inds), len(result.neg_inds)))
            return result

        assert sampler.num == 512 and stage < 3
        sampler.sample = sample
    setup.model.train()
    with use_fake_proposals(setup.model, 1 / 2):
        for size in ((128, 128), (192, 256)):
            inputs, samples = make_noise_batch(setup.model, 1, size)
            setup.model(inputs, samples, mode='loss')
    assert seen == [(3, 12)] * 6
    assert [sampler.num for sampler in head.bbox_sampler] == [512] * 3 and 'loss' not in vars(head)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'size', 'images'),
    [('seg/upernet_r50_protune.py', (512, 512), 2), ('det/cascade_mask_rcnn_r50_protune.py', (512, 672), 2)],
)
def test_memory_of_our_models(config: str, size: tuple[int, int], images: int) -> None:
    """docs/doctor.md shows what this test prints."""
    estimated, measured = _memory(REPO / 'configs' / config, size, images)
    print(f'{config}, {images} images of {size}: {estimated / 2**20:.0f} MiB, measured {measured / 2**20:.0f} MiB')
    assert estimated == pytest.approx(measured, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'size', 'images'),
    [
        ('seg/fcn_efficientnet-lite0_protune_camvid.py', (360, 480), 4),
        ('det/faster_rcnn_efficientnet-lite0_protune_bccd.py', (480, 640), 2),
        ('cls/efficientnet-lite0_protune_cifar10.py', (224, 224), 16),
    ],
)
def test_memory_of_models_that_init_measures(config: str, size: tuple[int, int], images: int) -> None:
    """protuning init fills 90 % of the memory by these estimates."""
    estimated, measured = _memory(REPO / 'configs' / config, size, images)
    print(f'{config}, {images} images of {size}: {estimated / measured:.3f} of the measured peak')
    assert estimated == pytest.approx(measured, rel=0.15)


def _memory(config: Path, size: tuple[int, int], images: int) -> tuple[float, float]:
    """Return the bytes of a training step: estimated, and measured at the size of training with the optimizer.

    The RoI head of a detector is measured on so many objects that its samplers are filled.
    """
    setup = _build_setup(config)
    setup.cfg.train_dataloader.batch_size = images
    found = estimate_sizes(setup, run_trial_steps(setup, size), size)
    inputs, samples = make_noise_batch(setup.model, images, size)
    roi_head = getattr(setup.model, 'roi_head', None)
    if roi_head is not None:  # the RPN gets ordinary images: it compares each anchor with each object
        crowded = [_crowded(sample) for sample in samples]
        roi_head.loss = lambda x, proposals, samples: type(roi_head).loss(roi_head, x, proposals, crowded)
    optimizer = setup.optim_wrapper.optimizer

    def step() -> None:
        loss, _ = setup.model.parse_losses(setup.model(inputs, samples, mode='loss'))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    peak = peak_memory(step, torch.device('cpu')) * 2**20
    constant = sum(t.nbytes for t in (*_tensors(dict(setup.model.state_dict())), *_tensors(optimizer.state)))
    assert found.memory is not None
    return found.memory, peak + constant


def _crowded(sample: Any) -> Any:
    """Copy each object 32 times, moved by up to a pixel: objects are proposals, too, so all of them are sampled."""
    sample, objects = copy.deepcopy(sample), sample.gt_instances
    sample.gt_instances = type(objects).cat([objects] * 32)
    sample.gt_instances.bboxes += torch.rand_like(sample.gt_instances.bboxes)
    return sample


def test_noise_batch_needs_a_model_of_the_hosts() -> None:
    with pytest.raises(TypeError, match='Linear is not a detector, segmentor or classifier'):
        make_noise_batch(nn.Linear(1, 1), 1, (8, 8))
