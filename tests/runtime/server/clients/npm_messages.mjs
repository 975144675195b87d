// SPDX-License-Identifier: Apache-2.0
// What Anthropic's official npm client must be able to do with the server that GIRIH_URL names.
import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';

const { GIRIH_URL: url, GIRIH_KEY: key, GIRIH_MODEL: model } = process.env;
const client = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0, timeout: 120_000 });
const messages = [{ role: 'user', content: 'What is the capital of France? Answer in one sentence.' }];
const plain = { model, messages, temperature: 0, max_tokens: 24 };
const create = (fields = {}) => client.messages.create({ ...plain, ...fields });

const tests = {
  async plain() {
    const answer = await create();
    assert(answer.content[0].text);
    assert(['end_turn', 'max_tokens'].includes(answer.stop_reason));
  },
  async streamedIsTheSameText() {
    const whole = await create();
    const final = await client.messages.stream(plain).finalMessage();
    assert.equal(final.content[0].text, whole.content[0].text);
    assert.equal(final.stop_reason, whole.stop_reason);
    assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
  },
  async stopSequences() {
    const text = (await create()).content[0].text;
    const stop = text.slice(Math.floor(text.length / 2)).slice(0, 5);
    const answer = await create({ stop_sequences: [stop] });
    assert.equal(answer.stop_sequence, stop);
    assert.equal(answer.content[0].text, text.slice(0, text.indexOf(stop)));
  },
  async countTokens() {
    const counted = await client.messages.countTokens({ model, messages });
    const { usage } = await create();
    assert.equal(counted.input_tokens, usage.input_tokens + usage.cache_read_input_tokens);
  },
  async refusals() {
    await assert.rejects(create({ model: 'claude-9' }), (error) => error.status === 404 && error.error.error.type === 'not_found_error');
    const stranger = new Anthropic({ baseURL: url, apiKey: 'wrong', maxRetries: 0 });
    await assert.rejects(stranger.messages.create(plain), (error) => error.status === 401);
  },
};

for (const [name, test] of Object.entries(tests)) {
  const begun = Date.now();
  await test();
  console.log(`ok ${name} (${(Date.now() - begun) / 1000} s)`);
}
