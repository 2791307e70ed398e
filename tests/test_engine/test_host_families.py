"""--tune with the first config of every folder of the hosts' configs; docs/models.md lists what this test found."""

import re

import pytest

from tests.host_families import (
    BACKBONE,
    BACKBONE_ONLY,
    NOT_RESUMED,
    REASONS,
    TRAINED,
    first_configs,
    try_family,
    write_table,
)
from tests.mini import REPO

FAMILIES = first_configs()
QUICK = (
    'mmdet/retinanet',
    'mmdet/rtmdet',
    'mmseg/segformer',
    'mmpretrain/mobilenet_v3',
    'mmpretrain/arcface',
    'mmseg/unet',
)


@pytest.mark.parametrize('name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES])
def test_first_config_of_the_family(name: str) -> None:
    host = name.split('/')[0]
    fault, _ = REASONS.get(name) or NOT_RESUMED.get(name) or (None, None)
    if fault is not None:
        with pytest.raises(Exception, match=fault):
            try_family(host, FAMILIES[name])
    else:
        found = try_family(host, FAMILIES[name])
        assert found == (BACKBONE if name in BACKBONE_ONLY else TRAINED)


def test_docs_say_what_this_test_found() -> None:
    page = (REPO / 'docs/models.md').read_text()
    assert re.findall(r'<!-- families -->\n\n(.*?)\n\n<!-- end -->', page, re.DOTALL) == [write_table()]
    assert set(REASONS) | BACKBONE_ONLY <= set(FAMILIES)
