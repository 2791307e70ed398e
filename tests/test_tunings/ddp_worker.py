"""What each of two CPU ranks does for every cell that it is given: two steps under DDP, and what they come to.

torchrun --nproc_per_node 2 ddp_worker.py CELLS.json OUT
"""

import copy
import json
import os
import sys
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from protuning_mm import TunedBackbone
from tests.families import FAMILIES, TUNING_CFGS, flat, images
from tests.plain import fill


class Model(nn.Module):
    """A tuned backbone and a head of one parameter for each output, so that linear probing trains something too."""

    def __init__(self, backbone: TunedBackbone, outs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Parameter(torch.ones(outs))

    def forward(self, x: Tensor) -> Tensor:
        outs = flat(self.backbone(x))
        return sum((out.square().mean() * scale for out, scale in zip(outs, self.head, strict=True)), torch.zeros(()))


def run_cell(family: str, tuning: str) -> dict[str, object]:
    """Raises where a trained parameter gets no gradient: DDP is not told to look for such."""
    torch.manual_seed(0)
    tuned = TunedBackbone(FAMILIES[family], TUNING_CFGS[tuning], allow_random_backbone=True)
    fill(tuned)
    x = images(family)
    tuned.eval()
    with torch.no_grad():
        model = Model(tuned, len(flat(tuned(x)))).train()
    rank = dist.get_rank()
    own = copy.deepcopy(model)
    torch.manual_seed(1)  # paths that a Swin drops
    own(x[rank : rank + 1].repeat(2, 1, 1, 1)).backward()
    mean = {name: p.grad for name, p in own.named_parameters() if p.requires_grad}
    for grad in mean.values():
        dist.all_reduce(grad)
        grad /= 2
    # the ranks' batch norms gather statistics of their own where they are trained, as everywhere
    parallel = DistributedDataParallel(model, broadcast_buffers=False)
    worst = 0.0
    torch.manual_seed(1)
    for step in range(2):
        parallel(x[rank : rank + 1].repeat(2, 1, 1, 1)).backward()
        with torch.no_grad():
            for name, p in model.named_parameters():
                if p.requires_grad:
                    if step == 0:
                        error = (p.grad - mean[name]).abs().max() / mean[name].abs().max().clamp(min=1e-6)
                        worst = max(worst, float(error))
                    p -= 1e-3 * p.grad.sign()
        model.zero_grad()
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    both = [torch.empty_like(weights) for _ in range(2)]
    dist.all_gather(both, weights)
    return dict(identical=torch.equal(*both), finite=bool(weights.isfinite().all()), error=worst)


def main() -> None:
    dist.init_process_group('gloo')
    cells = json.loads(Path(sys.argv[1]).read_text())
    results = []
    for cell in cells:
        try:
            results.append(run_cell(*cell))
        except Exception:  # both ranks fail alike, and the next cell is another matter
            results.append(dict(failed=traceback.format_exc()))
    if os.environ['RANK'] == '0':
        Path(sys.argv[2]).write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
