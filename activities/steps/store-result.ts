import { createHash, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import { namesOf, openDirectoryBelow, PathRefused } from '../open-below.js';
import { defineStep } from './define-step.js';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
const MINUTE_MS = 60_000;

export const storeResult = defineStep({
  type: 'store_result',
  summary: 'Write the result of the step before to a file of this task.',
  input: z.strictObject({
    path: z
      .string()
      .min(1)
      .max(4096)
      .refine(isInside, 'a relative path without "..", whose names have at most 255 bytes')
      .describe("Where, below the task's own results directory; .json stores the whole result, another ending its text"),
  }),
  output: z.object({
    path: z.string().describe("Where the file is below the directory of results: the task's id, then the path"),
    size_bytes: z.int().describe('Size of the file'),
    sha256: z.string().describe('SHA-256 of its content, in hexadecimal'),
  }),
  policy: { pool: 'general', startToCloseMs: 5 * MINUTE_MS, attempts: 3 },
  example: '- { type: store_result, path: reports/summary.json }',
  async run({ path }, { previous, resultsRoot, taskId, signal, stillMine }) {
    if (previous === null)
      throw new StepFailure(failureCodes.invalidInput, 'store_result has no step before it whose result it could store', { retryable: false });
    const content = Buffer.from(path.endsWith('.json') ? `${JSON.stringify(previous, null, 2)}\n` : textOf(previous));
    signal.throwIfAborted();
    try {
      const names = namesOf(path);
      await writeBelow(join(resultsRoot, taskId), names, content, stillMine);
      return { path: `${taskId}/${names.join('/')}`, size_bytes: content.length, sha256: createHash('sha256').update(content).digest('hex') };
    } catch (error) {
      if (error instanceof PathRefused) throw new StepFailure('path_refused', `cannot store the result: ${error.message}`, { retryable: false, cause: error });
      if (['EISDIR', 'ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) {
        throw new StepFailure('path_refused', `cannot store the result: ${JSON.stringify(path)} is a directory`, { retryable: false, cause: error });
      }
      throw error;
    }
  },
});

/**
 * Writes a file whole or not at all; readers see the old one or the new one, and after a power cut too.
 * @param stillMine asked before the file gets its name: a step whose slot was taken back must not overwrite what its successor stored
 */
async function writeBelow(root: string, names: readonly string[], content: Buffer, stillMine: () => Promise<boolean>): Promise<void> {
  await mkdir(root, { recursive: true });
  const directory = await openDirectoryBelow(root, names.slice(0, -1), true);
  const temporary = join(directory.path, `.partial-${randomUUID()}`);
  try {
    const file = await open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    if (!(await stillMine())) throw new StepFailure(failureCodes.grantVoid, 'the slot was taken back while the step ran', { retryable: true });
    await rename(temporary, join(directory.path, names.at(-1) as string));
    await directory.handle.sync();
  } catch (error) {
    await unlink(temporary).catch(() => undefined); // the error that counts is the first
    throw error;
  } finally {
    await directory.handle.close();
  }
}

/** The text of a result: of a model or a format step its `text`, of a script its `stdout`; otherwise the whole as JSON. */
function textOf(result: Readonly<Record<string, unknown>>): string {
  for (const field of ['text', 'stdout']) if (typeof result[field] === 'string') return result[field];
  return `${JSON.stringify(result, null, 2)}\n`;
}

function isInside(path: string): boolean {
  try {
    namesOf(path);
    return !path.endsWith('/');
  } catch {
    return false;
  }
}
