"""type='protuning_mm.ProTunedResNet' builds from every registry, with nothing of ours imported first."""

import subprocess
import sys

import pytest

from tests.plain import HOSTS

REGISTRIES = {
    'mmengine': 'mmengine.registry',
    'mmdet': 'mmdet.registry',
    'mmseg': 'mmseg.registry',
    'mmpretrain': 'mmpretrain.registry',
}
BUILD = """
import sys
from {module} import MODELS
if {imported}:
    import protuning_mm
else:
    assert 'protuning_mm' not in sys.modules
if {scope!r}:
    from mmengine.registry import init_default_scope
    init_default_scope({scope!r})
model = MODELS.build(dict(type={name!r}, depth=18, base_channels=4, out_indices=(0, 1, 2, 3)))
import protuning_mm
assert type(model) is protuning_mm.ProTunedResNet
print(type(model.plain).__module__.split('.')[0])
"""


def build(registry: str, name: str, imported: bool, scope: str | None = None) -> str:
    code = BUILD.format(module=REGISTRIES[registry], name=name, imported=imported, scope=scope or '')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    'registry',
    [
        'mmseg',
        *(pytest.param(r, marks=pytest.mark.slow) for r in ('mmdet', 'mmpretrain', 'mmengine')),
    ],
)
def test_scoped_name_without_import(registry: str) -> None:
    """A fresh interpreter finds the package by the scope's name; a host's own ResNet does the work."""
    assert build(registry, 'protuning_mm.ProTunedResNet', imported=False) in HOSTS


@pytest.mark.parametrize(
    'scope',
    [
        'mmdet',
        *(pytest.param(host, marks=pytest.mark.slow) for host in ('mmseg', 'mmpretrain')),
    ],
)
def test_default_scope_decides_the_host(scope: str) -> None:
    """From mmengine's root registry, under a config's default_scope."""
    assert build('mmengine', 'protuning_mm.ProTunedResNet', imported=False, scope=scope) == scope


@pytest.mark.parametrize('registry', list(REGISTRIES))
def test_bare_name_in_this_process(registry: str) -> None:
    """After the import the bare name builds too, also under each default scope."""
    from importlib import import_module

    from mmengine.registry import init_default_scope

    import protuning_mm

    models = import_module(REGISTRIES[registry]).MODELS
    cfg = dict(type='ProTunedResNet', depth=18, base_channels=4, out_indices=(0, 1, 2, 3))
    assert type(models.build(cfg)) is protuning_mm.ProTunedResNet
    for scope in ('mmdet', 'mmseg', 'mmpretrain'):
        init_default_scope(scope)
        model = models.build(cfg)
        assert type(model) is protuning_mm.ProTunedResNet
        assert type(model.plain).__module__.startswith(f'{scope}.')


@pytest.mark.slow
@pytest.mark.parametrize('registry', list(REGISTRIES))
def test_bare_name_in_a_fresh_interpreter(registry: str) -> None:
    build(registry, 'ProTunedResNet', imported=True)
