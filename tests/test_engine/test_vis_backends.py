"""Weights & Biases and MLflow, offline, by the lines of docs/data.md."""

import sqlite3
from pathlib import Path

import pytest

from protuning_mm.cli.train import main as train
from tests.mini import write_config


def run(tmp_path: Path, backend: str) -> None:
    extra = f"\nvisualizer = dict(name={backend[:20]!r}, vis_backends=[dict(type='LocalVisBackend'), {backend}])\n"
    train([str(write_config('fcn', tmp_path, extra=extra)), '--work-dir', str(tmp_path / 'run')])


def test_wandb(tmp_path: Path) -> None:
    pytest.importorskip('wandb')
    run(tmp_path, "dict(type='WandbVisBackend', init_kwargs=dict(mode='offline'))")
    (found,) = (tmp_path / 'run').rglob('*.wandb')
    assert b'mIoU' in found.read_bytes()


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('mlflow')
    pytest.importorskip('sqlalchemy')  # mlflow-skinny has no database
    monkeypatch.chdir(tmp_path)  # MLflow writes copies of configs and logs into mlruns/ of the current folder
    uri = f'sqlite:///{tmp_path}/mlflow.db'
    run(tmp_path, f"dict(type='MLflowVisBackend', exp_name='blood', tracking_uri={uri!r})")
    with sqlite3.connect(tmp_path / 'mlflow.db') as database:
        assert database.execute("SELECT count(*) FROM metrics WHERE key = 'mIoU'").fetchone()[0] >= 1
