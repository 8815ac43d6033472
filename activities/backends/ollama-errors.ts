import { failureCodes, StepFailure } from '../../contract/failure.js';

/** What was asked of the server when it failed; the same text can mean different things. */
export type OllamaCall = 'generate' | 'chat' | 'embed' | 'load' | 'unload' | 'pull' | 'list';

/** An answer of the server that is an error: a status that is not 2xx, or an error line in a stream (status 200). */
export class OllamaAnswer extends Error {
  override readonly name = 'OllamaAnswer';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Failure codes of backends beside those of MODEL-13. */
export const backendBusy = 'backend_busy';
export const backendFailed = 'backend_failed';

interface Rule {
  readonly calls?: readonly OllamaCall[];
  readonly status?: number;
  readonly text?: RegExp;
  readonly code: string;
  readonly retryable: boolean;
}

/**
 * Ollama has no error codes, so its texts are the contract; each was read in the source of 0.24.0 or seen there.
 * The first rule that matches decides. Retryable means: the same call may succeed later without anybody changing anything.
 */
const rules: readonly Rule[] = [
  { status: 503, code: backendBusy, retryable: true },
  { text: /maximum pending requests exceeded/i, code: backendBusy, retryable: true },
  { text: /digest mismatch/i, code: failureCodes.modelDigestMismatch, retryable: false },
  // Ollama stops a model that gives one token more than 30 times in a row, and says nothing about it.
  { text: /did not receive done/i, code: backendFailed, retryable: true },
  { text: /has unexpectedly stopped/i, code: backendFailed, retryable: true },
  { calls: ['pull'], text: /no space left on device|not enough space|disk quota/i, code: failureCodes.modelPullFailed, retryable: false },
  { calls: ['pull'], text: /file does not exist|not found|404/i, code: failureCodes.modelNotFound, retryable: false },
  { calls: ['pull'], status: 400, code: failureCodes.modelPullFailed, retryable: false },
  { calls: ['pull'], code: failureCodes.modelPullFailed, retryable: true },
  {
    text: /requires more system memory|out of memory|bad_alloc|cudaMalloc failed|failed to allocate|insufficient (system )?memory|unable to allocate|unable to load full model|due to resource limitations/i,
    code: failureCodes.modelOutOfMemory,
    retryable: false,
  },
  { text: /timed out waiting for llama runner/i, code: failureCodes.modelLoadTimeout, retryable: true },
  { text: /input length exceeds the context length|exceeds maximum context length/i, code: failureCodes.limitExceeded, retryable: false },
  { text: /does not support thinking/i, code: failureCodes.modelLacksThinking, retryable: false },
  { text: /does not support (generate|chat|completion)/i, code: failureCodes.modelLacksCompletion, retryable: false },
  { text: /does not support embedding/i, code: failureCodes.modelLacksEmbedding, retryable: false },
  { text: /missing data required for image input|does not support (image|vision)/i, code: failureCodes.modelLacksVision, retryable: false },
  {
    text: /unable to tokenize mtmd|image: unknown format|(decode|process|invalid|unsupported) image|only supports one image|invalid image index/i,
    code: failureCodes.invalidInput,
    retryable: false,
  },
  // The server turns a schema into a grammar, and cannot do so for each keyword there is.
  {
    text: /invalid (JSON schema in )?format|failed to (parse|load) grammar|sampling context|vocabulary for format/i,
    code: failureCodes.invalidInput,
    retryable: false,
  },
  { text: /contains NaN or Inf/i, code: backendFailed, retryable: false },
  { text: /unknown model architecture|unsupported model|invalid file magic|is no longer compatible/i, code: backendFailed, retryable: false },
  { status: 404, code: failureCodes.modelNotFound, retryable: false },
  // What chat says of a model that it does not know.
  { calls: ['chat'], status: 400, text: /^model is required$/i, code: failureCodes.modelNotFound, retryable: false },
  { text: /model .* not found|try pulling it first/i, code: failureCodes.modelNotFound, retryable: false },
  { status: 400, code: failureCodes.invalidInput, retryable: false },
  { status: 403, code: backendFailed, retryable: false },
  {
    text: /runner process (has terminated|no longer running)|error was encountered while running the model|unexpected EOF|connection re(set|fused)/i,
    code: backendFailed,
    retryable: true,
  },
];

/** Sentences for texts that say nothing to a reader. */
const plainWords: readonly (readonly [RegExp, string])[] = [
  [/invalid image index/i, 'the text names an image that was not given: Ollama takes a mark such as [img-7] in it for one'],
  [/did not receive done/i, 'the answer ended before it was complete; Ollama does this when a model repeats one token over and over'],
];

/** The named failure for an answer of Ollama. What no rule knows is `backend_failed` and may be tried again. */
export function failureOfAnswer(call: OllamaCall, answer: OllamaAnswer, model: string | null): StepFailure {
  const rule = rules.find(
    (each) => (each.calls?.includes(call) ?? true) && (each.status ?? answer.status) === answer.status && (each.text?.test(answer.message) ?? true),
  );
  const subject = model === null ? 'Ollama' : `Ollama, model ${model}`;
  return new StepFailure(rule?.code ?? backendFailed, `${subject}: ${plainWords.find(([text]) => text.test(answer.message))?.[1] ?? oneLine(answer.message)}`, {
    retryable: rule?.retryable ?? true,
    details: { status: answer.status, ...(model === null ? {} : { model }) },
    cause: answer,
  });
}

/** The failure for a connection that could not be made or broke off: the server is away or went away. */
export function failureOfConnection(address: string, cause: unknown): StepFailure {
  return new StepFailure(failureCodes.backendUnavailable, `Ollama at ${address} does not answer: ${oneLine(rootMessage(cause))}`, { retryable: true, cause });
}

/** The innermost message: fetch hides the reason behind "fetch failed" and "terminated". */
function rootMessage(error: unknown): string {
  let innermost = error;
  while (innermost instanceof Error && innermost.cause !== undefined) innermost = innermost.cause;
  if (innermost instanceof AggregateError && innermost.errors.length > 0) return rootMessage(innermost.errors[0]);
  return innermost instanceof Error ? innermost.message || innermost.name : String(innermost);
}

function oneLine(text: string): string {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > 500 ? `${line.slice(0, 500)}...` : line;
}
