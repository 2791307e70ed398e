"""``tools/serve.py``: answer requests for many tasks on one frozen backbone over HTTP."""

import argparse
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_device, at_least
from protuning_mm.cli.multitask import split_task
from protuning_mm.multitask.errors import MultiTaskError
from protuning_mm.patches import patch_transforms
from protuning_mm.serving.capacity import capacity
from protuning_mm.serving.errors import ServingError
from protuning_mm.serving.limits import Limits
from protuning_mm.weights.signature import read_public_key

_LIMITS = {
    'max_bytes': 'bytes of a request with images',
    'max_upload_bytes': 'bytes of an uploaded delta',
    'max_pixels': 'pixels of all images of a request together',
    'max_images': 'images of a request',
    'max_queue': 'requests that wait; further ones are refused',
}
_CONNECTIONS = 1000


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Serve many tasks on one frozen backbone over HTTP')
    tasks = 'a folder of tasks (docs/serving.md), or tasks that no request can change: name, config, delta'
    parser.add_argument('--tasks', nargs='+', required=True, metavar='DIR|NAME=CONFIG,DELTA', help=tasks)
    host = 'address to listen on; defaults to 127.0.0.1, which only this machine can reach'
    parser.add_argument('--host', default='127.0.0.1', help=host)
    parser.add_argument('--port', type=at_least(0), default=8000, help='port; defaults to 8000; 0 takes a free one')
    resident = 'tasks to keep in memory, or MiB of their tensors; the least recently used are put away; defaults to 8'
    parser.add_argument('--max-resident', type=capacity, default='8', metavar='N|NMiB', help=resident)
    for name, text in _LIMITS.items():
        default = getattr(Limits, name)
        flag = f'--{name.replace("_", "-")}'
        parser.add_argument(
            flag, type=at_least(1), default=default, metavar='N', help=f'limit: {text}; defaults to {default}'
        )
    timeout = 'limit: seconds that a request may wait and run, and in which its body must arrive; defaults to 60'
    parser.add_argument('--timeout', type=at_least(1), default=60, metavar='S', help=timeout)
    token = 'file with the token that requests must send to change tasks; without it, no request can'
    parser.add_argument('--token-file', type=Path, metavar='FILE', help=token)
    verify = 'file with an Ed25519 public key (PEM): serve only deltas that are signed with its private key'
    parser.add_argument('--verify', metavar='KEY', help=verify)
    on_ray = 'run on Ray Serve: on this machine, or on the cluster at ADDRESS (auto: the one that this machine is in)'
    parser.add_argument('--ray', nargs='?', const='local', metavar='ADDRESS', help=on_ray)
    replicas = 'processes on Ray Serve, or as many as the load needs; defaults to 1'
    parser.add_argument('--replicas', type=_scale, default=(1, 1), metavar='N|MIN-MAX', help=replicas)
    batch = 'requests that a process on Ray Serve computes together; defaults to 8'
    parser.add_argument('--max-batch', type=at_least(1), default=8, metavar='N', help=batch)
    add_device(parser)
    return parser.parse_args(argv)


def _scale(written: str) -> tuple[int, int]:
    least, _, most = written.partition('-')
    count = at_least(1)
    found = (count(least), count(most or least))
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f'{written!r}: the first number must not be the larger one')
    return found


def split_tasks(written: Sequence[str]) -> tuple[Path | None, dict[str, tuple[str, str]]]:
    """Split the values of ``--tasks`` into the folder and the tasks that are named one by one.

    Raises:
        ServingError: there are two folders, a name occurs twice, or a task has another form.
    """
    folders = [each for each in written if '=' not in each or Path(each).is_dir()]
    if len(folders) > 1:
        raise ServingError(f'--tasks: {folders[0]} and {folders[1]}: a server has one folder of tasks')
    fixed: dict[str, tuple[str, str]] = {}
    for each in written:
        if each not in folders:
            try:
                name, config, delta = split_task(each)
            except MultiTaskError:
                raise ServingError(f'--tasks {each}: must be a folder or NAME=CONFIG,DELTA') from None
            if name in fixed:
                raise ServingError(f'--tasks: {name!r} is named twice')
            fixed[name] = (config, delta)
    return Path(folders[0]) if folders else None, fixed


def read_limits(args: argparse.Namespace) -> Limits:
    """Return the limits that the flags set."""
    return Limits(**{name: getattr(args, name) for name in _LIMITS}, timeout=args.timeout)


def read_token(path: Path | None) -> str | None:
    """Read the token from a file.

    Raises:
        ServingError: the file is missing, or holds no token.
    """
    if path is None:
        return None
    token = path.read_text().strip() if path.is_file() else ''
    if not token or not token.isascii() or len(token.split()) > 1:
        raise ServingError(f'--token-file {path}: the file must exist and hold one word of ASCII')
    return token


def run_server(app: Any, host: str, port: int, timeout: int) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the requests that have begun.

    Args:
        app (FastAPI): The application.
        host (str): The address.
        port (int): The port.
        timeout (int): Seconds that a request may take.
    """
    import uvicorn

    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises the signal again when it has finished
    uvicorn.run(
        app,
        host=host,
        port=port,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=2 * timeout,
    )


def build(
    args: argparse.Namespace, folder: Path | None, fixed: Mapping[str, tuple[str, str]], make_workers: Any = None
) -> Any:
    """Build the application and read its first task.

    Args:
        args (Namespace): The flags.
        folder (Path, optional): The store.
        fixed (Mapping): The tasks that the command line names.
        make_workers (Callable, optional): As for :class:`~protuning_mm.serving.service.Service`.

    Raises:
        ServingError: the packages of the server are missing, or no task can be read.
        SignatureError: the key of ``--verify`` cannot be used.
    """
    try:
        import uvicorn  # noqa: F401

        from protuning_mm.serving.app import build_app
        from protuning_mm.serving.service import Service
        from protuning_mm.serving.store import Store
    except ImportError as error:
        package = (error.name or 'that the extra installs').partition('.')[0]
        raise ServingError(
            f'serving needs the package {package}: pip install "protuning_mm[serve]" '
            '(fastapi, uvicorn, python-multipart, prometheus-client)'
        ) from None
    patch_transforms()
    token = read_token(args.token_file)
    key = None if args.verify is None else read_public_key(args.verify)
    service = Service(Store(folder, fixed), read_limits(args), args.device, args.max_resident, key, make_workers)
    service.start()
    return build_app(service, token)


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.ray:
        from protuning_mm.cli.serve_on_ray import run

        run(args)
        return
    app = build(args, *split_tasks(args.tasks))
    run_server(app, args.host, args.port, args.timeout)


if __name__ == '__main__':
    main()
