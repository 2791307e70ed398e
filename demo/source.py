"""``tools/train_source.py``: train the small network that the demo keeps frozen."""

import argparse
import io
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from mmdet.models.backbones import ResNet
from mmengine.logging import MMLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from demo.source_task import CLASSES, SourceCrops
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import at_least
from protuning_mm.weights.atomic import write_atomically

WEIGHTS = Path(__file__).with_name('source_resnet50_w16.pth')
BASE_CHANNELS = 16


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train the network that the demo keeps frozen')
    parser.add_argument('--out', default=str(WEIGHTS), help='output file')
    parser.add_argument('--seed', type=at_least(0), default=0)
    parser.add_argument('--steps', type=at_least(1), default=700)
    parser.add_argument('--batch-size', type=at_least(1), default=64)
    parser.add_argument('--lr', type=float, default=3e-3)
    return parser.parse_args(argv)


class SourceNet(nn.Module):
    """mmdet's ResNet-50 with a quarter of the channels, and a linear classifier on its pooled last stage."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet(depth=50, base_channels=BASE_CHANNELS, norm_eval=False)
        self.fc = nn.Linear(32 * BASE_CHANNELS, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.backbone(x)[-1].mean((2, 3)))

    def weights(self) -> 'OrderedDict[str, Tensor]':
        """Return the weights under torchvision's names: ``conv1.weight``, ``layer1.0.…``, ``fc.weight``."""
        state = self.backbone.state_dict()
        state |= {f'fc.{key}': value for key, value in self.fc.state_dict().items()}
        return OrderedDict((key, value.contiguous()) for key, value in state.items())


def train(net: SourceNet, crops: SourceCrops, batch_size: int, lr: float) -> None:
    """Train on every crop once."""
    loader = DataLoader(crops, batch_size, num_workers=1, drop_last=True, prefetch_factor=8)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=len(loader), pct_start=0.1)
    net.train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU
    start = time.perf_counter()
    for step, (images, labels) in enumerate(loader, start=1):
        images = images.contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(net(images), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            seconds = time.perf_counter() - start
            print(f'step {step}/{len(loader)}  loss {loss.item():.3f}  {seconds:.0f} s', flush=True)


@torch.no_grad()
def measure(net: SourceNet, crops: SourceCrops) -> float:
    """Compute the accuracy."""
    net.eval()
    hits = [net(images).argmax(1) == labels for images, labels in DataLoader(crops, 64)]
    return float(torch.cat(hits).float().mean())


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # the other core cuts the crops
    net = SourceNet()
    MMLogger.get_instance('source', log_level='WARNING')  # otherwise one log line per tensor
    net.backbone.init_weights()
    start = time.perf_counter()
    crops = SourceCrops(args.steps * args.batch_size, args.seed)
    train(net, crops, args.batch_size, args.lr)
    seconds = time.perf_counter() - start
    accuracy = measure(net, SourceCrops(2000, args.seed + 1))
    file = io.BytesIO()
    torch.save(net.weights(), file)
    write_atomically(file.getvalue(), args.out)
    print(
        f'{args.out}: {Path(args.out).stat().st_size / 1e6:.1f} MB, {seconds:.0f} s; '
        f'accuracy on new crops {accuracy:.3f}'
    )
