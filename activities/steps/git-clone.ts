import { join } from 'node:path';
import { z } from 'zod';
import { defineStep } from './define-step.js';

/** Name of the clone in the task's workspace, where `execute_script` looks for its script. */
export const repositoryDirectory = 'repository';
const MINUTE_MS = 60_000;
/** A repository larger than this is refused while it arrives. */
const repositoryBytesMax = 2 * 1024 ** 3;

export const gitClone = defineStep({
  type: 'git_clone',
  summary: 'Fetch a git repository into the workspace of the task.',
  input: z.strictObject({
    repo: z.string().min(1).max(2048).describe('Address of the repository; its scheme has to be allowed here, https and ssh unless configured otherwise'),
    ref: z.string().min(1).max(255).optional().describe('Branch, tag or full commit id; the default branch when left out'),
    depth: z.int().min(1).max(100_000).default(1).describe('Commits of history'),
  }),
  output: z.object({
    commit: z.string().describe('Full id of the commit that was fetched'),
    path: z.string().describe('Directory of the checkout in the workspace of the task'),
    size_bytes: z.int().describe('Size of the checkout with its history'),
  }),
  policy: { pool: 'general', startToCloseMs: 10 * MINUTE_MS, attempts: 3, nonRetryable: ['git_url_refused', 'git_ref_not_found'] },
  example: '- { type: git_clone, repo: "https://github.com/octocat/Hello-World.git", ref: master }',
  async run({ repo, ref, depth }, { git, workspace, limits, signal, progress }) {
    progress({ phase: 'cloning' });
    const { commit, sizeBytes } = await git.clone({
      repo,
      ...(ref === undefined ? {} : { ref }),
      depth,
      directory: join(workspace, repositoryDirectory),
      timeoutMs: limits.timeoutMs,
      bytesMax: Math.min(repositoryBytesMax, limits.diskBytes),
      signal,
    });
    return { commit, path: repositoryDirectory, size_bytes: sizeBytes };
  },
});
