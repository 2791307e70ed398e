"""Stores of small tasks, and clients of applications that serve them."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from fastapi.testclient import TestClient

from protuning_mm.serving.app import build_app
from protuning_mm.serving.capacity import Capacity
from protuning_mm.serving.limits import Limits
from protuning_mm.serving.service import Service
from protuning_mm.serving.store import Store
from tests.test_multitask.tasks import Workshop

TOKEN = 'a-token-of-the-tests'
AUTHORIZED = {'Authorization': f'Bearer {TOKEN}'}


class Tasks:
    """Configs and deltas: ``det``, ``seg``, ``cls`` and ``other`` share a base; ``foreign`` has another."""

    def __init__(self, folder: Path) -> None:
        self.workshop = Workshop(folder)
        self.images = [Path(path) for path in self.workshop.images]
        self.configs: dict[str, Path] = {}
        self.deltas: dict[str, Path] = {}
        for seed, name in enumerate(('det', 'seg', 'cls', 'other')):
            self._write(name, 'cls' if name == 'other' else name, seed)
        state = torch.load(self.workshop.base)
        foreign = folder / 'foreign.pth'
        torch.save(
            {key: tensor + 1 if tensor.is_floating_point() else tensor for key, tensor in state.items()}, foreign
        )
        self._write('foreign', 'cls', 9, init_cfg=dict(type='Pretrained', checkpoint=str(foreign)))

    def _write(self, name: str, kind: str, seed: int, **backbone: Any) -> None:
        cfg, delta = self.workshop.task(kind, seed=seed, form='delta', **backbone)
        self.configs[name] = self.workshop.folder / f'dumped_{name}.py'
        cfg.dump(self.configs[name])
        self.deltas[name] = Path(delta)

    def store(self, folder: Path, *names: str) -> Path:
        """Write a store of some tasks, as an operator does."""
        (folder / 'configs').mkdir(parents=True)
        for name in names:
            shutil.copy(self.configs[name], folder / 'configs' / f'{name}.py')
            (folder / name).mkdir()
            shutil.copy(self.deltas[name], folder / name / 'mine.pth')
            (folder / name / 'task.json').write_text(json.dumps(dict(config=f'{name}.py', delta='mine.pth')))
        return folder

    def files(self, name: str, config: str | None = None) -> dict[str, Any]:
        """Return the form of an upload."""
        form: dict[str, Any] = dict(delta=('../../x.pth', self.deltas[name].read_bytes()))
        return form if config is None else {**form, 'config': (None, config)}


def serve(
    folder: Path, max_resident: Capacity | int = 8, token: str | None = TOKEN, key: Any = None, **limits: Any
) -> TestClient:
    """Return a client of a new application; use it in a ``with`` statement. ``client.service`` is its service."""
    capacity = max_resident if isinstance(max_resident, Capacity) else Capacity(max_resident)
    service = Service(Store(folder, {}), Limits(**limits), capacity=capacity, key=key)
    service.start()
    client: Any = TestClient(build_app(service, token), raise_server_exceptions=False)
    client.service = service
    return client


def leftovers(folder: Path) -> list[str]:
    """List what an upload must not leave in a store."""
    return sorted(path.name for path in folder.rglob('*') if path.name.startswith(('.', 'delta-')))
