import type { StepDefinition } from './define-step.js';
import { executeScript } from './execute-script.js';
import { formatOutput } from './format-output.js';
import { gitClone } from './git-clone.js';
import { ollamaAnalyze } from './ollama-analyze.js';
import { ollamaChat } from './ollama-chat.js';
import { ollamaEmbed } from './ollama-embed.js';
import { ollamaGenerate } from './ollama-generate.js';
import { readFiles } from './read-files.js';
import { storeResult } from './store-result.js';

/** Every step type there is; the schema, the docs and the Temporal activities are made from this list. */
export const steps = [
  gitClone,
  executeScript,
  readFiles,
  formatOutput,
  ollamaGenerate,
  ollamaChat,
  ollamaAnalyze,
  ollamaEmbed,
  storeResult,
] as unknown as readonly StepDefinition[];

const byType: ReadonlyMap<string, StepDefinition> = new Map(steps.map((step) => [step.type, step]));

/** The step type of this name, or undefined. */
export function stepByType(type: string): StepDefinition | undefined {
  return byType.get(type);
}
