"""Collects the results of a study that ran in several work dirs."""

from collections.abc import Sequence
from pathlib import Path

from protuning_mm.apis.study.configs import Configs
from protuning_mm.apis.study.definition import Study
from protuning_mm.apis.study.grid import Group


def merge(study: Study, groups: Sequence[Group], configs: Configs, folders: Sequence[Path]) -> None:
    raise NotImplementedError
