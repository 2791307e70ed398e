"""The parts of a study's file, as pydantic models that check what is written there."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from protuning_lab.study.errors import StudyError, meant

COSTS = ('trained_parameters', 'full_parameters', 'share', 'peak_memory_mib', 'step_seconds', 'steps', 'seconds')
# columns of the tidy table beside the axes: no axis can have their names
COLUMNS = ('learning_rate', 'seed', 'chosen', 'split', 'set', 'metric', 'value', *COSTS, 'device')
_TEST_KEYS = ('test_dataloader', 'test_evaluator', 'test_cfg')


def _name(raw: Any) -> str:
    """Check a name, which stands in a folder's name and in comma-separated lists."""
    if not re.fullmatch(r'[\w.+-]+', str(raw)):
        raise ValueError('a name has letters, digits and ._+- alone')
    return str(raw)


def _axis(raw: str) -> str:
    if raw in ('why', *COLUMNS):
        raise ValueError(f'take another name; the tables have a column {raw!r} of their own')
    return raw


def _options(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise ValueError('must be a dict of options, as --cfg-options takes them')
    return dict(raw)


def _config(raw: Any, info: ValidationInfo) -> Path:
    """Find a config file, relative to the study's file."""
    study: Any = info.context
    found: Path = study.parent / str(raw)
    if not found.is_file():
        raise ValueError(f'there is no file {str(found)!r}; paths start at the study')
    return found.resolve()


def _different(form: str, words: str) -> WrapValidator:
    """Check that numbers differ, also as ``form`` writes them in a folder's name."""

    def check(raw: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            found = handler((raw,) if isinstance(raw, int | float) else raw)
        except ValidationError:
            found = ()
        if not found or len({format(each, form) for each in found}) < len(found):
            raise ValueError(f'must be different {words}')
        return found

    return WrapValidator(check)


Name = Annotated[str, BeforeValidator(_name)]
Options = Annotated[dict[str, Any], BeforeValidator(_options)]
ConfigFile = Annotated[Path, BeforeValidator(_config)]
Numbers = Annotated[tuple[float, ...], _different('g', 'numbers, such as (1e-3, 1e-2)')]
Seeds = Annotated[tuple[NonNegativeInt, ...], _different('', 'whole numbers, such as (0, 1, 2)')]
Rule = Literal['greater', 'less']
NotEmpty = Field(min_length=1)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra='forbid')


class Value(_Model):
    """A value of an axis.

    Args:
        options (dict): Its changes to the config, as ``--cfg-options`` makes them.
        config (Path, optional): The config that its runs start from. Defaults to the study's.
        learning_rates (tuple[float], optional): The candidates. Defaults to the study's.
    """

    options: dict[str, Any]
    config: ConfigFile | None = None
    learning_rates: Numbers | None = None

    @model_validator(mode='before')
    @classmethod
    def _take_options(cls, raw: Any) -> dict[str, Any]:
        """In the file the options stand beside ``config`` and ``learning_rates``."""
        options = _options(raw)
        own = {key: options.pop(key) for key in options.keys() & {'config', 'learning_rates'}}
        return {**own, 'options': options}


class LearningRate(_Model):
    """How a group's learning rate is chosen.

    Args:
        key (str): The config's key. Defaults to ``'optim_wrapper.optimizer.lr'``.
        values (tuple[float]): The candidates.
        seeds (tuple[int]): Each candidate runs once for each of them. Defaults to ``(0,)``.
        metric (str): The validation metric whose mean decides.
        rule (str): ``'greater'`` or ``'less'`` is better. Defaults to ``'greater'``.
    """

    key: str = 'optim_wrapper.optimizer.lr'
    values: Numbers
    seeds: Seeds = (0,)
    metric: str
    rule: Rule = 'greater'


class Layout(_Model):
    """The layout of the tables.

    Args:
        rows (str): The axis whose values are the rows, and the markers of the plot. Defaults to the last.
        columns (tuple[str]): The axes that make the columns, and the panels of the plot; each combination of the other
            axes makes a table. Defaults to all axes but ``rows``.
        metric (str, optional): The test metric to show. Defaults to the metric of the learning rate.
        rule (str): ``'greater'`` or ``'less'`` is better. Defaults to the rule of the learning rate.
        scale (float): The factor to show the metric with. Defaults to 1.
        digits (int): Digits behind the point. Defaults to 2.
        highlight (str, optional): The row to highlight, in tables and plots.
    """

    rows: str
    columns: Annotated[tuple[str, ...], BeforeValidator(lambda raw: (raw,) if isinstance(raw, str) else raw)]
    metric: str | None = None
    rule: Rule = 'greater'
    scale: float = 1.0
    digits: int = 2
    highlight: str | None = None


class Study(_Model):
    """A grid of runs.

    Args:
        path (Path): The study's file.
        title (str): The title of the page.
        work_dir (Path): The folder of the results.
        config (Path, optional): The config that every run starts from.
        options (dict): Changes to the config of every run.
        axes (dict[str, dict[str, Value]]): The grid is their product.
        skip (list[dict]): Combinations that do not exist, each with its ``why``.
        learning_rate (LearningRate, optional): Defaults to the learning rate of the config.
        seeds (tuple[int]): Each group runs once for each of them. Defaults to ``(0,)``.
        test (dict[str, dict]): The test sets, each with its changes to the config. Defaults to the config's.
        table (Layout): The layout of the tables.
        validate_at (str): ``'end'``, once, or ``'as configured'``; ``validate`` in the file. Defaults to ``'end'``.
        keep_checkpoints (bool): Whether runs keep what the config's checkpoint hook saves. Defaults to False.
        allow_test_as_validation (bool): Whether the learning rate may be chosen on the test split. Defaults to False.
    """

    model_config = ConfigDict(extra='ignore')  # a study's file may have names of its own

    path: Path
    title: str
    work_dir: Path
    axes: Annotated[dict[Annotated[Name, AfterValidator(_axis)], Annotated[dict[Name, Value], NotEmpty]], NotEmpty]
    config: ConfigFile | None = None
    options: Options = {}
    skip: list[dict[str, Any]] = []
    learning_rate: LearningRate | None = None
    seeds: Seeds = (0,)
    test: Annotated[dict[str, Options], NotEmpty] = {'test': {}}
    table: Layout = Field({}, validate_default=True)
    validate_at: Literal['end', 'as configured'] = Field('end', alias='validate')
    keep_checkpoints: bool = False
    allow_test_as_validation: bool = False

    @field_validator('skip', mode='before')
    @classmethod
    def _check_skip(cls, raw: Any, info: ValidationInfo) -> Any:
        axes = info.data.get('axes')  # missing where they are wrong themselves
        return [_skip(each, axes) for each in raw] if axes and isinstance(raw, list | tuple) else raw

    @field_validator('test')
    @classmethod
    def _check_test(cls, test: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, options in test.items():
            for key in options:
                if key.split('.')[0] not in _TEST_KEYS:
                    raise StudyError(
                        f'test.{name}: {key!r}: the model is trained by then; only {", ".join(_TEST_KEYS)}'
                    )
        return test

    @field_validator('table', mode='before')
    @classmethod
    def _fill_table(cls, raw: Any, info: ValidationInfo) -> Any:
        axes, rate = info.data.get('axes') or ('',), info.data.get('learning_rate')
        if not isinstance(raw, Mapping):
            return raw
        rows = raw.get('rows', list(axes)[-1])
        defaults = dict(rows=rows, columns=[axis for axis in axes if axis != rows])
        return defaults | (dict(metric=rate.metric, rule=rate.rule) if rate else {}) | dict(raw)

    @model_validator(mode='after')
    def _check_together(self) -> Self:
        layout, values = self.table, [value for axis in self.axes.values() for value in axis.values()]
        for axis in (layout.rows, *layout.columns):
            names_of('table', axis, (), self.axes)
        if layout.rows in layout.columns:
            raise StudyError(f'table: {layout.rows!r} cannot be the rows and among the columns')
        if layout.highlight is not None:
            names_of('table.highlight', layout.rows, (layout.highlight,), self.axes)
        if self.config is None and not any(value.config for value in values):
            raise StudyError("no config: write config='<path from this file>'")
        if self.learning_rate is None and any(value.learning_rates for value in values):
            raise StudyError('learning_rates of a value need learning_rate=dict(key=…, metric=…) in the study')
        return self


def _skip(raw: Any, axes: Mapping[str, Mapping[str, Value]]) -> dict[str, Any]:
    if not isinstance(raw, Mapping) or 'why' not in raw or len(raw) < 2:
        raise StudyError(f"skip: {raw!r} must name values of axes and a reason: dict(tuning='vpt', why='…')")
    found: dict[str, Any] = {'why': str(raw['why'])}
    for axis, names in raw.items():
        if axis != 'why':
            found[axis] = names_of(f'skip: {axis}', axis, [names] if isinstance(names, str) else names, axes)
    return found


def names_of(where: str, axis: str, names: Sequence[str], axes: Mapping[str, Mapping[str, Value]]) -> tuple[str, ...]:
    """Check that an axis and values of it exist.

    Raises:
        StudyError: one does not.
    """
    if axis not in axes:
        raise StudyError(f'{where}: there is no axis {axis!r}, but {", ".join(axes)}{meant(axis, axes)}')
    for name in names:
        if name not in axes[axis]:
            raise StudyError(f'{where}: {axis} has no value {name!r}, but {", ".join(axes[axis])}')
    return tuple(names)
