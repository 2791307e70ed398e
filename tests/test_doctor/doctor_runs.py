"""Runs of the doctor on small configs, with the flags of ``tools/doctor.py``."""

from pathlib import Path

from protuning_mm.cli.doctor import diagnose, parse_args
from protuning_mm.doctor.findings import Finding
from tests.mini import write_config


def run_doctor(config: Path | str, *flags: str, step: bool = False) -> list[Finding]:
    """Return the doctor's findings; the trial step runs only if ``step`` is set."""
    return diagnose(parse_args([str(config), *flags, *([] if step else ['--no-step'])])).findings


def finding_at(findings: list[Finding], where: str) -> Finding:
    """Return the only finding at a config key."""
    found = [finding for finding in findings if finding.where == where]
    assert len(found) == 1, [(f.level, f.where, f.found) for f in findings]
    return found[0]


def severe(findings: list[Finding]) -> list[Finding]:
    """Return errors and warnings, except for the learning rate: that of our detectors is meant for 8 GPUs."""
    return [f for f in findings if f.level != 'info' and f.where != 'optim_wrapper.optimizer.lr']


class MiniConfigs:
    """The small configs of `tests.mini`, each written once, to which a test appends settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: dict[str, Path] = {}

    def base(self, model: str) -> Path:
        if model not in self.written:
            folder = self.folder / model
            folder.mkdir()
            self.written[model] = write_config(model, folder)
        return self.written[model]

    def __call__(self, model: str, extra: str = '') -> Path:
        """Write a config; `extra` is Python code to append."""
        base = self.base(model)
        path = base.parent / f'config{len(list(base.parent.iterdir()))}.py'
        path.write_text(base.read_text() + '\n' + extra)
        return path
