"""In a joint pass, each task gets what its own network computes: every family of backbones, every tuning that can."""

from typing import Any

import pytest
import torch

from protuning_mm import TunedBackbone
from protuning_mm.multitask.joint.architecture import architecture_key
from protuning_mm.multitask.joint.joint_network import JointNetwork
from protuning_mm.multitask.joint.tuning_hooks import can_run_jointly
from protuning_mm.multitask.shared_base import SharedBase
from tests.families import FAMILIES, TUNING_CFGS, accepts, flat, images
from tests.plain import fill

SEPARATE = {'full', 'partial', 'bias', 'norm', 'vpt', 'vpt deep', 'mona', 'pro, bias'}
QUICK = {'mmdet.ResNet', 'mmdet.Swin', 'mmseg.ViT', 'timm.vit'}


def backbones_of(family: str) -> dict[str, TunedBackbone]:
    """Build one backbone for each tuning, all on the same frozen tensors, with random trained values."""
    made: dict[str, TunedBackbone] = {}
    base = SharedBase('a test')
    tunings = {name: cfg for name, cfg in TUNING_CFGS.items() if accepts(family, name)}
    if 'cls' not in family and family != 'timm.deit':
        tunings['late'] = dict(type='pro', prompt_stages=[1, 3])
    for i, (name, cfg) in enumerate(tunings.items()):
        __import__(f'{FAMILIES[family]["type"].split(".")[0]}.models' if '.' in FAMILIES[family]['type'] else 'timm')
        if name == 'side' and family.endswith(('cls', 'DeiT')):
            continue
        tuned: Any = TunedBackbone(dict(FAMILIES[family]), cfg)
        fill(tuned, seed=i)
        if made:
            base.copy_values_to(tuned)
        else:
            fill(tuned.plain, seed=99)
        for key, tensor in tuned.named_parameters():
            if key not in tuned.plain_keys and tensor.dim() > 1:  # or features grow without bound
                tensor.data.mul_(0.1)
        base.share_with(tuned)
        made[name] = tuned.eval()
    return made


@pytest.mark.parametrize(
    'family', [pytest.param(family, marks=[] if family in QUICK else [pytest.mark.slow]) for family in FAMILIES]
)
@torch.no_grad()
def test_outputs_equal_those_of_separate_networks(family: str) -> None:
    made = backbones_of(family)
    assert {name for name, tuned in made.items() if not can_run_jointly(tuned)} == SEPARATE & set(made)
    joint = {name: tuned for name, tuned in made.items() if can_run_jointly(tuned)}
    assert len({architecture_key(tuned) for tuned in joint.values()}) == 1
    network = JointNetwork(joint)
    x = images(family, batch=3)
    for wanted in (
        {name: [i % 3, (i + 1) % 3] for i, name in enumerate(joint)},
        dict(pro=[0], lora=[0], linear=[0]),
        dict(linear=[0], ssf=[1], pro=[2]),
        dict(pro=[0, 1], lora=[2]),
    ):
        used = x[: 1 + max(i for rows in wanted.values() for i in rows)]
        found = network(used, wanted)
        for name, rows in wanted.items():
            expected = joint[name](x[rows])
            assert type(found[name]) is type(expected)
            for a, b in zip(flat(found[name]), flat(expected), strict=True):
                assert a.shape == b.shape, name
                assert (a - b).abs().max() <= 1e-5 * max(1, b.abs().max()), name


def test_a_joint_network_adds_no_tensor() -> None:
    made = {name: tuned for name, tuned in backbones_of('mmdet.Swin').items() if can_run_jointly(tuned)}
    own = {id(t) for tuned in made.values() for t in (*tuned.parameters(), *tuned.buffers())}
    network = JointNetwork(made).network
    assert {id(t) for t in (*network.parameters(), *network.buffers())} <= own
    assert not any('added' in name or 'prompts' in name for name, _ in network.named_parameters())


def test_other_settings_have_another_architecture_key() -> None:
    """The key differs if the same tensors are used in another computation, but not if other stages are returned."""
    resnet = dict(FAMILIES['mmdet.ResNet'], out_indices=(0, 1, 2, 3))
    plain = architecture_key(TunedBackbone(resnet))
    assert architecture_key(TunedBackbone(dict(resnet, out_indices=(3,)))) == plain
    assert architecture_key(TunedBackbone(resnet, 'linear')) == plain
    assert architecture_key(TunedBackbone(dict(resnet, dilations=(1, 1, 1, 2)))) != plain
    assert architecture_key(TunedBackbone(resnet, efficient_frozen=False)) != plain
    vit = FAMILIES['mmpretrain.ViT']
    assert architecture_key(TunedBackbone(vit)) != architecture_key(TunedBackbone(dict(vit, out_type='cls_token')))
