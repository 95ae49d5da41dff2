#!/usr/bin/env bash
# inspect_ai 0.3.285, Python 3.11: an `.eval` log is a zip archive, but its members are packed with method 93
# (Zstandard), which Python's own zipfile can't read before 3.14. A reader that opens the log as "a zip file of JSON
# files", as the format is described, lists the members and fails at the first one:
#
#   compression methods: [93]
#   NotImplementedError: That compression method is not supported
#
# Without fairpos. Exits with another status than 0 where the log is packed differently, or is read all the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'inspect_ai==0.3.285'
cd "$folder"
cat > write.py <<'PYTHON'
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import match

output = ModelOutput.from_content("mockllm/model", "hello")
output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
model = get_model("mockllm/model", custom_outputs=[output])
[log] = eval(Task(dataset=[Sample(input="Say hello.", target="hello")], scorer=match()), model=model, log_dir="logs",
             log_format="eval", display="none")
assert log.status == "success", log.error
PYTHON
"$folder/env/bin/python" write.py > /dev/null
cat > read.py <<'PYTHON'
import glob
import sys
import zipfile

[path] = glob.glob("logs/*.eval")
archive = zipfile.ZipFile(path)
print("compression methods:", sorted({info.compress_type for info in archive.infolist()}))
try:
    archive.read("header.json")
except NotImplementedError as error:
    print(f"NotImplementedError: {error}")
    sys.exit(0)
sys.exit("read all the same")
PYTHON
said=$("$folder/env/bin/python" read.py)
echo "$said"
grep -q 'compression methods: \[93\]' <<< "$said"
