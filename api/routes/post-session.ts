import { createRoute, z } from '@hono/zod-openapi';
import { SessionOpened, SignIn } from '../../contract/schemas/sign-in.js';
import { credentialsOf, signIn } from '../auth/sign-in.js';
import { defineRoute } from '../define-route.js';
import { checkHost } from '../guards.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';

export const postSession = defineRoute(
  'public',
  createRoute({
    method: 'post',
    path: '/api/v1/sessions',
    operationId: 'signIn',
    tags: ['sign-in'],
    summary: 'Sign in',
    description:
      'Opens a session and sets its cookie, for browsers; programs send an API key with each request. A session lasts a day and, while it is used, up to a week. It has the rights that its user or its API key has at each moment, and ends with either. After 10 wrong passwords for one name, or 30 in all, within 5 minutes, passwords are refused for a while.',
    request: { body: jsonBody(SignIn, 'Who signs in') },
    responses: {
      201: { ...json(SessionOpened, 'Signed in.'), headers: z.object({ 'Set-Cookie': z.string().meta({ description: 'The session' }) }) },
      ...problems(
        'invalid_json',
        'unauthorized',
        'payload_too_large',
        'unsupported_media_type',
        'invalid_request',
        'too_many_attempts',
        'unexpected',
        'unavailable',
      ),
    },
  }),
  async (c) => {
    checkHost(c);
    const { expiresAt, caller } = await signIn(c, credentialsOf(c.req.valid('json')));
    return c.json({ user_id: caller.userId, role: caller.role, expires_at: expiresAt.toISOString() }, 201);
  },
);
