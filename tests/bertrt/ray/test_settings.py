"""The settings of a deployment: what is refused, and what Ray is told."""

from typing import Any

import pytest

from bertrt.errors import InputError
from bertrt.ray.settings import ReplicaSettings, Settings


def test_what_ray_is_told() -> None:
    assert Settings(num_cpus=2, drain_timeout=60).deployment() == {
        "name": "bertrt",
        "ray_actor_options": {"num_cpus": 2, "num_gpus": 0},
        "max_ongoing_requests": 128,
        "max_queued_requests": 256,
        "backpressure_config": {"status_code": 429, "retry_after_s": 1},
        "graceful_shutdown_timeout_s": 65,
        "num_replicas": 1,
    }


def test_autoscaling_keeps_defaults_that_leave_something_to_batch() -> None:
    told = Settings(autoscaling={"max_replicas": 8, "upscale_delay_s": 1}).deployment()
    assert told["autoscaling_config"] == {
        "max_replicas": 8,
        "target_ongoing_requests": 64,
        "upscale_delay_s": 1,
        "downscale_delay_s": 300,
    }
    assert "num_replicas" not in told


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"replicas": 2}, r"no setting 'replicas': there are .*num_replicas"),
        ({"num_cpus": -1}, "num_cpus is -1: give a number of at least 0"),
        ({"num_replicas": 0}, "num_replicas is 0: give a whole number of at least 1"),
        ({"num_replicas": 2, "autoscaling": {}}, "exclude each other: give one"),
        ({"autoscaling": 3}, "autoscaling is 3: give a mapping"),
        ({"max_ongoing_requests": True}, "max_ongoing_requests is True"),
        ({"max_queued_requests": -1}, "max_queued_requests is -1"),
        ({"max_inputs": 0}, "max_inputs is 0"),
        ({"threads": "many"}, "threads is 'many'"),
        ({"request_timeout": 0}, "request_timeout leaves no time"),
        ({"request_timeout": float("nan")}, "request_timeout is nan"),
        ({"auto_truncate": 1}, "auto_truncate is 1: give true or false"),
        ({"name": ""}, "name is '': give a string"),
        ({"api_key_file": 5}, "api_key_file is 5: give a path as text"),
    ],
)
def test_what_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Settings.read(given)


def test_a_replica_has_no_settings_of_the_deployment() -> None:
    assert ReplicaSettings.read({"max_inputs": 5}).max_inputs == 5
    with pytest.raises(InputError, match="no setting 'num_replicas'"):
        ReplicaSettings.read({"num_replicas": 2})
