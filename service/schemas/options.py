"""The `fairpos` field: of requests what is wanted, of replies what was done."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from fairpos.prompts import Template

from .base import Strict, Text


class Words(Strict):
    """How documents are put into words; placeholders {query}, {count}, {label}, {id}, {title}, {heading}, {text}."""

    instruction: Text = ""
    segment: Text = "{text}"
    question: Text = "{query}"

    def template(self) -> Template:
        """As the library wants it."""
        return Template(self.instruction, self.segment, self.question)


class Options(Strict):
    """The `fairpos` field of a request."""

    methods: Text | list[Text] | None = Field(
        None, description="`name:key=value,...`, joined by `+`, outermost first; see /v1/methods.", examples=["none"]
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Of everything random.")
    on_unsupported: Literal["error", "pass"] = Field(
        "error", description="What to do if the model can't do a method: a 422, or the plain model."
    )
    fit: Text | None = Field(
        None,
        description="What to do about more documents than the context holds: `error`, `keep` (the most relevant; the "
        "reply names those left out) or `groups` (read in groups, then what came of them).",
    )
    citations: bool = Field(
        False,
        description="Show documents by name and ask for the names; `annotations` of the message say where it has them.",
    )
    ranker: Text | None = Field(None, description="How one order is asked to rank.")
    template: Words | None = Field(None, description="How documents and question are put into words.")
    documents: Literal["inline", "pass"] = Field(
        "inline", description="For an upstream: write documents into the message, or hand the field on, reordered."
    )
    votes: bool = Field(False, description="Whether the reply tells what the orders said that voted, by token.")


class Said(BaseModel):
    """What some orders would have gone on with by themselves."""

    text: str = Field(description="A token, or the id of a document or an answer.")
    orders: list[int] = Field(description="Numbers of the orders, from 0.")


class VotedToken(BaseModel):
    """One token that was voted on."""

    text: str = Field(description="What was written.")
    said: list[Said] = Field(description="What the orders said, that of most orders first; one where all agree.")
    entropy: float = Field(description="Of the vote, in nats.")
    divergence: float = Field(description="How far the orders' distributions lie apart, in nats; 0: not at all.")


class Vote(BaseModel):
    """What orders said that voted on one reply."""

    orders: list[list[str]] = Field(description="Ids as each order showed them.")
    tokens: list[VotedToken] = Field(description="One a token; one alone where candidates were voted on.")


class Done(BaseModel):
    """What the service did with the documents."""

    methods: str = Field(description="The methods that were applied.")
    order: list[str] | None = Field(None, description="Ids in the order shown, where there was one order.")
    orders: list[list[str]] = Field([], description="The order of each call.")
    calls: int = Field(0, description="Calls of the model.")
    profile: str | None = Field(None, description="The calibration that was used.")
    left_out: list[str] = Field([], description="Ids that didn't fit into the context, and were not shown.")
    unknown_citations: list[str] = Field([], description="Names in the reply that no document has that was shown.")
    notes: list[str] = Field([], description="What a user should know of this reply.")
    agreement: float | None = Field(
        None, description="The smallest share of the orders that agreed on a token; null where none voted on tokens."
    )
    votes: list[Vote] | None = Field(None, description="What the orders said, where `votes` was asked for.")
