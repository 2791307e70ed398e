"""Ladder: prompt blocks beside the frozen network, which runs without a graph.

Sources: Sung et al., *LST: Ladder Side-Tuning* (arXiv 2206.06522, NeurIPS 2022); Jiang et al., *Res-Tuning* (arXiv
2310.19859, NeurIPS 2023), whose bypass has tuners at every stage of a frozen network; Yin et al., *E³VA* (arXiv
2306.09729). The rungs are our choice: prompt blocks of Pro-Tuning, and a bottleneck from one stage to the next.
"""

from typing import Any

from torch import Tensor, nn

from protuning_mm.blocks import PromptBlock, Rung
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning, TuningError, current_thread


@TUNINGS.register_module('ladder')
class LadderTuning(Tuning):
    """Adds to the frozen outputs what a ladder of prompt blocks computes from the features of the frozen stages.

    With the frozen feature maps x_i, what a stage's output gains is h_i = z_i + P_i(z_i) - x_i, z_i = x_i +
    down_i(h_{i-1}) (:class:`~protuning_mm.blocks.Rung`). A pooled output gains the mean of h_i over the map. No frozen
    stage depends on a trained parameter, so that the backward pass ends at the rungs and nothing inside the backbone is
    kept for it.

    Args:
        **prompt: Arguments of :class:`~protuning_mm.blocks.PromptBlock`: ``ratio``, ``kernel_size``, ``norm_cfg``,
            ``act_cfg``, ``init``, ``relative``.

    Raises:
        ValueError: an argument of the prompt block is out of range.
        TuningError: the backbone's outputs are neither maps (N, C, H, W) nor pooled features (N, C).
    """

    child = 'ladder'
    combines = False
    passes_to = PromptBlock

    def __init__(self, **prompt: Any) -> None:
        super().__init__()
        self.prompt = prompt
        self.outs: tuple[int, ...] = ()
        self._features: dict[int, dict[int, Tensor]] = {}

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        before = (None, *stages.channels[:-1])
        rungs = [Rung(channels, last, self.prompt) for channels, last in zip(stages.channels, before)]
        self.added = nn.ModuleDict(dict(rungs=nn.ModuleList(rungs)))
        self.outs = stages.outs
        if stages.pooled_channels not in (None, stages.channels[-1]):
            self.added['to_pooled'] = nn.Linear(stages.channels[-1], stages.pooled_channels, bias=False)

    def init_weights(self) -> None:
        super().init_weights()
        assert isinstance(self.added, nn.ModuleDict)
        for part in self.added.values():
            if isinstance(part, nn.Linear):
                part.reset_parameters()

    def acts_after_stage(self, i: int) -> bool:
        return False

    def after_stage(self, i: int, x: Tensor) -> Tensor:
        self._features.setdefault(current_thread(), {})[i] = x
        return x

    def after_forward(self, image: Tensor, outs: Any) -> Any:
        features = self._features.pop(current_thread())
        assert isinstance(self.added, nn.ModuleDict)
        rungs: Any = self.added['rungs']
        gains: list[Tensor] = []
        for i, rung in enumerate(rungs):
            gains.append(rung(features[i], gains[-1] if gains else None, self.efficient))
        single = isinstance(outs, Tensor)
        changed = [self._add(out, gains[i]) for out, i in zip([outs] if single else outs, self.outs, strict=True)]
        return changed[0] if single else type(outs)(changed)

    def _add(self, out: Any, gain: Tensor) -> Tensor:
        assert isinstance(self.added, nn.ModuleDict)
        if isinstance(out, Tensor) and out.dim() == 2:
            mean = gain.mean((2, 3))
            return out + (self.added['to_pooled'](mean) if 'to_pooled' in self.added else mean)
        if not isinstance(out, Tensor) or out.shape != gain.shape:
            raise TuningError(
                'ladder needs outputs that are feature maps (N, C, H, W) or pooled features (N, C): set out_type or '
                "output_cls_token of the backbone accordingly, or use 'pro'"
            )
        return out + gain
