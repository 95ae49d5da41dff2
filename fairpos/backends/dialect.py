"""What one model's endpoint refuses, read from its own words, and what is sent instead.

Servers differ in small things: some want `max_completion_tokens`, some refuse a temperature, some list fewer
alternatives than they are asked for. The first refusal (HTTP 400 or 422) says so; the call is made anew in the form
that is wanted, and every later call begins with it. A refusal that says none of this is shown as it is.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping

from fairpos.backends.completion import JSON

_LOG = logging.getLogger(__name__)
_REFUSED = frozenset({400, 422})
_DROPPED = ("temperature", "top_p", "seed")  # without `stop` a reply would be another one: that is an error to show
_UNWANTED = re.compile(
    r"unsupported|not support|n['’]t support|not allowed|n['’]t allowed|not permitted|only the default|unrecogni[sz]ed"
    r"|unknown|unexpected|deprecated|cannot both|not available|must be (?:unset|omitted|removed|default)|no longer"
    r"|may only be|can only be|only (?:the value )?['\"]?[\d.]+['\"]? is (?:allowed|supported|accepted|permitted)"
    r"|(?:must|should) be (?:equal to |set to )?(?:1|1\.0)\b(?! (?:or|to))|not (?:be )?accepted|disabled|forbidden",
    re.IGNORECASE,
)
_LISTED = "top_logprobs"
_OF_LISTS = re.compile(r"logprob|top_n_tokens", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.]*\d)")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")  # of an API's version
_FEWER = 5  # what is asked for where a server refuses more, and doesn't say how many it allows


class Dialect:
    """What has been learnt of one model at one endpoint. Safe to use from several threads; it only ever grows."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._dropped: set[str] = set()
        self._renamed: dict[str, str] = {}
        self._most_listed: int | None = None

    def adapted(self, body: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """The body as this endpoint takes it; the very same object where nothing is to be changed."""
        if not (self._dropped or self._renamed or self._most_listed is not None):
            return body
        sent = {self._renamed.get(name, name): value for name, value in body.items() if name not in self._dropped}
        listed = sent.get(_LISTED)
        if self._most_listed is not None and isinstance(listed, int):
            sent[_LISTED] = min(listed, self._most_listed)
        return sent

    @property
    def learnt(self) -> Mapping[str, str]:
        """By field, in words, what is sent otherwise."""
        found = {name: f"{name} is sent as {new}" for name, new in self._renamed.items()}
        found |= {name: f"{name} is left out" for name in sorted(self._dropped)}
        if self._most_listed is not None:
            found[_LISTED] = f"{self._most_listed} alternatives at the most"
        return found

    def learns(self, body: Mapping[str, JSON], sent: Mapping[str, JSON], http_status: int, message: str) -> bool:
        """Reads a refusal.

        Args:
            body: What was to be asked.
            sent: The form in which it was sent.
            http_status: Of the response.
            message: What the response says.

        Returns:
            Whether the call would now be sent in another form than it was.
        """
        if http_status not in _REFUSED:
            return False
        with self._guard:
            if self.adapted(body) == sent:  # else another call has learnt it in the meantime
                self._learn_from(sent, message)
            return self.adapted(body) != sent

    def _learn_from(self, sent: Mapping[str, JSON], message: str) -> None:
        if "max_tokens" in sent and "max_completion_tokens" in message:
            self._renamed["max_tokens"] = "max_completion_tokens"
            _LOG.info("the endpoint wants max_completion_tokens instead of max_tokens")
            return
        listed = sent.get(_LISTED)
        if isinstance(listed, int) and _OF_LISTS.search(message):
            allowed = alternatives_allowed(message, listed)
            if allowed is not None:
                self._most_listed = allowed
                _LOG.info("the endpoint lists %d alternatives at the most; %d were asked for", allowed, listed)
            return
        for name in reversed(_DROPPED):  # of two that exclude each other, the temperature stays
            if name in sent and re.search(rf"\b{name}\b", message) and _UNWANTED.search(message):
                self._dropped.add(name)
                _LOG.warning("the endpoint refuses %s, which is left out from now on: %s", name, message)
                return


def alternatives_allowed(message: str, asked: int) -> int | None:
    """How many alternatives a refusal leaves; None: none, or no fewer than were asked for.

    The largest number below `asked` that the message names: "[0, 5]", "less than or equal to 5", "max allowed: 5". A
    refusal that names none and doesn't say that lists are unknown altogether gets 5.
    """
    numbers = [int(number) for number in _NUMBER.findall(_DATE.sub("", message))]
    below = [number for number in numbers if 2 <= number < asked and number not in (400, 422)]
    if below:
        return max(below)
    if _UNWANTED.search(message) or asked <= _FEWER or any(number in (0, 1) for number in numbers):
        return None
    return _FEWER
