"""Lets ``_base_`` name configs of this package and of mmseg.

mmengine reads ``_base_ = 'package::path.py'`` before it imports anything, with a fixed table from module to
distribution. The table does not know this package, and it maps ``mmseg`` to the classic distribution
``mmsegmentation``, which the maintained ``onedl-mmsegmentation`` is not. A module's own name is as good an entry.

mmengine also makes the package's name the scope in which every ``type`` of such a config is looked up. The configs of
this package are written in the words of their host (``ImageClassifier``, ``CIFAR100``), whose scope is their
``default_scope``; so they get no other, and mean the same by name as by path.
"""

from importlib.metadata import PackageNotFoundError, distribution

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

_PACKAGE = 'protuning_mm'


def install() -> None:
    """Extend mmengine's table of packages whose configs can be inherited; ours get no scope."""
    MODULE2PACKAGE[_PACKAGE] = _PACKAGE
    try:
        distribution('mmsegmentation')
    except PackageNotFoundError:
        MODULE2PACKAGE['mmseg'] = 'mmseg'
    path_and_scope = Config._get_cfg_path

    def path_and_host_s_scope(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = path_and_scope(cfg_path, filename)
        return path, None if scope == _PACKAGE else scope

    Config._get_cfg_path = staticmethod(path_and_host_s_scope)
