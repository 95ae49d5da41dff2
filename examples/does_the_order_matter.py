"""Ask in every rotation and look whether the answer changes, with and without a method."""

import fairpos

fair = fairpos.load("smollm2")
question = "Which animal is the largest?"
passages = [
    "The blue whale reaches 30 metres and is the largest animal known.",
    "The African elephant is the largest animal on land.",
    "The ostrich is the largest bird.",
]
for methods in ("none", "set_based", "pine"):
    answers = []
    for shift in range(len(passages)):
        rotated = passages[shift:] + passages[:shift]
        answers.append(fair.answer(question, rotated, methods, max_new_tokens=12).text)
    print(f"{methods}: {len(set(answers))} different answers: {sorted(set(map(str, answers)))}")
