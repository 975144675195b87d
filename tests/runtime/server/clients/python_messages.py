# SPDX-License-Identifier: Apache-2.0
"""What Anthropic's official Python client must be able to do with the server that GIRIH_URL names."""
import json
import os
import time
import urllib.request

import anthropic

URL, KEY, MODEL = os.environ["GIRIH_URL"], os.environ["GIRIH_KEY"], os.environ["GIRIH_MODEL"]
client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=120)
MESSAGES = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
# The client knows no temperature any more; the server does.
PLAIN = dict(model=MODEL, messages=MESSAGES, max_tokens=24, extra_body={"temperature": 0})


def refused(kind, call):
    try:
        call()
    except kind as error:
        assert error.body["type"] == "error" and error.body["error"]["message"], error.body
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def test_plain():
    answer = client.messages.create(**PLAIN)
    assert answer.role == "assistant" and answer.type == "message" and answer.content[0].text
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert 0 < answer.usage.output_tokens <= 24


def test_system_and_blocks():
    blocks = [{"type": "text", "text": MESSAGES[0]["content"], "cache_control": {"type": "ephemeral"}}]
    answer = client.messages.create(**{**PLAIN, "messages": [{"role": "user", "content": blocks}]}, system="Be brief.")
    assert answer.content[0].text


def test_streamed_is_the_same_text():
    plain = client.messages.create(**PLAIN)
    with client.messages.stream(**PLAIN) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == plain.content[0].text == final.content[0].text
    assert final.stop_reason == plain.stop_reason
    count = lambda usage: usage.input_tokens + usage.cache_read_input_tokens
    assert count(final.usage) == count(plain.usage) and final.usage.output_tokens == plain.usage.output_tokens
    kinds = [event.type for event in client.messages.create(**PLAIN, stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"] and kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) <= {"content_block_delta", "ping"}


def test_stop_sequences():
    text = client.messages.create(**PLAIN).content[0].text
    stop = text[len(text) // 2:][:5]
    answer = client.messages.create(**PLAIN, stop_sequences=["@@never@@", stop])
    assert answer.stop_reason == "stop_sequence" and answer.stop_sequence == stop
    assert answer.content[0].text == text[:text.index(stop)]


def test_structured_output():
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"], "additionalProperties": False}
    answer = client.messages.create(**PLAIN, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert answer.stop_reason == "end_turn" and set(json.loads(answer.content[0].text)) == {"sure"}


def test_tools():
    town = {"type": "object", "properties": {"town": {"enum": ["Rome", "Paris"]}}, "required": ["town"], "additionalProperties": False}
    limits = {**PLAIN, "max_tokens": 128, "tools": [{"name": "weather", "description": "Of a town", "input_schema": town}]}
    answer = client.messages.create(**limits, tool_choice={"type": "tool", "name": "weather"})
    call = answer.content[0]
    assert answer.stop_reason == "tool_use" and call.type == "tool_use" and call.input["town"] in ("Rome", "Paris")
    with client.messages.stream(**limits, tool_choice={"type": "tool", "name": "weather"}) as stream:
        assert stream.get_final_message().content[0].input == call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    turns = MESSAGES + [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(**{**limits, "messages": turns}).content


def test_count_tokens():
    counted = client.messages.count_tokens(model=MODEL, messages=MESSAGES, system="Be brief.").input_tokens
    usage = client.messages.create(**PLAIN, system="Be brief.").usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens


def test_second_turn_goes_on():
    first = client.messages.create(**PLAIN)
    turns = MESSAGES + [{"role": "assistant", "content": first.content}, {"role": "user", "content": "And of Italy?"}]
    assert client.messages.create(**{**PLAIN, "messages": turns}).content


def test_refusals():
    stranger = anthropic.Anthropic(base_url=URL, api_key="wrong", max_retries=0)
    refused(anthropic.AuthenticationError, lambda: stranger.messages.create(**PLAIN))
    refused(anthropic.NotFoundError, lambda: client.messages.create(**{**PLAIN, "model": "claude-9"}))
    refused(anthropic.BadRequestError, lambda: client.messages.create(**{**PLAIN, "extra_body": {"temperature": 2}}))
    long = [{"role": "user", "content": "word " * 40_000}]
    refused(anthropic.BadRequestError, lambda: client.messages.create(**{**PLAIN, "messages": long}))


def test_tokens_and_text():
    def ask(path, body=None):
        headers = {"Authorization": "Bearer " + KEY, "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        return json.load(urllib.request.urlopen(urllib.request.Request(URL + path, data, headers), timeout=60))

    text = "The capital of France — is “Paris”? 🙂"
    tokens = ask("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]
    assert ask("/detokenize", {"tokens": tokens})["prompt"] == text
    info = ask("/tokenizer_info")
    assert ask("/tokenize", {"prompt": info["eos_token"], "add_special_tokens": False})["count"] == 1
    prompt = ask("/apply-template", {"messages": MESSAGES})["prompt"]
    assert MESSAGES[0]["content"] in prompt
    assert ask("/tokenize", {"prompt": prompt, "add_special_tokens": False})["count"] == ask("/tokenize", {"messages": MESSAGES})["count"]


for name, test in list(globals().items()):
    if name.startswith("test_"):
        begun = time.time()
        test()
        print(f"ok {name} ({time.time() - begun:.1f} s)", flush=True)
