#!/usr/bin/env bash
# lm_eval 0.4.13 (lm-evaluation-harness) with tokenizers 0.23.3, Python 3.11: the harness tokenises the context, and the
# context with its continuation; the continuation's tokens are those of the second beyond the NUMBER of the first. Where
# a token of the whole crosses the border (a merge of the context's last letter with the continuation's first one, as in
# `="` + `">`, or any task with an empty target_delimiter), the two don't fit together: the model is given the context,
# then what is left of the continuation, and letters between them are lost without a word. The likelihood is that of
# another text. If nothing is left, a model class fails or scores nothing. With one merge, b + c:
#
#   'ab' + 'dd': the model reads 'ab' 'dd'
#   'ab' + 'cd': the model reads 'ab' 'd'
#   'ab' + 'ccd': the model reads 'ab' 'cd'
#   'ab' + 'c': the model reads 'ab' ''
#
# Without fairpos. Exits with another status than 0 where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'lm_eval==0.4.13' 'tokenizers==0.23.3'
cd "$folder"
cat > border.py <<'PYTHON'
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE

vocabulary = {token: number for number, token in enumerate(["<end>", "a", "b", "c", "d", "bc"])}
tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[("b", "c")]))
tokenizer.decoder = decoders.Fuse()


class Shows(TemplateLM):
    eot_token_id = 0

    def tok_encode(self, string, add_special_tokens=None, **kwargs):
        return tokenizer.encode(string).ids

    def _loglikelihood_tokens(self, requests, **kwargs):
        for (context, continuation), first, second in requests:
            shown = f"{tokenizer.decode(first)!r} {tokenizer.decode(second)!r}"
            print(f"{context!r} + {continuation!r}: the model reads {shown}")
        return [(0.0, False) for _ in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError

    def generate_until(self, requests, disable_tqdm=False):
        raise NotImplementedError


pairs = [("ab", "dd"), ("ab", "cd"), ("ab", "ccd"), ("ab", "c")]
Shows().loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs], disable_tqdm=True)
PYTHON
"$folder/env/bin/python" border.py 2> "$folder/log" | tee seen || { tail "$folder/log"; exit 1; }
diff seen - <<'EXPECTED'
'ab' + 'dd': the model reads 'ab' 'dd'
'ab' + 'cd': the model reads 'ab' 'd'
'ab' + 'ccd': the model reads 'ab' 'cd'
'ab' + 'c': the model reads 'ab' ''
EXPECTED
