"""``protuning serve --ray``, and the application that a config file of ``serve deploy`` names."""

import argparse
import os
import signal
import threading
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from protuning_mm.cli.serve import build, parse_args, read_limits, read_token, split_tasks
from protuning_mm.patches import patch_ray_replicas
from protuning_mm.serving.errors import ServingError
from protuning_mm.serving.store import Store
from protuning_mm.weights.hub import SCHEME
from protuning_mm.weights.signature import read_public_key

_NAME = 'protuning'
_LOCAL = 'local'  # the value of --ray without an address: a new Ray, even if this machine is in a cluster
# where it is 0, which is the default of Windows and macOS, Ray's own ports are those of this machine alone
_CLUSTERS = 'RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER'


def build_application(args: Mapping[str, Any]) -> Any:
    """Build the application for a config file of Ray Serve.

    ``import_path: protuning_mm.cli.serve_on_ray:build_application``; ``args`` are the flags of ``protuning serve``
    without dashes in front, such as ``{tasks: [/store], max_resident: 20}``. The options of the deployments ``Front``
    and ``Tasks`` can be set there as well.

    Raises:
        ServingError: an argument has a wrong value.
    """
    words: list[str] = []
    for name, value in args.items():
        words += [f'--{name.replace("_", "-")}', *map(str, value if isinstance(value, list) else [value])]
    try:
        return make_application(parse_args(words))
    except SystemExit:  # argparse has printed why
        raise ServingError(f'args: {dict(args)} are not flags of protuning serve') from None


def make_application(args: argparse.Namespace) -> Any:
    """Make the application: fronts that take requests, and replicas that hold tasks.

    Raises:
        ServingError: Ray Serve is not installed, or a flag has a wrong value.
    """
    try:
        from ray import serve

        from protuning_mm.serving.batches import BatchedWorkers
        from protuning_mm.serving.deployments import make_front, make_replica
    except ImportError as error:
        raise ServingError(f'--ray needs the package {error.name}: pip install "protuning_mm[ray]"') from None
    args = _with_absolute_paths(args)
    folder, fixed = split_tasks(args.tasks)
    # errors are found here, and not by a replica on another machine
    Store(folder, fixed)
    read_token(args.token_file)
    if args.verify is not None:
        read_public_key(args.verify)
    least, most = args.replicas
    scale: dict[str, Any] = dict(num_replicas=least)
    if most > least:
        scale = dict(autoscaling_config=dict(min_replicas=least, max_replicas=most))
    replicas: Any = serve.deployment(
        make_replica(args.max_resident),
        name='Tasks',
        max_ongoing_requests=2 * args.max_batch,  # one batch is computed while the next one gathers
        max_queued_requests=args.max_queue,
        ray_actor_options=dict(num_cpus=1, num_gpus=int(args.device.startswith('cuda'))),
        health_check_period_s=2,
        **scale,
    )
    front: Any = serve.deployment(
        make_front(read_limits(args)),
        name='Front',
        max_ongoing_requests=2 * most * (args.max_queue + args.max_batch),
        ray_actor_options=dict(num_cpus=0),
    )
    prepare = patch_ray_replicas if args.ray == _LOCAL else _nothing
    build_app = partial(build, args, folder, fixed, partial(BatchedWorkers, max_batch=args.max_batch))
    return front.bind(prepare, replicas.bind(prepare, build_app))


def run(args: argparse.Namespace) -> None:
    """Serve on Ray until SIGTERM or Ctrl-C.

    Raises:
        ServingError: Ray Serve is not installed, or the application cannot start.
    """
    if not args.port:
        raise ServingError('--port 0: Ray Serve needs a port')
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    if args.ray == _LOCAL:
        os.environ[_CLUSTERS] = '0'
    application = make_application(args)
    ray: Any = import_module('ray')
    serve: Any = import_module('ray.serve')
    ray.init(args.ray, include_dashboard=False, log_to_driver=False)
    ended = threading.Event()
    try:
        http = dict(host=args.host, port=args.port, request_timeout_s=2 * args.timeout)
        serve.start(proxy_location='EveryNode', http_options=http)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        try:
            serve.run(application, name=_NAME)
        except RuntimeError as error:
            reason = _find_reason(serve.status()) or str(error)
            raise ServingError(f'the application does not start on Ray Serve: {reason}') from None
        print(f'running on http://{args.host}:{args.port}', flush=True)
        ended.wait()
    finally:
        serve.delete(_NAME)
        if args.ray == _LOCAL:
            serve.shutdown()
        ray.shutdown()


def _find_reason(status: Any) -> str:
    """Return the last line of what the replicas that could not start have raised; empty if they raised nothing."""
    application = status.applications.get(_NAME)
    messages = [each.message.strip() for each in application.deployments.values()] if application else []
    return next((message.splitlines()[-1] for message in messages if 'Traceback' in message), '')


def _nothing() -> None:
    pass


def _with_absolute_paths(args: argparse.Namespace) -> argparse.Namespace:
    """Return the flags with paths that hold in the processes of Ray, which run in other folders."""
    folder, fixed = split_tasks(args.tasks)

    def absolute(path: str) -> str:
        return path if '::' in path or path.startswith(SCHEME) else str(Path(path).absolute())

    tasks = [f'{name}={absolute(config)},{absolute(delta)}' for name, (config, delta) in fixed.items()]
    if folder is not None:
        tasks.append(str(folder.absolute()))
    files = {
        name: path and Path(path).absolute() for name in ('token_file', 'verify') for path in [getattr(args, name)]
    }
    return argparse.Namespace(**{**vars(args), **files, 'tasks': tasks})
