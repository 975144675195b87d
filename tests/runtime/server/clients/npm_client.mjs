// SPDX-License-Identifier: Apache-2.0
// What the official npm client must be able to do with the server that GIRIH_URL names.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import OpenAI from 'openai';

const { GIRIH_URL: url, GIRIH_KEY: key, GIRIH_MODEL: model, GIRIH_SERVER_PID: pid } = process.env;
const disconnects = 200;
const client = new OpenAI({ baseURL: url + '/v1', apiKey: key, maxRetries: 0, timeout: 120_000 });
const messages = [{ role: 'user', content: 'What is the capital of France? Answer in one sentence.' }];
const plain = { model, messages, temperature: 0, max_tokens: 24 };
const create = (fields = {}) => client.chat.completions.create({ ...plain, ...fields });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function metric(name) {
  const answer = await fetch(url + '/metrics', { headers: { authorization: 'Bearer ' + key } });
  return Number((await answer.text()).match(new RegExp(`^${name} (\\S+)$`, 'm'))[1]);
}

async function waitUntilIdle() {
  const deadline = Date.now() + 60_000;
  while ((await metric('girih_kv_blocks_used')) || (await metric('girih_requests_active'))) {
    assert(Date.now() < deadline, 'KV blocks are still held');
    await pause(50);
  }
}

// Text, finish reason and usage of a chat stream.
async function collect(stream) {
  let text = '', reason = null, usage = null, role = null;
  for await (const chunk of stream) {
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      assert.equal(reason, null, 'nothing follows the finish reason');
      role ??= choice.delta.role;
      text += choice.delta.content ?? '';
      reason = choice.finish_reason;
    }
  }
  assert.equal(role, 'assistant');
  return { text, reason, usage };
}

async function refused(status, code, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.status, status);
    assert.equal(error.code, code);
    return true;
  });
}

const tests = {
  async plain() {
    const answer = await create();
    assert(answer.choices[0].message.content);
    assert(['stop', 'length'].includes(answer.choices[0].finish_reason));
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  },
  async models() {
    assert((await client.models.list()).data.length > 0);
    assert.equal((await client.models.retrieve(model)).id, model);
  },
  async streamedIsTheSameText() {
    const whole = await create();
    const streamed = await collect(await create({ stream: true, stream_options: { include_usage: true } }));
    assert.equal(streamed.text, whole.choices[0].message.content);
    assert.equal(streamed.reason, whole.choices[0].finish_reason);
    assert.deepEqual(streamed.usage, whole.usage);
    assert.equal((await collect(await create({ stream: true }))).usage, null);
  },
  // The client's own accumulator checks the shape of every chunk.
  async streamHelper() {
    const final = await client.chat.completions.stream(plain).finalChatCompletion();
    assert.equal(final.choices[0].message.content, (await create()).choices[0].message.content);
  },
  async stopStrings() {
    const text = (await create()).choices[0].message.content;
    const stop = text.slice(Math.floor(text.length / 2)).slice(0, 5);
    const expected = text.slice(0, text.indexOf(stop));
    const answer = await create({ stop });
    assert.equal(answer.choices[0].message.content, expected);
    assert.equal(answer.choices[0].finish_reason, 'stop');
    assert.equal((await collect(await create({ stop: ['@@never@@', stop], stream: true }))).text, expected);
  },
  async structuredOutput() {
    const schema = { type: 'object', properties: { verdict: { enum: ['yes', 'no'] } }, required: ['verdict'], additionalProperties: false };
    const answer = await create({ max_tokens: 64, response_format: { type: 'json_schema', json_schema: { name: 'v', strict: true, schema } } });
    assert(['yes', 'no'].includes(JSON.parse(answer.choices[0].message.content).verdict));
  },
  async tools() {
    const parameters = { type: 'object', properties: { town: { enum: ['Rome', 'Paris'] } }, required: ['town'], additionalProperties: false };
    const fields = { max_tokens: 128, tool_choice: 'required', parallel_tool_calls: false, tools: [{ type: 'function', function: { name: 'weather', parameters } }] };
    const whole = (await create(fields)).choices[0];
    assert.equal(whole.finish_reason, 'tool_calls');
    assert(['Rome', 'Paris'].includes(JSON.parse(whole.message.tool_calls[0].function.arguments).town));
    const streamed = await client.chat.completions.stream({ ...plain, ...fields }).finalChatCompletion();
    assert.equal(streamed.choices[0].message.tool_calls[0].function.arguments, whole.message.tool_calls[0].function.arguments);
  },
  async responses() {
    const fields = { model, temperature: 0, max_output_tokens: 24 };
    const first = await client.responses.create({ ...fields, input: 'Hello' });
    assert(first.output_text);
    const final = await client.responses.stream({ ...fields, input: 'Again', previous_response_id: first.id }).finalResponse();
    assert(final.output[0].content[0].text);
    const replayed = await client.responses.create({ ...fields, input: [{ type: 'item_reference', id: first.output[0].id }, { role: 'user', content: 'Go on' }] });
    assert(replayed.output_text);
    await client.responses.delete(first.id);
    await refused(404, 'not_found', () => client.responses.retrieve(first.id));
  },
  async oneChoiceOnly() {
    assert.equal((await create({ n: 1 })).choices.length, 1);
    assert.equal((await create({ n: 2 })).choices.length, 2);
    await refused(400, 'invalid_value', () => create({ n: 1000 }));
  },
  async seed() {
    const sample = async (seed) => (await create({ temperature: 1, seed })).choices[0].message.content;
    assert.equal(await sample(7), await sample(7));
  },
  async refusals() {
    const stranger = new OpenAI({ baseURL: url + '/v1', apiKey: 'wrong', maxRetries: 0 });
    await refused(401, 'invalid_api_key', () => stranger.chat.completions.create(plain));
    await refused(404, 'model_not_found', () => create({ model: 'gpt-9' }));
    await refused(400, 'context_length_exceeded', () => create({ messages: [{ role: 'user', content: 'word '.repeat(40_000) }] }));
  },
  async embeddings() {
    const input = ['A cat sat on the mat.', 'def add(a, b): return a + b'];
    // The client asks for base64 by itself, and decodes it.
    const decoded = await client.embeddings.create({ model: plain.model, input });
    const floats = await client.embeddings.create({ model: plain.model, input, encoding_format: 'float' });
    decoded.data.forEach(({ embedding, index }, row) => {
      assert.equal(index, row);
      assert(Math.abs(embedding.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-5);
      assert(embedding.every((x, at) => Math.abs(x - floats.data[row].embedding[at]) < 1e-2));
    });
    assert(decoded.usage.prompt_tokens > 4);
    await refused(400, 'unsupported_parameter', () => client.embeddings.create({ model: plain.model, input, dimensions: 1 }));
  },
  async concurrentRequestsShareSteps() {
    const before = await metric('girih_shared_steps_total');
    const answers = await Promise.all(Array.from({ length: 32 }, () => create()));
    assert(answers.every((answer) => answer.choices[0].message.content));
    assert((await metric('girih_shared_steps_total')) > before);
  },
  async disconnectsLeakNothing() {
    const countOpenFiles = () => fs.readdirSync(`/proc/${pid}/fd`).length;
    const leaveInMidStream = async () => {
      const stream = await create({ stream: true, max_tokens: 1500, ignore_eos: true });
      let numChunks = 0;
      for await (const chunk of stream) if (chunk && ++numChunks === 3) break; // leaving the loop aborts the request
    };
    await waitUntilIdle();
    const goneBefore = await metric('girih_clients_gone_total'), filesBefore = countOpenFiles();
    for (let round = 0; round < disconnects / 8; ++round) await Promise.all(Array.from({ length: 8 }, leaveInMidStream));
    await waitUntilIdle();
    assert.equal((await metric('girih_clients_gone_total')) - goneBefore, disconnects);
    assert(countOpenFiles() <= filesBefore + 16, 'connections were left open');
    assert((await create()).choices[0].message.content);
  },
};

for (const [name, test] of Object.entries(tests)) {
  const begun = Date.now();
  await test();
  console.log(`ok ${name} (${(Date.now() - begun) / 1000} s)`);
}
