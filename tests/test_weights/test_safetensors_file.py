"""Tensors that share memory, in a format that knows no sharing: stored once, restored under every name."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from protuning_mm.weights import CheckpointError, load_checkpoint_file
from protuning_mm.weights.write import write_checkpoint
from tests.plain import assert_identical, fill


class Shared(nn.Module):
    """Two layers that are one, as in RTMDet's and Deformable DETR's heads, and a weight that is tied to another's."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        layer = nn.Linear(3, 3)
        self.heads = nn.ModuleList([layer, layer if tied else nn.Linear(3, 3)])
        self.out = nn.Linear(3, 3, bias=False)
        if tied:
            self.out.weight = layer.weight


def test_shared_layers_are_stored_once(tmp_path: Path) -> None:
    model = fill(Shared())
    state = model.state_dict()
    path = tmp_path / 'task.safetensors'
    write_checkpoint(dict(state_dict=state, meta=dict(epoch=1)), path)
    with safe_open(path, 'pt') as file:
        assert sorted(file.keys()) == ['heads.0.bias', 'heads.0.weight']
    loaded = load_checkpoint_file(str(path))['state_dict']
    assert_identical(loaded, state)
    assert loaded['out.weight'].data_ptr() == loaded['heads.1.weight'].data_ptr() == loaded['heads.0.weight'].data_ptr()

    one, other = Shared(), Shared(tied=False)
    one.load_state_dict(loaded)
    other.load_state_dict(loaded)
    assert_identical(one.state_dict(), state)
    assert_identical(other.state_dict(), state)
    with torch.no_grad():
        one.heads[0].weight[0, 0] = 7
        other.heads[0].weight[0, 0] = 7
    assert one.heads[1].weight[0, 0] == one.out.weight[0, 0] == 7
    assert other.heads[1].weight[0, 0] == state['heads.1.weight'][0, 0] != 7  # a model that shares nothing has copies


def test_views_of_one_storage(tmp_path: Path) -> None:
    """Parts that overlap, one storage in two shapes, transposed, strided, expanded, empty and of no dimension."""
    storage = torch.arange(24.0)
    state = dict(
        whole=storage,
        shaped=storage.view(4, 6),
        turned=storage.view(4, 6).t(),
        first=storage[:10],
        overlapping=storage[5:15],
        every_other=storage[::2],
        expanded=storage[3:4].expand(5),
        as_integers=storage.view(torch.int32),
        empty=storage[:0],
        also_empty=storage[24:],
        one=storage[2],
    )
    expected = {name: tensor.clone() for name, tensor in state.items()}
    write_checkpoint(dict(state_dict=state), tmp_path / 'views.safetensors')
    assert_identical(load_checkpoint_file(str(tmp_path / 'views.safetensors'))['state_dict'], expected)
    assert_identical(state, expected)


@pytest.mark.filterwarnings('ignore:.*quant:DeprecationWarning')
@pytest.mark.parametrize(
    ('value', 'said'),
    [
        (torch.eye(3).to_sparse(), 'layout torch.sparse_coo'),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), 'torch.qint8'),
        (3, 'int'),
    ],
)
def test_what_the_format_cannot_hold(value: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf'head\.odd is a .*{said}.*write a \.pth'):
        write_checkpoint(dict(state_dict={'head.odd': value}), tmp_path / 'x.safetensors')
    assert not list(tmp_path.iterdir())


RTMDET = """
default_scope = 'mmdet'
model = dict(
    type='RTMDet', data_preprocessor=dict(type='DetDataPreprocessor'),
    backbone=dict(
        type='protuning_mm.ProTunedResNet', depth=18, base_channels=8, out_indices=(1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint=BASE)),
    neck=dict(
        type='CSPNeXtPAFPN', in_channels=[16, 32, 64], out_channels=8, num_csp_blocks=1, norm_cfg=dict(type='BN')),
    bbox_head=dict(
        type='RTMDetSepBNHead', num_classes=3, in_channels=8, feat_channels=8, stacked_convs=2, share_conv=True,
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistancePointBBoxCoder'), norm_cfg=dict(type='BN'),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True), loss_bbox=dict(type='GIoULoss')),
    train_cfg=dict(assigner=dict(type='DynamicSoftLabelAssigner', topk=13)), test_cfg=dict())
"""


def test_rtmdet_through_the_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """extract_delta, inspect_delta and merge_delta of a head whose levels share their convolutions."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    from protuning_mm.cli.convert_delta import main_extract, main_merge
    from protuning_mm.cli.inspect_delta import main as main_inspect
    from tests.mini import write_backbone
    from tests.plain import disturb

    base = write_backbone(tmp_path / 'base.pth')
    config = tmp_path / 'rtmdet.py'
    config.write_text(RTMDET.replace('BASE', repr(str(base))))
    cfg = Config.fromfile(config)
    init_default_scope('mmdet')
    with MODELS.switch_scope_and_registry('mmdet') as registry:
        model = registry.build(cfg.model)
    model.init_weights()
    disturb(model.backbone.prompts)
    names = [n for n in model.state_dict() if n.startswith('bbox_head.cls_convs') and n.endswith('conv.weight')]
    assert len({model.state_dict()[n].data_ptr() for n in names}) < len(names)  # the head does share
    whole, delta, again = tmp_path / 'whole.pth', tmp_path / 'task.safetensors', tmp_path / 'again.safetensors'
    torch.save(dict(state_dict=model.state_dict()), whole)
    main_extract([str(config), str(whole), str(delta)])
    main_inspect([str(delta)])
    assert 'checksum correct' in capsys.readouterr().out
    main_merge([str(config), str(delta), str(again)])
    assert_identical(load_checkpoint_file(str(again))['state_dict'], model.state_dict())
