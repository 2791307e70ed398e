"""What a person sees while a study runs: a display in a terminal, plain lines elsewhere."""

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

from protuning_lab.study.cell import Outcome
from protuning_lab.study.estimate import clock, seconds_left
from protuning_lab.study.schedule import Schedule


class Progress:
    """Tells how far a study is: done, running, failed, left and time left.

    Args:
        schedule (Schedule): What is run.
        jobs (int): How many at once.
        console (Console, optional): Where to; standard output.
    """

    def __init__(self, schedule: Schedule, jobs: int, console: Console | None = None) -> None:
        # the file as it is now: a cell redirects standard output while it runs in this process
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

    def began(self, name: str) -> None:
        self._running[name] = time.monotonic()

    def ended(self, outcome: Outcome) -> None:
        self._running.pop(outcome.name, None)
        line = _line(outcome, self._schedule)
        if self._live is not None:
            self._recent = [*self._recent, line][-5:]
            return
        schedule = self._schedule
        failed = f', {len(schedule.failed)} failed' if schedule.failed else ''
        count = f'[{schedule.done + len(schedule.failed)}/{schedule.total}] '
        self.console.print(Text(count) + line + f' ({schedule.left} left, {clock(self._left())}{failed})')

    def _left(self) -> float | None:
        return seconds_left(self._schedule, self._jobs)

    def _summary(self) -> str:
        schedule = self._schedule
        took = clock(time.monotonic() - self._start)
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
            Text(f'{clock(self._left())} to go', 'bold'),
        )
        now = time.monotonic()
        running = [Text(f'  … {name}  {clock(now - since)}', 'cyan') for name, since in self._running.items()]
        return Group(*self._recent, head, *running)


def _line(outcome: Outcome, schedule: Schedule) -> Text:
    if outcome.result is None:
        return Text.assemble(('failed ', 'bold red'), outcome.name, f': {outcome.error}')
    wanted = schedule.study.learning_rate
    shown = ''
    if wanted is not None and wanted.metric in outcome.result['val']:
        shown = f', validation {wanted.metric} {outcome.result["val"][wanted.metric]:.4g}'
    return Text.assemble(('done ', 'green'), outcome.name, f'  {outcome.result["seconds"]:.1f} s{shown}')
