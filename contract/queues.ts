/** Temporal task queue of the workflows and their local activities; every engine serves it. */
export const workflowQueue = 'workflows';

/** Temporal task queue of the steps that need no model; every engine serves it. */
export const generalQueue = 'general';

/** Temporal task queue of one resident model on one host, served only while the model is resident. */
export function modelQueue(hostId: string, key: ResidencyKey): string {
  return `model:${hostId}:${key}`;
}

/** Temporal task queue of a host's own work: pull, load, unload. */
export function hostQueue(hostId: string): string {
  return `host:${hostId}`;
}

/**
 * What has to be in memory for a step: a model under the options that make Ollama reload it.
 * Two keys of one model exclude each other on a host. Text: `<model name>~ctx<num_ctx>`, such as `llama3.1:8b~ctx4096`.
 * @see docs/decisions/0003-residency-key.md
 */
export type ResidencyKey = string;

/** A model as a step needs it: the normalised name and the context length it is loaded with, in tokens. */
export interface ModelNeed {
  readonly name: string;
  readonly numCtx: number;
  /** the configured short name that the step asked for */
  readonly alias?: string;
  /** SHA-256 that the installed model has to have, `sha256:<64 hex>` */
  readonly digest?: string;
}

export function residencyKey(need: ModelNeed): ResidencyKey {
  return `${need.name}~ctx${need.numCtx}`;
}

/** The need that a key was made of; undefined when the text is no key. */
export function needOfKey(key: ResidencyKey): ModelNeed | undefined {
  const at = key.lastIndexOf('~ctx');
  const numCtx = Number(key.slice(at + 4));
  return at > 0 && Number.isInteger(numCtx) ? { name: key.slice(0, at), numCtx } : undefined;
}
