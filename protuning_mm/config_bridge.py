"""Lets ``_base_`` name configs of this package and of mmseg.

mmengine reads ``_base_ = 'package::path.py'`` before it imports anything, with a fixed table from module to
distribution. The table does not know this package, and it maps ``mmseg`` to the classic distribution
``mmsegmentation``, which the maintained ``onedl-mmsegmentation`` is not. A module's own name is as good an entry.
"""

from importlib.metadata import PackageNotFoundError, distribution

from mmengine.config.utils import MODULE2PACKAGE


def install() -> None:
    """Extend mmengine's table of packages whose configs can be inherited."""
    MODULE2PACKAGE['protuning_mm'] = 'protuning_mm'
    try:
        distribution('mmsegmentation')
    except PackageNotFoundError:
        MODULE2PACKAGE['mmseg'] = 'mmseg'
