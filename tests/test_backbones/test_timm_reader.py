"""How models of timm are read: every block of a stage belongs to it, and what cannot be read is told by name."""

from contextlib import nullcontext

import pytest
import timm
from torch import nn

from protuning_lab.parameter_grid import no_memory
from protuning_mm import TunedBackbone

# what is wrong with the information that the model carries
UNREAD = {
    'coat_tiny': "'parallel_blocks' for 3 features",
    'crossvit_tiny_240': "'blocks.0' for 2 features",
    'hrnet_w18_small': "'stem', which is not one of its modules",
    'mvitv2_tiny': "'block.0', which is not one of its modules",
    'nasnetalarge': 'none of .*conv0.* is made of blocks',
    'legacy_xception': 'none of .*block12.rep.0.* is made of blocks',
    'tresnet_m': "'', which is not one of its modules",
    'vgg11': 'none of .*features.4.* is made of blocks',
    'xcit_nano_12_p8_224': 'patch_embed has no dynamic_feat_size, which gives the size of the grid',
}
# read as stages of maps, or of patches behind a class token, and found to be others when the backbone is built
MISREAD = {
    'cait_xxs24_224': r"'blocks.5', read as the end of stage 1 of 4, gives \(2, 196, 192\)",
    'efficientformer_l1': r"'stages.3', .* gives \(2, 49, 448\)",
    'selecsls42': "'features.1', .* gives list",
}


@pytest.mark.parametrize('name', [*UNREAD, *MISREAD])
def test_what_cannot_be_read_is_told_by_name(name: str) -> None:
    told = f'timm model {name} .* cannot be read as stages: .*{(UNREAD | MISREAD)[name]}'
    with pytest.raises(TypeError, match=told), no_memory() if name not in MISREAD else nullcontext():
        TunedBackbone(dict(type='timm', model_name=name), 'pro')


@pytest.mark.parametrize(
    ('name', 'blocks'),
    [
        ('repvgg_a0', 'stages.3.0'),
        ('densenet121', 'features.denseblock4.denselayer16'),
        ('mobilevit_xxs', 'stages.4.1'),
    ],
)
def test_blocks_in_front_of_a_last_convolution_or_norm_belong_to_the_last_stage(name: str, blocks: str) -> None:
    """timm names the convolution or norm behind them as the end of the stage; LoRA left the blocks alone."""
    with no_memory():
        tuned = TunedBackbone(dict(type='timm', model_name=name), 'lora')
        plain = timm.create_model(name, num_classes=0)
    stage = blocks.rpartition('.')[0]
    convs = ((path, part) for path, part in plain.named_modules() if isinstance(part, nn.Conv2d))
    large = [path for path, conv in convs if path.startswith(stage) and min(conv.weight.shape[:2]) > 16]
    assert large and any(path.startswith(blocks) for path in large)
    updated = set(tuned.tunings[0].tapped_paths.values())
    assert {path for path in large if path in updated} == set(large)
