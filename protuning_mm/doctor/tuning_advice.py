"""Advice which tuning to take, from what docs/evidence.md has measured."""

from protuning_mm.backbones import tuned_backbones
from protuning_mm.doctor.training_setup import TrainingSetup

# host -> what the studies on few images found
_FOUND = dict(
    mmpretrain='on 1,000 images of CIFAR-10 lora was the most accurate, norm nearly so with far fewer parameters; pro '
    'needed less memory than both, linear least',
    mmdet='on 205 images of blood cells lora was near full; pro needed less memory than both, linear least',
    mmseg='on 367 images of roads lora was as good as full; partial was ahead of pro and needed less memory, linear '
    'least',
)


def advise_tuning(setup: TrainingSetup) -> str:
    """Say which tunings were best in the studies of the model's host library; empty if its backbone is not tuned."""
    if setup.model is None or not tuned_backbones(setup.model):
        return ''
    found = _FOUND.get(setup.scope, '')
    return found and f'{found} (docs/evidence.md#which-tuning-to-take)'
