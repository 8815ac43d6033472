import type { Context } from 'hono';
import { ProblemError } from '../contract/problems.js';
import type { AppEnv } from './env.js';
import { bodyOf } from './json-body.js';

const formType = /^application\/x-www-form-urlencoded\b/i;

/** The fields of a form as a browser sends them. @throws {ProblemError} unsupported_media_type, payload_too_large */
export async function readForm(c: Context<AppEnv>): Promise<URLSearchParams> {
  if (!formType.test(c.req.header('content-type') ?? '')) throw new ProblemError('unsupported_media_type', 'Send a form as application/x-www-form-urlencoded.');
  return new URLSearchParams((await bodyOf(c)).toString('utf8'));
}
