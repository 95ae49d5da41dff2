"""One record's fault is that record's: documents without text, ids of nothing, prompts too long, no judgements."""

import gzip
import json

import pytest

from fairpos import Output
from fairpos.errors import InvalidRequest, TooLong
from fairpos.ranking.items import all_ids, read_records, read_trec
from fairpos.ranking.result import RankResult
from fairpos.ranking.run import rank_items
from fairpos.ranking.summary import Tally, coverage, quality
from fairpos.types import Usage
from tests.cli.test_rank import results, run


@pytest.fixture
def trec(tmp_path):
    """Writes a run with its queries and corpus; returns the command's arguments."""

    def write(run_lines, queries="q0\tfirst?\nq1\tsecond?\n", corpus=None):
        corpus = corpus or "".join(f'{{"_id": "d{i}", "text": "text worth {i}"}}\n' for i in range(5))
        for name, text in (("run", run_lines), ("queries", queries), ("corpus", corpus)):
            (tmp_path / name).write_text(text, encoding="utf-8")
        return [tmp_path / "run", "--queries", tmp_path / "queries", "--corpus", tmp_path / "corpus"]

    return write


RUN = "".join(f"q{q} Q0 d{i} {i} {9 - i} bm25\n" for q in range(2) for i in range(3))


@pytest.mark.parametrize(
    ("corpus", "texts", "hidden", "said"),
    [
        # a title without a text is all that there is of it
        ('{"_id": "d0", "title": "worth 9", "text": ""}\nd1\tworth 1\nd2\tworth 2\n', "d0 d2 d1", "", ""),
        ('{"_id": "d0", "title": "worth 9"}\nd1\tworth 1\nd2\tworth 2\n', "d0 d2 d1", "", ""),
        # an empty passage, and one that the corpus lacks, stay unranked
        ('{"_id": "d0", "text": " "}\nd1\tworth 1\nd2\tworth 2\n', "d2 d1", "d0", ""),
        ("d1\tworth 1\nd2\tworth 2\n", "d2 d1", "d0", "lacks 1 documents of the run, e.g. 'd0'"),
        # duplicates: of no matter where unwanted or the same; else the first counts, which is said
        ("d0\tworth 0\nd1\tworth 1\nd2\tworth 2\nz\tone\nz\tother\nd0\tworth 0\n", "d2 d1 d0", "", ""),
        ("d0\tworth 0\nd1\tworth 1\nd2\tworth 2\nd0\tworth 7\n", "d2 d1 d0", "", "line 4: id 'd0' has another text"),
        # a line that isn't one
        ("d0\tworth 0\n{\nd1\tworth 1\nd2\tworth 2\n", "d2 d1 d0", "", "line 2: not JSON"),
    ],
)
def test_a_bad_document_is_no_other_documents_fault(trec, tmp_path, corpus, texts, hidden, said):
    found, _ = run(*trec(RUN, corpus=corpus), "--ranker", "generate", "-o", tmp_path / "o", "--trec", tmp_path / "t")
    assert found.exit_code == 0, found.output
    assert said in found.stderr
    for line in results(tmp_path / "o").values():
        assert (line["ranking"], line["unranked"], line["status"]) == (texts.split(), hidden.split(), "ok")
        assert bool(hidden) == any("have no text and were not shown" in note for note in line["notes"])
    assert len((tmp_path / "t").read_text().splitlines()) == 2 * len(texts.split())


def test_a_query_without_a_text_keeps_no_other_from_its_ranking(trec, tmp_path):
    arguments = [*trec(RUN, queries="q0\tfirst?\n"), "--ranker", "generate"]
    found, endpoint = run(*arguments, "-o", tmp_path / "o")
    assert found.exit_code == 0, found.output
    assert "query 'q1' has no text among the queries" in found.stderr
    lines = results(tmp_path / "o")
    assert (lines["q0"]["status"], lines["q1"]["status"]) == ("ok", "invalid")
    assert lines["q1"]["unranked"] == ["d0", "d1", "d2"]
    assert endpoint.total == 3  # as many views as there are passages
    found, _ = run(*arguments, "-o", tmp_path / "p", "--on-error", "skip")
    assert sorted(results(tmp_path / "p")) == ["q0"]
    found, _ = run(*arguments, "--on-error", "stop")
    assert "record 'q1': invalid (it has no text among the queries)" in str(found.exception)


def test_nothing_that_can_be_asked_is_a_mistake(trec, tmp_path):
    with pytest.raises(InvalidRequest, match="query 'q0' has no document with a text in the corpus"):
        read_trec(*(trec(RUN, corpus="z\tnone\n")[i] for i in (0, 2, 4)), depth=9)


def test_a_record_with_an_empty_passage_is_ranked_without_it(tmp_path):
    passages = [{"id": "a", "text": "worth 1"}, {"id": "b", "text": " "}, {"id": "c", "title": "worth 5", "text": ""}]
    lines = [{"id": "q0", "query": "?", "passages": passages}, {"id": "q1", "query": "?", "passages": ["", "worth 3"]}]
    (tmp_path / "in").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, _ = run(tmp_path / "in", "--ranker", "generate", "-o", tmp_path / "o")
    assert found.exit_code == 0, found.output
    got = results(tmp_path / "o")
    assert (got["q0"]["ranking"], got["q0"]["unranked"]) == (["c", "a"], ["b"])
    assert (got["q1"]["ranking"], got["q1"]["unranked"]) == (["2"], ["1"])
    assert list(all_ids(read_records(tmp_path / "in").items)) == ["q0", "a", "c", "b", "q1", "2", "1"]


def test_one_prompt_beyond_the_context_spoils_no_other(tmp_path):
    (tmp_path / "in").write_text(
        "".join(
            json.dumps({"id": f"q{i}", "query": "?", "passages": ["a" * (9 * i + 1), "b"]}) + "\n" for i in range(3)
        )
    )

    def ask(requests):
        if any(len(segment.text) > 15 for request in requests for segment in request.segments):
            raise TooLong("the prompt has 19 tokens, the context 15")
        return [Output("rank", ranking=request.ids, usage=Usage(calls=1)) for request in requests]

    found = [result for _, _, result in rank_items(read_records(tmp_path / "in").items, ask, batch=3)]
    assert [result.status for result in found] == ["ok", "ok", "invalid"]
    assert "the prompt has 19 tokens" in found[2].reason
    tally = Tally()
    for result in found:
        tally.add(result)
    assert (tally.records["ok"], tally.total, len(tally.lost)) == (2, 3, 1)


def test_gold_that_is_not_among_the_passages_is_a_miss(tmp_path):
    lines = [{"id": f"q{i}", "query": "?", "passages": ["worth 1", "worth 2"], "gold": g} for i, g in enumerate("29")]
    (tmp_path / "in").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, _ = run(tmp_path / "in", "--ranker", "generate", "-o", tmp_path / "o", "--json")
    figures = json.loads(found.stdout)["quality"]
    assert (figures["nDCG@10"]["estimate"], figures["nDCG@10"]["queries"]) == (0.5, 2)


def test_judgements_that_match_nothing_are_said(trec, tmp_path):
    (tmp_path / "qrels").write_text("x 0 d0 1\n")
    arguments = [*trec(RUN), "--ranker", "generate", "--qrels", tmp_path / "qrels"]
    found, _ = run(*arguments, "-o", tmp_path / "o")
    assert "no query is judged, so there are no figures: they are of 'x', ..., results of 'q0', ..." in found.stderr
    (tmp_path / "qrels").write_text("q0 0 D0 1\n")
    found, _ = run(*arguments, "-o", tmp_path / "p")
    assert "1 of 2 queries are not judged, and not in the figures" in found.stderr
    assert "none of the passages is judged: those of query 'q0' are 'd2', ..., judged are 'D0', ..." in found.stderr
    found, _ = run(*arguments, "-o", tmp_path / "r", "--json")
    assert len(json.loads(found.stdout)["quality_notes"]) == 2


def test_ids_that_no_run_can_hold_are_refused_before_anything_is_asked(tmp_path):
    (tmp_path / "in").write_text(json.dumps({"id": "q", "query": "?", "passages": [{"id": "a b", "text": "t"}]}) + "\n")
    found, endpoint = run(tmp_path / "in", "--ranker", "generate", "--trec", tmp_path / "t")
    assert "without white space, got 'a b'" in str(found.exception)
    assert endpoint.total == 0


def test_packed_files_and_byte_order_marks(trec, tmp_path):
    (tmp_path / "in.gz").write_bytes(gzip.compress(RUN.encode()))
    (tmp_path / "qrels").write_text("\ufeffquery-id\tcorpus-id\tscore\nq0\td2\t1\nq1\td2\t1\n", encoding="utf-8")
    _, *others = trec(RUN, queries="\ufeffq0\tfirst?\nq1\tsecond?\n")
    arguments = [tmp_path / "in.gz", *others, "--ranker", "generate", "--qrels", tmp_path / "qrels", "--json"]
    found, _ = run(*arguments, "-o", tmp_path / "o.gz")
    assert json.loads(found.stdout)["quality"]["nDCG@10"]["estimate"] == 1.0
    assert len(gzip.decompress((tmp_path / "o.gz").read_bytes()).splitlines()) == 2


def test_the_length_of_a_reply_and_a_system_prompt_reach_the_endpoint(trec):
    arguments = [*trec(RUN), "--ranker", "generate", "--max-new-tokens", 2048, "--system", "You rank."]
    _, endpoint = run(*arguments)
    assert {body["max_tokens"] for body in endpoint.bodies} == {2048}
    assert {body["messages"][0]["content"] for body in endpoint.bodies} == {"You rank."}


def test_a_result_is_its_line_and_old_lines_are_read():
    result = RankResult("q", ("a", "b"), (("a", "b"),), ("c",), {"a": -1.0, "b": float("-inf")}, usage=Usage(calls=2))
    assert RankResult.from_record(json.loads(json.dumps(result.to_record()))) == result
    old = {name: value for name, value in result.to_record().items() if name != "ties"}
    assert RankResult.from_record(old).groups == (("a",), ("b",))
    with pytest.raises(InvalidRequest, match="needs id, ranking, scores and usage"):
        RankResult.from_record({"id": "q"})


def test_ties_count_in_the_order_of_trec_eval_and_for_tau_as_ties():
    result = RankResult("q", ("a", "b"), (("a", "b"),))
    assert quality([result], {"q": {"a": 1.0}})["MRR"][0].estimate == 0.5
    assert quality([result], {"q": {"b": 1.0}})["MRR"][0].estimate == 1.0
    assert quality([result], {"q": {"b": 1.0}})["Kendall tau"][0].estimate == 0.0
    assert coverage([result], {"q": {"b": 1.0}}) == []
    assert coverage([result], {"q": {"b": 1.0}, "r": {"b": 1.0}}) == [
        "1 judged queries have no result, and are not in the figures (trec_eval -c counts them 0)"
    ]
