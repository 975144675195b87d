# SPDX-License-Identifier: Apache-2.0
"""What the official Python client must be able to do with the server that GIRIH_URL names."""
import concurrent.futures
import json
import os
import pathlib
import re
import time
import typing
import urllib.request

import openai
import pydantic

URL, KEY, MODEL = os.environ["GIRIH_URL"], os.environ["GIRIH_KEY"], os.environ["GIRIH_MODEL"]
PID = os.environ["GIRIH_SERVER_PID"]
DISCONNECTS = 200
client = openai.OpenAI(base_url=URL + "/v1", api_key=KEY, max_retries=0, timeout=120)
MESSAGES = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
PLAIN = dict(model=MODEL, messages=MESSAGES, temperature=0, max_tokens=24)


def metric(name):
    request = urllib.request.Request(URL + "/metrics", headers={"Authorization": "Bearer " + KEY})
    text = urllib.request.urlopen(request, timeout=60).read().decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE).group(1))


def wait_until_idle():
    deadline = time.time() + 60
    while metric("girih_kv_blocks_used") or metric("girih_requests_active"):
        assert time.time() < deadline, f"{metric('girih_kv_blocks_used')} KV blocks are still held"
        time.sleep(0.05)


def refused(kind, code, call):
    try:
        call()
    except kind as error:
        assert error.code == code, f"code is {error.code}, expected {code}"
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def collect(stream):
    """Text, finish reason and usage of a chat stream."""
    text, reason, usage, role = "", None, None, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            assert choice.index == 0 and reason is None, "nothing follows the finish reason"
            role = role or choice.delta.role
            text += choice.delta.content or ""
            reason = choice.finish_reason
    assert role == "assistant", role
    return text, reason, usage


def test_plain():
    answer = client.chat.completions.create(**PLAIN)
    assert answer.choices[0].message.role == "assistant" and answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    usage = answer.usage
    assert 0 < usage.completion_tokens <= 24 and usage.prompt_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_models():
    assert [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


def test_streamed_is_the_same_text():
    plain = client.chat.completions.create(**PLAIN)
    text, reason, usage = collect(client.chat.completions.create(**PLAIN, stream=True))
    assert text == plain.choices[0].message.content and reason == plain.choices[0].finish_reason
    assert usage is None
    _, _, usage = collect(client.chat.completions.create(**PLAIN, stream=True, stream_options={"include_usage": True}))
    assert usage == plain.usage, (usage, plain.usage)


def test_stop_strings():
    text = client.chat.completions.create(**PLAIN).choices[0].message.content
    stop = text[len(text) // 2:][:5]
    expected = text[:text.index(stop)]
    for stops in (stop, ["@@never@@", stop]):
        answer = client.chat.completions.create(**PLAIN, stop=stops)
        assert answer.choices[0].message.content == expected and answer.choices[0].finish_reason == "stop"
        streamed, reason, _ = collect(client.chat.completions.create(**PLAIN, stop=stops, stream=True))
        assert streamed == expected and reason == "stop", (streamed, expected)


def test_several_choices():
    for count in (1, 3):
        answer = client.chat.completions.create(**PLAIN, n=count)
        assert [choice.index for choice in answer.choices] == list(range(count))
        assert len({choice.message.content for choice in answer.choices}) == 1, "greedy answers are alike"
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(**PLAIN, n=3, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert len(set(texts)) == 1 and texts[0]
    error = refused(openai.BadRequestError, "invalid_value", lambda: client.chat.completions.create(**PLAIN, n=1000))
    assert error.param == "n"


def test_seed():
    def sample(seed):
        return client.chat.completions.create(**{**PLAIN, "temperature": 1.0}, seed=seed).choices[0].message.content

    assert sample(7) == sample(7)
    assert len({sample(seed) for seed in range(6)}) > 1


def test_logprobs():
    answer = client.chat.completions.create(**PLAIN, logprobs=True, top_logprobs=2)
    entries = answer.choices[0].logprobs.content
    assert len(entries) >= answer.usage.completion_tokens - 1
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in entries)


class Verdict(pydantic.BaseModel):
    verdict: typing.Literal["yes", "no", "unknown"]
    sure: bool


def test_structured_output():
    limits = {**PLAIN, "max_tokens": 64}
    parsed = client.chat.completions.parse(**limits, response_format=Verdict)
    assert isinstance(parsed.choices[0].message.parsed, Verdict), parsed
    with client.chat.completions.stream(**limits, response_format=Verdict) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == parsed.choices[0].message.parsed
    number = client.chat.completions.create(**limits, extra_body={"structured_outputs": {"regex": "[1-9][0-9]{2}"}})
    assert re.fullmatch("[1-9][0-9]{2}", number.choices[0].message.content) and number.choices[0].finish_reason == "stop"
    choice = client.chat.completions.create(**limits, extra_body={"structured_outputs": {"choice": ["Rome", "Paris"]}})
    assert choice.choices[0].message.content in ("Rome", "Paris")
    unknown = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "robot"}}}
    error = refused(openai.BadRequestError, "invalid_value", lambda: client.chat.completions.create(**limits, response_format=unknown))
    assert error.param == "response_format"


TOWN = {"type": "object", "properties": {"town": {"enum": ["Rome", "Paris"]}}, "required": ["town"], "additionalProperties": False}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather of a town", "parameters": TOWN}}


def test_tools():
    limits = {**PLAIN, "max_tokens": 128, "tools": [WEATHER]}
    assert client.chat.completions.create(**limits).choices[0].finish_reason in ("stop", "length", "tool_calls")
    named = {"type": "function", "function": {"name": "weather"}}
    answer = client.chat.completions.create(**limits, tool_choice=named).choices[0]
    call = answer.message.tool_calls[0]
    assert answer.finish_reason == "tool_calls" and call.function.name == "weather"
    assert json.loads(call.function.arguments)["town"] in ("Rome", "Paris")
    with client.chat.completions.stream(**limits, tool_choice=named) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.message.tool_calls[0].function.arguments == call.function.arguments
    assert streamed.finish_reason == "tool_calls"
    turns = MESSAGES + [answer.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    assert client.chat.completions.create(**{**limits, "messages": turns}).choices[0].message


def test_responses():
    limits = dict(model=MODEL, temperature=0, max_output_tokens=24)
    first = client.responses.create(**limits, input=MESSAGES[0]["content"], instructions="Be brief. " * 20)
    assert first.output_text and first.status in ("completed", "incomplete") and first.usage.output_tokens <= 24
    assert client.responses.retrieve(first.id).output_text == first.output_text
    second = dict(**limits, input="And of Italy?", instructions="Be brief. " * 20, previous_response_id=first.id)
    with client.responses.stream(**second) as stream:
        events = list(stream)
    # The helper's own final response is there for completed ones only.
    kinds, final = [event.type for event in events], events[-1].response
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] in ("response.completed", "response.incomplete")
    whole = client.responses.create(**second)
    assert final.output_text == whole.output_text and final.previous_response_id == first.id
    if MODEL != "fake" and first.status == "completed":
        # All of the first turn but its last block was evaluated before, its answer too.
        known = first.usage.total_tokens // 16 * 16 - 16
        assert whole.usage.input_tokens_details.cached_tokens >= known, (whole.usage, first.usage)
    assert [item.role for item in client.responses.input_items.list(first.id)] == ["user"]
    parsed = client.responses.parse(**{**limits, "max_output_tokens": 64}, input="Is it so?", text_format=Verdict)
    assert isinstance(parsed.output_parsed, Verdict)
    tool = {"type": "function", "name": "weather", "parameters": TOWN, "strict": True}
    called = client.responses.create(**{**limits, "max_output_tokens": 128}, input="Rome?", tools=[tool], tool_choice={"type": "function", "name": "weather"})
    call = called.output[0]
    assert call.type == "function_call" and json.loads(call.arguments)["town"] in ("Rome", "Paris")
    answered = client.responses.create(**limits, tools=[tool], previous_response_id=called.id,
                                       input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}])
    assert answered.output
    client.responses.delete(first.id)
    refused(openai.NotFoundError, "not_found", lambda: client.responses.retrieve(first.id))
    unstored = client.responses.create(**limits, input="x", store=False)
    refused(openai.NotFoundError, "not_found", lambda: client.responses.retrieve(unstored.id))


def test_embeddings():
    texts = ["A cat sat on the mat.", "A dog sat on the rug.", "def add(a, b): return a + b"]
    # The client asks for base64 by itself, and decodes it.
    answer = client.embeddings.create(model=MODEL, input=texts)
    vectors = [row.embedding for row in answer.data]
    assert [row.index for row in answer.data] == [0, 1, 2] and answer.usage.prompt_tokens > 10
    assert all(abs(sum(x * x for x in vector) - 1) < 1e-5 for vector in vectors)
    as_floats = client.embeddings.create(model=MODEL, input=texts[0], encoding_format="float").data[0].embedding
    assert max(abs(a - b) for a, b in zip(as_floats, vectors[0])) < 1e-2, "company changes rounding at most"
    similarity = [sum(a * b for a, b in zip(vectors[0], other)) for other in vectors]
    if len(as_floats) > 3:  # a model's, not the fake server's
        assert similarity[1] > similarity[2], similarity
    refused(openai.BadRequestError, "unsupported_parameter",
            lambda: client.embeddings.create(model=MODEL, input="x", dimensions=len(as_floats) // 2))
    refused(openai.BadRequestError, "invalid_value", lambda: client.embeddings.create(model=MODEL, input=["x", ""]))


def test_completions():
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8, temperature=0)
    assert answer.choices[0].text and answer.usage.completion_tokens <= 8
    stream = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8, temperature=0, stream=True)
    assert "".join(choice.text for chunk in stream for choice in chunk.choices) == answer.choices[0].text


def test_refusals():
    stranger = openai.OpenAI(base_url=URL + "/v1", api_key="wrong", max_retries=0)
    refused(openai.AuthenticationError, "invalid_api_key", lambda: stranger.chat.completions.create(**PLAIN))
    refused(openai.NotFoundError, "model_not_found",
            lambda: client.chat.completions.create(**{**PLAIN, "model": "gpt-9"}))
    long_messages = [{"role": "user", "content": "word " * 40_000}]
    error = refused(openai.BadRequestError, "context_length_exceeded",
                    lambda: client.chat.completions.create(**{**PLAIN, "messages": long_messages}))
    assert error.param == "messages"
    refused(openai.BadRequestError, "invalid_value", lambda: client.chat.completions.create(**{**PLAIN, "temperature": 9}))


def test_concurrent_requests_share_steps():
    shared_before = metric("girih_shared_steps_total")
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: client.chat.completions.create(**PLAIN), range(32)))
    assert all(answer.choices[0].message.content for answer in answers)
    if MODEL == "fake":
        assert len({answer.choices[0].message.content for answer in answers}) == 1
    assert metric("girih_shared_steps_total") > shared_before


def test_disconnects_leak_nothing():
    def leave_in_mid_stream(_):
        stream = client.chat.completions.create(**{**PLAIN, "max_tokens": 1500}, stream=True, extra_body={"ignore_eos": True})
        for _, _chunk in zip(range(3), stream):
            pass
        stream.close()

    def count_open_files():
        return len(list(pathlib.Path(f"/proc/{PID}/fd").iterdir()))

    wait_until_idle()
    gone_before, files_before = metric("girih_clients_gone_total"), count_open_files()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(leave_in_mid_stream, range(DISCONNECTS)))
    wait_until_idle()
    left = metric("girih_clients_gone_total") - gone_before
    assert left == DISCONNECTS, f"{left} of {DISCONNECTS} clients were seen to go"
    assert count_open_files() <= files_before + 16, "connections were left open"
    assert client.chat.completions.create(**PLAIN).choices[0].message.content


for name, test in list(globals().items()):
    if name.startswith("test_"):
        begun = time.time()
        test()
        print(f"ok {name} ({time.time() - begun:.1f} s)", flush=True)
