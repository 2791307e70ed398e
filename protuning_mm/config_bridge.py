"""Support for ``_base_`` configs of this package and of mmseg, as in ``'protuning_mm::path.py'``.

mmengine resolves ``_base_ = 'package::path.py'`` by a fixed table from module to distribution, before it imports
anything. The table lacks this package, and it maps ``mmseg`` to the distribution ``mmsegmentation``, while the
maintained distribution is called ``onedl-mmsegmentation``. The module's name works as an entry for both.

mmengine also uses the package's name as the scope in which every ``type`` of such a config is looked up. The configs of
this package use types of their host (``ImageClassifier``, ``CIFAR100``), which is their ``default_scope``. They
therefore get no other scope, so that a config means the same whether it is given by package or by path.
"""

from importlib.metadata import PackageNotFoundError, distribution

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

_PACKAGE = 'protuning_mm'


def install() -> None:
    """Extend mmengine's table of packages whose configs can be inherited, and set no scope for this package."""
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
