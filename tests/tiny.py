"""A tiny classifier and a real mmengine Runner around it, for what happens during training."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from protuning_mm import ProTunedResNet
from tests.plain import SMALL


def tuned_resnet(checkpoint: str | None = None, **kwargs: Any) -> ProTunedResNet:
    """A ProTunedResNet-18 of mmdet's, 4 channels wide, filled from ``checkpoint``."""
    init_cfg = dict(type='Pretrained', checkpoint=checkpoint) if checkpoint else None
    settings = dict(depth=18, host='mmdet', init_cfg=init_cfg, **SMALL) | kwargs
    tuned = ProTunedResNet(**settings)
    if checkpoint:
        tuned.init_weights()
    return tuned


class TinyClassifier(BaseModel):
    """backbone -> mean -> linear head, in mmengine's protocol."""

    def __init__(self, backbone: nn.Module, num_classes: int = 3) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(32, num_classes)

    def forward(self, inputs: Tensor, label: Tensor, mode: str = 'tensor') -> Any:
        logits = self.head(self.backbone(inputs)[-1].mean((2, 3)))
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(logits, label))
        return logits


class Noise(Dataset):
    """Two images a batch, four in all, the same at every visit."""

    metainfo: ClassVar[dict[str, Any]] = {}

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(i)
        return dict(inputs=torch.randn(3, 32, 32, generator=generator), label=torch.tensor(i % 3))


class Rising(BaseMetric):
    """A metric that improves with every validation, so that each is a new best."""

    calls = 0

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        Rising.calls += 1
        return dict(score=float(Rising.calls))


class QuickRunner(Runner):
    """mmengine's Runner, which does not ask compilers and GPUs for their versions first."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        pass


_NUMBERS = count()


def runner(model: nn.Module, work_dir: Path, epochs: int = 2, **kwargs: Any) -> QuickRunner:
    """A real Runner with our hooks and our optimizer constructor."""
    loader = DataLoader(Noise(), batch_size=2)
    settings = dict(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=Evaluator(Rising()),
        optim_wrapper=dict(
            constructor='protuning_mm.TrainableOptimWrapperConstructor',
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.1),
        ),
        default_hooks=dict(
            checkpoint=dict(type='protuning_mm.CheckpointHook', interval=1),
            tuning=dict(type='protuning_mm.TuningHook'),
        ),
        log_level='INFO',
        experiment_name=f'tiny{next(_NUMBERS)}',  # runs of one name and second share a log file
    )
    settings.update(kwargs)
    return QuickRunner(**settings)


Weights = Callable[..., str]
