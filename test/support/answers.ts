import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import type { z } from 'zod';
import type { ApiRoute } from '../../api/define-route.js';
import { completeRoute } from '../../api/openapi.js';
import { routes } from '../../api/routes/index.js';

/** One answer of one operation, such as `POST /api/v1/tasks 422 invalid_parameters`. */
type AnswerName = string;

/** The file that answers are written to while the whole suite runs, one per line; test processes inherit the variable. */
export const answersVariable = 'TEST_ANSWERS_FILE';

interface DeclaredResponse {
  readonly description: string;
  readonly content?: Readonly<Record<string, { readonly schema: z.ZodType }>>;
}

/** The route that serves a path; one without a parameter comes before one whose parameter would fit. */
export function routeOf(method: string, pathname: string): ApiRoute | undefined {
  const fits = routes.filter(
    ({ route }) => route.method.toUpperCase() === method && new RegExp(`^${route.path.replaceAll(/\{[^}]+\}/g, '[^/]+')}$`).test(pathname),
  );
  return fits.find(({ route }) => !route.path.includes('{')) ?? fits[0];
}

const operationOf = ({ route }: ApiRoute) => `${route.method.toUpperCase()} ${route.path}`;
const responsesOf = (route: ApiRoute) => completeRoute(route).responses as Readonly<Record<string, DeclaredResponse>>;
/** A response lists the codes of its problems in its description, each in backticks before its title. */
const codesOf = ({ description, content }: DeclaredResponse) =>
  content?.['application/problem+json'] === undefined ? [] : [...description.matchAll(/`([a-z_]+)`: /g)].map(([, code]) => code ?? '');

/** Every answer that the OpenAPI document declares: a status, or each code of a status that is a problem. */
export function declaredAnswers(): readonly AnswerName[] {
  return routes.flatMap((route) =>
    Object.entries(responsesOf(route)).flatMap(([status, response]) => {
      const codes = codesOf(response);
      const name = `${operationOf(route)} ${status}`;
      return codes.length === 0 ? [name] : codes.map((code) => `${name} ${code}`);
    }),
  );
}

/** The declared answers that no test of the run saw. */
export function unseenAnswers(file: string): readonly AnswerName[] {
  const seen = new Set(existsSync(file) ? readFileSync(file, 'utf8').split('\n') : []);
  return declaredAnswers().filter((name) => !seen.has(name));
}

/**
 * Fails when an answer has a status, a content type, a body or a problem's code that its route does not declare; otherwise it counts as seen.
 * An address that is no route's is not looked at.
 */
export async function checkAnswer(method: string, pathname: string, answer: Response): Promise<void> {
  const declared = routeOf(method, pathname);
  if (declared === undefined) return;
  const name = `${operationOf(declared)} ${answer.status}`;
  const response = responsesOf(declared)[answer.status];
  if (response === undefined) throw new Error(`${method} ${pathname} answered ${answer.status}, which its route does not declare`);
  const code = await checkBody(name, response, answer);
  const file = process.env[answersVariable];
  if (file !== undefined) appendFileSync(file, `${code === undefined ? name : `${name} ${code}`}\n`);
}

/** @returns the code of a problem */
async function checkBody(name: string, response: DeclaredResponse, answer: Response): Promise<string | undefined> {
  const type = (answer.headers.get('content-type') ?? '').split(';')[0] ?? '';
  if (response.content === undefined && type === '') return undefined;
  const content = response.content?.[type];
  if (content === undefined) throw new Error(`${name} came as ${type}, which its route does not declare`);
  // Whoever reads a text or a stream looks at it himself.
  if (!type.endsWith('json')) return undefined;
  const schema = 'strict' in content.schema ? (content.schema as z.ZodObject).strict() : content.schema;
  const body = schema.parse(await answer.clone().json());
  if (type !== 'application/problem+json') return undefined;
  const { code } = body as { readonly code: string };
  if (!codesOf(response).includes(code)) throw new Error(`${name} has the code ${code}, which its route does not declare`);
  return code;
}
