// SPDX-License-Identifier: Apache-2.0
// What users of the AI SDK must be able to do with the server that GIRIH_URL names, by each provider that speaks to it.
import assert from 'node:assert/strict';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, cosineSimilarity, embed, embedMany, generateObject, generateText, isStepCount, Output, streamObject, streamText, tool } from 'ai';
import { z } from 'zod';

const { GIRIH_URL: url, GIRIH_KEY: key, GIRIH_MODEL: model } = process.env;
globalThis.AI_SDK_LOG_WARNINGS = false;
const endpoint = { baseURL: url + '/v1', apiKey: key };
const openai = createOpenAI(endpoint);
const compatible = createOpenAICompatible({ ...endpoint, name: 'girih', supportsStructuredOutputs: true, includeUsage: true });
const anthropic = createAnthropic(endpoint);
const chats = {
  'openai, responses': openai(model),
  'openai, chat completions': openai.chat(model),
  'openai-compatible': compatible(model),
  anthropic: anthropic(model),
};
const prompt = 'What is the capital of France? Answer in one sentence.';
const limits = { temperature: 0, maxOutputTokens: 96, maxRetries: 0 };
const verdict = z.object({ verdict: z.enum(['yes', 'no', 'unknown']), sure: z.boolean() });
const weather = tool({
  description: 'The weather of a town',
  inputSchema: z.object({ town: z.enum(['Rome', 'Paris']) }),
  execute: async ({ town }) => ({ town, sky: 'clear' }),
});

const tests = {
  async generateText(chat) {
    const answer = await generateText({ ...limits, model: chat, system: 'You are brief.', prompt });
    assert(answer.text);
    assert(['stop', 'length'].includes(answer.finishReason), answer.finishReason);
    assert(answer.usage.inputTokens > 8 && answer.usage.outputTokens > 0 && answer.usage.outputTokens <= 96);
    assert.equal(answer.usage.totalTokens, answer.usage.inputTokens + answer.usage.outputTokens);
    assert.equal(answer.response.modelId, model);
  },
  async streamTextIsTheSameText(chat) {
    const whole = await generateText({ ...limits, model: chat, prompt });
    const stream = streamText({ ...limits, model: chat, prompt, onError: () => {} });
    const pieces = [];
    for await (const piece of stream.textStream) pieces.push(piece);
    assert(pieces.length > 3);
    assert.equal(pieces.join(''), whole.text);
    assert.equal(await stream.finishReason, whole.finishReason);
    const usage = await stream.usage;
    assert.equal(usage.outputTokens, whole.usage.outputTokens);
    assert.equal(usage.inputTokens, whole.usage.inputTokens);
  },
  async turns(chat) {
    const first = await generateText({ ...limits, model: chat, prompt });
    const messages = [{ role: 'user', content: prompt }, ...first.response.messages, { role: 'user', content: [{ type: 'text', text: 'And of Italy?' }] }];
    const second = await generateText({ ...limits, model: chat, messages });
    assert(second.text);
    assert(second.usage.inputTokens > first.usage.inputTokens);
  },
  async abort(chat) {
    const controller = new AbortController();
    let numPieces = 0, aborted = false;
    const stream = streamText({ ...limits, maxOutputTokens: 1500, model: chat, prompt, abortSignal: controller.signal, onError: () => {}, onAbort: () => { aborted = true; } });
    try {
      for await (const _ of stream.textStream) if (++numPieces === 3) controller.abort();
    } catch (error) {
      assert.equal(error.name, 'AbortError');
      aborted = true;
    }
    assert(aborted || numPieces > 3);
  },
  async output(chat) {
    const ask = { ...limits, model: chat, prompt: 'Is Paris the capital of France?', output: Output.object({ schema: verdict }) };
    const whole = await generateText(ask);
    verdict.parse(whole.output);
    const stream = streamText({ ...ask, onError: () => {} });
    let numPartial = 0;
    for await (const _ of stream.partialOutputStream) ++numPartial;
    assert(numPartial > 0);
    assert.deepEqual(await stream.output, whole.output);
    const choice = await generateText({ ...ask, output: Output.choice({ options: ['Rome', 'Paris'] }) });
    assert(['Rome', 'Paris'].includes(choice.output));
  },
  async objects(chat) {
    const ask = { ...limits, model: chat, prompt: 'Is Paris the capital of France?', schema: verdict };
    const { object, finishReason } = await generateObject(ask);
    verdict.parse(object);
    assert.equal(finishReason, 'stop');
    const stream = streamObject({ ...ask, onError: () => {} });
    for await (const _ of stream.partialObjectStream);
    assert.deepEqual(await stream.object, object);
  },
  async tools(chat) {
    const ask = { ...limits, model: chat, prompt: 'How is the weather in Rome?', tools: { weather } };
    const named = { ...ask, toolChoice: { type: 'tool', toolName: 'weather' } };
    const whole = await generateText(named);
    const [call] = whole.toolCalls;
    assert.equal(call.toolName, 'weather');
    assert(['Rome', 'Paris'].includes(call.input.town) && !call.invalid);
    assert.deepEqual(whole.toolResults[0].output, { town: call.input.town, sky: 'clear' });
    const streamed = streamText({ ...named, onError: () => {} });
    const kinds = new Set();
    for await (const part of streamed.fullStream) kinds.add(part.type);
    assert(kinds.has('tool-input-start') && kinds.has('tool-call') && kinds.has('tool-result') && !kinds.has('error'), [...kinds].join());
    assert.deepEqual((await streamed.toolCalls)[0].input, call.input);
    assert.equal(await streamed.finishReason, whole.finishReason);
    const required = await generateText({ ...ask, toolChoice: 'required' });
    assert.equal(required.toolCalls[0].toolName, 'weather');
    // The call and its result go back.
    const messages = [{ role: 'user', content: ask.prompt }, ...whole.response.messages];
    const final = await generateText({ ...limits, model: chat, tools: { weather }, messages });
    assert(final.text || final.toolCalls.length);
  },
  // An agent's loop: the first step must call, the second may not.
  async steps(chat) {
    const answer = await generateText({
      ...limits, model: chat, tools: { weather }, prompt: 'How is the weather in Rome?', stopWhen: isStepCount(3),
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? { type: 'tool', toolName: 'weather' } : 'none' }),
    });
    assert.equal(answer.steps.length, 2);
    assert(answer.steps[0].toolResults.length === 1 && answer.text, answer.text);
  },
  async refusals(chat, name) {
    const refused = async (status, call) => assert.rejects(call, (error) => APICallError.isInstance(error) && error.statusCode === status && error.message.length > 8);
    await refused(400, generateText({ ...limits, model: chat, prompt: 'word '.repeat(40_000) }));
    const strangers = { openai: createOpenAI, 'openai-compatible': createOpenAICompatible, anthropic: createAnthropic };
    const stranger = strangers[name.split(',')[0]]({ ...endpoint, name: 'girih', apiKey: 'wrong' });
    await refused(401, generateText({ ...limits, model: stranger(model), prompt }));
  },
};

const others = {
  async completions() {
    for (const completion of [openai.completion(model), compatible.completionModel(model)]) {
      const ask = { ...limits, maxOutputTokens: 12, model: completion, prompt: 'Once upon a time' };
      const whole = await generateText(ask);
      assert(whole.text);
      let text = '';
      for await (const piece of streamText({ ...ask, onError: () => {} }).textStream) text += piece;
      assert.equal(text, whole.text);
    }
  },
  async embeddings() {
    const values = ['A cat sat on the mat.', 'A dog sat on the rug.', 'def add(a, b): return a + b'];
    for (const embedding of [openai.embedding(model), compatible.embeddingModel(model)]) {
      const { embeddings, usage } = await embedMany({ model: embedding, values, maxRetries: 0 });
      assert.equal(embeddings.length, 3);
      assert(usage.tokens > 10);
      const { embedding: alone } = await embed({ model: embedding, value: values[0], maxRetries: 0 });
      assert(cosineSimilarity(alone, embeddings[0]) > 0.999);
      if (alone.length > 3) // a model's, not the fake server's
        assert(cosineSimilarity(embeddings[0], embeddings[1]) > cosineSimilarity(embeddings[0], embeddings[2]));
    }
  },
  async logprobs() {
    const answer = await generateText({ ...limits, model: openai.chat(model), prompt, providerOptions: { openai: { logprobs: 2 } } });
    const { logprobs } = answer.providerMetadata.openai;
    assert(logprobs.length >= answer.usage.outputTokens - 1 && logprobs[0].top_logprobs.length === 2);
  },
  async stopStrings() {
    const whole = await generateText({ ...limits, model: compatible(model), prompt });
    const stop = whole.text.slice(Math.floor(whole.text.length / 2)).slice(0, 5);
    for (const chat of [openai.chat(model), compatible(model), anthropic(model)]) {
      const answer = await generateText({ ...limits, model: chat, prompt, stopSequences: [stop] });
      assert.equal(answer.text, whole.text.slice(0, whole.text.indexOf(stop)));
      assert.equal(answer.finishReason, 'stop');
    }
  },
};

async function run(name, test) {
  const begun = Date.now();
  await test();
  console.log(`ok ${name} (${(Date.now() - begun) / 1000} s)`);
}
for (const [name, test] of Object.entries(tests))
  await run(name, async () => {
    for (const [provider, chat] of Object.entries(chats)) {
      try {
        await test(chat, provider);
      } catch (error) {
        console.error(`${name} by ${provider} failed`);
        throw error;
      }
    }
  });
for (const [name, test] of Object.entries(others)) await run(name, test);
