import type { ModelBackend } from '../activities/backends/backend.js';
import { failureCodes, StepFailure } from '../contract/failure.js';

/** What the steps of this host see of its model server, beside the answers. */
export interface BackendWatch {
  onUse(model: string): void;
  /** Awaited before the failure reaches the step, so that its next attempt is not granted to a server that is away. */
  onUnavailable(message: string): Promise<void>;
}

/** The same backend; its inferences are noted. */
export function watchBackend(backend: ModelBackend, { onUse, onUnavailable }: BackendWatch): ModelBackend {
  return {
    ...backend,
    generate: (request) => watched(request.model.name, () => backend.generate(request)),
    chat: (request) => watched(request.model.name, () => backend.chat(request)),
    embed: (request) => watched(request.model.name, () => backend.embed(request)),
  };

  async function watched<Result>(model: string, infer: () => Promise<Result>): Promise<Result> {
    onUse(model);
    try {
      return await infer();
    } catch (error) {
      if (error instanceof StepFailure && error.code === failureCodes.backendUnavailable) await onUnavailable(error.message);
      throw error;
    } finally {
      onUse(model);
    }
  }
}
