"""A prompt's parts in tokens: the same wherever a segment stands, and those of the whole prompt as one text."""

import itertools
from dataclasses import replace

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import fairpos
from fairpos import Decoding, Request, Segment
from fairpos.errors import InvalidRequest
from fairpos.passages import as_segments
from fairpos.prompts import KEY_VALUE, SERVICE_TEMPLATES, TEMPLATES, Template, render
from fairpos.rankers.generate import LISTWISE
from fairpos.rankers.likelihood import LIKELIHOOD
from fairpos.rankers.pairwise import PAIRWISE
from fairpos.rankers.pointwise import POINTWISE
from fairpos.rankers.verdict import IN_WORDS, JUDGE_IN_WORDS_WITH_TIES, JUDGE_WITH_TIES
from fairpos.tokenizing import continuation, tokenize

OURS = {
    **{task: (task, template) for task, template in TEMPLATES.items()},
    **{f"{task} in words": (task, template) for task, template in IN_WORDS.items()},
    "judge with ties": ("judge", JUDGE_WITH_TIES),
    "judge in words with ties": ("judge", JUDGE_IN_WORDS_WITH_TIES),
    "service": ("answer", SERVICE_TEMPLATES["answer"]),
    "listwise": ("rank", LISTWISE),
    "pairwise": ("rank", PAIRWISE),
    "pointwise": ("rank", POINTWISE),
    "likelihood": ("rank", LIKELIHOOD),
}
TEXTS = (
    "It is blue.",
    "- a\n- b",
    " starts with a blank",
    "\nand with a break",
    "ends with two\n\n",
    "(3.5)",
    "é 漢字",
)
SPLIT_AS_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}<|assistant|>\n"


def tokenizer_like(family):
    """A small tokenizer with a family's rules for what it splits, joins and puts in front."""
    model = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    if family == "GPT-2":
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif family == "Llama 3":
        split = pre_tokenizers.Split(Regex(SPLIT_AS_LLAMA_3), "isolated")
        model.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    elif family == "Gemma":
        model.normalizer = normalizers.Replace(" ", "▁")
    elif family == "Llama 2":
        model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    else:
        model.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    model.decoder = decoders.ByteLevel()
    own = model.pre_tokenizer
    if family not in ("GPT-2", "Llama 3"):  # what is learned joins line breaks with each other alone
        model.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex("\n+"), "isolated"), pre_tokenizers.Metaspace(prepend_scheme="never")]
        )
    corpus = [
        "The answer.\n\nPassage 1: a\n\n\nQuestion",
        "Answer:\n\n[End of answer A]\n\n",
        '"value"\n\nKey\n',
        *TEXTS,
    ]
    characters = pre_tokenizers.ByteLevel.alphabet() if family in ("GPT-2", "Llama 3") else sorted(set("".join(corpus)))
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>"], initial_alphabet=characters, show_progress=False
    )
    model.train_from_iterator(corpus * 3, trainer)
    model.pre_tokenizer = own or pre_tokenizers.Sequence([])
    marks = [AddedToken(mark, special=True, normalized=False) for mark in ("<|user|>", "<|assistant|>", "<|end|>")]
    model.add_special_tokens(marks)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>")
    tokenizer.chat_template = CHAT
    return tokenizer


FAMILIES = ["smollm2", "GPT-2", "Llama 3", "Gemma", "Llama 2", "Mistral"]


@pytest.fixture(scope="module")
def tokenizer_of(smollm2):
    made = {family: tokenizer_like(family) for family in FAMILIES[1:]}
    return {"smollm2": smollm2.tokenizer} | made


def prompt_of(name, texts=TEXTS, chat=None):
    task, template = OURS[name]
    if template is LIKELIHOOD or template is POINTWISE:
        texts = texts[:1]
    segments = as_segments([Segment(id=f"s{i}", text=text) for i, text in enumerate(texts)])
    return render(Request(task, "Who is it?", segments), replace(template, chat=chat))


def as_one_text(prompt, tokenizer):
    """The tokens of a server: the chat template's text and the start of the answer, tokenised at once."""
    if prompt.chat is False:
        return tokenizer(f"{prompt.text}\n{prompt.answer_start}", add_special_tokens=False)["input_ids"]
    messages = [{"role": "user", "content": prompt.text}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(text + prompt.answer_start, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("chat", [None, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_have_the_tokens_of_the_whole_prompt(tokenizer_of, family, chat):
    tokenizer = tokenizer_of[family]
    for name in OURS:
        if name == "likelihood" and chat is False:
            continue  # a passage that ends the prompt, and the line break behind it
        prompt = prompt_of(name, chat=chat)
        found, expected = list(tokenize(prompt, tokenizer).input_ids), as_one_text(prompt, tokenizer)
        assert found == expected, (name, tokenizer.convert_ids_to_tokens(found))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_join_and_split_what_a_part_alone_would_not(tokenizer_of, family):
    tokenizer = tokenizer_of[family]
    prompt = prompt_of("rank")
    alone = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in prompt.segments]
    layout = tokenize(prompt, tokenizer)
    in_place = [list(layout.input_ids[slice(*span)]) for span in layout.spans]
    assert (alone == in_place) is (family in ("Llama 3", "Gemma"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_segment_has_the_same_tokens_in_every_place(tokenizer_of, family):
    tokenizer = tokenizer_of[family]
    for template in (TEMPLATES["answer"], KEY_VALUE, Template("", "{text}", "{query}"), Template("", "{text} ", "q")):
        seen = {}
        for texts in itertools.permutations(TEXTS[2:6]):
            request = Request("answer", "Who?", as_segments([Segment(id=text, text=text) for text in texts]))
            layout = tokenize(render(request, template), tokenizer)
            for id, span in zip(layout.ids, layout.spans, strict=True):
                tokens = layout.input_ids[slice(*span)]
                assert seen.setdefault(id, tokens) == tokens


def test_where_a_tokenizer_joins_two_parts_they_stay_apart(tokenizer_of):
    """What a key-value list keeps of its source: an empty line behind the last pair, one token in Llama 3's kind."""
    request = Request("answer", "k", as_segments(['"a": "1"', '"b": "2"']))
    tokenizer = tokenizer_of["Llama 3"]
    prompt = render(request, KEY_VALUE)
    whole, parts = as_one_text(prompt, tokenizer), tokenize(prompt, tokenizer).input_ids
    assert whole != list(parts)
    assert tokenizer.decode(whole) == tokenizer.decode(parts)


@pytest.mark.parametrize("family", ["Llama 2", "Mistral"])
def test_a_reply_gets_no_blank_of_its_own(tokenizer_of, family):
    tokenizer = tokenizer_of[family]
    whole = tokenizer("\nAnswer: A", add_special_tokens=False)["input_ids"]
    start = tokenizer("\nAnswer:", add_special_tokens=False)["input_ids"]
    assert [*start, *continuation(" A", tokenizer)] == whole


def words_of(*, before=(), after=(), unknown="<unk>"):
    """A tokenizer of whole words that puts special tokens around every text by itself."""
    names = [*"ABC?.:\n", "Who", "is", "it", "blue", "a", "Anna", *before, *after]
    vocabulary = {name: i for i, name in enumerate(["<unk>", *names] if unknown else names)}
    model = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown) if unknown else models.WordLevel(vocabulary))
    model.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w ]"), "removed", invert=True)
    special = [(name, vocabulary[name]) for name in (*before, *after)]
    if special:
        around = " ".join([*before, "$A", *after])
        model.post_processor = processors.TemplateProcessing(single=around, special_tokens=special)
        model.add_special_tokens([AddedToken(name, special=True) for name, _ in special])
    return PreTrainedTokenizerFast(tokenizer_object=model, unk_token=unknown)


@pytest.mark.parametrize("before", [(), ("<s>",), ("[CLS]",), ("[gMASK]", "<sop>")])
@pytest.mark.parametrize("after", [(), ("[SEP]",)])
@pytest.mark.parametrize("named", [False, True])
def test_what_a_tokenizer_puts_before_every_text_stands_there_once(before, after, named):
    tokenizer = words_of(before=before, after=after)
    if named and before:
        tokenizer.bos_token = before[0]
    first = tokenizer.convert_tokens_to_ids(list(before))
    prompt = prompt_of("answer")
    plain = list(tokenize(prompt, tokenizer).input_ids)
    assert plain[: len(first)] == first
    assert not set(plain[len(first) :]) & set(first)
    for written in ("".join(before), "\n" + "".join(before)):
        tokenizer.chat_template = written + "{% for m in messages %}{{ m.content }}{% endfor %}?"
        assert [token for token in tokenize(prompt, tokenizer).input_ids if token in first] == first


def test_words_that_were_added_as_words_stay_whole_and_control_tokens_do_not():
    tokenizer = tokenizer_like("GPT-2")
    tokenizer.add_tokens(["Anna", "<tool>"])
    prompt = prompt_of("answer", ["Anna said <tool> and <|end|>"], chat=False)
    tokens = tokenizer.convert_ids_to_tokens(list(tokenize(prompt, tokenizer).input_ids))
    assert "Anna" in tokens
    assert not {"<tool>", "<|end|>"} & set(tokens)


def test_a_token_that_is_added_after_the_first_prompt_is_a_control_token_too():
    tokenizer = tokenizer_like("GPT-2")
    prompt = prompt_of("answer", ["It is <late>."], chat=False)
    before = tokenize(prompt, tokenizer)
    tokenizer.add_tokens(["<late>"], special_tokens=True)
    late = tokenizer.convert_tokens_to_ids("<late>")
    assert late in tokenizer("<late>")["input_ids"]
    assert late not in tokenize(prompt, tokenizer).input_ids
    assert tokenizer.decode(before.input_ids) == tokenizer.decode(tokenize(prompt, tokenizer).input_ids)


def test_text_that_a_tokenizer_has_no_tokens_for_is_refused():
    with pytest.raises(InvalidRequest, match=r"the tokenizer can't put .* into tokens: WordLevel error"):
        tokenize(prompt_of("answer"), words_of(unknown=None))


def wrapped(tokenizer, size):
    config = LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4
    )
    return fairpos.wrap(LlamaForCausalLM(config).eval(), tokenizer)


@pytest.mark.parametrize("methods", ["none", "set_based", "permutation:views=2"])
def test_tokens_that_the_model_does_not_have_are_refused_wherever_they_come_from(methods):
    tokenizer = tokenizer_like("GPT-2")
    fair = wrapped(tokenizer, len(tokenizer) - 3)  # without the chat template's
    for call in (fair.answer, fair.rank, fair.choose, fair.judge):
        with pytest.raises(InvalidRequest, match=r"got \d+\. If the tokenizer .*resize_token_embeddings"):
            call("Who?", ["Anna", "Bob"], methods)
    tokenizer.chat_template = None
    assert fair.rank("Who?", ["Anna", "Bob"], methods).ranking
    tokenizer.add_tokens(["Anna"])
    with pytest.raises(InvalidRequest, match="resize_token_embeddings"):
        fair.rank("Who?", ["Anna", "Bob"], methods)


@pytest.mark.parametrize("wrong", [-1, 300, 10**9])
def test_ids_that_the_model_does_not_have_are_refused(wrong):
    fair = wrapped(None, 300)
    for methods, spans in (("none", []), ("set_based", [(1, 2), (2, 3)])):
        for call in (fair.next_token_logits, fair.generate_ids):
            with pytest.raises(InvalidRequest, match=f"tokens 0 to 299, got {wrong}"):
                call([1, 2, wrong, 3, 4], spans, methods)


@pytest.mark.parametrize("methods", ["none", "set_based", "permutation:views=2"])
def test_padding_and_an_end_that_the_model_does_not_have_are_never_fed_to_it(methods):
    tokenizer = tokenizer_like("GPT-2")
    tokenizer.chat_template = None
    size = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<pad>", "eos_token": "<eos>"})
    fair = wrapped(tokenizer, size)
    requests = [Request("answer", query, as_segments(["Anna", "Bob"])) for query in ("Who?", "Who is it, then?")]
    for decoding in (Decoding(max_new_tokens=3), Decoding(max_new_tokens=3, temperature=1.0, seed=1)):
        assert [output.status for output in fair.run(requests, methods, decoding=decoding)] == ["ok", "ok"]
    assert sorted(fair.rank("Who?", ["Anna", "Bob"], methods, ranker="generate").ranking) == ["1", "2"]
