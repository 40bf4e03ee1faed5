"""
Ray, started here or joined.
"""

import os

import ray

__all__ = ["start"]


def start(cores: int) -> None:
    """
    Join the cluster at ``RAY_ADDRESS``, or start Ray on this machine.

    :param cores: number of cores that Ray may take of this machine
    """
    here = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": cores, "include_dashboard": False}
    ray.init(log_to_driver=False, **here)
