import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ChatRequest, EmbedRequest, GenerateRequest, ModelBackend } from '../../activities/backends/backend.js';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import type { JsonObject } from '../../contract/json.js';
import { sameModel } from '../../contract/model-name.js';
import type { ModelNeed } from '../../contract/queues.js';
import { eventually } from '../support/servers.js';

/** A backend with a server behind it that can be harmed on the way. All waits of the backend are short: first token and idle 2 s at most. */
export interface BackendUnderTest {
  readonly backend: ModelBackend;
  /** two installed models, normalised; answers go on until `num_predict` */
  readonly models: readonly [string, string];
  /** another installed name of the first model */
  readonly alias: string;
  readonly missing: string;
  /** whether the server works on an inference at this moment */
  busy(): Promise<boolean>;
  /** a text that changes whenever the server loads a model */
  residence(): Promise<string>;
  readonly harm: {
    /** nothing answers at the address */
    away(): Promise<void>;
    /** generate: after so many pieces of text nothing comes any more, and the connection stays open */
    stall(afterPieces: number): void;
    /** generate: after so many pieces the connection breaks */
    cut(afterPieces: number): void;
    /** generate: after so many pieces the server says that it failed, and ends in good order */
    error(afterPieces: number, message: string): void;
    /** generate: after so many pieces the stream ends in good order, but without saying that it is complete */
    end(afterPieces: number): void;
    /** generate: the server refuses since it has too much to do */
    full(): void;
    heal(): Promise<void>;
  };
  stop(): Promise<void>;
}

const numCtx = 2048;
const leaseMs = 600_000;

const fields = (count: number): JsonObject => Object.fromEntries(Array.from({ length: count }, (_, index) => [`f${index}`, { type: 'boolean' }]));
const nested = (depth: number, name: string): JsonObject => ({ [name]: depth === 0 ? { type: 'string' } : { properties: nested(depth - 1, name) } });

/**
 * The one definition of a model backend; each backend's test is a call to it.
 * @param make called once, before the first test
 */
export function describeModelBackend(name: string, make: () => Promise<BackendUnderTest>): void {
  describe(`model backend ${name} [MODEL-01]`, () => {
    let subject: BackendUnderTest;
    beforeAll(async () => {
      subject = await make();
    }, 120_000);
    afterEach(() => subject.harm.heal());
    afterAll(() => subject?.stop());

    const never = () => new AbortController().signal;
    const first = (): ModelNeed => ({ name: subject.models[0], numCtx });
    const ask = (more: Partial<GenerateRequest> = {}): Promise<Awaited<ReturnType<ModelBackend['generate']>>> =>
      subject.backend.generate({
        model: first(),
        prompt: 'count with me',
        options: { num_predict: 8, seed: 1, temperature: 1.5 },
        outputBytesMax: 100_000,
        signal: never(),
        ...more,
      });
    const failure = async (promise: Promise<unknown>): Promise<StepFailure> => {
      const error = await promise.then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(StepFailure);
      return error as StepFailure;
    };

    test('says its version and what is installed, with digest and size', async () => {
      expect(await subject.backend.version(never())).not.toBe('');
      const installed = await subject.backend.installed(never());
      for (const model of subject.models) {
        const found = installed.find((each) => sameModel(each.name, model));
        expect(found).toMatchObject({ digest: expect.stringMatching(/^(sha256:)?[0-9a-f]{64}$/), sizeBytes: expect.any(Number) });
        expect(found?.sizeBytes).toBeGreaterThan(0);
      }
    });

    test('an address never shows credentials', () => {
      expect(subject.backend.address).not.toContain('@');
    });

    test('an inference gives its text, and the pieces of the stream are that text in order [MODEL-03]', async () => {
      const pieces: string[] = [];
      const result = await ask({ onText: (text) => pieces.push(text) });
      expect(pieces.length).toBeGreaterThan(1);
      expect(pieces.join('')).toBe(result.text);
      expect(result.finish).toBe('length');
    });

    test('counts and durations are those of the inference [MODEL-10]', async () => {
      const result = await ask();
      expect(result.outputTokens).toBe(8);
      expect(result.promptTokens).toBeGreaterThan(0);
      for (const durationMs of [result.totalMs, result.promptMs, result.outputMs]) expect(durationMs).toBeGreaterThan(0);
      expect(result.totalMs).toBeGreaterThanOrEqual(result.outputMs);
    });

    test('equal seeds give equal answers', async () => {
      expect((await ask()).text).toBe((await ask()).text);
    });

    test('an answer that follows a JSON Schema parses', async () => {
      const format = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'], additionalProperties: false };
      const { text } = await ask({ format, options: { seed: 3, temperature: 0.5, num_predict: 500 } });
      expect(JSON.parse(text)).toEqual({ ok: expect.any(Boolean) });
    });

    test('an aborted inference rejects with the reason given, and the server stops its work [fault-25]', async () => {
      const controller = new AbortController();
      const reason = new Error('the task was cancelled');
      let sawWork = false;
      const running = ask({
        options: { num_predict: 1_000_000, seed: 1, temperature: 1.5 },
        model: { ...first(), numCtx: 16_384 },
        signal: controller.signal,
        onText() {
          sawWork = true;
        },
      });
      running.catch(() => {});
      await eventually(() => sawWork);
      await eventually(() => subject.busy());
      controller.abort(reason);
      await expect(running).rejects.toBe(reason);
      await eventually(async () => !(await subject.busy()), { timeoutMs: 5_000 });
    });

    test('a signal that was aborted before asks nobody', async () => {
      const reason = new Error('too late');
      await expect(ask({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
      await expect(subject.backend.loaded(AbortSignal.abort(reason))).rejects.toBe(reason);
    });

    test('loading puts a model in memory, renews its lease, and unloading takes it out [MODEL-05] [MODEL-06]', async () => {
      const loaded = await subject.backend.load(first(), leaseMs, never());
      expect(loaded.memoryBytes).toBeGreaterThan(0);
      expect(loaded.digest).toBe((await subject.backend.installed(never())).find((each) => sameModel(each.name, loaded.name))?.digest);
      const renewed = await subject.backend.load(first(), leaseMs * 2, never());
      expect(renewed.expiresAtMs ?? 0).toBeGreaterThan((loaded.expiresAtMs ?? 0) + leaseMs / 2);
      expect((await subject.backend.loaded(never())).map((each) => each.name).sort()).toEqual([subject.models[0], subject.alias].sort());
      await subject.backend.unload(subject.models[0], never());
      expect(await subject.backend.loaded(never())).toEqual([]);
    });

    test('two names of one digest are one model in memory, loaded, used and unloaded by either [MODEL-05] [MODEL-06]', async () => {
      const [name] = subject.models;
      for (const [loader, other] of [
        [name, subject.alias],
        [subject.alias, name],
      ] as const) {
        const loaded = await subject.backend.load({ name: loader, numCtx }, leaseMs, never());
        expect(loaded.name).toBe(loader);
        const residence = await subject.residence();
        expect(await subject.backend.load({ name: other, numCtx }, leaseMs, never())).toMatchObject({ name: other, digest: loaded.digest });
        await ask({ model: { name: other, numCtx } });
        expect(await subject.residence()).toBe(residence);
        const held = await subject.backend.loaded(never());
        expect(held.map((each) => each.name).sort()).toEqual([name, subject.alias].sort());
        await subject.backend.unload(other, never());
        expect(await subject.backend.loaded(never())).toEqual([]);
        await subject.backend.load({ name: other, numCtx }, leaseMs, never());
        expect(await subject.residence()).not.toBe(residence);
        await subject.backend.unload(loader, never());
      }
    });

    test('an inference never touches the lease', async () => {
      const loaded = await subject.backend.load(first(), leaseMs * 6, never());
      await ask();
      const again = await subject.backend.load(first(), leaseMs * 6, never());
      expect(again.expiresAtMs ?? 0).toBeGreaterThanOrEqual(loaded.expiresAtMs ?? 0);
    });

    test('an inference of a resident model with its own context does not load it again [MODEL-08]', async () => {
      await subject.backend.load(first(), leaseMs, never());
      const loaded = await subject.residence();
      await ask();
      expect(await subject.residence()).toBe(loaded);
      await ask({ model: { ...first(), numCtx: numCtx * 2 } });
      expect(await subject.residence()).not.toBe(loaded);
    });

    test('another context of the same model replaces the first: the two exclude each other', async () => {
      const small = await subject.backend.load({ ...first(), numCtx: 1024 }, leaseMs, never());
      expect(small.contextLength).toBe(1024);
      const large = await subject.backend.load({ ...first(), numCtx: 4096 }, leaseMs, never());
      expect(large.contextLength).toBe(4096);
      expect((await subject.backend.loaded(never())).filter((each) => sameModel(each.name, subject.models[0]))).toHaveLength(1);
    });

    test('a model that is not loaded, or not even installed, is gone', async () => {
      await subject.backend.unload(subject.models[1], never());
      await subject.backend.unload(subject.missing, never());
    });

    test('a missing model is not found, for good [MODEL-13]', async () => {
      const need = { name: subject.missing, numCtx };
      expect(await failure(ask({ model: need }))).toMatchObject({ code: failureCodes.modelNotFound, retryable: false });
      expect(await failure(subject.backend.load(need, leaseMs, never()))).toMatchObject({ code: failureCodes.modelNotFound, retryable: false });
    });

    test.each(['evil.example/x/y', 'x:cloud', '../../x'])('the name %s is refused before any request [bad-40]', async (bad) => {
      const need = { name: bad, numCtx };
      for (const refused of [
        () => ask({ model: need }),
        () => subject.backend.load(need, leaseMs, never()),
        () => subject.backend.pull(bad, never(), () => {}),
      ]) {
        expect(await failure(refused())).toMatchObject({ code: failureCodes.invalidInput, retryable: false });
      }
    });

    test('an empty prompt is refused', async () => {
      expect(await failure(ask({ prompt: '' }))).toMatchObject({ code: failureCodes.invalidInput, retryable: false });
    });

    test('a prompt larger than the context is refused, never cut silently [bad-43]', async () => {
      expect(await failure(ask({ prompt: 'word '.repeat(numCtx * 2) }))).toMatchObject({ code: failureCodes.limitExceeded, retryable: false });
    });

    test('an answer larger than the limit ends the inference', async () => {
      expect(await failure(ask({ outputBytesMax: 3, options: { num_predict: 200, seed: 1, temperature: 1.5 } }))).toMatchObject({
        code: failureCodes.limitExceeded,
        retryable: false,
      });
    });

    const chat = (more: Partial<ChatRequest> = {}) =>
      subject.backend.chat({
        model: first(),
        messages: [
          { role: 'system', content: 'be brief' },
          { role: 'user', content: 'count with me' },
          { role: 'assistant', content: 'one' },
          { role: 'user', content: 'go on' },
        ],
        options: { num_predict: 8, seed: 1, temperature: 1.5 },
        outputBytesMax: 100_000,
        signal: never(),
        ...more,
      });
    const embed = (more: Partial<EmbedRequest> = {}) => subject.backend.embed({ model: first(), input: ['one text', 'another'], signal: never(), ...more });

    test('a conversation is answered in pieces that are its text, with counts and durations [TPL-06] [MODEL-10]', async () => {
      const pieces: string[] = [];
      const result = await chat({ onText: (text) => pieces.push(text) });
      expect(pieces.length).toBeGreaterThan(1);
      expect(pieces.join('')).toBe(result.text);
      expect(result).toMatchObject({ finish: 'length', outputTokens: 8 });
      const shorter = await chat({ messages: [{ role: 'user', content: 'go on' }] });
      expect(result.promptTokens).toBeGreaterThan(shorter.promptTokens);
      for (const durationMs of [result.totalMs, result.promptMs, result.outputMs]) expect(durationMs).toBeGreaterThan(0);
    });

    test('a conversation is answered as JSON when a schema asks for it', async () => {
      const format = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'], additionalProperties: false };
      const { text } = await chat({ format, options: { seed: 3, temperature: 0.5, num_predict: 500 } });
      expect(JSON.parse(text)).toEqual({ ok: expect.any(Boolean) });
    });

    test.each<[string, JsonObject]>([
      ['a pattern that is not anchored', { type: 'string', pattern: 'a' }],
      ['a pattern with digits', { type: 'string', pattern: '^\\d+$' }],
      ['a pattern with a group that captures nothing', { type: 'string', pattern: '^(?:a|b)$' }],
      ['a pattern that looks ahead', { type: 'string', pattern: '(?=a)a' }],
      ['an empty pattern', { type: 'string', pattern: '' }],
      ['a very long text', { type: 'string', maxLength: 1_000_000 }],
      ['very many items', { type: 'array', items: { type: 'string', maxLength: 1000 }, maxItems: 1_000_000 }],
      ['300 optional fields', { properties: fields(300) }],
      ['2,000 optional fields', { properties: fields(2_000) }],
      ['1,000 required fields', { properties: fields(1_000), required: Object.keys(fields(1_000)) }],
      ['long names, deep down', { properties: nested(20, 'x'.repeat(500)) }],
      ['references in a circle', { $ref: '#' }],
      ['what a thing is not', { not: { type: 'string' } }],
      ['booleans for schemas', { type: 'object', properties: { any: true, none: false } }],
      ['conditions', { if: { type: 'string' }, then: { minLength: 2 }, else: { minimum: 3 } }],
      ['bounds that are no whole numbers', { type: 'integer', minimum: 0.5, maximum: 1e300 }],
    ])('a schema with %s does no harm to the server, and the answer is JSON [bad-45]', async (_, format) => {
      const result = await ask({ format, options: { seed: 3, temperature: 0.5, num_predict: 60 } });
      if (result.finish === 'stop') expect(() => JSON.parse(result.text)).not.toThrow();
      expect((await ask()).outputTokens).toBe(8);
    });

    test('each text has a vector of unit length, in order, equal for equal texts', async () => {
      const result = await embed({ input: ['one text', 'another', 'one text'] });
      const [one, two, again] = result.embeddings;
      expect(one?.length).toBeGreaterThan(1);
      expect(two).toHaveLength(one?.length ?? 0);
      expect(Math.hypot(...(one ?? []))).toBeCloseTo(1, 3);
      expect(one?.map((each) => each.toFixed(3))).toEqual(again?.map((each) => each.toFixed(3)));
      expect(one?.map((each) => each.toFixed(3))).not.toEqual(two?.map((each) => each.toFixed(3)));
      expect(result.promptTokens).toBeGreaterThan(1);
    });

    test('vectors are cut to the length asked for, and are of unit length again', async () => {
      const [vector] = (await embed({ dimensions: 4 })).embeddings;
      expect(vector).toHaveLength(4);
      expect(Math.hypot(...(vector ?? []))).toBeCloseTo(1, 3);
    });

    test('images for a model that cannot see are refused, never left out silently [bad-42]', async () => {
      const images = [Buffer.from('89504e470d0a1a0a', 'hex')];
      for (const refused of [() => ask({ images }), () => chat({ messages: [{ role: 'user', content: 'what is this?', images }] })]) {
        expect(await failure(refused())).toMatchObject({ code: failureCodes.modelLacksVision, retryable: false });
      }
      expect((await subject.backend.capabilities(subject.models[0], never())).has('vision')).toBe(false);
    });

    test('thinking is refused by name where a model only answers, and may be turned off there', async () => {
      for (const think of [true, 'high'] as const) {
        expect(await failure(ask({ think }))).toMatchObject({ code: failureCodes.modelLacksThinking, retryable: false });
        expect(await failure(chat({ think }))).toMatchObject({ code: failureCodes.modelLacksThinking, retryable: false });
      }
      expect(await chat({ think: false })).toMatchObject({ outputTokens: 8 });
    });

    test('a chat and an embedding keep the rules of every inference: the model loaded, its lease, its name, the signal', async () => {
      const loaded = await subject.backend.load(first(), leaseMs * 6, never());
      const residence = await subject.residence();
      await chat();
      await embed();
      expect(await subject.residence()).toBe(residence);
      const again = await subject.backend.load(first(), leaseMs * 6, never());
      expect(again.expiresAtMs ?? 0).toBeGreaterThanOrEqual(loaded.expiresAtMs ?? 0);
      const reason = new Error('too late');
      for (const each of [chat, embed]) {
        await expect(each({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
        expect(await failure(each({ model: { name: 'evil.example/x/y', numCtx } }))).toMatchObject({ code: failureCodes.invalidInput, retryable: false });
        expect(await failure(each({ model: { name: subject.missing, numCtx } }))).toMatchObject({ code: failureCodes.modelNotFound, retryable: false });
      }
    });

    test('nothing to answer or to embed is refused [bad-43]', async () => {
      for (const refused of [
        () => chat({ messages: [] }),
        () => chat({ messages: [{ role: 'user', content: '' }] }),
        () => embed({ input: [] }),
        () => embed({ input: ['x', ''] }),
      ]) {
        expect(await failure(refused())).toMatchObject({ code: failureCodes.invalidInput, retryable: false });
      }
    });

    test('a conversation or a text larger than the context is refused, never cut silently [bad-43]', async () => {
      const long = 'word '.repeat(numCtx * 2);
      for (const refused of [
        () =>
          chat({
            messages: [
              { role: 'user', content: long },
              { role: 'user', content: 'short' },
            ],
          }),
        () => embed({ input: ['short', long] }),
      ]) {
        expect(await failure(refused())).toMatchObject({ code: failureCodes.limitExceeded, retryable: false });
      }
    });

    test('a chat that is larger than the limit ends the inference', async () => {
      expect(await failure(chat({ outputBytesMax: 3, options: { num_predict: 200, seed: 1, temperature: 1.5 } }))).toMatchObject({
        code: failureCodes.limitExceeded,
        retryable: false,
      });
    });

    test('a server that is away is unavailable, may be tried again, and is used as soon as it is back [MODEL-14]', async () => {
      await subject.harm.away();
      for (const refused of [
        () => ask(),
        () => chat(),
        () => embed(),
        () => subject.backend.version(never()),
        () => subject.backend.installed(never()),
        () => subject.backend.load(first(), leaseMs, never()),
      ]) {
        expect(await failure(refused())).toMatchObject({ code: failureCodes.backendUnavailable, retryable: true });
      }
      await subject.harm.heal();
      expect((await ask()).outputTokens).toBe(8);
    });

    test('a stream that stalls ends by its own deadline, not complete [fault-25]', async () => {
      subject.harm.stall(2);
      expect(await failure(ask())).toMatchObject({ code: failureCodes.timeout, retryable: true });
    });

    test('a connection that breaks mid-stream gives no result [fault-23]', async () => {
      subject.harm.cut(2);
      expect(await failure(ask())).toMatchObject({ code: failureCodes.backendUnavailable, retryable: true });
    });

    test('an error line after the first tokens is a failure, not an answer [fault-24]', async () => {
      subject.harm.error(2, 'an error was encountered while running the model: unexpected EOF');
      expect(await failure(ask())).toMatchObject({ code: 'backend_failed', retryable: true });
    });

    test('a stream that ends without saying that it is complete gives no result', async () => {
      subject.harm.end(2);
      expect(await failure(ask())).toMatchObject({ code: 'backend_failed', retryable: true });
    });

    test('a server with too much to do is busy, and may be tried again [fault-26]', async () => {
      subject.harm.full();
      expect(await failure(ask())).toMatchObject({ code: 'backend_busy', retryable: true });
    });
  });
}
