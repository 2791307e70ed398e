"""Pro-Tuning: after every frozen stage, a prompt block computes a prompt that is blended into the feature map.

Paper: *Pro-tuning: Unified Prompt Tuning for Vision Tasks* (Nie et al., arXiv 2207.14381, IEEE TCSVT 2024). The paper
leaves the scale of the blend open; our choice is the plain sum. The conversion of tokens to feature maps is our choice
too: prefix tokens (class, distillation) are removed before and restored unchanged after the prompt block. If the
network returns only prefix tokens, the last stage differs: the mean of the prompt over the image is added to the prefix
tokens, because the last prompt would otherwise not reach the head.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from protuning_mm.blocks import PromptBlock
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages, stage_indices
from protuning_mm.tunings.base import Tuning, TuningError


@TUNINGS.register_module('pro')
class ProTuning(Tuning):
    """Adds a prompt to the feature map of every stage.

    With stages S_i and prompt blocks P_i, x̃_i = S_i(x̃_{i-1}) + P_i(S_i(x̃_{i-1})) feeds the next stage and the neck.

    Args:
        prompt_stages (Sequence[int], optional): Stages that get a prompt block. Defaults to every stage.
        **prompt: Arguments of :class:`~protuning_mm.blocks.PromptBlock`: ``ratio``, ``kernel_size``, ``norm_cfg``,
            ``act_cfg``, ``init``, ``relative``.

    Raises:
        ValueError: ``prompt_stages`` or an argument of the prompt block is out of range.
    """

    child = 'prompts'
    passes_to = PromptBlock

    def __init__(self, prompt_stages: Sequence[int] | None = None, **prompt: Any) -> None:
        super().__init__()
        self.prompt_stages = prompt_stages
        self.prompt = prompt

    @property
    def prompts(self) -> Any:
        """The prompt block of each stage; ``None`` for stages without one."""
        return self.added

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        number = len(stages.stages)
        chosen = tuple(range(number)) if self.prompt_stages is None else self.prompt_stages
        self.prompt_stages = stage_indices('prompt_stages', chosen, number, ' up to its last output')
        self.settings['prompt_stages'] = list(self.prompt_stages)
        prompts: list[Any] = [
            PromptBlock(channels, **self.prompt) if i in self.prompt_stages else None
            for i, channels in enumerate(stages.channels)
        ]
        self.added = nn.ModuleList(prompts)

    def acts_after_stage(self, i: int) -> bool:
        return self.prompt_stages is None or i in self.prompt_stages

    def after_stage(self, i: int, x: Tensor) -> Tensor:
        if i in self.prompt_stages:  # type: ignore[operator]
            prompt = self.prompts[i]
            # x̃_i feeds the next stage and the neck
            x = prompt.blend(x) if self.efficient else x + prompt(x)
        return x

    def merge(self, backbone: nn.Module) -> None:
        raise TuningError('pro cannot be merged: its prompts depend on the image, so fixed weights cannot replace them')
