import type { Context } from 'hono';
import type { AppEnv } from '../api/env.js';
import type { problemTable } from '../contract/problems.js';
import type { Caller } from '../service/caller.js';
import type { ChangeTopic } from '../service/changes.js';

/** The entries of the navigation, in their order. */
export const navigation = [
  { id: 'queue', path: '/', label: 'Queue' },
  { id: 'models', path: '/models', label: 'Models' },
  { id: 'templates', path: '/templates', label: 'Templates' },
  { id: 'history', path: '/history', label: 'History' },
  { id: 'trends', path: '/trends', label: 'Trends' },
  { id: 'resources', path: '/resources', label: 'Resources' },
  { id: 'system', path: '/system', label: 'System' },
] as const;
export type NavId = (typeof navigation)[number]['id'];

/** What a request for a page comes with. */
export interface PageRequest {
  readonly caller: Caller;
  readonly services: AppEnv['Variables']['services'];
  readonly config: AppEnv['Variables']['config'];
  readonly log: AppEnv['Variables']['log'];
  readonly requestId: string;
  /** the part of the address behind the host */
  readonly url: URL;
  /** of the pattern of the page */
  param(name: string): string;
}

type ProblemStatus = (typeof problemTable)[keyof typeof problemTable]['status'];

/** What a page shows; its view draws `data` and knows nothing else. */
export interface PageContent {
  readonly title: string;
  readonly data: object;
  /** default 200 */
  readonly status?: ProblemStatus;
}

/** One page. Register it with one line in `pages/index.ts`. */
export interface Page {
  /** as Hono's routes: `/tasks/:id` */
  readonly path: string;
  /** where it stands in the navigation */
  readonly nav: NavId | null;
  /** `admin`: only administrators see it */
  readonly access: 'read' | 'admin';
  /** name of its file in `views/`, without the ending */
  readonly view: string;
  /** what it shows of things that may change while it is open; it is drawn anew when they do */
  readonly live: readonly ChangeTopic[];
  /** a script of its own follows what happens, by a stream of its own */
  readonly ownStream?: boolean;
  /** scripts of `browser/` that it needs beside those of the frame */
  readonly scripts?: readonly string[];
  load(request: PageRequest): Promise<PageContent>;
  /**
   * Does what a form of the page asks for, without scripts too.
   * @returns the address of the page to show then
   * @throws {ProblemError} what the page tells when it is shown again
   */
  submit?(request: PageRequest, form: URLSearchParams): Promise<string>;
}

export type PageContext = Context<AppEnv>;
