"""Nodes of the clusters of the tests: faults that the demo does not inject, and addresses as this machine uses them."""

import os
from typing import Final

from maleo_demo.devcluster import Devcluster
from maleo_demo.environment import Environment
from maleo_demo.processes import Processes
from maleo_devcluster.cluster import Cluster
from maleo_processcluster.cluster import ProcessCluster

PROVIDER: Final = os.environ.get("MALEO_PROVIDER", "devcluster")
"""Provider of the cluster on which the tests run."""


def find_cluster(environment: Environment) -> Cluster | ProcessCluster:
    """Return the cluster whose nodes can be disconnected and killed."""
    provider = environment.cluster
    assert isinstance(provider, Devcluster | Processes)
    return provider.running


def find_route(environment: Environment, address: str) -> str:
    """Return the address at which this machine reaches a pod or a node."""
    cluster = find_cluster(environment)
    return cluster.plan.outer(address) if isinstance(cluster, ProcessCluster) else address
