import { describe, expect, test } from 'vitest';
import { failureOfAnswer, failureOfConnection, OllamaAnswer, type OllamaCall } from '../../../activities/backends/ollama-errors.js';

describe('every error of Ollama has a name, and says whether to try again [MODEL-13]', () => {
  test.each<[OllamaCall, number, string, string, boolean]>([
    ['generate', 503, 'server busy, please try again.  maximum pending requests exceeded', 'backend_busy', true],
    ['load', 503, 'server busy, please try again.  maximum pending requests exceeded', 'backend_busy', true],
    ['generate', 404, "model 'x' not found", 'model_not_found', false],
    ['load', 404, 'model "x" not found, try pulling it first', 'model_not_found', false],
    ['load', 500, 'model requires more system memory (9.3 GiB) than is available (3.1 GiB)', 'model_out_of_memory', false],
    ['load', 500, 'llama runner process has terminated: cudaMalloc failed: out of memory', 'model_out_of_memory', false],
    [
      'load',
      500,
      'model failed to load, this may be due to resource limitations or an internal error, check ollama server logs for details',
      'model_out_of_memory',
      false,
    ],
    ['load', 500, 'timed out waiting for llama runner to start - progress 0.50 - ', 'model_load_timeout', true],
    ['load', 500, 'llama runner process has terminated: signal: killed', 'backend_failed', true],
    ['load', 500, 'unable to load model: unknown model architecture: foo', 'backend_failed', false],
    [
      'generate',
      500,
      'model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check ollama server logs for details',
      'backend_failed',
      true,
    ],
    ['generate', 200, 'an error was encountered while running the model: unexpected EOF', 'backend_failed', true],
    ['generate', 200, 'the input length exceeds the context length', 'limit_exceeded', false],
    ['generate', 400, 'the input length exceeds the context length', 'limit_exceeded', false],
    ['generate', 400, '"x" does not support generate', 'model_lacks_completion', false],
    ['chat', 400, '"x" does not support chat', 'model_lacks_completion', false],
    ['chat', 400, '"x" does not support thinking', 'model_lacks_thinking', false],
    ['chat', 400, 'model is required', 'model_not_found', false],
    ['generate', 500, 'this model is missing data required for image input', 'model_lacks_vision', false],
    ['generate', 500, 'unable to tokenize mtmd embedding from image', 'invalid_step_input', false],
    ['generate', 500, 'Failed to create new sequence: failed to process inputs: invalid image index: 7', 'invalid_step_input', false],
    ['generate', 200, 'invalid JSON schema in format', 'invalid_step_input', false],
    ['embed', 501, 'this model does not support embeddings', 'model_lacks_embedding', false],
    ['embed', 400, 'the input length exceeds the context length', 'limit_exceeded', false],
    ['embed', 400, 'embedding contains NaN or Inf values', 'backend_failed', false],
    ['generate', 403, 'ollama cloud is disabled: remote inference is unavailable', 'backend_failed', false],
    ['generate', 500, 'something nobody has seen yet', 'backend_failed', true],
    ['pull', 200, 'pull model manifest: file does not exist', 'model_not_found', false],
    ['pull', 200, 'digest mismatch, file must be downloaded again: want sha256:1, got sha256:2', 'model_digest_mismatch', false],
    ['pull', 200, 'write /models/blobs/x: no space left on device', 'model_pull_failed', false],
    ['pull', 200, 'max retries exceeded: EOF', 'model_pull_failed', true],
    ['pull', 200, 'pull model manifest: Get "https://x/": dial tcp: lookup x: no such host', 'model_pull_failed', true],
    ['pull', 400, 'invalid model name', 'model_pull_failed', false],
  ])('%s, %i, %s', (call, status, text, code, retryable) => {
    expect(failureOfAnswer(call, new OllamaAnswer(status, text), 'm:latest')).toMatchObject({ code, retryable });
  });
});

test('a message names the model, is one line and bounded, whatever the server sends', () => {
  const { message } = failureOfAnswer('generate', new OllamaAnswer(500, `a\nb ${'x'.repeat(10_000)}`), 'm:latest');
  expect(message).toContain('m:latest');
  expect(message).not.toContain('\n');
  expect(message.length).toBeLessThan(600);
});

test('a lost connection says why in the words of the system, not of fetch', () => {
  const refused = new TypeError('fetch failed', { cause: new AggregateError([new Error('connect ECONNREFUSED 127.0.0.1:1')]) });
  expect(failureOfConnection('http://127.0.0.1:1', refused)).toMatchObject({
    code: 'backend_unavailable',
    retryable: true,
    message: expect.stringContaining('ECONNREFUSED'),
  });
});
