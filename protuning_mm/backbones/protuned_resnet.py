"""Pro-Tuning on the hosts' ResNets.

Paper: *Pro-tuning: Unified Prompt Tuning for Vision Tasks* (Nie et al., arXiv 2207.14381, IEEE TCSVT 2024).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS as MMENGINE_MODELS

from protuning_mm.backbones.hosts import ArgumentError
from protuning_mm.backbones.tuned_backbone import TunedBackbone
from protuning_mm.registry import MODELS
from protuning_mm.stages import stage_indices
from protuning_mm.tunings.build import TuningCfg


@MMENGINE_MODELS.register_module()
@MODELS.register_module()
class ProTunedResNet(TunedBackbone):
    """A frozen ResNet with a prompt block after every stage; only the prompt blocks are trained.

    This is a :class:`TunedBackbone` that takes the arguments of the host's ResNet directly. A config that inherits a
    host's config therefore only has to change ``type``. For ``ResNetV1c``, also add ``deep_stem=True``; for
    ``ResNetV1d``, add both ``deep_stem=True`` and ``avg_down=True``. The frozen network is the host's own class (mmdet,
    mmseg or mmpretrain, see ``host``): ResNet, or ResNeXt if ``groups`` or ``base_width`` is given.

    Args:
        prompt_stages (Sequence[int], optional): Stages that get a prompt block. Defaults to every stage up to the
            last output.
        prompt (dict, optional): Arguments of :class:`~protuning_mm.blocks.PromptBlock`: ``ratio``, ``kernel_size``,
            ``norm_cfg``, ``act_cfg``, ``init``.
        tuning (str | dict | list, optional): One or several tunings to use instead of Pro-Tuning, for comparisons;
            ``prompt_stages`` and ``prompt`` are then ignored. See :class:`TunedBackbone`.
        host (str, optional): ``mmdet``, ``mmseg`` or ``mmpretrain``. Defaults to the current default scope.
        init_cfg (dict, optional): See :class:`TunedBackbone`.
        pretrained (str, optional): Short for ``init_cfg=dict(type='Pretrained', checkpoint=…)``, as in mmseg.
        allow_random_backbone (bool): See :class:`TunedBackbone`. Defaults to False.
        efficient_frozen (bool | str): See :class:`TunedBackbone`. Defaults to True.
        **resnet: Arguments of the host's ResNet: ``depth``, ``base_channels``, ``style``, ``dcn``, ``dilations``,
            ``strides``, ``contract_dilation``, ``deep_stem`` (V1c), ``avg_down`` (with ``deep_stem``: V1d),
            ``out_indices``, ``with_cp``, …

    Shape:
        - Input: (N, 3, H, W)
        - Output: a tuple of (N, C_i, H_i, W_i), one for each of ``out_indices``

    Raises:
        ValueError: an index in ``prompt_stages`` or ``out_indices`` is out of range, an argument in ``prompt`` is
            invalid, the host's ResNet does not take an argument, or both ``pretrained`` and ``init_cfg`` are given.
    """

    def __init__(
        self,
        prompt_stages: Sequence[int] | None = None,
        prompt: Mapping[str, Any] | None = None,
        tuning: TuningCfg | None = None,
        host: str | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        pretrained: str | None = None,
        allow_random_backbone: bool = False,
        efficient_frozen: bool | str = True,
        **resnet: Any,
    ) -> None:
        if tuning is None:
            tuning = dict(type='pro', prompt_stages=prompt_stages, **(prompt or {}))
        if 'out_indices' in resnet:
            stage_indices('out_indices', resnet['out_indices'], resnet.get('num_stages', 4))
        kind = 'ResNeXt' if {'groups', 'base_width'} & set(resnet) else 'ResNet'
        try:
            super().__init__(
                dict(type=kind, **resnet),
                tuning,
                host=host,
                init_cfg=init_cfg,
                pretrained=pretrained,
                allow_random_backbone=allow_random_backbone,
                efficient_frozen=efficient_frozen,
            )
        except ArgumentError as error:
            raise ArgumentError(
                f'{error.wrong}. ProTunedResNet takes the arguments of a ResNet, such as depth=50; for any other '
                "network write type='protuning_mm.TunedBackbone', backbone=dict(type=…)",
                error.taken,
            ) from None
        self.out_indices = self.structure.outs
