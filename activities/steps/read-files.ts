import { z } from 'zod';
import { exceeded, findFiles, readWanted } from '../allowed-files.js';
import { defineStep } from './define-step.js';

const MINUTE_MS = 60_000;

export const readFiles = defineStep({
  type: 'read_files',
  summary: 'Read files from the allowed directories or from the workspace of the task.',
  input: z.strictObject({
    files: z
      .array(z.string().min(1).max(4096))
      .min(1)
      .max(10_000)
      .describe('Paths below an allowed directory, relative or absolute, or patterns with *, ? and **'),
  }),
  output: z.object({
    files: z
      .array(
        z.object({
          path: z.string().describe('As it was named, or the match of a pattern relative to its directory'),
          content: z.string().describe('The whole file'),
          size_bytes: z.int().describe('Size of the file'),
          encoding: z.enum(['utf-8', 'base64']).describe('`base64`: the file is not a text in UTF-8'),
        }),
      )
      .describe('Each file once, in the order of naming'),
  }),
  policy: { pool: 'general', startToCloseMs: 5 * MINUTE_MS, attempts: 3 },
  example: '- { type: read_files, files: ["notes.txt", "reports/**/*.md"] }',
  async run({ files }, { fileRoots, workspace, limits, signal, progress }) {
    const roots = [...fileRoots, workspace];
    const wanted = await findFiles(files, roots, limits.filesMax);
    const read: { path: string; content: string; size_bytes: number; encoding: 'utf-8' | 'base64' }[] = [];
    let totalBytes = 0;
    for (const file of wanted) {
      signal.throwIfAborted();
      const bytes = await readWanted(file, { name: 'file_bytes', bytesMax: limits.fileBytes });
      totalBytes += bytes.length;
      if (totalBytes > limits.filesBytes) throw exceeded('files_bytes', `the files have more than ${limits.filesBytes} bytes together`);
      read.push({ path: file.path, ...decode(bytes), size_bytes: bytes.length });
      progress({ phase: 'reading', done: read.length, total: wanted.length });
    }
    return { files: read };
  },
});

function decode(bytes: Buffer): { content: string; encoding: 'utf-8' | 'base64' } {
  try {
    const content = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    // PostgreSQL's jsonb cannot hold NUL, and no text has it.
    if (!content.includes('\0')) return { content, encoding: 'utf-8' };
  } catch {
    // not UTF-8
  }
  return { content: bytes.toString('base64'), encoding: 'base64' };
}
