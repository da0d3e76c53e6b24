"""The application of Ray Serve, and the deployment for callers without HTTP."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from pydantic import ConfigDict, RootModel, ValidationError
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from bertrt.errors import InputError, shorten
from bertrt.ray.replica import HttpReplica, Replica
from bertrt.ray.settings import ReplicaSettings, Settings
from bertrt.ray.sources import Sources, name_models

__all__ = ["Arguments", "BertReplica", "app", "build"]


def app(models: Sources, **settings: Any) -> Application:
    """Return an application for `serve.run` that answers HTTP requests as `bertrt serve` does.

    It has the same routes, limits and errors. Its handle has the methods of `BertReplica` as well,
    except that a call of `Runtime` is `handle.answer`.

    Args:
        models: an artifact's directory on every node, or what `publish` returned; a list of these,
            or a mapping from names to them. Otherwise the name is that of the directory.
        settings: the attributes of `Settings`: limits as of `bertrt serve`, and the number and size
            of the replicas.

    Raises InputError for arguments that cannot be used. A directory is opened by the replicas.
    """
    chosen = Settings.read(settings)
    named = name_models(models)
    deployment = _deploy(chosen)
    # Only what replicas need: Ray starts them anew when an argument changes.
    of_replica = ReplicaSettings.names()
    return deployment.bind(
        named, **{name: value for name, value in settings.items() if name in of_replica}
    )


def _deploy(settings: Settings) -> Any:
    """Return the deployment without models. Raises InputError for settings that Ray refuses."""
    known = AutoscalingConfig.model_fields
    # Ray ignores them, and a slip of the pen would leave one replica.
    if unknown := next((name for name in settings.autoscaling or () if name not in known), None):
        raise InputError(
            f"autoscaling has no field {shorten(unknown)}: there are {', '.join(sorted(known))}"
        )
    try:
        return serve.deployment(**settings.deployment())(serve.ingress()(HttpReplica))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"Ray refuses {where} ({first['msg']}): correct it") from error
    except ValueError as error:
        raise InputError(f"Ray refuses the settings ({error}): correct them") from error


@serve.deployment(**{**Settings().deployment(), "name": "BertReplica"})
class BertReplica(Replica):
    """A deployment for callers that hold a DeploymentHandle, without HTTP.

    `serve.run(BertReplica.bind("/models/minilm"))` returns the handle. `bind` takes models as `app`
    does, and the attributes of `ReplicaSettings`; `BertReplica.options` takes what is Ray's, such
    as `num_replicas` and `ray_actor_options`.
    """

    async def __call__(self, inputs: Any, *, model: str | None = None, **options: Any) -> Any:
        """Return what `Runtime.__call__` answers to one input or a list."""
        return await self.answer(inputs, model=model, **options)


@dataclass(frozen=True, kw_only=True)
class _Arguments(Settings):
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    models: str | list[str] | dict[str, str]


class Arguments(RootModel[_Arguments]):
    """The arguments of `build`: those of `app`, as text or as what they are."""


def build(arguments: Arguments) -> Application:
    """Return what `app` returns, for `serve deploy` and `serve run bertrt.ray:build models=DIR`."""
    given = {one.name: getattr(arguments.root, one.name) for one in fields(_Arguments)}
    return app(given.pop("models"), **given)
