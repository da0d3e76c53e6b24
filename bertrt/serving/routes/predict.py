"""bertrt's own route: the runtime's call as JSON, for every head."""

from bertrt.serving.context import Answering, Context
from bertrt.serving.errors import HttpError
from bertrt.serving.fields import Fields
from bertrt.serving.message import Request, Response, json_response
from bertrt.serving.routes.hugging_face import refuse_stream

__all__ = ["predict"]

# Arguments of the library's methods that are not options of a call.
_NO_OPTIONS = ("deadline", "inputs", "method", "progress", "self")


async def predict(context: Context, request: Request, answering: Answering) -> Response:
    """POST /v1/predict: `{"model", "inputs", "parameters"}` to what the runtime answers.

    `inputs` is one input or a list, each as a line of `bertrt run`; `parameters` are the options of
    the runtime's call.
    """
    fields = Fields(await request.json(), status=400)
    answering.model = model = context.models.only(request.model, fields.string("model", None))
    refuse_stream(model, fields)
    value = fields.any("inputs")
    inputs = value if isinstance(value, list) else [value]
    if not inputs:
        raise HttpError(400, "`inputs` cannot be empty", "inputs")
    options = fields.object("parameters").items()
    for name in _NO_OPTIONS:
        if name in options:
            raise HttpError(400, f"`parameters` has no `{name}`", "parameters")
    answers = await context.answer(request, answering, model, "call", inputs, **options)
    return await json_response(
        answers if isinstance(value, list) else answers[0], size=answering.cost.size
    )
