"""What a study is: what is compared, with which learning rates and seeds, and how it is tabled."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

COSTS = ('trained_parameters', 'full_parameters', 'share', 'peak_memory_mib', 'step_seconds', 'steps', 'seconds')
# the tidy table's columns beside the axes, whose names no axis can have
COLUMNS = ('learning_rate', 'seed', 'chosen', 'split', 'set', 'metric', 'value', *COSTS, 'device')


@dataclass(frozen=True)
class Value:
    """One value of an axis.

    Args:
        name (str): Its name in folders and tables.
        options (dict): What it changes in the config, as ``--cfg-options`` does.
        config (Path, optional): The config that its cells start from, where it is not the study's.
        learning_rates (tuple[float], optional): Those to choose from, where they are not the study's.
    """

    name: str
    options: dict[str, Any]
    config: Path | None = None
    learning_rates: tuple[float, ...] | None = None


@dataclass(frozen=True)
class LearningRate:
    """How a group's learning rate is chosen.

    Args:
        key (str): The config's key.
        values (tuple[float]): The candidates.
        seeds (tuple[int]): A run of each candidate for each of these.
        metric (str): The validation metric whose mean decides.
        rule (str): ``'greater'`` or ``'less'`` is better.
    """

    key: str
    values: tuple[float, ...]
    seeds: tuple[int, ...]
    metric: str
    rule: str = 'greater'


@dataclass(frozen=True)
class Layout:
    """How the tables are laid out.

    Args:
        rows (str): The axis whose values are the rows, and the markers of the plot.
        columns (tuple[str]): The axes that make the columns, and the panels of the plot; the other axes make tables.
        metric (str, optional): The test metric that is shown.
        rule (str): ``'greater'`` or ``'less'`` is better.
        scale (float): What the metric is multiplied with to be shown.
        digits (int): Digits behind the point.
        highlight (str, optional): The row that is set off, in tables and plots.
    """

    rows: str
    columns: tuple[str, ...]
    metric: str | None
    rule: str = 'greater'
    scale: float = 1.0
    digits: int = 2
    highlight: str | None = None


@dataclass(frozen=True)
class Study:
    """A grid of runs.

    Args:
        path (Path): The file.
        title (str): What the page is called.
        work_dir (Path): Where results are kept.
        config (Path, optional): The config that every cell starts from.
        options (dict): What every cell changes in it.
        axes (dict[str, dict[str, Value]]): The grid is their product.
        skip (list[dict]): Combinations that do not exist, each with its ``why``.
        learning_rate (LearningRate, optional): Without one the config's own is used.
        seeds (tuple[int]): The runs of a cell.
        test (dict[str, dict]): Test sets, each by what it changes in the config.
        table (Layout): How the tables are laid out.
        validate (str): ``'end'``, once, or ``'as configured'``.
        keep_checkpoints (bool): Whether cells save what the config's checkpoint hook saves.
        allow_test_as_validation (bool): Whether the learning rate may be chosen on the files of the test split.
    """

    path: Path
    title: str
    work_dir: Path
    config: Path | None
    options: dict[str, Any]
    axes: dict[str, dict[str, Value]]
    skip: list[dict[str, Any]]
    learning_rate: LearningRate | None
    seeds: tuple[int, ...]
    test: dict[str, dict[str, Any]]
    table: Layout
    validate: str = 'end'
    keep_checkpoints: bool = False
    allow_test_as_validation: bool = False
