"""promptfoo's provider: `promptfooconfig.yaml` beside it names this file."""

from fairpos.integrations.promptfoo import call_api

__all__ = ["call_api"]
