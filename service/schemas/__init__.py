"""Requests and replies as OpenAPI shows them. Fields that aren't named are ignored, or handed on upstream."""
