"""The fields of rerankers and reorderers in frameworks whose classes are pydantic's; what they do is in `work`."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, field_serializer, model_validator

from fairpos.integrations.models import Model, written_name
from fairpos.integrations.work import OnFailure, Reordering, Reranking
from fairpos.model import FairModel


class RerankingFields(BaseModel):
    """The options of `Reranking`, checked when they are set; a name stands for the model where they are written."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    model: str | FairModel
    methods: str = "permutation:views=5"
    ranker: str = "auto"
    top_n: int | None = None
    on_failure: OnFailure = "raise"

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        _ = self._reranking
        return self

    @field_serializer("model")
    def _write_model(self, model: Model) -> str:
        return written_name(model)

    @property
    def _reranking(self) -> Reranking:
        return Reranking(self.model, self.methods, self.ranker, self.on_failure, self.top_n)


class ReorderingFields(BaseModel):
    """The options of `Reordering`, likewise."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    methods: str = "edges"
    model: str | FairModel | None = None

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        _ = self._reordering
        return self

    @field_serializer("model")
    def _write_model(self, model: Model | None) -> str | None:
        return None if model is None else written_name(model)

    @property
    def _reordering(self) -> Reordering:
        return Reordering(self.methods, self.model)
