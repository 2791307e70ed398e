"""Names of the hardware that results and benchmarks were measured on."""

import platform
from pathlib import Path

import torch


def get_device_name() -> str:
    """Return the name of the GPU, or ``'CPU'`` if there is none: the device that mmengine trains on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'


def get_processor_name() -> str:
    """Return the model name of the processor."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return models[0] if models else platform.processor() or platform.machine()
