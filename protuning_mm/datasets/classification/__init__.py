"""Classification data sets that mmpretrain lacks, and parts of any. Imports mmpretrain: import it by the scoped names.

``protuning_mm.datasets`` does not import this package; the registry does, when a name such as
``protuning_mm.LongTailed`` is looked up.
"""

from protuning_mm.datasets.classification.few_shot import FewShot
from protuning_mm.datasets.classification.held_out import HeldOut
from protuning_mm.datasets.classification.long_tailed import LongTailed
from protuning_mm.datasets.classification.part import Part

__all__ = ['FewShot', 'HeldOut', 'LongTailed', 'Part']
