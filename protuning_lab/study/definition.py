"""The keys of a study's file as pydantic models, which validate the file."""

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

from protuning_lab.study.errors import StudyError, did_you_mean

COSTS = ('trained_parameters', 'full_parameters', 'share', 'peak_memory_mib', 'step_seconds', 'steps', 'seconds')
# columns of results.csv besides the axes; an axis must not have one of these names
COLUMNS = ('learning_rate', 'setting', 'seed', 'chosen', 'split', 'set', 'metric', 'value', *COSTS, 'device')
_TEST_KEYS = ('test_dataloader', 'test_evaluator', 'test_cfg')


def _name(raw: Any) -> str:
    """Check a name. Names become parts of folder names and of comma-separated lists."""
    if not re.fullmatch(r'[\w.+-]+', str(raw)):
        raise ValueError('a name may contain only letters, digits and ._+-')
    return str(raw)


def _axis(raw: str) -> str:
    if raw in ('why', *COLUMNS):
        raise ValueError(f'choose another name: results.csv has a column {raw!r}')
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
        raise ValueError(f"file {str(found)!r} does not exist; paths are relative to the study's file")
    return found.resolve()


def _distinct(form: str, expected: str) -> WrapValidator:
    """Check that numbers are different, also when ``form`` formats them for a folder's name."""

    def check(raw: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            found = handler((raw,) if isinstance(raw, int | float) else raw)
        except ValidationError:
            found = ()
        if not found or len({format(each, form) for each in found}) < len(found):
            raise ValueError(f'must be different {expected}')
        return found

    return WrapValidator(check)


Name = Annotated[str, BeforeValidator(_name)]
Options = Annotated[dict[str, Any], BeforeValidator(_options)]
ConfigFile = Annotated[Path, BeforeValidator(_config)]
Numbers = Annotated[tuple[float, ...], _distinct('g', 'numbers, such as (1e-3, 1e-2)')]
Seeds = Annotated[tuple[NonNegativeInt, ...], _distinct('', 'whole numbers, such as (0, 1, 2)')]
Rule = Literal['greater', 'less']
NotEmpty = Field(min_length=1)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra='forbid')


class Value(_Model):
    """One value of an axis.

    Args:
        options (dict): Settings that override the config, with the keys of ``--cfg-options``.
        config (Path, optional): The config of its runs. Defaults to the study's.
        learning_rates (tuple[float], optional): The candidate learning rates. Defaults to the study's.
        settings (dict[str, dict], optional): Candidate settings, such as ranks: name -> settings that override the
            config. The study chooses among all combinations of learning rate and setting. Defaults to none.
    """

    options: dict[str, Any]
    config: ConfigFile | None = None
    learning_rates: Numbers | None = None
    settings: Annotated[dict[Name, Options], NotEmpty] | None = None

    @model_validator(mode='before')
    @classmethod
    def _take_options(cls, raw: Any) -> dict[str, Any]:
        """Separate the options from the other keys: a study's file has all of them in one dict."""
        options = _options(raw)
        own = {key: options.pop(key) for key in options.keys() & {'config', 'learning_rates', 'settings'}}
        return {**own, 'options': options}


class LearningRate(_Model):
    """How the learning rate of a group is chosen.

    Args:
        key (str): The config key of the learning rate. Defaults to ``'optim_wrapper.optimizer.lr'``.
        values (tuple[float]): The candidate learning rates.
        seeds (tuple[int]): Each candidate runs once per seed. Defaults to ``(0,)``.
        metric (str): The validation metric. The candidate with the best mean is chosen.
        rule (str): Which values are better, ``'greater'`` or ``'less'``. Defaults to ``'greater'``.
        options (dict): Settings of the search runs only, such as a training set without the validation images. If there
            are any, every seed runs again at the chosen learning rate. Defaults to none.
    """

    key: str = 'optim_wrapper.optimizer.lr'
    values: Numbers
    seeds: Seeds = (0,)
    metric: str
    rule: Rule = 'greater'
    options: Options = Field(default_factory=dict)


class Layout(_Model):
    """The layout of the tables.

    Args:
        rows (str): The axis whose values are the rows of a table and the markers of a plot. Defaults to the last axis.
        columns (tuple[str]): The axes whose combinations are the columns of a table and the panels of a plot. Each
            combination of the remaining axes gets its own table. Defaults to all axes except ``rows``.
        metric (str, optional): The test metric to show. Defaults to the metric of the learning rate.
        rule (str): Which values are better, ``'greater'`` or ``'less'``. Defaults to the rule of the learning rate.
        scale (float): Multiplies the metric. Defaults to 1.
        digits (int): Number of decimals. Defaults to 2.
        highlight (str, optional): The row to highlight in tables and plots.
    """

    rows: str
    columns: Annotated[tuple[str, ...], BeforeValidator(lambda raw: (raw,) if isinstance(raw, str) else raw)]
    metric: str | None = None
    rule: Rule = 'greater'
    scale: float = 1.0
    digits: int = 2
    highlight: str | None = None


class Study(_Model):
    """A grid of runs, as a study's file defines it.

    Args:
        path (Path): The study's file.
        title (str): The title of the HTML page.
        work_dir (Path): The output folder.
        config (Path, optional): The config of every run.
        options (dict): Settings that override the config of every run.
        axes (dict[str, dict[str, Value]]): Axis -> value -> settings. The grid is the product of the axes.
        skip (list[dict]): Combinations to leave out, each with the reason as ``why``.
        learning_rate (LearningRate, optional): How learning rates are chosen. By default, the config's own is used.
        seeds (tuple[int]): Each group runs once per seed. Defaults to ``(0,)``.
        test (dict[str, dict]): Test set -> settings that override the config. Defaults to the config's test set.
        table (Layout): The layout of the tables.
        validate_at (str): ``'end'``: once, after training; ``'as configured'``: as the config says. The key in the file
            is ``validate``. Defaults to ``'end'``.
        keep_checkpoints (bool): Whether to keep the checkpoints of the config's checkpoint hook. Defaults to False.
        keep_deltas (bool): Whether each run of the tables saves its trained model as a delta. Defaults to False.
        allow_test_as_validation (bool): Whether the learning rate may be chosen on the test split. Defaults to False.
    """

    model_config = ConfigDict(extra='ignore')  # a study's file may define helper variables

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
    keep_deltas: bool = False
    allow_test_as_validation: bool = False

    @field_validator('skip', mode='before')
    @classmethod
    def _check_skip(cls, raw: Any, info: ValidationInfo) -> Any:
        axes = info.data.get('axes')  # missing if the axes are invalid
        return [_skip(each, axes) for each in raw] if axes and isinstance(raw, list | tuple) else raw

    @field_validator('test')
    @classmethod
    def _check_test(cls, test: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, options in test.items():
            for key in options:
                if key.split('.')[0] not in _TEST_KEYS:
                    raise StudyError(
                        f'test.{name}: {key!r} is not allowed, because the model is already trained: a key must '
                        f'begin with {" or ".join(_TEST_KEYS)}'
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
            check_names('table', axis, (), self.axes)
        if layout.rows in layout.columns:
            raise StudyError(f'table: axis {layout.rows!r} cannot be both rows and columns')
        if layout.highlight is not None:
            check_names('table.highlight', layout.rows, (layout.highlight,), self.axes)
        if self.config is None and not any(value.config for value in values):
            raise StudyError("no config: write config='<path relative to this file>'")
        if self.learning_rate is None and any(value.learning_rates or value.settings for value in values):
            raise StudyError(
                'a value has learning_rates or settings: add learning_rate=dict(values=…, metric=…) to the study'
            )
        return self


def _skip(raw: Any, axes: Mapping[str, Mapping[str, Value]]) -> dict[str, Any]:
    if not isinstance(raw, Mapping) or 'why' not in raw or len(raw) < 2:
        raise StudyError(f"skip: {raw!r} must name values of axes and the reason: dict(tuning='vpt', why='…')")
    found: dict[str, Any] = {'why': str(raw['why'])}
    for axis, names in raw.items():
        if axis != 'why':
            found[axis] = check_names(f'skip: {axis}', axis, [names] if isinstance(names, str) else names, axes)
    return found


def check_names(
    where: str, axis: str, names: Sequence[str], axes: Mapping[str, Mapping[str, Value]]
) -> tuple[str, ...]:
    """Check that an axis and some of its values exist.

    Raises:
        StudyError: the axis or a value does not exist.
    """
    if axis not in axes:
        raise StudyError(
            f'{where}: there is no axis {axis!r}; the axes are {", ".join(axes)}{did_you_mean(axis, axes)}'
        )
    for name in names:
        if name not in axes[axis]:
            raise StudyError(f'{where}: axis {axis!r} has no value {name!r}; its values are {", ".join(axes[axis])}')
    return tuple(names)
