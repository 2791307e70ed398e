"""Pro-Tuning on the hosts' ResNets.

Paper: *Pro-tuning: Unified Prompt Tuning for Vision Tasks* (Nie et al., arXiv 2207.14381, IEEE TCSVT 2024).
"""

from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from protuning_mm.backbones.frozen_backbone import FrozenBackbone
from protuning_mm.backbones.hosts import build_plain
from protuning_mm.backbones.stages import read_resnet
from protuning_mm.blocks import PromptBlock
from protuning_mm.registry import MODELS

# Inherited host configs bring these; the tuning owns freezing, so they are accepted and have no effect.
OWNED_BY_THE_TUNING = ('frozen_stages', 'norm_eval')


@MMENGINE_MODELS.register_module()
@MODELS.register_module()
class ProTunedResNet(FrozenBackbone):
    """A frozen ResNet with a prompt block after every stage; only the prompt blocks are trained.

    With stages S_i and prompt blocks P_i, the blended feature x̃_i = S_i(x̃_{i-1}) + P_i(S_i(x̃_{i-1})) feeds the next
    stage and is the stage's output. The paper leaves the blend's scale open: ours is the plain sum.

    The host's own class (mmdet, mmseg or mmpretrain, see ``host``) is the frozen network: ResNet, or ResNeXt where
    ``groups`` or ``base_width`` is given.

    Args:
        prompt_stages (Sequence[int], optional): Stages that get a prompt block. Defaults to every stage up to the
            last output.
        prompt (dict, optional): Arguments of :class:`~protuning_mm.blocks.PromptBlock`: ``ratio``, ``kernel_size``,
            ``norm_cfg``, ``act_cfg``, ``init``.
        host (str, optional): ``mmdet``, ``mmseg`` or ``mmpretrain``. Defaults to the current default scope.
        init_cfg (dict, optional): See :class:`FrozenBackbone`.
        pretrained (str, optional): Short for ``init_cfg=dict(type='Pretrained', checkpoint=…)``; mmseg has it.
        allow_random_backbone (bool): See :class:`FrozenBackbone`. Defaults to False.
        **resnet: What the host's ResNet takes: ``depth``, ``base_channels``, ``style``, ``dcn``, ``dilations``,
            ``strides``, ``contract_dilation``, ``deep_stem`` (V1c), ``avg_down`` (with it, V1d), ``out_indices``,
            ``with_cp``, …

    Shape:
        - Input: (N, 3, H, W)
        - Output: a tuple of (N, C_i, H_i, W_i), one for each of ``out_indices``

    Raises:
        ValueError: ``prompt_stages``, ``out_indices`` or ``prompt`` is out of range, or both ``pretrained`` and
            ``init_cfg`` are given.
    """

    def __init__(
        self,
        prompt_stages: Sequence[int] | None = None,
        prompt: dict[str, Any] | None = None,
        host: str | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        pretrained: str | None = None,
        allow_random_backbone: bool = False,
        **resnet: Any,
    ) -> None:
        if pretrained is not None:
            if init_cfg is not None:
                raise ValueError(
                    f'pretrained={pretrained!r} and init_cfg={init_cfg} both name initial weights: '
                    'keep one of them (set the other to None)'
                )
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        num_stages = resnet.get('num_stages', 4)
        if 'out_indices' in resnet:
            resnet['out_indices'] = _stage_indices('out_indices', resnet['out_indices'], num_stages)
        ignored = {key: resnet.pop(key) for key in OWNED_BY_THE_TUNING if key in resnet}
        kind = 'ResNeXt' if {'groups', 'base_width'} & set(resnet) else 'ResNet'
        plain: Any = build_plain(dict(type=kind, **resnet), host)
        super().__init__(plain, read_resnet(plain), init_cfg, allow_random_backbone)
        self.ignored_args = ignored
        self.out_indices = tuple(plain.out_indices)
        last = max(self.out_indices)
        if prompt_stages is None:
            prompt_stages = range(last + 1)
        self.prompt_stages = _stage_indices('prompt_stages', prompt_stages, num_stages)
        if self.prompt_stages and max(self.prompt_stages) > last:
            raise ValueError(
                f'prompt_stages={self.prompt_stages}: out_indices={self.out_indices} ends the network '
                f'after stage {last}, so a prompt after stage {max(self.prompt_stages)} would never be trained'
            )
        prompts: list[Any] = [
            PromptBlock(channels, **(prompt or {})) if i in self.prompt_stages else None
            for i, channels in enumerate(self._stages.channels[: last + 1])
        ]
        self.prompts = nn.ModuleList(prompts)

    def init_added(self) -> None:
        for prompt in self.prompts:
            if isinstance(prompt, PromptBlock):
                prompt.init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self._stages.stem(self.plain, x)
        outs = []
        for i, (stage, prompt) in enumerate(zip(self._stage_modules(), self.prompts)):
            x = stage(x)  # frozen:  (N, C_i, H_i, W_i)
            if prompt is not None:
                x = x + prompt(x)  # trained: x̃_i feeds the next stage and the neck
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)


def _stage_indices(key: str, indices: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Check that ``indices`` number stages of a network of ``num_stages``."""
    written = indices if isinstance(indices, Sequence) else repr(indices)
    if (
        not isinstance(indices, Sequence)
        or not all(isinstance(i, int) and 0 <= i < num_stages for i in indices)
        or len(set(indices)) < len(indices)
    ):
        raise ValueError(
            f'{key}={written}: must number stages from 0 to {num_stages - 1}, each once, '
            f'because the backbone has {num_stages} stages'
        )
    return tuple(indices)
