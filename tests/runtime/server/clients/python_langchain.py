# SPDX-License-Identifier: Apache-2.0
"""What LangChain's users must be able to do with the server that GIRIH_URL names, by its OpenAI and Anthropic integrations."""
import asyncio
import math
import os
import time
import typing

import anthropic
import openai
import pydantic
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

URL, KEY, MODEL = os.environ["GIRIH_URL"], os.environ["GIRIH_KEY"], os.environ["GIRIH_MODEL"]
QUESTION = "What is the capital of France? Answer in one sentence."
ENDPOINT = dict(base_url=URL + "/v1", api_key=KEY, model=MODEL, max_retries=0, timeout=120)
# One limit for all: a call in JSON takes more tokens than the answer to a question.
SETTINGS = dict(**ENDPOINT, temperature=0, max_tokens=96)


def anthropic_chat(**fields):
    # temperature stands in the extra body: the official client beneath knows none any more.
    settings = dict(base_url=URL, api_key=KEY, model=MODEL, max_retries=0, timeout=120, max_tokens=96, **fields)
    return ChatAnthropic(**settings, model_kwargs={"extra_body": {"temperature": 0}})


CHATS = {
    # Counts in streams are asked for: LangChain leaves them out for endpoints that are not OpenAI's.
    "chat completions": ChatOpenAI(**SETTINGS, stream_usage=True),
    "responses": ChatOpenAI(**SETTINGS, use_responses_api=True),
    "messages": anthropic_chat(),
}


class Verdict(pydantic.BaseModel):
    """A verdict on a statement."""
    verdict: typing.Literal["yes", "no", "unknown"]
    sure: bool


@tool
def weather(town: typing.Literal["Rome", "Paris"]) -> str:
    """The weather of a town."""
    return f"sunny in {town}"


def text_of(message):
    return message.text if isinstance(message.text, str) else message.text()


def gathered(chunks):
    """The sum of a stream's chunks, as LangChain adds them."""
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    return whole


def test_invoke():
    for name, chat in CHATS.items():
        answer = chat.invoke([SystemMessage("You are brief."), HumanMessage(QUESTION)])
        assert isinstance(answer, AIMessage) and text_of(answer), (name, answer)
        usage = answer.usage_metadata
        assert usage["input_tokens"] > 8 and 0 < usage["output_tokens"] <= 96, (name, usage)
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"], (name, usage)
        assert answer.response_metadata.get("model_name") == MODEL, (name, answer.response_metadata)


def test_blocks_of_text():
    """Content as a list of blocks is the same prompt as the string."""
    for name, chat in CHATS.items():
        blocks = HumanMessage([{"type": "text", "text": QUESTION}])
        assert text_of(chat.invoke([blocks])) == text_of(chat.invoke(QUESTION)), name


def test_streamed_is_the_same_text():
    for name, chat in CHATS.items():
        whole = chat.invoke(QUESTION)
        chunks = list(chat.stream(QUESTION))
        assert len(chunks) > 3 and "".join(map(text_of, chunks)) == text_of(whole), (name, chunks)
        usage = gathered(chunks).usage_metadata
        assert usage["output_tokens"] == whole.usage_metadata["output_tokens"], (name, usage, whole.usage_metadata)
        assert usage["input_tokens"] == whole.usage_metadata["input_tokens"], (name, usage, whole.usage_metadata)


def test_async_and_batch():
    async def both(name, chat):
        streamed = [text_of(chunk) async for chunk in chat.astream(QUESTION)]
        assert text_of(await chat.ainvoke(QUESTION)) == "".join(streamed), name

    async def all_of_them():
        await asyncio.gather(*(both(name, chat) for name, chat in CHATS.items()))

    asyncio.run(all_of_them())  # one loop: LangChain keeps its connections
    for name, chat in CHATS.items():
        answers = chat.batch([QUESTION, "Say hello.", QUESTION])
        assert all(map(text_of, answers)) and len(answers) == 3, name


def test_chain():
    chain = ChatPromptTemplate.from_messages([("system", "Answer in {language}."), ("human", "{question}")])
    for name, chat in CHATS.items():
        answer = (chain | chat | StrOutputParser()).invoke({"language": "English", "question": QUESTION})
        assert isinstance(answer, str) and answer, name


def test_stop_and_logprobs():
    chat = CHATS["chat completions"]
    text = text_of(chat.invoke(QUESTION))
    stop = text[len(text) // 2:][:5]
    for name, other in CHATS.items():
        if name != "responses":  # which has no stop strings
            assert text_of(other.invoke(QUESTION, stop=[stop])) == text[:text.index(stop)].rstrip() or \
                text_of(other.invoke(QUESTION, stop=[stop])) == text[:text.index(stop)], name
    answer = chat.bind(logprobs=True, top_logprobs=3).invoke(QUESTION)
    entries = answer.response_metadata["logprobs"]["content"]
    assert len(entries) >= answer.usage_metadata["output_tokens"] - 1
    assert all(entry["logprob"] <= 0 and len(entry["top_logprobs"]) == 3 for entry in entries)


def test_structured_output():
    for name, chat in CHATS.items():
        methods = ["json_schema"] if name == "messages" else ["json_schema", "function_calling"]
        for method in methods:
            shaped = chat.with_structured_output(Verdict, method=method, include_raw=True)
            answer = shaped.invoke("Is Paris the capital of France?")
            assert isinstance(answer["parsed"], Verdict) and answer["parsing_error"] is None, (name, method, answer)
            last = list(chat.with_structured_output(Verdict, method=method).stream("Is Paris the capital of France?"))[-1]
            assert last == answer["parsed"], (name, method, last, answer["parsed"])
    anything = CHATS["chat completions"].with_structured_output(None, method="json_mode", include_raw=True)
    try:
        assert isinstance(anything.invoke("Describe Paris as a small JSON object.")["parsed"], dict)
    except openai.LengthFinishReasonError:
        pass  # any object will do: a small model may not end it


def test_tools():
    """A call, its streamed form, its result sent back, and the answer to it."""
    for name, chat in CHATS.items():
        caller = chat.bind_tools([weather], tool_choice="weather")
        question = HumanMessage("How is the weather in Rome?")
        called = caller.invoke([question])
        call = called.tool_calls[0]
        assert call["name"] == "weather" and call["args"]["town"] in ("Rome", "Paris") and call["id"], (name, called)
        assert not called.invalid_tool_calls, (name, called)
        streamed = gathered(caller.stream([question]))
        assert [(one["name"], one["args"]) for one in streamed.tool_calls] == [(call["name"], call["args"])], (name, streamed)
        result = weather.invoke(call)
        assert isinstance(result, ToolMessage) and result.tool_call_id == call["id"]
        final = chat.bind_tools([weather]).invoke([question, called, result])
        assert text_of(final) or final.tool_calls, (name, final)
        # Any of the tools, as agents ask that want no text.
        assert chat.bind_tools([weather], tool_choice="any").invoke([question]).tool_calls, name
        # A streamed turn goes back as well as a whole one.
        assert chat.bind_tools([weather]).invoke([question, streamed, weather.invoke(streamed.tool_calls[0])]), name


def test_previous_response():
    """What the responses API keeps need not be sent again."""
    chat = CHATS["responses"]
    first = chat.invoke("My name is Ada. What is yours?")
    second = chat.invoke("And mine?", previous_response_id=first.response_metadata["id"])
    assert second.usage_metadata["input_tokens"] > first.usage_metadata["input_tokens"], (first, second)
    both = ChatOpenAI(**SETTINGS, use_responses_api=True, use_previous_response_id=True)
    assert text_of(both.invoke([HumanMessage("My name is Ada. What is yours?"), first, HumanMessage("And mine?")])) == text_of(second)


def test_completion():
    llm = OpenAI(**{**SETTINGS, "max_tokens": 12})
    text = llm.invoke("Once upon a time")
    assert text and "".join(llm.stream("Once upon a time")) == text
    both = llm.generate(["Once upon a time", "The three laws"])
    assert len(both.generations) == 2 and both.generations[0][0].text == text
    assert both.llm_output["token_usage"]["completion_tokens"] > 0


def test_embeddings():
    # Texts as they are: by default LangChain cuts them by a vocabulary of OpenAI's, whose ids are not this model's.
    embeddings = OpenAIEmbeddings(**ENDPOINT, check_embedding_ctx_length=False)
    texts = ["A cat sat on the mat.", "A dog sat on the rug.", "def add(a, b): return a + b"]
    vectors = embeddings.embed_documents(texts)
    assert len(vectors) == 3 and all(abs(math.hypot(*vector) - 1) < 1e-4 for vector in vectors)
    alone = embeddings.embed_query(texts[0])
    assert max(abs(a - b) for a, b in zip(alone, vectors[0])) < 1e-2
    store = InMemoryVectorStore.from_texts(texts, embeddings)
    assert store.similarity_search(texts[2], k=1)[0].page_content == texts[2] or MODEL == "fake"


def test_refusals():
    for name, kind, call in (
            ("key", openai.AuthenticationError, lambda: ChatOpenAI(**{**SETTINGS, "api_key": "wrong"}).invoke("x")),
            ("model", openai.NotFoundError, lambda: ChatOpenAI(**{**SETTINGS, "model": "gpt-9"}).invoke("x")),
            # LangChain has a class of its own for this, by the error's code.
            ("length", openai.BadRequestError, lambda: CHATS["chat completions"].invoke("word " * 40_000)),
            ("anthropic", anthropic.NotFoundError, lambda: anthropic_chat().bind(model="claude-9").invoke("x"))):
        try:
            call()
        except kind:
            continue
        raise AssertionError(f"{name}: {kind.__name__} was expected")


for name, test in list(globals().items()):
    if name.startswith("test_"):
        begun = time.time()
        test()
        print(f"ok {name} ({time.time() - begun:.1f} s)", flush=True)
