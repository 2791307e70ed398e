"""The plain backbone is in the mode that its tuning gives it, its own ``training`` flag included."""

import pytest
import timm
import torch
from torch import nn

from protuning_mm import TunedBackbone
from tests.plain import fill

# the first three drop features in front of the classifier unless told otherwise; by `self.training` of the root
DROPPING = [('ghostnet_050', {}), ('repghostnet_050', {}), ('legacy_seresnet18', {}), ('resnet18', dict(drop_rate=0.5))]


def built(name: str, given: dict[str, float], tuning: str) -> tuple[TunedBackbone, nn.Module]:
    plain = fill(timm.create_model(name, num_classes=0, **given)).eval()
    tuned = TunedBackbone(dict(type='timm', model_name=name, **given), tuning)
    tuned.load_state_dict(plain.state_dict(), strict=False)
    return tuned, plain


@pytest.mark.parametrize(('name', 'given'), DROPPING, ids=[name for name, _ in DROPPING])
@pytest.mark.parametrize('mode', [False, True], ids=['eval', 'train'])
def test_a_frozen_network_drops_no_features(mode: bool, name: str, given: dict[str, float]) -> None:
    """The pooled feature is that of timm's own network in eval mode, in training too."""
    tuned, plain = built(name, given, 'linear')
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        (ours,), theirs = tuned.train(mode)(x), plain(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def test_what_the_network_itself_does_not_train_stays_untrained() -> None:
    """EfficientViM's weights of classifiers that it does not have."""
    plain = timm.create_model('efficientvim_m1', num_classes=0)
    fixed = {name for name, param in plain.named_parameters() if not param.requires_grad}
    tuned = TunedBackbone(dict(type='timm', model_name='efficientvim_m1'), 'full')
    assert fixed == {'weights'} == {name for name, param in tuned.named_parameters() if not param.requires_grad}


def test_a_trained_network_drops_features_in_training_alone() -> None:
    tuned, plain = built('resnet18', dict(drop_rate=0.5), 'full')
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        (ours,), theirs = tuned.eval()(x), plain(x)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
        (dropped,) = tuned.train()(x)
    share = float((dropped == 0).double().mean() - (theirs == 0).double().mean())
    assert 0.3 < share < 0.7
    assert tuned.plain.training and not tuned.eval().plain.training
