"""Displays the progress of a study: a live display in a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from protuning_lab.study.estimate import estimate_seconds_left, format_duration
from protuning_lab.study.job import Outcome
from protuning_lab.study.schedule import Schedule


class Progress:
    """Shows how many runs are done, running, failed and left, and the estimated time.

    Args:
        schedule (Schedule): The cells to run.
        jobs (int): Number of runs at the same time.
        console (Console, optional): The console to print to. Defaults to standard output.
    """

    def __init__(self, schedule: Schedule, jobs: int, console: Console | None = None) -> None:
        # keep the current sys.stdout, because a run in this process redirects it
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._schedule = schedule
        self._jobs = jobs
        self._running: dict[str, float] = {}
        self._recent: list[Text] = []
        self._start = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self._render,
                console=self.console,
                refresh_per_second=2,
                redirect_stdout=False,
                redirect_stderr=False,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        self.console.print(self._summary())

    def run_started(self, name: str) -> None:
        """Note the start of a run."""
        self._running[name] = time.monotonic()

    def run_ended(self, outcome: Outcome) -> None:
        """Note the end of a run; outside a terminal, print a line."""
        self._running.pop(outcome.name, None)
        line = _format_outcome(outcome, self._schedule)
        if self._live is not None:
            self._recent = [*self._recent, line][-5:]
            return
        schedule = self._schedule
        failed = f', {len(schedule.failed)} failed' if schedule.failed else ''
        count = f'[{schedule.done + len(schedule.failed)}/{schedule.total}] '
        self.console.print(
            Text(count) + line + f' ({schedule.left} left, {format_duration(self._seconds_left())}{failed})'
        )

    def _seconds_left(self) -> float | None:
        return estimate_seconds_left(self._schedule, self._jobs)

    def _summary(self) -> str:
        schedule = self._schedule
        took = format_duration(time.monotonic() - self._start)
        return f'{schedule.done} of {schedule.total} runs done, {len(schedule.failed)} failed; {took}'

    def _render(self) -> Any:
        schedule = self._schedule
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(schedule.total, 1), completed=schedule.done + len(schedule.failed), width=40)
        head.add_row(
            bar,
            Text(f'{schedule.done} done', 'green'),
            Text(f'{len(self._running)} running', 'cyan'),
            Text(f'{len(schedule.failed)} failed', 'bold red' if schedule.failed else 'dim'),
            Text(f'{schedule.left - len(self._running)} left'),
            Text(f'{format_duration(self._seconds_left())} to go', 'bold'),
        )
        now = time.monotonic()
        running = [Text(f'  … {name}  {format_duration(now - since)}', 'cyan') for name, since in self._running.items()]
        return Group(*self._recent, head, *running)


def _format_outcome(outcome: Outcome, schedule: Schedule) -> Text:
    if outcome.result is None:
        return Text.assemble(('failed ', 'bold red'), outcome.name, f': {outcome.error}')
    search = schedule.study.learning_rate
    shown = ''
    if search is not None and search.metric in outcome.result['val']:
        shown = f', validation {search.metric} {outcome.result["val"][search.metric]:.4g}'
    return Text.assemble(('done ', 'green'), outcome.name, f'  {outcome.result["seconds"]:.1f} s{shown}')
