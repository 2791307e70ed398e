"""Examining a small config through the tool's own flags."""

from pathlib import Path

from protuning_mm.cli.doctor import diagnose, parse_args
from protuning_mm.doctor.findings import Finding
from tests.mini import write_config


def examined(config: Path | str, *flags: str, step: bool = False) -> list[Finding]:
    """What the doctor finds; without the trial step unless it is asked for."""
    return diagnose(parse_args([str(config), *flags, *([] if step else ['--no-step'])])).findings


def at(findings: list[Finding], where: str) -> Finding:
    """The one finding at this key."""
    found = [finding for finding in findings if finding.where == where]
    assert len(found) == 1, [(f.level, f.where, f.found) for f in findings]
    return found[0]


def grave(findings: list[Finding]) -> list[Finding]:
    """Errors and warnings, but for the learning rate of our detectors, which is 8 GPUs' and rightly warned of."""
    return [f for f in findings if f.level != 'info' and f.where != 'optim_wrapper.optimizer.lr']


class Mini:
    """The small configs of `tests.mini`, written once and changed by what is appended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, Path] = {}

    def base(self, model: str) -> Path:
        if model not in self.made:
            folder = self.folder / model
            folder.mkdir()
            self.made[model] = write_config(model, folder)
        return self.made[model]

    def __call__(self, model: str, extra: str = '') -> Path:
        """Write a config; `extra` is Python that follows it."""
        base = self.base(model)
        path = base.parent / f'case{len(list(base.parent.iterdir()))}.py'
        path.write_text(base.read_text() + '\n' + extra)
        return path
