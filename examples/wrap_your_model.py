"""Wrap a transformers model that you loaded yourself, and stream an order-invariant answer."""

from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer

import fairpos
from fairpos import Decoding
from fairpos.models import embedded

folder = embedded.path("smollm2")  # any folder or hub id of a RoPE model
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
fair = fairpos.wrap(model, tokenizer)

passages = [
    "The lighthouse of Alexandria was about 100 metres high.",
    "The Colossus of Rhodes was a bronze statue of the sun god.",
    "The hanging gardens are said to have stood in Babylon.",
]
streamer = TextStreamer(tokenizer, skip_prompt=True)
decoding = Decoding(max_new_tokens=24, streamer=streamer)
fair.answer("How high was the lighthouse?", passages, methods="set_based", decoding=decoding)
