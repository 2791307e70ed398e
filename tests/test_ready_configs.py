"""Ready configs over a host's own: what they train, whose heads they have, and one training step on noise."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from protuning_mm.backbones import TunedBackbone
from protuning_mm.doctor.estimates import estimate_sizes
from protuning_mm.doctor.fake_proposals import use_fake_proposals
from protuning_mm.doctor.noise_batch import make_noise_batch
from protuning_mm.doctor.training_setup import TrainingSetup, build_model
from protuning_mm.doctor.trial_step import init_modules, run_trial_steps
from protuning_mm.engine.image_size import find_training_size
from tests.host_families import forget_checkpoints
from tests.mini import REPO
from tests.test_tunings.test_counts import width

RESNET = (256, 512, 1024, 2048)
# the host's config, and the channels of the stages: from the papers of the backbones
CONFIGS: dict[str, tuple[str, tuple[int, ...]]] = {
    'det/faster_rcnn_r50_protune.py': ('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', RESNET),
    'det/retinanet_r50_protune.py': ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', RESNET),
    'det/rtmdet_s_protune.py': ('mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', (64, 128, 256, 512)),
    'det/dino_r50_protune.py': ('mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', RESNET),
    'det/mask2former_r50_protune.py': ('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', RESNET),
    'det/mask2former_r50_protune_panoptic.py': (
        'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
        RESNET,
    ),
    'seg/mask2former_r50_protune.py': ('mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py', RESNET),
    'seg/deeplabv3plus_r50_protune.py': (
        'mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512.py',
        RESNET,
    ),
    'seg/segformer_mit-b2_protune.py': (
        'mmseg::segformer/segformer_mit-b2_8xb2-160k_ade20k-512x512.py',
        (64, 128, 320, 512),
    ),
}
# channels of the stages, size of an image, and size of the largest output, which has stride 4 or 8
DINOV3 = {
    'det/faster_rcnn_dinov3-s_protune.py': (384, (100, 130), (28, 36)),
    'det/rtmdet_dinov3-s_protune.py': (384, (128, 192), (16, 24)),
    'seg/upernet_dinov3-b_protune.py': (768, (100, 130), (28, 36)),
}
QUICK = ('det/rtmdet_s_protune.py', 'seg/segformer_mit-b2_protune.py')


def cases(names: Any) -> Any:
    return pytest.mark.parametrize(
        'name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names]
    )


def build(cfg: Config) -> nn.Module:
    init_default_scope(cfg.default_scope)
    forget_checkpoints(cfg.model)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        model: nn.Module = registry.build(cfg.model)
    return model


def count(model: nn.Module, inside: bool) -> int:
    return sum(
        param.numel()
        for key, param in model.named_parameters()
        if param.requires_grad and key.startswith('backbone.') == inside
    )


@cases(CONFIGS)
def test_trains_the_prompts_and_the_host_s_own_heads(name: str) -> None:
    host, channels = CONFIGS[name]
    ours, theirs = build(Config.fromfile(REPO / 'configs' / name)), build(read(host))
    assert isinstance(ours.backbone, TunedBackbone)
    # 1x1, norm, 5x5 depth-wise, norm, 1x1 with bias
    prompts = sum(2 * c * width(c) + 29 * width(c) + c for c in channels)
    assert count(ours, inside=True) == prompts
    assert count(ours, inside=False) == count(theirs, inside=False)
    names = [
        [key for key, _ in model.named_parameters() if not key.startswith('backbone.')] for model in (ours, theirs)
    ]
    assert names[0] == names[1]
    assert metadata(name) == round((prompts + count(theirs, inside=False)) / 1e6, 2)


@cases([*CONFIGS, *DINOV3])
def test_one_step_on_noise(name: str) -> None:
    torch.manual_seed(0)
    model: Any = build(Config.fromfile(REPO / 'configs' / name))
    init_modules(model)
    model.backbone.init_weights()
    # DINO selects 900 of its tokens; the pyramid of RTMDet on DINOv3 needs multiples of 64
    size = (224, 288) if 'dino_' in name else (128, 192)
    inputs, samples = make_noise_batch(model, 2, size)
    before = {key: value.clone() for key, value in model.backbone.frozen_tensors().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-3)
    with use_fake_proposals(model, 1 / 8):
        model.train().parse_losses(model(inputs, samples, mode='loss'))[0].backward()
    assert all(param.grad is not None for param in model.backbone.prompts.parameters())
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in model.backbone.frozen_tensors().items())


@cases(DINOV3)
def test_dinov3_is_frozen_below_a_pyramid(name: str) -> None:
    """Prompts after three, six, nine and twelve layers; outputs of one stride, from which the neck makes four."""
    model: Any = build(Config.fromfile(REPO / 'configs' / name))
    width_of, size, largest = DINOV3[name]
    assert [stage.end for stage in model.backbone.structure.stages] == [f'blocks.{i}' for i in (2, 5, 8, 11)]
    assert count(model, inside=True) == 4 * (2 * width_of * width(width_of) + 29 * width(width_of) + width_of)
    with torch.no_grad():
        outs = model.extract_feat(torch.zeros(1, 3, *size))
    assert [tuple(out.shape[-2:]) for out in outs[:4]] == [(largest[0] >> i, largest[1] >> i) for i in range(4)]
    assert metadata(name) == round((count(model, True) + count(model, False)) / 1e6, 2)


def test_docs_give_the_counts_of_the_metafiles() -> None:
    rows = re.findall(
        r'^\| \[`(\S+)`\].* \| ([\d.]+) \| [\d.]+ \|$', (REPO / 'docs/models.md').read_text(), re.MULTILINE
    )
    assert {*CONFIGS, *DINOV3} <= {name for name, _ in rows}
    assert all(float(count) == metadata(name) for name, count in rows)


@pytest.mark.slow
@pytest.mark.parametrize('name', [*CONFIGS, *DINOV3])
def test_docs_give_the_memory_that_the_doctor_estimates(name: str) -> None:
    setup = TrainingSetup(Config.fromfile(REPO / 'configs' / name))
    setup.cfg.train_dataloader.batch_size = 2
    forget_checkpoints(setup.cfg.model)
    build_model(setup)
    setup.model.backbone.init_weights()
    size = find_training_size(setup.cfg)
    memory = estimate_sizes(setup, run_trial_steps(setup, size), size).memory
    (written,) = re.findall(rf'^\| \[`{name}`\].* \| ([\d.]+) \|$', (REPO / 'docs/models.md').read_text(), re.MULTILINE)
    assert memory is not None and float(written) == pytest.approx(memory / 2**30, rel=0.03)


def read(name: str) -> Config:
    from protuning_mm.engine.config import read_config

    return read_config(name)


def metadata(name: str) -> float:
    path = Path(name)
    entries = yaml.safe_load((REPO / 'configs' / path.parent / 'metafile.yml').read_text())['Models']
    (entry,) = (each for each in entries if each['Name'] == path.stem)
    found: float = entry['Metadata']['Trained Parameters (M)']
    return found
