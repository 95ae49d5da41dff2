"""Calibrations."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from .base import Loose, Text


class CalibrationRequest(Loose):
    """Records on which a model's slots are measured; its documents are put into words as in chat."""

    model_config = ConfigDict(
        extra="ignore",
        allow_inf_nan=False,
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "model": "smollm2",
                    "count": 2,
                    "records": [
                        {
                            "id": "1",
                            "query": "Who wrote Emma?",
                            "passages": [{"id": "a", "text": "Emma is by Jane Austen."}, {"id": "b", "text": "Rome."}],
                            "gold": "a",
                        }
                    ],
                }
            ]
        },
    )

    model: str | None = None
    records: list[dict[str, JsonValue]] = Field(
        description="{id, query, passages, gold?, answers?}, or {id, pairs: [[key, value], ...]}."
    )
    count: int = Field(ge=2, le=100, description="Documents that a request will have.")
    signal: Literal["attention", "accuracy", "logprob"] = Field(
        "attention", description="Of a local model; accuracy and logprob of the known answer in each slot."
    )
    layers: Text = Field("auto", description="Of the attention: auto, u_shape, fit, all, a number, or a range 7-12.")
    probes: int = Field(20, ge=1, le=200, description="Prompts that are read, at most.")
    seed: int = Field(0, ge=0, le=2**32 - 1)


class Slot(BaseModel):
    """One slot's value with its 95 % interval."""

    value: float
    low: float
    high: float


class Calibration(BaseModel):
    """A stored profile."""

    id: str = Field(description="The file in the directory of profiles.")
    object: Literal["calibration"] = "calibration"
    model: str
    task: str
    count: int
    signal: str
    rule: str
    samples: int
    made: str
    template: str = Field(description="Fingerprint of the words that it holds for.")
    slots: list[Slot]


class CalibrationList(BaseModel):
    """All stored profiles."""

    object: Literal["list"] = "list"
    data: list[Calibration]
