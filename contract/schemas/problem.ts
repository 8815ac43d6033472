import { z } from 'zod';
import { problemTable, type ProblemCode } from '../problems.js';

const codes = Object.keys(problemTable) as [ProblemCode, ...ProblemCode[]];

/** The one form of every error, RFC 9457. */
export const Problem = z
  .object({
    type: z.string().meta({ description: 'URI that names the kind of problem' }),
    title: z.string(),
    status: z.int().min(400).max(599),
    detail: z.string(),
    instance: z.string().meta({ description: 'Path of the request' }),
    code: z.enum(codes),
    request_id: z.string().meta({ description: 'The same in the answer header `X-Request-Id` and in the log' }),
    errors: z.array(z.object({ path: z.string(), expected: z.string(), got: z.string(), message: z.string() })),
  })
  .meta({
    id: 'Problem',
    description: 'What went wrong',
    example: {
      type: 'urn:ai-task-orchestra:problem:invalid_request',
      title: 'The request does not fit its schema',
      status: 422,
      detail: 'priority: Too big: expected number to be <=10',
      instance: '/api/v1/tasks',
      code: 'invalid_request',
      request_id: '2a6f4a1e-5b0f-4e58-9c86-5a1c3f0f1b0d',
      errors: [{ path: 'priority', expected: 'at most 10', got: 'number 11', message: 'Too big: expected number to be <=10' }],
    },
  });
