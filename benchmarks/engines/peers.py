"""Run by benchmarks.engines.beside in an environment of its own: lists through rank-llm or rerankers, as they are.

    python peers.py rank-llm|rerankers URL LISTS OUT

LISTS is a JSON list of {query, documents}; OUT gets the seconds that ranking them took, without the imports, and for
each list the documents' numbers in the order that came back, or what was raised. Nothing of fairpos is imported here.
"""

import json
import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path


def without_own_models() -> None:
    """rank-llm imports vLLM, and a T5 that newer transformers can't import, for models that it runs itself."""
    names = {
        "vllm": "LLM SamplingParams RequestOutput",
        "vllm.outputs": "RequestOutput",
        "rank_llm.rerank.listwise.lit5.model": "FiD FiDCrossAttentionScore",
    }
    for name, members in names.items():
        module = types.ModuleType(name)
        for member in members.split():
            setattr(module, member, object)
        sys.modules[name] = module


def rank_llm(url: str) -> Callable[[str, list[str]], list[int]]:
    """RankGPT's prompt by rank-llm, one window over the whole list."""
    without_own_models()
    import litellm

    # tiktoken's table, which rank-llm counts tokens with and would fetch otherwise.
    tables = Path(str(litellm.__file__)).parent / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(tables)
    from rank_llm.data import Candidate, Query, Request
    from rank_llm.rerank.listwise import SafeOpenai
    from rank_llm.rerank.rankllm import PromptMode

    agent = SafeOpenai(
        model="smollm2", context_size=8192, prompt_mode=PromptMode.RANK_GPT, keys="unused", base_url=url + "/"
    )

    def rank(query: str, documents: list[str]) -> list[int]:
        candidates = [Candidate(docid=str(i), score=1.0, doc={"text": text}) for i, text in enumerate(documents)]
        request = Request(query=Query(text=query, qid="1"), candidates=candidates)
        [result] = agent.rerank_batch([request], rank_end=len(documents))
        return [int(candidate.docid) for candidate in result.candidates]

    return rank


def rerankers(url: str) -> Callable[[str, list[str]], list[int]]:
    """RankGPT's prompt by rerankers, which asks through litellm."""
    os.environ["OPENAI_API_BASE"] = url
    from rerankers.models.rankgpt_rankers import RankGPTRanker

    ranker = RankGPTRanker("openai/smollm2", api_key="unused", verbose=0)

    def rank(query: str, documents: list[str]) -> list[int]:
        found = ranker.rank(query, documents, doc_ids=list(range(len(documents))), rank_end=len(documents))
        return [int(result.document.doc_id) for result in found.results]

    return rank


def main() -> None:
    """Ranks all lists, one after the other."""
    tool, url, lists, out = sys.argv[1:]
    rank = {"rank-llm": rank_llm, "rerankers": rerankers}[tool](url)
    found: list[list[int] | str] = []
    started = time.monotonic()
    for each in json.loads(Path(lists).read_text(encoding="utf-8")):
        try:
            found.append(rank(each["query"], each["documents"]))
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}"[:200])
    ranked = {"seconds": time.monotonic() - started, "found": found}
    Path(out).write_text(json.dumps(ranked), encoding="utf-8")


if __name__ == "__main__":
    main()
