"""One step of a ladder beside a frozen network."""

from torch import Tensor, nn
from torch.nn import functional as F

from protuning_mm.blocks.prompt_block import PromptBlock, hidden_width


class Rung(nn.Module):
    """Carries what a ladder has added to a frozen network's features from one stage to the next.

    With the frozen feature map x and the gain h' of the stage before: z = x + down(h'), h = z + P(z) - x, with a prompt
    block P. ``down`` averages h' over areas to the size of x, and changes its channels by two 1×1 convolutions without
    biases, with a GELU between them. As long as the prompts are zero, so are the gains.

    Args:
        channels (int): Channels C of the feature map.
        before (int, optional): Channels C' of the stage before; None for the first stage, which has no ``down``.
        prompt (dict): Arguments of :class:`PromptBlock`. Its ``ratio`` counts for ``down`` too.

    Shape:
        - x: (N, C, H, W)
        - before: (N, C', H', W')
        - Output: (N, C, H, W), the gain
    """

    def __init__(self, channels: int, before: int | None, prompt: dict[str, object]) -> None:
        super().__init__()
        self.prompt = PromptBlock(channels, **prompt)  # type: ignore[arg-type]
        self.down: nn.Sequential | None = None
        if before is not None:
            hidden = hidden_width(before, float(prompt.get('ratio', 0.32)))  # type: ignore[arg-type]
            convs = nn.Conv2d(before, hidden, 1, bias=False), nn.Conv2d(hidden, channels, 1, bias=False)
            self.down = nn.Sequential(convs[0], nn.GELU(), convs[1])

    def init_weights(self) -> None:
        self.prompt.init_weights()
        for part in [] if self.down is None else self.down:
            if isinstance(part, nn.Conv2d):
                part.reset_parameters()

    def forward(self, x: Tensor, before: Tensor | None, efficient: bool = True) -> Tensor:
        z = x
        if self.down is not None and before is not None:
            height, width = x.shape[2:]
            if before.shape[2:] != x.shape[2:]:
                before = F.adaptive_avg_pool2d(before, (height, width))
            z = x + self.down(before)
        return (self.prompt.blend(z) if efficient else z + self.prompt(z)) - x
