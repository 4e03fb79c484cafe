"""`GET /models`: which models there are, and what is known of each."""

from fastapi import APIRouter

from app.api import examples
from app.api.answers import model_description
from app.api.deps import EngineDep
from app.api.openapi import json_example, problems
from app.api.schemas import ModelDescription, ModelList
from models.errors import UnknownModelError

__all__ = ["router"]

router = APIRouter(prefix="/models", tags=["models"])


@router.get(
    "",
    summary="List the models",
    responses={200: json_example(examples.MODELS, "Every model, by name.")},
)
async def list_models(engine: EngineDep) -> ModelList:
    """Every model that this server has, how well each does, and which are in memory."""
    return ModelList(
        models=[model_description(status, engine.default_model) for status in await engine.models()]
    )


@router.get(
    "/{name}",
    summary="Describe a model",
    responses={
        200: json_example(examples.MODEL_DESCRIPTION, "The model."),
        **problems(UnknownModelError),
    },
)
async def describe_model(name: str, engine: EngineDep) -> ModelDescription:
    """One model: its weights' digest, architecture, decoding defaults and measured quality."""
    statuses = {status.name: status for status in await engine.models()}
    if name not in statuses:
        raise UnknownModelError(
            f"There is no model named '{name[:100]}'. Models: {', '.join(statuses) or 'none'}."
        )
    return model_description(statuses[name], engine.default_model)
