"""What a model at an endpoint can do, for people: each ability, and what it means for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fairpos.backends.abilities import Abilities
from fairpos.backends.async_client import AsyncOpenAIClient
from fairpos.backends.completion import JSON
from fairpos.backends.openai import PREFIX, OpenAIBackend
from fairpos.backends.openai_client import OpenAIClient
from fairpos.backends.server import identify
from fairpos.errors import BackendError


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """What was found.

    Attributes:
        name: The endpoint and the model, as `--model` takes them.
        abilities: What its calls have shown.
        documents: Whether a request's `documents` reach the prompt.
        adapted: What it refuses, and what is sent instead.
    """

    name: str
    abilities: Abilities
    documents: bool
    adapted: Mapping[str, str]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        server = self.abilities.server
        return {
            "model": self.name,
            "engine": server.engine,
            "version": server.version,
            "models": list(server.models),
            "exact_scores": self.abilities.exact,
            "alternatives": None if self.abilities.exact else self.abilities.alternatives,
            "reasons": self.abilities.reasons,
            "starts_replies": self.abilities.exact,
            "holds_lists": server.holds_lists,
            "votes": self.abilities.votes,
            "shows_documents": self.documents,
            "adapted": dict(self.adapted),
        }

    def in_words(self) -> dict[str, str]:
        """The same for a terminal."""
        abilities, server = self.abilities, self.abilities.server
        if abilities.exact:
            scores = "any label, exactly, after a reply that starts as on a local model"
        elif abilities.reasons:
            scores = "none: it reasons before it replies; verdicts are in words, rankings generated"
        elif abilities.alternatives:
            scores = f"labels among the {abilities.alternatives} alternatives that it lists, after a free reply"
        else:
            scores = "none: it lists no alternatives; verdicts are in words, rankings generated"
        return {
            "model": self.name,
            "server": f"{server.engine} {server.version}".strip() if server.engine != "other" else "any other",
            "its models": ", ".join(server.models) or "it doesn't say",
            "scores": scores,
            "lists": "held to [label] > [label]" if server.holds_lists else "read strictly; a reply can't be held",
            "votes": "on every token of one text" if abilities.votes else "on whole texts",
            "documents": "its chat template shows them" if self.documents else "its chat template drops them",
            "asked otherwise": "; ".join(self.adapted.values()) or "nothing",
        }


def probe_endpoint(
    address: str, *, headers: Mapping[str, str], extra: Mapping[str, JSON], timeout_s: float
) -> EndpointReport:
    """Asks an endpoint what it can do: some calls about it, and up to six of a few tokens.

    Args:
        address: "http://host:8000/v1" or "openai:http://host:8000/v1#model"; no model: its first.
        headers: Further headers of every call.
        extra: Further fields of every body.
        timeout_s: Seconds for one call.

    Raises:
        BackendError: it doesn't answer, or doesn't say what models it has and none is named.
        InvalidOption: the address can't be one.
    """
    base_url, _, model = address.removeprefix(PREFIX).partition("#")
    with OpenAIClient(base_url, headers=headers, timeout_s=timeout_s, attempts=2) as client:
        if not model:
            models = client.wait_for(identify).models
            if not models:
                raise BackendError(f"{base_url} doesn't say what models it has; name one: {base_url}#MODEL")
            model = models[0]
        backend = OpenAIBackend(client, model, extra=extra)

        async def find_adapted(core: AsyncOpenAIClient) -> Mapping[str, str]:
            return core.dialects.by_model[model].learnt if model in core.dialects.by_model else {}

        abilities = client.wait_for(backend.find_abilities)
        documents = client.wait_for(backend.find_documents)
        return EndpointReport(backend.name, abilities, documents, client.wait_for(find_adapted))
