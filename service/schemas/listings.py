"""What there is: models and methods."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class ModelCard(BaseModel):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str
    capabilities: list[str] = []


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class MethodCard(BaseModel):
    """One method."""

    name: str
    family: str
    summary: str
    source: str
    tasks: list[str]
    requires: list[str]
    order_free: bool
    options: dict[str, Any] = Field(description="Each option's default.")
    option_details: list[dict[str, Any]] = Field(description="Each option's type, range, nature and meaning.")
    description: str = Field("", description="What it does, costs, and when it hurts.")


class MethodList(BaseModel):
    """All methods."""

    object: Literal["list"] = "list"
    data: list[MethodCard]
