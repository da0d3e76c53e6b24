"""The settings of replicas and of their deployment, checked before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from bertrt.checks import check_number, check_whole
from bertrt.errors import InputError, shorten
from bertrt.serving.options import Options

__all__ = ["ReplicaSettings", "Settings"]

# What an autoscaled deployment does unless it says otherwise. Ray's own target of 2 requests a
# replica would leave nothing to batch.
_AUTOSCALING = {"target_ongoing_requests": 64, "upscale_delay_s": 10, "downscale_delay_s": 300}
# The seconds that a replica has, once its requests are answered, to free its models.
_CLOSE = 5.0


@dataclass(frozen=True, kw_only=True)
class ReplicaSettings(Options):
    """How a replica answers: all of `Options`, and where its keys are.

    `threads="auto"` are as many as the CPUs that Ray reserves for the replica. Threads do not spin
    unless told to, since Ray's own processes need the CPUs as well.

    Attributes:
        api_key_file: a file on each node, of keys of which each HTTP request needs one; keys in the
            environment variable `BERTRT_API_KEY` of the replicas count as well.

    Raises InputError for a value that cannot be used.
    """

    allow_spinning: bool = False
    api_key_file: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.api_key_file is not None and not isinstance(self.api_key_file, str):
            raise InputError(f"api_key_file is {shorten(self.api_key_file)}: give a path as text")

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Return the settings of keyword arguments. Raises InputError for one that is not known."""
        known = cls.names()
        if unknown := next((name for name in given if name not in known), None):
            raise InputError(f"there is no setting {unknown!r}: there are {', '.join(known)}")
        return cls(**given)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all settings."""
        return [field.name for field in fields(cls)]


@dataclass(frozen=True, kw_only=True)
class Settings(ReplicaSettings):
    """How replicas answer, and how many there are: all of `ReplicaSettings`, and these.

    Attributes:
        name: of the deployment.
        num_cpus, num_gpus: what Ray reserves for each replica.
        num_replicas: how many replicas; None is one, or as many as `autoscaling` says.
        autoscaling: fields of Ray's AutoscalingConfig, such as `min_replicas` and `max_replicas`;
            None for a fixed number.
        max_ongoing_requests: how many requests a replica has at a time. The batcher merges those
            that are there, so Ray's default of 5 would starve it.
        max_queued_requests: how many requests wait in each proxy for a replica that has room; more
            are answered 429.
        drain_timeout: the seconds that a replica which is to stop has for its requests.

    Raises InputError for a value that cannot be used.
    """

    name: str = "bertrt"
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    num_replicas: int | None = None
    autoscaling: Mapping[str, Any] | None = None
    max_ongoing_requests: int = 128
    max_queued_requests: int = 256
    drain_timeout: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.name, str) or not self.name:
            raise InputError(f"name is {shorten(self.name)}: give a string")
        for name in ("num_cpus", "num_gpus", "drain_timeout"):
            check_number(name, getattr(self, name), least=0)
        for name in ("max_ongoing_requests", "max_queued_requests"):
            check_whole(name, getattr(self, name), least=1)
        if self.num_replicas is not None:
            check_whole("num_replicas", self.num_replicas, least=1)
            if self.autoscaling is not None:
                raise InputError("num_replicas and autoscaling exclude each other: give one")
        if self.autoscaling is not None and not isinstance(self.autoscaling, Mapping):
            raise InputError(f"autoscaling is {shorten(self.autoscaling)}: give a mapping")

    def deployment(self) -> dict[str, Any]:
        """Return the options of `serve.deployment`."""
        if self.autoscaling is None:
            replicas: dict[str, Any] = {"num_replicas": self.num_replicas or 1}
        else:
            replicas = {"autoscaling_config": {**_AUTOSCALING, **self.autoscaling}}
        return {
            "name": self.name,
            "ray_actor_options": {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus},
            "max_ongoing_requests": self.max_ongoing_requests,
            "max_queued_requests": self.max_queued_requests,
            "backpressure_config": {"status_code": 429, "retry_after_s": 1},
            "graceful_shutdown_timeout_s": self.drain_timeout + _CLOSE,
            **replicas,
        }
