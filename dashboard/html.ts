import type { problemTable } from '../contract/problems.js';
import type { PageContext } from './page.js';

/** Draws views; every value is escaped unless a view says otherwise, and only the frame does, for what another view has drawn. */
export type Draw = (view: string, data: object) => string;

type Status = 200 | (typeof problemTable)[keyof typeof problemTable]['status'];

const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/** Answers with a document that runs only scripts of this server. */
export function answerHtml(c: PageContext, html: string, status: Status = 200): Response | Promise<Response> {
  c.header('Content-Security-Policy', policy);
  // With the stricter policy of other answers browsers send `Origin: null` with our own forms, as if they came from nowhere. Other sites are told nothing either way.
  c.header('Referrer-Policy', 'same-origin');
  return c.html(html, status);
}
