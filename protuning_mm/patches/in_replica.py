"""The patch of a replica of Ray Serve."""

from importlib import import_module
from typing import Any

from protuning_mm.patches.replacing import skippable, wrap


@skippable
def patch_ray_replicas() -> None:
    """Let a replica of Ray Serve listen on this machine alone; a replica of ``protuning serve --ray`` calls it.

    Replaced: ``ray.serve._private.replica.add_port_to_grpc_server``. Each replica opens a port for the other replicas
    on all addresses, ``[::]:0``, and unpickles what arrives there.

    Upstream: we know no issue about it; the address is written in Ray's source.

    Without it: everybody who can reach this machine can run code in the replicas.
    """
    replica: Any = import_module('ray.serve._private.replica')
    wrap(replica, 'add_port_to_grpc_server', lambda add, server, _: add(server, '127.0.0.1:0'))
