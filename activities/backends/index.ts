import { createOllamaBackend, type OllamaBackendOptions } from './ollama.js';
import type { ModelBackend } from './backend.js';

/** Every kind of model server, by the name that the configuration uses; a new kind is one line here and one file beside it. */
export const backends = {
  ollama: createOllamaBackend,
} satisfies Record<string, (options: OllamaBackendOptions) => ModelBackend>;
