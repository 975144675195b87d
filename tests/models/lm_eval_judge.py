# SPDX-License-Identifier: Apache-2.0
"""lm-eval against `girih serve` with the default model: the numbers that it gets are those of transformers and of `girih score`.

Tasks of local data (no network): choices, one of which is a whole answer behind which the model ends its turn; rolling
log-likelihoods of a text longer than a window; generations as completions and as chats.
"""
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import lm_eval
import transformers
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI
from lm_eval.tasks import TaskManager

import default_model_judge
import girih_cli
from serving_test import KEY, Server

# Of a token, whose number is told from the sum; exact numerics differ from transformers' f32 by up to 4e-4 in a logit.
TOKEN_BOUND = 1e-3
NATS_A_TOKEN = 5
SCORE_BOUND = 1e-4
WINDOW = 256
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"

CHOICES = [
    ("The capital of France is", ["Paris", "Rome", "Berlin", "a river"]),
    ("Two and two make", ["four", "five", "22", "fish"]),
    ("Water freezes at zero degrees", ["Celsius", "Fahrenheit", "Kelvin", "longitude"]),
    ("The opposite of hot is", ["cold", "warm", "tall", "Tuesday"]),
    ("def add(a, b):\n    return", ["a + b", "a - b", "None", "\n\n\nadd"]),
    ("Žluťoučký kůň — 这是什么？ 🙂", ["这是一匹马。", "🙂🙂🙂", "naïve", "…"]),
    ("Birds have", ["feathers", "scales", "wheels", "gills"]),
    # Behind the first of these the model ends its turn: what it generates is no text.
    (CHAT.format("What is the capital of France?") + "The capital of France is", ["Paris.", "Rome.", "Paris.<|im_end|>", "not known to me."]),
]
TEXTS = ["A short line.", "", "Ünïcödé: што гэта? これは何ですか。 🙂🙃"]
QUESTIONS = ["What is the capital of France?", "Name a colour.", "Count from one to five in words."]

TASKS = {
    "choices": """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: 0
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc}]
""",
    "rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}]
""",
    "questions": """
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{question}}"
generation_kwargs: {until: ["\\n\\n", "zzz"], max_gen_toks: 24, temperature: 0}
metric_list: [{metric: exact_match}]
""",
}


def write_tasks(folder):
    licence = (girih_cli.REPOSITORY / "LICENSE").read_text()
    rows = {"choices": [{"question": question, "choices": choices} for question, choices in CHOICES],
            "rolling": [{"text": text or licence[:3000]} for text in TEXTS],
            "questions": [{"question": question} for question in QUESTIONS]}
    for name, description in TASKS.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows[name]))
        (folder / f"{name}.yaml").write_text(
            f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n{description}")


def evaluate(model, folder, tasks, **options):
    """{task: [what the model answered for each request, in the tasks' order]}"""
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    results = lm_eval.simple_evaluate(model=model, tasks=tasks, task_manager=manager, log_samples=True, bootstrap_iters=0, **options)
    return {task: [answer for sample in sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
                   for answers in sample["filtered_resps"] for answer in (answers if isinstance(answers, list) else [answers])]
            for task in tasks}


def transformers_tokenizer(path):
    import gguf

    fields = gguf.GGUFReader(path).fields
    word = lambda key: fields["tokenizer.ggml.tokens"].contents()[int(fields[f"tokenizer.ggml.{key}"].contents())]
    return transformers.PreTrainedTokenizerFast(tokenizer_object=default_model_judge.load_tokenizer(fields),
                                                bos_token=word("bos_token_id"), eos_token=word("eos_token_id"),
                                                chat_template=fields["tokenizer.chat_template"].contents())


def likelihoods(answers):
    return [answer if isinstance(answer, (tuple, list)) else (answer, None) for answer in answers]


def main():
    checkpoint = girih_cli.default_model()
    if checkpoint is None or not girih_cli.GIRIH.exists():
        print("skipped: GIRIH_SMOLLM2_GGUF names no file, or girih is not built")
        return girih_cli.SKIPPED
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    report = girih_cli.Reporter()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_tasks(folder)
        tokenizer = transformers_tokenizer(checkpoint)
        judge = HFLM(pretrained=default_model_judge.load_model(checkpoint), tokenizer=tokenizer, batch_size=1, max_length=WINDOW)
        program = girih_cli.compile_model(checkpoint, folder / "model.girih")
        scored = ["choices", "rolling"]
        expected = evaluate(judge, folder, [*scored, "questions"])
        with Server(program, folder) as server:
            os.environ["OPENAI_API_KEY"] = KEY
            settings = dict(base_url=server.url + "/v1/completions", model="model", auth_token=KEY, max_length=WINDOW + 2, timeout=120)
            kinds = {
                "tokens, 8 at a time": LocalCompletionsAPI(**settings, num_concurrent=8),
                "texts, 4 a request": LocalCompletionsAPI(**settings, tokenized_requests=False, batch_size=4),
            }
            for kind, model in kinds.items():
                answers = evaluate(model, folder, [*scored, "questions"])
                check_likelihoods(kind, scored, answers, expected, report)
                report(f"{kind}: generations as transformers'", answers["questions"] == expected["questions"])
                if answers["questions"] != expected["questions"]:
                    print(answers["questions"], expected["questions"])
            check_score(program, kinds["tokens, 8 at a time"], tokenizer, folder, report)
            chat = LocalChatCompletion(**{**settings, "base_url": server.url + "/v1/chat/completions"})
            answers = evaluate(chat, folder, ["questions"], apply_chat_template=True)
            wanted = evaluate(judge, folder, ["questions"], apply_chat_template=True)
            report(f"chats as transformers': {answers['questions'][0]!r}", answers == wanted)
            if answers != wanted:
                print(answers, wanted)
    return 1 if report.failed else 0


def check_likelihoods(kind, tasks, answers, expected, report):
    for task in tasks:
        ours, theirs = likelihoods(answers[task]), likelihoods(expected[task])
        worst = max(abs(a - b) / max(1, abs(b) / NATS_A_TOKEN) for (a, _), (b, _) in zip(ours, theirs, strict=True))
        report(f"{kind}: {len(ours)} log-likelihoods of {task} as transformers', to {worst:.1e}", worst <= TOKEN_BOUND)
        greedy = sum(a == b for (_, a), (_, b) in zip(ours, theirs))
        report(f"{kind}: which of them are greedy, {greedy}", greedy == len(ours))


def check_score(program, model, tokenizer, folder, report):
    """The same sums as `girih score` prints."""
    worst = 0
    for context, choices in CHOICES:
        for choice in choices:
            whole = model.tok_encode(context + " " + choice)
            start = len(model.tok_encode(context))
            (folder / "ids").write_text(",".join(map(str, whole)))
            printed = json.loads(girih_cli.girih("score", program, "--tokens-file", folder / "ids", "--format", "json"))
            [(ours, _)] = model._loglikelihood_tokens([((context, choice), whole[:start], whole[start:])], disable_tqdm=True)
            worst = max(worst, abs(ours - sum(printed["logprobs"][start:])))
    report(f"log-likelihoods as `girih score`'s, to {worst:.1e}", worst <= SCORE_BOUND)


if __name__ == "__main__":
    sys.exit(main())
